//! What became of the faults of a plan: when each began and ended, and whether it struck anything.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use super::Fault;

/// A fault that has begun.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Occurred {
    /// What happened.
    pub fault: Fault,
    /// When, in virtual time since the world began.
    pub began: Duration,
    /// When it was over; not before the run failed, if nothing is said.
    pub ended: Option<Duration>,
    /// Whether it took effect: a request met it, a packet vanished, who was killed was alive.
    pub struck: bool,
}

impl fmt::Display for Occurred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, began, ended, struck } = self;
        let began = began.as_secs_f64();
        match ended {
            Some(ended) => write!(f, "{began:.3} to {:.3} s: {fault:?}", ended.as_secs_f64())?,
            None => return write!(f, "since {began:.3} s: {fault:?}"),
        }
        if *struck { Ok(()) } else { f.write_str(", which struck nothing") }
    }
}

/// The faults of a run that have begun, in that order. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Occurrences(Rc<RefCell<Vec<Occurred>>>);

impl Occurrences {
    /// Gives its number.
    pub(super) fn began(&self, fault: Fault, at: Duration) -> usize {
        let mut occurred = self.0.borrow_mut();
        occurred.push(Occurred { fault, began: at, ended: None, struck: false });
        occurred.len() - 1
    }

    pub(super) fn ended(&self, number: usize, at: Duration, struck: bool) {
        if let Some(occurred) = self.0.borrow_mut().get_mut(number) {
            (occurred.ended, occurred.struck) = (Some(at), struck);
        }
    }

    pub(super) fn take(&self) -> Vec<Occurred> {
        self.0.take()
    }
}

/// A fault as a line between other events.
pub(super) fn line(fault: &Fault, lasts: Duration) -> String {
    format!("{fault:?} begins, for {:.1} s", lasts.as_secs_f64())
}
