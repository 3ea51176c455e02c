"""aiokafka, a client in Python. See `cargo xtask foreign --help` for what a client has to do."""

import asyncio
import json
import sys
from importlib.metadata import version

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

servers, topic = sys.argv[1:]


async def write(numbers):
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True, compression_type="gzip")
    await producer.start()
    try:
        sent = [await producer.send(topic, key=b"%d" % n, value=b"%d" % n) for n in numbers]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def members(count):
    consumers = [
        AIOKafkaConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=f"{topic}-group",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=500,
        )
        for _ in range(count)
    ]
    await asyncio.gather(*(consumer.start() for consumer in consumers))
    return consumers


async def read(consumers, wanted):
    """Reads until all members have as many partitions and all that is wanted was read; commits and leaves."""
    share = 4 // len(consumers)
    seen = set()
    while not (wanted <= seen and all(len(each.assignment()) == share for each in consumers)):
        for consumer in consumers:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                seen.update(int(record.value) for record in records)
    for consumer in consumers:
        await consumer.commit()
        await consumer.stop()
    return seen


async def main():
    await write(range(500, 1000))
    shared = await read(await members(2), set(range(1000)))
    await write(range(1000, 1010))
    rest = await read(await members(1), set(range(1000, 1010)))
    print(json.dumps({"client": f"aiokafka {version('aiokafka')}", "shared": len(shared), "rest": sorted(rest)}))


asyncio.run(main())
