//! The client's side of a login by SCRAM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ITERATIONS_MIN, LoginFailed, ScramMechanism};

/// More rounds than anybody asks for: a false broker must not keep us busy.
const ITERATIONS_MAX_ASKED: u32 = 1_000_000;

/// A login that has begun.
#[derive(Clone)]
pub struct ScramClient {
    mechanism: ScramMechanism,
    password: Vec<u8>,
    nonce: String,
    bare: String,
}

/// A login that waits for the broker's proof that it knows the password, too.
#[derive(Clone)]
pub struct Expected(Vec<u8>);

impl ScramClient {
    /// `nonce`: random, printable, without commas.
    pub fn new(mechanism: ScramMechanism, user: &str, password: &str, nonce: &str) -> Self {
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        Self { mechanism, password: password.as_bytes().to_vec(), nonce: nonce.to_owned(), bare }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The final message to what the broker answered, and what it must say to that.
    pub fn last(&self, answer: &[u8]) -> Result<(String, Expected), LoginFailed> {
        let answer = std::str::from_utf8(answer).map_err(|_| LoginFailed)?;
        let field = |name: &str| {
            let prefix = format!("{name}=");
            answer.split(',').find_map(|field| field.strip_prefix(&prefix)).ok_or(LoginFailed)
        };
        let nonce = field("r")?;
        let salt = STANDARD.decode(field("s")?).map_err(|_| LoginFailed)?;
        let iterations: u32 = field("i")?.parse().map_err(|_| LoginFailed)?;
        let is_sound = (ITERATIONS_MIN..=ITERATIONS_MAX_ASKED).contains(&iterations);
        if !is_sound || !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(LoginFailed);
        }
        let mechanism = self.mechanism;
        let salted = mechanism.salted_password(&self.password, &salt, iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let without_proof = format!("c={},r={nonce}", STANDARD.encode("n,,"));
        let said = format!("{},{answer},{without_proof}", self.bare);
        let signature = mechanism.hmac(mechanism.hash(client_key.as_ref()).as_ref(), said.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = mechanism.hmac(&salted, b"Server Key");
        let expected = mechanism.hmac(server_key.as_ref(), said.as_bytes()).as_ref().to_vec();
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), Expected(expected)))
    }
}

impl Expected {
    /// Whether the broker knows the password, too.
    pub fn verify(&self, answer: &[u8]) -> Result<(), LoginFailed> {
        let said = answer.strip_prefix(b"v=").and_then(|signature| STANDARD.decode(signature).ok());
        if said.as_deref() == Some(&self.0) { Ok(()) } else { Err(LoginFailed) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ClientFirst;
    use super::*;

    #[test]
    fn both_sides_agree_for_the_right_password_only() {
        for mechanism in ScramMechanism::ALL {
            for (password, is_right) in [("pencil", true), ("pencils", false)] {
                let client = ScramClient::new(mechanism, "a,b=c", password, "abc");
                let first = ClientFirst::parse(client.first().as_bytes()).unwrap();
                assert_eq!(first.user, "a,b=c");
                let salted = mechanism.salted_password(b"pencil", b"salt", ITERATIONS_MIN);
                let credential = mechanism.credential(&salted, b"salt", ITERATIONS_MIN);
                let (answer, challenge) = first.challenge(mechanism, credential, "def");
                let (last, expected) = client.last(answer.as_bytes()).unwrap();
                match challenge.verify(last.as_bytes()) {
                    Ok(answer) => assert!(is_right && expected.verify(answer.as_bytes()).is_ok()),
                    Err(LoginFailed) => assert!(!is_right),
                }
            }
        }
    }

    #[test]
    fn a_broker_that_plays_false_is_found_out() {
        let client = ScramClient::new(ScramMechanism::Sha256, "u", "p", "abc");
        for answer in
            ["r=abc,s=AAAA,i=4096", "r=xyzdef,s=AAAA,i=4096", "r=abcdef,s=AAAA,i=1", "r=abcdef,s=?,i=4096", "e=x"]
        {
            assert!(client.last(answer.as_bytes()).is_err(), "{answer}");
        }
        let (_, expected) = client.last(b"r=abcdef,s=AAAA,i=4096").unwrap();
        assert!(expected.verify(b"v=AAAA").is_err() && expected.verify(b"e=other-error").is_err());
    }
}
