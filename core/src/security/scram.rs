//! SCRAM (RFC 5802, RFC 7677; KIP-84): what is kept of a password, and the server's side of a login.
//!
//! Nobody who fails learns why, nor whether there is such a user: who does not exist gets a salt all the same.

mod client;

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

pub use client::{Expected, ScramClient};

/// Fewest and most rounds of hashing (Kafka `ScramMechanism`, `ScramControlManager.MAX_ITERATIONS`).
pub const ITERATIONS_MIN: u32 = 4_096;
pub const ITERATIONS_MAX: u32 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    Sha256,
    Sha512,
}

/// What is kept of a user's password for one mechanism: enough to check it, not enough to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
    pub iterations: u32,
}

/// It must not end up in a log.
impl std::fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramMechanism {
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Kafka's number (`ScramMechanism.type`).
    pub fn number(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    pub fn of_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.number() == number)
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    fn hash(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    /// Bytes of a key.
    fn len(self) -> usize {
        match self {
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    /// Hashes so many times: slow on purpose.
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.len()];
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }

    /// What is kept of a salted password (Kafka `ScramFormatter`).
    pub fn credential(self, salted_password: &[u8], salt: &[u8], iterations: u32) -> ScramCredential {
        let client_key = self.hmac(salted_password, b"Client Key");
        ScramCredential {
            salt: salt.to_vec(),
            stored_key: self.hash(client_key.as_ref()).as_ref().to_vec(),
            server_key: self.hmac(salted_password, b"Server Key").as_ref().to_vec(),
            iterations,
        }
    }

    /// Whether this is the password, without a word about how far off it is. As slow as a login.
    pub fn is_password(self, credential: &ScramCredential, password: &[u8]) -> bool {
        let salted = self.salted_password(password, &credential.salt, credential.iterations);
        self.credential(&salted, &credential.salt, credential.iterations)
            .stored_key
            .ct_eq(&credential.stored_key)
            .into()
    }

    /// What stands in for the credential of a user that does not exist: the same at each try, on each node, and
    /// nobody's. `secret`: what only the cluster knows.
    pub fn stand_in(self, secret: &[u8], user: &str) -> ScramCredential {
        let derive = |what: &str| {
            let message = format!("{what} {} {user}", self.name());
            self.hmac(secret, message.as_bytes()).as_ref().to_vec()
        };
        let mut salt = derive("salt");
        salt.truncate(SALT_BYTES);
        ScramCredential {
            salt,
            stored_key: derive("stored key"),
            server_key: derive("server key"),
            iterations: ITERATIONS_MIN,
        }
    }
}

/// Length of a salt that we make. Kafka's tools make about as long ones.
pub const SALT_BYTES: usize = 20;

/// A login that failed: the same answer whatever was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid credentials")]
pub struct LoginFailed;

/// What a client asks for with its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: String,
    /// As it was sent: what the final message must repeat.
    header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// `n,[a=authzid],n=user,r=nonce[,extensions]`.
    pub fn parse(message: &[u8]) -> Result<Self, LoginFailed> {
        let message = std::str::from_utf8(message).map_err(|_| LoginFailed)?;
        let mut parts = message.splitn(3, ',');
        let (binding, authzid) = (parts.next().ok_or(LoginFailed)?, parts.next().ok_or(LoginFailed)?);
        let bare = parts.next().ok_or(LoginFailed)?;
        // A client that binds to the TLS channel ("p=...") would be told a lie: we cannot.
        if !matches!(binding, "n" | "y") {
            return Err(LoginFailed);
        }
        let header = format!("{binding},{authzid},");
        let mut fields = bare.split(',');
        // An extension that must be understood ("m=...") would stand here.
        let user = sasl_name(fields.next().and_then(|field| field.strip_prefix("n=")).ok_or(LoginFailed)?)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(LoginFailed)?;
        if !is_printable(nonce) || !fields.all(is_extension) {
            return Err(LoginFailed);
        }
        // Nobody speaks for others.
        if !authzid.is_empty() && sasl_name(authzid.strip_prefix("a=").ok_or(LoginFailed)?)? != user {
            return Err(LoginFailed);
        }
        Ok(Self { user, header, bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// The answer, and what waits for the client's proof. `server_nonce`: random, printable, without commas.
    pub fn challenge(
        self,
        mechanism: ScramMechanism,
        credential: ScramCredential,
        server_nonce: &str,
    ) -> (String, Challenge) {
        let nonce = format!("{}{server_nonce}", self.nonce);
        let salt = STANDARD.encode(&credential.salt);
        let message = format!("r={nonce},s={salt},i={}", credential.iterations);
        let said = format!("{},{message}", self.bare);
        (message, Challenge { mechanism, credential, header: self.header, nonce, said })
    }
}

/// A login that waits for the client's proof that it knows the password.
#[derive(Clone, Debug)]
pub struct Challenge {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    header: String,
    nonce: String,
    /// Both messages so far.
    said: String,
}

impl Challenge {
    /// Our proof that we know it, too, when the client's is right: `c=header,r=nonce[,extensions],p=proof`.
    pub fn verify(&self, message: &[u8]) -> Result<String, LoginFailed> {
        let message = std::str::from_utf8(message).map_err(|_| LoginFailed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(LoginFailed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or(LoginFailed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(LoginFailed)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| LoginFailed);
        // librdkafka before 2.6.1 puts its own nonce before it once more: Kafka takes that, too (since 3.8.1).
        let is_ours = nonce.ends_with(&self.nonce);
        if decode(binding)? != self.header.as_bytes() || !is_ours || !fields.all(is_extension) {
            return Err(LoginFailed);
        }
        let (mechanism, said) = (self.mechanism, format!("{},{without_proof}", self.said));
        let proof = decode(proof)?;
        if proof.len() != mechanism.len() {
            return Err(LoginFailed);
        }
        let signature = mechanism.hmac(&self.credential.stored_key, said.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let is_right: bool = mechanism.hash(&client_key).as_ref().ct_eq(&self.credential.stored_key).into();
        match is_right {
            true => {
                let ours = mechanism.hmac(&self.credential.server_key, said.as_bytes());
                Ok(format!("v={}", STANDARD.encode(ours.as_ref())))
            }
            false => Err(LoginFailed),
        }
    }
}

/// Undoes `=2C` and `=3D`; any other use of `=` is none.
fn sasl_name(text: &str) -> Result<String, LoginFailed> {
    let mut pieces = text.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (c, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(LoginFailed),
        };
        name.push(c);
        name.push_str(rest);
    }
    match name.is_empty() || name.contains('\0') {
        true => Err(LoginFailed),
        false => Ok(name),
    }
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `name=value`, of which we use none. One that must be understood is refused.
fn is_extension(field: &str) -> bool {
    field.split_once('=').is_some_and(|(name, value)| {
        name != "m" && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) && !value.contains('\0')
    })
}

#[cfg(test)]
mod tests;
