//! Who is reached how inside the cluster.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::runner::Event;
use crate::io::{NodeId, Recipient};

/// The queues of the machines that run. A message to one that does not is lost, as on a network.
#[derive(Debug, Default)]
pub(super) struct Router {
    controller: Mutex<Option<mpsc::UnboundedSender<Event>>>,
    nodes: Mutex<BTreeMap<NodeId, mpsc::UnboundedSender<Event>>>,
}

impl Router {
    pub(super) fn connect(&self, who: Recipient, queue: mpsc::UnboundedSender<Event>) {
        match who {
            Recipient::Controller => *lock(&self.controller) = Some(queue),
            Recipient::Node(id) => drop(lock(&self.nodes).insert(id, queue)),
        }
    }

    pub(super) fn disconnect(&self, who: Recipient) {
        match who {
            Recipient::Controller => *lock(&self.controller) = None,
            Recipient::Node(id) => drop(lock(&self.nodes).remove(&id)),
        }
    }

    pub(super) fn send(&self, to: Recipient, event: Event) {
        let queue = match to {
            Recipient::Controller => lock(&self.controller).clone(),
            Recipient::Node(id) => lock(&self.nodes).get(&id).cloned(),
        };
        if let Some(queue) = queue {
            drop(queue.send(event));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
