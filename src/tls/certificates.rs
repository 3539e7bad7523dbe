//! Certificates and keys in PEM: where they come from, and what they must be.

use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What certificates were read from. Others than before mean that they are set up anew.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    /// Certificate, intermediate ones, private key.
    own: Vec<u8>,
    key_password: Option<String>,
    /// Certificates that those of the other side are checked against, and lists of what was revoked.
    trusted: Option<Vec<u8>>,
}

/// A certificate with what leads to its issuer, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Who is trusted, and who no longer.
pub(super) type Trust = (RootCertStore, Vec<CertificateRevocationListDer<'static>>);

pub(super) const KEYSTORE: &str = "ssl.keystore.location";
const KEYSTORE_TYPE: &str = "ssl.keystore.type";
const KEYSTORE_KEY: &str = "ssl.keystore.key";
const KEYSTORE_CHAIN: &str = "ssl.keystore.certificate.chain";
pub(super) const TRUSTSTORE: &str = "ssl.truststore.location";
const TRUSTSTORE_TYPE: &str = "ssl.truststore.type";
const TRUSTSTORE_CERTIFICATES: &str = "ssl.truststore.certificates";

/// A setting that cannot be used, and why.
pub(super) type Refused = (&'static str, String);

impl Material {
    /// Reads the files that the settings name.
    pub(super) fn read<'a>(of: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Refused> {
        let of = |key: &str| of(key).filter(|text| !text.is_empty());
        for key in [KEYSTORE_TYPE, TRUSTSTORE_TYPE] {
            if of(key).is_some_and(|kind| !kind.eq_ignore_ascii_case("PEM")) {
                return Err((key, "only PEM is read: convert it with openssl pkcs12 or keytool".to_owned()));
            }
        }
        let own = match (of(KEYSTORE), of(KEYSTORE_KEY), of(KEYSTORE_CHAIN)) {
            (Some(path), None, None) => read(KEYSTORE, path)?,
            (None, Some(key), Some(chain)) => format!("{key}\n{chain}\n").into_bytes(),
            (None, None, None) => Vec::new(),
            _ => {
                let text = "either this, or ssl.keystore.key and ssl.keystore.certificate.chain together";
                return Err((KEYSTORE, text.to_owned()));
            }
        };
        let trusted = match (of(TRUSTSTORE), of(TRUSTSTORE_CERTIFICATES)) {
            (Some(path), None) => Some(read(TRUSTSTORE, path)?),
            (None, certificates) => certificates.map(|text| text.as_bytes().to_vec()),
            (Some(_), Some(_)) => {
                return Err((TRUSTSTORE, "either this, or ssl.truststore.certificates".to_owned()));
            }
        };
        Ok(Self { own, key_password: of("ssl.key.password").map(str::to_owned), trusted })
    }

    /// `None`: no setting names any.
    pub(super) fn identity(&self) -> Result<Option<Identity>, Refused> {
        if self.own.is_empty() {
            return Ok(None);
        }
        let bad = |text: &str| (KEYSTORE, text.to_owned());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.own)
            .collect::<Result<_, _>>()
            .map_err(|e| bad(&format!("not PEM: {e}")))?;
        if chain.is_empty() {
            return Err(bad("holds no certificate (a block BEGIN CERTIFICATE)"));
        }
        if let Ok(key) = PrivateKeyDer::from_pem_slice(&self.own) {
            return Ok(Some((chain, key)));
        }
        let encrypted = self.encrypted_key().ok_or_else(|| bad("holds no private key (a block BEGIN PRIVATE KEY)"))?;
        let password = self.key_password.as_deref();
        let password = password.ok_or_else(|| bad("the private key is encrypted: ssl.key.password is needed"))?;
        let key = EncryptedPrivateKeyInfoRef::try_from(&encrypted[..])
            .and_then(|key| key.decrypt(password))
            .map_err(|_| ("ssl.key.password", "does not open the private key".to_owned()))?;
        Ok(Some((chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))))
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

    /// `None`: no setting names anybody who is trusted.
    pub(super) fn trust(&self) -> Result<Option<Trust>, Refused> {
        self.trusted.as_deref().map(trusted).transpose()
    }
}

/// Whom the certificates in a text are trusted to vouch for.
pub(super) fn trusted(pem: &[u8]) -> Result<Trust, Refused> {
    let bad = |text: String| (TRUSTSTORE, text);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| bad(format!("not PEM: {e}")))?;
        roots.add(certificate).map_err(|e| bad(format!("a certificate cannot be used: {e}")))?;
    }
    if roots.is_empty() {
        return Err(bad("holds no certificate (a block BEGIN CERTIFICATE)".to_owned()));
    }
    let revoked = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| bad(format!("not PEM: {e}")))?;
    Ok((roots, revoked))
}

pub(super) fn read(key: &'static str, path: &str) -> Result<Vec<u8>, Refused> {
    std::fs::read(path).map_err(|e| (key, format!("cannot read {path}: {e}")))
}
