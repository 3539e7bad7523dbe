//! What can be set on the network front end.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use millstream_core::config::{BrokerConfig, listener_key};

use super::limits::ConnectionLimits;
use crate::config::{Config, ConfigError};

/// Settings of the listeners and connections. Names and defaults are Kafka's where it has the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// `socket.request.max.bytes`, bytes, default 100 MiB. A longer request closes its connection. Below
    /// `message.max.bytes`: producers fail; large: one request may take so much memory.
    pub frame_bytes_max: usize,
    /// `request.memory.bytes` (ours; Kafka's `queued.max.request.bytes` has no limit by default), bytes, default
    /// 256 MiB, of all requests that are not answered yet, and as much again of replies that wait behind others. Small:
    /// large requests wait for each other.
    pub request_memory_bytes: usize,
    /// `connections.max.idle.ms`, default 10 minutes; `None` (negative): for ever. Short: clients connect again and
    /// again; long: dead clients hold descriptors.
    pub idle_max: Option<Duration>,
    /// `socket.send.buffer.bytes`, bytes; `None` (-1, or not set): the system sizes it by itself, as far clients need it.
    pub send_buffer_bytes: Option<u32>,
    /// The same for clients on this machine: not set, it is Kafka's 100 KiB. What the system lets them have, megabytes, costs a
    /// half more time for each fetched byte (docs/BENCHMARKS.md).
    pub local_send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`, likewise.
    pub receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`, 1024 when it is not set (Kafka: 50): connections that the system accepts ahead of
    /// us. Small: clients that come all at once wait a second for their next attempt.
    pub backlog: u32,
    pub limits: ConnectionLimits,
    /// Not a setting, 30 s: a request that holds memory which others may wait for is cut off when so long no 64 KiB of
    /// it arrive (and no eighth, of a larger one). Short: clients on bad lines are; long: few stalled clients hold up all large requests.
    pub stall_max: Duration,
    /// `sasl.server.max.receive.size`, bytes, default 512 KiB: the longest request of a client that has not logged in.
    pub login_frame_bytes_max: usize,
    /// Not a setting, 10 s: what a client may take from its first byte to the end of its login.
    pub login_max: Duration,
    /// Connections that there may be whatever `limits` says: three quarters of the process's descriptors, so that
    /// there are some left for files.
    pub ceiling: usize,
}

/// Connections that the system may hold ready for each listener when nothing is set.
const BACKLOG: u32 = 1024;

const STALL_MAX: Duration = Duration::from_secs(30);

const LOGIN_MAX: Duration = Duration::from_secs(10);

impl NetConfig {
    /// From the node's settings. Host names in `max.connections.per.ip.overrides` are looked up. `descriptors`: how
    /// many the process may open.
    pub fn of(config: &Config, descriptors: usize) -> Result<Self, ConfigError> {
        let broker = &config.broker;
        let size = |key: &str| usize::try_from(broker.integer(key)).unwrap_or(usize::MAX);
        let if_set = |key: &str| broker.is_set(key).then(|| u32::try_from(broker.integer(key)).ok()).flatten();
        let limits = ConnectionLimits::of(broker).map_err(|(key, allowed)| config.bad_value(&key, allowed))?;
        Ok(Self {
            frame_bytes_max: size("socket.request.max.bytes"),
            request_memory_bytes: size("request.memory.bytes"),
            idle_max: u64::try_from(broker.integer("connections.max.idle.ms")).ok().map(Duration::from_millis),
            send_buffer_bytes: if_set(SEND_BUFFER),
            local_send_buffer_bytes: match broker.is_set(SEND_BUFFER) {
                true => if_set(SEND_BUFFER),
                false => u32::try_from(broker.integer(SEND_BUFFER)).ok(),
            },
            receive_buffer_bytes: if_set("socket.receive.buffer.bytes"),
            backlog: if_set("socket.listen.backlog.size").unwrap_or(BACKLOG),
            limits,
            stall_max: STALL_MAX,
            login_frame_bytes_max: size("sasl.server.max.receive.size"),
            login_max: LOGIN_MAX,
            ceiling: descriptors / 4 * 3,
        })
    }
}

impl ConnectionLimits {
    /// From the settings in force. The error is a key and what is allowed. Host names are looked up.
    pub fn of(broker: &BrokerConfig) -> Result<Self, (String, &'static str)> {
        let count = |key: &str| usize::try_from(broker.integer(key)).unwrap_or_default();
        let of_listeners = |setting: &str| -> Result<HashMap<String, usize>, (String, &'static str)> {
            let mut limits = HashMap::new();
            let names = broker.list("listeners").iter().filter_map(|listener| listener.split_once("://"));
            for (name, _) in names {
                let key = listener_key(name, setting);
                if let Some(text) = broker.raw(&key) {
                    let limit = text.trim().parse().map_err(|_| (key, "a whole number, at least 0"))?;
                    limits.insert(name.to_ascii_uppercase(), limit);
                }
            }
            Ok(limits)
        };
        let overrides = broker.text(OVERRIDES).unwrap_or_default();
        Ok(Self {
            total: count("max.connections"),
            by_listener: of_listeners("max.connections")?,
            per_second_by_listener: of_listeners("max.connection.creation.rate")?,
            per_ip: count("max.connections.per.ip"),
            overrides: parse_overrides(overrides).map_err(|allowed| (OVERRIDES.to_owned(), allowed))?,
            per_second: count("max.connection.creation.rate").max(1),
        })
    }
}

const SEND_BUFFER: &str = "socket.send.buffer.bytes";

const OVERRIDES: &str = "max.connections.per.ip.overrides";

/// `host:limit,...`, where a host is a name or an address.
fn parse_overrides(text: &str) -> Result<HashMap<IpAddr, usize>, &'static str> {
    let mut overrides = HashMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let parsed = item.rsplit_once(':').and_then(|(host, limit)| Some((host, limit.trim().parse().ok()?)));
        let (host, limit) = parsed.ok_or("HOST:NUMBER,...")?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, 0).to_socket_addrs().map_err(|_| "HOST:NUMBER,... with hosts that can be looked up")?;
        overrides.extend(addresses.map(|address| (address.ip().to_canonical(), limit)));
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};

    const DESCRIPTORS: usize = 1_000;

    fn of(set: &[&str]) -> Result<NetConfig, ConfigError> {
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        NetConfig::of(&load(&Flags { set, ..Flags::default() }, [], "host").unwrap(), DESCRIPTORS)
    }

    #[test]
    fn defaults_are_kafkas_but_for_what_the_system_sizes_better() {
        let config = of(&[]).unwrap();
        assert_eq!(config.frame_bytes_max, 104_857_600);
        assert_eq!(config.idle_max, Some(Duration::from_secs(600)));
        assert_eq!((config.send_buffer_bytes, config.receive_buffer_bytes), (None, None));
        assert_eq!((config.limits, config.ceiling), (ConnectionLimits::default(), 750));
    }

    #[test]
    fn what_is_set_is_taken() {
        let config = of(&[
            "socket.send.buffer.bytes=5000",
            "socket.receive.buffer.bytes=-1",
            "connections.max.idle.ms=-1",
            "max.connections=9",
            "listener.name.plaintext.max.connections=7",
            "listener.name.plaintext.max.connection.creation.rate=5",
            "max.connections.per.ip.overrides=127.0.0.2:3, ::1:4",
        ])
        .unwrap();
        assert_eq!((config.send_buffer_bytes, config.receive_buffer_bytes), (Some(5_000), None));
        assert_eq!(config.idle_max, None);
        assert_eq!((config.limits.total, config.limits.by_listener["PLAINTEXT"]), (9, 7));
        assert_eq!(config.limits.per_second_by_listener["PLAINTEXT"], 5);
        assert_eq!(config.limits.overrides[&"127.0.0.2".parse::<IpAddr>().unwrap()], 3);
        assert_eq!(config.limits.overrides[&"::1".parse::<IpAddr>().unwrap()], 4);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let listener = of(&["listener.name.plaintext.max.connections=x"]).unwrap_err().to_string();
        assert!(listener.contains("listener.name.plaintext.max.connections=\"x\""), "{listener}");
        let host = of(&["max.connections.per.ip.overrides=no-such-host.invalid:3"]).unwrap_err().to_string();
        assert!(host.contains("no-such-host.invalid:3") && host.contains("looked up"), "{host}");
    }
}
