//! How a client's connections are made safe, and who logs in on them.

use std::time::Duration;

use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use millstream_core::security::ScramClient;
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::time::Instant;

use super::connection::Connection;
use super::errors::ClientError;
use super::text;
use crate::config::Mechanism;
use crate::tls::ClientTls;

/// Characters of a nonce of ours.
const NONCE_LEN: usize = 32;

/// What a listener wants before it serves. Both empty: plaintext.
#[derive(Clone, Default)]
pub struct Security {
    pub tls: Option<ClientTls>,
    pub login: Option<Credentials>,
}

/// Who logs in, and how.
#[derive(Clone)]
pub struct Credentials {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: String,
}

impl Credentials {
    /// The time until which the login holds; `None`: as long as the connection.
    pub(super) async fn log_in(
        &self,
        connection: &mut Connection,
        wait: Duration,
    ) -> Result<Option<Instant>, ClientError> {
        let version = connection.version::<SaslHandshakeRequest>()?;
        let handshake = SaslHandshakeRequest::default().with_mechanism(text(self.mechanism.name()));
        let shaken = connection.call(&handshake, version, wait).await?;
        if shaken.error_code != 0 {
            let offered: Vec<&str> = shaken.mechanisms.iter().map(|name| name.as_str()).collect();
            let detail = match offered.is_empty() {
                true => "the listener takes no logins".to_owned(),
                false => format!("{} is not enabled there, but {}", self.mechanism.name(), offered.join(", ")),
            };
            return Err(connection.no_login(detail));
        }
        let lifetime_ms = match self.mechanism {
            Mechanism::Plain => {
                let message = format!("\0{}\0{}", self.user, self.password);
                connection.say(message.as_bytes(), wait).await?.1
            }
            Mechanism::Scram(mechanism) => {
                let nonce: String = rand::rng().sample_iter(Alphanumeric).take(NONCE_LEN).map(char::from).collect();
                let scram = ScramClient::new(mechanism, &self.user, &self.password, &nonce);
                let (challenge, _) = connection.say(scram.first().as_bytes(), wait).await?;
                let strange = || "its challenge is not one of SCRAM".to_owned();
                let (last, expected) = scram.last(&challenge).map_err(|_| connection.no_login(strange()))?;
                let (proof, lifetime_ms) = connection.say(last.as_bytes(), wait).await?;
                let strange = || "the broker does not know the password: it is not who it should be".to_owned();
                expected.verify(&proof).map_err(|_| connection.no_login(strange()))?;
                lifetime_ms
            }
        };
        let lifetime = u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        Ok(lifetime.map(|lifetime| Instant::now() + lifetime))
    }
}

impl Connection {
    /// One message of a login; the answer to it, and how many milliseconds the login holds.
    async fn say(&mut self, message: &[u8], wait: Duration) -> Result<(Vec<u8>, i64), ClientError> {
        let version = self.version::<SaslAuthenticateRequest>()?;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.to_vec().into());
        let answer = self.call(&request, version, wait).await?;
        match answer.error_code {
            0 => Ok((answer.auth_bytes.to_vec(), answer.session_lifetime_ms)),
            code => {
                let why = answer.error_message.map(|text| text.to_string()).filter(|text| !text.is_empty());
                Err(self.no_login(why.unwrap_or_else(|| format!("the broker refused it with error {code}"))))
            }
        }
    }
}
