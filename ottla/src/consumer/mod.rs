//! Reading records.
//!
//! ```text
//!   Consumer (handle) ─▶ inner ◀─ fetcher, look_up (one each per broker) ─▶ connections
//!        │ poll, recv, stream
//!        ▼
//!   Batch, ReceivedRecord ─▶ RecordView
//!        │ complete, drop      in a group
//!        ▼
//!   duty, owned ◀─ committer ─▶ coordinator
//! ```
//!
//! What is decided is decided in `ottla_core::fetch` and `ottla_core::group`.

mod assignment;
mod batch;
mod builder;
mod committer;
mod duty;
mod fetcher;
mod group;
mod handle;
mod inner;
mod look_up;
mod offset_fetch;
mod offsets;
mod owned;
mod ownership;
mod partition;
mod pause;
mod pool;
mod ready;
mod received;
mod records;
mod recv;
mod stream;

#[cfg(test)]
mod tests;

pub use ottla_core::{
    fetch::{Absence, IsolationLevel, OffsetSpec, Pause, Reset, Trouble},
    group::{Assignor, Stall},
};

pub use self::{
    assignment::{Assignment, Lease, OffsetRange},
    batch::{Batch, BatchIter, ConsumerRecord},
    builder::ConsumerBuilder,
    group::{BoxError, CloseOptions, OffsetAndMetadata, Rebalance, RebalanceListener},
    handle::Consumer,
    offsets::{LogOffsets, OffsetAndTimestamp},
    partition::PartitionConsumer,
    pause::PauseHandle,
    received::ReceivedRecord,
    records::{Records, RecordsIter},
    stream::RecordStream,
};
