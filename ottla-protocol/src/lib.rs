//! Kafka's wire format: bytes in, values out. No I/O, no clocks, no tasks.

mod topic_id;

pub use topic_id::{ParseTopicIdError, TopicId};
