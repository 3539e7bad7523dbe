"""kafka-python against the broker at $BOOTSTRAP: topics, every codec, an idempotent producer, offsets, times, a group."""

import os
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

BOOTSTRAP = os.environ["BOOTSTRAP"]
TOPIC = f"python-{uuid.uuid4()}"
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
# One for each codec, and one for the idempotent producer.
PARTITIONS = len(CODECS) + 1


def ok(what):
    print(f"ok   python: {what}", flush=True)


def administration():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1, topic_configs={"retention.ms": "86400000"})])
    assert TOPIC in admin.list_topics()
    described = admin.describe_topics([TOPIC])
    assert len(described[0]["partitions"]) == PARTITIONS, described
    admin.close()
    ok("topics")


def codecs():
    for partition, codec in enumerate(CODECS):
        producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=codec, acks="all", linger_ms=5)
        for i in range(500):
            producer.send(TOPIC, partition=partition, key=b"k%d" % i, value=b"v%d" % i, headers=[("h", b"%d" % i)], timestamp_ms=1_000 + i)
        producer.flush()
        producer.close()
        consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, consumer_timeout_ms=10_000, check_crcs=True)
        place = TopicPartition(TOPIC, partition)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        for i in range(500):
            record = next(consumer)
            assert (record.offset, record.key, record.value) == (i, b"k%d" % i, b"v%d" % i), record
            assert list(record.headers) == [("h", b"%d" % i)] and record.timestamp == 1_000 + i, record
        consumer.close()
        ok(f"codec {codec}")


def idempotence():
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True)
    sent = [producer.send(TOPIC, partition=len(CODECS), value=b"%d" % i) for i in range(300)]
    assert [f.get(timeout=30).offset for f in sent] == list(range(300))
    producer.close()
    ok("an idempotent producer")


def offsets_and_times():
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    place = TopicPartition(TOPIC, 0)
    assert consumer.beginning_offsets([place]) == {place: 0}
    assert consumer.end_offsets([place]) == {place: 500}
    assert consumer.offsets_for_times({place: 1_250})[place].offset == 250
    assert consumer.partitions_for_topic(TOPIC) == set(range(PARTITIONS))
    consumer.close()
    ok("offsets and times")


def groups():
    group = f"{TOPIC}-group"

    def member(**more):
        return KafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest", **more)

    first = member(enable_auto_commit=False, consumer_timeout_ms=20_000)
    got = 0
    total = 500 * len(CODECS) + 300
    while got < total:
        got += sum(len(records) for records in first.poll(timeout_ms=5_000).values())
    first.commit()
    first.close()
    place = TopicPartition(TOPIC, 1)
    again = member(enable_auto_commit=False)
    assert again.committed(place) == 500
    again.poll(timeout_ms=3_000)
    assert sum(again.position(p) for p in again.assignment()) == total
    again.commit({place: OffsetAndMetadata(17, "note", -1)})
    assert again.committed(place) == 17
    again.close()
    ok("a group")


administration()
codecs()
idempotence()
offsets_and_times()
groups()
