//! One process of a group.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use ottla::{
    Assignor, BoxError, Client, Consumer, ConsumerBuilder, ErrorKind, Event, Rebalance, RebalanceListener,
    Reset, TopicPartition,
};
use tokio::{sync::Notify, time::sleep};

use super::{GROUP, Group};
use crate::{Host, Running, history::MemberHistory, load::TOPIC};

/// How a member works.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What it subscribes to.
    pub topics: Vec<&'static str>,
    /// `session.timeout.ms`.
    pub session: Duration,
    /// `rebalance.timeout.ms`.
    pub rebalance: Duration,
    /// `partition.assignment.strategy`.
    pub assignors: Vec<Assignor>,
    /// `group.instance.id`.
    pub instance: Option<&'static str>,
    /// The longest time that it takes to handle a record; drawn anew for each.
    pub handling: Duration,
    /// How long the listener takes to give a partition up.
    pub giving_up: Duration,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Duration,
    /// Whether the listener commits what it gives up, and knows that it succeeded; else the client does it by itself.
    pub commit_on_revoke: bool,
    /// Where to go on when what comes next is not in the log.
    pub on_out_of_range: Reset,
    /// Whether records wait for the lease.
    pub lease_gate: bool,
    /// `processing.timeout.ms`.
    pub processing_timeout: Duration,
    /// The probability that a record is given back without being handled: it comes again.
    pub given_back: f64,
}

impl Default for Settings {
    /// Those of the client, and handling of [`TOPIC`] that takes no time.
    fn default() -> Self {
        Self {
            topics: vec![TOPIC],
            session: Duration::from_secs(45),
            rebalance: Duration::from_secs(60),
            assignors: vec![Assignor::CooperativeSticky],
            instance: None,
            handling: Duration::ZERO,
            giving_up: Duration::ZERO,
            auto_commit_interval: Duration::from_secs(1),
            commit_on_revoke: true,
            on_out_of_range: Reset::Error,
            lease_gate: true,
            processing_timeout: Duration::from_secs(300),
            given_back: 0.0,
        }
    }
}

/// Where a process hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// With a record in hand. Afterwards it completes it, and wants that committed.
    InHand,
    /// With nothing in hand, before it asks for more.
    Asking,
}

/// What happened inside the client, and when by the history's time.
type Told = Rc<RefCell<Vec<(Duration, Event)>>>;

/// One process of the group.
#[derive(Debug)]
pub struct Member {
    /// Where it runs.
    pub host: Host,
    /// What it has told.
    pub history: MemberHistory,
    running: Running<ottla::Result<()>>,
    stop: Rc<Notify>,
    events: Told,
    hang: Rc<Cell<Option<(Hang, Duration)>>>,
    errors: Rc<RefCell<Vec<ottla::Error>>>,
}

impl Member {
    pub(super) fn start(group: &Group, host: &Host, client: Client, settings: &Settings) -> Self {
        let history = group.history.member(&host.name());
        let events = listen(group, &host.name(), &client, &history);
        let (stop, hang, errors) = (Rc::new(Notify::new()), Rc::default(), Rc::default());
        let process = Process {
            client,
            settings: settings.clone(),
            history: history.clone(),
            stop: Rc::clone(&stop),
            hang: Rc::clone(&hang),
            errors: Rc::clone(&errors),
            random: group.world.random(),
        };
        let running = host.spawn("member", process.run());
        Self { host: host.clone(), history, running, stop, events, hang, errors }
    }

    /// `kill -9`.
    pub fn crash(&self) {
        self.host.crash();
        self.history.crashed();
    }

    /// Asks the process to stop, and waits until it has: it drains, commits and leaves.
    ///
    /// # Errors
    /// What the client said.
    pub async fn stop(self) -> ottla::Result<()> {
        self.stop.notify_one();
        self.running.finished().await
    }

    /// The application hangs with its next record, for so long. The client in it does not.
    pub fn hang(&self, at: Hang, lasts: Duration) {
        self.hang.set(Some((at, lasts)));
    }

    /// Whether it hangs, or has done so.
    #[must_use]
    pub fn has_hung(&self) -> bool {
        self.hang.get().is_none()
    }

    /// What the application was told by `recv` and `commit`, and went on.
    #[must_use]
    pub fn errors(&self) -> Vec<ottla::Error> {
        self.errors.borrow().clone()
    }

    /// Whether the process has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.running.has_ended()
    }

    /// Waits for the process' end: what the client said, or `None` if it crashed.
    pub async fn ended(self) -> Option<ottla::Result<()>> {
        self.running.outcome().await
    }

    /// Waits until the member owns so many partitions.
    pub async fn owns(&self, group: &Group, partitions: usize) {
        let what = format!("{} owns {partitions} partitions", self.host.name());
        group.world.until(&what, || self.history.owned().len() == partitions).await;
    }

    /// When an event of that name happened, by the time of [`GroupHistory`](crate::history::GroupHistory).
    #[must_use]
    pub fn events(&self, name: &str) -> Vec<Duration> {
        self.events.borrow().iter().filter(|(_, event)| event.name() == name).map(|(at, _)| *at).collect()
    }

    /// How many sessions it knows to have lost.
    #[must_use]
    pub fn sessions_lost(&self) -> usize {
        self.events("group.session_lost").len()
    }

    /// How many bytes of fetch responses it got.
    #[must_use]
    pub fn fetched(&self) -> usize {
        let bytes = |(_, event): &(Duration, Event)| match event {
            Event::Fetched { bytes, .. } => *bytes,
            _ => 0,
        };
        self.events.borrow().iter().map(bytes).sum()
    }
}

/// Whoever listens does not crash with the client. What is no routine goes into the trace as well.
fn listen(group: &Group, host: &str, client: &Client, member: &MemberHistory) -> Told {
    let (mut events, told) = (client.events(), Told::default());
    let (keep, history, member) = (Rc::clone(&told), group.history.clone(), member.clone());
    let (world, host, met) = (group.world.clone(), host.to_owned(), group.cluster.counter());
    drop(group.world.host("test").spawn("events", async move {
        while let Some(event) = events.recv().await {
            match &event {
                Event::Fetched { .. } => {}
                Event::OffsetsCommitted { offsets, .. } => {
                    offsets.iter().for_each(|(owned, offset)| member.committed(owned, *offset));
                }
                _ => world.note(format!("{host}: {event:?}")),
            }
            met.event(&event);
            keep.borrow_mut().push((history.now(), event));
        }
    }));
    told
}

/// The application: handles one record after the other.
struct Process {
    client: Client,
    settings: Settings,
    history: MemberHistory,
    stop: Rc<Notify>,
    hang: Rc<Cell<Option<(Hang, Duration)>>>,
    errors: Rc<RefCell<Vec<ottla::Error>>>,
    random: fastrand::Rng,
}

impl Process {
    async fn run(mut self) -> ottla::Result<()> {
        let consumer = self.builder().build()?;
        consumer.subscribe(self.settings.topics.iter().copied())?;
        loop {
            let received = tokio::select! {
                biased;
                () = self.stop.notified() => break,
                received = consumer.recv() => received,
            };
            let record = match received {
                Ok(Some(record)) => record,
                Ok(None) => break,
                // The listener was too slow, or this process, and the group goes on without it.
                Err(error) if matches!(error.kind(), ErrorKind::Misuse | ErrorKind::Timeout) => {
                    self.errors.borrow_mut().push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let view = record.view();
            let partition = TopicPartition::new(view.topic(), view.partition());
            let place = (view.offset(), view.leader_epoch());
            self.history.handed_out(&partition, place, view.value().unwrap_or_default());
            self.handle().await;
            let has_hung = self.hang_at(Hang::InHand).await;
            if self.random.f64() < self.settings.given_back {
                drop(record);
                continue;
            }
            self.history.handled(&partition, place);
            record.complete();
            if has_hung && let Err(error) = consumer.commit().await {
                self.errors.borrow_mut().push(error);
            }
            self.hang_at(Hang::Asking).await;
        }
        consumer.close().await?;
        self.client.close().await
    }

    async fn handle(&mut self) {
        let longest = self.settings.handling.as_nanos() as u64;
        if longest > 0 {
            sleep(Duration::from_nanos(self.random.u64(..=longest))).await;
        }
    }

    /// Hangs if it shall do so here.
    async fn hang_at(&self, at: Hang) -> bool {
        let Some((_, lasts)) = self.hang.get().filter(|(wanted, _)| *wanted == at) else { return false };
        self.hang.set(None);
        sleep(lasts).await;
        true
    }

    fn builder(&self) -> ConsumerBuilder {
        let Settings { giving_up, commit_on_revoke: commit, .. } = self.settings;
        let (settings, topics) = (&self.settings, self.settings.topics.clone());
        let builder = Consumer::builder(&self.client)
            .group(GROUP)
            .session_timeout(settings.session)
            .rebalance_timeout(settings.rebalance)
            .assignors(settings.assignors.iter().copied())
            .auto_commit_interval(settings.auto_commit_interval)
            .on_missing_offset(Reset::Earliest)
            .on_out_of_range(settings.on_out_of_range)
            .lease_gate(settings.lease_gate)
            .processing_timeout(settings.processing_timeout)
            .rebalance_listener(Listener { history: self.history.clone(), topics, giving_up, commit });
        match settings.instance {
            Some(instance) => builder.group_instance_id(instance),
            None => builder,
        }
    }
}

/// Tells the history what comes and goes.
struct Listener {
    history: MemberHistory,
    topics: Vec<&'static str>,
    giving_up: Duration,
    commit: bool,
}

fn partitions(rebalance: &Rebalance<'_>) -> Vec<TopicPartition> {
    rebalance.partitions().iter().map(|owned| owned.topic_partition().clone()).collect()
}

impl RebalanceListener for Listener {
    async fn on_assigned(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        let assigned = partitions(rebalance);
        let is_wanted = |owned: &TopicPartition| self.topics.contains(&owned.topic());
        assert!(assigned.iter().all(is_wanted), "{assigned:?} of {:?}, and nothing else", self.topics);
        self.history.assigned(assigned);
        Ok(())
    }

    async fn on_revoked(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        let mut going = Going { history: &self.history, partitions: partitions(rebalance), committed: false };
        sleep(self.giving_up).await;
        going.committed = self.commit && rebalance.consumer().commit().await.is_ok();
        Ok(())
    }

    async fn on_lost(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.history.lost(partitions(rebalance));
        Ok(())
    }
}

/// Partitions that are being given up. They are gone when the client waits for the listener no longer, too.
struct Going<'a> {
    history: &'a MemberHistory,
    partitions: Vec<TopicPartition>,
    committed: bool,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.history.revoked(self.partitions.drain(..), self.committed);
    }
}
