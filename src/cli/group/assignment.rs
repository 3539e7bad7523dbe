//! Which partitions a member of a classic group has: `ConsumerProtocolAssignment`, which members write for each other.
//!
//! The broker does not look into it, so neither do we trust it: what cannot be read is no assignment.

use bytes::Buf;
use millstream_core::types::{TopicName, TopicPartition};

/// The partitions of an assignment in topic order; None when the bytes are of no known form.
pub fn read_assignment(mut bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    // Later versions only add fields at the end.
    let version = bytes.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    let topics = bytes.try_get_i32().ok()?;
    let mut partitions = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        let topic = TopicName::new(std::str::from_utf8(name).ok()?).ok()?;
        bytes = rest;
        let count = bytes.try_get_i32().ok()?;
        for _ in 0..count {
            partitions.push(TopicPartition { topic: topic.clone(), partition: bytes.try_get_i32().ok()? });
        }
    }
    partitions.sort();
    // Dealt by whichever member leads the group.
    partitions.dedup();
    Some(partitions)
}

/// `orders:0,1 payments:2`
pub fn compact(partitions: &[TopicPartition]) -> String {
    let mut text = String::new();
    let mut last: Option<&TopicName> = None;
    for partition in partitions {
        let separator = match last {
            Some(topic) if *topic == partition.topic => ",".to_owned(),
            Some(_) => format!(" {}:", partition.topic),
            None => format!("{}:", partition.topic),
        };
        text.push_str(&separator);
        text.push_str(&partition.partition.to_string());
        last = Some(&partition.topic);
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_members_write_is_bounded_by_its_size(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let partitions = read_assignment(&bytes).unwrap_or_default();
            prop_assert!(partitions.len() * 4 <= bytes.len());
        }
    }

    fn assignment() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_i16(1);
        bytes.put_i32(2);
        for (name, partitions) in [("b", vec![2]), ("a", vec![1, 0])] {
            bytes.put_i16(1);
            bytes.put_slice(name.as_bytes());
            bytes.put_i32(partitions.len().try_into().expect("few"));
            partitions.into_iter().for_each(|partition| bytes.put_i32(partition));
        }
        bytes.put_i32(-1);
        bytes
    }

    #[test]
    fn an_assignment_is_read_and_shown() {
        let partitions = read_assignment(&assignment()).expect("an assignment");
        assert_eq!(compact(&partitions), "a:0,1 b:2");
        assert_eq!(compact(&read_assignment(&[]).expect("empty")), "-");
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        let whole = assignment();
        for cut in 1..whole.len() - 4 {
            assert_eq!(read_assignment(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(read_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(read_assignment(&[0xff, 0xff, 0, 0, 0, 0]), None);
    }
}
