//! Reading records.
//!
//! ```text
//!   Consumer (handle) ─▶ inner ◀─ fetcher, look_up (one each per broker) ─▶ connections
//!        │ poll, recv, stream
//!        ▼
//!   Batch, ReceivedRecord ─▶ RecordView
//! ```
//!
//! What is decided is decided in `ottla_core::fetch`.

mod assignment;
mod batch;
mod builder;
mod committer;
mod fetcher;
mod group;
mod handle;
mod inner;
mod look_up;
mod offsets;
mod ownership;
mod pause;
mod pool;
mod recv;
mod stream;

#[cfg(test)]
mod tests;

pub use ottla_core::{
    fetch::{IsolationLevel, OffsetSpec, Pause, Reset, Trouble},
    group::Assignor,
};

pub use self::{
    assignment::{Assignment, Lease},
    batch::{Batch, BatchIter, ConsumerRecord, ReceivedRecord},
    builder::ConsumerBuilder,
    group::{BoxError, CloseOptions, OffsetAndMetadata, Rebalance, RebalanceListener},
    handle::Consumer,
    offsets::OffsetAndTimestamp,
    pause::PauseHandle,
    stream::RecordStream,
};
