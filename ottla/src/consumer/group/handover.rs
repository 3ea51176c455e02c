//! Partitions that come and go, one step after the other.
//!
//! ```text
//!   Assign:  find positions ──▶ on_assigned ──▶ records flow
//!   Revoke:  drain ──▶ on_revoked ──▶ last commit ──▶ let go
//!   Abandon: drain ──▶ last commit ──▶ let go ──▶ on_lost
//!   Lost:    (let go at once) ──▶ on_lost
//! ```
//!
//! The listener is called by one of them at a time. A revocation takes from an assignment whose positions are being
//! found what it needs, and a loss breaks off whatever is only about what is lost.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_core::group::TopicPartition as Owned;

use super::{listener::Method, member::Group, tell::tell};
use crate::{
    consumer::inner::Inner,
    env::BoxFuture,
    net::{lock, now},
};

/// Partitions that come or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handover {
    Assign(BTreeSet<Owned>),
    Revoke { partitions: BTreeSet<Owned>, until: Instant },
    Abandon { partitions: BTreeSet<Owned>, until: Instant },
    Lost(BTreeSet<Owned>),
}

/// What comes and goes, in order.
pub(super) struct Handovers {
    inner: Arc<Inner>,
    group: Arc<Group>,
    queue: VecDeque<Handover>,
    running: Option<Running>,
    told: Told,
}

/// What the listener was told of, and not yet that it is gone.
type Told = Arc<Mutex<BTreeSet<Owned>>>;

struct Running {
    handover: Handover,
    work: BoxFuture<'static, ()>,
}

impl Handovers {
    pub(super) fn new(inner: &Arc<Inner>, group: &Arc<Group>) -> Self {
        let (inner, group) = (Arc::clone(inner), Arc::clone(group));
        Self { inner, group, queue: VecDeque::new(), running: None, told: Told::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.running.is_none()
    }

    /// Partitions come.
    pub(super) fn assign(&mut self, partitions: BTreeSet<Owned>) {
        self.queue.push_back(Handover::Assign(partitions));
    }

    /// Partitions are to be given up until then.
    pub(super) fn revoke(&mut self, partitions: BTreeSet<Owned>, until: Instant) {
        self.take_from_assignments(&partitions);
        self.queue.push_back(Handover::Revoke { partitions, until });
    }

    /// Partitions are to be given up until then, without asking the listener.
    pub(super) fn abandon(&mut self, partitions: BTreeSet<Owned>, until: Instant) {
        self.take_from_assignments(&partitions);
        self.queue.push_back(Handover::Abandon { partitions, until });
    }

    /// Partitions are gone.
    pub(super) fn lose(&mut self, partitions: &BTreeSet<Owned>) {
        for handover in &mut self.queue {
            handover.forget(partitions);
        }
        self.queue.retain(|handover| !handover.is_empty());
        self.running.take_if(|running| running.handover.is_only_about(partitions));
        let told: BTreeSet<_> = lock(&self.told).intersection(partitions).cloned().collect();
        if !told.is_empty() {
            self.queue.push_back(Handover::Lost(told));
        }
    }

    /// Whoever has not been told of a partition need not be told that it is gone.
    fn take_from_assignments(&mut self, partitions: &BTreeSet<Owned>) {
        let told = Arc::clone(&self.told);
        let is_taken_from = |running: &mut Running| {
            let Handover::Assign(coming) = &running.handover else { return false };
            !coming.is_disjoint(partitions) && lock(&told).is_disjoint(coming)
        };
        if let Some(broken_off) = self.running.take_if(is_taken_from) {
            self.queue.push_front(broken_off.handover);
        }
        for handover in &mut self.queue {
            if let Handover::Assign(coming) = handover {
                coming.retain(|each| !partitions.contains(each));
            }
        }
        self.queue.retain(|handover| !handover.is_empty());
    }

    /// Goes on with the first one, and gives it when it is done; never, when there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Handover {
        if self.running.is_none() {
            match self.queue.pop_front() {
                Some(handover) => self.running = Some(self.start(handover)),
                None => return std::future::pending().await,
            }
        }
        if let Some(running) = &mut self.running {
            running.work.as_mut().await;
        }
        match self.running.take() {
            Some(running) => running.handover,
            None => std::future::pending().await,
        }
    }

    fn start(&self, handover: Handover) -> Running {
        let step = Step { inner: self.inner.clone(), group: self.group.clone(), told: self.told.clone() };
        let work: BoxFuture<'static, ()> = match handover.clone() {
            Handover::Assign(partitions) => Box::pin(step.assign(partitions)),
            Handover::Revoke { partitions, until } => Box::pin(step.revoke(partitions, until)),
            Handover::Abandon { partitions, until } => Box::pin(step.abandon(partitions, until)),
            Handover::Lost(partitions) => Box::pin(step.lost(partitions)),
        };
        Running { handover, work }
    }
}

/// The work of one handover.
struct Step {
    inner: Arc<Inner>,
    group: Arc<Group>,
    told: Told,
}

/// The last commit gets so much of the time that is left for a revocation, and the listener the rest.
const COMMIT_RESERVE: Duration = Duration::from_secs(1);

impl Step {
    async fn assign(self, partitions: BTreeSet<Owned>) {
        self.inner.acquire(&partitions).await;
        lock(&self.told).extend(partitions.iter().cloned());
        self.tell(Method::Assigned, &partitions, now() + self.group.config.rebalance_timeout).await;
    }

    async fn revoke(self, partitions: BTreeSet<Owned>, until: Instant) {
        let drained = until.min(now() + self.group.config.drain_timeout);
        self.inner.drain(&partitions, drained).await;
        let told = self.take_told(&partitions);
        let reserve = COMMIT_RESERVE.min(until.saturating_duration_since(now()) / 2);
        self.tell(Method::Revoked, &told, until.checked_sub(reserve).unwrap_or(until)).await;
        self.commit(&partitions, until).await;
    }

    async fn abandon(self, partitions: BTreeSet<Owned>, until: Instant) {
        self.inner.drain(&partitions, until.min(now() + self.group.config.drain_timeout)).await;
        self.commit(&partitions, until).await;
    }

    async fn commit(&self, partitions: &BTreeSet<Owned>, until: Instant) {
        if self.group.config.auto_commit.is_some() {
            // What fails is an event, and handed out again by whoever has the partition next.
            let _ = tokio::time::timeout_at(until.into(), self.inner.commit_owned(partitions)).await;
        }
    }

    async fn lost(self, partitions: BTreeSet<Owned>) {
        let told = self.take_told(&partitions);
        self.tell(Method::Lost, &told, now() + self.group.config.rebalance_timeout).await;
    }

    async fn tell(&self, method: Method, partitions: &BTreeSet<Owned>, deadline: Instant) {
        tell(&self.inner, &self.group, method, partitions, deadline.into()).await;
    }

    fn take_told(&self, partitions: &BTreeSet<Owned>) -> BTreeSet<Owned> {
        let mut told = lock(&self.told);
        let taken = told.intersection(partitions).cloned().collect();
        told.retain(|each| !partitions.contains(each));
        taken
    }
}

impl Handover {
    fn partitions(&self) -> &BTreeSet<Owned> {
        match self {
            Self::Assign(partitions) | Self::Lost(partitions) => partitions,
            Self::Revoke { partitions, .. } | Self::Abandon { partitions, .. } => partitions,
        }
    }

    fn is_empty(&self) -> bool {
        self.partitions().is_empty()
    }

    fn is_only_about(&self, partitions: &BTreeSet<Owned>) -> bool {
        !matches!(self, Self::Lost(_)) && self.partitions().is_subset(partitions)
    }

    fn forget(&mut self, lost: &BTreeSet<Owned>) {
        match self {
            Self::Assign(partitions) | Self::Revoke { partitions, .. } | Self::Abandon { partitions, .. } => {
                partitions.retain(|each| !lost.contains(each));
            }
            // The listener still has to hear of an earlier loss.
            Self::Lost(_) => {}
        }
    }
}
