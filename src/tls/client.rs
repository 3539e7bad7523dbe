//! TLS of a client, by the names that Kafka's clients have for its settings.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::TlsError;
use super::certificates::{KEYSTORE, Material, Refused, TRUSTSTORE, read, trusted};

/// Where Debian and its kin keep the certificates of the public issuers.
const OF_THE_SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a client's connections begin with.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// `of` gives the setting of a name. Without a trust store the issuers that the system trusts are trusted; an empty
    /// `ssl.endpoint.identification.algorithm` leaves open which host the certificate is for. Reads files.
    pub fn of<'a>(of: impl Fn(&str) -> Option<&'a str>) -> Result<Self, TlsError> {
        let refused = |(key, text): Refused| TlsError { key: key.to_owned(), text };
        let material = Material::read(&of).map_err(refused)?;
        let trust = match material.trust().map_err(refused)? {
            Some(trust) => Ok(trust),
            None => read(TRUSTSTORE, OF_THE_SYSTEM).and_then(|pem| trusted(&pem)),
        };
        let (roots, revoked) = trust.map_err(refused)?;
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = match revoked.is_empty() {
            true => builder,
            // An issuer without a list has revoked nothing that we know of.
            false => builder.with_crls(revoked).allow_unknown_revocation_status(),
        };
        let bad = |key: &'static str| move |e: &dyn std::fmt::Display| refused((key, e.to_string()));
        let verifier = builder.build().map_err(|e| bad(TRUSTSTORE)(&e))?;
        let verifier: Arc<dyn ServerCertVerifier> = match of("ssl.endpoint.identification.algorithm") {
            Some("") => Arc::new(AnyHost(verifier)),
            _ => verifier,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("ssl.enabled.protocols")(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match material.identity().map_err(refused)? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| bad(KEYSTORE)(&e))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// Checks a certificate but for the host that it is for.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is what is looked at last: what was wrong before that is told as such.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
