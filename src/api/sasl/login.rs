//! Where a connection is on its way in (Kafka `SaslServerAuthenticator`).

use std::time::Instant;

use kafka_protocol::messages::ApiKey;
use millstream_core::security::Challenge;

use crate::config::Mechanism;
use crate::protocol::Key;

/// What a connection may ask for.
#[derive(Debug)]
pub enum Login {
    /// The listener asks nobody who he is.
    NotAsked,
    /// Nothing else is served before.
    Awaited,
    /// A mechanism is agreed on.
    Begun(Box<Exchange>),
    Done(LoggedIn),
}

/// A login that is on its way.
#[derive(Debug)]
pub struct Exchange {
    pub mechanism: Mechanism,
    /// The client sends its messages bare, without a request around them: it shook hands with version 0.
    pub is_bare: bool,
    /// Set once a SCRAM client has said who it is.
    pub asked: Option<(String, Challenge)>,
    /// It was logged in before, and may only come back as who it was.
    pub before: Option<LoggedIn>,
}

#[derive(Clone, Copy, Debug)]
pub struct LoggedIn {
    pub mechanism: Mechanism,
    pub since: Instant,
    /// Then it has to log in again; `None`: never.
    pub until: Option<Instant>,
}

impl Login {
    /// Whether the client is who it says.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::NotAsked | Self::Done(_))
    }

    /// Whether the next frame is no request but a bare message.
    pub fn is_bare(&self) -> bool {
        matches!(self, Self::Begun(exchange) if exchange.is_bare)
    }

    /// Whether a request may be carried out now. One that may not closes the connection.
    pub fn admits(&self, api: Key, now: Instant) -> bool {
        match self {
            Self::NotAsked => true,
            Self::Awaited => api == ApiKey::ApiVersions || api == ApiKey::SaslHandshake,
            Self::Begun(_) => api == ApiKey::SaslAuthenticate,
            Self::Done(logged_in) => api == ApiKey::SaslHandshake || logged_in.until.is_none_or(|until| now < until),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_but_logins_is_served_before_one() {
        let now = Instant::now();
        let admitted = |login: &Login, at: Instant| -> Vec<ApiKey> {
            let all = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate, ApiKey::Metadata];
            all.into_iter().filter(|api| login.admits(Key::of(*api), at)).collect()
        };
        let exchange = Exchange { mechanism: Mechanism::Plain, is_bare: false, asked: None, before: None };
        assert_eq!(admitted(&Login::Awaited, now), [ApiKey::ApiVersions, ApiKey::SaslHandshake]);
        assert_eq!(admitted(&Login::Begun(Box::new(exchange)), now), [ApiKey::SaslAuthenticate]);
        assert_eq!(admitted(&Login::NotAsked, now).len(), 4);
        let until = now + Duration::from_secs(1);
        let done = Login::Done(LoggedIn { mechanism: Mechanism::Plain, since: now, until: Some(until) });
        assert_eq!(admitted(&done, now).len(), 4);
        assert_eq!(admitted(&done, until), [ApiKey::SaslHandshake]);
    }
}
