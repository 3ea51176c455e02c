//! What a member of a group can be asked to do.

use std::collections::BTreeSet;

use super::{CloseOptions, OffsetAndMetadata};
use crate::{Consumer, Error, Result, TopicPartition};

impl Consumer {
    /// Reads these topics as a member of the group, in place of those subscribed to before: the group gives each of its
    /// members some of the partitions. Topics that do not exist (yet) are waited for.
    ///
    /// # Errors
    /// `Misuse` without a [group](crate::ConsumerBuilder::group), without a topic, and after [`Consumer::assign`];
    /// `Closed`.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl Into<String>>) -> Result<()> {
        self.member()?;
        let topics: BTreeSet<String> = topics.into_iter().map(Into::into).collect();
        if topics.iter().any(String::is_empty) || topics.is_empty() {
            return Err(Error::misuse("a subscription names topics"));
        }
        Err(not_yet())
    }

    /// Commits everything that is complete, and waits until the group has it. What is committed is committed by itself as
    /// well, unless [`enable_auto_commit`](crate::ConsumerBuilder::enable_auto_commit) is off.
    ///
    /// # Errors
    /// `Misuse` without a group or a subscription; the broker's code when the commit was refused; `Timeout` after
    /// `default.api.timeout.ms`; `Closed`.
    ///
    /// # Cancel safety
    /// The commit goes on when the future is dropped.
    pub async fn commit(&self) -> Result<()> {
        self.member()?;
        Err(not_yet())
    }

    /// Has everything that is complete committed soon, and waits for nothing. A failure is
    /// [`Event::CommitFailed`](crate::Event::CommitFailed).
    ///
    /// # Errors
    /// `Misuse` without a group or a subscription; `Closed`.
    pub fn commit_async(&self) -> Result<()> {
        self.member()?;
        Err(not_yet())
    }

    /// What the group has committed for each of these partitions; `None` where nothing is. Open transactions are waited
    /// for (KIP-447).
    ///
    /// # Errors
    /// `Misuse` without a group; missing rights; `Timeout` after `default.api.timeout.ms`; `Closed`.
    ///
    /// # Cancel safety
    /// Nothing changes.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndMetadata>)>> {
        self.member()?;
        drop(partitions.into_iter().map(Into::into).collect::<Vec<TopicPartition>>());
        Err(not_yet())
    }

    /// Goes back to what is committed in every partition that is owned: what was handed out since is handed out again.
    ///
    /// # Errors
    /// As [`Consumer::committed`].
    ///
    /// # Cancel safety
    /// Some partitions may be at the old place and others at the new one.
    pub async fn rewind_to_committed(&self) -> Result<()> {
        self.member()?;
        Err(not_yet())
    }

    /// [`Consumer::close`] with options.
    ///
    /// # Errors
    /// As `close`.
    ///
    /// # Cancel safety
    /// It goes on in the background.
    pub async fn close_with(&self, options: CloseOptions) -> Result<()> {
        let _ = (options.membership, options.timeout);
        self.inner().stop();
        Ok(())
    }

    fn member(&self) -> Result<()> {
        match self.open()?.config.group {
            Some(_) => Ok(()),
            None => Err(Error::misuse("the consumer has no group: name one with `ConsumerBuilder::group`")),
        }
    }
}

fn not_yet() -> Error {
    Error::misuse("groups are not there yet")
}
