//! What a client may do with a resource, as Metadata and the like tell when they are asked: a bit for each of Kafka's
//! `AclOperation`s. Nothing is forbidden to anyone: it is always all that the resource knows (`AclEntry.supportedOperations`).

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// What is said when nobody asked.
pub const NOT_ASKED: i32 = i32::MIN;
pub const OF_TOPIC: i32 = READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub const OF_CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;
pub const OF_GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;

/// The bits of `all` if they were asked for.
pub fn if_asked(asked: bool, all: i32) -> i32 {
    if asked { all } else { NOT_ASKED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_kafka_sends_without_an_authorizer() {
        assert_eq!((OF_TOPIC, OF_CLUSTER, OF_GROUP), (3576, 8096, 3400));
        assert_eq!((if_asked(true, OF_TOPIC), if_asked(false, OF_TOPIC)), (3576, i32::MIN));
    }
}
