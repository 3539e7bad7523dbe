//! Subscriptions by pattern: which patterns are compared with the topics, when, and what follows from that.
//!
//! The comparison is the caller's, outside of the state machine: it is asked for as an effect, and comes back as a
//! command.

use std::sync::Arc;

use super::super::command::{Effect, Pattern, PatternsResolved};
use super::super::decision::Decision;
use super::super::record::ConsumerChange;
use super::super::reply::{ConsumerError, ConsumerRefused};
use super::super::shard::Shard;
use super::member::{Resolved, Subscription};
use super::state::{SoftChange, decrement};
use super::work::Work;
use crate::types::Timestamp;

/// Patterns of a group are compared at most that often.
const REFRESH_MS_MIN: i64 = 10_000;

/// What a member's step changes about its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatternChange {
    None,
    /// The topics of the new one are not known yet.
    Unresolved,
    /// They are, or there is no pattern any more.
    Resolved,
}

impl Work<'_> {
    /// Looks after the group's patterns when a member comes with `given`.
    pub fn change_pattern(
        &mut self,
        before: &Subscription,
        after: &Subscription,
        given: Option<&Pattern>,
    ) -> Result<PatternChange, ConsumerRefused> {
        let (old, new) = (before.pattern(), after.pattern());
        let mut change = PatternChange::None;
        let mut refresh = false;
        if before.pattern != after.pattern {
            change = PatternChange::Unresolved;
            let members = |pattern: &Arc<str>| self.group.pattern_members.get(pattern).copied().unwrap_or(0);
            let is_dropped = old.is_some_and(|old| members(old) == 1);
            match new {
                Some(new) if members(new) == 0 => {
                    if let Some(reason) = given.and_then(|given| given.invalid.as_deref()) {
                        let message =
                            format!("SubscribedTopicRegex `{new}` is not a valid regular expression: {reason}.");
                        return Err(ConsumerRefused { error: ConsumerError::InvalidPattern, message });
                    }
                    refresh = true;
                }
                Some(new) if self.group.patterns.contains_key(new) => change = PatternChange::Resolved,
                Some(_) => {}
                None if old.is_some() => change = PatternChange::Resolved,
                None => {}
            }
            if let Some(old) = old.filter(|_| is_dropped) {
                self.emit(ConsumerChange::Pattern(old.clone(), None));
            }
        }
        self.maybe_resolve(old, new, refresh);
        Ok(change)
    }

    /// `must`: there is a pattern that nobody has resolved.
    fn maybe_resolve(&mut self, old: Option<&Arc<str>>, new: Option<&Arc<str>>, must: bool) {
        let group = &self.group;
        if !must && group.pattern_members.is_empty() || group.soft.resolving {
            return;
        }
        let last = group.patterns.values().next();
        let last_at = last.map_or(i64::MIN, |resolved| resolved.at.0);
        if self.now.0 <= last_at.saturating_add(REFRESH_MS_MIN) {
            return;
        }
        let mut patterns = group.pattern_members.clone();
        if let Some(count) = old.and_then(|old| patterns.get_mut(old)) {
            *count -= 1;
        }
        if let Some(new) = new {
            *patterns.entry(new.clone()).or_default() += 1;
        }
        patterns.retain(|_, members| *members > 0);
        let is_stale = last.map_or(0, |resolved| resolved.version) < self.topics().new_topics_at()
            || self.now.0 > last_at.saturating_add(self.config().pattern_refresh_ms);
        if patterns.is_empty() || !(must || patterns.len() != group.patterns.len() || is_stale) {
            return;
        }
        self.change_softly(SoftChange::Resolving(true));
        let topics = Arc::clone(self.topics());
        let patterns = patterns.into_keys().collect();
        self.effect(Effect::ResolvePatterns { group: self.id.clone(), patterns, topics });
    }
}

impl Shard {
    /// The patterns were compared with the topics.
    pub(in super::super) fn patterns_resolved(&self, now: Timestamp, result: &PatternsResolved) -> Decision {
        let Ok(mut work) = Work::on(self, now, &result.group) else { return Decision::nothing() };
        work.change_softly(SoftChange::Resolving(false));
        let mut topics = work.group.topics.clone();
        let mut bump = false;
        for (pattern, names) in &result.patterns {
            if !work.group.pattern_members.contains_key(pattern) {
                continue;
            }
            let old = work.group.patterns.get(pattern).map(|resolved| Arc::clone(&resolved.topics)).unwrap_or_default();
            if old != *names {
                bump = true;
                old.iter().for_each(|topic| decrement(&mut topics, topic, |of| &mut of.by_pattern));
                names.iter().for_each(|topic| topics.entry(topic.clone()).or_default().by_pattern += 1);
            }
            let resolved = Resolved { topics: Arc::clone(names), version: result.version, at: result.at };
            work.emit(ConsumerChange::Pattern(pattern.clone(), Some(resolved)));
        }
        let hash = work.topics().hash_of(topics.keys());
        if bump || hash != work.group.epoch.metadata_hash {
            let epoch = work.group.epoch.epoch + 1;
            work.emit_epoch(epoch, hash);
            work.change_softly(SoftChange::TopicsSeen(epoch));
        }
        work.decision
    }
}
