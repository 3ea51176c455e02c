//! What a driver runs, seen from the driver: a node and the controller look the same.

use std::{fmt, io, time::Instant};

use crate::{
    Controller, Node,
    controller::{ControllerInput, ControllerOutput},
    coordinator,
    io::{Input, NodeId, Now, Output, Recipient, Sender},
};

/// Who shall lead what.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) what: Led,
    pub(super) to: NodeId,
}

#[derive(Debug)]
pub(super) enum Led {
    Partition(String, i32),
    /// The partition in which a group is kept.
    Group(String),
}

impl fmt::Display for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(topic, partition) => write!(f, "{topic}-{partition}"),
            Self::Group(group) => write!(f, "partition of {} for group {group}", coordinator::TOPIC),
        }
    }
}

/// A node or the controller.
pub(super) trait Machine: Send + 'static {
    /// Handles one input.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>);

    /// Lets another node lead a partition, which is the controller's business.
    fn move_leader(&mut self, now: Now, wanted: &Move, out: &mut Vec<Output>) -> io::Result<()>;

    /// When it wants an [`Input::Tick`].
    fn next_deadline(&self) -> Option<Instant>;
}

impl Machine for Node {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        Node::handle(self, now, input, out);
    }

    fn move_leader(&mut self, _: Now, _: &Move, _: &mut Vec<Output>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn next_deadline(&self) -> Option<Instant> {
        Node::next_deadline(self)
    }
}

impl Machine for Controller {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let input = match input {
            Input::Peer(Sender::Node(node), message) => ControllerInput::Peer(node, message),
            Input::Disk(token, result) => ControllerInput::Disk(token, result),
            Input::Tick => ControllerInput::Tick,
            // It has no clients, and it does not write to itself.
            Input::Peer(Sender::Controller, _)
            | Input::Connected(..)
            | Input::Frame(..)
            | Input::Disconnected(_) => return,
        };
        control(self, now, input, out);
    }

    fn move_leader(&mut self, now: Now, wanted: &Move, out: &mut Vec<Output>) -> io::Result<()> {
        let to = wanted.to;
        let led = match &wanted.what {
            Led::Partition(topic, partition) => self.image().topic(topic).map(|topic| (topic.id, *partition)),
            Led::Group(group) => self.image().partition_of_group(group),
        };
        let found = led.and_then(|(topic, partition)| {
            Some((topic, partition, self.image().partition(topic, partition)?))
        });
        let Some((topic, partition, known)) = found else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", wanted.what)));
        };
        if !known.isr.contains(&to) || !self.image().brokers.contains_key(&to) {
            let what = format!("node {to} is not in sync with {}, or does not live", wanted.what);
            return Err(io::Error::new(io::ErrorKind::NotConnected, what));
        }
        control(self, now, ControllerInput::MoveLeader { topic, partition, to }, out);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        Controller::next_deadline(self)
    }
}

/// Handles one input; what the controller wants is said as a node says it.
fn control(controller: &mut Controller, now: Now, input: ControllerInput, out: &mut Vec<Output>) {
    let mut wanted = Vec::new();
    controller.handle(now, input, &mut wanted);
    out.extend(wanted.into_iter().map(|output| match output {
        ControllerOutput::Peer(node, message) => Output::Peer(Recipient::Node(node), message),
        ControllerOutput::Disk(token, request) => Output::Disk(token, request),
        ControllerOutput::Trouble(text) => Output::Trouble(text),
        ControllerOutput::Halt(reason) => Output::Halt(reason),
    }));
}
