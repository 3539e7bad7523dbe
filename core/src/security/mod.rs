//! Who a client is: rules that need no socket.

mod jaas;
mod mapping_rules;
mod plain;
mod scram;

pub use jaas::{JaasError, LoginModule};
pub use mapping_rules::{MappingRules, RuleError};
pub use plain::PlainLogin;
pub use scram::{
    Challenge, ClientFirst, Expected, ITERATIONS_MAX, ITERATIONS_MIN, LoginFailed, SALT_BYTES, ScramClient,
    ScramCredential, ScramMechanism,
};
