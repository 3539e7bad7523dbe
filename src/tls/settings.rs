//! `ssl.*` of the listeners: from settings to what connections are set up with, at the start and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use millstream_core::config::{BrokerConfig, listener_key};
use millstream_core::security::MappingRules;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tracing::{info, warn};

use super::certificates::{KEYSTORE, Material, Refused, TRUSTSTORE};
use super::principal;

/// Settings of TLS that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct TlsError {
    pub key: String,
    pub text: String,
}

impl TlsError {
    pub(super) fn of(listener: &str, key: &str, text: &str) -> Self {
        Self { key: listener_key(listener, key), text: text.to_owned() }
    }

    fn in_listener(listener: &str) -> impl Fn(Refused) -> Self {
        move |(key, text)| Self::of(listener, key, &text)
    }
}

/// The listeners that speak TLS, by name.
#[derive(Clone, Default)]
pub struct TlsListeners(Arc<HashMap<String, Arc<TlsListener>>>);

/// TLS of one listener.
pub struct TlsListener {
    name: String,
    rules: MappingRules,
    /// New connections begin with it.
    current: ArcSwap<ServerConfig>,
    /// What `current` was made of, or what could not be read or used after that: said once.
    seen: Mutex<Result<Inputs, TlsError>>,
}

/// Everything that TLS of a listener depends on.
#[derive(Clone, PartialEq, Eq)]
struct Inputs {
    material: Material,
    client_auth: String,
    protocols: String,
    cipher_suites: String,
}

impl TlsListeners {
    /// `names`: of the listeners that speak it.
    pub fn of<'a>(broker: &BrokerConfig, names: impl Iterator<Item = &'a str>) -> Result<Self, TlsError> {
        let by_name = names.map(|name| Ok((name.to_owned(), Arc::new(TlsListener::of(broker, name)?))));
        Ok(Self(Arc::new(by_name.collect::<Result<_, TlsError>>()?)))
    }

    pub fn get(&self, listener: &str) -> Option<Arc<TlsListener>> {
        self.0.get(listener).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes up certificates and settings that have changed; what cannot be used is said once, and the last that could
    /// be stays. Reads files.
    pub fn renew(&self, broker: &BrokerConfig) {
        for listener in self.0.values() {
            listener.renew(broker);
        }
    }
}

impl TlsListener {
    fn of(broker: &BrokerConfig, name: &str) -> Result<Self, TlsError> {
        const RULES: &str = "ssl.principal.mapping.rules";
        let rules = MappingRules::parse(broker.of_listener(name, RULES).unwrap_or_default())
            .map_err(|e| TlsError::of(name, RULES, &e.to_string()))?;
        let inputs = Inputs::read(broker, name)?;
        let current = ArcSwap::from(inputs.server_config(name)?);
        Ok(Self { name: name.to_owned(), rules, current, seen: Mutex::new(Ok(inputs)) })
    }

    /// What a new connection begins with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The name of the user with this certificate; the error is a subject that no rule applies to.
    pub fn user(&self, certificate: &CertificateDer<'_>) -> Result<String, String> {
        let subject = principal::subject(certificate).unwrap_or_default();
        self.rules.name(&subject).ok_or(subject)
    }

    fn renew(&self, broker: &BrokerConfig) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is being replaced may be away for a moment.
        let inputs = Inputs::read(broker, &self.name);
        if inputs == *seen {
            return;
        }
        match inputs.as_ref().map_err(TlsError::clone).and_then(|inputs| inputs.server_config(&self.name)) {
            Ok(config) => {
                self.current.store(config);
                info!(listener = self.name, "new TLS certificates or settings are in use");
            }
            Err(error) => warn!(listener = self.name, %error, "TLS settings cannot be used, those before stay"),
        }
        *seen = inputs;
    }
}

impl Inputs {
    fn read(broker: &BrokerConfig, listener: &str) -> Result<Self, TlsError> {
        let text = |key: &str| broker.of_listener(listener, key).unwrap_or_default().to_owned();
        Ok(Self {
            material: Material::read(|key| broker.of_listener(listener, key))
                .map_err(TlsError::in_listener(listener))?,
            client_auth: text("ssl.client.auth"),
            protocols: text("ssl.enabled.protocols"),
            cipher_suites: text("ssl.cipher.suites"),
        })
    }

    fn server_config(&self, listener: &str) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(self.provider(listener)?);
        let (chain, key) = self.material.identity().map_err(TlsError::in_listener(listener))?.ok_or_else(|| {
            let text = "needed: a PEM file with the certificate, those of its issuers, and the private key";
            TlsError::of(listener, KEYSTORE, text)
        })?;
        let verifier = self.verifier(listener, &provider)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions(listener)?)
            .map_err(|e| TlsError::of(listener, "ssl.enabled.protocols", &e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| TlsError::of(listener, KEYSTORE, &e.to_string()))?;
        Ok(Arc::new(config))
    }

    /// Cipher suites by their IANA names, which are Java's.
    fn provider(&self, listener: &str) -> Result<CryptoProvider, TlsError> {
        let mut provider = ring::default_provider();
        let wanted: Vec<&str> = items(&self.cipher_suites).collect();
        if !wanted.is_empty() {
            // rustls puts the version into the names of those of TLS 1.3.
            let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            provider.cipher_suites.retain(|suite| wanted.contains(&name(suite).as_str()));
        }
        match provider.cipher_suites.is_empty() {
            true => Err(TlsError::of(listener, "ssl.cipher.suites", "none of these is known")),
            false => Ok(provider),
        }
    }

    fn versions(&self, listener: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let of = |name: &str| match name {
            "TLSv1.2" => Ok(&version::TLS12),
            "TLSv1.3" => Ok(&version::TLS13),
            _ => Err(TlsError::of(listener, "ssl.enabled.protocols", "must be TLSv1.2, TLSv1.3 or both")),
        };
        items(&self.protocols).map(of).collect()
    }

    fn verifier(
        &self,
        listener: &str,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        const CLIENT_AUTH: &str = "ssl.client.auth";
        let is_optional = match self.client_auth.as_str() {
            "none" => return Ok(WebPkiClientVerifier::no_client_auth()),
            "requested" => true,
            "required" => false,
            _ => return Err(TlsError::of(listener, CLIENT_AUTH, "must be none, requested or required")),
        };
        let (roots, revoked) = self
            .material
            .trust()
            .map_err(TlsError::in_listener(listener))?
            .ok_or_else(|| TlsError::of(listener, TRUSTSTORE, "needed to check the certificates of clients"))?;
        let checks_revoked = !revoked.is_empty();
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
        let builder = match checks_revoked {
            // An issuer without a list has revoked nothing that we know of.
            true => builder.with_crls(revoked).allow_unknown_revocation_status(),
            false => builder,
        };
        builder.build().map_err(|e| TlsError::of(listener, TRUSTSTORE, &e.to_string()))
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}
