//! Administration: topics.
//!
//! A request is a builder that is awaited. It gives a [`PerItem`]: the outer error says that no item was answered, an
//! inner one is that item's.

mod controller;
mod per_item;
mod retry;
mod topics;

use std::{fmt, sync::Arc};

pub use self::{
    per_item::PerItem,
    topics::{
        CreateTopics, CreatedTopic, DeleteTopics, DescribeTopics, ListTopics, NewTopic, PartitionDescription,
        TopicDescription, TopicListing,
    },
};
use crate::{Client, client::Shared};

/// Creates, deletes, describes and lists topics. Cheap to clone.
///
/// ```no_run
/// use ottla::*;
/// use std::time::Duration;
///
/// async fn ensure_topics(admin: &Admin) -> Result<()> {
///     let topics = ["orders", "refunds"].map(|name| NewTopic::new(name, 12, 3).config("retention.ms", "-1"));
///     for (topic, result) in admin.create_topics(topics).timeout(Duration::from_secs(10)).await? {
///         match result {
///             Ok(created) => println!("{topic}: {} partitions", created.partitions),
///             Err(e) if e.broker_code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
///             Err(e) => return Err(e),
///         }
///     }
///     admin.delete_topics(["old"]).await?.all()?; // `all`: the first failed item is the error
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

impl Admin {
    /// An admin that uses the client's connections.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self(client.shared().clone())
    }

    /// Creates topics. Gives what was created, topic by topic.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> CreateTopics {
        CreateTopics::new(&self.0, topics.into_iter().collect())
    }

    /// Deletes topics and all their records.
    pub fn delete_topics<S: Into<String>>(&self, topics: impl IntoIterator<Item = S>) -> DeleteTopics {
        DeleteTopics::new(&self.0, topics.into_iter().map(Into::into).collect())
    }

    /// Describes topics: their ids, and of each partition the leader and the replicas.
    pub fn describe_topics<S: Into<String>>(&self, topics: impl IntoIterator<Item = S>) -> DescribeTopics {
        DescribeTopics::new(&self.0, topics.into_iter().map(Into::into).collect())
    }

    /// Lists all topics that the client may see, ordered by name.
    pub fn list_topics(&self) -> ListTopics {
        ListTopics::new(&self.0)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

#[cfg(test)]
mod tests;
