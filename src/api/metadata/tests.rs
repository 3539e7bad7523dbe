use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_core::controller::{Command, Partition};
use millstream_core::types::{NodeId, PeerId};

use super::*;
use crate::api::leaders::tests::{led_by, reach};
use crate::protocol::Encode;

/// An image with these topics and so many partitions of each, on node 1. Ids count from 100.
pub(in crate::api) fn image(topics: &[(&str, usize)]) -> Image {
    let mut image = Image::default();
    for ((name, partitions), id) in topics.iter().zip(100..) {
        image.apply(&Command::CreateTopic(Topic {
            id: TopicId(Uuid::from_u128(id)),
            name: types::TopicName::new(name).expect("a name"),
            partitions: vec![
                Partition { replicas: vec![NodeId(1)], peers: vec![PeerId(1)], ..Partition::default() };
                *partitions
            ],
            configs: Arc::default(),
        }));
    }
    image
}

fn by_name(name: &'static str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))))
}

fn by_id(id: u128) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(id))
}

fn names(names: &[&'static str]) -> Wanted {
    Wanted::Names(names.iter().map(|name| StrBytes::from_static_str(name)).collect())
}

#[test]
fn null_is_all_and_in_version_0_an_empty_list_too() {
    assert_eq!(wanted(0, Some(Vec::new())), Ok(Wanted::All));
    assert_eq!(wanted(1, None), Ok(Wanted::All));
    assert_eq!(wanted(1, Some(Vec::new())), Ok(names(&[])));
    assert_eq!(wanted(0, Some(vec![by_name("a")])), Ok(names(&["a"])));
}

#[test]
fn one_id_makes_it_a_request_by_ids() {
    let ids = |ids: &[u128]| Ok(Wanted::Ids(ids.iter().map(|id| Uuid::from_u128(*id)).collect()));
    assert_eq!(wanted(12, Some(vec![by_id(2), by_id(1), by_id(2)])), ids(&[1, 2]));
    assert_eq!(wanted(13, Some(vec![by_name("a"), by_id(2)])), ids(&[2]));
}

#[test]
fn a_topic_without_name_or_with_an_id_before_its_time_is_refused() {
    assert!(wanted(11, Some(vec![by_name("a"), by_id(1)])).is_err());
    assert!(wanted(10, Some(vec![by_name("a").with_topic_id(Uuid::from_u128(1))])).is_err());
    assert!(wanted(12, Some(vec![by_id(0)])).is_err());
    for version in 10..=13 {
        let header = RequestHeader { api_key: 3, version, correlation_id: 1, client_id: None };
        let answer = refuse_all(&header, vec![by_id(1)]);
        assert!(matches!(answer, Outcome::Reply(_)), "it can be said in version {version}");
    }
}

fn told(wanted: &Wanted, lead: Lead) -> Vec<MetadataResponseTopic> {
    let image = image(&[("orders", 2), ("__consumer_offsets", 1)]);
    let reach = reach(1, &[1], &[1]);
    let (access, lead) = (&Access::unrestricted(), &|_| lead.clone());
    let (tells_operations, creates) = (false, true);
    let view = View { image: &image, reach, version: 12, lead, access, tells_operations, creates };
    view.topics(wanted)
}

#[test]
fn each_name_is_answered_once_in_the_order_asked() {
    let lead = led_by(1, 4);
    let topics = told(&names(&["none", "orders", "a b", "orders", "__consumer_offsets", ""]), lead);
    let short: Vec<_> = topics
        .iter()
        .map(|t| (t.name.as_ref().map(|n| n.0.to_string()).unwrap_or_default(), t.error_code, t.partitions.len()))
        .collect();
    let expected = [("none", 3, 0), ("orders", 0, 2), ("a b", 17, 0), ("__consumer_offsets", 0, 1), ("", 17, 0)];
    assert_eq!(short, expected.map(|(name, error, partitions)| (name.to_owned(), error, partitions)));
    assert_eq!(topics.iter().map(|t| t.is_internal).collect::<Vec<_>>(), [false, false, false, true, false]);
    let partition = &topics[1].partitions[1];
    assert_eq!((partition.partition_index, partition.leader_id.0, partition.leader_epoch), (1, 1, 4));
    assert_eq!(topics[1].topic_id, Uuid::from_u128(100));
    assert!(topics[0].topic_id.is_nil());
}

#[test]
fn an_unknown_id_has_no_name() {
    let ids = Wanted::Ids(BTreeSet::from([Uuid::from_u128(7), Uuid::from_u128(100)]));
    let topics = told(&ids, Lead::default());
    assert_eq!((topics[0].error_code, &topics[0].name), (100, &None));
    assert_eq!(topics[1].error_code, 0);
    assert_eq!(topics[1].partitions[0].error_code, ResponseError::LeaderNotAvailable.code());
    assert_eq!(topics[1].partitions[0].leader_id.0, -1);
}

#[test]
fn every_version_can_say_it() {
    let topics = told(&Wanted::All, led_by(1, 1));
    assert_eq!(topics.len(), 2);
    for version in 0..=13 {
        let body = MetadataResponse::default()
            .with_topics(topics.clone())
            .with_cluster_id(Some(StrBytes::from_static_str("c")))
            .with_controller_id(BrokerId(1));
        body.encode_body(version, &mut bytes::BytesMut::new()).expect("it can be said in this version");
    }
}

/// Nothing is quadratic in the number of names.
#[test]
fn very_many_names_are_answered() {
    let many: Vec<StrBytes> = (0..200_000).map(|n| StrBytes::from_string(format!("t{}", n % 100_000))).collect();
    let missing = missing_topics(many.iter().map(|name| &**name), &Image::default(), &Default::default());
    assert_eq!(missing.len(), 1_000);
    assert_eq!(told(&Wanted::Names(many), Lead::default()).len(), 100_000);
}
