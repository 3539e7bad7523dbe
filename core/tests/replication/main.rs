//! Replication under faults, simulated: several replicas with disks that lose what was not synced and a network that
//! loses, repeats, delays and cuts, while members come and go. Time and chance come from a seed, so that a failure is
//! found again: `MILLSTREAM_SIM_SEEDS=17..18 cargo test -p millstream-core --test replication`.

mod asks;
mod chance;
mod checks;
mod clients;
mod cluster;
mod coordinators;
mod items;
mod log;
mod members;
mod moves;
mod node;
mod outcomes;
mod stage;
mod trouble;
mod writers;

use cluster::{Cluster, Faults, Story};
use node::Crash;
use stage::Stage;

/// Seeds of an ordinary run.
const SEEDS: std::ops::Range<u64> = 0..200;

/// Of those, as many are enough for what chance changes little.
const FEW: usize = 40;

const QUIET: Story = Story { voters: 3, learners: 0, faults: Faults::None, changes: false, compacts: false };

fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("MILLSTREAM_SIM_SEEDS") else { return SEEDS };
    let (from, to) = asked.split_once("..").expect("MILLSTREAM_SIM_SEEDS=FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs every seed and says which one failed.
fn each_seed(run: impl Fn(u64)) {
    first_seeds(usize::MAX, run);
}

fn first_seeds(count: usize, run: impl Fn(u64)) {
    for seed in seeds().take(count) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

fn troubled(seed: u64) -> Story {
    let voters = if seed.is_multiple_of(3) { 5 } else { 3 };
    Story { voters, learners: u64::from(seed % 4 == 1), faults: Faults::All, ..QUIET }
}

#[test]
fn what_is_acknowledged_survives_crashes_and_a_bad_network() {
    each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Story { compacts: seed.is_multiple_of(2), ..troubled(seed) });
        cluster.run_ms(15_000);
        cluster.heal_and_settle();
        cluster.checks.assert_progress(20, 0);
    });
}

#[test]
fn what_is_acknowledged_survives_while_members_come_and_go_and_disks_are_lost() {
    let sums: std::cell::Cell<[usize; 8]> = Default::default();
    each_seed(|seed| {
        let mut cluster = Cluster::new(seed, Story { changes: true, compacts: true, ..troubled(seed) });
        cluster.run_ms(15_000);
        cluster.heal_and_settle();
        cluster.checks.assert_progress(5, 0);
        let ((changes, wiped), (moved, ran_full)) = (cluster.changes(), (cluster.moved, cluster.ran_full));
        let (returned, hurt, snapshots) = (cluster.returned(), cluster.hurt(), cluster.snapshots());
        let several = usize::from(wiped + hurt > 1);
        let told = [changes, snapshots, moved, ran_full, wiped, hurt, several, returned];
        let before = sums.get();
        sums.set(std::array::from_fn(|n| before[n] + told[n]));
    });
    let sums = sums.get();
    println!(
        "changes of members, snapshots, moves, writes to full disks, lost disks, lost logs, seeds with several of these, \
         deleted replicas: {sums:?}"
    );
    let count = (seeds().end - seeds().start) as usize;
    assert!(sums[0] >= 3 * count && sums[1] >= count && sums[2] * 2 >= count, "the seeds are worth their time");
}

#[test]
fn committed_transactions_are_seen_whole_and_aborted_ones_never() {
    // Three groups each.
    let count = if std::env::var("MILLSTREAM_SIM_SEEDS").is_ok() { usize::MAX } else { FEW / 2 };
    let sums: std::cell::Cell<[usize; 5]> = Default::default();
    first_seeds(count, |seed| {
        let story = Story { compacts: seed.is_multiple_of(2), ..troubled(seed) };
        let mut stage = Stage::new(seed, Story { voters: 3, ..story });
        stage.run_ms(15_000);
        stage.heal_and_settle();
        let (committed, aborted) = stage.outcomes.counts();
        let coordinators = &stage.coordinators;
        let told = [committed, aborted, stage.outcomes.fenced, coordinators.timed_out, coordinators.taken_over];
        let before = sums.get();
        sums.set(std::array::from_fn(|n| before[n] + told[n]));
    });
    let sums = sums.get();
    println!("committed, aborted, fenced, timed out, completed by another coordinator: {sums:?}");
    assert!(seeds().end - seeds().start < 20 || sums.iter().all(|sum| *sum > 0), "the seeds are worth their time");
}

#[test]
fn without_faults_nobody_loses_the_leadership() {
    first_seeds(FEW, |seed| {
        let mut cluster = Cluster::new(seed, QUIET);
        cluster.run_ms(10_000);
        cluster.heal_and_settle();
        assert_eq!(cluster.checks.leaders(), 1, "one election is enough");
        cluster.checks.assert_progress(100, 50);
    });
}

#[test]
fn a_follower_that_was_away_gets_what_it_lacks_from_the_log_or_a_snapshot() {
    first_seeds(FEW, |seed| {
        let compacts = seed.is_multiple_of(2);
        let mut cluster = Cluster::new(seed, Story { compacts, ..QUIET });
        cluster.run_ms(2_000);
        let away = cluster.follower();
        cluster.crash(away, Crash::Power);
        cluster.run_ms(10_000);
        cluster.heal_and_settle();
        assert!(cluster.fetches() > 0 || cluster.snapshots() > 0, "what was applied is read off the log");
        assert!(compacts || cluster.snapshots() == 0);
    });
}

#[test]
fn the_leadership_is_handed_over() {
    first_seeds(FEW, |seed| {
        let mut cluster = Cluster::new(seed, QUIET);
        cluster.run_ms(2_000);
        let to = cluster.follower();
        cluster.transfer_leader_to(to);
        cluster.run_ms(1_000);
        assert_eq!(cluster.leader(), Some(to));
        cluster.heal_and_settle();
    });
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let transactions = |seed| {
        let mut stage = Stage::new(seed, troubled(seed));
        stage.run_ms(5_000);
        (stage.trace(), stage.outcomes.counts())
    };
    let run = |seed| {
        let mut cluster = Cluster::new(seed, Story { changes: true, compacts: true, ..troubled(seed) });
        cluster.run_ms(10_000);
        (cluster.trace(), cluster.checks.committed().to_vec())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        if seed < 5 {
            assert_eq!(transactions(seed), transactions(seed), "seed {seed}, transactions");
        }
    }
}
