//! Why a request to a broker came to nothing, and what Kafka's error codes mean to a person.

use std::time::Duration;

use kafka_protocol::error::ResponseError;

/// Why a request has no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("no broker can be reached: {}", list(.0))]
    Unreachable(Vec<ClientError>),
    /// No connection came about: nothing was asked.
    #[error("{address}: {error}")]
    Connect { address: String, error: String },
    /// The broker is there and does not let us in.
    #[error("{address}: cannot log in: {detail}")]
    Login { address: String, detail: String },
    /// The connection broke: whether the request was carried out is unknown.
    #[error("{address}: {error}")]
    Io { address: String, error: String },
    #[error("{address}: no answer to {api} within {} s", .after.as_secs_f32())]
    Timeout { address: String, api: String, after: Duration },
    /// What was read is no Kafka frame: another protocol, or TLS.
    #[error("{address}: the answer is not of the Kafka protocol ({detail})")]
    NotKafka { address: String, detail: String },
    #[error("{address}: {api} is not supported there (broker: {broker}, this program: {ours})")]
    Unsupported { address: String, api: String, broker: String, ours: String },
    #[error("{address}: the answer to {api} cannot be read: {detail}")]
    Decode { address: String, api: String, detail: String },
    #[error("the request {api} cannot be written in version {version}: {detail}")]
    Encode { api: String, version: i16, detail: String },
    #[error("broker {0} is not part of the cluster")]
    UnknownBroker(i32),
    #[error("{}", explain(*.error, .message.as_deref()))]
    Response { error: ResponseError, message: Option<String> },
}

impl ClientError {
    /// The error of a response's code and message; None for code 0.
    pub fn of_code(code: i16, message: Option<&str>) -> Option<Self> {
        let error = ResponseError::try_from_code(code)?;
        Some(Self::Response { error, message: message.map(str::to_owned) })
    }

    /// The Kafka error, when the broker answered with one.
    pub fn response(&self) -> Option<ResponseError> {
        match self {
            Self::Response { error, .. } => Some(*error),
            _ => None,
        }
    }

    /// True when the same request may succeed in a moment, perhaps at another broker. A topic that metadata does not
    /// know is not worth waiting for, though Kafka counts it as retriable.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Io { .. } | Self::UnknownBroker(_) => true,
            Self::Response { error: ResponseError::UnknownTopicOrPartition, .. } => false,
            Self::Response { error, .. } => error.is_retriable(),
            _ => false,
        }
    }

    /// What the user may do about it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) => Some("is a broker running there? -b/--brokers or MILLSTREAM_BROKERS names another"),
            Self::Connect { .. } => {
                Some("the brokers advertise this address: see advertised.listeners when it cannot be reached from here")
            }
            Self::Io { .. } => {
                Some("the log of the broker may say why; does the listener want TLS (--ca) or a login (--user)?")
            }
            Self::Timeout { .. } => Some("--timeout gives it longer"),
            Self::NotKafka { .. } => Some("is this a Kafka listener, and does it want TLS (--ca)?"),
            Self::Login { .. } => Some("--user and MILLSTREAM_PASSWORD, or --command-config, say who logs in"),
            Self::Response { error, .. } => advice(*error),
            _ => None,
        }
    }
}

fn list(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Kafka's name of an error code: `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn name(error: ResponseError) -> String {
    if let ResponseError::Unknown(code) = error {
        return format!("ERROR_{code}");
    }
    let mut name = String::new();
    for letter in error.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// One phrase of why: the broker's own text if there is one, else ours, and always Kafka's name.
pub fn explain(error: ResponseError, message: Option<&str>) -> String {
    let name = name(error);
    // Brokers have only the text of the code itself for these, which speaks of servers and partitions.
    let message = message.filter(|_| error != ResponseError::UnknownTopicOrPartition);
    match message.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => format!("{} ({name})", text.trim_end_matches('.')),
        None => match meaning(error) {
            Some(text) => format!("{text} ({name})"),
            None => name,
        },
    }
}

/// Codes that people meet, in few words. Others show their name.
fn meaning(error: ResponseError) -> Option<&'static str> {
    use ResponseError as E;
    Some(match error {
        E::UnknownTopicOrPartition => "no such topic or partition",
        E::UnknownTopicId => "no topic has this id any more",
        E::TopicAlreadyExists => "the topic exists",
        E::InvalidTopicException => "the name is not legal",
        E::LeaderNotAvailable => "the partition has no leader at the moment",
        E::NotLeaderOrFollower => "the partition has moved to another broker",
        E::NotController => "the broker asked is not the controller",
        E::RequestTimedOut => "the broker did not finish in time",
        E::OffsetOutOfRange => "the offset is not in the log",
        E::MessageTooLarge | E::RecordListTooLarge => "the batch is larger than max.message.bytes of the topic",
        E::CorruptMessage => "the broker finds the batch corrupt",
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => "fewer replicas are in sync than min.insync.replicas",
        E::KafkaStorageError => "the broker cannot use the disk of the partition",
        E::CoordinatorNotAvailable => "the group coordinator is not available",
        E::CoordinatorLoadInProgress => "the group coordinator is still loading",
        E::NotCoordinator => "the broker asked is not the coordinator of the group",
        E::GroupIdNotFound => "no such group",
        E::NonEmptyGroup => "the group has members",
        E::InvalidGroupId => "the group id is not legal",
        E::UnknownMemberId | E::RebalanceInProgress | E::IllegalGeneration => "the group has members",
        E::InvalidReplicationFactor => "the replication factor is not possible with the brokers there are",
        E::InvalidPartitions => "the number of partitions is not possible",
        E::InvalidConfig => "a setting is unknown or its value is not allowed",
        E::UnsupportedVersion => "the broker does not support this",
        E::UnsupportedCompressionType => "the broker does not support this compression",
        E::TopicAuthorizationFailed => "you are not authorized on the topic",
        E::GroupAuthorizationFailed => "you are not authorized on the group",
        E::ClusterAuthorizationFailed => "you are not authorized on the cluster",
        E::TopicDeletionDisabled => "delete.topic.enable is false on the brokers",
        E::InvalidRecord => "the broker refuses a record",
        E::UnknownServerError => "the broker met an unexpected error, which its log explains",
        _ => return None,
    })
}

fn advice(error: ResponseError) -> Option<&'static str> {
    use ResponseError as E;
    Some(match error {
        E::UnknownTopicOrPartition => "`millstream topic list` shows the topics",
        E::TopicAlreadyExists => "--if-not-exists accepts that",
        E::GroupIdNotFound => "`millstream group list` shows the groups",
        E::NonEmptyGroup | E::UnknownMemberId | E::RebalanceInProgress | E::IllegalGeneration => {
            "stop its consumers first; `millstream group describe` shows them"
        }
        E::InvalidReplicationFactor => "`millstream cluster describe` shows the brokers",
        E::InvalidConfig => "`millstream config describe --topic NAME --all` shows the settings of topics",
        E::MessageTooLarge | E::RecordListTooLarge => "`millstream topic alter --set max.message.bytes=N` raises it",
        E::LeaderNotAvailable | E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => {
            "`millstream topic describe` shows the replicas"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(name(ResponseError::UnknownTopicOrPartition), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(name(ResponseError::NotLeaderOrFollower), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(name(ResponseError::Unknown(999)), "ERROR_999");
    }

    #[test]
    fn the_brokers_text_goes_first() {
        let error = ClientError::of_code(36, Some("Topic 'a' already exists.")).expect("an error");
        assert_eq!(error.to_string(), "Topic 'a' already exists (TOPIC_ALREADY_EXISTS)");
        let error = ClientError::of_code(36, Some(" ")).expect("an error");
        assert_eq!(error.to_string(), "the topic exists (TOPIC_ALREADY_EXISTS)");
        assert!(ClientError::of_code(0, None).is_none());
    }
}
