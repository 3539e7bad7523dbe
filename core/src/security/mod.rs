//! Who a client is, and what it may do: rules that need no socket.

mod acl;
mod authorizer;
mod jaas;
mod mapping_rules;
mod plain;
mod scram;

pub use acl::{
    Acl, AclEntry, AclFilter, AclHost, AclPattern, CLUSTER_NAME, EVERYONE, HostError, Operation, PatternFilter,
    PatternType, Permission, ResourceType, WILDCARD,
};
pub use authorizer::{Acls, Requester, Verdict};
pub use jaas::{JaasError, LoginModule};
pub use mapping_rules::{MappingRules, RuleError};
pub use plain::PlainLogin;
pub use scram::{
    Challenge, ClientFirst, Expected, ITERATIONS_MAX, ITERATIONS_MIN, LoginFailed, SALT_BYTES, ScramClient,
    ScramCredential, ScramMechanism,
};
