//! Where brokers are and how they are reached: `--brokers`, `--command-config` in the form of Kafka's clients, `--user` and `--ca`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::security::LoginModule;

use super::client::{Client, Credentials, Security};
use super::failure::{Doing, Stop};
use super::output::Format;
use super::values::seconds;
use crate::config::{Mechanism, parse_properties};
use crate::tls::ClientTls;

/// Asked when neither `--brokers` nor `MILLSTREAM_BROKERS` says otherwise.
const BROKERS_DEFAULT: &str = "127.0.0.1:9092";
const PORT_DEFAULT: u16 = 9092;

const PROTOCOL: &str = "security.protocol";
const MECHANISM: &str = "sasl.mechanism";
const JAAS: &str = "sasl.jaas.config";
const TRUSTSTORE: &str = "ssl.truststore.location";
/// What `--user` logs in by when the settings do not say.
const MECHANISM_DEFAULT: &str = "SCRAM-SHA-256";

type Settings = BTreeMap<String, String>;

/// Where the cluster is, and how to answer.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Brokers to ask first, HOST:PORT separated by commas [env: MILLSTREAM_BROKERS] [default: 127.0.0.1:9092]
    #[arg(short, long, global = true, value_name = "HOST:PORT,..", help_heading = "Global options")]
    pub brokers: Option<String>,
    /// Settings of Kafka's clients (security.protocol, sasl.*, ssl.*) [env: MILLSTREAM_COMMAND_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub command_config: Option<PathBuf>,
    /// Logs in as this user, with the password in MILLSTREAM_PASSWORD [env: MILLSTREAM_USER]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub user: Option<String>,
    /// Speaks TLS with brokers whose certificates come from these issuers (PEM) [env: MILLSTREAM_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub ca: Option<PathBuf>,
    /// How to print results
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t, help_heading = "Global options")]
    pub format: Format,
    /// Longest wait for one answer, with its retries
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, default_value = "30", help_heading = "Global options")]
    pub timeout: Duration,
}

/// Reaches the cluster that the arguments name.
pub async fn connect(connect: &Connect) -> Result<Arc<Client>, Stop> {
    let from_environment = std::env::var("MILLSTREAM_BROKERS").ok().filter(|list| !list.is_empty());
    let list = connect.brokers.clone().or(from_environment).unwrap_or_else(|| BROKERS_DEFAULT.to_owned());
    let (addresses, security) = (addresses(&list)?, security(connect)?);
    Client::connect(addresses, connect.timeout, security).await.doing("cannot connect to the cluster")
}

/// `host`, `host:port`, `[v6]:port`, separated by commas.
fn addresses(list: &str) -> Result<Vec<String>, Stop> {
    let addresses: Vec<_> = list.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(Stop::Usage("no broker is named: HOST:PORT is needed".to_owned()));
    }
    let full = |address: &str| {
        let host_end = address.rfind(']').map_or(0, |at| at + 1);
        match address.get(host_end..).unwrap_or_default().rsplit_once(':') {
            None => Ok(format!("{address}:{PORT_DEFAULT}")),
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(address.to_owned()),
            Some(_) => Err(Stop::Usage(format!("`{address}` is no broker address: HOST:PORT is needed"))),
        }
    };
    addresses.into_iter().map(full).collect()
}

/// As the arguments say, else the environment, else plaintext without a login.
fn security(connect: &Connect) -> Result<Security, Stop> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let file = connect.command_config.clone().or_else(|| variable("MILLSTREAM_COMMAND_CONFIG").map(Into::into));
    let mut settings = file.as_deref().map(read).transpose()?.unwrap_or_default();
    if let Some(ca) = connect.ca.clone().or_else(|| variable("MILLSTREAM_CA").map(Into::into)) {
        settings.insert(TRUSTSTORE.to_owned(), ca.to_string_lossy().into_owned());
        with_tls(&mut settings);
    }
    let user = connect.user.clone().or_else(|| variable("MILLSTREAM_USER"));
    let password = variable("MILLSTREAM_PASSWORD");
    understood(&settings, user, password).map_err(Stop::Usage)
}

fn read(path: &Path) -> Result<Settings, Stop> {
    let bad = |why: String| Stop::Usage(format!("--command-config {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let properties = parse_properties(&text).map_err(|e| bad(e.to_string()))?;
    Ok(properties.into_iter().map(|property| (property.key, property.value)).collect())
}

fn with_tls(settings: &mut Settings) {
    let protocol = settings.entry(PROTOCOL.to_owned()).or_default();
    *protocol = if protocol.starts_with("SASL_") { "SASL_SSL" } else { "SSL" }.to_owned();
}

fn understood(settings: &Settings, user: Option<String>, password: Option<String>) -> Result<Security, String> {
    let of = |key: &str| settings.get(key).map(|value| value.trim());
    let (has_tls, has_login) = match of(PROTOCOL).unwrap_or("PLAINTEXT") {
        "" | "PLAINTEXT" => (false, false),
        "SSL" => (true, false),
        "SASL_PLAINTEXT" => (false, true),
        "SASL_SSL" => (true, true),
        other => return Err(format!("{PROTOCOL}={other}: must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")),
    };
    let tls = has_tls.then(|| ClientTls::of(of)).transpose().map_err(|e| e.to_string())?;
    let login = match (has_login, user) {
        (_, Some(user)) => {
            let password = password.ok_or("--user: the password is needed in MILLSTREAM_PASSWORD")?;
            Some((user, password))
        }
        (true, None) => Some(credentials(of(JAAS).unwrap_or_default())?),
        (false, None) => None,
    };
    let login = login.map(|(user, password)| {
        let name = of(MECHANISM).unwrap_or(MECHANISM_DEFAULT);
        let mechanism = Mechanism::of_name(name)
            .ok_or_else(|| format!("{MECHANISM}={name}: must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"))?;
        Ok::<_, String>(Credentials { mechanism, user, password })
    });
    Ok(Security { tls, login: login.transpose()? })
}

/// Of a login module of Kafka's, whichever: both of PLAIN and SCRAM have these options.
fn credentials(jaas: &str) -> Result<(String, String), String> {
    let mut module = LoginModule::parse(jaas).map_err(|e| format!("{JAAS}: {e}"))?;
    let mut option = |name: &str| module.options.remove(name).ok_or_else(|| format!("{JAAS}: {name}=\"..\" is needed"));
    Ok((option("username")?, option("password")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)], user: Option<&str>, password: Option<&str>) -> Result<String, String> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let security = understood(&settings, user.map(str::to_owned), password.map(str::to_owned))?;
        let login = security.login.map(|l| format!("{} {} {}", l.mechanism.name(), l.user, l.password));
        Ok(format!("{} {}", security.tls.is_some(), login.unwrap_or_default()))
    }

    #[test]
    fn settings_of_kafkas_clients_are_understood() {
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"b\";";
        let sasl = [(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, "PLAIN"), (JAAS, jaas), ("client.id", "x")];
        assert_eq!(with(&[], None, None).unwrap(), "false ");
        assert_eq!(with(&sasl, None, None).unwrap(), "false PLAIN a b");
        assert_eq!(with(&sasl, Some("c"), Some("d")).unwrap(), "false PLAIN c d");
        assert_eq!(with(&[], Some("c"), Some("d")).unwrap(), "false SCRAM-SHA-256 c d");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = |settings: &[(&str, &str)], user| with(settings, user, None).unwrap_err();
        assert!(error(&[(PROTOCOL, "TLS")], None).contains("security.protocol=TLS"));
        assert!(error(&[(PROTOCOL, "SASL_PLAINTEXT")], None).starts_with(JAAS));
        assert!(error(&[], Some("a")).contains("MILLSTREAM_PASSWORD"));
        let gssapi = [(PROTOCOL, "SASL_PLAINTEXT"), (MECHANISM, "GSSAPI"), (JAAS, "a required username=b password=c;")];
        assert!(error(&gssapi, None).contains("sasl.mechanism=GSSAPI"));
        assert!(error(&[(PROTOCOL, "SSL"), (TRUSTSTORE, "/nonexistent")], None).contains("/nonexistent"));
        assert!(error(&[(PROTOCOL, "SSL"), ("ssl.truststore.type", "JKS")], None).contains("only PEM"));
    }

    #[test]
    fn a_port_may_be_left_out() {
        let read = |list| addresses(list).map_err(|stop| stop.exit_code());
        assert_eq!(read("a:1, b"), Ok(vec!["a:1".to_owned(), "b:9092".to_owned()]));
        assert_eq!(read("[::1]"), Ok(vec!["[::1]:9092".to_owned()]));
        assert_eq!(read("[::1]:7"), Ok(vec!["[::1]:7".to_owned()]));
        assert_eq!(read("a:x"), Err(2));
        assert_eq!(read("a:0"), Err(2));
        assert_eq!(read(" , "), Err(2));
    }
}
