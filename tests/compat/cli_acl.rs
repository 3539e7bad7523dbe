//! `millstream acl`: access control lists by the command line.

use serde_json::{Value, json};

use crate::cli::{cli, fails, json as shown_json, shown};
use crate::harness::broker::Broker;

const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const ADMINS: &str = "super.users=User:ANONYMOUS";

fn acl(operation: &str, resource: &str, pattern: &str, name: &str) -> Value {
    json!({
        "principal": "User:alice", "host": "*", "operation": operation, "permission": "ALLOW", "resource": resource,
        "pattern": pattern, "name": name,
    })
}

#[test]
fn lists_come_and_go() {
    let Some(broker) = Broker::own(&[AUTHORIZER, ADMINS]) else { return };
    let alice = ["acl", "create", "--principal", "User:alice", "--operation"];
    let create = |more: &[&str]| shown_json(&broker, &[&alice[..], more].concat());
    let (read, describe) = (acl("READ", "TOPIC", "LITERAL", "orders"), acl("DESCRIBE", "TOPIC", "LITERAL", "orders"));
    let created = create(&["read", "--operation", "describe", "--topic", "orders"]);
    assert_eq!(created, json!({ "acls": [read, describe], "status": "created" }));
    let said = shown(&broker, &[&alice[..], &["all", "--group", "billing-", "--prefixed"]].concat());
    assert_eq!(said, "ALLOW User:alice from * ALL on GROUP PREFIXED billing- created\n");
    create(&["write", "--topic", "or", "--prefixed"]);
    create(&["cluster-action", "--cluster"]);
    create(&["write", "--transactional-id", "*"]);
    shown(
        &broker,
        &["acl", "create", "--principal", "User:*", "--operation", "write", "--topic", "*", "--deny", "--host", "::/0"],
    );
    let listed = |more: &[&str]| {
        let listed = shown_json(&broker, &[&["acl", "list"], more].concat());
        listed["acls"].as_array().expect("lists").clone()
    };
    assert_eq!(listed(&[]).len(), 7);
    assert_eq!(listed(&["--topic", "orders"]).len(), 4, "prefixes and all topics included");
    assert_eq!(
        listed(&["--topic", "orders", "--principal", "User:alice", "--operation", "READ"]),
        std::slice::from_ref(&read)
    );
    assert_eq!(listed(&["--group", "billing-1"]), [acl("ALL", "GROUP", "PREFIXED", "billing-")]);
    let table = shown(&broker, &["acl", "list", "--principal", "User:*"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            vec!["PRINCIPAL", "HOST", "PERMISSION", "OPERATION", "RESOURCE", "PATTERN", "NAME"],
            vec!["User:*", "::/0", "DENY", "WRITE", "TOPIC", "LITERAL", "*"],
        ]
    );
    let deleted = shown_json(&broker, &["acl", "delete", "--topic", "orders", "--operation", "read"]);
    assert_eq!(deleted, json!({ "acls": [read], "status": "deleted" }));
    assert_eq!(listed(&["--topic", "orders"]).len(), 3);
    shown(&broker, &["acl", "delete", "--topic", "or", "--prefixed"]);
    shown(&broker, &["acl", "delete", "--principal", "User:alice"]);
    assert_eq!(listed(&[]).len(), 1);
}

#[test]
fn what_cannot_be_is_said() {
    let Some(broker) = Broker::own(&[AUTHORIZER, ADMINS]) else { return };
    let create = |more: &[&str], words: &[&str]| {
        fails(&broker, &[&["acl", "create", "--operation", "read"], more].concat(), 1, words);
    };
    create(&["--principal", "alice", "--topic", "t"], &["cannot create", "Could not parse principal"]);
    let host = ["--principal", "User:alice", "--topic", "t", "--host", "10.0.0.0/99"];
    create(&host, &["is no range of addresses"]);
    for usage in [
        &["acl", "create", "--operation", "read", "--principal", "User:a"][..],
        &["acl", "create", "--operation", "read", "--principal", "User:a", "--topic", "t", "--cluster"],
        &["acl", "create", "--operation", "fly", "--principal", "User:a", "--topic", "t"],
        &["acl", "delete"],
        &["acl", "delete", "--prefixed"],
    ] {
        assert_eq!(cli(&broker, usage).code, Some(2), "{usage:?}");
    }
    fails(&broker, &["acl", "delete", "--topic", "t"], 1, &["none fits", "millstream acl list"]);
    let Some(open) = Broker::own(&[]) else { return };
    fails(&open, &["acl", "list"], 1, &["cannot list access control lists", "authorizer.class.name"]);
}
