//! SCRAM credentials of users (Kafka `ScramControlManager`, `ScramImage`).

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{Reader, WireError, Writer};
use super::{Command, Decision, Image};
use crate::security::{ITERATIONS_MAX, ITERATIONS_MIN, ScramCredential, ScramMechanism};

/// What only the cluster knows: salts of users that do not exist are made of it.
pub const LOGIN_SECRET_BYTES: usize = 32;

/// A credential that shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramDeletion {
    pub user: String,
    /// Kafka's number.
    pub mechanism: i8,
}

/// A credential that shall come, or take another's place.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramUpsertion {
    pub user: String,
    /// Kafka's number.
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Vec<u8>,
    pub salted_password: Vec<u8>,
}

/// Why a user's credential is not altered, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterScramError {
    #[error("A user credential cannot be altered twice in the same request")]
    Twice,
    #[error("Username must not be empty")]
    NoName,
    #[error("Unknown SCRAM mechanism")]
    UnknownMechanism,
    #[error("Too few iterations")]
    TooFewIterations,
    #[error("Too many iterations")]
    TooManyIterations,
    #[error("Attempt to delete a user credential that does not exist")]
    NotThere,
}

/// Every user that is named, with what became of it, by name.
pub type AlteredScram = BTreeMap<String, Result<(), AlterScramError>>;

/// Each user by itself: what is wrong with one does not keep the others. `secret`: random, taken as the cluster's if it has none
/// yet.
pub fn alter_scram(
    image: &Image,
    deletions: &[ScramDeletion],
    upsertions: &[ScramUpsertion],
    secret: [u8; LOGIN_SECRET_BYTES],
) -> Decision<AlteredScram> {
    let mut seen = BTreeSet::new();
    let names =
        deletions.iter().map(|deletion| &deletion.user).chain(upsertions.iter().map(|upsertion| &upsertion.user));
    let twice: BTreeSet<&String> = names.filter(|name| !seen.insert(*name)).collect();
    let mut commands = Vec::new();
    let mut reply = AlteredScram::new();
    if image.login_secret().is_none() && !upsertions.is_empty() {
        commands.push(Command::SetLoginSecret { secret: secret.to_vec() });
    }
    let deleted = deletions.iter().map(|deletion| (&deletion.user, delete(image, deletion)));
    let upserted = upsertions.iter().map(|upsertion| (&upsertion.user, upsert(upsertion)));
    for (user, decided) in deleted.chain(upserted) {
        let decided = if twice.contains(user) { Err(AlterScramError::Twice) } else { decided };
        reply.insert(
            user.clone(),
            decided.map(|command| {
                commands.push(command);
            }),
        );
    }
    Decision { commands, reply }
}

/// A user of a cluster that is being formed, with both mechanisms.
pub fn first_user(user: &str, password: &str, salt: &[u8]) -> Vec<Command> {
    let credential = |mechanism: ScramMechanism| {
        let salted = mechanism.salted_password(password.as_bytes(), salt, ITERATIONS_MIN);
        mechanism.credential(&salted, salt, ITERATIONS_MIN)
    };
    let command =
        |mechanism| Command::SetScram { user: user.to_owned(), mechanism, credential: Some(credential(mechanism)) };
    ScramMechanism::ALL.into_iter().map(command).collect()
}

fn delete(image: &Image, deletion: &ScramDeletion) -> Result<Command, AlterScramError> {
    let mechanism = check_name(&deletion.user, deletion.mechanism)?;
    match image.scram(&deletion.user, mechanism) {
        Some(_) => Ok(Command::SetScram { user: deletion.user.clone(), mechanism, credential: None }),
        None => Err(AlterScramError::NotThere),
    }
}

fn upsert(upsertion: &ScramUpsertion) -> Result<Command, AlterScramError> {
    let mechanism = check_name(&upsertion.user, upsertion.mechanism)?;
    let iterations = u32::try_from(upsertion.iterations).unwrap_or(0);
    match iterations {
        ..ITERATIONS_MIN => return Err(AlterScramError::TooFewIterations),
        ITERATIONS_MIN..=ITERATIONS_MAX => {}
        _ => return Err(AlterScramError::TooManyIterations),
    }
    let credential = mechanism.credential(&upsertion.salted_password, &upsertion.salt, iterations);
    Ok(Command::SetScram { user: upsertion.user.clone(), mechanism, credential: Some(credential) })
}

fn check_name(user: &str, mechanism: i8) -> Result<ScramMechanism, AlterScramError> {
    match user.is_empty() {
        true => Err(AlterScramError::NoName),
        false => ScramMechanism::of_number(mechanism).ok_or(AlterScramError::UnknownMechanism),
    }
}

/// Why a user's credentials are not described, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeScramError {
    #[error("Cannot describe SCRAM credentials for the same user twice in a single request: {0}")]
    Twice(String),
    #[error("Attempt to describe a user credential that does not exist: {0}")]
    NotThere(String),
}

/// The mechanisms of a user, with their iterations.
pub type UserMechanisms = Vec<(ScramMechanism, u32)>;

/// These users in the order in which they are asked for, each once; all of them when none is.
pub fn describe_scram(image: &Image, users: &[String]) -> Vec<(String, Result<UserMechanisms, DescribeScramError>)> {
    let of = |user: &str| -> UserMechanisms {
        let credential = |mechanism| Some((mechanism, image.scram(user, mechanism)?.iterations));
        ScramMechanism::ALL.into_iter().filter_map(credential).collect()
    };
    if users.is_empty() {
        return image.scram_users().into_iter().map(|user| (user.to_owned(), Ok(of(user)))).collect();
    }
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    users.iter().for_each(|user| *times.entry(user).or_default() += 1);
    let mut told = BTreeSet::new();
    let first = users.iter().filter(|user| told.insert(*user));
    first
        .map(|user| {
            let described = match of(user) {
                _ if times[user] > 1 => Err(DescribeScramError::Twice(user.clone())),
                none if none.is_empty() => Err(DescribeScramError::NotThere(user.clone())),
                mechanisms => Ok(mechanisms),
            };
            (user.clone(), described)
        })
        .collect()
}

impl Image {
    pub fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<&ScramCredential> {
        self.scram.get(user)?.get(&mechanism)
    }

    /// Everybody with a credential, by name.
    pub fn scram_users(&self) -> Vec<&str> {
        self.scram.keys().map(String::as_str).collect()
    }

    /// What salts of users that do not exist are made of; `None`: there never were users.
    pub fn login_secret(&self) -> Option<&[u8]> {
        self.login_secret.as_deref()
    }
}

pub(super) fn write_scram_key(user: &str, mechanism: ScramMechanism, to: &mut Writer) {
    to.text(user).u8(mechanism.number().unsigned_abs());
}

pub(super) fn read_scram_key(from: &mut Reader<'_>) -> Result<(String, ScramMechanism), WireError> {
    let user = from.text("user")?;
    let number = from.u8("mechanism")?;
    let mechanism = i8::try_from(number).ok().and_then(ScramMechanism::of_number);
    Ok((user, from.checked(mechanism, "mechanism")?))
}

pub(super) fn write_credential(credential: &ScramCredential, to: &mut Writer) {
    to.bytes(&credential.salt).bytes(&credential.stored_key).bytes(&credential.server_key);
    to.u64(u64::from(credential.iterations));
}

pub(super) fn read_credential(from: &mut Reader<'_>) -> Result<ScramCredential, WireError> {
    let (salt, stored_key, server_key) = (from.bytes("salt")?, from.bytes("stored key")?, from.bytes("server key")?);
    let iterations = from.u64("iterations")?;
    let iterations = from.checked(u32::try_from(iterations).ok(), "iterations")?;
    Ok(ScramCredential { salt, stored_key, server_key, iterations })
}
