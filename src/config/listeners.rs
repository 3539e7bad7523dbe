//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`: where clients are served, and under
//! which address they are told to come back.

use std::collections::BTreeMap;
use std::fmt;

/// How a listener's connections are secured (`org.apache.kafka.common.security.auth.SecurityProtocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's names, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Some(Self::Plaintext),
            "SSL" => Some(Self::Ssl),
            "SASL_PLAINTEXT" => Some(Self::SaslPlaintext),
            "SASL_SSL" => Some(Self::SaslSsl),
            _ => None,
        }
    }

    /// Kafka's number of it (`SecurityProtocol.id`).
    pub fn number(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    pub fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

/// Host and port as configured. An empty host binds to every address. Port 0 lets the system choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// `host:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if !host.chars().all(legal) {
            return None;
        }
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One listener, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka keeps it.
    pub name: String,
    pub protocol: SecurityProtocol,
    pub bind: HostPort,
    /// What Metadata tells clients of this listener. Port 0 stands for the port that was bound.
    pub advertised: HostPort,
}

/// What is wrong: the key to blame, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerError {
    pub key: &'static str,
    pub value: String,
    pub allowed: String,
}

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const PROTOCOL_MAP: &str = "listener.security.protocol.map";

/// Kafka's rules (`SocketServerConfigs`, `KafkaConfig.validateValues`): names and ports once each, a protocol for
/// every name, an advertised address that a client can reach. Names in `skipped` are KRaft's controller listeners:
/// they are left out.
///
/// `host_name` stands in for an advertised address that nobody gave when a listener binds to every address.
pub fn parse_listeners(
    listeners: &str,
    advertised: Option<&str>,
    protocol_map: &str,
    skipped: &[String],
    host_name: &str,
) -> Result<Vec<Listener>, ListenerError> {
    let protocols = parse_protocols(protocol_map)?;
    let is_skipped = |name: &str| skipped.iter().any(|s| s.eq_ignore_ascii_case(name));
    let mut bound = parse_endpoints(LISTENERS, listeners)?;
    bound.retain(|(name, _)| !is_skipped(name));
    let mut told = advertised.map(|text| parse_endpoints(ADVERTISED, text)).transpose()?.unwrap_or_default();
    told.retain(|(name, _)| !is_skipped(name));
    if bound.is_empty() {
        return Err(error(LISTENERS, listeners, "at least one NAME://HOST:PORT"));
    }
    check_ports(listeners, &bound)?;
    if let Some((name, _)) = told.iter().find(|(name, _)| !bound.iter().any(|(known, _)| known == name)) {
        return Err(error(ADVERTISED, name, "only names that stand in listeners"));
    }
    bound
        .into_iter()
        .map(|(name, bind)| {
            let protocol = protocols.get(&name).copied().ok_or_else(|| {
                error(PROTOCOL_MAP, protocol_map, &format!("an entry {name}:PROTOCOL for every name in listeners"))
            })?;
            let explicit = told.iter().find(|(known, _)| *known == name).map(|(_, told)| told.clone());
            let advertised = explicit.unwrap_or_else(|| reachable(&bind, host_name));
            if matches!(advertised.host.as_str(), "" | "0.0.0.0" | "::") {
                return Err(error(ADVERTISED, &advertised.to_string(), "an address that clients can connect to"));
            }
            Ok(Listener { name, protocol, bind, advertised })
        })
        .collect()
}

/// What clients of a listener are told when `advertised.listeners` does not say.
fn reachable(bind: &HostPort, host_name: &str) -> HostPort {
    match bind.host.as_str() {
        "" | "0.0.0.0" | "::" => HostPort { host: host_name.to_owned(), port: bind.port },
        _ => bind.clone(),
    }
}

fn parse_protocols(map: &str) -> Result<BTreeMap<String, SecurityProtocol>, ListenerError> {
    let allowed = "NAME:PROTOCOL,... with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
    items(map)
        .map(|item| {
            let (name, protocol) = item.split_once(':').ok_or_else(|| error(PROTOCOL_MAP, item, allowed))?;
            let protocol =
                SecurityProtocol::parse(protocol.trim()).ok_or_else(|| error(PROTOCOL_MAP, item, allowed))?;
            Ok((name.trim().to_ascii_uppercase(), protocol))
        })
        .collect()
}

fn parse_endpoints(key: &'static str, list: &str) -> Result<Vec<(String, HostPort)>, ListenerError> {
    let mut endpoints: Vec<(String, HostPort)> = Vec::new();
    for item in items(list) {
        let parsed = item.split_once("://").and_then(|(name, address)| {
            let legal = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            legal.then_some((name.to_ascii_uppercase(), HostPort::parse(address)?))
        });
        let (name, address) = parsed.ok_or_else(|| error(key, item, "NAME://HOST:PORT,..."))?;
        if endpoints.iter().any(|(known, _)| *known == name) {
            return Err(error(key, list, &format!("every name once ({name} stands twice)")));
        }
        endpoints.push((name, address));
    }
    Ok(endpoints)
}

/// A port may stand twice only for two addresses (Kafka: IPv4 and IPv6); port 0 any number of times.
fn check_ports(listeners: &str, bound: &[(String, HostPort)]) -> Result<(), ListenerError> {
    for (index, (_, one)) in bound.iter().enumerate() {
        let twice = bound.iter().skip(index + 1).any(|(_, other)| one.port != 0 && other == one);
        if twice {
            return Err(error(LISTENERS, listeners, &format!("every address once ({one} stands twice)")));
        }
    }
    Ok(())
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn error(key: &'static str, value: &str, allowed: &str) -> ListenerError {
    ListenerError { key, value: value.to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's default map.
    const MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";

    fn parse(listeners: &str, advertised: Option<&str>, map: &str) -> Result<Vec<Listener>, ListenerError> {
        parse_listeners(listeners, advertised, map, &["CONTROLLER".to_owned()], "myhost")
    }

    #[test]
    fn each_listener_has_its_own_advertised_address() {
        let listeners = parse(
            "inside://127.0.0.1:9092,OUTSIDE://0.0.0.0:9093,CONTROLLER://:9094",
            Some("OUTSIDE://broker.example.com:443"),
            "INSIDE:PLAINTEXT,OUTSIDE:plaintext",
        )
        .unwrap();
        let told: Vec<String> = listeners.iter().map(|l| format!("{} {}", l.name, l.advertised)).collect();
        assert_eq!(told, ["INSIDE 127.0.0.1:9092", "OUTSIDE broker.example.com:443"]);
    }

    #[test]
    fn a_listener_on_every_address_advertises_the_host_name() {
        assert_eq!(parse("PLAINTEXT://:9092", None, MAP).unwrap()[0].advertised.to_string(), "myhost:9092");
        assert_eq!(parse("PLAINTEXT://[::1]:9092", None, MAP).unwrap()[0].advertised.to_string(), "[::1]:9092");
    }

    #[test]
    fn mistakes_name_their_key() {
        let key = |listeners, advertised, map| parse(listeners, advertised, map).unwrap_err().key;
        assert_eq!(key("", None, MAP), LISTENERS);
        assert_eq!(key("PLAINTEXT:9092", None, MAP), LISTENERS);
        assert_eq!(key("PLAINTEXT://a:70000", None, MAP), LISTENERS);
        assert_eq!(key("PLAINTEXT://a:1,PLAINTEXT://a:2", None, MAP), LISTENERS);
        assert_eq!(key("PLAINTEXT://a:1,SSL://a:1", None, MAP), LISTENERS);
        assert_eq!(key("INSIDE://a:1", None, MAP), PROTOCOL_MAP);
        assert_eq!(key("PLAINTEXT://a:1", None, "PLAINTEXT:TLS"), PROTOCOL_MAP);
        assert_eq!(key("PLAINTEXT://a:1", Some("OTHER://b:1"), MAP), ADVERTISED);
        assert_eq!(key("PLAINTEXT://a:1", Some("PLAINTEXT://0.0.0.0:1"), MAP), ADVERTISED);
    }
}
