//! What the client of a request may do (Kafka `AuthHelper`). What is refused goes to the log, and is counted.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::security::{CLUSTER_NAME, Operation, Requester, ResourceType, Verdict};

use super::audit::Who;
use super::find::Found;
use super::{Context, Session};
use crate::controller::Published;
use crate::protocol::TopicRef;

/// What something is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    Cluster,
    TransactionalId(&'a str),
}

impl<'a> Resource<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::TransactionalId(name) => name,
            Self::Cluster => CLUSTER_NAME,
        }
    }

    fn kind(self) -> ResourceType {
        match self {
            Self::Topic(_) => ResourceType::Topic,
            Self::Group(_) => ResourceType::Group,
            Self::Cluster => ResourceType::Cluster,
            Self::TransactionalId(_) => ResourceType::TransactionalId,
        }
    }

    /// What a client is told to whom it is refused (Kafka `AclEntry.authorizationError`).
    fn refusal(self) -> ResponseError {
        match self {
            Self::Topic(_) => ResponseError::TopicAuthorizationFailed,
            Self::Group(_) => ResponseError::GroupAuthorizationFailed,
            Self::Cluster => ResponseError::ClusterAuthorizationFailed,
            Self::TransactionalId(_) => ResponseError::TransactionalIdAuthorizationFailed,
        }
    }
}

/// What the client of one request may do, as the access control lists are when it comes. Cheap to copy.
#[derive(Clone)]
pub struct Access(Option<Arc<Restricted>>);

/// A client who may not do everything.
struct Restricted {
    now: Arc<Published>,
    principal: Arc<str>,
    host: IpAddr,
    who: Who,
    allows_unlisted: bool,
    denials: prometheus::IntCounterVec,
}

impl Context {
    /// What a client may do. Everything: where no authorizer is named, and for super users and other nodes.
    pub(super) fn access(&self, session: &Session, who: &Who) -> Access {
        let rules = match &self.config.access {
            Some(rules) if !session.is_node && !rules.super_users.contains(&*session.principal) => rules,
            _ => return Access(None),
        };
        Access(Some(Arc::new(Restricted {
            now: self.controller.published(),
            principal: Arc::clone(&session.principal),
            host: session.peer.ip().to_canonical(),
            who: who.clone(),
            allows_unlisted: rules.allows_unlisted,
            denials: self.metrics.denials.clone(),
        })))
    }
}

/// Shows every denial that there can be from the start, as none.
pub fn show_denials(denials: &prometheus::IntCounterVec) {
    let kinds = [ResourceType::Topic, ResourceType::Group, ResourceType::Cluster, ResourceType::TransactionalId];
    for kind in kinds {
        for operation in kind.operations() {
            denials.with_label_values(&[kind.name(), operation.name()]);
        }
    }
}

/// What is said of operations when nobody asked.
pub const NOT_ASKED: i32 = i32::MIN;

impl Access {
    /// Of the broker itself.
    pub fn unrestricted() -> Self {
        Self(None)
    }

    /// Whether this may be done. Who is refused has asked for it: that is told in the log.
    pub fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let may = self.may_quietly(operation, resource);
        if let (false, Some(who)) = (may, &self.0) {
            who.denied(operation, resource);
        }
        may
    }

    /// The same where nothing was asked for by name, or more is to be looked at.
    pub fn may_quietly(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|who| who.may(operation, resource))
    }

    /// `Err`: what the client is told.
    pub fn check(&self, operation: Operation, resource: Resource<'_>) -> Result<(), ResponseError> {
        if self.may(operation, resource) { Ok(()) } else { Err(resource.refusal()) }
    }

    /// Whether there may be a topic to which the client may write.
    pub fn may_write_somewhere(&self) -> bool {
        self.0.as_ref().is_none_or(|who| {
            let acls = who.now.image.acls();
            // Kafka looks at some name first: what the wildcard, or the lack of lists, allows.
            who.may(Operation::Write, Resource::Topic("hardcode"))
                || acls.any_allowed(who.requester(), Operation::Write, ResourceType::Topic)
        })
    }

    /// The bits of all that may be done with a resource, as Metadata and the like tell them.
    pub fn operations(&self, resource: Resource<'_>) -> i32 {
        let all = resource.kind().operations().iter();
        let may = all.filter(|operation| self.may_quietly(**operation, resource));
        may.fold(0, |bits, operation| bits | 1 << operation.number())
    }

    /// The same if the client asked for it.
    pub fn operations_if(&self, asked: bool, resource: Resource<'_>) -> i32 {
        if asked { self.operations(resource) } else { NOT_ASKED }
    }

    /// Those of the cluster; nothing to whom may not describe it.
    pub fn cluster_operations_if(&self, asked: bool) -> i32 {
        match asked && !self.may(Operation::Describe, Resource::Cluster) {
            true => 0,
            false => self.operations_if(asked, Resource::Cluster),
        }
    }

    /// Whether everything may be done: then nothing needs to be looked at one by one.
    pub fn is_unrestricted(&self) -> bool {
        self.0.is_none()
    }

    /// A topic with which this may be done. One that goes by its name and may not be touched is as if it were not looked
    /// for; an id tells nothing by itself, and that there is none is no secret.
    pub fn find(&self, context: &Context, operation: Operation, topic: &TopicRef) -> Result<Found, ResponseError> {
        match topic {
            TopicRef::Name(name) => {
                self.check(operation, Resource::Topic(name))?;
                context.find_by_name(name)
            }
            TopicRef::Id(id) => {
                let found = context.find_by_id(*id)?;
                self.check(operation, Resource::Topic(found.name.as_str()))?;
                Ok(found)
            }
        }
    }
}

impl Restricted {
    fn requester(&self) -> Requester<'_> {
        Requester { principal: &self.principal, host: self.host }
    }

    fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let acls = self.now.image.acls();
        match acls.verdict(self.requester(), operation, resource.kind(), resource.name()) {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::NotListed => self.allows_unlisted,
        }
    }

    fn denied(&self, operation: Operation, resource: Resource<'_>) {
        self.denials.with_label_values(&[resource.kind().name(), operation.name()]).inc();
        self.who.denied(operation.name(), resource.kind().name(), resource.name());
    }
}

/// For tests and logs: who it is.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(who) => write!(f, "Access({})", who.principal),
            None => f.write_str("Access(all)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_kafka_sends_without_an_authorizer() {
        let all = Access(None);
        let of = |resource| all.operations(resource);
        assert_eq!((of(Resource::Topic("t")), of(Resource::Cluster), of(Resource::Group("g"))), (3576, 8096, 3400));
    }
}
