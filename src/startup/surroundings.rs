//! What the metadata says that consumer groups assign by: topics, where their replicas are, and the groups' settings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use millstream_core::controller::{ConfigOwner, Image, Topic};
use millstream_core::coordinator::group::consumer::{GroupSettings, KnownTopic, Surroundings, Topics};
use millstream_core::types::{NodeId, TopicId};

use crate::controller::Controller;
use crate::coordinator::Groups;

/// After a look at all topics there is none for so many times as long as it took.
const PAUSES: u32 = 20;

/// Follows the metadata from now on, until the node stops.
pub(super) fn follow(controller: &Arc<Controller>, groups: &Arc<Groups>) {
    let mut changes = controller.changes();
    changes.mark_unchanged();
    let mut seen = Seen::default();
    let image = controller.published().image.clone();
    groups.set_surroundings(seen.look(&image));
    groups.set_looked_at(image.version());
    let (controller, groups) = (Arc::downgrade(controller), Arc::clone(groups));
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let Some(controller) = controller.upgrade() else { return };
            let begun = Instant::now();
            let image = controller.published().image.clone();
            drop(controller);
            if seen.differs(&image) {
                groups.set_surroundings(seen.look(&image));
            }
            groups.set_looked_at(image.version());
            let took = begun.elapsed();
            tokio::time::sleep(took * PAUSES).await;
        }
    });
}

/// What was told last, and what it was made of.
#[derive(Default)]
struct Seen {
    topics: HashMap<TopicId, (Arc<Topic>, Arc<KnownTopic>)>,
    racks: HashMap<NodeId, Arc<str>>,
    told: Surroundings,
}

impl Seen {
    fn differs(&self, image: &Image) -> bool {
        let is_known =
            |topic: &Arc<Topic>| self.topics.get(&topic.id).is_some_and(|(seen, _)| Arc::ptr_eq(seen, topic));
        image.topic_count() != self.topics.len()
            || !image.topics().all(is_known)
            || racks_of(image) != self.racks
            || settings_of(image) != *self.told.groups
    }

    fn look(&mut self, image: &Image) -> Surroundings {
        let racks = racks_of(image);
        let before = if racks == self.racks { std::mem::take(&mut self.topics) } else { HashMap::new() };
        for topic in image.topics() {
            let known = match before.get(&topic.id) {
                Some((seen, known)) if Arc::ptr_eq(seen, topic) => Arc::clone(known),
                _ => Arc::new(known(topic, &racks)),
            };
            self.topics.insert(topic.id, (Arc::clone(topic), known));
        }
        self.topics.retain(|id, _| image.topic(*id).is_some());
        self.racks = racks;
        let version = i64::try_from(image.version()).unwrap_or(i64::MAX);
        let known = self.topics.values().map(|(_, known)| Arc::clone(known));
        let topics = Arc::new(Topics::new(version, known, &self.told.topics));
        self.told = Surroundings { topics, groups: Arc::new(settings_of(image)) };
        self.told.clone()
    }
}

fn racks_of(image: &Image) -> HashMap<NodeId, Arc<str>> {
    image.nodes().filter_map(|node| Some((node.id, node.rack.as_deref()?.into()))).collect()
}

fn settings_of(image: &Image) -> std::collections::BTreeMap<String, GroupSettings> {
    let of_group = |owner: &ConfigOwner| match owner {
        ConfigOwner::Group(name) => Some((name.clone(), GroupSettings::of(&image.configs(owner)))),
        _ => None,
    };
    image.config_owners().filter_map(of_group).collect()
}

fn known(topic: &Topic, racks: &HashMap<NodeId, Arc<str>>) -> KnownTopic {
    let of_partition = |partition: &millstream_core::controller::Partition| {
        partition.replicas.iter().filter_map(|node| racks.get(node).cloned()).collect()
    };
    let racks: Vec<Vec<Arc<str>>> = topic.partitions.iter().map(of_partition).collect();
    KnownTopic::new(topic.id, topic.name.clone(), &racks)
}
