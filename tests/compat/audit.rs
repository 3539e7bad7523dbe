//! The audit log: logins, denials, and what administrators change, each in one line.

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeGroupsRequest, GroupId, IncrementalAlterConfigsRequest,
    delete_topics_request::DeleteTopicState,
};

use crate::harness::broker::Broker;
use crate::harness::login::Credentials;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics};

const SETTINGS: [&str; 2] =
    ["authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:admin"];
const USERS: [(&str, &str); 1] = [("MILLSTREAM_BOOTSTRAP_USERS", "admin:admin-secret,alice:alice-secret")];

fn log_in(broker: &Broker, user: &str, password: &str) -> (Wire, i16) {
    let mut wire = broker.wire();
    let code = Credentials { mechanism: "SCRAM-SHA-512", user, password }.log_in(&mut wire).error_code;
    (wire, code)
}

#[test]
fn who_came_and_what_was_done_is_written_down() {
    let Some(broker) = Broker::own_in("SASL_PLAINTEXT://127.0.0.1:0", &SETTINGS, &USERS) else { return };
    let (mut admin, _) = log_in(&broker, "admin", "admin-secret");
    assert_eq!(log_in(&broker, "alice", "wrong").1, 58);
    let topic = topics::topic(&mut admin, 1);
    let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("5000")));
    let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(&topic));
    let alter = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
    for validate_only in [true, false] {
        assert_eq!(admin.call(1, &alter.clone().with_validate_only(validate_only)).responses[0].error_code, 0);
    }
    let (mut alice, _) = log_in(&broker, "alice", "alice-secret");
    // What a client says cannot begin a line of its own.
    let forged = "g\" denied\n2026-01-01T00:00:00Z INFO millstream::audit: logged in";
    let asked = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(forged))]);
    assert_eq!(alice.call(5, &asked).groups[0].error_code, 30);
    let gone = DeleteTopicState::default().with_name(Some(topics::name(&topic)));
    let gone = DeleteTopicsRequest::default().with_topics(vec![gone]).with_timeout_ms(30_000);
    assert_eq!(alice.call(6, &gone).responses[0].error_code, 29);
    assert_eq!(admin.call(6, &gone).responses[0].error_code, 0);
    let by = |principal: &str, api: &str| format!("principal=\"{principal}\" host=127.0.0.1 api={api}");
    let (admin, alice) = (|api| by("User:admin", api), |api| by("User:alice", api));
    let login = |principal: &str| {
        format!(
            "logged in principal=\"{principal}\" host=127.0.0.1 listener=\"SASL_PLAINTEXT\" mechanism=\"SCRAM-SHA-512\""
        )
    };
    let expected = [
        login("User:admin"),
        "login failed host=127.0.0.1 listener=\"SASL_PLAINTEXT\" mechanism=\"SCRAM-SHA-512\"".to_owned(),
        format!("changed {} change=\"topic created\" of=\"{topic}\"", admin("CreateTopics")),
        format!(
            "changed {} change=\"settings changed\" of=\"topic {topic}: retention.ms\"",
            admin("IncrementalAlterConfigs")
        ),
        login("User:alice"),
        format!("denied {} operation=\"DESCRIBE\" resource=\"GROUP\" name={forged:?}", alice("DescribeGroups")),
        format!("denied {} operation=\"DELETE\" resource=\"TOPIC\" name=\"{topic}\"", alice("DeleteTopics")),
        format!("changed {} change=\"topic deleted\" of=\"{topic}\"", admin("DeleteTopics")),
    ];
    let lines = eventually("the last line", || {
        let log = broker.log();
        let lines: Vec<String> = log
            .lines()
            .filter_map(|line| line.split_once(" millstream::audit: "))
            .map(|(_, line)| line.to_owned())
            .collect();
        (lines.len() >= expected.len()).then_some(lines)
    });
    assert_eq!(lines, expected);
    // The secret of nobody.
    assert!(!broker.log().contains("-secret"));
}
