//! What can be set on the network front end.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::limits::ConnectionLimits;
use crate::config::{Config, ConfigError, Source};

/// Settings of the listeners and connections. Names and defaults are Kafka's where it has the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// `socket.request.max.bytes`, bytes, default 100 MiB. A longer request closes its connection. Below
    /// `message.max.bytes`: producers fail; large: one request may take so much memory.
    pub frame_bytes_max: usize,
    /// `request.memory.bytes` (ours; Kafka's `queued.max.request.bytes` has no limit by default), bytes, default
    /// 256 MiB, of all requests that are not answered yet. Small: large requests wait for each other.
    pub request_memory_bytes: usize,
    /// `connections.max.idle.ms`, default 10 minutes; `None` (negative): for ever. Short: clients connect again and
    /// again; long: dead clients hold descriptors.
    pub idle_max: Option<Duration>,
    /// `socket.send.buffer.bytes`, bytes; `None` (-1, or not set): the system sizes it by itself, which is faster than
    /// Kafka's fixed 100 KiB.
    pub send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`, likewise.
    pub receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`, default 1024 here (Kafka 50): connections which the system accepts ahead of us.
    pub backlog: u32,
    pub limits: ConnectionLimits,
}

/// Connections that the system may hold ready for each listener when nothing is set.
const BACKLOG: u32 = 1024;

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 100 << 20,
            request_memory_bytes: 256 << 20,
            idle_max: Some(Duration::from_secs(600)),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            backlog: BACKLOG,
            limits: ConnectionLimits::default(),
        }
    }
}

impl NetConfig {
    /// From the node's settings. Host names in `max.connections.per.ip.overrides` are looked up.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let none = ConnectionLimits::default();
        let set = |key: &str| config.settings().contains_key(key).then(|| config.limit(key)).flatten();
        let size = |key: &str| config.limit(key).and_then(|n| usize::try_from(n).ok());
        let buffer = |key: &str| set(key).and_then(|n| u32::try_from(n).ok());
        let mut by_listener = HashMap::new();
        for listener in &config.listeners {
            let key = format!("listener.name.{}.max.connections", listener.name.to_ascii_lowercase());
            if config.settings().contains_key(&key) {
                let limit = size(&key).ok_or_else(|| bad(config, &key, "a number, at least 0"))?;
                by_listener.insert(listener.name.clone(), limit);
            }
        }
        let defaults = Self::default();
        Ok(Self {
            frame_bytes_max: size("socket.request.max.bytes").unwrap_or(defaults.frame_bytes_max),
            request_memory_bytes: size("request.memory.bytes").unwrap_or(defaults.request_memory_bytes),
            idle_max: config.limit("connections.max.idle.ms").map(Duration::from_millis),
            send_buffer_bytes: buffer("socket.send.buffer.bytes"),
            receive_buffer_bytes: buffer("socket.receive.buffer.bytes"),
            backlog: buffer("socket.listen.backlog.size").unwrap_or(BACKLOG),
            limits: ConnectionLimits {
                total: size("max.connections").unwrap_or(none.total),
                by_listener,
                per_ip: size("max.connections.per.ip").unwrap_or(none.per_ip),
                overrides: overrides(config)?,
            },
        })
    }
}

/// `host:limit,...`, where a host is a name or an address.
fn overrides(config: &Config) -> Result<HashMap<IpAddr, usize>, ConfigError> {
    const KEY: &str = "max.connections.per.ip.overrides";
    let mut overrides = HashMap::new();
    for item in config.list(KEY) {
        let parsed = item.rsplit_once(':').and_then(|(host, limit)| Some((host, limit.trim().parse().ok()?)));
        let (host, limit) = parsed.ok_or_else(|| bad(config, KEY, "HOST:NUMBER,..."))?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, 0).to_socket_addrs().map_err(|_| bad(config, KEY, "hosts that can be looked up"))?;
        overrides.extend(addresses.map(|address| (address.ip().to_canonical(), limit)));
    }
    Ok(overrides)
}

fn bad(config: &Config, key: &str, allowed: &str) -> ConfigError {
    let setting = config.settings().get(key);
    ConfigError::BadValue {
        key: key.to_owned(),
        value: setting.map(|s| s.value.clone()).unwrap_or_default(),
        allowed: allowed.to_owned(),
        source_of: setting.map_or_else(|| Source::Flag("default".to_owned()), |s| s.source.clone()),
    }
}
