//! What a fetch can give right now: for each partition, which bytes of which file, or why not.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_response::{EpochEndOffset, LeaderIdAndEpoch, PartitionData};

use super::fetch_sessions::Wanted;
use super::{held, leader_hint, led, read_replica};
use crate::io::NodeId;
use crate::log::{EpochEnd, Slice};
use crate::node::Node;
use crate::replica::{Replica, ReplicaKey};

/// `isolation.level=read_committed`
const READ_COMMITTED: i8 = 1;

/// What a fetch can give right now.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    /// The bytes of all parts.
    pub(super) bytes: u64,
    /// Something is to be told at once, however few bytes there are.
    pub(super) urgent: bool,
}

/// What a fetch can give of one partition: all but the records, and where they are.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) data: PartitionData,
    pub(super) records: Option<(ReplicaKey, Slice)>,
}

impl Part {
    /// Neither records, nor an error, nor where they are to be had.
    pub(super) fn has_nothing_to_tell(&self) -> bool {
        let Self { data, records } = self;
        records.is_none()
            && data.error_code.is_ok()
            && data.diverging_epoch.end_offset < 0
            && data.preferred_read_replica < 0
    }
}

/// The bounds of a fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) max_bytes: u32,
    pub(super) isolation: i8,
    /// A follower may give what it has (KIP-392).
    pub(super) from_followers: bool,
    /// Who leads what this node does not lead can be told (KIP-951).
    pub(super) hints: bool,
}

/// Looks at each partition in order. The first that has anything gives at least one batch, however large (KIP-74).
pub(super) fn plan(node: &Node, wanted: &[Wanted], bounds: Bounds, rack: &str) -> Plan {
    let mut plan = Plan { parts: Vec::with_capacity(wanted.len()), bytes: 0, urgent: wanted.is_empty() };
    for wanted in wanted {
        let taken = u32::try_from(plan.bytes).unwrap_or(u32::MAX);
        let bounds = Bounds { max_bytes: bounds.max_bytes.saturating_sub(taken), ..bounds };
        let part = part(node, wanted, bounds, rack, taken == 0);
        plan.bytes += part.records.as_ref().map_or(0, |(_, slice)| u64::from(slice.size));
        plan.urgent |= !part.data.error_code.is_ok()
            || part.data.diverging_epoch.end_offset >= 0
            || part.data.preferred_read_replica >= 0;
        plan.parts.push(part);
    }
    plan
}

fn part(node: &Node, wanted: &Wanted, bounds: Bounds, rack: &str, first: bool) -> Part {
    let request = &wanted.request;
    let topic = wanted.topic.find(&node.image);
    let key = topic.map(|topic| (topic.id, request.partition));
    let result = key.and_then(|key| {
        let find = if bounds.from_followers { held } else { led };
        let replica = find(node, key, request.current_leader_epoch)?;
        let found = match read_replica::closest(node, replica, rack, request.fetch_offset) {
            Some(closest) => Readable::At(closest),
            None => readable(replica, wanted, bounds.max_bytes, first)?,
        };
        Ok((key, replica, found))
    });
    let mut data = PartitionData {
        partition_index: request.partition,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        aborted_transactions: (bounds.isolation == READ_COMMITTED).then(Vec::new),
        records: Some(bytes::Bytes::new()),
        ..PartitionData::default()
    };
    match result {
        Ok((key, replica, found)) => {
            data.high_watermark = replica.high_watermark();
            // Nothing here belongs to a transaction that is open.
            data.last_stable_offset = replica.high_watermark();
            data.log_start_offset = replica.log.start_offset();
            let records = match found {
                Readable::Records(slice) => slice.map(|slice| (key, slice)),
                Readable::Diverging(end) => {
                    data.diverging_epoch = EpochEndOffset { epoch: end.epoch, end_offset: end.end_offset };
                    None
                }
                Readable::At(closest) => {
                    data.preferred_read_replica = closest;
                    None
                }
            };
            Part { data, records }
        }
        Err(error) => {
            data.error_code = error;
            let hint = key.ok().filter(|_| bounds.hints).and_then(|key| leader_hint(&node.image, key, error));
            if let Some((leader_id, leader_epoch)) = hint {
                data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            }
            Part { data, records: None }
        }
    }
}

enum Readable {
    Records(Option<Slice>),
    /// The client's last record is of an epoch that ends earlier here: its log and this one differ.
    Diverging(EpochEnd),
    /// The consumer is to read from that replica.
    At(NodeId),
}

fn readable(replica: &Replica, wanted: &Wanted, room: u32, first: bool) -> Result<Readable, ErrorCode> {
    let request = &wanted.request;
    let log = &replica.log;
    if request.last_fetched_epoch >= 0 {
        let end = log.epoch_end(request.last_fetched_epoch);
        // Nothing diverges below the start of the log.
        if end == EpochEnd::UNKNOWN || request.fetch_offset < log.start_offset() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if end.epoch < request.last_fetched_epoch || end.end_offset < request.fetch_offset {
            return Ok(Readable::Diverging(end));
        }
    }
    if request.fetch_offset < log.start_offset() || request.fetch_offset > log.end_offset() {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let own = u32::try_from(request.partition_max_bytes).unwrap_or(0);
    Ok(Readable::Records(log.slice(request.fetch_offset, replica.high_watermark(), room.min(own), first)))
}
