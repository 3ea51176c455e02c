//! What a broker checks in the batches of a produce request before it appends them: the rules of Kafka's
//! `ProduceRequest.validateRecords` and `LogValidator`.

use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::batch::{self, BatchError, BatchHeader, RawBatch};
use ottla_protocol::compression::{Compression, Decompressor};

use crate::cluster::ClusterConfig;
use crate::image::Topic;
use crate::log::BatchMeta;

/// `message.timestamp.after.max.ms`: a record is no more than an hour ahead.
pub(super) const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

/// zstd came with version 7 (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;

/// Why records are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ErrorCode,
    pub(super) message: String,
    /// The records that are the reason, by their index (KIP-467); none: it is about all of them.
    pub(super) culprits: Vec<(i32, String)>,
}

/// What the checks depend on besides the records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    version: i16,
    max_bytes: usize,
    latest_timestamp: i64,
    /// The topic is compacted: a record without a key would be in nobody's way, for ever.
    needs_keys: bool,
    pub(super) log_append_time: Option<i64>,
}

impl Rules {
    pub(super) fn of(config: &ClusterConfig, topic: &Topic, version: i16, wall_ms: i64) -> Self {
        let max_bytes = topic.number("max.message.bytes").unwrap_or(config.max_message_bytes);
        let ahead = topic.number("message.timestamp.after.max.ms").unwrap_or(TIMESTAMP_AFTER_MAX_MS);
        let broker_time =
            topic.config.get("message.timestamp.type").is_some_and(|kind| &**kind == "LogAppendTime");
        Self {
            version,
            max_bytes: usize::try_from(max_bytes).unwrap_or(0),
            latest_timestamp: wall_ms.saturating_add(ahead),
            needs_keys: topic.config.get("cleanup.policy").is_some_and(|of| of.contains("compact")),
            log_append_time: broker_time.then_some(wall_ms),
        }
    }
}

/// The one batch of a partition's records, if it is sound. Its offsets are still the producer's.
pub(super) fn check(records: Option<&Bytes>, rules: &Rules) -> Result<BatchMeta, Refusal> {
    let batch = only_batch(records, rules)?;
    let header = batch.header();
    check_header(header, rules)?;
    if batch.bytes().len() > rules.max_bytes {
        let message = format!(
            "The record batch size in the append is {} bytes which exceeds the maximum configured value of {}.",
            batch.bytes().len(),
            rules.max_bytes
        );
        return Err(refusal(ErrorCode::MESSAGE_TOO_LARGE, message));
    }
    batch.verify_crc().map_err(|error| refusal(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?;
    check_records(&batch, rules)?;
    Ok(BatchMeta::of(header, 0))
}

fn only_batch(records: Option<&Bytes>, rules: &Rules) -> Result<RawBatch, Refusal> {
    let version = rules.version;
    let records = records.filter(|records| !records.is_empty());
    let mut batches = batch::batches(records.cloned().ok_or_else(|| {
        invalid(format!(
            "Produce requests with version {version} must have at least one record batch per partition"
        ))
    })?);
    let first = match batches.next() {
        Some(Ok(first)) => first,
        Some(Err(error @ (BatchError::LegacyFormat { .. } | BatchError::UnknownMagic { .. }))) => {
            return Err(invalid(format!(
                "Produce requests with version {version} are only allowed to contain record batches with magic \
                 version 2: {error}"
            )));
        }
        Some(Err(error)) => return Err(refusal(ErrorCode::CORRUPT_MESSAGE, error.to_string())),
        None => return Err(refusal(ErrorCode::CORRUPT_MESSAGE, "The record batch is cut off.".to_owned())),
    };
    if batches.leftover() > 0 {
        return Err(invalid(format!(
            "Produce requests with version {version} are only allowed to contain exactly one record batch per \
             partition"
        )));
    }
    Ok(first)
}

fn check_header(header: &BatchHeader, rules: &Rules) -> Result<(), Refusal> {
    let unsupported = |message: String| Err(refusal(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    match header.compression() {
        Ok(Compression::Zstd) if rules.version < FIRST_VERSION_WITH_ZSTD => {
            return unsupported(format!(
                "Produce requests with version {} are not allowed to use ZStandard compression",
                rules.version
            ));
        }
        Ok(_) => {}
        Err(error) => return unsupported(error.to_string()),
    }
    if header.base_offset != 0 {
        return Err(invalid(format!(
            "The base offset of the record batch should be 0, but it is {}",
            header.base_offset
        )));
    }
    if header.is_control() {
        return Err(invalid("Clients are not allowed to write control records".to_owned()));
    }
    if header.count <= 0 || i64::from(header.count) != i64::from(header.last_offset_delta) + 1 {
        return Err(invalid(format!(
            "Inconsistent batch offset range [0, {}] and count of records {}",
            header.last_offset_delta, header.count
        )));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}",
            header.base_sequence, header.producer_id
        )));
    }
    // Transactions need a coordinator to have begun them.
    if header.is_transactional() {
        return Err(refusal(ErrorCode::INVALID_TXN_STATE, "There is no such transaction.".to_owned()));
    }
    if rules.log_append_time.is_none() && header.max_timestamp > rules.latest_timestamp {
        return Err(refusal(
            ErrorCode::INVALID_TIMESTAMP,
            format!("Timestamp {} should be at most {}", header.max_timestamp, rules.latest_timestamp),
        ));
    }
    Ok(())
}

/// Decompresses the batch and reads every record in it.
fn check_records(batch: &RawBatch, rules: &Rules) -> Result<(), Refusal> {
    let mut decompressor = Decompressor::new();
    let records = batch.views(&mut decompressor).map_err(|error| invalid(error.to_string()))?;
    let mut culprits = Vec::new();
    for (index, record) in (0..).zip(records) {
        let record = record.map_err(|error| invalid(error.to_string()))?;
        if record.offset != i64::from(index) {
            return Err(invalid(format!(
                "Inconsistent offset delta: expected {index}, but found {}",
                record.offset
            )));
        }
        if rules.needs_keys && record.key.is_none() {
            culprits.push((index, "Compacted topic cannot accept message without key.".to_owned()));
        }
    }
    if culprits.is_empty() {
        return Ok(());
    }
    let message = format!("One or more records have been rejected due to {} record errors", culprits.len());
    Err(Refusal { culprits, ..invalid(message) })
}

fn invalid(message: String) -> Refusal {
    refusal(ErrorCode::INVALID_RECORD, message)
}

pub(super) fn refusal(error: ErrorCode, message: String) -> Refusal {
    Refusal { error, message, culprits: Vec::new() }
}
