//! The topology of a streams group, as it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::streams::{CopartitionGroup, Subtopology, TopicInfo, Topology};
use super::consumer::open;
use super::streams::no_tags;
use crate::coordinator::wire::{DecodeError, Reader, Writer};

pub(super) fn encode_topology(value: &mut Writer, topology: &Topology) {
    value.i32(topology.epoch);
    value.compact_count(topology.subtopologies.len());
    for (id, part) in &topology.subtopologies {
        value.compact_str(id);
        encode_names(value, &part.source_topics);
        encode_names(value, &part.source_patterns);
        encode_topics(value, &part.changelogs);
        encode_names(value, &part.repartition_sinks);
        encode_topics(value, &part.repartition_sources);
        value.compact_count(part.copartition_groups.len());
        for group in &part.copartition_groups {
            for places in [&group.source_topics, &group.source_patterns, &group.repartition_sources] {
                value.compact_count(places.len());
                places.iter().for_each(|place| value.i16(*place));
            }
            value.uvarint(0);
        }
        value.uvarint(0);
    }
    value.uvarint(0);
}

pub(super) fn decode_topology(value: &[u8]) -> Result<Topology, DecodeError> {
    let mut reader = open(value)?;
    let epoch = reader.i32()?;
    let mut subtopologies = BTreeMap::new();
    for _ in 0..reader.count(true)? {
        let id = reader.str(true)?.into();
        subtopologies.insert(id, decode_subtopology(&mut reader)?);
    }
    no_tags(&mut reader)?;
    Ok(Topology { epoch, subtopologies })
}

fn decode_subtopology(reader: &mut Reader<'_>) -> Result<Subtopology, DecodeError> {
    let source_topics = decode_names(reader)?;
    let source_patterns = decode_names(reader)?;
    let changelogs = decode_topics(reader)?;
    let repartition_sinks = decode_names(reader)?;
    let repartition_sources = decode_topics(reader)?;
    let mut copartition_groups = Vec::new();
    for _ in 0..reader.count(true)? {
        copartition_groups.push(CopartitionGroup {
            source_topics: decode_places(reader)?,
            source_patterns: decode_places(reader)?,
            repartition_sources: decode_places(reader)?,
        });
        no_tags(reader)?;
    }
    no_tags(reader)?;
    Ok(Subtopology {
        source_topics,
        source_patterns,
        changelogs,
        repartition_sinks,
        repartition_sources,
        copartition_groups,
    })
}

fn encode_names(value: &mut Writer, names: &[Arc<str>]) {
    value.compact_count(names.len());
    names.iter().for_each(|name| value.compact_str(name));
}

fn decode_names(reader: &mut Reader<'_>) -> Result<Vec<Arc<str>>, DecodeError> {
    (0..reader.count(true)?).map(|_| Ok(reader.str(true)?.into())).collect()
}

fn decode_places(reader: &mut Reader<'_>) -> Result<Vec<i16>, DecodeError> {
    (0..reader.count(true)?).map(|_| reader.i16()).collect()
}

fn encode_topics(value: &mut Writer, topics: &[TopicInfo]) {
    value.compact_count(topics.len());
    for topic in topics {
        value.compact_str(&topic.name);
        value.i32(topic.partitions);
        value.i16(topic.replication_factor);
        value.compact_count(topic.configs.len());
        for (key, of) in &topic.configs {
            value.compact_str(key);
            value.compact_str(of);
            value.uvarint(0);
        }
        value.uvarint(0);
    }
}

fn decode_topics(reader: &mut Reader<'_>) -> Result<Vec<TopicInfo>, DecodeError> {
    let mut topics = Vec::new();
    for _ in 0..reader.count(true)? {
        let name = reader.str(true)?.into();
        let (partitions, replication_factor) = (reader.i32()?, reader.i16()?);
        let mut configs = Vec::new();
        for _ in 0..reader.count(true)? {
            let key = reader.str(true)?.into();
            configs.push((key, reader.str(true)?.into()));
            no_tags(reader)?;
        }
        no_tags(reader)?;
        topics.push(TopicInfo { name, partitions, replication_factor, configs });
    }
    Ok(topics)
}
