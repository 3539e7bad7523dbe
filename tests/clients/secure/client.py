"""kafka-python over TLS at $BOOTSTRAP, as alice, with every mechanism."""

import os
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError


def settings(mechanism, password):
    return {
        "bootstrap_servers": os.environ["BOOTSTRAP"],
        "security_protocol": "SASL_SSL",
        "ssl_cafile": os.environ["CA"],
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "alice",
        "sasl_plain_password": password,
    }


def use(mechanism):
    right = settings(mechanism, os.environ["ALICE"])
    topic = f"python-{mechanism}-{uuid.uuid4()}"
    producer = KafkaProducer(acks="all", **right)
    for i in range(300):
        producer.send(topic, partition=0, value=b"%d" % i)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(consumer_timeout_ms=10_000, **right)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    assert [next(consumer).value for _ in range(300)] == [b"%d" % i for i in range(300)]
    consumer.close()


def refuse(mechanism):
    try:
        KafkaAdminClient(request_timeout_ms=5_000, **settings(mechanism, "wrong"))
    except KafkaError:
        return
    raise AssertionError(f"{mechanism} lets a wrong password in")


for name in os.environ["MECHANISMS"].split():
    use(name)
    refuse(name)
    print(f"ok   python: {name} over TLS", flush=True)
