//! Requests that go wrong at one broker, picked by their kind.

use std::cell::RefCell;

use bytes::Bytes;
use ottla_protocol::ApiKey;
use tokio::sync::Notify;

/// What becomes of a request that [`Broker::interfere`](crate::Broker::interfere) picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interference {
    /// The broker never reads it: the connection breaks.
    LoseRequest,
    /// The broker carries it out, and the connection breaks in place of the answer.
    LoseAnswer,
    /// The broker carries it out, and neither the answer nor anything after it ever comes on that connection, which
    /// stays up.
    Silence,
}

/// A request, as far as the driver looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) api: ApiKey,
    pub(crate) correlation: [u8; 4],
}

impl Head {
    /// Of a frame without its length.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let api = frame.get(..2)?.try_into().ok()?;
        let correlation = frame.get(4..8)?.try_into().ok()?;
        Some(Self { api: ApiKey(i16::from_be_bytes(api)), correlation })
    }
}

/// Which request an answer belongs to: the four bytes behind the length.
pub(crate) fn correlation_of(answer: &[Bytes]) -> [u8; 4] {
    let mut bytes = answer.iter().flatten().skip(4);
    std::array::from_fn(|_| bytes.next().copied().unwrap_or_default())
}

#[derive(Debug)]
struct Rule {
    api: ApiKey,
    how: Interference,
    times: u32,
}

/// What is to go wrong at one broker. It outlives the broker's process.
#[derive(Debug, Default)]
pub(crate) struct Interferences {
    rules: RefCell<Vec<Rule>>,
    held: RefCell<Vec<ApiKey>>,
    released: Notify,
}

impl Interferences {
    pub(crate) fn add(&self, api: ApiKey, how: Interference, times: u32) {
        self.rules.borrow_mut().push(Rule { api, how, times });
    }

    /// Nothing more goes wrong with requests of that kind.
    pub(crate) fn clear(&self, api: ApiKey) {
        self.rules.borrow_mut().retain(|rule| rule.api != api);
    }

    /// What goes wrong with the next request of that kind.
    pub(crate) fn next(&self, api: ApiKey) -> Option<Interference> {
        let mut rules = self.rules.borrow_mut();
        let rule = rules.iter_mut().find(|rule| rule.api == api && rule.times > 0)?;
        rule.times -= 1;
        Some(rule.how)
    }

    pub(crate) fn hold(&self, api: ApiKey) {
        self.held.borrow_mut().push(api);
    }

    pub(crate) fn release(&self, api: ApiKey) {
        self.held.borrow_mut().retain(|held| *held != api);
        self.released.notify_waiters();
    }

    /// Waits until requests of that kind are not held.
    pub(crate) async fn passed(&self, api: ApiKey) {
        loop {
            // Created before the look, so that no release in between is missed.
            let released = self.released.notified();
            if !self.held.borrow().contains(&api) {
                return;
            }
            released.await;
        }
    }
}
