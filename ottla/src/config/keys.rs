//! The settings that exist: Java's names, librdkafka's other names for them, and what this version does with them.

/// The settings that files may hold, by Java's names.
pub fn known_settings() -> impl Iterator<Item = KnownSetting> {
    KEYS.iter().map(|key| KnownSetting { name: key.name, aliases: key.aliases, has_effect: key.read })
}

/// A setting that files may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownSetting {
    /// Java's name.
    pub name: &'static str,
    /// What librdkafka calls it.
    pub aliases: &'static [&'static str],
    /// Whether it does anything here: others are accepted, since a file may serve other clients too.
    pub has_effect: bool,
}

/// A setting by its Java name.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What librdkafka calls it.
    aliases: &'static [&'static str],
    pub(super) read: bool,
}

/// A setting that some builder reads.
const fn read(name: &'static str, aliases: &'static [&'static str]) -> Key {
    Key { name, aliases, read: true }
}

/// A setting that Kafka's clients know but that has no effect here (yet, or by nature).
const fn ignored(name: &'static str) -> Key {
    Key { name, aliases: &[], read: false }
}

pub(super) const KEYS: &[Key] = &[
    // Every client.
    read("bootstrap.servers", &["metadata.broker.list"]),
    read("client.id", &[]),
    read("client.rack", &[]),
    read("security.protocol", &[]),
    read("request.timeout.ms", &["socket.timeout.ms"]),
    read("default.api.timeout.ms", &[]),
    read("connections.max.idle.ms", &[]),
    read("reconnect.backoff.ms", &[]),
    read("reconnect.backoff.max.ms", &[]),
    read("retry.backoff.ms", &[]),
    read("retry.backoff.max.ms", &[]),
    read("socket.connection.setup.timeout.ms", &[]),
    read("metadata.max.age.ms", &["topic.metadata.refresh.interval.ms"]),
    read("allow.auto.create.topics", &[]),
    read("receive.message.max.bytes", &[]),
    ignored("client.dns.lookup"),
    ignored("socket.connection.setup.timeout.max.ms"),
    ignored("send.buffer.bytes"),
    ignored("receive.buffer.bytes"),
    ignored("metadata.max.idle.ms"),
    ignored("metadata.recovery.strategy"),
    ignored("metadata.recovery.rebootstrap.trigger.ms"),
    ignored("metadata.cluster.check.enable"),
    ignored("bootstrap.resolve.timeout.ms"),
    ignored("enable.metrics.push"),
    // Producer.
    read("acks", &["request.required.acks"]),
    read("enable.idempotence", &[]),
    read("retries", &["message.send.max.retries"]),
    read("delivery.timeout.ms", &["message.timeout.ms"]),
    read("linger.ms", &["queue.buffering.max.ms"]),
    read("batch.size", &[]),
    read("buffer.memory", &[]),
    read("max.block.ms", &[]),
    read("max.request.size", &["message.max.bytes"]),
    read("max.in.flight.requests.per.connection", &["max.in.flight"]),
    read("compression.type", &["compression.codec"]),
    read("compression.gzip.level", &[]),
    read("compression.lz4.level", &[]),
    read("compression.zstd.level", &[]),
    read("partitioner.ignore.keys", &[]),
    ignored("partitioner.class"),
    ignored("partitioner.adaptive.partitioning.enable"),
    ignored("partitioner.availability.timeout.ms"),
    ignored("transactional.id"),
    ignored("transaction.timeout.ms"),
    // Consumer.
    read("auto.offset.reset", &[]),
    read("fetch.min.bytes", &[]),
    read("fetch.max.wait.ms", &["fetch.wait.max.ms"]),
    read("fetch.max.bytes", &[]),
    read("max.partition.fetch.bytes", &["fetch.message.max.bytes"]),
    read("isolation.level", &[]),
    read("max.buffered.bytes", &[]),
    read("on.missing.offset", &[]),
    read("on.out.of.range", &[]),
    read("group.id", &[]),
    read("group.instance.id", &[]),
    read("partition.assignment.strategy", &[]),
    read("session.timeout.ms", &[]),
    read("heartbeat.interval.ms", &[]),
    // Connect's name for it.
    read("rebalance.timeout.ms", &[]),
    read("processing.timeout.ms", &["max.poll.interval.ms"]),
    read("drain.timeout.ms", &[]),
    read("enable.auto.commit", &[]),
    read("auto.commit.interval.ms", &[]),
    ignored("check.crcs"),
    ignored("max.poll.records"),
    ignored("group.protocol"),
    ignored("group.remote.assignor"),
    ignored("exclude.internal.topics"),
    // What belongs to Java or to librdkafka, not to Kafka.
    ignored("key.serializer"),
    ignored("value.serializer"),
    ignored("key.deserializer"),
    ignored("value.deserializer"),
    ignored("interceptor.classes"),
    ignored("metric.reporters"),
    ignored("metrics.num.samples"),
    ignored("metrics.recording.level"),
    ignored("metrics.sample.window.ms"),
    ignored("auto.include.jmx.reporter"),
    ignored("security.providers"),
    ignored("statistics.interval.ms"),
    ignored("debug"),
    ignored("log_level"),
    ignored("enable.partition.eof"),
    ignored("broker.address.family"),
    ignored("share.acknowledgement.mode"),
    ignored("share.acquire.mode"),
    ignored("api.version.fallback.ms"),
    ignored("api.version.request"),
    ignored("api.version.request.timeout.ms"),
    ignored("batch.num.messages"),
    ignored("broker.address.ttl"),
    ignored("broker.version.fallback"),
    ignored("builtin.features"),
    ignored("compression.level"),
    ignored("consume.callback.max.messages"),
    ignored("coordinator.query.interval.ms"),
    ignored("enable.auto.offset.store"),
    ignored("enable.gapless.guarantee"),
    ignored("enable.random.seed"),
    ignored("enable.sasl.oauthbearer.unsecure.jwt"),
    ignored("enable.ssl.certificate.verification"),
    ignored("fetch.error.backoff.ms"),
    ignored("fetch.queue.backoff.ms"),
    ignored("group.protocol.type"),
    ignored("internal.termination.signal"),
    ignored("log.connection.close"),
    ignored("log.queue"),
    ignored("log.thread.name"),
    ignored("message.copy.max.bytes"),
    ignored("partitioner"),
    ignored("plugin.library.paths"),
    ignored("queue.buffering.backpressure.threshold"),
    ignored("queue.buffering.max.kbytes"),
    ignored("queue.buffering.max.messages"),
    ignored("queued.max.messages.kbytes"),
    ignored("queued.min.messages"),
    ignored("queuing.strategy"),
    ignored("socket.keepalive.enable"),
    ignored("socket.max.fails"),
    ignored("socket.nagle.disable"),
    ignored("socket.receive.buffer.bytes"),
    ignored("socket.send.buffer.bytes"),
    ignored("sticky.partitioning.linger.ms"),
    ignored("topic.blacklist"),
    ignored("topic.metadata.propagation.max.ms"),
    ignored("topic.metadata.refresh.fast.interval.ms"),
    ignored("topic.metadata.refresh.sparse"),
];

/// Settings of other programs that share the file.
const FOREIGN_PREFIXES: &[&str] = &[
    "schema.registry.",
    "basic.auth.",
    "confluent.",
    "connect.",
    "streams.",
    // Java needs them for `${env:NAME}`.
    "config.providers",
];

/// The setting of that name, in Java's or librdkafka's spelling.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

/// Settings of TLS and SASL, which `security.protocol` decides upon: a file that asks for either is refused there.
pub(super) fn is_security(name: &str) -> bool {
    name.starts_with("ssl.") || name.starts_with("sasl.")
}

pub(super) fn is_foreign(name: &str) -> bool {
    FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the value must never be shown. Errs on the side of hiding.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "jaas", "token", "credential", ".key", "key.pem"]
        .iter()
        .any(|part| name.contains(part))
        && !matches!(find(name), Some(key) if key.read)
}

/// The known setting whose name, Java's or librdkafka's, differs least, if it is close enough to be what was meant.
pub(super) fn similar(name: &str) -> Option<&'static str> {
    let names = KEYS.iter().flat_map(|key| key.aliases.iter().chain([&key.name]));
    let best = names.map(|known| (distance(name, known), *known)).min()?;
    (best.0 <= 2).then_some(best.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            (diagonal, left) = (*cell, here);
            *cell = here;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_names_are_understood() {
        assert_eq!(find("metadata.broker.list").map(|key| key.name), Some("bootstrap.servers"));
        assert_eq!(find("queue.buffering.max.ms").map(|key| key.name), Some("linger.ms"));
        assert!(find("linger.mss").is_none());
    }

    #[test]
    fn typos_find_what_was_meant() {
        assert_eq!(similar("linger.mss"), Some("linger.ms"));
        assert_eq!(similar("bootstrap.server"), Some("bootstrap.servers"));
        assert_eq!(similar("metadata.brokers.list"), Some("metadata.broker.list"));
        assert_eq!(similar("zookeeper.connect"), None);
    }

    #[test]
    fn secrets_are_recognised_by_their_names() {
        for name in
            ["sasl.jaas.config", "ssl.keystore.key", "sasl.password", "ssl.key.pem", "some.api.secret"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["bootstrap.servers", "client.id", "partitioner.ignore.keys"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        let mut names: Vec<_> = KEYS.iter().flat_map(|key| key.aliases.iter().chain([&key.name])).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
