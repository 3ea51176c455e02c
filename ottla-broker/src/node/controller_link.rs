//! What a node and the controller have to say to each other: registration, heartbeats, calls.

use std::time::Instant;

use super::Node;
use crate::image::Image;
use crate::io::{Now, Output, Sender};
use crate::peer::PeerMessage;

/// A call to the controller, to tell its answer apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(u64);

#[derive(Debug, Default)]
pub(super) struct ControllerLink {
    registered: bool,
    /// When to register again, or to send the next heartbeat; nothing before the first tick.
    next: Option<Instant>,
    next_call: u64,
}

impl ControllerLink {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Node {
    pub(super) fn tick_link(&mut self, now: Now) {
        if self.link.next.is_some_and(|next| next > now.monotonic) {
            return;
        }
        let (message, again) = if self.link.registered {
            let (incarnation, metadata_version) = (self.incarnation, self.image.version);
            let heartbeat = PeerMessage::Heartbeat { incarnation, metadata_version };
            (heartbeat, self.config.broker_heartbeat_interval)
        } else {
            let Some(node) = self.config.node(self.id).cloned() else {
                return self.halt(format!("node {} is not part of the cluster's configuration", self.id));
            };
            (PeerMessage::Register { node, incarnation: self.incarnation }, self.config.peer_retry)
        };
        self.link.next = Some(now.monotonic + again);
        self.tell_controller(message);
    }

    pub(super) fn controller_says(&mut self, now: Now, message: PeerMessage) {
        match message {
            PeerMessage::NotRegistered => {
                self.link.registered = false;
                self.link.next = Some(now.monotonic);
            }
            PeerMessage::TopicResults { request, results } => self.deliver_results(CallId(request), &results),
            PeerMessage::ProducerIds { first, count } => {
                self.producer_ids.refill(first, count);
                self.wake_producers();
            }
            PeerMessage::IsrRefused { topic, partition, version } => {
                self.with_replica((topic, partition), |replica, effects| {
                    replica.refused(now, version, effects)
                });
            }
            // The rest is said to the controller, not by it.
            _ => {}
        }
    }

    /// An image has come: it may name this life of the node, which makes it registered.
    pub(super) fn check_registration(&mut self, now: Now) {
        if !self.link.registered && self.is_named(&self.image) {
            self.link.registered = true;
            self.link.next = Some(now.monotonic + self.config.broker_heartbeat_interval);
        }
    }

    /// Whether an image knows this life of the node.
    pub(super) fn is_named(&self, image: &Image) -> bool {
        image.brokers.get(&self.id).is_some_and(|broker| broker.incarnation == self.incarnation)
    }

    /// Calls the controller; the answer names the call.
    pub(crate) fn call(&mut self, message: impl FnOnce(u64) -> PeerMessage) -> CallId {
        let call = self.link.next_call;
        self.link.next_call += 1;
        self.tell_controller(message(call));
        CallId(call)
    }

    pub(crate) fn tell_controller(&mut self, message: PeerMessage) {
        self.out.push(Output::Peer(Sender::Controller, message));
    }
}
