//! A member's steps towards its target (Kafka's `CurrentAssignmentBuilderTest`).

use std::sync::Arc;

use super::super::super::ids::MemberId;
use super::super::super::record::StreamsChange;
use super::super::member::{StreamsCurrent, StreamsMemberState, StreamsSubscription};
use super::super::reconcile::{MustRejoin, Way};
use super::super::state::StreamsGroup;
use super::super::{HeldTasks, Tasks};
use super::{show_tasks, tasks};

/// As `held`, all since epoch `since`.
fn held(text: &str, since: i32) -> HeldTasks {
    let Tasks { active, standby, warmup } = tasks(text);
    let active = active.into_iter().map(|(id, of)| (id, of.into_iter().map(|at| (at, since)).collect())).collect();
    HeldTasks { active, standby, warmup }
}

fn current(epoch: i32, state: StreamsMemberState, assigned: &str, revoking: &str) -> StreamsCurrent {
    let (assigned, revoking) = (held(assigned, epoch), held(revoking, epoch));
    StreamsCurrent { epoch, previous_epoch: epoch, state, assigned, revoking }
}

/// A group in which `m` of process `p` has this, and others what they have.
fn group(own: &StreamsCurrent, others: &[(&str, &str)]) -> StreamsGroup {
    let mut group = StreamsGroup::default();
    let mut put = |id: &str, process: &str, current: StreamsCurrent| {
        let id = MemberId::new(id).unwrap();
        let said = StreamsSubscription { process: process.into(), ..StreamsSubscription::nobody() };
        group.replay(&StreamsChange::Member(id.clone(), Some(Arc::new(said))));
        group.replay(&StreamsChange::Current(id, Some(current)));
    };
    put("m", "p", own.clone());
    for (at, (process, has)) in others.iter().enumerate() {
        put(&format!("other{at}"), process, current(1, StreamsMemberState::Stable, has, ""));
    }
    group
}

/// Where `m` goes from `own`, if its target of epoch 11 is `target`.
fn next(own: &StreamsCurrent, target: &str, owned: Option<&str>, others: &[(&str, &str)]) -> String {
    let (group, target, owned, process) = (group(own, others), tasks(target), owned.map(tasks), Arc::from("p"));
    let way = Way { target_epoch: 11, target: &target, process: &process, owned: owned.as_ref(), group: &group };
    match way.next(own) {
        Err(MustRejoin) => "must rejoin".to_owned(),
        Ok(StreamsCurrent { epoch, previous_epoch, state, assigned, revoking }) => {
            let (assigned, revoking) = (show_tasks(&assigned.plain()), show_tasks(&revoking.plain()));
            format!("{state:?} {epoch} after {previous_epoch}: {assigned}, gives up {revoking}")
        }
    }
}

#[test]
fn a_stable_member_stays_or_goes_on() {
    let at_target = current(11, StreamsMemberState::Stable, "1_1", "");
    assert_eq!(next(&at_target, "1_2", None, &[]), "Stable 11 after 11: 1_1, gives up nothing");
    let stable = current(10, StreamsMemberState::Stable, "1_1/2_1", "");
    assert_eq!(next(&stable, "1_1/2_1", None, &[]), "Stable 11 after 10: 1_1/2_1, gives up nothing");
    assert_eq!(
        next(&stable, "1_1,1_2/2_1,2_2/3_1", None, &[]),
        "Stable 11 after 10: 1_1,1_2/2_1,2_2/3_1, gives up nothing"
    );
}

#[test]
fn what_is_not_its_own_any_more_is_given_up_first() {
    let stable = current(10, StreamsMemberState::Stable, "1_1,1_2/2_1,2_2", "");
    assert_eq!(next(&stable, "1_2,1_3/2_2,2_3", None, &[]), "UnrevokedTasks 10 after 10: 1_2/2_2, gives up 1_1/2_1");
    // It has done so already.
    assert_eq!(
        next(&stable, "1_2,1_3/2_2,2_3", Some("1_2/2_2"), &[]),
        "Stable 11 after 10: 1_2,1_3/2_2,2_3, gives up nothing"
    );
}

#[test]
fn a_member_that_must_give_up_waits_until_it_has() {
    let unrevoked = current(10, StreamsMemberState::UnrevokedTasks, "1_2", "1_1/2_1");
    let same = "UnrevokedTasks 10 after 10: 1_2, gives up 1_1/2_1";
    assert_eq!(next(&unrevoked, "1_2,1_3", None, &[]), same);
    assert_eq!(next(&unrevoked, "1_2,1_3", Some("1_1,1_2"), &[]), same);
    assert_eq!(next(&unrevoked, "1_2,1_3", Some("1_2/2_1"), &[]), same);
    assert_eq!(next(&unrevoked, "1_2,1_3", Some("1_2"), &[]), "Stable 11 after 10: 1_2,1_3, gives up nothing");
    // There is more to give up: it moves by one epoch.
    let unrevoked = StreamsCurrent { epoch: 8, ..unrevoked };
    assert_eq!(next(&unrevoked, "1_3", Some("1_2"), &[]), "UnrevokedTasks 9 after 8: nothing, gives up 1_2");
}

#[test]
fn what_others_have_is_waited_for() {
    let stable = current(10, StreamsMemberState::Stable, "1_1", "");
    let others = [("q", "1_2/2_1")];
    assert_eq!(next(&stable, "1_1,1_2", None, &others), "UnreleasedTasks 11 after 10: 1_1, gives up nothing");
    assert_eq!(next(&stable, "1_1,1_2,1_3", None, &others), "UnreleasedTasks 11 after 10: 1_1,1_3, gives up nothing");
    let waits = current(11, StreamsMemberState::UnreleasedTasks, "1_1", "");
    assert_eq!(next(&waits, "1_1,1_2", None, &others), "UnreleasedTasks 11 after 11: 1_1, gives up nothing");
    assert_eq!(next(&waits, "1_1,1_2", None, &[]), "Stable 11 after 11: 1_1,1_2, gives up nothing");
    // Copies of another process are in nobody's way.
    assert_eq!(next(&stable, "1_1,2_1", None, &others), "Stable 11 after 10: 1_1,2_1, gives up nothing");
    assert_eq!(next(&stable, "1_1/1_2,2_1", None, &others), "Stable 11 after 10: 1_1/1_2,2_1, gives up nothing");
}

#[test]
fn what_its_process_has_is_waited_for() {
    let stable = current(10, StreamsMemberState::Stable, "1_1", "");
    for others in [[("p", "1_2")], [("p", "/1_2")], [("p", "//1_2")]] {
        for target in ["1_1,1_2", "1_1/1_2", "1_1//1_2"] {
            let outcome = "UnreleasedTasks 11 after 10: 1_1, gives up nothing";
            assert_eq!(next(&stable, target, None, &others), outcome, "{target} {others:?}");
        }
    }
    // Its own copy becomes the task itself only when it has given the copy up.
    let standby = current(10, StreamsMemberState::Stable, "/1_2", "");
    assert_eq!(next(&standby, "1_2", None, &[]), "UnrevokedTasks 10 after 10: nothing, gives up /1_2");
    assert_eq!(next(&standby, "1_2", Some(""), &[]), "UnreleasedTasks 11 after 10: nothing, gives up nothing");
}

#[test]
fn a_member_of_an_unknown_state_begins_anew() {
    let unknown = current(10, StreamsMemberState::Unknown, "1_1", "1_2");
    assert_eq!(next(&unknown, "1_1,1_3", None, &[]), "must rejoin");
    assert_eq!(next(&unknown, "1_1,1_3", Some("1_1"), &[]), "must rejoin");
    assert_eq!(next(&unknown, "1_1,1_3", Some(""), &[]), "Stable 11 after 10: 1_1,1_3, gives up nothing");
}
