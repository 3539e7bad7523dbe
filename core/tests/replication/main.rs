//! Replication under faults, simulated: several replicas with disks that lose what was not synced and a network that
//! loses, repeats, delays and cuts. Time and chance come from a seed, so that a failure is found again:
//! `MILLSTREAM_SIM_SEEDS=17..18 cargo test -p millstream-core --test replication`.

mod chance;
mod checks;
mod cluster;
mod node;

use cluster::{Cluster, Faults};

/// Seeds of an ordinary run.
const SEEDS: std::ops::Range<u64> = 0..150;

fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("MILLSTREAM_SIM_SEEDS") else { return SEEDS };
    let (from, to) = asked.split_once("..").expect("MILLSTREAM_SIM_SEEDS=FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs every seed and says which one failed.
fn each_seed(run: impl Fn(u64)) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn what_is_acknowledged_survives_crashes_and_a_bad_network() {
    each_seed(|seed| {
        let voters = if seed % 3 == 0 { 5 } else { 3 };
        let learners = u64::from(seed % 4 == 1);
        let mut cluster = Cluster::new(seed, voters, learners, Faults::All);
        cluster.run_ms(20_000);
        cluster.heal_and_settle();
        cluster.checks.assert_progress(20);
    });
}

#[test]
fn without_faults_nobody_loses_the_leadership() {
    each_seed(|seed| {
        let mut cluster = Cluster::new(seed, 3, 0, Faults::None);
        cluster.run_ms(10_000);
        cluster.heal_and_settle();
        assert_eq!(cluster.checks.leaders(), 1, "one election is enough");
        cluster.checks.assert_progress(100);
    });
}

#[test]
fn a_follower_that_was_away_gets_what_it_lacks_from_the_log() {
    each_seed(|seed| {
        let mut cluster = Cluster::new(seed, 3, 0, Faults::None);
        cluster.run_ms(2_000);
        let away = cluster.follower();
        cluster.crash(away);
        cluster.run_ms(10_000);
        cluster.heal_and_settle();
        assert!(cluster.fetches() > 0, "what was applied is read off the log");
    });
}

#[test]
fn the_leadership_is_handed_over() {
    each_seed(|seed| {
        let mut cluster = Cluster::new(seed, 3, 0, Faults::None);
        cluster.run_ms(2_000);
        let to = cluster.follower();
        cluster.transfer_leader_to(to);
        cluster.run_ms(1_000);
        assert_eq!(cluster.leader(), Some(to));
        cluster.heal_and_settle();
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let mut cluster = Cluster::new(seed, 3, 0, Faults::All);
        cluster.run_ms(10_000);
        cluster.checks.story()
    };
    for seed in 0..5 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}
