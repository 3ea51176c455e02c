//! Whole clusters in one thread: what the machines do together.

mod harness;
mod requests;

mod chaos;
mod consuming;
mod elections;
mod faults;
mod follower_fetching;
mod group_chaos;
mod group_failures;
mod group_requests;
mod groups;
mod hostile;
mod log_start;
mod metadata;
mod producing;
mod replication;
mod strict;
mod topic_changes;
mod topics;
