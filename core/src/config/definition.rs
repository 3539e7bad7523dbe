//! One setting: its type, default, allowed values, and when it may change.

use super::ConfigError;

/// Type of a setting. The numbers are those of DescribeConfigs (`DescribeConfigsResponse.ConfigType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Unknown = 0,
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl ConfigType {
    pub fn to_wire(self) -> i8 {
        self as i8
    }

    /// Values that are never shown. A setting nobody knows may be a secret too (Kafka `KafkaConfig.maybeSensitive`).
    pub fn is_sensitive(self) -> bool {
        matches!(self, Self::Password | Self::Unknown)
    }

    /// Kafka's name of the type, as error messages have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// When a broker's setting may change (Kafka `DynamicBrokerConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateMode {
    /// At the start only.
    Fixed,
    /// While running, for one broker.
    Broker,
    /// While running, for one broker or for all of them.
    Cluster,
}

/// Which values of its type a setting may have.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowed {
    Any,
    AtLeast(i64),
    Between(f64, f64),
    /// Of a list: each item.
    OneOf(Vec<&'static str>),
    /// Upper and lower case do not matter; the words are in upper case.
    OneOfAnyCase(Vec<&'static str>),
    NonEmpty,
    /// A list that is not empty, each item one of these.
    NonEmptyOf(Vec<&'static str>),
    /// -1, or 1 to 9.
    GzipLevel,
    /// `HOST:PORT`.
    Address,
    /// A list of `HOST:PORT`.
    Addresses,
    /// `PARTITION:BROKER,...`, or `*` (Kafka `ThrottledReplicaListValidator`).
    ThrottledReplicas,
    /// `earliest`, `latest`, or `by_duration:` and an ISO-8601 duration (Kafka `ShareGroupAutoOffsetResetStrategy`).
    OffsetReset,
}

/// A line of the tables.
#[derive(Clone, Debug)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: ConfigType,
    /// As DescribeConfigs shows it. `None`: there is none.
    pub default: Option<&'static str>,
    pub allowed: Allowed,
    /// Of a broker's settings; the others may always change.
    pub update: UpdateMode,
    /// Whether it has its effect here. If not, it is accepted and kept.
    pub used: bool,
    /// Described only when it is set (Kafka's internal configs).
    pub hidden: bool,
    /// A sentence for people.
    pub documentation: &'static str,
}

impl ConfigDef {
    /// Whether `value` may be given; the error is Kafka's.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        self.parse(value).map(|_| ())
    }

    pub fn is_sensitive(&self) -> bool {
        self.kind.is_sensitive()
    }

    /// What may be given, for people: `a whole number of 32 bits, at least 1`.
    pub fn allowed_text(&self) -> String {
        let words = |words: &[&str]| words.join(", ");
        let range = match &self.allowed {
            Allowed::Any => None,
            Allowed::AtLeast(min) => Some(format!("at least {min}")),
            Allowed::Between(min, max) => Some(format!("from {min} to {max}")),
            Allowed::OneOf(of) | Allowed::OneOfAnyCase(of) => Some(format!("out of: {}", words(of))),
            Allowed::NonEmpty => Some("not empty".to_owned()),
            Allowed::NonEmptyOf(of) => Some(format!("not empty, out of: {}", words(of))),
            Allowed::GzipLevel => Some("from 1 to 9, or -1".to_owned()),
            Allowed::Address | Allowed::Addresses => Some("of HOST:PORT".to_owned()),
            Allowed::ThrottledReplicas => Some("of PARTITION:BROKER, or *".to_owned()),
            Allowed::OffsetReset => Some("earliest, latest or by_duration:PnDTnHnMnS".to_owned()),
        };
        let kind = match self.kind {
            ConfigType::Boolean => "true or false",
            ConfigType::Int => "a whole number of 32 bits",
            ConfigType::Short => "a whole number of 16 bits",
            ConfigType::Long => "a whole number of 64 bits",
            ConfigType::Double => "a number",
            ConfigType::List => "a list, separated by commas",
            ConfigType::String | ConfigType::Class | ConfigType::Password | ConfigType::Unknown => "text",
        };
        match range {
            Some(range) => format!("{kind}, {range}"),
            None => kind.to_owned(),
        }
    }
}
