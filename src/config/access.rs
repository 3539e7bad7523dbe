//! Who may do what: whether access control lists count, and who is above them.

use std::collections::BTreeSet;

use millstream_core::config::BrokerConfig;

const AUTHORIZER: &str = "authorizer.class.name";
const SUPER_USERS: &str = "super.users";
const EVERYONE_IF_NONE: &str = "allow.everyone.if.no.acl.found";

/// Settings of access control, where it is on (Kafka `StandardAuthorizer`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Principals who may do everything.
    pub super_users: BTreeSet<String>,
    /// What no list is about is free to all.
    pub allows_unlisted: bool,
}

impl AccessRules {
    /// `None`: no authorizer is named, and everybody may do everything. The error is a key and what is allowed.
    pub(super) fn of(broker: &BrokerConfig) -> Result<Option<Self>, (&'static str, &'static str)> {
        if broker.text(AUTHORIZER).unwrap_or_default().trim().is_empty() {
            return Ok(None);
        }
        let named =
            broker.text(SUPER_USERS).unwrap_or_default().split(';').map(str::trim).filter(|name| !name.is_empty());
        let super_users: BTreeSet<String> = named.map(str::to_owned).collect();
        let is_principal =
            |text: &String| text.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
        match super_users.iter().all(is_principal) {
            true => Ok(Some(Self { super_users, allows_unlisted: broker.boolean(EVERYONE_IF_NONE) })),
            false => Err((SUPER_USERS, "principals separated by semicolons, like User:alice;User:bob")),
        }
    }
}
