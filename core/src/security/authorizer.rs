//! Who may do what, decided as by Kafka's `StandardAuthorizer`: a list that denies outweighs all that allow; what no list is
//! about is forbidden, or free where the settings say so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use super::acl::{
    Acl, AclEntry, AclFilter, AclPattern, EVERYONE, Operation, PatternType, Permission, ResourceType, WILDCARD,
};

type Entries = Arc<BTreeSet<AclEntry>>;
/// By name. A copy shares the entries.
type ByName = Arc<BTreeMap<Arc<str>, Entries>>;

/// All access control lists. Copies are cheap, and independent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    literal: BTreeMap<ResourceType, ByName>,
    prefixed: BTreeMap<ResourceType, ByName>,
    len: usize,
}

/// Somebody who wants to do something.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// `User:alice`.
    pub principal: &'a str,
    pub host: IpAddr,
}

impl Requester<'_> {
    fn is_meant_by(&self, entry: &AclEntry) -> bool {
        (entry.principal == self.principal || entry.principal == EVERYONE) && entry.host.has(self.host)
    }

    /// What an entry has to say of an operation.
    fn told_by(&self, entry: &AclEntry, operation: Operation) -> Option<Permission> {
        let speaks = match entry.permission {
            Permission::Allow => entry.operation.implies(operation),
            Permission::Deny => entry.operation == operation || entry.operation == Operation::All,
        };
        (speaks && self.is_meant_by(entry)).then_some(entry.permission)
    }
}

/// What the lists say of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// No list is about this resource at all.
    NotListed,
}

impl Acls {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn of(&mut self, pattern: PatternType) -> &mut BTreeMap<ResourceType, ByName> {
        match pattern {
            PatternType::Literal => &mut self.literal,
            PatternType::Prefixed => &mut self.prefixed,
        }
    }

    /// Nothing happens if it is there.
    pub fn insert(&mut self, acl: &Acl) {
        let AclPattern { resource, pattern, name } = &acl.pattern;
        let by_name = Arc::make_mut(self.of(*pattern).entry(*resource).or_default());
        let entries = by_name.entry(name.as_str().into()).or_default();
        self.len += usize::from(Arc::make_mut(entries).insert(acl.entry.clone()));
    }

    /// Nothing happens if it is not there.
    pub fn remove(&mut self, acl: &Acl) {
        let AclPattern { resource, pattern, name } = &acl.pattern;
        let by_type = self.of(*pattern);
        let Some(by_name) = by_type.get_mut(resource).map(Arc::make_mut) else { return };
        let Some(entries) = by_name.get_mut(name.as_str()) else { return };
        let removed = Arc::make_mut(entries).remove(&acl.entry);
        if entries.is_empty() {
            by_name.remove(name.as_str());
        }
        if by_name.is_empty() {
            by_type.remove(resource);
        }
        self.len -= usize::from(removed);
    }

    pub fn has(&self, acl: &Acl) -> bool {
        let of = match acl.pattern.pattern {
            PatternType::Literal => &self.literal,
            PatternType::Prefixed => &self.prefixed,
        };
        let entries = of.get(&acl.pattern.resource).and_then(|by_name| by_name.get(acl.pattern.name.as_str()));
        entries.is_some_and(|entries| entries.contains(&acl.entry))
    }

    /// Patterns with all that is said of them, by type and name.
    pub fn patterns(&self) -> impl Iterator<Item = (AclPattern, &BTreeSet<AclEntry>)> {
        let both = [(PatternType::Literal, &self.literal), (PatternType::Prefixed, &self.prefixed)];
        both.into_iter().flat_map(|(pattern, by_type)| {
            by_type.iter().flat_map(move |(resource, by_name)| {
                by_name.iter().map(move |(name, entries)| {
                    (AclPattern { resource: *resource, pattern, name: name.to_string() }, &**entries)
                })
            })
        })
    }

    /// Those that a filter takes, by pattern.
    pub fn filtered(&self, filter: &AclFilter) -> Vec<(AclPattern, Vec<AclEntry>)> {
        let taken = self.patterns().filter(|(pattern, _)| filter.takes_pattern(pattern)).map(|(pattern, entries)| {
            let entries = entries.iter().filter(|entry| filter.takes_entry(entry)).cloned();
            (pattern, entries.collect::<Vec<_>>())
        });
        taken.filter(|(_, entries)| !entries.is_empty()).collect()
    }

    /// What is said of doing this with the resource of this name.
    pub fn verdict(
        &self,
        requester: Requester<'_>,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> Verdict {
        let mut verdict = Verdict::NotListed;
        for entries in self.about(resource, name) {
            for entry in &**entries {
                match requester.told_by(entry, operation) {
                    Some(Permission::Deny) => return Verdict::Denied,
                    Some(Permission::Allow) => verdict = Verdict::Allowed,
                    None => {}
                }
            }
            if verdict == Verdict::NotListed {
                verdict = Verdict::Denied;
            }
        }
        verdict
    }

    /// All that is said of a resource, under its name, every name, and what its name begins with.
    fn about<'a>(&'a self, resource: ResourceType, name: &'a str) -> impl Iterator<Item = &'a Entries> {
        let literal = self.literal.get(&resource);
        let literal = literal.into_iter().flat_map(move |by_name| {
            let own = by_name.get(name);
            let every = by_name.get(WILDCARD).filter(|_| name != WILDCARD);
            own.into_iter().chain(every)
        });
        let prefixed = self.prefixed.get(&resource);
        literal.chain(prefixed.into_iter().flat_map(move |by_name| Prefixes { by_name, left: Some(name) }))
    }

    /// Whether there is a resource of this type with which this may be done (Kafka
    /// `Authorizer.authorizeByResourceType`).
    pub fn any_allowed(&self, requester: Requester<'_>, operation: Operation, resource: ResourceType) -> bool {
        let empty = ByName::default();
        let literal = self.literal.get(&resource).unwrap_or(&empty);
        let prefixed = self.prefixed.get(&resource).unwrap_or(&empty);
        // What is implied does not count here.
        let says = |entries: &Entries, permission| {
            let of = |entry: &AclEntry| entry.operation == operation || entry.operation == Operation::All;
            entries.iter().any(|entry| entry.permission == permission && of(entry) && requester.is_meant_by(entry))
        };
        let denies = |by_name: &ByName, name: &str| by_name.get(name).is_some_and(|of| says(of, Permission::Deny));
        if denies(literal, WILDCARD) {
            return false;
        }
        if literal.get(WILDCARD).is_some_and(|of| says(of, Permission::Allow)) {
            return true;
        }
        let is_denied_by_prefix = |name: &str| {
            let mut prefixes = Prefixes { by_name: prefixed, left: Some(name) };
            prefixes.any(|of| says(of, Permission::Deny))
        };
        let is_free = |(name, of): (&Arc<str>, &Entries), is_literal: bool| {
            says(of, Permission::Allow) && !is_denied_by_prefix(name) && !(is_literal && denies(literal, name))
        };
        literal.iter().any(|one| is_free(one, true)) || prefixed.iter().any(|one| is_free(one, false))
    }
}

/// The patterns that a name begins with, the longest first.
struct Prefixes<'a> {
    by_name: &'a BTreeMap<Arc<str>, Entries>,
    /// What the next one is looked for in; `None`: there is none any more.
    left: Option<&'a str>,
}

impl<'a> Iterator for Prefixes<'a> {
    type Item = &'a Entries;

    fn next(&mut self) -> Option<&'a Entries> {
        loop {
            let name = self.left?;
            let Some((near, entries)) =
                self.by_name.range::<str, _>((Bound::Unbounded, Bound::Included(name))).next_back()
            else {
                self.left = None;
                return None;
            };
            // No pattern that is longer than what they have in common, and a part of the name, is there.
            let common = name.char_indices().zip(near.chars()).take_while(|((_, a), b)| a == b).last();
            let common = common.map_or(0, |((at, last), _)| at + last.len_utf8());
            if common == near.len() {
                self.left = shorter(near).map(|len| &name[..len]);
                return Some(entries);
            }
            self.left = (common > 0).then(|| &name[..common]);
        }
    }
}

/// The length of a name without its last character; `None`: nothing is left of it.
fn shorter(name: &str) -> Option<usize> {
    name.char_indices().last().map(|(at, _)| at).filter(|at| *at > 0)
}

#[cfg(test)]
mod tests;
