//! Who gets which task (`StickyTaskAssignor`): tasks stay where they are, or go where a copy of their state is; members
//! get as many as others, processes as many per member. Copies (standbys) are kept by processes that do not have the
//! task itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tasks::{TaskSet, Tasks, each};

/// One member, and what it was to have until now.
pub(super) struct MemberSpec {
    pub process: Arc<str>,
    pub target: Arc<Tasks>,
}

/// One subtopology.
pub(super) struct PartSpec {
    pub id: Arc<str>,
    pub task_count: i32,
    pub is_stateful: bool,
}

/// A subtopology, by its place in the list, and a partition.
type Task = (usize, i32);

/// What each of the members is to have, in their order. `parts` in the order of their ids.
pub(super) fn assign(members: &[MemberSpec], parts: &[PartSpec], standbys: usize) -> Vec<Tasks> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut work = Assignment::new(members, parts, standbys);
    work.assign_active();
    if standbys > 0 {
        work.assign_standbys(standbys);
    }
    let named = |tasks: &[Task]| {
        let mut named = TaskSet::new();
        for (part, partition) in tasks {
            named.entry(Arc::clone(&parts[*part].id)).or_default().insert(*partition);
        }
        named
    };
    let tasks = |member: &Member| Tasks {
        active: named(&member.active),
        standby: named(&member.standby),
        warmup: TaskSet::new(),
    };
    work.members.iter().map(tasks).collect()
}

#[derive(Default)]
struct Member {
    process: usize,
    active: Vec<Task>,
    standby: Vec<Task>,
}

impl Member {
    fn task_count(&self) -> usize {
        self.active.len() + self.standby.len()
    }
}

#[derive(Default)]
struct Process {
    /// By how much they have.
    members: BTreeSet<(usize, usize)>,
    tasks: BTreeSet<Task>,
    task_count: usize,
}

impl Process {
    fn load(&self) -> Load {
        Load { tasks: self.task_count, members: self.members.len() }
    }
}

/// Tasks per member.
#[derive(Clone, Copy)]
struct Load {
    tasks: usize,
    members: usize,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tasks * other.members).cmp(&(other.tasks * self.members))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Load {}

/// How much a member may take while others have room: what is left is shared anew among the rest whenever one is full.
struct Quota {
    tasks: usize,
    members: usize,
    per_member: usize,
}

impl Quota {
    fn new(tasks: usize, members: usize) -> Self {
        let per_member = if members == 0 { 0 } else { tasks.div_ceil(members) };
        Self { tasks, members, per_member }
    }

    fn member_has(&mut self, count: usize) {
        if count == self.per_member {
            *self = Self::new(self.tasks.saturating_sub(count), self.members.saturating_sub(1));
        }
    }
}

struct Assignment<'a> {
    parts: &'a [PartSpec],
    members: Vec<Member>,
    processes: Vec<Process>,
    /// Processes that have members, least loaded first.
    by_load: BTreeSet<(Load, usize)>,
    /// With whom each task was active, and who kept a copy.
    was_active: BTreeMap<Task, usize>,
    was_standby: BTreeMap<Task, Vec<usize>>,
    active_quota: Quota,
    quota: Quota,
}

impl<'a> Assignment<'a> {
    fn new(specs: &[MemberSpec], parts: &'a [PartSpec], standbys: usize) -> Self {
        let count = |part: &PartSpec| usize::try_from(part.task_count).unwrap_or(0);
        let active: usize = parts.iter().map(count).sum();
        let copies: usize = parts.iter().filter(|part| part.is_stateful).map(count).sum::<usize>() * standbys;
        let mut work = Self {
            parts,
            members: Vec::with_capacity(specs.len()),
            processes: Vec::new(),
            by_load: BTreeSet::new(),
            was_active: BTreeMap::new(),
            was_standby: BTreeMap::new(),
            active_quota: Quota::new(active, specs.len()),
            quota: Quota::new(active + copies, specs.len()),
        };
        let mut processes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for (at, spec) in specs.iter().enumerate() {
            let process = *processes.entry(&spec.process).or_insert_with(|| {
                work.processes.push(Process::default());
                work.processes.len() - 1
            });
            work.processes[process].members.insert((0, at));
            work.members.push(Member { process, ..Member::default() });
            work.remember(at, &spec.target);
        }
        work.by_load = work.processes.iter().enumerate().map(|(at, process)| (process.load(), at)).collect();
        work
    }

    fn remember(&mut self, member: usize, target: &Tasks) {
        let place = |id: &Arc<str>| self.parts.binary_search_by(|part| part.id.cmp(id)).ok();
        let task = |(id, partition): (&Arc<str>, i32)| Some((place(id)?, partition));
        let active: Vec<Task> = each(&target.active).filter_map(task).collect();
        let standby: Vec<Task> = each(&target.standby).filter_map(task).collect();
        self.was_active.extend(active.into_iter().map(|task| (task, member)));
        for task in standby {
            self.was_standby.entry(task).or_default().push(member);
        }
    }

    /// All tasks, those of stateful subtopologies only if asked.
    fn tasks(&self, only_stateful: bool) -> Vec<Task> {
        let parts = self.parts.iter().enumerate().filter(|(_, part)| part.is_stateful || !only_stateful);
        parts.flat_map(|(at, part)| (0..part.task_count).map(move |partition| (at, partition))).collect()
    }

    fn assign_active(&mut self) {
        let mut tasks = self.tasks(false);
        // Partition by partition: those of one partition were given together.
        tasks.sort_by_key(|(part, partition)| (*partition, *part));
        tasks.retain(|task| {
            let was = self.was_active.get(task).copied();
            !was.is_some_and(|member| self.keep_active(member, *task))
        });
        tasks.retain(|task| {
            let copy = self.was_standby.get(task).and_then(|members| self.least_loaded_of(members, None));
            !copy.is_some_and(|member| self.keep_active(member, *task))
        });
        tasks.sort_unstable();
        for task in tasks {
            if let Some((_, process)) = self.by_load.first().copied() {
                self.give_to_process(process, task, true);
            }
        }
    }

    /// Whether the member has room for it.
    fn keep_active(&mut self, member: usize, task: Task) -> bool {
        let has_room = self.members[member].task_count() < self.active_quota.per_member;
        if has_room {
            self.give(member, task, true);
        }
        has_room
    }

    fn assign_standbys(&mut self, standbys: usize) {
        let mut tasks = self.tasks(true);
        tasks.sort_by_key(|(part, partition)| (*partition, *part));
        let mut left: Vec<(Task, usize)> = Vec::new();
        for task in tasks.into_iter().rev() {
            let kept = (0..standbys).take_while(|_| self.keep_standby(task)).count();
            if kept < standbys {
                left.push((task, standbys - kept));
            }
        }
        left.sort_unstable_by_key(|(task, _)| std::cmp::Reverse(*task));
        for (task, count) in left {
            for _ in 0..count {
                let mut processes = self.by_load.iter().map(|(_, process)| *process);
                let free = processes.find(|process| !self.processes[*process].tasks.contains(&task));
                // There may be fewer processes than copies are wanted.
                let Some(process) = free else { break };
                self.give_to_process(process, task, false);
            }
        }
    }

    /// A copy where the state is, if there is room.
    fn keep_standby(&mut self, task: Task) -> bool {
        let was_active = self.was_active.get(&task).copied().filter(|member| self.may_copy(*member, task));
        let member = was_active.or_else(|| {
            let members = self.was_standby.get(&task)?;
            self.least_loaded_of(members, Some(task)).filter(|member| self.may_copy(*member, task))
        });
        if let Some(member) = member {
            self.give(member, task, false);
        }
        member.is_some()
    }

    fn may_copy(&self, member: usize, task: Task) -> bool {
        let Member { process, .. } = self.members[member];
        !self.processes[process].tasks.contains(&task) && self.members[member].task_count() < self.quota.per_member
    }

    /// Of those whose process does not have `without`.
    fn least_loaded_of(&self, members: &[usize], without: Option<Task>) -> Option<usize> {
        let process = |member: usize| &self.processes[self.members[member].process];
        let may = |member: &usize| without.is_none_or(|task| !process(*member).tasks.contains(&task));
        let load = |member: &usize| (process(*member).load(), self.members[*member].task_count());
        members.iter().copied().filter(may).min_by_key(load)
    }

    fn give_to_process(&mut self, process: usize, task: Task, is_active: bool) {
        if let Some((_, member)) = self.processes[process].members.first().copied() {
            self.give(member, task, is_active);
        }
    }

    fn give(&mut self, at: usize, task: Task, is_active: bool) {
        let member = &mut self.members[at];
        let before = member.task_count();
        if is_active {
            member.active.push(task)
        } else {
            member.standby.push(task)
        }
        let index = member.process;
        let process = &mut self.processes[index];
        self.by_load.remove(&(process.load(), index));
        process.members.remove(&(before, at));
        process.members.insert((before + 1, at));
        process.tasks.insert(task);
        process.task_count += 1;
        self.by_load.insert((process.load(), index));
        if is_active {
            self.active_quota.member_has(before + 1);
        }
        self.quota.member_has(before + 1);
    }
}
