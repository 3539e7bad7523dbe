//! The values of arguments: what is between a word of the command line and its meaning.

use std::time::Duration;

use millstream_core::record::Compression;
use millstream_core::types::TopicName;

use super::record_format::unescape;

/// `TOPIC` or `TOPIC:0,3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSelection {
    pub topic: TopicName,
    /// Empty: all of them.
    pub partitions: Vec<i32>,
}

/// Bytes between key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separator(pub Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerOwner {
    Id(i32),
    /// Dynamic settings of the whole cluster.
    Default,
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let limit = Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
    if allowed.contains(&limit) { Ok(limit) } else { Err("allowed are 0.001 to 86400 seconds".to_owned()) }
}

pub fn topic_name(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|e| e.to_string())
}

pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is needed".to_owned()),
    }
}

pub fn header(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() { Err("NAME=VALUE is needed".to_owned()) } else { Ok((name.to_owned(), value)) }
}

pub fn separator(text: &str) -> Result<Separator, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("it must not be empty".to_owned()),
        bytes => Ok(Separator(bytes)),
    }
}

pub fn compression(text: &str) -> Result<Compression, String> {
    let known = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let found = known.into_iter().find(|codec| codec.name() == text);
    found.ok_or_else(|| "allowed are none, gzip, snappy, lz4, zstd".to_owned())
}

pub fn topic_selection(text: &str) -> Result<TopicSelection, String> {
    let (topic, partitions) = match text.split_once(':') {
        Some((topic, list)) => (topic, list.split(',').map(partition).collect::<Result<_, _>>()?),
        None => (text, Vec::new()),
    };
    Ok(TopicSelection { topic: topic_name(topic)?, partitions })
}

fn partition(text: &str) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| format!("`{text}` is no partition number: TOPIC or TOPIC:0,3 is needed"))
}

pub fn broker_owner(text: &str) -> Result<BrokerOwner, String> {
    match text {
        "default" => Ok(BrokerOwner::Default),
        id => match id.parse() {
            Ok(id) if id >= 0 => Ok(BrokerOwner::Id(id)),
            _ => Err("a broker id or `default` is needed".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_name_partitions() {
        let read = |text| topic_selection(text).map(|s| (s.topic.to_string(), s.partitions));
        assert_eq!(read("a"), Ok(("a".to_owned(), vec![])));
        assert_eq!(read("a:0,12"), Ok(("a".to_owned(), vec![0, 12])));
        assert!(read("a:").is_err());
        assert!(read("a:-1").is_err());
        assert!(read("a b").is_err());
    }

    #[test]
    fn values_may_hold_the_equals_sign() {
        assert_eq!(setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(setting("a="), Ok(("a".to_owned(), String::new())));
        assert!(setting("a").is_err() && setting("=b").is_err());
        assert_eq!(header("a"), Ok(("a".to_owned(), None)));
        assert_eq!(header("a="), Ok(("a".to_owned(), Some(String::new()))));
    }

    #[test]
    fn timeouts_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "1e9", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
