//! The whole real client against embedded brokers, while things go wrong: nothing acknowledged is lost, nothing is
//! there twice, order is kept, and readers see every record exactly once. Every seed is run twice, and both runs must
//! be the same.

mod all_at_once;
mod at_least_once;
mod connecting;
mod connection_resets;
mod crashed_broker;
mod deadlines;
mod frozen_broker;
mod moving_leaders;
mod outage;
mod support;
