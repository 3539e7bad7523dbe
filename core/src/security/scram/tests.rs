use proptest::prelude::*;

use super::*;

const MECHANISM: ScramMechanism = ScramMechanism::Sha256;

fn credential(password: &str, salt: &[u8]) -> ScramCredential {
    MECHANISM.credential(&MECHANISM.salted_password(password.as_bytes(), salt, ITERATIONS_MIN), salt, ITERATIONS_MIN)
}

/// The client's side.
fn proof(mechanism: ScramMechanism, password: &str, credential: &ScramCredential, said: &str) -> String {
    let salted = mechanism.salted_password(password.as_bytes(), &credential.salt, credential.iterations);
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let stored = mechanism.hash(client_key.as_ref());
    let signature = mechanism.hmac(stored.as_ref(), said.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    STANDARD.encode(proof)
}

/// RFC 7677, section 3.
#[test]
fn the_example_of_the_rfc() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(first.user, "user");
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (message, challenge) = first.challenge(MECHANISM, credential("pencil", &salt), nonce);
    assert_eq!(message, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(challenge.verify(last.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// A login with one thing about it changed.
fn login(mechanism: ScramMechanism, password: &str, change: impl FnOnce(&str, &str) -> (String, String)) -> bool {
    let salted = mechanism.salted_password(b"secret", b"salt", ITERATIONS_MIN);
    let credential = mechanism.credential(&salted, b"salt", ITERATIONS_MIN);
    let first = ClientFirst::parse(b"n,,n=alice,r=abc").unwrap();
    let (server_first, challenge) = first.challenge(mechanism, credential.clone(), "def");
    let (binding, nonce) = change("biws", "abcdef");
    let without_proof = format!("c={binding},r={nonce}");
    let said = format!("n=alice,r=abc,{server_first},{without_proof}");
    let last = format!("{without_proof},p={}", proof(mechanism, password, &credential, &said));
    challenge.verify(last.as_bytes()).is_ok()
}

#[test]
fn only_the_right_password_over_what_was_said_gets_in() {
    let as_said = |binding: &str, nonce: &str| (binding.to_owned(), nonce.to_owned());
    for mechanism in ScramMechanism::ALL {
        assert!(login(mechanism, "secret", as_said));
        assert!(!login(mechanism, "Secret", as_said));
        // CVE-2024-56128: the nonce of the final message is compared.
        assert!(!login(mechanism, "secret", |binding, _| (binding.to_owned(), "abcdeg".to_owned())));
        assert!(!login(mechanism, "secret", |binding, _| (binding.to_owned(), "abc".to_owned())));
        // What librdkafka 2.0 says.
        assert!(login(mechanism, "secret", |binding, _| (binding.to_owned(), "abcabcdef".to_owned())));
        // Apache Kafka lets this one in.
        assert!(!login(mechanism, "secret", |_, nonce| (STANDARD.encode("y,,"), nonce.to_owned())));
    }
}

#[test]
fn what_is_no_first_message_is_refused() {
    for message in [
        "",
        "n,,",
        "n,,n=,r=abc",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=us=er,r=abc",
        "n,,n=us=2cer,r=abc",
        "p=tls-unique,,n=user,r=abc",
        "x,,n=user,r=abc",
        "n,,m=ext,n=user,r=abc",
        "n,,n=user,r=abc,m=ext",
        "n,a=other,n=user,r=abc",
        "n,b=user,n=user,r=abc",
        "n,,n=user,r=abc,nothing",
    ] {
        assert_eq!(ClientFirst::parse(message.as_bytes()), Err(LoginFailed), "{message}");
    }
    assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=abc"), Err(LoginFailed));
    for (message, user) in [
        ("n,a=user,n=user,r=abc", "user"),
        ("y,,n=a=2Cb=3Dc,r=abc,tokenauth=true", "a,b=c"),
        ("n,,n=J\u{fc}rgen,r=abc", "J\u{fc}rgen"),
    ] {
        assert_eq!(ClientFirst::parse(message.as_bytes()).unwrap().user, user);
    }
}

#[test]
fn a_password_is_checked_without_a_login() {
    let credential = credential("pencil", b"salt");
    assert!(MECHANISM.is_password(&credential, b"pencil"));
    assert!(!MECHANISM.is_password(&credential, b"pencils"));
}

/// Users cannot be told from others by their salts.
#[test]
fn who_does_not_exist_gets_the_same_salt_each_time_and_nobody_elses() {
    let of = |secret: &[u8], user| MECHANISM.stand_in(secret, user);
    assert_eq!(of(b"s", "a"), of(b"s", "a"));
    assert_ne!(of(b"s", "a").salt, of(b"s", "b").salt);
    assert_ne!(of(b"s", "a").salt, of(b"t", "a").salt);
    assert_eq!((of(b"s", "a").salt.len(), of(b"s", "a").iterations), (SALT_BYTES, ITERATIONS_MIN));
}

proptest! {
    /// Whatever is sent, the answer is an answer.
    #[test]
    fn no_message_does_harm(first in ".{0,40}", last in proptest::collection::vec(any::<u8>(), 0..80), valid in any::<bool>()) {
        let first = if valid { "n,,n=u,r=x".to_owned() } else { first };
        if let Ok(first) = ClientFirst::parse(first.as_bytes()) {
            let (_, challenge) = first.challenge(MECHANISM, MECHANISM.stand_in(b"s", "u"), "y");
            prop_assert_eq!(challenge.verify(&last), Err(LoginFailed));
        }
    }
}
