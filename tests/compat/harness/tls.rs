//! Certificates that a test makes, and clients that speak TLS.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pkcs8::{LineEnding, PrivateKeyInfoRef};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::wire::{Stream, Wire};

/// An issuer of certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
    serial: u64,
}

/// Whether a certificate is still good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Good,
    Expired,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this machine's addresses and for a user: CN=`name`,OU=`unit`.
    pub fn issue(&self, name: &str, unit: &str, serial: u64, validity: Validity) -> Certificate {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate").pem();
        Certificate { certificate, key: key.serialize_pem(), serial }
    }

    /// A list that says these are good no more.
    pub fn revoke(&self, certificates: &[&Certificate]) -> String {
        let revoked = |certificate: &&Certificate| RevokedCertParams {
            serial_number: SerialNumber::from(certificate.serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("list").pem().expect("pem")
    }
}

impl Certificate {
    /// Certificate and key in one text, as `ssl.keystore.location` names it.
    pub fn pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

impl Certificate {
    /// The same with its key behind a password.
    pub fn encrypted_pem(&self, password: &str) -> String {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("pem");
        let encrypted = PrivateKeyInfoRef::try_from(key.secret_der()).expect("key").encrypt(password).expect("key");
        let key = encrypted.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).expect("pem");
        format!("{}{}", self.certificate, *key)
    }
}

/// Writes a file below a directory; gives its path.
pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("write");
    path
}

/// A client that trusts an authority and, if it has one, shows a certificate.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub fn new(trusted: &Authority, own: Option<&Certificate>) -> TlsClient {
        TlsClient::with_versions(trusted, own, rustls::ALL_VERSIONS)
    }

    pub fn with_versions(
        trusted: &Authority,
        own: Option<&Certificate>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).expect("pem")).expect("root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        TlsClient(Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("pem")];
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("pem");
                builder.with_client_auth_cert(chain, key).expect("certificate")
            }
        }))
    }

    /// A connection whose handshake has yet to come: with the first byte, either way.
    pub fn connect(&self, address: &str) -> Wire {
        Wire::over(self.stream(address))
    }

    pub fn stream(&self, address: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").expect("name");
        let connection = ClientConnection::new(Arc::clone(&self.0), name).expect("connection");
        StreamOwned::new(connection, TcpStream::connect(address).expect("connect"))
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}
