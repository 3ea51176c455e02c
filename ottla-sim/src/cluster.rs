//! An embedded cluster whose nodes are hosts of the world.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt, io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ottla::{Client, ClientBuilder, Producer, Record};
use ottla_broker::{
    ClusterConfig, Controller, Node, Recovered, Rng,
    controller::ControllerInput,
    disk::Tail,
    faults::{Effect, Fault, Faults},
    image::Image,
    io::{FileId, NodeId},
    strict::{Rule, Strict},
};
use ottla_protocol::{ApiKey, ErrorCode, Request, TopicId};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    World,
    broker::{self, Cut, Directory, DiskToll, Driver, Lasting, Machine, Unclean},
    history::{Begins, Commits, Elections, Logs},
    interference::Harm,
    logged::{Logged, read_commits, read_log},
    met::{Counts, Met},
    operator::{create_topic, delete_records, delete_topic},
    truth::Truth,
    world::{Host, Network},
};

/// Where brokers listen.
const PORT: u16 = 9092;

/// The host that applications run on unless they say otherwise.
const APP: &str = "app";

/// The host of the controller.
const CONTROLLER: &str = "controller";

/// Where coordinators keep groups and their commits.
pub(crate) const OFFSETS: &str = "__consumer_offsets";

/// An operator who insists asks the next broker after so long without an answer, and this often at most.
const INSISTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(200));

/// How much faster the cluster lives while clients sleep.
const HASTE: u32 = 30;

/// An embedded cluster. Its nodes are hosts named `broker-1`, `broker-2` …, and its controller is the host
/// `controller`, which never fails. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Rc<Inner>);

struct Inner {
    world: World,
    config: Arc<ClusterConfig>,
    watched: Watched,
    directory: Rc<Directory>,
    controller: Rc<Driver>,
    /// Of clients, if it is not the default.
    metadata_max_age: Cell<Option<Duration>>,
    /// The unclean ones.
    elections: Rc<RefCell<Vec<Unclean>>>,
    truth: Truth,
    /// Topics that were deleted by [`Cluster::recreate`], in the order in which they went.
    deleted: RefCell<Vec<Deleted>>,
    nodes: Vec<NodeSlot>,
}

/// A topic that was deleted.
struct Deleted {
    name: String,
    id: TopicId,
    partitions: i32,
}

/// What all nodes of a cluster share.
#[derive(Default)]
struct Watched {
    faults: Faults,
    strict: Strict,
    met: Met,
}

struct NodeSlot {
    id: NodeId,
    host: Host,
    harm: Harm,
    lasting: Lasting,
    driver: RefCell<Rc<Driver>>,
}

impl World {
    /// A cluster of so many brokers, with the settings of a careful production cluster of that size (three brokers or
    /// more: three replicas, of which two must have a record). Waits until all are registered.
    pub async fn cluster(&self, brokers: usize) -> Cluster {
        self.cluster_with(ClusterConfig::with_nodes(brokers, "", PORT)).await
    }

    /// A cluster with settings of its own. Hosts and ports of its nodes are replaced by those of the world.
    ///
    /// # Panics
    /// When the world has a cluster already.
    pub async fn cluster_with(&self, mut config: ClusterConfig) -> Cluster {
        for node in &mut config.nodes {
            node.host = format!("broker-{}", node.id);
            node.port = PORT;
        }
        let cluster = match Cluster::start(self, Arc::new(config)) {
            Ok(cluster) => cluster,
            Err(error) => panic!("a world has one cluster at most, on fresh hosts: {error}"),
        };
        let all = cluster.0.nodes.len();
        self.until("all brokers are registered", || cluster.image().brokers.len() == all).await;
        cluster
    }
}

impl Cluster {
    fn start(world: &World, config: Arc<ClusterConfig>) -> io::Result<Self> {
        let controller_host = world.host(CONTROLLER);
        let hosts: Vec<(NodeId, Host)> =
            config.nodes.iter().map(|node| (node.id, world.host(&node.host))).collect();
        let nodes = hosts.iter().map(|(id, host)| (*id, host.id)).collect();
        let directory = Rc::new(Directory { controller: Some(controller_host.id), nodes });

        let random = Rng::seeded(world.shared.random(controller_host.id));
        let controller = Controller::new(Arc::clone(&config), None, random).map_err(io::Error::other)?;
        let machine = Machine::Controller(Box::new(controller));
        let to = Rc::clone(&directory);
        let disks: BTreeMap<_, _> = hosts.iter().map(|(id, _)| (*id, Rc::default())).collect();
        let lasting = Lasting { disks: disks.clone(), ..Lasting::default() };
        let elections = Rc::clone(&lasting.unclean);
        let controller = broker::start(&controller_host, &world.shared, to, machine, lasting, None)?;

        let (watched, truth) = (Watched::default(), Truth::default());
        let nodes = hosts.into_iter().map(|(id, host)| {
            let disk = Rc::clone(&disks[&id]);
            let lasting = Lasting { truth: truth.clone(), disk, ..Lasting::default() };
            let driver = start_node(world, (&config, &watched), &directory, &host, id, &lasting)?;
            Ok(NodeSlot { id, host, harm: Harm::default(), lasting, driver: RefCell::new(driver) })
        });
        let nodes = nodes.collect::<io::Result<_>>()?;
        let world = world.clone();
        let deleted = RefCell::default();
        let inner = Inner {
            world,
            config,
            watched,
            directory,
            controller,
            elections,
            truth,
            deleted,
            nodes,
            metadata_max_age: Cell::default(),
        };
        Ok(Self(Rc::new(inner)))
    }

    /// What is to go wrong with requests: by API, broker, client and partition, so often or by chance.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.watched.faults
    }

    /// Counts what the client tells from now on: see [`Cluster::met`].
    pub fn listen_to(&self, client: &Client) {
        let (mut events, met) = (client.events(), self.0.watched.met.clone());
        // Whoever listens does not crash with the client.
        drop(self.0.world.host("test").spawn("events", async move {
            while let Some(event) = events.recv().await {
                met.event(&event);
            }
        }));
    }

    pub(crate) fn counter(&self) -> Met {
        self.0.watched.met.clone()
    }

    /// Which error codes brokers answered, and what clients told that were listened to, and how often.
    #[must_use]
    pub fn met(&self) -> Counts {
        let name = |api: ApiKey| api.name().map_or_else(|| api.to_string(), str::to_owned);
        let code = |code: ErrorCode| code.name().map_or_else(|| code.to_string(), str::to_owned);
        let answered = self.0.watched.strict.errors_answered();
        let mut met = self.0.watched.met.counts();
        met.extend(
            answered
                .into_iter()
                .map(|((api, error), times)| (format!("{}: {}", name(api), code(error)), times)),
        );
        if !self.0.elections.borrow().is_empty() {
            met.insert("elections: unclean".to_owned(), self.0.elections.borrow().len() as u64);
        }
        met
    }

    /// From so long from now on nothing hinders anybody, so that members' heartbeats have to come in time; `None`: something
    /// does, or may. That is so until something is said.
    pub fn nothing_hinders(&self, in_so_long: Option<Duration>) {
        let now = Instant::now().into_std() + self.0.world.shared.clients_slept();
        self.0.watched.strict.nothing_hinders(in_so_long.map(|settles| now + settles));
    }

    /// From now on only these of the rules for clients count: for brokers that lie.
    pub(crate) fn watch_only(&self, rules: &[Rule]) {
        self.0.watched.strict.watch_only(rules);
    }

    /// The broker of that index, counted from 0. Its id is one more.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn broker(&self, index: usize) -> Broker {
        assert!(index < self.0.nodes.len(), "there are {} brokers", self.0.nodes.len());
        Broker { cluster: self.clone(), index }
    }

    /// All brokers.
    pub fn brokers(&self) -> impl Iterator<Item = Broker> + '_ {
        (0..self.0.nodes.len()).map(|index| self.broker(index))
    }

    /// The broker that leads a partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Broker> {
        let leader = self.image().topic(topic)?.partition(partition)?.leader?;
        let index = self.0.nodes.iter().position(|node| node.id == leader)?;
        Some(self.broker(index))
    }

    /// The metadata as the controller has it.
    ///
    /// # Panics
    /// Never: the machine of the controller's host is the controller.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.0.controller.with_machine(|machine| match machine {
            Machine::Controller(controller) => Arc::clone(controller.image()),
            Machine::Node(_) => unreachable!("`start` put the controller there"),
        })
    }

    /// The addresses that a client begins with.
    #[must_use]
    pub fn bootstrap_servers(&self) -> Vec<String> {
        self.0.config.nodes.iter().map(|node| format!("{}:{}", node.host, node.port)).collect()
    }

    /// A client with default settings on host `app`. What is spawned there ([`World::spawn`] with that name) is frozen
    /// and crashes together with it.
    ///
    /// # Panics
    /// Never: the defaults are valid.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_on(APP)
    }

    /// A client with default settings on a host of that name.
    ///
    /// # Panics
    /// Never: the defaults are valid.
    #[must_use]
    pub fn client_on(&self, host: &str) -> Client {
        match self.client_builder(host).build() {
            Ok(client) => client,
            Err(error) => unreachable!("default settings are valid: {error}"),
        }
    }

    /// What [`Cluster::client_on`] builds from, for other settings. On a cluster with racks, it has the host's `client.rack`.
    pub fn client_builder(&self, host: &str) -> ClientBuilder {
        let env = Arc::new(self.0.world.host(host).env());
        let mut builder = Client::builder().bootstrap_servers(self.bootstrap_servers()).env(env);
        if let Some(rack) = self.rack_of(&self.0.world.host(host)) {
            builder = builder.client_rack(rack);
        }
        match self.0.metadata_max_age.get() {
            Some(age) => builder.metadata_max_age(age),
            None => builder,
        }
    }

    /// Where a host stands, if brokers have racks: hosts are put into them in turn.
    fn rack_of(&self, host: &Host) -> Option<&str> {
        let nodes = &self.0.config.nodes;
        nodes[host.id.0 as usize % nodes.len()].rack.as_deref()
    }

    /// `metadata.max.age.ms` of the clients that are built from now on; the default, if nothing is said.
    pub(crate) fn clients_metadata_max_age(&self, age: Option<Duration>) {
        self.0.metadata_max_age.set(age);
    }

    /// Creates a topic with the cluster's default replication, and waits until every partition has a leader.
    ///
    /// # Panics
    /// When the topic exists, or no broker answers.
    pub async fn topic(&self, name: &str, partitions: i32) {
        self.topic_with(name, partitions, self.0.config.default_replication_factor).await;
    }

    /// [`Cluster::topic`] with so many replicas.
    ///
    /// # Panics
    /// As `topic`.
    pub async fn topic_with(&self, name: &str, partitions: i32, replicas: i16) {
        self.create((name, partitions, replicas), &[]).await;
    }

    /// [`Cluster::topic`] with these settings.
    ///
    /// # Panics
    /// As `topic`.
    pub async fn topic_set(&self, name: &str, partitions: i32, settings: &[(&str, String)]) {
        self.create((name, partitions, self.0.config.default_replication_factor), settings).await;
    }

    async fn create(&self, topic: (&str, i32, i16), settings: &[(&str, String)]) {
        let name = topic.0;
        let world = &self.0.world;
        let Some(node) = self.0.nodes.iter().find(|node| node.host.is_running()) else {
            panic!("no broker runs that could create topic {name}");
        };
        if let Err(error) = create_topic(&world.host("test"), &node.host, PORT, topic, settings).await {
            panic!("topic {name} could not be created: {error}");
        }
        let led = |image: &Image| {
            let topic = image.topic(name);
            topic.is_some_and(|topic| topic.partitions.iter().all(|partition| partition.leader.is_some()))
        };
        world.until(&format!("topic {name} has leaders"), || led(&self.image())).await;
    }

    /// An operator deletes a topic, and creates it anew after so long, with as many partitions and the cluster's default
    /// settings: through whichever broker answers, as often as it takes. The controller's word counts, since answers may get
    /// lost. Nothing happens if there is no such topic. Gives whether there was.
    pub async fn recreate(&self, name: &str, away: Duration) -> bool {
        let (from, image) = (self.0.world.host("test"), self.image());
        let Some(topic) = image.topic(name) else { return false };
        let (id, partitions) = (topic.id, topic.partitions.len() as i32);
        self.0.deleted.borrow_mut().push(Deleted { name: name.to_owned(), id, partitions });
        let is_gone = || self.image().topic_by_id(id).is_none();
        self.insist(is_gone, async |broker| delete_topic(&from, broker, PORT, id).await).await;
        sleep(away).await;
        let topic = (name, partitions, self.0.config.default_replication_factor);
        let is_there = || self.image().topic(name).is_some();
        self.insist(is_there, async |broker| create_topic(&from, broker, PORT, topic, &[]).await).await;
        true
    }

    /// Asks one broker after the other until it is done.
    async fn insist(&self, is_done: impl Fn() -> bool, ask: impl AsyncFn(&Host) -> io::Result<()>) {
        let (patience, pause) = INSISTS;
        for node in self.0.nodes.iter().cycle() {
            if is_done() {
                return;
            }
            // What it says is heeded by nobody: see `is_done`.
            drop(timeout(patience, ask(&node.host)).await);
            sleep(pause).await;
        }
    }

    /// Produces records from a host of its own and waits until all are acknowledged.
    ///
    /// # Panics
    /// When one is not written.
    pub async fn produce<'r>(&self, topic: &str, records: impl IntoIterator<Item = Record<'r>>) {
        let client = self.client_on("test");
        let written = async {
            let producer = Producer::builder(&client).build()?;
            for record in records {
                drop(producer.enqueue(topic, record).await?);
            }
            producer.flush().await?;
            Ok::<_, ottla::Error>(producer.close().await?)
        };
        if let Err(error) = written.await {
            panic!("producing to {topic}: {error}");
        }
        drop(client.close().await);
    }

    /// What the leader of a partition has in its log, from its disk: the truth.
    ///
    /// # Panics
    /// When the partition has no leader, or the log cannot be read.
    #[must_use]
    pub fn log(&self, topic: &str, partition: i32) -> Vec<Logged> {
        match self.leader(topic, partition) {
            Some(leader) => leader.log(topic, partition),
            None => panic!("partition {partition} of {topic} has no leader"),
        }
    }

    /// [`Cluster::log`] for each partition of a topic.
    ///
    /// # Panics
    /// When there is no such topic, and as `log`.
    #[must_use]
    pub fn logs(&self, topic: &str) -> Logs {
        let partitions = self.image().topic(topic).map_or(0, |topic| topic.partitions.len() as i32);
        assert!(partitions > 0, "there is no topic {topic}");
        (0..partitions).map(|partition| (partition, self.log(topic, partition))).collect()
    }

    /// [`Cluster::logs`], and what the logs have dropped at their beginnings since the topic was created.
    ///
    /// # Panics
    /// As `logs`.
    #[must_use]
    pub fn whole_logs(&self, topic: &str) -> Logs {
        let id = self.image().topic(topic).map(|topic| topic.id).unwrap_or_default();
        let whole = |(partition, log)| (partition, self.0.truth.whole((id, partition), log));
        self.logs(topic).into_iter().map(whole).collect()
    }

    /// [`Cluster::whole_logs`] of everything that had that name, the oldest first: of topics that were deleted by
    /// [`Cluster::recreate`], and of the one that is there.
    ///
    /// # Panics
    /// As `logs`.
    #[must_use]
    pub fn incarnations(&self, topic: &str) -> Vec<Logs> {
        let deleted = self.0.deleted.borrow();
        let of_name = deleted.iter().filter(|deleted| deleted.name == topic);
        let logs = of_name.map(|Deleted { id, partitions, .. }| {
            (0..*partitions).map(|partition| (partition, self.0.truth.deleted((*id, partition)))).collect()
        });
        logs.chain([self.whole_logs(topic)]).collect()
    }

    /// Where the logs of a topic began, and from when on, since something was dropped from them.
    #[must_use]
    pub fn begins(&self, topic: &str) -> Begins {
        let image = self.image();
        let Some(topic) = image.topic(topic) else { return Begins::new() };
        let of = |partition| (partition, self.0.truth.begins((topic.id, partition)));
        (0..topic.partitions.len() as i32).map(of).collect()
    }

    /// What unclean elections have cost a topic, from the brokers' own logs: the records that followers cut off since an
    /// election of a replica that never had them. By partition; some may be there all the same, written again.
    #[must_use]
    pub fn lost(&self, topic: &str) -> Logs {
        let Some(id) = self.image().topic(topic).map(|topic| topic.id) else { return Logs::new() };
        let elections = self.0.elections.borrow();
        let mut lost = Logs::new();
        for node in &self.0.nodes {
            for Cut { partition, record, leader_epoch } in node.lasting.cuts.borrow().iter() {
                let between = |unclean: &Unclean| {
                    unclean.partition == *partition
                        && record.leader_epoch < unclean.elected.leader_epoch
                        && unclean.elected.leader_epoch <= *leader_epoch
                };
                if partition.0 == id && elections.iter().any(between) {
                    lost.entry(partition.1).or_default().push(record.clone());
                }
            }
        }
        lost
    }

    /// The elections of each partition of a topic that were unclean so far.
    #[must_use]
    pub fn unclean_elections(&self, topic: &str) -> Elections {
        let id = self.image().topic(topic).map(|topic| topic.id);
        let mut elections = Elections::new();
        for Unclean { partition: (topic, partition), elected } in self.0.elections.borrow().iter() {
            if Some(*topic) == id {
                elections.entry(*partition).or_default().push(elected.clone());
            }
        }
        elections
    }

    /// The broker that coordinates a group; none while its partition of `__consumer_offsets` has no leader.
    #[must_use]
    pub fn coordinator(&self, group: &str) -> Option<Broker> {
        self.leader(OFFSETS, self.image().partition_of_group(group)?.1)
    }

    /// The controller lets a broker lead a partition, if its replica is in sync. Nothing else happens to anybody: those
    /// whom it concerns hear of it. Gives whether it was another one.
    pub fn move_leader(&self, topic: &str, partition: i32, to: &Broker) -> bool {
        let epoch = || Some(self.image().topic(topic)?.partition(partition)?.leader_epoch);
        let before = epoch();
        if let Some(topic) = self.image().topic(topic) {
            let input = ControllerInput::MoveLeader { topic: topic.id, partition, to: to.id() };
            self.0.controller.command(input);
        }
        epoch() > before
    }

    /// [`Cluster::move_leader`] of the partition in which a group is kept, and with it the group.
    pub fn move_coordinator(&self, group: &str, to: &Broker) -> bool {
        let partition = self.image().partition_of_group(group);
        partition.is_some_and(|(_, partition)| self.move_leader(OFFSETS, partition, to))
    }

    /// An operator drops the records of a partition below an offset, or with -1 all that are committed. Gives where the log
    /// begins then, on all replicas that live.
    ///
    /// # Errors
    /// What the broker said, or that none leads. The records may be dropped all the same.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> io::Result<i64> {
        let leader = self.leader(topic, partition).ok_or_else(|| io::Error::other("nobody leads it"))?;
        let from = self.0.world.host("test");
        delete_records(&from, leader.host(), PORT, (topic, partition, offset)).await
    }

    /// The commits of a group for a topic, in the order in which its coordinator stored them.
    ///
    /// # Panics
    /// When the group's partition of `__consumer_offsets` has no leader, or its log cannot be read.
    #[must_use]
    pub fn commits(&self, group: &str, topic: &str) -> Commits {
        let Some((id, partition)) = self.image().partition_of_group(group) else { return Commits::new() };
        // The coordinator's clock may be wrong.
        let at = |logged: &Logged| self.0.truth.appended((id, partition), logged);
        read_commits(&self.log(OFFSETS, partition), (group, topic), at)
    }

    /// What a group has committed for a partition, as its coordinator stored it last; none before there is a commit, and
    /// while the group has no coordinator.
    ///
    /// # Panics
    /// When the coordinator's log cannot be read.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.coordinator(group)?;
        self.commits(group, topic).get(&partition)?.last().map(|stored| stored.offset)
    }

    /// The machines of all clients are suspended while the cluster lives through `duration`: brokers' clocks, wall clocks
    /// and [`Env::elapsed`](ottla::env::Env::elapsed) go on, and the clients' monotonic clock, and so their timers,
    /// hardly moves. Freeze the hosts whose processes must not run meanwhile; what runs on others runs in slow motion.
    pub async fn while_clients_sleep(&self, duration: Duration) {
        let step = Duration::from_millis(10);
        let end = self.0.world.shared.clients_slept() + duration;
        while self.0.world.shared.clients_slept() < end {
            sleep(step).await;
            self.0.world.shared.let_clients_sleep(step * (HASTE - 1));
            self.0.controller.look_at_clock();
            self.0.nodes.iter().for_each(|node| node.driver.borrow().look_at_clock());
        }
    }

    /// Waits until all brokers run, every partition of a topic has a leader, and all its replicas are in sync.
    pub async fn healed(&self, topic: &str) {
        let healthy = || {
            let image = self.image();
            let whole = image.topic(topic).is_some_and(|topic| {
                topic.partitions.iter().all(|p| p.leader.is_some() && p.isr.len() == p.replicas.len())
            });
            whole && image.brokers.len() == self.0.nodes.len()
        };
        self.0.world.until(&format!("all replicas of {topic} are in sync"), healthy).await;
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.0.nodes.len()).finish_non_exhaustive()
    }
}

/// One broker of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    cluster: Cluster,
    index: usize,
}

impl Broker {
    fn slot(&self) -> &NodeSlot {
        &self.cluster.0.nodes[self.index]
    }

    /// Its id, as clients see it.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.slot().id
    }

    /// The host that it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.slot().host
    }

    /// SIGSTOP for so long: its connections stay up, its kernel accepts new ones, and nothing is answered.
    pub async fn pause_for(&self, duration: Duration) {
        self.host().pause_for(duration).await;
    }

    /// SIGSTOP (see [`Host::freeze`]).
    pub fn freeze(&self) {
        self.host().freeze();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.host().thaw();
    }

    /// `kill -9`: what was written survives, since the operating system has it. Connections are closed.
    pub fn kill(&self) {
        self.host().crash();
    }

    /// The machine loses power: of each file's unsynced tail remains what `tail` says. Nobody is told.
    pub fn lose_power(&self, tail: Tail) {
        self.lose_power_and_bytes(tail);
    }

    /// [`Broker::lose_power`]. Gives how many bytes are lost.
    pub(crate) fn lose_power_and_bytes(&self, tail: Tail) -> usize {
        self.host().lose_power();
        self.slot().lasting.disk.borrow_mut().crash(tail)
    }

    /// From now on each request of the disk takes up to so much longer.
    pub fn slow_disk(&self, at_most: Duration) {
        self.slot().lasting.disk_delay.set(at_most);
    }

    /// The disk is full: so many more bytes fit on it, or any number of them again.
    pub fn disk_room(&self, bytes: Option<usize>) {
        self.slot().lasting.disk.borrow_mut().set_room(bytes);
    }

    /// The next `times` requests of that kind go wrong.
    pub fn interfere<R: Request>(&self, how: impl Into<Effect>, times: u32) {
        self.cluster.faults().add(Fault::on::<R>(how.into()).at(self.id()).times(times));
    }

    /// From now on requests of that kind, and whatever follows them on their connections, wait until
    /// [`Broker::release`]. Held for each of them separately, so that one lane of a client can be slower than others.
    pub fn hold<R: Request>(&self) {
        self.hold_requests(R::API_KEY);
    }

    pub(crate) fn hold_requests(&self, api: ApiKey) {
        self.slot().harm.hold(self.cluster.faults(), self.id(), api);
    }

    /// What was held goes on, in the order in which it came.
    pub fn release<R: Request>(&self) {
        self.release_requests(R::API_KEY);
    }

    /// Gives how many were held.
    pub(crate) fn release_requests(&self, api: ApiKey) -> u32 {
        self.slot().harm.release(api)
    }

    /// What faults have done so far to what was asked of the disk.
    pub(crate) fn disk_toll(&self) -> DiskToll {
        self.slot().lasting.disk_toll.get()
    }

    /// Cuts the broker off from its peers and from the controller. Clients reach it as before.
    pub fn cut_off_from_peers(&self) {
        self.for_each_peer(|network, peer| {
            network.block(self.host(), peer);
            network.block(peer, self.host());
        });
    }

    /// Takes [`Broker::cut_off_from_peers`] back.
    pub fn reach_peers(&self) {
        self.for_each_peer(|network, peer| {
            network.unblock(self.host(), peer);
            network.unblock(peer, self.host());
        });
    }

    fn for_each_peer(&self, act: impl Fn(&Network<'_>, &Host)) {
        let Inner { world, nodes, .. } = &*self.cluster.0;
        let network = world.network();
        nodes.iter().filter(|node| node.id != self.id()).for_each(|node| act(&network, &node.host));
        act(&network, &world.host(CONTROLLER));
    }

    /// Starts the broker again after a crash: it recovers what its disk holds.
    ///
    /// # Panics
    /// When it runs, or its disk cannot be read.
    pub fn start(&self) {
        assert!(!self.host().is_running(), "broker {} runs", self.id());
        let Inner { world, config, watched, directory, .. } = &*self.cluster.0;
        let slot = self.slot();
        slot.host.start();
        match start_node(world, (config, watched), directory, &slot.host, slot.id, &slot.lasting) {
            Ok(driver) => *slot.driver.borrow_mut() = driver,
            Err(error) => panic!("broker {} does not start: {error}", self.id()),
        }
    }

    /// What this broker's replica of a partition has on disk.
    ///
    /// # Panics
    /// When there is no such topic, or the log cannot be read.
    #[must_use]
    pub fn log(&self, topic: &str, partition: i32) -> Vec<Logged> {
        let Some(id) = self.cluster.image().topic(topic).map(|topic| topic.id) else {
            panic!("there is no topic {topic}");
        };
        let file = FileId::Log(id, partition);
        read_log(&file, self.slot().lasting.disk.borrow().contents(&file).unwrap_or_default())
    }
}

fn start_node(
    world: &World,
    (config, watched): (&Arc<ClusterConfig>, &Watched),
    directory: &Rc<Directory>,
    host: &Host,
    id: NodeId,
    lasting: &Lasting,
) -> io::Result<Rc<Driver>> {
    let recovered = Recovered::read(&mut *lasting.disk.borrow_mut())?;
    let random = Rng::seeded(world.shared.random(host.id));
    let node = Node::new(id, Arc::clone(config), recovered, random);
    let node = node.with_faults(watched.faults.clone()).with_strict(watched.strict.clone());
    let machine = Machine::Node(Box::new(node));
    broker::start(host, &world.shared, Rc::clone(directory), machine, lasting.clone(), Some(PORT))
}
