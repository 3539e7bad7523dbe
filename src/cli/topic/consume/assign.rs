//! What members of a classic consumer group tell each other through the broker: subscriptions, and the shares that
//! the leader deals out by Kafka's range assignor.
//!
//! The broker does not look into it, so neither do we trust it: what cannot be read subscribes to nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use millstream_core::types::TopicPartition;

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub id: String,
    pub instance: Option<String>,
    pub topics: BTreeSet<String>,
}

/// `ConsumerProtocolSubscription`, version 0: the topics and no more.
pub fn write_subscription(topics: &[String]) -> Bytes {
    let mut bytes = Vec::new();
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.len()).unwrap_or(i32::MAX));
    topics.iter().for_each(|topic| put_text(&mut bytes, topic));
    bytes.put_i32(-1);
    bytes.into()
}

/// The topics of a subscription of any version: later ones only add fields at the end.
pub fn read_subscription(bytes: &[u8]) -> BTreeSet<String> {
    try_read_subscription(bytes).unwrap_or_default()
}

fn try_read_subscription(mut bytes: &[u8]) -> Option<BTreeSet<String>> {
    let _version = bytes.try_get_i16().ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        bytes = rest;
    }
    Some(topics)
}

/// `ConsumerProtocolAssignment`, version 0.
pub fn write_assignment(partitions: &[(String, i32)]) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let mut bytes = Vec::new();
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.len()).unwrap_or(i32::MAX));
    for (topic, partitions) in topics {
        put_text(&mut bytes, topic);
        bytes.put_i32(i32::try_from(partitions.len()).unwrap_or(i32::MAX));
        partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
    }
    bytes.put_i32(-1);
    bytes.into()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    // Longer texts came from no broker.
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.put_slice(text.as_bytes());
}

/// Kafka's `RangeAssignor`: of each topic the members that subscribe to it get neighbouring partitions, the first of
/// them one more where it does not come out even. Static members come first, by their instance ids.
pub fn range(members: &[Subscriber], partition_counts: &BTreeMap<String, i32>) -> BTreeMap<String, Vec<(String, i32)>> {
    let mut shares: BTreeMap<String, Vec<(String, i32)>> =
        members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
    for (topic, count) in partition_counts {
        let mut takers: Vec<&Subscriber> = members.iter().filter(|member| member.topics.contains(topic)).collect();
        takers.sort_by_key(|member| (member.instance.is_none(), member.instance.as_ref().unwrap_or(&member.id)));
        let Ok(among) = i32::try_from(takers.len()) else { continue };
        let mut next = 0;
        for (taker, place) in takers.into_iter().zip(0..) {
            let share = count / among + i32::from(place < count % among);
            let mine = shares.entry(taker.id.clone()).or_default();
            mine.extend((next..next + share).map(|partition| (topic.clone(), partition)));
            next += share;
        }
    }
    shares
}

/// `orders-0, orders-1`
pub fn names(partitions: &[TopicPartition]) -> String {
    match partitions.is_empty() {
        true => "no partitions".to_owned(),
        false => partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::group::read_assignment;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Subscriber { id: id.to_owned(), instance: instance.map(str::to_owned), topics }
    }

    #[test]
    fn ranges_are_kafkas() {
        let counts = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 2)]);
        let shown = |members: &[Subscriber]| {
            let shares = range(members, &counts);
            let text = |(id, share): (&String, &Vec<(String, i32)>)| {
                let share: Vec<_> = share.iter().map(|(topic, partition)| format!("{topic}{partition}")).collect();
                format!("{id}:{}", share.join(","))
            };
            shares.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&[member("m1", None, &["a", "b"])]), "m1:a0,a1,a2,a3,a4,b0,b1");
        let three = [member("m3", None, &["a", "b"]), member("m1", None, &["a", "b"]), member("m2", None, &["a"])];
        assert_eq!(shown(&three), "m1:a0,a1,b0 m2:a2,a3 m3:a4,b1");
        let named = [member("m1", None, &["a"]), member("m9", Some("i"), &["a"]), member("m5", None, &[])];
        assert_eq!(shown(&named), "m1:a3,a4 m5: m9:a0,a1,a2");
    }

    #[test]
    fn what_is_written_is_read() {
        let topics = ["a".to_owned(), "b".to_owned()];
        assert_eq!(read_subscription(&write_subscription(&topics)), BTreeSet::from(topics));
        for cut in [&b""[..], &[0], &[0, 0, 0, 0, 0, 1, 0, 9, b'a'], &[0xff; 40]] {
            assert_eq!(read_subscription(cut), BTreeSet::new());
        }
        let share = [("b".to_owned(), 1), ("a".to_owned(), 0), ("b".to_owned(), 3)];
        let read = read_assignment(&write_assignment(&share)).expect("an assignment");
        assert_eq!(names(&read), "a-0, b-1, b-3");
    }
}
