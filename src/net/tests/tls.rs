//! Who a client's certificate says it is, and clients that break off TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{ECHO, PATIENCE, Setup, start};

/// One issuer, the broker's certificate and a client's, in PEM: certificate and key.
struct Certificates {
    issuer: String,
    broker: (String, String),
    client: (String, String),
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let of_client = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Duke, Sons & Co"),
            (DnType::OrganizationalUnitName, "ServiceUsers"),
            (DnType::CommonName, "Duke"),
        ];
        Self { issuer: pem, broker: issue(&[(DnType::CommonName, "broker")]), client: issue(&of_client) }
    }

    fn start(&self, more: &[&str]) -> Setup {
        let set = [
            "listeners=SSL://127.0.0.1:0".to_owned(),
            format!("ssl.keystore.certificate.chain={}", self.broker.0),
            format!("ssl.keystore.key={}", self.broker.1),
            format!("ssl.truststore.certificates={}", self.issuer),
            "ssl.client.auth=requested".to_owned(),
        ];
        let set: Vec<&str> = set.iter().map(String::as_str).chain(more.iter().copied()).collect();
        start(&set)
    }

    fn connect(&self, setup: &Setup, shows_certificate: bool) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.issuer.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let chain = vec![CertificateDer::from_pem_slice(self.client.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.client.1.as_bytes()).unwrap();
        let config = match shows_certificate {
            true => builder.with_client_auth_cert(chain, key).unwrap(),
            false => builder.with_no_client_auth(),
        };
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let socket = TcpStream::connect(&setup.addresses[0]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(tls, socket)
    }
}

/// A request, and the length of its answer.
fn echo(client: &mut (impl Read + Write)) -> std::io::Result<u32> {
    client.write_all(&[&5_u32.to_be_bytes()[..], &[ECHO], &1_i32.to_be_bytes()].concat())?;
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    Ok(u32::from_be_bytes(length))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_its_user() {
    let certificates = Certificates::new();
    let subject = "User:CN=Duke,OU=ServiceUsers,O=Duke\\, Sons & Co,C=DE";
    for (rules, shows, expected) in [
        ("DEFAULT", true, Some(subject)),
        ("RULE:^CN=([^,]+).*$/$1/L", true, Some("User:duke")),
        ("DEFAULT", false, Some("User:ANONYMOUS")),
        // No rule applies: it stays out.
        ("RULE:^OU=.*$/x/", true, None),
    ] {
        let setup = certificates.start(&[&format!("ssl.principal.mapping.rules={rules}")]);
        let answered = echo(&mut certificates.connect(&setup, shows)).is_ok();
        assert_eq!(answered, expected.is_some(), "{rules}");
        let seen = setup.fake.principals.lock().unwrap().clone();
        assert_eq!(seen, expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
}

/// What follows the end of the conversation is not read, and nobody turns in circles over it.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_end_of_tls_end_the_connection() {
    let certificates = Certificates::new();
    let setup = certificates.start(&[]);
    let mut client = certificates.connect(&setup, false);
    echo(&mut client).unwrap();
    // The beginning of a request, the end, and more than rustls takes at a time, in one piece.
    client.conn.writer().write_all(&[0, 0, 1, 0, ECHO]).unwrap();
    client.conn.send_close_notify();
    let mut bytes = Vec::new();
    while client.conn.wants_write() {
        client.conn.write_tls(&mut bytes).unwrap();
    }
    bytes.extend([23; 40_000]);
    client.sock.write_all(&bytes).unwrap();
    let mut rest = Vec::new();
    match client.sock.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
    echo(&mut certificates.connect(&setup, false)).unwrap();
}
