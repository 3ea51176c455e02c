//! Kafka's wire format: bytes in, values out. No I/O, no clocks, no tasks.

pub mod batch;
pub mod compression;
mod topic_id;

pub use topic_id::{ParseTopicIdError, TopicId};
