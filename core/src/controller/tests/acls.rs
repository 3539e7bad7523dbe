//! CreateAcls and DeleteAcls, in Kafka's words.

use super::*;
use crate::security::{AclFilter, Operation, PatternFilter};

fn allow(name: &str, principal: &str) -> NewAcl {
    NewAcl {
        resource_type: 2,
        pattern_type: 3,
        name: name.into(),
        principal: principal.into(),
        host: "*".into(),
        operation: 3,
        permission: 3,
    }
}

fn named(name: Option<&str>) -> AclFilter {
    AclFilter {
        resource: None,
        pattern: PatternFilter::Any,
        name: name.map(Into::into),
        principal: None,
        host: None,
        operation: None,
        permission: None,
    }
}

fn create(image: &mut Image, asked: &[NewAcl]) -> Vec<Result<(), String>> {
    let decision = create_acls(image, asked);
    decision.commands.iter().for_each(|command| image.apply(command));
    decision.reply.into_iter().map(|made| made.map_err(|e| e.to_string())).collect()
}

#[test]
fn lists_are_made_once_and_what_cannot_be_is_refused() {
    let mut image = cluster(1);
    let good = allow("t", "User:a");
    assert_eq!(create(&mut image, &[good.clone(), good.clone()]), [Ok(()), Ok(())]);
    assert_eq!(create_acls(&image, std::slice::from_ref(&good)).commands, []);
    assert_eq!(image.acls().len(), 1);
    for (bad, words) in [
        (NewAcl { resource_type: 1, ..good.clone() }, "Invalid resourceType ANY"),
        (NewAcl { resource_type: 99, ..good.clone() }, "Invalid resourceType UNKNOWN"),
        (NewAcl { pattern_type: 2, ..good.clone() }, "Invalid patternType MATCH"),
        (NewAcl { operation: 1, ..good.clone() }, "Invalid operation ANY"),
        (NewAcl { permission: 0, ..good.clone() }, "Invalid permissionType UNKNOWN"),
        (allow("", "User:a"), "Resource name should not be empty"),
        (NewAcl { resource_type: 4, ..good.clone() }, "The only valid name for the CLUSTER resource is kafka-cluster"),
        (allow("t", "a"), "Could not parse principal from `a` (TYPE:NAME is expected, like User:alice)"),
        (
            NewAcl { host: "10.0.0.0/99".into(), ..good.clone() },
            "Host '10.0.0.0/99' is no range of addresses: ADDRESS/BITS is expected, like 10.0.0.0/8",
        ),
        (allow(&"x".repeat(40_000), "User:a"), "principal, host or name is longer than 32767 bytes"),
    ] {
        assert_eq!(create(&mut image, &[bad]), [Err(words.into())]);
    }
    assert_eq!(image.acls().len(), 1);
}

#[test]
fn each_filter_tells_what_it_took() {
    let mut image = cluster(1);
    create(&mut image, &[allow("t", "User:a"), allow("t", "User:b"), allow("u", "User:a")]);
    let by_principal = AclFilter { principal: Some("User:a".into()), ..named(None) };
    let none = AclFilter { operation: Some(Operation::Write), ..named(None) };
    let decision = delete_acls(&image, &[named(Some("t")), by_principal, none]);
    let counts: Vec<_> = decision.reply.iter().map(|taken| taken.as_ref().map(Vec::len)).collect();
    assert_eq!(counts, [Ok(2), Ok(2), Ok(0)]);
    assert_eq!(decision.commands.len(), 3, "each once");
    decision.commands.iter().for_each(|command| image.apply(command));
    assert!(image.acls().is_empty());
}

#[test]
fn one_request_takes_back_a_bounded_number() {
    let mut image = cluster(1);
    let many: Vec<NewAcl> = (0..=ACLS_PER_REQUEST_MAX).map(|n| allow(&format!("t{n}"), "User:a")).collect();
    create(&mut image, &many);
    let decision = delete_acls(&image, &[named(Some("t1")), named(None), named(Some("t2"))]);
    let counts: Vec<_> = decision.reply.iter().map(|taken| taken.as_ref().map(Vec::len)).collect();
    assert_eq!(counts, [Ok(1), Err(&TooManyAcls), Ok(1)]);
    assert_eq!(decision.commands.len(), 2);
}
