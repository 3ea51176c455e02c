//! What was found: of each anomaly how often, and the first few in words.

use std::collections::BTreeMap;

use super::tables::{NO_VALUE, Place};
use crate::history::Anomaly;

/// Of how many of one kind all is told.
const TOLD: usize = 3;

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Focus {
    pub(super) partition: Option<u32>,
    pub(super) offset: Option<i64>,
    pub(super) value: u32,
    pub(super) place: Place,
}

impl Focus {
    /// On a partition.
    pub(super) fn on(partition: u32, offset: Option<i64>, place: Place) -> Self {
        Self { partition: Some(partition), offset, value: NO_VALUE, place }
    }

    /// On an event that concerns no partition.
    pub(super) fn event(place: Place) -> Self {
        Self { partition: None, offset: None, value: NO_VALUE, place }
    }

    /// And on a value.
    pub(super) fn of(self, value: u32) -> Self {
        Self { value, ..self }
    }
}

/// A violation in words.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) anomaly: Anomaly,
    pub(super) focus: Focus,
    pub(super) expected: String,
    pub(super) happened: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) counts: BTreeMap<Anomaly, usize>,
    pub(super) told: Vec<Finding>,
}

impl Findings {
    /// `tell` says what was expected and what happened.
    pub(super) fn add(&mut self, anomaly: Anomaly, focus: Focus, tell: impl FnOnce() -> (String, String)) {
        let count = self.counts.entry(anomaly).or_default();
        *count += 1;
        if *count <= TOLD {
            let (expected, happened) = tell();
            self.told.push(Finding { anomaly, focus, expected, happened });
        }
    }
}
