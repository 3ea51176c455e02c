// KafkaJS, a client in JavaScript. See `cargo xtask foreign --help` for what a client has to do.

const { Kafka, CompressionTypes, logLevel } = require("kafkajs");
const { version } = require("kafkajs/package.json");

const [servers, topic] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "foreign", brokers: servers.split(","), logLevel: logLevel.NOTHING });

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

async function write(numbers) {
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  const messages = numbers.map((n) => ({ key: `${n}`, value: `${n}` }));
  await producer.send({ topic, messages, compression: CompressionTypes.GZIP });
  await producer.disconnect();
}

// Reads until all members have as many partitions and all that is wanted was read; commits and leaves.
async function read(count, wanted) {
  const seen = new Set();
  const owned = new Map();
  const members = range(0, count).map(() =>
    kafka.consumer({ groupId: `${topic}-group`, heartbeatInterval: 200, maxWaitTimeInMs: 200 }),
  );
  await new Promise((resolve, reject) => {
    const look = () => {
      const shared = members.every((member) => owned.get(member) === 4 / count);
      if (shared && wanted.every((n) => seen.has(n))) resolve();
    };
    const start = async (member) => {
      member.on(member.events.GROUP_JOIN, ({ payload }) => {
        owned.set(member, (payload.memberAssignment[topic] ?? []).length);
        look();
      });
      member.on(member.events.CRASH, ({ payload }) => reject(payload.error));
      await member.connect();
      await member.subscribe({ topic, fromBeginning: true });
      const eachMessage = async ({ message }) => {
        seen.add(Number(message.value));
        look();
      };
      await member.run({ eachMessage });
    };
    Promise.all(members.map(start)).catch(reject);
  });
  // What was handled is committed when a member stops.
  for (const member of members) await member.disconnect();
  return seen;
}

async function main() {
  await write(range(500, 1000));
  const shared = await read(2, range(0, 1000));
  await write(range(1000, 1010));
  const rest = await read(1, range(1000, 1010));
  const sorted = [...rest].sort((one, other) => one - other);
  console.log(JSON.stringify({ client: `kafkajs ${version}`, shared: shared.size, rest: sorted }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
