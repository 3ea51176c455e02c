//! A group beside the readers: its members come, crash and go while everything else goes wrong.

use std::{cell::RefCell, time::Duration};

use ottla::{Assignor, Producer, Record, Reset};
use tokio::time::sleep;

use super::fault::MEMBERS;
use crate::{
    Cluster, Running, World,
    group::{Group, Member, Settings},
    history::GroupHistory,
    load::TOPIC,
};

/// The other topic of groups whose members do not all subscribe to the same.
pub(super) const RETURNS: &str = "returns";

/// How many partitions it has.
const RETURNS_PARTITIONS: i32 = 3;

/// The longest time between two of its records.
const PAUSE: Duration = Duration::from_secs(1);

/// Which assignors the members name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignors {
    /// `cooperative-sticky`.
    Cooperative,
    /// `range`: everything is given up before each rebalance.
    Eager,
    /// Both, `cooperative-sticky` first.
    Both,
}

/// What a member subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// `orders`, as readers.
    Orders,
    /// `returns`, to which little is written.
    Returns,
    /// Both.
    All,
}

impl Subscription {
    fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Orders => &[TOPIC],
            Self::Returns => &[RETURNS],
            Self::All => &[TOPIC, RETURNS],
        }
    }
}

/// The group of a [`Plan`](super::Plan), and how its members work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of `group::Settings`")]
pub struct GroupPlan {
    /// How many there are; three at most.
    pub members: usize,
    /// Members keep their `group.instance.id` when they come again (KIP-345).
    pub static_members: bool,
    pub assignors: Assignors,
    /// By member.
    pub subscriptions: [Subscription; 3],
    pub session_ms: u64,
    pub rebalance_ms: u64,
    pub handling_ms: u64,
    pub giving_up_ms: u64,
    pub auto_commit_ms: u64,
    pub commit_on_revoke: bool,
    /// So many of a thousand records are given back once, and handled when they come again.
    pub given_back_per_mille: u32,
}

impl GroupPlan {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        use Assignors::{Both, Cooperative, Eager};
        use Subscription::{All, Orders, Returns};
        let one_of_all = |random: &mut fastrand::Rng| [Orders, Returns, All][random.usize(..3)];
        let subscriptions = match random.bool() {
            true => [Orders; 3],
            // Somebody subscribes to what is read and deleted, moved and refused.
            false => [[Orders, All][random.usize(..2)], one_of_all(random), one_of_all(random)],
        };
        Self {
            subscriptions,
            members: random.usize(1..=MEMBERS.len()),
            static_members: random.u32(..3) == 0,
            assignors: [Cooperative, Eager, Both][random.usize(..3)],
            session_ms: random.u64(6_000..20_000),
            rebalance_ms: random.u64(6_000..30_000),
            handling_ms: random.u64(..20),
            giving_up_ms: if random.bool() { 0 } else { random.u64(..3_000) },
            auto_commit_ms: random.u64(50..5_000),
            commit_on_revoke: random.bool(),
            given_back_per_mille: if random.bool() { 0 } else { random.u32(..100) },
        }
    }

    /// What somebody subscribes to.
    fn topics(&self) -> Vec<&'static str> {
        let members = &self.subscriptions[..self.members];
        let anybody = |topic: &&str| members.iter().any(|member| member.topics().contains(topic));
        [TOPIC, RETURNS].into_iter().filter(anybody).collect()
    }

    fn settings(&self, member: usize, resets: bool) -> Settings {
        let assignors = match self.assignors {
            Assignors::Cooperative => vec![Assignor::CooperativeSticky],
            Assignors::Eager => vec![Assignor::Range],
            Assignors::Both => vec![Assignor::CooperativeSticky, Assignor::Range],
        };
        Settings {
            topics: self.subscriptions[member].topics().to_vec(),
            session: Duration::from_millis(self.session_ms),
            rebalance: Duration::from_millis(self.rebalance_ms),
            assignors,
            instance: self.static_members.then_some(MEMBERS[member]),
            handling: Duration::from_millis(self.handling_ms),
            giving_up: Duration::from_millis(self.giving_up_ms),
            auto_commit_interval: Duration::from_millis(self.auto_commit_ms),
            commit_on_revoke: self.commit_on_revoke,
            on_out_of_range: if resets { Reset::Earliest } else { Reset::Error },
            given_back: f64::from(self.given_back_per_mille) / 1_000.0,
            ..Settings::default()
        }
    }
}

/// The members while things happen to them.
pub(super) struct Members {
    group: Group,
    plan: GroupPlan,
    /// Records may be dropped before they are handled, or the log be cut behind them.
    resets: bool,
    members: RefCell<Vec<Option<Member>>>,
    /// Writes to [`RETURNS`], if somebody subscribes to it.
    returning: Option<Running<()>>,
}

impl Members {
    /// If somebody subscribes to [`RETURNS`], that is created, and written to for about `window`.
    pub(super) async fn start(
        world: &World,
        cluster: &Cluster,
        plan: &GroupPlan,
        window: Duration,
        resets: bool,
    ) -> Self {
        let members = (0..plan.members).map(|_| None).collect();
        let (group, members) = (Group::on(world, cluster, plan.topics()), RefCell::new(members));
        let returning = match plan.topics().contains(&RETURNS) {
            true => Some(write_returns(world, cluster, window).await),
            false => None,
        };
        let this = Self { group, plan: *plan, resets, members, returning };
        this.join_all();
        this
    }

    pub(super) fn history(&self) -> &GroupHistory {
        &self.group.history
    }

    /// How many there are when all are there.
    pub(super) fn count(&self) -> usize {
        self.plan.members
    }

    fn join_all(&self) {
        (0..self.plan.members).for_each(|member| self.join(member));
    }

    /// A process starts where none is.
    pub(super) fn join(&self, member: usize) {
        if let Some(slot @ None) = self.members.borrow_mut().get_mut(member) {
            *slot = Some(self.group.start_with(MEMBERS[member], &self.plan.settings(member, self.resets)));
        }
    }

    fn take(&self, member: usize) -> Option<Member> {
        self.members.borrow_mut().get_mut(member)?.take()
    }

    /// `kill -9`. Gives whether it was there.
    pub(super) fn crash(&self, member: usize) -> bool {
        self.take(member).inspect(Member::crash).is_some()
    }

    /// It is asked to stop. That fails when the cluster is in no state to let it go, which is no reason for anything to
    /// be lost. Gives whether it was there.
    pub(super) async fn stop(&self, member: usize) -> bool {
        let Some(member) = self.take(member) else { return false };
        drop(member.stop().await);
        true
    }

    /// Everything has healed: the group catches up, what its members have told is checked, and they go.
    pub(super) async fn settle(&self, world: &World) {
        self.join_all();
        world
            .until("everything is returned", || self.returning.as_ref().is_none_or(Running::has_ended))
            .await;
        self.group.check().await;
        let members: Vec<Member> = self.members.borrow_mut().iter_mut().filter_map(Option::take).collect();
        for member in members {
            let (host, stopped) = (member.host.clone(), member.stop().await);
            world.expect(stopped.is_ok(), &format!("{} to leave in peace", host.name()), || {
                format!("{stopped:?}")
            });
            world.until_nothing_is_left_of(&host).await;
        }
    }
}

/// Creates [`RETURNS`] and writes little to it for so long, from the host of a sender.
async fn write_returns(world: &World, cluster: &Cluster, window: Duration) -> Running<()> {
    // Brokers whose clocks are slow take what clients with fast ones write.
    let settings = [("message.timestamp.after.max.ms", i64::MAX.to_string())];
    cluster.topic_set(RETURNS, RETURNS_PARTITIONS, &settings).await;
    let (host, mut random) = (world.host("sender-1"), world.random());
    let client = cluster.client_on(&host.name());
    cluster.listen_to(&client);
    host.spawn("returns", async move {
        let producer = Producer::builder(&client).build().expect("default settings");
        for number in 0..(window.as_millis() * 2 / PAUSE.as_millis()) {
            let (key, value) = (format!("customer {}", number % 7), format!("return {number}"));
            // What is not written is not missed: the logs say what is there.
            drop(producer.enqueue(RETURNS, Record::new(&value).key(&key)).await);
            sleep(Duration::from_nanos(random.u64(..PAUSE.as_nanos() as u64))).await;
        }
        drop(producer.flush().await);
    })
}
