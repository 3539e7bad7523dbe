//! The tables of settings, read from the text files beside this one.
//!
//! The files are part of the program; a line that cannot be read is a mistake of ours and ends the first use, which
//! is a test.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Allowed, ConfigDef, ConfigType, UpdateMode};

/// A table with its index by name.
#[derive(Debug)]
pub struct Table {
    defs: Vec<ConfigDef>,
    by_name: HashMap<&'static str, usize>,
}

impl std::ops::Deref for Table {
    type Target = [ConfigDef];

    fn deref(&self) -> &[ConfigDef] {
        &self.defs
    }
}

impl Table {
    fn get(&'static self, name: &str) -> Option<&'static ConfigDef> {
        self.by_name.get(name).map(|&at| &self.defs[at])
    }
}

pub static BROKER_CONFIGS: LazyLock<Table> = LazyLock::new(|| read(include_str!("tables/broker.txt"), true));
pub static TOPIC_CONFIGS: LazyLock<Table> = LazyLock::new(|| read(include_str!("tables/topic.txt"), false));
pub static GROUP_CONFIGS: LazyLock<Table> = LazyLock::new(|| read(include_str!("tables/group.txt"), false));
pub static CLIENT_METRICS_CONFIGS: LazyLock<Table> =
    LazyLock::new(|| read(include_str!("tables/client_metrics.txt"), false));

/// All settings of a broker, by name.
pub fn broker_configs() -> &'static [ConfigDef] {
    &BROKER_CONFIGS
}

pub fn broker_config(name: &str) -> Option<&'static ConfigDef> {
    BROKER_CONFIGS.get(name)
}

pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.get(name)
}

pub fn group_config(name: &str) -> Option<&'static ConfigDef> {
    GROUP_CONFIGS.get(name)
}

pub fn client_metrics_config(name: &str) -> Option<&'static ConfigDef> {
    CLIENT_METRICS_CONFIGS.get(name)
}

fn read(text: &'static str, with_update_mode: bool) -> Table {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut defs: Vec<ConfigDef> = lines.map(|line| read_line(line, with_update_mode)).collect();
    defs.sort_by_key(|def| def.name);
    let by_name: HashMap<_, _> = defs.iter().enumerate().map(|(at, def)| (def.name, at)).collect();
    assert_eq!(by_name.len(), defs.len(), "a setting stands twice in a table");
    Table { defs, by_name }
}

fn read_line(line: &'static str, with_update_mode: bool) -> ConfigDef {
    let mut columns = line.split('|').map(str::trim);
    let mut next = || columns.next().unwrap_or_else(|| panic!("too few columns: {line}"));
    let (name, kind, default, allowed) = (next(), next(), next(), next());
    let update = match if with_update_mode { next() } else { "cluster" } {
        "fixed" => UpdateMode::Fixed,
        "broker" => UpdateMode::Broker,
        "cluster" => UpdateMode::Cluster,
        other => panic!("{name}: update mode {other}"),
    };
    let flags = next();
    let documentation = next();
    let def = ConfigDef {
        name,
        kind: read_type(kind),
        default: (default != "null").then_some(default),
        allowed: read_allowed(allowed),
        update,
        used: flags.split(' ').any(|flag| flag == "used"),
        hidden: flags.split(' ').any(|flag| flag == "hidden"),
        documentation,
    };
    if let Some(Err(e)) = def.default.map(|value| def.parse(value)) {
        panic!("default of {name}: {e}");
    }
    def
}

fn read_type(word: &str) -> ConfigType {
    match word {
        "boolean" => ConfigType::Boolean,
        "string" => ConfigType::String,
        "int" => ConfigType::Int,
        "short" => ConfigType::Short,
        "long" => ConfigType::Long,
        "double" => ConfigType::Double,
        "list" => ConfigType::List,
        "class" => ConfigType::Class,
        "password" => ConfigType::Password,
        other => panic!("type {other}"),
    }
}

fn read_allowed(words: &'static str) -> Allowed {
    if let Some(min) = words.strip_prefix(">=") {
        return Allowed::AtLeast(min.parse().expect("a number"));
    }
    if let Some((min, max)) = words.split_once("..") {
        return Allowed::Between(min.parse().expect("a number"), max.parse().expect("a number"));
    }
    let of = |words: &'static str| words.split(' ').collect();
    match words.split_once(' ') {
        Some(("nonempty", rest)) => return Allowed::NonEmptyOf(of(rest)),
        Some(("anycase", rest)) => return Allowed::OneOfAnyCase(of(rest)),
        Some(_) => return Allowed::OneOf(of(words)),
        None => {}
    }
    match words {
        "-" => Allowed::Any,
        "nonempty" => Allowed::NonEmpty,
        "gzip" => Allowed::GzipLevel,
        "address" => Allowed::Address,
        "addresses" => Allowed::Addresses,
        "replicas" => Allowed::ThrottledReplicas,
        "reset" => Allowed::OffsetReset,
        other => panic!("allowed values {other}"),
    }
}
