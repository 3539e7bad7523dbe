//! SASL PLAIN (RFC 4616): user and password as they are.

use super::scram::LoginFailed;

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainLogin {
    pub user: String,
    pub password: String,
}

impl PlainLogin {
    /// `[authzid] NUL user NUL password`. Nobody speaks for others.
    pub fn parse(message: &[u8]) -> Result<Self, LoginFailed> {
        let message = std::str::from_utf8(message).map_err(|_| LoginFailed)?;
        let parts: Vec<&str> = message.split('\0').collect();
        let [authzid, user, password] = parts[..] else { return Err(LoginFailed) };
        let is_for_itself = authzid.is_empty() || authzid == user;
        match user.is_empty() || password.is_empty() || !is_for_itself {
            true => Err(LoginFailed),
            false => Ok(Self { user: user.to_owned(), password: password.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(message: &[u8]) -> Option<String> {
        PlainLogin::parse(message).ok().map(|login| login.user)
    }

    /// The cases of Kafka's `PlainSaslServerTest`.
    #[test]
    fn user_and_password_and_nobody_else() {
        assert_eq!(user(b"\0alice\0secret").as_deref(), Some("alice"));
        assert_eq!(user(b"alice\0alice\0secret").as_deref(), Some("alice"));
        for message in [
            &b"bob\0alice\0secret"[..],
            b"\0\0secret",
            b"\0alice\0",
            b"alice",
            b"\0alice",
            b"",
            b"\0a\0b\0c",
            b"\0\xff\0a",
        ] {
            assert_eq!(user(message), None, "{message:?}");
        }
    }
}
