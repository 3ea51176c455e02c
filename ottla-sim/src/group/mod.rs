//! A group at work: processes that handle the records of their topics, and tell the history what they do.

mod member;

use std::{
    cell::{Cell, OnceCell},
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};

use ottla::{Producer, Record, TopicPartition, env::Env};
use tokio::time::sleep;

pub use self::member::{Hang, Member, Settings};
use crate::{
    Cluster, World,
    history::{GroupHistory, Place, Topic, Verdict, leads_to},
    load::TOPIC,
};

/// The group of all scenarios.
pub const GROUP: &str = "billing";

/// What is late has so much time to show before everything is checked.
const LATE: Duration = Duration::from_secs(10);
/// How often the brokers' disks are looked at for what nobody can handle.
const LOOK: Duration = Duration::from_secs(1);

/// A group, and who produces to [`TOPIC`].
pub struct Group {
    /// Where it lives.
    pub world: World,
    /// The brokers.
    pub cluster: Cluster,
    /// What its members have told.
    pub history: GroupHistory,
    /// What somebody subscribes to.
    topics: Vec<&'static str>,
    shop: OnceCell<Producer>,
    produced: Cell<usize>,
}

impl Group {
    /// Of so many brokers, with the topic.
    pub async fn new(world: &World, brokers: usize, partitions: i32) -> Self {
        let cluster = world.cluster(brokers).await;
        cluster.topic(TOPIC, partitions).await;
        Self::of(world, &cluster)
    }

    /// Of this cluster; the topic may be created later.
    #[must_use]
    pub fn of(world: &World, cluster: &Cluster) -> Self {
        Self::on(world, cluster, vec![TOPIC])
    }

    /// [`Group::of`], where these are the topics that members subscribe to, each somebody.
    #[must_use]
    pub fn on(world: &World, cluster: &Cluster, topics: Vec<&'static str>) -> Self {
        let (world, cluster, history) = (world.clone(), cluster.clone(), GroupHistory::new(world));
        Self { world, cluster, history, topics, shop: OnceCell::new(), produced: Cell::new(0) }
    }

    /// A member with default settings, in a process on a host of that name, which is its `client.id` as well.
    ///
    /// # Panics
    /// As [`Group::start_in`].
    pub fn start(&self, host: &str) -> Member {
        self.start_with(host, &Settings::default())
    }

    /// A member in a process on a host of that name, which is started if it has crashed.
    ///
    /// # Panics
    /// As [`Group::start_in`].
    pub fn start_with(&self, host: &str, settings: &Settings) -> Member {
        let host = self.world.host(host);
        host.start();
        self.start_in(Arc::new(host.env()), &host.name(), settings)
    }

    /// [`Group::start_with`] with an environment of its own.
    ///
    /// # Panics
    /// When the settings are not allowed.
    pub fn start_in(&self, env: Arc<dyn Env>, host: &str, settings: &Settings) -> Member {
        let client = self.cluster.client_builder(host).client_id(host).env(env).build();
        Member::start(self, &self.world.host(host), client.expect("default settings"), settings)
    }

    /// Produces so many records, of many keys, and waits until they are written.
    ///
    /// # Panics
    /// When they are not.
    pub async fn produce(&self, records: usize) {
        self.begin_to_produce(records).await;
        self.written().await;
    }

    /// Produces so many records, and waits for nothing.
    ///
    /// # Panics
    /// When there is no room for them.
    pub async fn begin_to_produce(&self, records: usize) {
        for _ in 0..records {
            let number = self.produced.replace(self.produced.get() + 1);
            let (key, value) = (format!("customer {}", number % 97), format!("order {number}"));
            let record = Record::new(&value).key(&key);
            drop(self.shop().enqueue(TOPIC, record).await.expect("there is room for it"));
        }
    }

    fn shop(&self) -> &Producer {
        self.shop.get_or_init(|| {
            Producer::builder(&self.cluster.client_on("shop")).build().expect("default settings")
        })
    }

    async fn written(&self) {
        if let Some(shop) = self.shop.get() {
            shop.flush().await.expect("everything is written in the end");
        }
    }

    /// Waits until everything in its topics is handled; nobody may be producing.
    pub async fn all_handled(&self) {
        self.written().await;
        for topic in &self.topics {
            let led = || self.has_leaders(topic);
            self.world.until(&format!("{topic} can be read"), led).await;
            let mut open: Vec<(TopicPartition, Place)> = Vec::new();
            for (partition, log) in self.cluster.whole_logs(topic) {
                let partition = TopicPartition::new(*topic, partition);
                let places = log.iter().map(|logged| (logged.offset, Some(logged.leader_epoch)));
                open.extend(places.map(|place| (partition.clone(), place)));
            }
            let (all, mut looked) = (open.len(), Duration::ZERO);
            let is_unclean = !self.cluster.unclean_elections(topic).is_empty();
            let handled = || {
                let begins = self.begins(topic);
                let is_done = |(partition, place): &(TopicPartition, Place)| {
                    self.history.has_handled(partition, *place)
                        || begins.get(&partition.partition()).is_some_and(|begin| place.0 < *begin)
                };
                while open.pop_if(|last| is_done(last)).is_some() {}
                // That takes all logs and commits: once a second is enough.
                let now = self.history.now();
                let can_look = || self.has_leaders(topic) && self.cluster.coordinator(GROUP).is_some();
                if is_unclean && !open.is_empty() && now >= looked + LOOK && can_look() {
                    looked = now;
                    let hidden = self.history.hidden(&self.truth(topic));
                    open.retain(|it| !hidden.contains(it));
                }
                open.is_empty()
            };
            self.world.until(&format!("all {all} records of {topic} are handled"), handled).await;
        }
    }

    fn has_leaders(&self, topic: &str) -> bool {
        let image = self.cluster.image();
        image.topic(topic).is_some_and(|topic| topic.partitions.iter().all(|it| it.leader.is_some()))
    }

    /// Where the logs begin that have dropped something.
    fn begins(&self, topic: &str) -> BTreeMap<i32, i64> {
        let begins = self.cluster.begins(topic).into_iter();
        begins.filter_map(|(partition, begins)| Some((partition, begins.last()?.offset))).collect()
    }

    /// Waits until everything in its topics is handled and committed.
    pub async fn all_committed(&self) {
        self.all_handled().await;
        for topic in &self.topics {
            let end = |log: &Vec<_>| log.last().map_or(0, |last: &crate::Logged| last.offset + 1);
            let (logs, lost) = (self.cluster.whole_logs(topic), self.cluster.lost(topic));
            let all: i64 = logs.values().map(end).sum();
            let committed = || {
                let (commits, begins) = (self.cluster.commits(GROUP, topic), self.begins(topic));
                logs.iter().all(|(partition, log)| {
                    let last = commits.get(partition).and_then(|stored| stored.last());
                    let committed = last.map_or(0, |last| match lost.get(partition) {
                        Some(lost) => leads_to(log, lost, last),
                        None => last.offset,
                    });
                    // Of what was dropped to the end, nothing is left to be committed.
                    committed.max(begins.get(partition).copied().unwrap_or_default()) >= end(log)
                })
            };
            let reads = || self.cluster.coordinator(GROUP).is_some() && committed();
            self.world.until(&format!("all {all} records of {topic} are committed"), reads).await;
        }
    }

    /// The committed offsets of all partitions together.
    #[must_use]
    pub fn committed(&self) -> i64 {
        let commits = self.topics.iter().flat_map(|topic| self.cluster.commits(GROUP, topic));
        commits.filter_map(|(_, stored)| stored.last().copied()).map(|stored| stored.offset).sum()
    }

    /// Waits until everything is handled and committed, gives what is late time to show, and checks all that
    /// [`check`](crate::history::check) checks.
    pub async fn check(&self) -> Verdict {
        self.all_committed().await;
        sleep(LATE).await;
        let truth = |topic: &&'static str| self.truth(topic);
        self.history.check(&self.world, &self.topics.iter().map(truth).collect::<Vec<_>>())
    }

    fn truth(&self, topic: &str) -> Topic {
        Topic {
            name: topic.into(),
            logs: self.cluster.whole_logs(topic),
            begins: self.cluster.begins(topic),
            commits: self.cluster.commits(GROUP, topic),
            lost: self.cluster.lost(topic),
            elections: self.cluster.unclean_elections(topic),
        }
    }

    /// [`Group::check`], and nothing may have been handled twice.
    pub async fn check_once(&self) {
        let verdict = self.check().await;
        self.world.expect(verdict.twice.is_empty(), "nothing to be handled twice", || {
            format!("{} records were, as {:?}", verdict.twice.len(), verdict.twice.first())
        });
    }

    /// Waits until so many partitions have an owner.
    pub async fn all_owned(&self, partitions: usize) {
        self.world.until("all partitions have an owner", || self.history.owned() == partitions).await;
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("history", &self.history).finish_non_exhaustive()
    }
}
