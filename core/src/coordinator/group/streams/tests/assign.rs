//! Who gets which task: the cases of Kafka's `StickyTaskAssignorTest`, and what must hold in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::assign::{MemberSpec, PartSpec, assign};
use super::super::tasks::each;
use super::super::{TaskSet, Tasks};
use super::{show_tasks, tasks};

/// `0:3!`: subtopology 0 has three tasks, and state.
fn parts(text: &str) -> Vec<PartSpec> {
    let part = |word: &str| {
        let (id, count) = word.split_once(':').unwrap();
        let (count, is_stateful) = count.strip_suffix('!').map_or((count, false), |count| (count, true));
        PartSpec { id: id.into(), task_count: count.parse().unwrap(), is_stateful }
    };
    text.split_whitespace().map(part).collect()
}

/// `p1=0_0,0_1/1_0`: a member of process `p1`, with what it was to have.
fn members(text: &str) -> Vec<MemberSpec> {
    let member = |word: &str| {
        let (process, target) = word.split_once('=').unwrap_or((word, ""));
        MemberSpec { process: process.into(), target: Arc::new(tasks(target)) }
    };
    text.split_whitespace().map(member).collect()
}

fn assigned(of: &str, to: &str, standbys: usize) -> Vec<Tasks> {
    assign(&members(to), &parts(of), standbys)
}

/// What each member gets.
fn shown(of: &str, to: &str, standbys: usize) -> String {
    assigned(of, to, standbys).iter().map(show_tasks).collect::<Vec<_>>().join(" ")
}

fn count(tasks: &TaskSet) -> usize {
    each(tasks).count()
}

/// How many active tasks each member gets, and how many copies it keeps.
fn counts(of: &str, to: &str, standbys: usize) -> Vec<(usize, usize)> {
    assigned(of, to, standbys).iter().map(|tasks| (count(&tasks.active), count(&tasks.standby))).collect()
}

#[test]
fn tasks_are_shared_evenly() {
    assert_eq!(shown("0:3", "p1 p2 p3", 0), "0_0 0_1 0_2");
    assert_eq!(counts("0:3 1:3", "p1 p1 p2 p2 p3 p3", 0), [(1, 0); 6]);
    assert_eq!(counts("0:3! 1:3!", "p1 p1 p2 p2 p3 p3", 1), [(1, 1); 6]);
    // More members of a process get more.
    assert_eq!(counts("0:3", "p1 p2 p2", 0), [(1, 0); 3]);
    assert_eq!(counts("0:3 1:3 2:3 3:3", "p1 p2 p2", 0), [(4, 0); 3]);
    assert_eq!(counts("0:6 1:1", "p1=0_0,0_1,0_2,0_3,0_4,0_5,1_0 p2", 0), [(4, 0), (3, 0)]);
    // Every process gets one before any gets two.
    let by_member = counts("0:3", "p1 p1 p1 p2 p3", 0);
    assert_eq!(by_member[..3].iter().map(|(active, _)| active).sum::<usize>(), 1);
    assert_eq!(by_member[3..], [(1, 0); 2]);
    assert_eq!(
        counts("0:3!", "p1 p2 p3 p4 p5 p6", 1).iter().filter(|(active, copies)| active + copies == 1).count(),
        6
    );
}

#[test]
fn those_of_one_partition_go_together_where_nobody_had_any() {
    assert_eq!(shown("0:2! 1:2!", "p1 p2", 1), "0_0,1_0/0_1,1_1 0_1,1_1/0_0,1_0");
    assert_eq!(shown("0:2! 1:2!", "p1=0_0,0_1,1_0,1_1 p2", 1), "0_0,1_0/0_1,1_1 0_1,1_1/0_0,1_0");
}

#[test]
fn tasks_stay_where_they_are() {
    assert_eq!(shown("0:3", "p1=0_0 p2=0_1", 0), "0_0,0_2 0_1");
    assert_eq!(shown("0:3", "p2=0_1 p1=0_2", 0), "0_0,0_1 0_2");
    assert_eq!(shown("0:3", "p1=0_0,0_2 p2=0_1 p3", 0), "0_0 0_1 0_2");
    assert_eq!(shown("0:3", "p1=0_0 p2=0_2 p3=0_1 p4 p5", 0), "0_0 0_2 0_1 nothing nothing");
    assert_eq!(shown("0:3", "p1 p2=0_0 p3 p4=0_2 p5=0_1", 0), "nothing 0_0 nothing 0_2 0_1");
    assert_eq!(shown("0:4", "p1=0_0,0_2 p2=0_1,0_3 p3", 0), "0_0,0_2 0_1 0_3");
    assert_eq!(shown("0:6", "p1=0_0,0_1 p2=0_2,0_3", 0), "0_0,0_1,0_4 0_2,0_3,0_5");
    assert_eq!(shown("0:6", "p1=0_1,0_2 p2=0_0,0_3 p3", 0), "0_1,0_2 0_0,0_3 0_4,0_5");
    assert_eq!(shown("0:6", "p1=0_0,0_1,0_2 p2=0_3,0_4,0_5 p3", 0), "0_0,0_1 0_3,0_4 0_2,0_5");
    assert_eq!(counts("0:2", "p1=0_1,0_2 p2", 0), [(1, 0); 2]);
}

#[test]
fn whoever_has_more_than_others_gives_up_some() {
    assert_eq!(counts("0:4", "p1 p2 p3=0_0,0_1,0_2,0_3 p4", 0), [(1, 0); 4]);
    assert_eq!(counts("0:4", "p1 p2 p3=0_0,0_1,0_2,0_3", 0), [(1, 0), (1, 0), (2, 0)]);
    assert_eq!(counts("0:3", "p2=0_0,0_2,0_3 p3 p3", 0), [(1, 0); 3]);
}

#[test]
fn tasks_go_where_a_copy_of_their_state_is() {
    assert_eq!(shown("0:3", "p1=/0_2 p2=/0_1 p3=/0_0", 0), "0_2 0_1 0_0");
    assert_eq!(shown("0:2!", "p1=/0_0 p2=/0_1", 1), "0_0/0_1 0_1/0_0");
    // Two have one: the process with more room gets it.
    assert_eq!(shown("0:3", "p1=0_0/0_1 p2=0_2/0_1 p2", 0), "0_0 0_2 0_1");
    let before = "p1=0_0,0_1,0_2,0_6 p2=/0_3,0_4,0_5 p3";
    assert_eq!(counts("0:7", before, 0), [(3, 0), (2, 0), (2, 0)]);
    assert_eq!(shown("0:7", before, 0), "0_0,0_1,0_2 0_3,0_4 0_5,0_6");
}

#[test]
fn a_new_member_gets_what_was_not_active() {
    let olds = "p1=0_1,1_2,1_3/0_0,1_1,2_0,2_1,2_3 p2=0_0,1_1,2_2/0_1,0_2,0_3,1_0,1_2,1_3,2_0,2_1,2_3";
    let new = "p3=2_0,2_1,2_3/0_2,1_2 p4=/0_0,0_1,0_2,0_3,1_0,1_1,1_2,1_3,2_0,2_1,2_2,2_3";
    let wanted = "0_1,1_2,1_3 0_0,1_1,2_2 2_0,2_1,2_3 0_2,0_3,1_0";
    assert_eq!(shown("0:4 1:4 2:4", &format!("{olds} {new}"), 0), wanted);
    let bounced = "p3=/2_0,2_1,2_3 p4=/0_2,0_3,1_0";
    assert_eq!(shown("0:4 1:4 2:4", &format!("{olds} {bounced}"), 0), wanted);
}

#[test]
fn copies_are_kept_by_other_processes() {
    assert_eq!(shown("0:3!", "p1=0_0 p2=0_1 p3=0_2", 2), "0_0/0_1,0_2 0_1/0_0,0_2 0_2/0_0,0_1");
    let kept = counts("0:4!", "p1=0_0 p2=0_1 p3=0_2 p4=0_3", 1);
    assert_eq!(kept, [(1, 1); 4]);
    // There are not enough processes.
    assert_eq!(shown("0:1!", "p1", 1), "0_0");
    assert_eq!(counts("0:10!", "p1 p1", 3), [(5, 0); 2]);
    assert_eq!(counts("0:4!", "p1 p2", 5), [(2, 2); 2]);
    assert_eq!(counts("0:6!", "p1 p2 p3", 5), [(2, 4); 3]);
    assert_eq!(counts("0:100!", "p1 p2 p3 p4 p5", 2), [(20, 40); 5]);
    assert_eq!(counts("0:14!", "p1 p2 p3 p4 p5 p6 p7", 1), [(2, 2); 7]);
    // Without state there is nothing to copy.
    assert_eq!(counts("0:2 1:2!", "p1 p2", 1), [(2, 1); 2]);
}

#[test]
fn copies_stay_where_they_are_as_long_as_there_is_room() {
    assert_eq!(shown("0:2!", "p1=0_0/0_1 p2=0_1 p3", 1), "0_0/0_1 0_1 /0_0");
    let grown = counts("0:4!", "p1=0_0,0_1/0_2,0_3 p2=0_2,0_3/0_0,0_1 p3", 1);
    assert!(grown.iter().all(|(active, copies)| (1..=2).contains(active) && active + copies <= 3), "{grown:?}");
    // One of those who had a copy has the task itself now: the other keeps his.
    assert_eq!(shown("0:3!", "p1=/0_0 p2=0_1/0_0 p3=0_2", 1), "0_0/0_2 0_1/0_0 0_2/0_1");
}

#[test]
fn what_is_there_no_more_is_not_given() {
    assert_eq!(shown("0:1", "p1=0_5,7_0/9_9 p2", 0), "0_0 nothing");
    assert_eq!(shown("", "p1", 2), "nothing");
    assert_eq!(assigned("0:3", "", 1), Vec::new());
}

fn spec() -> impl Strategy<Value = (Vec<(i32, bool)>, Vec<usize>, usize)> {
    let parts = prop::collection::vec((0..6_i32, any::<bool>()), 1..5);
    (parts, prop::collection::vec(0..4_usize, 1..9), 0..3_usize)
}

type Spec = (Vec<(i32, bool)>, Vec<usize>);

fn solve((parts, processes): &Spec, targets: &[Tasks], standbys: usize) -> Vec<Tasks> {
    let part = |(at, (task_count, is_stateful)): (usize, &(i32, bool))| PartSpec {
        id: at.to_string().into(),
        task_count: *task_count,
        is_stateful: *is_stateful,
    };
    let member = |(at, process): (usize, &usize)| MemberSpec {
        process: format!("p{process}").into(),
        target: Arc::new(targets.get(at).cloned().unwrap_or_default()),
    };
    let members: Vec<MemberSpec> = processes.iter().enumerate().map(member).collect();
    assign(&members, &parts.iter().enumerate().map(part).collect::<Vec<_>>(), standbys)
}

/// Every task is active once, with as many copies as can be, each in a process of its own.
fn check((parts, processes): &Spec, outcome: &[Tasks], standbys: usize) {
    let mut active: BTreeMap<(Arc<str>, i32), usize> = BTreeMap::new();
    let mut copies: BTreeMap<(Arc<str>, i32), usize> = BTreeMap::new();
    let mut of_process = BTreeSet::new();
    for (tasks, process) in outcome.iter().zip(processes) {
        for (id, at) in each(&tasks.active) {
            *active.entry((Arc::clone(id), at)).or_default() += 1;
            assert!(of_process.insert((process, Arc::clone(id), at)), "{outcome:?}");
        }
        for (id, at) in each(&tasks.standby) {
            *copies.entry((Arc::clone(id), at)).or_default() += 1;
            assert!(of_process.insert((process, Arc::clone(id), at)), "{outcome:?}");
        }
    }
    let different = processes.iter().collect::<BTreeSet<_>>().len();
    for (id, (task_count, is_stateful)) in parts.iter().enumerate() {
        for at in 0..*task_count {
            let task = (Arc::from(id.to_string()), at);
            assert_eq!(active.remove(&task), Some(1), "{outcome:?}");
            let wanted = if *is_stateful { standbys.min(different - 1) } else { 0 };
            assert_eq!(copies.remove(&task).unwrap_or(0), wanted, "{outcome:?}");
        }
    }
    assert!(active.is_empty() && copies.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_task_is_active_once_and_copied_elsewhere(
        (parts, processes, standbys) in spec(),
        changed in prop::collection::vec(0..4_usize, 1..9),
    ) {
        let (first, second) = ((parts.clone(), processes), (parts, changed));
        let fresh = solve(&first, &[], standbys);
        check(&first, &fresh, standbys);
        let active = |tasks: &[Tasks]| tasks.iter().map(|tasks| tasks.active.clone()).collect::<Vec<_>>();
        let counts = || fresh.iter().map(|tasks| count(&tasks.active));
        prop_assert!(counts().max() <= counts().min().map(|least| least + 1), "{fresh:?}");
        // Nothing moves when nothing has changed.
        let again = solve(&first, &fresh, standbys);
        check(&first, &again, standbys);
        prop_assert_eq!(active(&again), active(&fresh));
        // Members come and go, also from one process to another.
        let other = solve(&second, &fresh, standbys);
        check(&second, &other, standbys);
    }
}
