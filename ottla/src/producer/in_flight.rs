//! A request on its way, and what its end means for the batches in it.

use std::sync::Arc;

use ottla_core::produce::{Attempt, Facts, Fate, GivenUp, Settled};
use ottla_protocol::messages::{ProduceResponse, produce_response::PartitionProduceResponse};

use super::{
    inner::Inner,
    receipt::{Outcome, SendError},
    request::{Answer, Draft, Part, attempt},
    sender::Sender,
    topic::Completion,
};
use crate::{
    Error, ErrorCode,
    net::{RequestError, now},
};

/// A request on its way. Dropped without an answer, its batches count as lost.
pub(super) struct InFlight {
    inner: Arc<Inner>,
    sender: Arc<Sender>,
    parts: Vec<Part>,
    bytes: usize,
}

/// How an attempt ended for one batch.
struct End {
    attempt: Attempt,
    answer: Option<PartitionProduceResponse>,
    /// Why, unless the answer says it.
    error: Option<Error>,
}

impl InFlight {
    pub(super) fn new(inner: Arc<Inner>, sender: Arc<Sender>, draft: Draft) -> Self {
        Self { inner, sender, parts: draft.parts, bytes: draft.bytes }
    }

    /// The broker answered, or the request failed.
    pub(super) fn answered(mut self, answer: Result<ProduceResponse, RequestError>) {
        match answer {
            Ok(response) => {
                let mut answer = Answer::new(response);
                let told: Vec<_> = self.parts.iter().map(|part| answer.of(part)).collect();
                // Before any batch is settled: it goes to the leader that is known then.
                let parts = self.parts.iter().zip(&told);
                let hints = parts.filter_map(|(part, told)| answer.hint(part, told.as_ref()?));
                self.inner.client.metadata.leader_hints(hints);
                let mut told = told.into_iter();
                self.settle(|_| match told.next().flatten() {
                    Some(told) => End { attempt: attempt(&told), answer: Some(told), error: None },
                    None => End::failed(Attempt::Lost, Error::peer("the answer left the partition out")),
                });
                if answer.surplus() > 0 {
                    tracing::warn!(
                        partitions = answer.surplus(),
                        "a broker answered for partitions that were not asked about"
                    );
                }
            }
            Err(failed) => self.failed(&failed),
        }
    }

    /// A request that has no answer was written, or not.
    pub(super) fn written(mut self, written: Result<(), RequestError>) {
        match written {
            Ok(()) => self.settle(|_| End { attempt: Attempt::Unacknowledged, answer: None, error: None }),
            Err(failed) => self.failed(&failed),
        }
    }

    fn failed(&mut self, failed: &RequestError) {
        // The leader may have changed, and that may be why.
        self.inner.client.metadata.refresh();
        let attempt = if failed.sent { Attempt::Lost } else { Attempt::NotSent };
        self.settle(|_| End::failed(attempt, failed.error.clone()));
    }

    fn settle(&mut self, mut end_of: impl FnMut(&Part) -> End) {
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return;
        }
        // First, so that what lingers behind this request finds the broker idle.
        self.sender.answered(self.bytes);
        let mut refresh = false;
        for part in parts {
            let end = end_of(&part);
            refresh |= self.settle_part(part, end);
        }
        if refresh {
            self.inner.client.metadata.refresh();
        }
    }

    /// Settles one batch; true if another broker may be the right one.
    fn settle_part(&self, part: Part, end: End) -> bool {
        let inner = &*self.inner;
        let Part { partition, ticket, batch, .. } = part;
        let bytes = batch.size();
        let wire = batch.bytes();
        let random = inner.client.env.random();
        let (settled, listed) = {
            let mut slot = partition.lock();
            let settled = slot.queue.settle(ticket, batch, end.attempt, now(), random);
            slot.trouble = match &settled {
                Settled::Written { .. } | Settled::Unknown => None,
                Settled::Again { .. } | Settled::Failed(_) => Some(end.error(&partition.destination.topic)),
            };
            partition.publish_backlog(&slot);
            let listed = (!slot.queue.is_empty()).then(|| slot.list()).flatten();
            (settled, listed)
        };
        if let Some(sender) = listed {
            sender.list_quietly(partition.clone());
        }
        match settled {
            Settled::Written { completion, base_offset, facts } => {
                let log_append_time =
                    end.answer.map(|answer| answer.log_append_time_ms).filter(|time| *time >= 0);
                inner.written(&partition, completion, base_offset, log_append_time, facts, bytes);
                inner.buffers.give(wire);
            }
            Settled::Failed(GivenUp { to, fate, facts }) => {
                let error = end.error(&partition.destination.topic);
                let error = error.with_topic_partition(partition.topic_partition());
                let outcome = end.outcome(fate, facts, &error);
                inner.failed(&to.outcome, outcome, error, fate, facts);
                drop::<Completion>(to);
            }
            Settled::Again { refresh } => return refresh,
            Settled::Unknown => {}
        }
        false
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.settle(|_| End::failed(Attempt::Lost, Error::closed()));
    }
}

impl End {
    fn failed(attempt: Attempt, error: Error) -> Self {
        Self { attempt, answer: None, error: Some(error) }
    }

    fn error(&self, topic: &str) -> Error {
        match (&self.error, &self.answer) {
            (Some(error), _) => error.clone(),
            (None, Some(answer)) => {
                let message = answer.error_message.as_ref().map(|message| format!(": {}", &**message));
                let advice = match answer.error_code {
                    ErrorCode::MESSAGE_TOO_LARGE => {
                        " (the topic's max.message.bytes is less than the record)"
                    }
                    _ => "",
                };
                let what = format!("a batch for {topic} was refused{advice}{}", message.unwrap_or_default());
                Error::broker(answer.error_code, what)
            }
            (None, None) => Error::peer("no answer"),
        }
    }

    /// Where the broker names the culprits, only they are refused; the others were not looked at (KIP-467).
    fn outcome(&self, fate: Fate, facts: Facts, error: &Error) -> Outcome {
        let culprits = self.answer.iter().flat_map(|answer| &answer.record_errors);
        let culprits: Vec<_> = culprits
            .filter_map(|culprit| Some((u32::try_from(culprit.batch_index).ok()?, culprit)))
            .filter(|(index, _)| *index < facts.records)
            .map(|(index, culprit)| {
                let message = culprit.batch_index_error_message.as_ref();
                let what =
                    message.map_or_else(|| "the record was refused".to_owned(), |text| text.to_string());
                (index, SendError::NotWritten(error.clone().context(what)))
            })
            .collect();
        match fate {
            Fate::PossiblyWritten => Outcome::Failed(SendError::possibly_written(error.clone())),
            Fate::NotWritten if culprits.is_empty() => Outcome::Failed(SendError::NotWritten(error.clone())),
            Fate::NotWritten => {
                let mut culprits = culprits;
                culprits.sort_by_key(|(index, _)| *index);
                let others =
                    error.clone().context("not written, since other records of its batch were refused");
                Outcome::FailedByRecord { culprits, others: SendError::NotWritten(others.with_retriable()) }
            }
        }
    }
}
