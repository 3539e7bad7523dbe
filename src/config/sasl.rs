//! `sasl.*` of the listeners: who may log in how.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::config::{BrokerConfig, listener_key};
use millstream_core::security::{LoginModule, ScramMechanism};

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    Plain,
    Scram(ScramMechanism),
}

impl Mechanism {
    const ALL: [Self; 3] = [Self::Plain, Self::Scram(ScramMechanism::Sha256), Self::Scram(ScramMechanism::Sha512)];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(mechanism) => mechanism.name(),
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// Logins of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslListener {
    /// With the time after which a client has to log in again; zero: never.
    pub mechanisms: BTreeMap<Mechanism, Duration>,
    /// Users of PLAIN and their passwords out of the settings. Those with SCRAM credentials may use it as well.
    pub plain_users: BTreeMap<String, String>,
}

/// Logins of all listeners that ask for one, by name.
pub type SaslListeners = HashMap<String, Arc<SaslListener>>;

const MECHANISMS: &str = "sasl.enabled.mechanisms";
const JAAS: &str = "sasl.jaas.config";
const REAUTH: &str = "connections.max.reauth.ms";
const PLAIN_MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

impl SaslListener {
    /// The error is a key and what is allowed.
    pub(super) fn of(broker: &BrokerConfig, listener: &str) -> Result<Self, (String, String)> {
        let bad = |key: &str, allowed: &str| (listener_key(listener, key), allowed.to_owned());
        let names = broker.of_listener(listener, MECHANISMS).unwrap_or_default();
        let mut mechanisms = BTreeMap::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let mechanism = Mechanism::of_name(name)
                .ok_or_else(|| bad(MECHANISMS, "some of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"))?;
            let reauth = of_mechanism(broker, listener, mechanism, REAUTH).unwrap_or("0");
            let reauth = reauth.parse::<i64>().map_err(|_| bad(REAUTH, "a whole number of milliseconds"))?;
            mechanisms.insert(mechanism, Duration::from_millis(u64::try_from(reauth).unwrap_or(0)));
        }
        if mechanisms.is_empty() {
            return Err(bad(MECHANISMS, "at least one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"));
        }
        let mut plain_users = BTreeMap::new();
        if let Some(text) = of_mechanism(broker, listener, Mechanism::Plain, JAAS)
            && mechanisms.contains_key(&Mechanism::Plain)
        {
            let module = LoginModule::parse(text).map_err(|e| bad(JAAS, &e.to_string()))?;
            if module.class != PLAIN_MODULE {
                return Err(bad(
                    JAAS,
                    &format!("for PLAIN, a {PLAIN_MODULE} with user_NAME=\"PASSWORD\" for each user"),
                ));
            }
            plain_users = module.plain_users();
        }
        Ok(Self { mechanisms, plain_users })
    }
}

/// A setting of one mechanism of a listener, else of the listener, else of all.
fn of_mechanism<'a>(broker: &'a BrokerConfig, listener: &str, mechanism: Mechanism, key: &str) -> Option<&'a str> {
    let own = format!("{}.{key}", mechanism.name().to_ascii_lowercase());
    broker.raw(&listener_key(listener, &own)).map(str::trim).or_else(|| broker.of_listener(listener, key))
}

#[cfg(test)]
mod tests {
    use millstream_core::config::ConfigMap;

    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<SaslListener, (String, String)> {
        let map: ConfigMap = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        SaslListener::of(&BrokerConfig::new(map).unwrap(), "OUT")
    }

    #[test]
    fn a_listener_without_settings_takes_scram() {
        let names: Vec<&str> = of(&[]).unwrap().mechanisms.keys().map(|mechanism| mechanism.name()).collect();
        assert_eq!(names, ["SCRAM-SHA-256", "SCRAM-SHA-512"]);
    }

    #[test]
    fn settings_of_a_mechanism_hold_over_those_of_the_listener_and_these_over_the_rest() {
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"b\";";
        let listener = of(&[
            ("sasl.enabled.mechanisms", "GSSAPI"),
            ("listener.name.out.sasl.enabled.mechanisms", "PLAIN, SCRAM-SHA-512"),
            ("listener.name.out.plain.sasl.jaas.config", jaas),
            ("connections.max.reauth.ms", "5"),
            ("listener.name.out.plain.connections.max.reauth.ms", "7"),
        ])
        .unwrap();
        let told: Vec<_> = listener.mechanisms.iter().map(|(m, reauth)| (m.name(), reauth.as_millis())).collect();
        assert_eq!(told, [("PLAIN", 7), ("SCRAM-SHA-512", 5)]);
        assert_eq!(listener.plain_users.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let key = |set: &[(&str, &str)]| of(set).unwrap_err().0;
        assert_eq!(key(&[("sasl.enabled.mechanisms", "GSSAPI")]), "listener.name.out.sasl.enabled.mechanisms");
        assert_eq!(key(&[("sasl.enabled.mechanisms", "")]), "listener.name.out.sasl.enabled.mechanisms");
        let plain = ("sasl.enabled.mechanisms", "PLAIN");
        assert_eq!(key(&[plain, ("sasl.jaas.config", "x")]), "listener.name.out.sasl.jaas.config");
        assert_eq!(key(&[plain, ("sasl.jaas.config", "a.B required;")]), "listener.name.out.sasl.jaas.config");
    }
}
