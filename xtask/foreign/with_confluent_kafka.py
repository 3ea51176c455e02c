"""confluent-kafka, and with it librdkafka. See `cargo xtask foreign --help` for what a client has to do."""

import json
import sys

from confluent_kafka import Consumer, Producer, libversion

servers, topic = sys.argv[1:]


def write(numbers):
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "compression.type": "zstd"})
    failures = []

    def acknowledged(error, _record):
        if error is not None:
            failures.append(error)

    for n in numbers:
        producer.produce(topic, key=str(n), value=str(n), on_delivery=acknowledged)
    producer.flush()
    assert not failures, failures


def member():
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"{topic}-group",
            "auto.offset.reset": "earliest",
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic])
    return consumer


def read(count, wanted):
    """Reads until all members have as many partitions and all that is wanted was read; leaves, which commits."""
    consumers = [member() for _ in range(count)]
    seen = set()
    while not (wanted <= seen and all(len(each.assignment()) == 4 // count for each in consumers)):
        for consumer in consumers:
            for record in consumer.consume(500, timeout=0.05):
                assert record.error() is None, record.error()
                seen.add(int(record.value()))
    for consumer in consumers:
        consumer.close()
    return seen


write(range(500, 1000))
shared = read(2, set(range(1000)))
write(range(1000, 1010))
rest = read(1, set(range(1000, 1010)))
print(json.dumps({"client": f"librdkafka {libversion()[0]}", "shared": len(shared), "rest": sorted(rest)}))
