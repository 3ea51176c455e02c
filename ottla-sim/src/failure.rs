//! A failed run, as a person wants to read it.

use std::{any::Any, fmt, time::Duration};

use ottla_broker::strict::Violation;

/// Why a run failed: what was expected, and what happened instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Virtual time since the world began.
    pub(crate) at: Duration,
    pub(crate) expected: String,
    pub(crate) happened: Happened,
}

impl Failure {
    /// A task panicked that is not of any host; `panicked` says where, and with what.
    pub(crate) fn of_nobodys_task(at: Duration, panicked: &str) -> Self {
        let happened = format!("{panicked} (`Sim::tolerate_panics` is for those who look at it)");
        Self { at, expected: "no task to panic".to_owned(), happened: Happened::Unmet(happened) }
    }

    /// A client did what no good client does.
    pub(crate) fn broken_rule(at: Duration, violation: &Violation) -> Self {
        let Violation { rule, node, connection, expected, happened, .. } = violation;
        let happened = format!("{happened} ({rule:?}, seen by node {node} on connection {})", connection.0);
        Self { at, expected: expected.clone(), happened: Happened::Unmet(happened) }
    }
}

/// What happened instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Something that was waited for, or checked, is not so.
    Unmet(String),
    /// A task panicked.
    Panicked {
        /// Which one.
        place: String,
        /// The panic's message.
        message: String,
    },
    /// Time stands still, because tasks keep each other busy.
    Stuck(String),
    /// The scenario returned an error.
    Error(String),
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmet(text) | Self::Stuck(text) => f.write_str(text),
            Self::Panicked { place, message } => write!(f, "{place} panicked: {message}"),
            Self::Error(error) => write!(f, "the scenario returned the error {error}"),
        }
    }
}

/// What [`World::until`](crate::World::until) and [`World::expect`](crate::World::expect) throw: a failure with its
/// own words, not a panic of the program under test.
pub(crate) struct Thrown(pub(crate) Failure);

impl Failure {
    /// A panic at `at` in `place`.
    pub(crate) fn from_panic(at: Duration, place: &str, panic: Box<dyn Any + Send>) -> Self {
        let panic = match panic.downcast::<Thrown>() {
            Ok(thrown) => return thrown.0,
            Err(panic) => panic,
        };
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "(not a text)".to_owned(),
        };
        let happened = Happened::Panicked { place: place.to_owned(), message };
        Self { at, expected: "no task to panic".to_owned(), happened }
    }
}
