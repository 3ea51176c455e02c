//! What a member of a group can be asked to do.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use ottla_core::group::TopicPartition as Owned;
use ottla_protocol::Str;

use super::{CloseOptions, OffsetAndMetadata, member::Group, membership};
use crate::{
    Consumer, Error, Result, TopicPartition,
    consumer::{committer, inner::Inner, offset_fetch},
};

impl Consumer {
    /// Reads these topics as a member of the group, in place of those subscribed to before: the group gives each of its
    /// members some of the partitions. Topics that do not exist (yet) are waited for, and told of when that takes long: see
    /// [`Consumer`].
    ///
    /// # Errors
    /// `Misuse` without a [group](crate::ConsumerBuilder::group), without a topic, and after [`Consumer::assign`];
    /// `Closed`.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl Into<String>>) -> Result<()> {
        let inner = self.open()?;
        let group = inner.group()?;
        let topics: BTreeSet<String> = topics.into_iter().map(Into::into).collect();
        if topics.iter().any(String::is_empty) || topics.is_empty() {
            return Err(Error::misuse("a subscription names topics"));
        }
        if group.subscribe(topics.iter().map(|topic| Str::from(topic.as_str())).collect())? {
            inner.shared.spawn("membership", membership::run(Arc::clone(inner), Arc::clone(group)));
            inner.shared.spawn("commits", committer::run(Arc::clone(inner), Arc::clone(group)));
        }
        inner.on_subscribed();
        Ok(())
    }

    /// Commits everything that is complete, and waits until the group has it. What is complete is committed by itself as
    /// well, unless [`enable_auto_commit`](crate::ConsumerBuilder::enable_auto_commit) is off.
    ///
    /// Of a log that is cut meanwhile (an unclean election) it waits for what is left; of a partition whose position is moved
    /// by [`seek`](Self::seek) meanwhile, for nothing.
    ///
    /// # Errors
    /// `Misuse` without a group or a subscription; the broker's code when the commit was refused; `Timeout` after
    /// `default.api.timeout.ms`, when a partition was given up or lost before, which the error names, and when the consumer is
    /// out of its group because the program had [stopped working](crate::ConsumerBuilder::processing_timeout); `Closed`.
    ///
    /// # Cancel safety
    /// The commit goes on when the future is dropped.
    pub async fn commit(&self) -> Result<()> {
        let inner = self.inner();
        // What it has given up nobody can commit; until then there is time to.
        if let Some(stalled) = inner.member()?.stalled()
            && inner.with(|state| state.all_tokens().is_empty())
        {
            return Err(stalled);
        }
        let bound = inner.shared.config.default_api_timeout;
        match tokio::time::timeout(bound, inner.commit_all()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::timeout("what is complete was not committed in time; it is tried again")),
        }
    }

    /// Has everything that is complete committed soon, and waits for nothing. A failure is
    /// [`Event::CommitFailed`](crate::Event::CommitFailed).
    ///
    /// # Errors
    /// `Misuse` without a group or a subscription; `Closed`.
    pub fn commit_async(&self) -> Result<()> {
        self.inner().member()?;
        self.inner().commit_soon();
        Ok(())
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
        let inner = self.inner();
        let group = inner.group()?;
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        let owned = |each: &TopicPartition| Owned::new(each.topic(), each.partition());
        let asked: BTreeSet<Owned> = partitions.iter().map(owned).collect();
        let bound = inner.shared.config.default_api_timeout;
        let fetched = tokio::time::timeout(bound, offset_fetch::until_answered(inner, group, &asked)).await;
        let what = || Error::timeout(format!("what group {} has committed was not told in time", group.name));
        let mut fetched = fetched.map_err(|_| what())??;
        let found = partitions.into_iter().map(|partition| match fetched.remove(&owned(&partition)) {
            Some(Err(code)) => {
                Err(Error::broker(code, "read the committed offset").with_topic_partition(partition))
            }
            Some(Ok(Some(found))) => Ok((partition, Some(found.into()))),
            Some(Ok(None)) | None => Ok((partition, None)),
        });
        found.collect()
    }

    /// Goes back to what is committed in every partition that is owned: what was handed out since is handed out again.
    ///
    /// # Errors
    /// As [`Consumer::committed`].
    ///
    /// # Cancel safety
    /// Some partitions may be at the old place and others at the new one.
    pub async fn rewind_to_committed(&self) -> Result<()> {
        self.inner().member()?;
        let owned: Vec<_> = self.assignment().iter().map(|each| each.topic_partition().clone()).collect();
        for (partition, committed) in self.committed(owned).await? {
            // Whatever was handed out has a commit: where reading began is committed before that.
            if let Some(committed) = committed {
                self.seek(&partition, (&committed).into()).await?;
            }
        }
        Ok(())
    }

    /// [`Consumer::close`] with options.
    ///
    /// # Errors
    /// As `close`.
    ///
    /// # Cancel safety
    /// It goes on in the background.
    pub async fn close_with(&self, options: CloseOptions) -> Result<()> {
        self.inner().close_with(options).await
    }
}

impl Inner {
    /// Whether records may be handed out: to be asked before every batch of `poll` and before every record otherwise.
    /// When that changes, `ready` is notified.
    ///
    /// # Errors
    /// What the group has to say before anything else: a listener that failed, a group that refuses the consumer.
    #[inline]
    pub(in crate::consumer) fn may_hand_out(&self) -> Result<bool> {
        // Mostly it is known already, and nobody else's cache has to hear of it.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        if self.gate.is_open(|| self.shared.env.elapsed()) { Ok(true) } else { self.at_closed_gate() }
    }

    #[cold]
    fn at_closed_gate(&self) -> Result<bool> {
        let Some(group) = &self.group else { return Ok(false) };
        match group.take_failure() {
            Some(error) => Err(error),
            None => {
                group.on_asked();
                Ok(false)
            }
        }
    }

    /// The group, for what only a member can do.
    ///
    /// # Errors
    /// `Misuse` when there is none.
    pub(in crate::consumer) fn group(&self) -> Result<&Arc<Group>> {
        let what = "the consumer has no group: name one with `ConsumerBuilder::group`";
        self.group.as_ref().ok_or_else(|| Error::misuse(what))
    }

    /// [`Self::group`] when it has been subscribed to.
    ///
    /// # Errors
    /// `Misuse` when there is none, or nothing was subscribed to; `Closed` once the group was left.
    pub(in crate::consumer) fn member(&self) -> Result<&Arc<Group>> {
        let group = self.group()?;
        match group.has_subscribed() {
            // A listener that is told of the last revocation still is one of a member's.
            true if self.closed.is_set() => Err(Error::closed()),
            true => Ok(group),
            false => Err(Error::misuse("the consumer is no member of its group: subscribe to topics first")),
        }
    }

    /// Leaves the group, and stops all tasks.
    pub(in crate::consumer) async fn close_with(&self, options: CloseOptions) -> Result<()> {
        self.shut();
        let Some(group) = &self.group else {
            self.stop();
            return Ok(());
        };
        let group_knows = match group.depart(options) {
            true => tokio::time::timeout(options.timeout, group.over.wait()).await.unwrap_or(false),
            false => true,
        };
        self.stop();
        match group_knows {
            true => Ok(()),
            false => Err(Error::timeout("the group was not told in time that the consumer leaves")),
        }
    }

    /// [`Self::close_with`], without waiting for it.
    pub(in crate::consumer) fn abandon(&self) {
        self.shut();
        match &self.group {
            // The membership task stops the others when it ends.
            Some(group) if group.depart(CloseOptions::new()) && !group.over.is_set() => {}
            _ => self.stop(),
        }
    }
}
