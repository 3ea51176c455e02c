//! What the scenarios have in common.

use std::ops::Range;

pub(crate) use ottla_sim::load::{Load, Plan, TOPIC, cluster};

/// The seeds of each scenario: what takes about a minute. `OTTLA_SIM_SEEDS=0..1000` runs more.
pub(crate) const SEEDS: Range<u64> = 0..12;
