//! Five real nodes: two may go at once.

use std::collections::BTreeSet;

use crate::harness::eventually;
use crate::harness::nodes::Nodes;
use crate::leaving::await_quorum;
use crate::reassign::{await_on, create, move_all};
use crate::replication::{PARTITIONS, Stream, all_in_sync, in_sync, replicated_topic};

const ALL: [usize; 5] = [1, 2, 3, 4, 5];

#[test]
fn two_of_five_are_killed_at_once_and_what_has_five_replicas_goes_on() {
    let Some(mut nodes) = Nodes::started(5, &[]) else { return };
    await_quorum(&nodes, 1, &[1, 2, 3, 4, 5], &[]);
    let on_five = replicated_topic(&nodes);
    let on_three = create(&mut nodes.wire(1), PARTITIONS, 3);
    move_all(&mut nodes.wire(1), &on_three, PARTITIONS, Some(&[1, 2, 3]));
    await_on(&nodes, 1, &on_three, &[1, 2, 3]);
    let (mut five, mut three) = (Stream::start(&nodes, &on_five), Stream::start(&nodes, &on_three));
    // Of the three replicas one is gone, then two.
    for gone in [[1, 5], [2, 3]] {
        five.send(500);
        three.send(500);
        gone.iter().for_each(|id| nodes.kill(*id));
        five.send(500);
        let left = [1, 2, 3].iter().filter(|id| !gone.contains(id)).count();
        match left >= 2 {
            true => three.send(500),
            // Sent again until there is a majority.
            false => three.push(200),
        }
        let leads: BTreeSet<usize> = ALL.into_iter().filter(|id| !gone.contains(id)).collect();
        let asked = *leads.first().expect("three are left");
        eventually("those who are left lead what has five replicas", || {
            let told = nodes.told_of(asked, &on_five)?;
            let leads_now = |leader: i32| usize::try_from(leader).is_ok_and(|leader| leads.contains(&leader));
            told.iter().all(|p| leads_now(p.leader_id.0)).then_some(())
        });
        nodes.start_all();
        all_in_sync(&nodes, &on_five);
        in_sync(&nodes, &on_three, 3);
    }
    five.check(&nodes);
    three.check(&nodes);
}
