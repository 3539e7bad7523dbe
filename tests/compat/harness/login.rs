//! A client that logs in: SASL PLAIN and SCRAM.

use bytes::Bytes;
use kafka_protocol::messages::sasl_authenticate_response::SaslAuthenticateResponse;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest, SaslHandshakeResponse};
use millstream_core::security::{ScramClient, ScramMechanism};

use super::text;
use super::wire::Wire;

/// Who logs in, and how.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub mechanism: &'a str,
    pub user: &'a str,
    pub password: &'a str,
}

pub fn shake_hands(wire: &mut Wire, version: i16, mechanism: &str) -> SaslHandshakeResponse {
    wire.call(version, &SaslHandshakeRequest::default().with_mechanism(text(mechanism)))
}

pub fn say(wire: &mut Wire, message: &[u8]) -> SaslAuthenticateResponse {
    wire.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(message)))
}

impl Credentials<'_> {
    /// The whole of a login; the last answer, right or wrong.
    pub fn log_in(&self, wire: &mut Wire) -> SaslAuthenticateResponse {
        let shaken = shake_hands(wire, 1, self.mechanism);
        assert_eq!(shaken.error_code, 0, "{:?}", shaken.mechanisms);
        self.authenticate(&mut |message| say(wire, message))
    }

    /// What follows the handshake, by whatever way messages go.
    pub fn authenticate(&self, say: &mut dyn FnMut(&[u8]) -> SaslAuthenticateResponse) -> SaslAuthenticateResponse {
        let Self { mechanism, user, password } = self;
        if *mechanism == "PLAIN" {
            return say(format!("\0{user}\0{password}").as_bytes());
        }
        let mechanism = ScramMechanism::of_name(mechanism).expect("a mechanism");
        let client = ScramClient::new(mechanism, user, password, "clientnonce");
        let first = say(client.first().as_bytes());
        if first.error_code != 0 {
            return first;
        }
        let (last, expected) = client.last(&first.auth_bytes).expect("a salt and a nonce");
        let last = say(last.as_bytes());
        if last.error_code == 0 {
            expected.verify(&last.auth_bytes).expect("the broker knows the password, too");
        }
        last
    }
}
