//! AlterUserScramCredentials and DescribeUserScramCredentials, in Kafka's words.

use super::*;
use crate::security::{ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism};

const SECRET: [u8; LOGIN_SECRET_BYTES] = [7; LOGIN_SECRET_BYTES];

fn deletion(user: &str, mechanism: i8) -> ScramDeletion {
    ScramDeletion { user: user.into(), mechanism }
}

fn upsertion(user: &str, mechanism: i8, iterations: u32) -> ScramUpsertion {
    let iterations = i32::try_from(iterations).unwrap();
    ScramUpsertion { user: user.into(), mechanism, iterations, salt: vec![1], salted_password: vec![2; 32] }
}

fn alter(image: &mut Image, deletions: &[ScramDeletion], upsertions: &[ScramUpsertion]) -> AlteredScram {
    let decision = alter_scram(image, deletions, upsertions, SECRET);
    decision.commands.iter().for_each(|command| image.apply(command));
    decision.reply
}

fn only(altered: &AlteredScram) -> Result<(), AlterScramError> {
    assert_eq!(altered.len(), 1);
    *altered.values().next().unwrap()
}

#[test]
fn each_user_is_altered_by_itself() {
    let mut image = cluster(1);
    let one = upsertion("alice", 1, ITERATIONS_MIN);
    let altered = alter(&mut image, &[deletion("bob", 1)], &[one.clone(), upsertion("carol", 9, ITERATIONS_MIN)]);
    let told: Vec<_> = altered.into_iter().collect();
    assert_eq!(
        told,
        [
            ("alice".into(), Ok(())),
            ("bob".into(), Err(AlterScramError::NotThere)),
            ("carol".into(), Err(AlterScramError::UnknownMechanism)),
        ]
    );
    let kept = image.scram("alice", ScramMechanism::Sha256).unwrap();
    assert_eq!(*kept, ScramMechanism::Sha256.credential(&one.salted_password, &one.salt, ITERATIONS_MIN));
    assert_eq!(image.login_secret(), Some(&SECRET[..]));
    assert_eq!(only(&alter(&mut image, &[deletion("alice", 2)], &[])), Err(AlterScramError::NotThere));
    assert_eq!(only(&alter(&mut image, &[deletion("alice", 1)], &[])), Ok(()));
    assert!(image.scram_users().is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let mut image = cluster(1);
    let mut of = |upsertion| only(&alter(&mut image, &[], &[upsertion]));
    assert_eq!(of(upsertion("", 1, ITERATIONS_MIN)), Err(AlterScramError::NoName));
    assert_eq!(of(upsertion("a", 0, ITERATIONS_MIN)), Err(AlterScramError::UnknownMechanism));
    assert_eq!(of(upsertion("a", 1, ITERATIONS_MIN - 1)), Err(AlterScramError::TooFewIterations));
    assert_eq!(of(upsertion("a", 2, ITERATIONS_MAX + 1)), Err(AlterScramError::TooManyIterations));
    let negative = ScramUpsertion { iterations: -1, ..upsertion("a", 1, ITERATIONS_MIN) };
    assert_eq!(of(negative), Err(AlterScramError::TooFewIterations));
    let (one, other) = (upsertion("a", 1, ITERATIONS_MIN), upsertion("a", 2, ITERATIONS_MIN));
    assert_eq!(only(&alter(&mut image, &[], &[one.clone(), other])), Err(AlterScramError::Twice));
    assert_eq!(only(&alter(&mut image, &[deletion("a", 1)], &[one])), Err(AlterScramError::Twice));
    assert!(image.scram_users().is_empty());
}

/// The secret stays what it was when the first user came: a salt that changes would tell.
#[test]
fn the_secret_is_made_once() {
    let mut image = cluster(1);
    alter(&mut image, &[], &[upsertion("a", 1, ITERATIONS_MIN)]);
    let again = alter_scram(&image, &[], &[upsertion("b", 1, ITERATIONS_MIN)], [8; LOGIN_SECRET_BYTES]);
    assert_eq!(again.commands.len(), 1);
}

#[test]
fn users_are_described_once_each() {
    let mut image = cluster(1);
    alter(&mut image, &[], &[upsertion("b", 1, 5_000), upsertion("a", 1, 4_096)]);
    alter(&mut image, &[], &[upsertion("b", 2, 6_000)]);
    let both = vec![(ScramMechanism::Sha256, 5_000), (ScramMechanism::Sha512, 6_000)];
    let told = |users: &[&str]| describe_scram(&image, &users.iter().map(|user| (*user).into()).collect::<Vec<_>>());
    assert_eq!(told(&[]), [("a".into(), Ok(vec![(ScramMechanism::Sha256, 4_096)])), ("b".into(), Ok(both.clone()))]);
    assert_eq!(
        told(&["b", "x", "a", "a"]),
        [
            ("b".into(), Ok(both)),
            ("x".into(), Err(DescribeScramError::NotThere("x".into()))),
            ("a".into(), Err(DescribeScramError::Twice("a".into()))),
        ]
    );
}
