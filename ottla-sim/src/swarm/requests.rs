//! Faults of requests, as the scripts that brokers follow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ottla_broker::{
    faults::{self, Effect},
    io::NodeId,
};
use ottla_protocol::messages::FetchRequest;

use super::fault::Fault;
use crate::load::TOPIC;

/// The bytes of a record batch before those that its checksum covers, and before the checksum itself.
const BEFORE_CHECKSUM: usize = 17;

/// A script.
pub(super) struct Script {
    pub(super) fault: faults::Fault,
    /// Set as soon as it has struck; with the first request that meets it, if nothing is said.
    pub(super) edited: Option<Arc<AtomicBool>>,
}

/// The script of a fault that is about requests; `node` is the id of a broker.
pub(super) fn scripted(fault: &Fault, node: impl Fn(usize) -> NodeId) -> Option<Script> {
    let on = |broker, api: super::Api, effect, times| {
        faults::Fault::on_api(api.key(), effect).at(node(broker)).times(times)
    };
    let of = |script: faults::Fault, partition: Option<i32>| match partition {
        Some(partition) => script.of(TOPIC, partition),
        None => script,
    };
    let mut edited = None;
    let fault = match *fault {
        Fault::RequestsFail { broker, api, how, times } => on(broker, api, how.into(), times),
        Fault::RequestsRefused { broker, api, partition, code, times } => {
            of(on(broker, api, Effect::Refuse(code), times), partition)
        }
        Fault::AnswersDoubtful { broker, api, partition, code, times } => {
            of(on(broker, api, Effect::AnswerWith(code), times), partition)
        }
        Fault::RequestsDelayed { broker, api, millis, times } => {
            on(broker, api, Effect::Delay(Duration::from_millis(millis)), times)
        }
        Fault::AnswersDelayed { broker, api, millis, times } => {
            on(broker, api, Effect::DelayAnswer(Duration::from_millis(millis)), times)
        }
        Fault::RequestsLate { broker, api, millis, times } => {
            on(broker, api, Effect::CarryOutLate(Duration::from_millis(millis)), times)
        }
        Fault::AnswersCutShort { broker, api, bytes, times } => {
            on(broker, api, Effect::Truncate(bytes), times)
        }
        Fault::Throttled { broker, api, millis, times } => {
            on(broker, api, Effect::Throttle(Duration::from_millis(millis)), times)
        }
        Fault::RecordsCorrupted { partition, byte } => {
            let done = Arc::clone(edited.insert(Arc::default()));
            let corrupt = corrupt_once(partition, byte, done);
            faults::Fault::on::<FetchRequest>(corrupt).of(TOPIC, partition)
        }
        _ => return None,
    };
    Some(Script { fault, edited })
}

/// Changes a byte of the first batch of a partition that is fetched, where the batch's checksum finds it.
fn corrupt_once(partition: i32, byte: usize, done: Arc<AtomicBool>) -> Effect {
    Effect::edit::<FetchRequest>(move |response| {
        let partitions = response.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        for fetched in partitions.filter(|fetched| fetched.partition_index == partition) {
            if let Some(corrupted) = fetched.records.as_deref().and_then(|records| corrupted(records, byte))
                && !done.swap(true, Ordering::Relaxed)
            {
                fetched.records = Some(corrupted);
            }
        }
    })
}

/// The batches with a wrong byte in the first of them, unless there is none.
fn corrupted(records: &[u8], byte: usize) -> Option<Bytes> {
    let length = u32::from_be_bytes(*records.get(8..)?.first_chunk()?) as usize + 12;
    let covered = length.min(records.len()).checked_sub(BEFORE_CHECKSUM).filter(|covered| *covered > 0)?;
    let mut corrupted = BytesMut::from(records);
    *corrupted.get_mut(BEFORE_CHECKSUM + byte % covered)? ^= 0x20;
    Some(corrupted.freeze())
}
