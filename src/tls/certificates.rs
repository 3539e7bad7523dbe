//! Certificates and keys in PEM: where they come from, and what they must be.

use std::io;

use millstream_core::config::BrokerConfig;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;

/// What a listener's certificates were read from. Others than before mean that they are set up anew.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    /// Certificate, intermediate ones, private key.
    own: Vec<u8>,
    key_password: Option<String>,
    /// Certificates that those of clients are checked against, and lists of what was revoked.
    trusted: Option<Vec<u8>>,
}

/// A certificate with what leads to its issuer, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Whom a listener trusts, and whom no longer.
pub(super) type Trust = (RootCertStore, Vec<CertificateRevocationListDer<'static>>);

const KEYSTORE: &str = "ssl.keystore.location";
const KEYSTORE_KEY: &str = "ssl.keystore.key";
const KEYSTORE_CHAIN: &str = "ssl.keystore.certificate.chain";
const TRUSTSTORE: &str = "ssl.truststore.location";
const TRUSTSTORE_CERTIFICATES: &str = "ssl.truststore.certificates";

impl Material {
    /// Reads the files that the settings name.
    pub(super) fn read(broker: &BrokerConfig, listener: &str) -> Result<Self, TlsError> {
        let of = |key: &str| broker.of_listener(listener, key).filter(|text| !text.is_empty());
        for key in ["ssl.keystore.type", "ssl.truststore.type"] {
            if !of(key).is_some_and(|kind| kind.eq_ignore_ascii_case("PEM")) {
                return Err(TlsError::of(listener, key, "only PEM is read: convert it with openssl pkcs12 or keytool"));
            }
        }
        let own = match (of(KEYSTORE), of(KEYSTORE_KEY), of(KEYSTORE_CHAIN)) {
            (Some(path), None, None) => read(listener, KEYSTORE, path)?,
            (None, Some(key), Some(chain)) => format!("{key}\n{chain}\n").into_bytes(),
            (None, None, None) => {
                let text = "needed: a PEM file with the certificate, those of its issuers, and the private key";
                return Err(TlsError::of(listener, KEYSTORE, text));
            }
            _ => {
                let text = "either this, or ssl.keystore.key and ssl.keystore.certificate.chain together";
                return Err(TlsError::of(listener, KEYSTORE, text));
            }
        };
        let trusted = match (of(TRUSTSTORE), of(TRUSTSTORE_CERTIFICATES)) {
            (Some(path), None) => Some(read(listener, TRUSTSTORE, path)?),
            (None, certificates) => certificates.map(|text| text.as_bytes().to_vec()),
            (Some(_), Some(_)) => {
                return Err(TlsError::of(listener, TRUSTSTORE, "either this, or ssl.truststore.certificates"));
            }
        };
        Ok(Self { own, key_password: of("ssl.key.password").map(str::to_owned), trusted })
    }

    pub(super) fn identity(&self, listener: &str) -> Result<Identity, TlsError> {
        let bad = |text: &str| TlsError::of(listener, KEYSTORE, text);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.own)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&format!("not PEM: {e}")))?;
        if chain.is_empty() {
            return Err(bad("holds no certificate (a block BEGIN CERTIFICATE)"));
        }
        if let Ok(key) = PrivateKeyDer::from_pem_slice(&self.own) {
            return Ok((chain, key));
        }
        let encrypted = self.encrypted_key().ok_or_else(|| bad("holds no private key (a block BEGIN PRIVATE KEY)"))?;
        let password = self.key_password.as_deref();
        let password = password.ok_or_else(|| bad("the private key is encrypted: ssl.key.password is needed"))?;
        let key = EncryptedPrivateKeyInfoRef::try_from(&encrypted[..])
            .and_then(|key| key.decrypt(password))
            .map_err(|_| TlsError::of(listener, "ssl.key.password", "does not open the private key"))?;
        Ok((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()))))
    }

    /// The contents of a block that rustls has no use for.
    fn encrypted_key(&self) -> Option<Vec<u8>> {
        const LABEL: &str = "ENCRYPTED PRIVATE KEY";
        let text = std::str::from_utf8(&self.own).ok()?;
        let (_, after) = text.split_once(&format!("-----BEGIN {LABEL}-----"))?;
        let (body, _) = after.split_once(&format!("-----END {LABEL}-----"))?;
        // The same decoder as for the blocks that it knows, under the name of one.
        let as_plain = format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----\n");
        let (kind, der) = pem::from_buf(&mut as_plain.as_bytes()).ok()??;
        (kind == SectionKind::PrivateKey).then_some(der)
    }

    /// `None`: clients' certificates cannot be checked.
    pub(super) fn trust(&self, listener: &str) -> Result<Option<Trust>, TlsError> {
        let Some(trusted) = &self.trusted else { return Ok(None) };
        let bad = |text: String| TlsError::of(listener, TRUSTSTORE, &text);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted) {
            let certificate = certificate.map_err(|e| bad(format!("not PEM: {e}")))?;
            roots.add(certificate).map_err(|e| bad(format!("a certificate cannot be used: {e}")))?;
        }
        if roots.is_empty() {
            return Err(bad("holds no certificate (a block BEGIN CERTIFICATE)".to_owned()));
        }
        let revoked = CertificateRevocationListDer::pem_slice_iter(trusted)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(format!("not PEM: {e}")))?;
        Ok(Some((roots, revoked)))
    }
}

fn read(listener: &str, key: &str, path: &str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e: io::Error| TlsError::of(listener, key, &format!("cannot read {path}: {e}")))
}
