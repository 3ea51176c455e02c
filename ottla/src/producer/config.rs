//! What a producer is told, by Java's names.

use std::time::Duration;

use ottla_core::{
    backoff::BackoffPolicy,
    produce::{MAX_IN_FLIGHT, QueueSettings},
};
use ottla_protocol::{
    batch::BatchBuilder,
    compression::{Compression, Compressor},
};

use crate::{
    KIB, MIB, Result,
    config::{EffectiveSettings, Reader, Settings},
};

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acks {
    /// As soon as it was given to the network. Nothing is known of its offset, and a loss is not noticed.
    None,
    /// When the leader has it. Lost if the leader dies before a follower has fetched it.
    Leader,
    /// When every replica in sync has it.
    All,
}

impl Acks {
    pub(super) fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// The settings of a producer in effect.
#[derive(Debug, Clone)]
pub(super) struct ProducerConfig {
    pub(super) acks: Acks,
    pub(super) buffer_memory: usize,
    pub(super) max_block: Duration,
    pub(super) max_request_size: usize,
    pub(super) request_timeout: Duration,
    pub(super) retry_backoff: BackoffPolicy,
    pub(super) compression: Compression,
    pub(super) level: Option<i32>,
    pub(super) ignore_keys: bool,
    pub(super) queue: QueueSettings,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Brokers learn of a new topic one after the other; one that refuses it for longer does not have it.
const UNKNOWN_TOPIC_GRACE: Duration = Duration::from_secs(15);

impl ProducerConfig {
    pub(super) fn read(settings: &Settings) -> Result<(Self, EffectiveSettings)> {
        let mut reader = Reader::new(settings);
        let config = Self::read_from(&mut reader);
        config.check(&mut reader);
        Ok((config, reader.finish()?))
    }

    fn read_from(reader: &mut Reader<'_>) -> Self {
        let acks = [("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)];
        let acks = reader.choice("acks", Acks::All, &acks);
        let idempotent = reader.flag("enable.idempotence", acks == Acks::All);
        // Bounded by `delivery.timeout.ms`; a smaller number would only give up records that could be saved.
        reader.number("retries", i32::MAX, 0..=i32::MAX);
        let compression = Compression::ALL.map(|codec| (codec.name(), codec));
        let compression = reader.choice("compression.type", Compression::None, &compression);
        let max_request_size = reader.number("max.request.size", MIB, KIB..=256 * MIB);
        let linger = reader.duration("linger.ms", 5 * MILLISECOND, Duration::ZERO..=HOUR);
        let request_timeout = reader.duration("request.timeout.ms", 30 * SECOND, MILLISECOND..=HOUR);
        let delivery_timeout = delivery_timeout(reader, linger + request_timeout);
        let initial = reader.duration("retry.backoff.ms", 100 * MILLISECOND, MILLISECOND..=HOUR);
        let retry_backoff =
            BackoffPolicy::new(initial, reader.duration("retry.backoff.max.ms", SECOND, MILLISECOND..=HOUR));
        let batch_size = reader.number("batch.size", 256 * KIB, 0..=256 * MIB);
        let in_flight = "max.in.flight.requests.per.connection";
        Self {
            acks,
            buffer_memory: reader.number("buffer.memory", 32 * MIB, 64 * KIB..=usize::MAX / 2),
            max_block: reader.duration("max.block.ms", 60 * SECOND, Duration::ZERO..=24 * HOUR),
            max_request_size,
            request_timeout,
            retry_backoff,
            compression,
            level: level(reader, compression),
            ignore_keys: reader.flag("partitioner.ignore.keys", false),
            queue: QueueSettings {
                batch_size: batch_size.clamp(BatchBuilder::OVERHEAD, max_request_size - REQUEST_OVERHEAD),
                linger,
                delivery_timeout,
                unknown_topic_grace: UNKNOWN_TOPIC_GRACE,
                max_in_flight: reader.number(in_flight, MAX_IN_FLIGHT, 1..=MAX_IN_FLIGHT),
                idempotent,
                compressed: compression != Compression::None,
                backoff: retry_backoff,
            },
        }
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.queue.idempotent && self.acks != Acks::All {
            reader.problem("enable.idempotence", "false, or acks = all");
        }
        if let Err(error) = Compressor::new(self.compression, self.level) {
            let key = match (&error, self.compression) {
                (ottla_protocol::compression::CompressionError::NotBuilt { .. }, _) => "compression.type",
                (_, Compression::Gzip) => "compression.gzip.level",
                _ => "compression.zstd.level",
            };
            reader.problem(key, error.to_string());
        }
    }

    /// The largest record, with its batch around it, that a request can carry.
    pub(super) fn max_batch(&self) -> usize {
        self.max_request_size - REQUEST_OVERHEAD
    }
}

/// Room for everything in a request that is not a batch: headers, and the longest topic name.
const REQUEST_OVERHEAD: usize = 512;

/// As Java has it: at least what a single attempt may take.
fn delivery_timeout(reader: &mut Reader<'_>, least: Duration) -> Duration {
    const KEY: &str = "delivery.timeout.ms";
    let timeout = reader.duration(KEY, least.max(120 * SECOND), MILLISECOND..=24 * HOUR);
    if timeout < least {
        reader.problem(KEY, format!("at least linger.ms + request.timeout.ms = {}", least.as_millis()));
    }
    timeout
}

fn level(reader: &mut Reader<'_>, compression: Compression) -> Option<i32> {
    let key = match compression {
        Compression::Gzip => "compression.gzip.level",
        Compression::Lz4 => "compression.lz4.level",
        Compression::Zstd => "compression.zstd.level",
        _ => return None,
    };
    reader.parsed(key, "the codec's own", "a whole number", |text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Properties;

    fn read(pairs: &[(&str, &str)]) -> Result<ProducerConfig> {
        let mut settings = Settings::default();
        settings.extend(&pairs.iter().copied().collect::<Properties>());
        ProducerConfig::read(&settings).map(|(config, _)| config)
    }

    fn problem(pairs: &[(&str, &str)]) -> String {
        let error = read(pairs).unwrap_err();
        assert_eq!(error.config().len(), 1, "{error}");
        error.config()[0].key().to_owned()
    }

    #[test]
    fn the_defaults_are_java_s_but_for_the_batch_size() {
        let config = read(&[]).unwrap();
        assert_eq!((config.acks, config.queue.idempotent), (Acks::All, true));
        assert_eq!(config.queue.batch_size, 256 * KIB);
        assert_eq!((config.queue.linger, config.queue.delivery_timeout), (5 * MILLISECOND, 120 * SECOND));
        assert_eq!((config.buffer_memory, config.max_request_size), (32 * MIB, MIB));
    }

    #[test]
    fn less_than_all_acknowledgements_turns_idempotence_off_unless_it_was_asked_for() {
        assert!(!read(&[("acks", "1")]).unwrap().queue.idempotent);
        assert_eq!(problem(&[("acks", "0"), ("enable.idempotence", "true")]), "enable.idempotence");
    }

    #[test]
    fn a_delivery_timeout_has_room_for_one_attempt() {
        assert_eq!(problem(&[("delivery.timeout.ms", "1000")]), "delivery.timeout.ms");
        let short = [("delivery.timeout.ms", "1000"), ("request.timeout.ms", "900"), ("linger.ms", "0")];
        assert_eq!(read(&short).unwrap().queue.delivery_timeout, SECOND);
        assert_eq!(
            read(&[("request.timeout.ms", "600000")]).unwrap().queue.delivery_timeout,
            600 * SECOND + 5 * MILLISECOND
        );
    }

    #[test]
    fn a_level_that_the_codec_does_not_have_is_refused() {
        assert_eq!(
            problem(&[("compression.type", "gzip"), ("compression.gzip.level", "77")]),
            "compression.gzip.level"
        );
        assert_eq!(
            read(&[("compression.type", "zstd"), ("compression.zstd.level", "-5")]).unwrap().level,
            Some(-5)
        );
    }

    #[test]
    fn a_batch_fits_into_a_request() {
        let config = read(&[("batch.size", "9000000"), ("max.request.size", "100000")]).unwrap();
        assert_eq!(config.queue.batch_size, 100_000 - REQUEST_OVERHEAD);
    }
}
