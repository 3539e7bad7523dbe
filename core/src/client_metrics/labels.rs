//! Names, labels and numbers in Prometheus' text format, made of what clients call theirs.

use std::fmt::Write;

use super::otlp::Pair;

/// Every metric of a client begins with this, and nothing else does.
const PREFIX: &str = "millstream_client_";
/// What Kafka's clients begin the names of their metrics with.
const KAFKA_PREFIX: &str = "org.apache.kafka.";
/// Longest name of a metric, in bytes.
const NAME_LEN_MAX: usize = 160;
/// Longest labels of one series, in bytes, without those of its client.
const LABELS_LEN_MAX: usize = 512;
/// Most attributes of one point, or of one client.
pub(super) const ATTRIBUTES_MAX: usize = 12;
/// Longest value of a label that says who the client is, in characters. The rest is cut off.
const OWN_VALUE_CHARS_MAX: usize = 128;
/// These say who the client is, on every series.
const RESERVED: &[&str] = &["client_instance_id", "client_id"];

/// The family that a metric is shown in. `None`: it has no name that could be shown.
pub(super) fn family(name: &str) -> Option<String> {
    let name = name.strip_prefix(KAFKA_PREFIX).unwrap_or(name);
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return None;
    }
    let mut family = String::with_capacity(PREFIX.len() + name.len());
    family.push_str(PREFIX);
    family.extend(name.chars().map(plain));
    Some(family)
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

/// The attributes as labels, in order. `None`: too many, too long, or two of one name.
pub(super) fn labels(pairs: &[Pair<'_>], and: Option<(&str, f64)>) -> Option<String> {
    if pairs.len() > ATTRIBUTES_MAX {
        return None;
    }
    let mut named: Vec<(String, String)> = Vec::with_capacity(pairs.len() + 1);
    for pair in pairs {
        let name = label_name(pair.key)?;
        if !RESERVED.contains(&name.as_str()) {
            named.push((name, escaped(&pair.value.text()?)));
        }
    }
    if let Some((name, value)) = and {
        named.push((name.to_owned(), number(value)));
    }
    named.sort_unstable();
    let text = joined(named.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let is_twice = named.windows(2).any(|two| matches!(two, [(a, _), (b, _)] if a == b));
    (!is_twice && text.len() <= LABELS_LEN_MAX).then_some(text)
}

/// Labels that say who a client is, whatever it is called; what is not there is left out.
pub(super) fn own(labels: &[(&str, &str)]) -> String {
    let kept: Vec<_> = labels.iter().filter(|(_, value)| !value.is_empty()).collect();
    let kept: Vec<_> = kept.into_iter().map(|(name, value)| (*name, escaped(cut(value)))).collect();
    joined(kept.iter().map(|(name, value)| (*name, value.as_str())))
}

/// The beginning of a long text.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(OWN_VALUE_CHARS_MAX).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

fn joined<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{name}=\"{value}\"").expect("a string takes all");
    }
    text
}

/// `None`: it is empty, or one of those that Prometheus keeps to itself.
fn label_name(key: &str) -> Option<String> {
    if key.is_empty() || key.len() > LABELS_LEN_MAX {
        return None;
    }
    let mut name: String = key.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    (!name.starts_with("__")).then_some(name)
}

/// Backslashes, quotes and ends of lines as the format writes them; other control characters are not shown.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            c if c.is_control() => text.push(char::REPLACEMENT_CHARACTER),
            c => text.push(c),
        }
    }
    text
}

/// A number as the format has it.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        format!("{value:?}")
    }
}
