//! `InitProducerId` for producers without a transactional id (KIP-98).

use std::time::Instant;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};
use crate::peer::PeerMessage;

/// The block of ids that the controller has given to this node.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    next: i64,
    end: i64,
    /// When the controller was last asked for more.
    asked: Option<Instant>,
}

impl ProducerIds {
    pub(crate) fn refill(&mut self, first: i64, count: i32) {
        // A block that comes twice, because it was asked for twice, is wasted and not given out twice.
        if first >= self.end {
            self.next = first;
            self.end = first + i64::from(count);
        }
        self.asked = None;
    }

    fn take(&mut self) -> Option<i64> {
        let id = self.next;
        (id < self.end).then(|| {
            self.next += 1;
            id
        })
    }
}

/// An `InitProducerId` that waits for a block of ids.
#[derive(Debug)]
pub(crate) struct ProducerIdWait {
    pub(crate) deadline: Instant,
}

pub(super) fn init_producer_id(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: InitProducerIdRequest,
) -> Outcome {
    if request.transactional_id.is_some() {
        return failed(exchange, ErrorCode::INVALID_REQUEST);
    }
    match node.producer_ids.take() {
        Some(producer_id) => granted(exchange, producer_id),
        None => Outcome::Wait(Waiting::ProducerId(ProducerIdWait {
            deadline: now.monotonic + node.config.peer_retry,
        })),
    }
}

impl ProducerIdWait {
    pub(crate) fn look(&mut self, node: &mut Node, now: Now, exchange: &Exchange) -> Option<Outcome> {
        if let Some(producer_id) = node.producer_ids.take() {
            return Some(granted(exchange, producer_id));
        }
        if now.monotonic >= self.deadline {
            // What Kafka answers while its block is empty and the controller is slow.
            return Some(failed(exchange, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        }
        let retry = node.config.peer_retry;
        if node.producer_ids.asked.is_none_or(|asked| asked + retry <= now.monotonic) {
            node.producer_ids.asked = Some(now.monotonic);
            node.tell_controller(PeerMessage::AllocateProducerIds);
        }
        None
    }
}

fn granted(exchange: &Exchange, producer_id: i64) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let response =
        InitProducerIdResponse { throttle_time_ms, producer_id, producer_epoch: 0, ..Default::default() };
    exchange.reply::<InitProducerIdRequest>(&response)
}

fn failed(exchange: &Exchange, error_code: ErrorCode) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let response = InitProducerIdResponse {
        throttle_time_ms,
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    exchange.reply::<InitProducerIdRequest>(&response)
}
