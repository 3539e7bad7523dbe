//! Access control lists as Kafka has them: who may do what with which resources (`org.apache.kafka.common.acl`).

use std::fmt;
use std::net::IpAddr;

/// The name that stands for every resource of a type, and the host that stands for every one.
pub const WILDCARD: &str = "*";
/// The principal that stands for everyone.
pub const EVERYONE: &str = "User:*";
/// The name of the one resource of type cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i8)]
        pub enum $name {
            $($variant = $number),*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its number on the wire.
            pub const fn number(self) -> i8 {
                self as i8
            }

            pub fn of_number(number: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }

            /// As Kafka's tools print it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

wire_enum! {
    /// What a resource is (Kafka `ResourceType`).
    ResourceType {
        Topic = 2 "TOPIC",
        Group = 3 "GROUP",
        Cluster = 4 "CLUSTER",
        TransactionalId = 5 "TRANSACTIONAL_ID",
        DelegationToken = 6 "DELEGATION_TOKEN",
        User = 7 "USER",
    }
}

wire_enum! {
    /// What is done with a resource (Kafka `AclOperation`).
    Operation {
        All = 2 "ALL",
        Read = 3 "READ",
        Write = 4 "WRITE",
        Create = 5 "CREATE",
        Delete = 6 "DELETE",
        Alter = 7 "ALTER",
        Describe = 8 "DESCRIBE",
        ClusterAction = 9 "CLUSTER_ACTION",
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        AlterConfigs = 11 "ALTER_CONFIGS",
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        CreateTokens = 13 "CREATE_TOKENS",
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

wire_enum! {
    /// How a name stands for resources (Kafka `PatternType`).
    PatternType {
        Literal = 3 "LITERAL",
        Prefixed = 4 "PREFIXED",
    }
}

wire_enum! {
    /// Kafka `AclPermissionType`.
    Permission {
        Deny = 2 "DENY",
        Allow = 3 "ALLOW",
    }
}

impl Operation {
    /// Who may do this may do the other, too, if it is *allowed*; nothing is denied along with another.
    pub fn implies(self, other: Self) -> bool {
        match other {
            _ if self == Self::All || self == other => true,
            Self::Describe => matches!(self, Self::Read | Self::Write | Self::Delete | Self::Alter),
            Self::DescribeConfigs => self == Self::AlterConfigs,
            _ => false,
        }
    }
}

impl ResourceType {
    /// What can be done with one (Kafka `AclEntry.supportedOperations`).
    pub fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe, DescribeConfigs,
            DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
        };
        match self {
            Self::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            Self::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::Cluster => &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite],
            Self::TransactionalId => &[Write, Describe, TwoPhaseCommit],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}

/// Which resources an access control list is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclPattern {
    pub resource: ResourceType,
    pub pattern: PatternType,
    /// Never empty.
    pub name: String,
}

/// From where somebody comes: everywhere, one address, or, beyond Kafka, a range of them (`10.0.0.0/8`).
#[derive(Clone, Debug)]
pub struct AclHost {
    text: String,
    range: Option<(IpAddr, u8)>,
}

/// A range that no addresses are in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Host '{0}' is no range of addresses: ADDRESS/BITS is expected, like 10.0.0.0/8")]
pub struct HostError(String);

impl AclHost {
    /// What is no address is taken, as by Kafka, and is nobody's host.
    pub fn new(text: &str) -> Result<Self, HostError> {
        let error = || HostError(text.to_owned());
        let range = match text.split_once('/') {
            None => text.parse::<IpAddr>().ok().map(|address| (address.to_canonical(), 128)),
            Some((address, bits)) => {
                let address: IpAddr = address.parse().map_err(|_| error())?;
                let is_plain = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
                let bits: u8 = bits.parse().ok().filter(|_| is_plain).ok_or_else(error)?;
                let most = if address.is_ipv4() { 32 } else { 128 };
                if bits > most {
                    return Err(error());
                }
                Some((address, bits))
            }
        };
        Ok(Self { text: text.to_owned(), range })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a client at this address comes from here.
    pub fn has(&self, client: IpAddr) -> bool {
        if self.text == WILDCARD {
            return true;
        }
        let same_head = |one: u128, other: u128, width: u32, bits: u8| {
            let rest = width.saturating_sub(u32::from(bits));
            one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
        };
        match (self.range, client.to_canonical()) {
            (Some((IpAddr::V4(one), bits)), IpAddr::V4(other)) => {
                same_head(u32::from(one).into(), u32::from(other).into(), 32, bits)
            }
            (Some((IpAddr::V6(one), bits)), IpAddr::V6(other)) => same_head(one.into(), other.into(), 128, bits),
            _ => false,
        }
    }
}

impl PartialEq for AclHost {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for AclHost {}

impl PartialOrd for AclHost {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AclHost {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

/// Who may, or may not, do what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclEntry {
    /// `User:alice`; `User:*` is everyone.
    pub principal: String,
    pub host: AclHost,
    pub operation: Operation,
    pub permission: Permission,
}

/// One access control list, whole: there are no two alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub pattern: AclPattern,
    pub entry: AclEntry,
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern: AclPattern { resource, pattern, name }, entry } = self;
        let AclEntry { principal, host, operation, permission } = entry;
        write!(f, "{permission} {principal} from {} {operation} on {resource}:{pattern}:{name}", host.as_str())
    }
}

/// How a filter takes the names of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternFilter {
    /// Patterns of this very name, of either type.
    Any,
    /// Patterns that stand for a resource of this name.
    Match,
    Is(PatternType),
}

/// Picks access control lists; what is `None` may be anything (Kafka `AclBindingFilter`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFilter {
    pub resource: Option<ResourceType>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

impl AclFilter {
    pub fn takes_pattern(&self, of: &AclPattern) -> bool {
        let is_of_type = match self.pattern {
            PatternFilter::Is(pattern) => pattern == of.pattern,
            PatternFilter::Any | PatternFilter::Match => true,
        };
        let is_named = self.name.as_deref().is_none_or(|name| match (self.pattern, of.pattern) {
            (PatternFilter::Match, PatternType::Literal) => of.name == name || of.name == WILDCARD,
            (PatternFilter::Match, PatternType::Prefixed) => name.starts_with(&of.name),
            _ => of.name == name,
        });
        is_of_type && is_named && self.resource.is_none_or(|resource| resource == of.resource)
    }

    pub fn takes_entry(&self, of: &AclEntry) -> bool {
        self.principal.as_ref().is_none_or(|principal| *principal == of.principal)
            && self.host.as_ref().is_none_or(|host| *host == of.host.text)
            && self.operation.is_none_or(|operation| operation == of.operation)
            && self.permission.is_none_or(|permission| permission == of.permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_and_ranges() {
        let has = |host: &str, client: &str| AclHost::new(host).map(|host| host.has(client.parse().expect("address")));
        for (host, client, expected) in [
            ("*", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("0:0:0:0:0:0:0:1", "::1", true),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
            ("client.example.com", "10.1.2.3", false),
            ("", "10.1.2.3", false),
        ] {
            assert_eq!(has(host, client), Ok(expected), "{host} {client}");
        }
        for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0/8", "a/8", "10.0.0.0/8/8"] {
            assert_eq!(has(bad, "::1"), Err(HostError(bad.into())));
        }
    }

    /// The cases of Kafka's `ResourcePatternFilterTest`.
    #[test]
    fn filters_pick_patterns_as_kafka_does() {
        let filter = |pattern, name: Option<&str>| AclFilter {
            resource: None,
            pattern,
            name: name.map(Into::into),
            principal: None,
            host: None,
            operation: None,
            permission: None,
        };
        let takes = |filter: &AclFilter, pattern, name: &str| {
            filter.takes_pattern(&AclPattern { resource: ResourceType::Topic, pattern, name: name.into() })
        };
        let (literal, prefixed) = (PatternType::Literal, PatternType::Prefixed);
        for (filter, pattern, name, expected) in [
            (filter(PatternFilter::Any, None), prefixed, "Name", true),
            (filter(PatternFilter::Any, Some("Name")), prefixed, "Name", true),
            (filter(PatternFilter::Any, Some("Name")), literal, "*", false),
            (filter(PatternFilter::Match, Some("Name")), literal, "*", true),
            (filter(PatternFilter::Match, Some("Name")), literal, "Name", true),
            (filter(PatternFilter::Match, Some("Name")), literal, "Nam", false),
            (filter(PatternFilter::Match, Some("NameTail")), prefixed, "Name", true),
            (filter(PatternFilter::Match, Some("Na")), prefixed, "Name", false),
            (filter(PatternFilter::Is(literal), Some("*")), literal, "*", true),
            (filter(PatternFilter::Is(literal), Some("*")), literal, "Name", false),
            (filter(PatternFilter::Is(prefixed), None), literal, "Name", false),
            (filter(PatternFilter::Is(prefixed), Some("Name")), prefixed, "Name", true),
            (filter(PatternFilter::Is(prefixed), Some("NameTail")), prefixed, "Name", false),
        ] {
            assert_eq!(takes(&filter, pattern, name), expected, "{filter:?} {pattern} {name}");
        }
        let of_groups = AclFilter { resource: Some(ResourceType::Group), ..filter(PatternFilter::Any, None) };
        assert!(!takes(&of_groups, literal, "Name"));
    }

    #[test]
    fn some_operations_come_with_others() {
        use Operation::{All, Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
        for operation in [All, Read, Write, Delete, Alter, Describe] {
            assert!(operation.implies(Describe), "{operation}");
        }
        assert!(AlterConfigs.implies(DescribeConfigs) && All.implies(Read));
        for (one, other) in [(Create, Describe), (Describe, Read), (Alter, AlterConfigs), (Read, DescribeConfigs)] {
            assert!(!one.implies(other), "{one} {other}");
        }
    }
}
