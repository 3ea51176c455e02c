//! Requests that go wrong at one broker, picked by their kind.

use std::{cell::RefCell, collections::BTreeMap};

use ottla_broker::{
    faults::{Effect, Fault, Faults, ScriptedFault},
    io::NodeId,
};
use ottla_protocol::ApiKey;

/// What becomes of a request that [`Broker::interfere`](crate::Broker::interfere) picks: the most common of the
/// [`Effect`]s that [`Cluster::faults`](crate::Cluster::faults) can have.
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

impl From<Interference> for Effect {
    fn from(interference: Interference) -> Self {
        match interference {
            Interference::LoseRequest => Self::LoseRequest,
            Interference::LoseAnswer => Self::LoseAnswer,
            Interference::Silence => Self::Silence,
        }
    }
}

/// What is to go wrong at one broker.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// The kinds of requests that wait.
    held: RefCell<BTreeMap<ApiKey, ScriptedFault>>,
}

impl Harm {
    pub(crate) fn hold(&self, faults: &Faults, node: NodeId, api: ApiKey) {
        let hold = || faults.add(Fault::on_api(api, Effect::Hold).at(node));
        self.held.borrow_mut().entry(api).or_insert_with(hold);
    }

    /// Gives how many requests were held.
    pub(crate) fn release(&self, api: ApiKey) -> u32 {
        let Some(held) = self.held.borrow_mut().remove(&api) else { return 0 };
        held.end();
        held.strikes()
    }
}
