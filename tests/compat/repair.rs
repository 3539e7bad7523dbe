//! Disks that fail on one of several real nodes: what is lost on one is learnt anew from the others, one that is full leads
//! nothing, and nothing that was acknowledged is missing or served wrong.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::disk::{SmallDisk, fill};
use crate::harness::nodes::Nodes;
use crate::harness::replicas::await_same_replicas;
use crate::harness::{eventually, topics};
use crate::replication::{Stream, all_in_sync, leader_of_first, leaders, replicated_topic};

const METADATA: &str = "00000000-0000-0000-0000-000000000001";

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit near the end, where the next start reads.
    Flipped,
    /// The last third is gone.
    Truncated,
    /// All files.
    Deleted,
}

/// The segments of all partitions of a topic.
fn segments(data: &Path, topic_id: &str) -> Vec<PathBuf> {
    let list = |dir: &Path| fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let files = list(&data.join("log").join(topic_id)).flat_map(|partition| list(&partition).collect::<Vec<_>>());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

/// The segments of a topic that a node writes to no more.
pub fn closed_segments(nodes: &Nodes, id: usize, topic: &str) -> Vec<PathBuf> {
    let all = segments(nodes.data_dir(id), &topic_id(nodes, topic));
    // Names are numbers of one length.
    let is_last = |path: &Path| !all.iter().any(|other| other.parent() == path.parent() && other.as_path() > path);
    all.iter().filter(|path| !is_last(path)).cloned().collect()
}

fn damage(data: &Path, topic_id: &str, how: Damage) {
    for path in segments(data, topic_id) {
        let mut bytes = fs::read(&path).expect("a segment");
        let length = bytes.len();
        match how {
            Damage::Flipped => bytes[length * 9 / 10] ^= 0x04,
            Damage::Truncated => bytes.truncate(length * 2 / 3),
            Damage::Deleted => {
                fs::remove_file(&path).expect("remove");
                continue;
            }
        }
        fs::write(&path, bytes).expect("write");
    }
}

/// Changes a bit of a file that is open elsewhere, at a third of it.
pub fn flip(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a segment");
    let (mut byte, at) = ([0], file.metadata().expect("its length").len() / 3);
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x04], at).expect("write");
}

fn topic_id(nodes: &Nodes, topic: &str) -> String {
    let asked = (1..=3).find(|id| nodes.is_running(*id)).expect("one that runs");
    topics::topic_id(&mut nodes.wire(asked), topic).to_string()
}

/// All replicas are in sync, and have the same.
fn await_equals(nodes: &Nodes, hurt: usize, topic: &str) {
    all_in_sync(nodes, topic);
    await_whole(nodes, hurt);
    await_same_replicas(nodes, topic);
}

/// What was set aside goes when the replicas are whole again.
fn await_whole(nodes: &Nodes, id: usize) {
    eventually("no damaged log lies aside", || {
        let damaged = fs::read_dir(nodes.data_dir(id).join("damaged")).expect("a directory");
        (damaged.count() == 0).then_some(())
    });
}

/// The node that led, and one that followed, come back with a damaged log, while the others live.
#[test]
fn a_damaged_log_is_learnt_anew_from_those_who_live() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let id = topic_id(&nodes, &topic);
    let mut stream = Stream::start(&nodes, &topic);
    for (how, leads) in [
        (Damage::Flipped, true),
        (Damage::Truncated, true),
        (Damage::Flipped, false),
        (Damage::Truncated, false),
        (Damage::Deleted, true),
    ] {
        stream.send(2_000);
        let leader = leader_of_first(&nodes, &topic);
        let hurt = if leads { leader } else { leader % 3 + 1 };
        nodes.kill(hurt);
        damage(nodes.data_dir(hurt), &id, how);
        stream.send(500);
        nodes.spawn(hurt);
        nodes.await_ready(hurt);
        stream.send(500);
        await_equals(&nodes, hurt, &topic);
    }
    stream.check(&nodes);
}

/// All die, and one comes back without what it had acknowledged: with one of the others it would be a majority. It must not
/// count as one before it has learnt what it had.
#[test]
fn a_damaged_log_has_no_say_in_an_election() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let id = topic_id(&nodes, &topic);
    let mut stream = Stream::start(&nodes, &topic);
    for (hurt, how) in [(1, Damage::Truncated), (2, Damage::Deleted), (3, Damage::Truncated)] {
        // One is behind: it has little of what the other two acknowledge.
        let behind = hurt % 3 + 1;
        nodes.kill(behind);
        stream.send(1_000);
        // A clean stop notes how far its log is synced; a kill may forget the last tenth of a second of that.
        nodes.stop(hurt);
        nodes.kill(behind % 3 + 1);
        damage(nodes.data_dir(hurt), &id, how);
        // These two alone lack what was acknowledged, and must not lead.
        nodes.spawn(hurt);
        nodes.spawn(behind);
        nodes.await_ready(hurt);
        nodes.await_ready(behind);
        nodes.spawn(behind % 3 + 1);
        nodes.await_ready(behind % 3 + 1);
        stream.send(500);
        await_equals(&nodes, hurt, &topic);
    }
    stream.check(&nodes);
}

#[test]
fn a_damaged_log_of_the_metadata_is_learnt_anew() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    for (hurt, how) in [(1, Damage::Truncated), (2, Damage::Flipped), (3, Damage::Deleted)] {
        let topic = replicated_topic(&nodes);
        nodes.kill(hurt);
        damage(nodes.data_dir(hurt), METADATA, how);
        nodes.spawn(hurt);
        nodes.await_ready(hurt);
        all_in_sync(&nodes, &topic);
        await_whole(&nodes, hurt);
        // Without one of the others it is needed again.
        let other = hurt % 3 + 1;
        nodes.kill(other);
        let mut stream = Stream::start(&nodes, &topic);
        stream.send(100);
        eventually("a topic is created", || {
            let name = crate::harness::unique("created");
            let request = kafka_protocol::messages::CreateTopicsRequest::default()
                .with_timeout_ms(10_000)
                .with_topics(vec![topics::creatable(&name, 1, &[])]);
            let response = nodes.wire(hurt).call(7, &request);
            (response.topics[0].error_code == 0).then_some(())
        });
        nodes.spawn(other);
        nodes.await_ready(other);
        stream.check(&nodes);
    }
}

/// A bit of the leader's log has changed under it, where another node must read.
#[test]
fn a_leader_that_cannot_read_its_log_gives_way_and_learns_it_anew() {
    // It begins anew when the next leader has led for longer than this: until then that one may take others for in sync.
    let Some(mut nodes) = Nodes::started(3, &["replica.lag.time.max.ms=1000"]) else { return };
    let topic = replicated_topic(&nodes);
    let id = topic_id(&nodes, &topic);
    let mut stream = Stream::start(&nodes, &topic).padded(300);
    stream.send(6_000);
    let hurt = leader_of_first(&nodes, &topic);
    let away = hurt % 3 + 1;
    nodes.kill(away);
    fs::remove_dir_all(nodes.data_dir(away)).expect("the disk is lost");
    for path in
        segments(nodes.data_dir(hurt), &id).iter().filter(|path| path.parent().is_some_and(|p| p.ends_with("0")))
    {
        flip(path);
    }
    nodes.spawn(away);
    nodes.await_ready(away);
    nodes.await_log(hurt, "what a follower lacks is damaged here");
    nodes.await_log(hurt, "a replica that learnt anew is whole again");
    stream.send(500);
    await_equals(&nodes, hurt, &topic);
    stream.check(&nodes);
}

/// Nobody has asked for the damaged place: only the scrub reads it.
#[test]
fn a_scrub_finds_a_damaged_segment_of_a_follower_which_learns_it_anew() {
    let settings = [
        "log.segment.bytes=1048576",
        "log.scrub.interval.ms=200",
        "log.scrub.bytes.per.second=100000000",
        // As above.
        "replica.lag.time.max.ms=1000",
    ];
    let Some(nodes) = Nodes::started(3, &settings) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic).padded(1_000);
    stream.send(9_000);
    all_in_sync(&nodes, &topic);
    let hurt = leader_of_first(&nodes, &topic) % 3 + 1;
    let closed = closed_segments(&nodes, hurt, &topic);
    let path = closed.iter().find(|path| path.parent().is_some_and(|p| p.ends_with("0"))).expect("a closed segment");
    flip(path);
    nodes.await_log(hurt, "damaged segment");
    nodes.await_log(hurt, "a replica that learnt anew is whole again");
    stream.send(500);
    await_equals(&nodes, hurt, &topic);
    eventually("a scrub finds no damage", || (nodes.metric(hurt, "millstream_corrupt_segments") == 0.0).then_some(()));
    stream.check(&nodes);
}

/// It leads some partitions and follows in others.
#[test]
fn a_disk_that_fills_up_leads_nothing_until_there_is_room() {
    let Some(mut nodes) = Nodes::new(3, &[]) else { return };
    let Some(disk) = SmallDisk::mount(128) else { return };
    nodes.put_below(2, &disk.0);
    nodes.start_all();
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic).padded(300);
    for _ in 0..2 {
        stream.send(2_000);
        let filler = fill(&disk.0, 1);
        eventually("another node leads every partition", || {
            stream.send(2_000);
            leaders(&nodes.bootstrap(), &topic)?.iter().all(|(leader, _)| [1, 3].contains(leader)).then_some(())
        });
        stream.send(2_000);
        fs::remove_file(filler).expect("room again");
        all_in_sync(&nodes, &topic);
    }
    nodes.kill(2);
    stream.send(1_000);
    nodes.spawn(2);
    nodes.await_ready(2);
    all_in_sync(&nodes, &topic);
    stream.check(&nodes);
}

/// Two of three replicas have no room: nothing is acknowledged, until there is room again.
#[test]
fn when_most_disks_are_full_for_long_nothing_is_taken_and_they_go_on_by_themselves() {
    let Some(mut nodes) = Nodes::new(3, &[]) else { return };
    let (Some(first), Some(second)) = (SmallDisk::mount(128), SmallDisk::mount(128)) else { return };
    nodes.put_below(1, &first.0);
    nodes.put_below(2, &second.0);
    nodes.start_all();
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic).padded(1_000);
    for _ in 0..2 {
        stream.send(2_000);
        let fillers = [fill(&first.0, 1), fill(&second.0, 1)];
        // More than is left of the room, the ballast not counted: the last of it waits.
        stream.push(8_000);
        eventually("both have given up their ballast", || {
            [1, 2].iter().all(|id| !nodes.data_dir(*id).join("ballast").exists()).then_some(())
        });
        // Longer than an election and all that is tried again now and then.
        std::thread::sleep(Duration::from_secs(8));
        fillers.into_iter().for_each(|filler| fs::remove_file(filler).expect("room again"));
        stream.send(500);
        all_in_sync(&nodes, &topic);
        stream.check_committed(&nodes);
    }
    stream.check(&nodes);
}
