//! Groups of real clients against embedded coordinators, while things go wrong: every record is handled, none twice
//! unless a crash came between handling and committing, no partition has two owners, no commit is ahead of the work.
//!
//! The letters behind a test's name are those of the scenarios' lists: G, N, D for faults of groups, of the network and
//! of members, RP for what an application sees.

mod pause;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
