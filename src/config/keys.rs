//! The names of settings: which there are, how the environment spells them, and which one was probably meant.

use millstream_core::config::{broker_config, broker_configs};

pub(super) const ADMIN: &str = "admin.listener";
pub(super) const RPC: &str = "rpc.listener";
pub(super) const RPC_ADVERTISED: &str = "rpc.advertised";
pub(super) const SEEDS: &str = "seeds";

/// Settings of one listener, behind `listener.name.<name>.`: Kafka takes any key there.
const OF_LISTENER: &str = "listener.name.";

pub(super) const ENVIRONMENT_PREFIX: &str = "MILLSTREAM_";

/// Variables with our prefix that are no settings of a node.
const OTHER_VARIABLES: [&str; 2] = ["MILLSTREAM_BOOTSTRAP_USERS", "MILLSTREAM_BROKERS"];

/// In the table, or below a prefix under which Kafka takes anything.
pub(super) fn is_known(key: &str) -> bool {
    broker_config(key).is_some() || key.starts_with(OF_LISTENER)
}

/// Whether setting it changes anything.
pub(super) fn is_used(key: &str) -> bool {
    broker_config(key).is_none_or(|def| def.used)
}

/// Never shown, neither in the log nor in an error.
pub(super) fn is_secret(key: &str) -> bool {
    match broker_config(key) {
        Some(def) => def.is_sensitive(),
        None => key.contains("password") || key.contains("jaas"),
    }
}

/// What a value must be, when this one is not that.
pub(super) fn refuses(key: &str, value: &str) -> Option<String> {
    let def = broker_config(key)?;
    def.validate(value).is_err().then(|| def.allowed_text())
}

/// `log.segment.bytes` as `MILLSTREAM_LOG_SEGMENT_BYTES`.
fn environment_name(key: &str) -> String {
    let upper = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("{ENVIRONMENT_PREFIX}{}", upper.collect::<String>())
}

/// What a variable says about the settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Key(&'static str),
    /// Has our prefix and is for somebody else.
    Other,
    /// Has our prefix and no meaning.
    Unknown,
    NotOurs,
}

impl Variable {
    pub(super) fn of(name: &str) -> Self {
        if !name.starts_with(ENVIRONMENT_PREFIX) {
            return Self::NotOurs;
        }
        match broker_configs().iter().find(|def| environment_name(def.name) == name) {
            Some(def) => Self::Key(def.name),
            None if OTHER_VARIABLES.contains(&name) => Self::Other,
            None => Self::Unknown,
        }
    }
}

/// The known key that differs least from an unknown one, when it is likely that it was meant.
pub(super) fn suggestion(unknown: &str) -> Option<&'static str> {
    let (distance, name) = broker_configs().iter().map(|def| (distance(unknown, def.name), def.name)).min()?;
    (distance <= 2).then_some(name)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(ca != *cb)).min(left + 1).min(above + 1);
            diagonal = above;
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_a_key() {
        assert_eq!(Variable::of("MILLSTREAM_LOG_SEGMENT_BYTES"), Variable::Key("log.segment.bytes"));
        assert_eq!(Variable::of("MILLSTREAM_BROKERS"), Variable::Other);
        assert_eq!(Variable::of("MILLSTREAM_LOG_SEGMENT_BITES"), Variable::Unknown);
        assert_eq!(Variable::of("PATH"), Variable::NotOurs);
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(suggestion("num.partition"), Some("num.partitions"));
        assert_eq!(suggestion("log.segmnet.bytes"), Some("log.segment.bytes"));
        assert_eq!(suggestion("completely.different"), None);
    }
}
