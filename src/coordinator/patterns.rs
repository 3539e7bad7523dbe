//! Subscriptions by pattern: Kafka's clients send them in RE2 syntax, and the coordinator asks which topics they stand
//! for. That may take its time, so it is done beside the coordinator's task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_core::coordinator::group::consumer::{TopicNames, Topics};
use millstream_core::coordinator::group::{Command, GroupId, PatternsResolved};
use millstream_core::types::Timestamp;
use regex::{Regex, RegexBuilder};

use super::registry::Groups;
use super::turn::Origin;

/// Most bytes that a compiled pattern may take: some short ones would take all there is.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Why a text is no pattern, in a few words.
pub fn problem_of(pattern: &str) -> Option<String> {
    compile(pattern).err()
}

/// The whole of a topic's name is to match.
fn compile(pattern: &str) -> Result<Regex, String> {
    let pattern = without_quotes(pattern);
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
    // Alone first: what is put around it must not complete it.
    build(&pattern).and_then(|_| build(&format!(r"\A(?:{pattern})\z"))).map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        e => e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// RE2 takes what stands between `\Q` and `\E` as it is.
fn without_quotes(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = find_quote(rest) {
        let (before, quoted) = rest.split_at(at);
        plain.push_str(before);
        let quoted = quoted.strip_prefix(r"\Q").unwrap_or(quoted);
        let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        plain.push_str(&regex::escape(text));
        rest = after;
    }
    plain + rest
}

/// Where a quote begins; an escaped backslash before a `Q` begins none.
fn find_quote(pattern: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            b'Q' if escaped => return at.checked_sub(1),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// The topics that each pattern stands for.
fn resolve(patterns: &[Arc<str>], topics: &Topics) -> BTreeMap<Arc<str>, Arc<TopicNames>> {
    let matching = |pattern: &Arc<str>| match compile(pattern) {
        Ok(regex) => topics.names().filter(|name| regex.is_match(name)).cloned().collect(),
        // It was looked at when it came.
        Err(_) => TopicNames::new(),
    };
    patterns.iter().map(|pattern| (pattern.clone(), Arc::new(matching(pattern)))).collect()
}

/// Resolves the patterns of a group, and tells its coordinator.
pub(super) async fn answer(
    groups: &Groups,
    origin: &Origin,
    group: GroupId,
    patterns: Vec<Arc<str>>,
    topics: Arc<Topics>,
) {
    let at = now();
    let version = topics.version();
    let resolving = tokio::task::spawn_blocking(move || resolve(&patterns, &topics));
    let Ok(patterns) = resolving.await else { return };
    if origin.is_current() {
        let result = PatternsResolved { group, patterns, version, at };
        groups.tell(origin.partition, Command::PatternsResolved(result)).await;
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use millstream_core::coordinator::group::consumer::KnownTopic;
    use millstream_core::types::{TopicId, TopicName};
    use uuid::Uuid;

    use super::*;

    fn matching(pattern: &str) -> Vec<String> {
        let names = ["orders", "orders.eu", "ordersXeu", "payments", "a+b", "order"];
        let names = names.iter().filter_map(|name| TopicName::new(name).ok());
        let topics = names.enumerate().map(|(index, name)| {
            Arc::new(KnownTopic::new(TopicId(Uuid::from_u128(index as u128 + 1)), name, &[Vec::new()]))
        });
        let topics = Topics::new(1, topics, &Topics::default());
        let resolved = resolve(&[pattern.into()], &topics);
        resolved[pattern].iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert_eq!(matching("orders"), ["orders"]);
        assert_eq!(matching("order|orders"), ["order", "orders"]);
        assert_eq!(matching("orders.*"), ["orders", "orders.eu", "ordersXeu"]);
        assert_eq!(matching(r"\Qorders.\Eeu"), ["orders.eu"]);
        assert_eq!(matching(r"(?i)PAY\w+"), ["payments"]);
        assert!(matching("x").is_empty());
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for bad in ["(", "a)|(b", "[", "*", "((((a{100}){100}){100}){100})"] {
            assert!(problem_of(bad).is_some_and(|why| !why.is_empty()), "{bad}");
        }
        for good in ["", "a.*", r"\d+", r"\Q(\E", "(?:a|b)", r"\\Q"] {
            assert_eq!(problem_of(good), None, "{good}");
        }
    }
}
