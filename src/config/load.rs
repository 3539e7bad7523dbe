//! Merging: flags win over the environment, which wins over the file, which wins over the defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::config::{self as core_config, BrokerConfig, ConfigMap, broker_config};

use super::keys::{self, Variable};
use super::listeners::{self, Listener};
use super::{
    AccessRules, Config, ConfigError, FirstUsers, HostPort, RpcSettings, SaslListener, SaslListeners, Source,
    properties, yaml,
};

/// What stands on the command line of `millstream start`.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub node_id: Option<String>,
    pub data: Option<String>,
    pub listen: Option<String>,
    pub admin: Option<String>,
    pub rpc: Option<String>,
    pub seeds: Option<String>,
    /// `KEY=VALUE`, each. The last one of a key holds, and holds over the flag of the same meaning.
    pub set: Vec<String>,
}

/// Merges and checks everything. `environment` is that of the process (an argument for the tests' sake); `host_name`
/// is what a listener on every address advertises.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
    host_name: &str,
) -> Result<Config, ConfigError> {
    let mut merge = Merge::default();
    if let Some(path) = &flags.config {
        merge.file(path)?;
    }
    merge.environment(environment)?;
    merge.flags(flags)?;
    merge.finish(host_name)
}

#[derive(Default)]
struct Merge {
    given: ConfigMap,
    sources: BTreeMap<String, Source>,
    unknown: Vec<String>,
    first_users: FirstUsers,
}

impl Merge {
    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let failed = |text: String| ConfigError::File { path: path.to_owned(), text };
        let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
        // Java reads properties as Latin-1; a file that is no UTF-8 can only be that.
        let text = String::from_utf8(bytes).unwrap_or_else(|e| e.into_bytes().into_iter().map(char::from).collect());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => {
                let source = Source::File { path: path.to_owned(), line: None };
                for (key, value) in yaml::parse(&text).map_err(|e| failed(e.to_string()))? {
                    self.set(&key, value, source.clone())?;
                }
            }
            Some("properties") => {
                for property in properties::parse(&text).map_err(|e| failed(e.to_string()))? {
                    let source = Source::File { path: path.to_owned(), line: Some(property.line) };
                    match keys::is_known(&property.key) {
                        true => self.set(&property.key, property.value, source)?,
                        false => self.unknown.push(property.key),
                    }
                }
            }
            _ => return Err(failed("the name must end in .yaml, .yml or .properties".to_owned())),
        }
        Ok(())
    }

    /// A variable with our prefix that names no key is said in a warning: it may be meant for something else.
    fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            match Variable::of(&variable) {
                Variable::Key(key) => self.replace(key, value, Source::Environment(variable))?,
                Variable::Unknown => self.unknown.push(variable),
                Variable::Other if variable == FirstUsers::VARIABLE => {
                    let users = FirstUsers::parse(&value).ok_or_else(|| ConfigError::BadValue {
                        key: variable.clone(),
                        value: "[hidden]".to_owned(),
                        allowed: "NAME:PASSWORD,...".to_owned(),
                        source_of: Source::Environment(variable.clone()),
                    })?;
                    self.first_users = users;
                }
                Variable::Other | Variable::NotOurs => {}
            }
        }
        Ok(())
    }

    fn flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        let listen =
            flags.listen.as_ref().map(|l| if l.contains("://") { l.clone() } else { format!("PLAINTEXT://{l}") });
        let named = [
            ("--node-id", "node.id", &flags.node_id),
            ("--data", "log.dirs", &flags.data),
            ("--listen", "listeners", &listen),
            ("--admin", keys::ADMIN, &flags.admin),
            ("--rpc", keys::RPC, &flags.rpc),
            ("--seeds", keys::SEEDS, &flags.seeds),
        ];
        for (flag, key, value) in named {
            if let Some(value) = value {
                self.replace(key, value.clone(), Source::Flag(flag))?;
            }
        }
        for given in &flags.set {
            let pair = given.split_once('=').filter(|(key, _)| !key.trim().is_empty());
            let (key, value) = pair.ok_or_else(|| ConfigError::BadSet { given: format!("{given:?}") })?;
            self.replace(key.trim(), value.to_owned(), Source::Flag("--set"))?;
        }
        Ok(())
    }

    /// Sets a key over what stands in a lower layer, under whatever name it stands there.
    fn replace(&mut self, key: &str, value: String, source: Source) -> Result<(), ConfigError> {
        let lower: &[&str] = match key {
            "node.id" => &["broker.id"],
            "broker.id" => &["node.id"],
            "log.dirs" => &["log.dir"],
            "log.dir" => &["log.dirs"],
            // The advertised addresses of a file are those of its listeners.
            "listeners" => &["advertised.listeners"],
            "rpc.listener" => &["rpc.advertised"],
            _ => &[],
        };
        let is_same_layer = |other: &Source| match (other, &source) {
            (Source::Flag(_), Source::Flag(_)) | (Source::Environment(_), Source::Environment(_)) => true,
            (Source::Default | Source::Flag(_) | Source::Environment(_) | Source::File { .. }, _) => false,
        };
        for name in lower {
            if self.sources.get(*name).is_some_and(|other| !is_same_layer(other)) {
                self.given.remove(*name);
                self.sources.remove(*name);
            }
        }
        self.set(key, value, source)
    }

    fn set(&mut self, key: &str, value: String, source: Source) -> Result<(), ConfigError> {
        if !keys::is_known(key) {
            let suggestion = keys::suggestion(key);
            return Err(ConfigError::UnknownKey { key: format!("{key:?}"), source_of: source, suggestion });
        }
        if let Some(allowed) = keys::refuses(key, &value) {
            let value = if keys::is_secret(key) { "[hidden]".to_owned() } else { format!("{value:?}") };
            return Err(ConfigError::BadValue { key: key.to_owned(), value, allowed, source_of: source });
        }
        self.given.insert(key.to_owned(), value);
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    fn finish(self, host_name: &str) -> Result<Config, ConfigError> {
        let broker = BrokerConfig::new(self.given.clone()).map_err(|e| self.refused(e))?;
        let text = |key: &str| broker.text(key).unwrap_or_default();
        let admin =
            HostPort::parse(text(keys::ADMIN)).ok_or_else(|| self.bad(keys::ADMIN, text(keys::ADMIN), "HOST:PORT"))?;
        let data_dir = self.data_dir(&broker)?;
        let listeners = self.listeners(&broker, host_name)?;
        let sasl = self.sasl(&broker, &listeners)?;
        let access = AccessRules::of(&broker).map_err(|(key, allowed)| self.bad(key, text(key), allowed))?;
        let rpc =
            RpcSettings::of(&broker, host_name).map_err(|(key, value, allowed)| self.bad(key, &value, allowed))?;
        let warnings = self.warnings();
        Ok(Config {
            broker,
            sources: self.sources,
            data_dir,
            first_users: self.first_users,
            listeners,
            sasl,
            access,
            admin,
            rpc,
            warnings,
        })
    }

    /// `log.dirs`, or `log.dir`. One directory: a node has one disk, or several joined below its file system.
    fn data_dir(&self, broker: &BrokerConfig) -> Result<PathBuf, ConfigError> {
        let key = if broker.is_set("log.dirs") { "log.dirs" } else { "log.dir" };
        match broker.list(key) {
            [one] if !one.is_empty() => Ok(PathBuf::from(one)),
            other => Err(self.bad(key, &other.join(","), "one directory")),
        }
    }

    fn listeners(&self, broker: &BrokerConfig, host_name: &str) -> Result<Vec<Listener>, ConfigError> {
        let advertised = broker.is_set("advertised.listeners").then(|| broker.list("advertised.listeners").join(","));
        listeners::parse_listeners(
            &broker.list("listeners").join(","),
            advertised.as_deref(),
            broker.text("listener.security.protocol.map").unwrap_or_default(),
            broker.list("controller.listener.names"),
            host_name,
        )
        .map_err(|e| self.bad(e.key, &e.value, &e.allowed))
    }

    fn sasl(&self, broker: &BrokerConfig, listeners: &[Listener]) -> Result<SaslListeners, ConfigError> {
        let asking = listeners.iter().filter(|listener| listener.protocol.is_sasl());
        asking
            .map(|listener| {
                let sasl = SaslListener::of(broker, &listener.name).map_err(|(key, allowed)| {
                    let value = broker.of_listener(&listener.name, "sasl.enabled.mechanisms").unwrap_or_default();
                    let value = if keys::is_secret(&key) { "[hidden]" } else { value };
                    self.bad(&key, value, &allowed)
                })?;
                Ok((listener.name.clone(), Arc::new(sasl)))
            })
            .collect()
    }

    /// Core's refusal, with the value and where it comes from.
    fn refused(&self, error: core_config::ConfigError) -> ConfigError {
        match error {
            core_config::ConfigError::OutOfBounds { name, text } => {
                let default = || broker_config(&name).and_then(|def| def.default).unwrap_or_default().to_owned();
                let value = self.given.get(&name).cloned().unwrap_or_else(default);
                let source_of = self.sources.get(&name).cloned().unwrap_or(Source::Default);
                ConfigError::OutOfBounds { key: name, value: format!("{value:?}"), text, source_of }
            }
            other => other.into(),
        }
    }

    fn bad(&self, key: &str, value: &str, allowed: &str) -> ConfigError {
        let source_of = self.sources.get(key).cloned().unwrap_or(Source::Default);
        let (key, value) = (key.to_owned(), format!("{value:?}"));
        ConfigError::BadValue { key, value, allowed: allowed.to_owned(), source_of }
    }

    fn warnings(&self) -> Vec<String> {
        let idle: Vec<&str> = self.given.keys().map(String::as_str).filter(|key| !keys::is_used(key)).collect();
        let mut warnings = Vec::new();
        if !idle.is_empty() {
            warnings.push(format!("settings without effect here: {}", idle.join(", ")));
        }
        if !self.unknown.is_empty() {
            let names: Vec<String> = self.unknown.iter().map(|name| format!("{name:?}")).collect();
            warnings.push(format!("unknown settings, left out: {}", names.join(", ")));
        }
        warnings
    }
}
