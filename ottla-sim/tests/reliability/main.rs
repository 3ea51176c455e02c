//! The whole real client against embedded brokers, while things go wrong: nothing acknowledged is lost, nothing is
//! there twice, order is kept, and readers see every record exactly once. Every seed is run twice, and both runs must
//! be the same. The names begin with the ids of the scenarios in `docs/scenarios.md`.

mod absent_topics;
mod addresses;
mod all_at_once;
mod at_least_once;
mod closest_replica;
mod connecting;
mod connection_resets;
mod consumer;
mod crashed_broker;
mod cut_off_broker;
mod deadlines;
mod deleted_topics;
mod frozen_broker;
mod full_disk;
mod life;
mod moving_leaders;
mod names;
mod network;
mod outage;
mod producer_answers;
mod producer_life;
mod reading;
mod support;
mod versions;
