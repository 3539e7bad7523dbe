//! One message of a client that logs in, against what is known of the user.

use bytes::Bytes;
use millstream_core::security::{ClientFirst, PlainLogin, ScramCredential, ScramMechanism};
use rand::RngExt;
use subtle::ConstantTimeEq;

use super::{Exchange, Logins, Mechanism, SaslListener};
use crate::api::Context;

/// Characters of a nonce of ours.
const NONCE_LEN: usize = 32;

/// What follows from a message.
pub(super) enum Step {
    /// The client has to answer this.
    Asked(Bytes),
    Done {
        user: String,
        message: Bytes,
    },
}

/// The error says nothing: so nothing can be told.
pub(super) async fn step(
    context: &Context,
    listener: &SaslListener,
    exchange: &mut Exchange,
    message: &[u8],
) -> Result<Step, ()> {
    match exchange.mechanism {
        Mechanism::Plain => plain(context, listener, message).await,
        Mechanism::Scram(mechanism) => scram(context, mechanism, exchange, message),
    }
}

async fn plain(context: &Context, listener: &SaslListener, message: &[u8]) -> Result<Step, ()> {
    let login = PlainLogin::parse(message).map_err(|_| ())?;
    let is_right = match listener.plain_users.get(&login.user) {
        Some(password) if password.as_bytes().ct_eq(login.password.as_bytes()).into() => true,
        Some(_) => {
            // As long as with users that are not in the settings.
            is_scram_password(context, &context.logins, &login).await;
            false
        }
        None => is_scram_password(context, &context.logins, &login).await,
    };
    match is_right {
        true => Ok(Step::Done { user: login.user, message: Bytes::new() }),
        false => Err(()),
    }
}

/// Of a user with a SCRAM credential. As much work for one without.
async fn is_scram_password(context: &Context, logins: &Logins, login: &PlainLogin) -> bool {
    let find = |mechanism| context.controller.look(|now| now.image.scram(&login.user, mechanism).cloned());
    let known = ScramMechanism::ALL.into_iter().find_map(|mechanism| Some((mechanism, find(mechanism)?)));
    let is_known = known.is_some();
    let (mechanism, credential) =
        known.unwrap_or_else(|| (ScramMechanism::Sha256, stand_in(context, ScramMechanism::Sha256, &login.user)));
    let Ok(_turn) = logins.hashing.acquire().await else { return false };
    let password = login.password.clone();
    let checked = tokio::task::spawn_blocking(move || mechanism.is_password(&credential, password.as_bytes()));
    checked.await.unwrap_or(false) && is_known
}

fn scram(context: &Context, mechanism: ScramMechanism, exchange: &mut Exchange, message: &[u8]) -> Result<Step, ()> {
    match exchange.asked.take() {
        None => {
            let first = ClientFirst::parse(message).map_err(|_| ())?;
            let user = first.user.clone();
            let known = context.controller.look(|now| now.image.scram(&user, mechanism).cloned());
            let credential = known.unwrap_or_else(|| stand_in(context, mechanism, &user));
            let (answer, challenge) = first.challenge(mechanism, credential, &nonce());
            exchange.asked = Some((user, challenge));
            Ok(Step::Asked(answer.into()))
        }
        Some((user, challenge)) => {
            let answer = challenge.verify(message).map_err(|_| ())?;
            Ok(Step::Done { user, message: answer.into() })
        }
    }
}

/// For a user that does not exist. Nobody has its keys: they are as good as random.
fn stand_in(context: &Context, mechanism: ScramMechanism, user: &str) -> ScramCredential {
    context.controller.look(|now| mechanism.stand_in(now.image.login_secret().unwrap_or_default(), user))
}

fn nonce() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = rand::rng();
    (0..NONCE_LEN).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
