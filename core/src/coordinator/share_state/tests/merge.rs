//! Batches against what is known of each record alone.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::merge::merge;
use super::{batch, show_batch};
use crate::share::{DeliveryState, StateBatch};
use crate::types::Offset;

fn merged(before: &[&str], new: &[&str], start: Option<i64>) -> Vec<String> {
    let batches = |texts: &[&str]| texts.iter().map(|text| batch(text)).collect::<Vec<_>>();
    merge(&batches(before), &batches(new), start.map(Offset)).iter().map(show_batch).collect()
}

#[test]
fn more_deliveries_count_then_the_higher_state() {
    assert_eq!(merged(&["0-9:0:1"], &["3-5:2:1"], None), ["0-2:0:1", "3-5:2:1", "6-9:0:1"]);
    assert_eq!(merged(&["0-9:2:2"], &["3-5:4:1"], None), ["0-9:2:2"]);
    assert_eq!(merged(&["0-9:0:2"], &["5-14:0:1"], None), ["0-9:0:2", "10-14:0:1"]);
    assert_eq!(merged(&["0-9:0:1"], &["5-14:0:2"], None), ["0-4:0:1", "5-14:0:2"]);
}

#[test]
fn neighbours_alike_are_one() {
    assert_eq!(merged(&["0-9:0:1"], &["10-19:0:1", "20-29:2:1"], None), ["0-19:0:1", "20-29:2:1"]);
    assert_eq!(merged(&["0-9:0:1", "20-29:0:1"], &["5-24:0:1"], None), ["0-29:0:1"]);
}

#[test]
fn nothing_is_kept_of_what_is_done_with() {
    assert_eq!(merged(&["0-9:2:1", "10-19:0:1"], &["20-29:2:1"], Some(15)), ["15-19:0:1", "20-29:2:1"]);
    assert_eq!(merged(&["0-9:2:1"], &[], Some(10)), Vec::<String>::new());
}

#[test]
fn the_last_offset_of_all_is_one_like_any() {
    let last = format!("0-{}:0:1", i64::MAX);
    let lower = format!("5-{}:0:0", i64::MAX);
    assert_eq!(merged(&[&last], &[&lower, &lower], None), [last.as_str()]);
}

fn batches() -> impl Strategy<Value = Vec<StateBatch>> {
    let state =
        prop_oneof![Just(DeliveryState::Available), Just(DeliveryState::Acknowledged), Just(DeliveryState::Archived)];
    let one = (0i64..40, 0i64..12, state, 0i16..4).prop_map(|(first, len, state, delivery_count)| StateBatch {
        first: Offset(first),
        last: Offset(first + len),
        state,
        delivery_count,
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn of_each_record_the_strongest_word_counts(before in batches(), new in batches(), start in prop::option::of(0i64..40)) {
        let mut model: BTreeMap<i64, (i16, i8)> = BTreeMap::new();
        for batch in before.iter().chain(&new) {
            for offset in batch.first.0..=batch.last.0 {
                let says = (batch.delivery_count, batch.state.number());
                let known = model.entry(offset).or_insert(says);
                *known = says.max(*known);
            }
        }
        let mut kept = model.split_off(&start.unwrap_or(0));
        let merged = merge(&before, &new, start.map(Offset));
        for batch in &merged {
            for offset in batch.first.0..=batch.last.0 {
                prop_assert_eq!(kept.remove(&offset), Some((batch.delivery_count, batch.state.number())));
            }
        }
        prop_assert!(kept.is_empty(), "not said: {kept:?}");
        let alike = |pair: &[StateBatch]| {
            pair[0].last.0 + 1 == pair[1].first.0
                && (pair[0].state, pair[0].delivery_count) == (pair[1].state, pair[1].delivery_count)
        };
        prop_assert!(!merged.windows(2).any(alike), "{merged:?}");
        prop_assert_eq!(merge(&merged, &[], None), merged);
    }
}
