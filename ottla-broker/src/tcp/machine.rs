//! What a driver runs, seen from the driver: a node and the controller look the same.

use std::time::Instant;

use crate::{
    Controller, Node,
    controller::{ControllerInput, ControllerOutput},
    io::{Input, Now, Output, Recipient, Sender},
};

/// A node or the controller.
pub(super) trait Machine: Send + 'static {
    /// Handles one input.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>);

    /// When it wants an [`Input::Tick`].
    fn next_deadline(&self) -> Option<Instant>;
}

impl Machine for Node {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        Node::handle(self, now, input, out);
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
        let mut wanted = Vec::new();
        Controller::handle(self, now, input, &mut wanted);
        out.extend(wanted.into_iter().map(|output| match output {
            ControllerOutput::Peer(node, message) => Output::Peer(Recipient::Node(node), message),
            ControllerOutput::Disk(token, request) => Output::Disk(token, request),
            ControllerOutput::Trouble(text) => Output::Trouble(text),
            ControllerOutput::Halt(reason) => Output::Halt(reason),
        }));
    }

    fn next_deadline(&self) -> Option<Instant> {
        Controller::next_deadline(self)
    }
}
