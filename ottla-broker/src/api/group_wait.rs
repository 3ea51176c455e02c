//! Requests to group coordinators that may have to wait: what is asked of whom, until every answer is there.

use ottla_protocol::{ErrorCode, Str};

use super::group_admin;
use super::groups;
use super::offset_commit::{self, Committing};
use super::offset_delete::{self, Deleting};
use super::offset_fetch::{self, Fetching};
use crate::coordinator::{Answer, Ask, Ticket};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, RequestId};

/// A request that waits for the coordinators of groups.
#[derive(Debug)]
pub(crate) struct GroupWait {
    /// What is still to be asked, of which group.
    asks: Vec<(Str, Ask)>,
    outstanding: usize,
    answers: Vec<Option<Answer>>,
    pending: Pending,
}

/// What the answers are for.
#[derive(Debug)]
pub(super) enum Pending {
    Join,
    Sync,
    Leave,
    Commit(Committing),
    Fetch(Fetching),
    DeleteOffsets(Deleting),
    DeleteGroups(Vec<Str>),
}

impl GroupWait {
    pub(super) fn new(asks: Vec<(Str, Ask)>, pending: Pending) -> Self {
        let parts = asks.len();
        Self { asks, outstanding: parts, answers: vec![None; parts], pending }
    }

    /// Asks, and answers when it has been answered.
    pub(crate) fn look(
        &mut self,
        node: &mut Node,
        now: Now,
        id: RequestId,
        exchange: &Exchange,
    ) -> Option<Outcome> {
        for (part, (group, ask)) in std::mem::take(&mut self.asks).into_iter().enumerate() {
            node.ask(now, Ticket { request: id, part }, &group, ask);
        }
        for (part, answer) in node.take_answers(id) {
            if let Some(place) = self.answers.get_mut(part).filter(|place| place.is_none()) {
                *place = Some(answer);
                self.outstanding -= 1;
            }
        }
        (self.outstanding == 0).then(|| self.reply(node, exchange))
    }

    fn reply(&mut self, node: &Node, exchange: &Exchange) -> Outcome {
        let answers: Vec<Answer> = self.answers.drain(..).flatten().collect();
        match &mut self.pending {
            Pending::Join => groups::joined(exchange, only(answers)),
            Pending::Sync => groups::synced(exchange, only(answers)),
            Pending::Leave => groups::left(exchange, only(answers)),
            Pending::Commit(committing) => offset_commit::committed(exchange, committing, &only(answers)),
            Pending::Fetch(fetching) => offset_fetch::fetched(node, exchange, fetching, answers),
            Pending::DeleteOffsets(deleting) => offset_delete::deleted(exchange, deleting, &only(answers)),
            Pending::DeleteGroups(names) => group_admin::deleted(exchange, names, answers),
        }
    }
}

/// The answer to the only question that was asked.
fn only(answers: Vec<Answer>) -> Answer {
    answers.into_iter().next().unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR))
}

/// The error of a coordinator, or of one that has answered another question.
pub(super) fn error(answer: &Answer) -> ErrorCode {
    answer.as_ref().err().copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR)
}
