//! The command line where brokers ask who comes: TLS, logins, and the users that may log in.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::Done;
use crate::harness::broker::{BINARY, Broker};
use crate::harness::eventually;
use crate::harness::tls::{Authority, Validity, write};

const USERS: [(&str, &str); 1] = [("MILLSTREAM_BOOTSTRAP_USERS", "admin:admin-secret")];

/// A broker that speaks TLS and wants a login; the file of its issuer, and a file of settings of Kafka's clients.
struct Setup {
    broker: Broker,
    ca: String,
    admin: String,
    directory: TempDir,
}

fn setup(settings: &[&str]) -> Option<Setup> {
    let directory = TempDir::new().expect("temporary directory");
    let authority = Authority::new("the issuer");
    let path = |name: &str, text: &str| write(directory.path(), name, text).to_str().expect("a path").to_owned();
    let keystore = path("broker.pem", &authority.issue("broker", "tests", 1, Validity::Good).pem());
    let ca = path("ca.pem", authority.pem());
    let admin = format!(
        "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
         sasl.mechanism=SCRAM-SHA-512\nclient.id=x\nsasl.jaas.config=org.apache.kafka.common.security.scram.\
         ScramLoginModule required \\\n  username=\"admin\" password=\"admin-secret\";\n"
    );
    let admin = path("admin.properties", &admin);
    let keystore = format!("ssl.keystore.location={keystore}");
    let broker = Broker::own_in("SASL_SSL://127.0.0.1:0", &[&[keystore.as_str()], settings].concat(), &USERS)?;
    Some(Setup { broker, ca, admin, directory })
}

impl Setup {
    fn command(&self, environment: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).args(["--brokers", self.broker.bootstrap()]).envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, environment: &[(&str, &str)], args: &[&str], input: &str) -> Done {
        let mut child = self.command(environment, args).spawn().expect("the binary starts");
        let fed = child.stdin.take().expect("stdin").write_all(input.as_bytes());
        drop(fed);
        let output = child.wait_with_output().expect("wait");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// As the administrator, who must not fail.
    #[track_caller]
    fn admin(&self, args: &[&str], input: &str) -> Value {
        let args = [args, &["--command-config", &self.admin, "--format", "json"]].concat();
        let done = self.run(&[], &args, input);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
        // What produces says nothing.
        if done.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&done.stdout).expect("one JSON document")
        }
    }

    /// As a user, by the options alone.
    fn user(&self, name: &str, password: &str, args: &[&str]) -> Done {
        let args = [args, &["--user", name, "--ca", &self.ca]].concat();
        self.run(&[("MILLSTREAM_PASSWORD", password)], &args, "")
    }
}

#[track_caller]
fn fails(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
}

#[test]
fn users_come_and_go_and_work_over_tls() {
    let Some(setup) = setup(&[]) else { return };
    let created = setup.admin(&["user", "create", "bob"], "bob-secret\n");
    assert_eq!(created["users"][0]["status"], "created");
    let listed = setup.admin(&["user", "list"], "");
    let names: Vec<&str> =
        listed["users"].as_array().expect("users").iter().filter_map(|u| u["name"].as_str()).collect();
    assert_eq!(names, ["admin", "bob"]);
    assert_eq!(listed["users"][1]["mechanisms"][0], serde_json::json!({ "name": "SCRAM-SHA-256", "iterations": 4096 }));
    let bob = |args: &[&str]| {
        let done = setup.user("bob", "bob-secret", args);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
        done.stdout
    };
    bob(&["topic", "create", "orders"]);
    bob(&["topic", "produce", "orders", "-v", "one"]);
    assert_eq!(bob(&["topic", "consume", "orders", "-f", "%v\\n"]), "one\n");
    // Another password takes the place of the first.
    let file = write(setup.directory.path(), "password", "another\nline\n");
    setup.admin(&["user", "create", "bob", "--password-file", file.to_str().expect("a path")], "");
    fails(&setup.user("bob", "bob-secret", &["topic", "list"]), 1, &["cannot log in", "invalid credentials", "--user"]);
    assert_eq!(setup.user("bob", "another", &["topic", "list"]).code, Some(0));
    // One of two ways to log in is left.
    setup.admin(&["user", "delete", "bob", "--mechanism", "SCRAM-SHA-512"], "");
    assert_eq!(setup.user("bob", "another", &["topic", "list"]).code, Some(0));
    setup.admin(&["user", "delete", "bob"], "");
    fails(&setup.user("bob", "another", &["topic", "list"]), 1, &["cannot log in"]);
    let again = setup.run(&[], &["user", "delete", "bob", "--command-config", &setup.admin], "");
    fails(&again, 1, &["cannot delete user bob", "no such user"]);
}

#[test]
fn who_does_not_get_in_is_told_why() {
    let Some(setup) = setup(&[]) else { return };
    let list = ["topic", "list", "--timeout", "2"];
    fails(&setup.run(&[], &list, ""), 1, &["no broker can be reached", "TLS"]);
    let ca = ["--ca", setup.ca.as_str()];
    fails(&setup.run(&[], &[&list[..], &ca].concat(), ""), 1, &["the broker closed the connection"]);
    let other = write(setup.directory.path(), "other.pem", Authority::new("another issuer").pem());
    let stranger = ["--ca", other.to_str().expect("a path"), "--user", "admin"];
    let password = [("MILLSTREAM_PASSWORD", "admin-secret")];
    fails(&setup.run(&password, &[&list[..], &stranger].concat(), ""), 1, &["TLS: ", "UnknownIssuer"]);
    let plain = write(setup.directory.path(), "plain.properties", "sasl.mechanism=PLAIN\n");
    let plain = ["--command-config", plain.to_str().expect("a path"), "--user", "admin"];
    let refused = setup.run(&password, &[&list[..], &ca, &plain].concat(), "");
    fails(&refused, 1, &["PLAIN is not enabled there, but SCRAM-SHA-256, SCRAM-SHA-512"]);
    fails(&setup.run(&[], &[&list[..], &["--user", "admin"]].concat(), ""), 2, &["MILLSTREAM_PASSWORD"]);
    fails(&setup.run(&[], &[&list[..], &["--command-config", "/nonexistent"]].concat(), ""), 2, &["/nonexistent"]);
    fails(
        &setup.run(&[], &["user", "create", "bob", "--command-config", &setup.admin], "\n"),
        2,
        &["password is empty"],
    );
}

#[test]
fn a_command_that_goes_on_logs_in_again_when_its_login_runs_out() {
    let Some(setup) = setup(&["connections.max.reauth.ms=3000"]) else { return };
    setup.admin(&["topic", "create", "orders"], "");
    let args = ["topic", "consume", "orders", "--follow", "-n", "2", "-f", "%v\\n", "--command-config", &setup.admin];
    let mut reader = setup.command(&[], &args).spawn().expect("the binary starts");
    setup.admin(&["topic", "produce", "orders", "-v", "one"], "");
    let logins = || setup.broker.metric("millstream_logins_total");
    let before = logins();
    eventually("the reader has logged in again", || (logins() > before + 1.0).then_some(()));
    assert!(reader.try_wait().expect("wait").is_none(), "the reader goes on");
    setup.admin(&["topic", "produce", "orders", "-v", "two"], "");
    let read = reader.wait_with_output().expect("wait");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "one\ntwo\n", "{}", String::from_utf8_lossy(&read.stderr));
}
