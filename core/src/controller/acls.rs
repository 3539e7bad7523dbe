//! Access control lists made and taken back (Kafka `AclControlManager`).

use std::collections::BTreeSet;
use std::fmt;

use super::wire::{Reader, WireError, Writer};
use super::{Command, Decision, Image, PARTITIONS_PER_REQUEST_MAX};
use crate::security::{
    Acl, AclEntry, AclFilter, AclHost, AclPattern, Acls, CLUSTER_NAME, HostError, Operation, PatternType, Permission,
    ResourceType,
};

/// Most lists that one request may make or take back (Kafka `QuorumController.MAX_RECORDS_PER_USER_OP`).
pub const ACLS_PER_REQUEST_MAX: usize = PARTITIONS_PER_REQUEST_MAX;
/// Longest principal, host or name, in bytes.
const TEXT_LEN_MAX: usize = 0x7fff;

/// A list as it is asked for, by numbers of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAcl {
    pub resource_type: i8,
    pub pattern_type: i8,
    pub name: String,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission: i8,
}

/// Why a list is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewAclError {
    #[error("Invalid resourceType {}", unknown_or_any(*.0))]
    ResourceType(i8),
    #[error("Invalid patternType {}", unknown_or_any(*.0))]
    PatternType(i8),
    #[error("Invalid operation {}", unknown_or_any(*.0))]
    Operation(i8),
    #[error("Invalid permissionType {}", unknown_or_any(*.0))]
    Permission(i8),
    #[error("Resource name should not be empty")]
    NoName,
    #[error("The only valid name for the CLUSTER resource is kafka-cluster")]
    NotTheCluster,
    #[error("Could not parse principal from `{0}` (TYPE:NAME is expected, like User:alice)")]
    Principal(String),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("principal, host or name is longer than {TEXT_LEN_MAX} bytes")]
    TooLong,
}

fn unknown_or_any(number: i8) -> &'static str {
    match number {
        1 => "ANY",
        2 => "MATCH",
        _ => "UNKNOWN",
    }
}

impl fmt::Display for NewAcl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.check() {
            Ok(acl) => acl.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

impl NewAcl {
    fn check(&self) -> Result<Acl, NewAclError> {
        let resource = ResourceType::of_number(self.resource_type);
        let resource = resource.ok_or(NewAclError::ResourceType(self.resource_type))?;
        let pattern = PatternType::of_number(self.pattern_type);
        let pattern = pattern.ok_or(NewAclError::PatternType(self.pattern_type))?;
        let operation = Operation::of_number(self.operation).ok_or(NewAclError::Operation(self.operation))?;
        let permission = Permission::of_number(self.permission).ok_or(NewAclError::Permission(self.permission))?;
        if self.name.is_empty() {
            return Err(NewAclError::NoName);
        }
        if resource == ResourceType::Cluster && self.name != CLUSTER_NAME {
            return Err(NewAclError::NotTheCluster);
        }
        if [&self.name, &self.principal, &self.host].iter().any(|text| text.len() > TEXT_LEN_MAX) {
            return Err(NewAclError::TooLong);
        }
        if !self.principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
            return Err(NewAclError::Principal(self.principal.clone()));
        }
        let host = AclHost::new(&self.host)?;
        Ok(Acl {
            pattern: AclPattern { resource, pattern, name: self.name.clone() },
            entry: AclEntry { principal: self.principal.clone(), host, operation, permission },
        })
    }
}

/// What became of each; what is there already is well.
pub fn create_acls(image: &Image, asked: &[NewAcl]) -> Decision<Vec<Result<(), NewAclError>>> {
    let mut fresh = BTreeSet::new();
    let mut commands = Vec::new();
    let mut made = Vec::with_capacity(asked.len());
    for one in asked {
        made.push(one.check().map(|acl| {
            if !image.acls.has(&acl) && fresh.insert(acl.clone()) {
                commands.push(Command::AddAcl(acl));
            }
        }));
    }
    Decision { commands, reply: made }
}

/// More lists would be taken back than one request may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot remove more than {ACLS_PER_REQUEST_MAX} acls in a single delete operation.")]
pub struct TooManyAcls;

/// What each filter took, whether another did, too, or not. A filter that takes too much takes nothing.
pub fn delete_acls(image: &Image, filters: &[AclFilter]) -> Decision<Vec<Result<Vec<Acl>, TooManyAcls>>> {
    let mut taken = BTreeSet::new();
    let mut reply = Vec::with_capacity(filters.len());
    for filter in filters {
        let found = image.acls.filtered(filter).into_iter().flat_map(|(pattern, entries)| {
            entries.into_iter().map(move |entry| Acl { pattern: pattern.clone(), entry })
        });
        let found: Vec<Acl> = found.collect();
        let fresh = found.iter().filter(|acl| !taken.contains(*acl)).count();
        reply.push(if taken.len() + fresh > ACLS_PER_REQUEST_MAX {
            Err(TooManyAcls)
        } else {
            taken.extend(found.iter().cloned());
            Ok(found)
        });
    }
    Decision { commands: taken.into_iter().map(Command::RemoveAcl).collect(), reply }
}

impl Image {
    pub fn acls(&self) -> &Acls {
        &self.acls
    }
}

pub(super) fn write_acl(acl: &Acl, to: &mut Writer) {
    let Acl { pattern, entry } = acl;
    for number in
        [pattern.resource.number(), pattern.pattern.number(), entry.operation.number(), entry.permission.number()]
    {
        to.u8(number.unsigned_abs());
    }
    to.text(&pattern.name).text(&entry.principal).text(entry.host.as_str());
}

pub(super) fn read_acl(from: &mut Reader<'_>) -> Result<Acl, WireError> {
    let mut number = |what| Ok::<_, WireError>(i8::try_from(from.u8(what)?).unwrap_or(0));
    let (resource, pattern) = (number("resource type")?, number("pattern type")?);
    let (operation, permission) = (number("operation")?, number("permission")?);
    let resource = from.checked(ResourceType::of_number(resource), "resource type")?;
    let pattern = from.checked(PatternType::of_number(pattern), "pattern type")?;
    let operation = from.checked(Operation::of_number(operation), "operation")?;
    let permission = from.checked(Permission::of_number(permission), "permission")?;
    let (name, principal, host) = (from.text("name")?, from.text("principal")?, from.text("host")?);
    let host = from.checked(AclHost::new(&host).ok(), "host")?;
    Ok(Acl {
        pattern: AclPattern { resource, pattern, name },
        entry: AclEntry { principal, host, operation, permission },
    })
}
