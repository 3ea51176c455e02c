//! Carries faults out. They overlap: what two of them do to one broker ends when the last of them is over.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use ottla_broker::disk::Tail;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{
    fault::{self, CLIENTS, Fault, Planned},
    members::{Members, RETURNS},
    occurred::{Occurrences, line},
    requests::{Script, scripted},
};
use crate::{
    Broker, Cluster, Conditions, Host, World, cluster::OFFSETS, group::GROUP, history::History, load::TOPIC,
};

/// A replica that hears nothing is out of sync after so long, where that is five seconds.
const OUT_OF_SYNC: Duration = Duration::from_secs(7);

/// The controller has noticed after so long that a broker is dead, and elected another.
const ELECTED: Duration = Duration::from_secs(11);

/// A broker that was elected uncleanly is alone for so long at most: nobody else is there to be written to.
const ALONE: Duration = Duration::from_secs(10);

/// When a fault is over, clients have found each other again after so long, and as long as it lasted.
const SETTLES: Duration = Duration::from_secs(10);

/// An operator waits so long for an answer.
const ANSWERED: Duration = Duration::from_secs(5);

/// The faults of one run.
#[derive(Clone)]
pub(super) struct Nemesis(Rc<Inner>);

struct Inner {
    world: World,
    cluster: Cluster,
    members: Option<Rc<Members>>,
    /// Faults are told to those who tell what happened.
    history: History,
    occurrences: Occurrences,
    one_broker_at_a_time: bool,
    /// Held by the fault that strikes a broker, if only one may.
    striking: Mutex<()>,
    /// Held by whoever deletes the topic, until it is there again.
    recreating: Mutex<()>,
    /// Partitions of which a batch was corrupted.
    corrupted: RefCell<BTreeSet<i32>>,
    /// How many faults are there, and how long the longest of them since there was none.
    raging: Cell<(u32, Duration)>,
    /// How many faults hold each thing down.
    held: RefCell<BTreeMap<Held, u32>>,
}

/// Something that several faults may want at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Down(usize),
    Full(usize),
    Gone(usize),
    NameGone(usize),
    Frozen(String),
    Blocked(String, String),
    Slow(String, String),
}

impl Nemesis {
    pub(super) fn new(
        world: &World,
        cluster: &Cluster,
        members: Option<Rc<Members>>,
        (history, occurrences): (&History, &Occurrences),
        one_broker_at_a_time: bool,
    ) -> Self {
        Self(Rc::new(Inner {
            world: world.clone(),
            cluster: cluster.clone(),
            members,
            history: history.clone(),
            occurrences: occurrences.clone(),
            one_broker_at_a_time,
            striking: Mutex::default(),
            recreating: Mutex::default(),
            corrupted: RefCell::default(),
            raging: Cell::default(),
            held: RefCell::default(),
        }))
    }

    /// All of the plan; returns when everything is over and nothing holds.
    pub(super) async fn carry_out(&self, faults: &[Planned]) {
        self.0.cluster.nothing_hinders(Some(Duration::ZERO));
        let mut running = Vec::new();
        for planned in faults.iter().copied() {
            let nemesis = self.clone();
            running.push(self.0.world.spawn("test", async move {
                sleep(planned.at).await;
                nemesis.happen(planned).await;
            }));
        }
        for fault in running {
            fault.finished().await;
        }
        self.0.world.network().everywhere(Conditions::default());
        self.healed().await;
    }

    /// All replicas are in sync; also those of what only a group needs, if there is one.
    async fn healed(&self) {
        self.0.cluster.healed(TOPIC).await;
        for topic in [RETURNS, OFFSETS] {
            if self.0.cluster.image().topic(topic).is_some() {
                self.0.cluster.healed(topic).await;
            }
        }
    }

    async fn happen(&self, planned: Planned) {
        let alone = self.0.one_broker_at_a_time && planned.fault.strikes_broker().is_some();
        let _striking = if alone {
            let striking = self.0.striking.lock().await;
            self.healed().await;
            Some(striking)
        } else {
            None
        };
        let Planned { fault, lasts, .. } = planned;
        self.tell(line(&fault, lasts));
        let number = self.0.occurrences.began(fault, self.0.world.elapsed());
        let before = self.toll(&fault);
        self.begin_hindering(lasts);
        let acted = self.strike(fault, lasts).await;
        let struck = acted && self.toll(&fault).is_none_or(|toll| Some(toll) > before);
        self.end_hindering();
        self.0.occurrences.ended(number, self.0.world.elapsed(), struck);
        self.tell(format!("{fault:?} is over{}", if struck { "" } else { ", and struck nothing" }));
        if alone {
            self.healed().await;
        }
    }

    fn begin_hindering(&self, lasts: Duration) {
        let (faults, longest) = self.0.raging.get();
        self.0.raging.set((faults + 1, longest.max(lasts)));
        self.0.cluster.nothing_hinders(None);
    }

    fn end_hindering(&self) {
        let (faults, longest) = self.0.raging.get();
        match faults {
            ..=1 => {
                self.0.raging.set((0, Duration::ZERO));
                // What was lost is sent again as much later, at the latest.
                self.0.cluster.nothing_hinders(Some(longest + SETTLES));
            }
            more => self.0.raging.set((more - 1, longest)),
        }
    }

    fn tell(&self, line: String) {
        self.0.history.fault(&line);
        if let Some(members) = &self.0.members {
            members.history().fault(&line);
        }
        self.0.world.note(line);
    }

    /// Gives whether it did anything; what only changes conditions does: see [`Nemesis::toll`].
    async fn strike(&self, fault: Fault, lasts: Duration) -> bool {
        match fault {
            Fault::BrokerFrozen { broker } => return self.freeze(self.broker(broker).host(), lasts).await,
            Fault::ClientFrozen { client } => return self.freeze(&self.client(client), lasts).await,
            Fault::ClientsSleep => return self.sleep_all_clients(lasts).await,
            Fault::BrokerKilled { broker } => return self.down(broker, lasts, killed).await,
            Fault::PowerLost { broker } => return self.power(broker, lasts, Tail::Kept).await,
            Fault::TailLost { broker } => return self.power(broker, lasts, Tail::Lost).await,
            Fault::TailTorn { broker, bytes } => return self.power(broker, lasts, Tail::Torn(bytes)).await,
            Fault::MemberKilled { member } => {
                return self.without(member, lasts, async |members| members.crash(member)).await;
            }
            Fault::MemberLeaves { member } => {
                return self.without(member, lasts, async |members| members.stop(member).await).await;
            }
            Fault::ClockWrong { client, seconds } => {
                self.clock_wrong(&self.client(client), seconds, lasts).await;
            }
            Fault::BrokerClockWrong { broker, seconds } => {
                self.clock_wrong(self.broker(broker).host(), seconds, lasts).await;
            }
            Fault::RecordsDeleted { client, partition, percent } => {
                let client = self.client(client);
                self.begin_freezing(&client);
                sleep(lasts).await;
                self.delete_records(partition, percent).await;
                self.end_freezing(&client);
            }
            Fault::TopicRecreated => {
                let _recreating = self.0.recreating.lock().await;
                return self.0.cluster.recreate(TOPIC, lasts).await;
            }
            Fault::SlowDisk { broker, at_most_ms } => {
                self.broker(broker).slow_disk(Duration::from_millis(at_most_ms));
                sleep(lasts).await;
                self.broker(broker).slow_disk(Duration::ZERO);
            }
            Fault::DiskFull { broker, bytes } => self.full(broker, bytes, lasts).await,
            Fault::NameGone { broker } => self.without_name(broker, lasts).await,
            Fault::SlowName { broker, millis } => self.slow_name(broker, millis, lasts).await,
            Fault::RequestsWait { broker, api } => {
                self.broker(broker).hold_requests(api.key());
                sleep(lasts).await;
                return self.broker(broker).release_requests(api.key()) > 0;
            }
            Fault::UncleanElection { broker } => self.unclean_election(broker, lasts).await,
            Fault::LeaderMoves { partition, broker } => {
                return self.0.cluster.move_leader(TOPIC, partition, &self.broker(broker));
            }
            Fault::CoordinatorMoves { broker } => {
                return self.0.cluster.move_coordinator(GROUP, &self.broker(broker));
            }
            Fault::RecordsCorrupted { partition, .. } if !self.0.corrupted.borrow_mut().insert(partition) => {
                return false;
            }
            other => match scripted(&other, |broker| self.broker(broker).id()) {
                Some(Script { fault, edited }) => {
                    let script = self.0.cluster.faults().add(fault);
                    sleep(lasts).await;
                    // What did not come in that time is not harmed after everything has healed.
                    script.end();
                    return script.strikes() > 0
                        && edited.is_none_or(|edited| edited.load(Ordering::Relaxed));
                }
                None => return self.strike_network(other, lasts).await,
            },
        }
        true
    }

    /// As [`Nemesis::strike`].
    async fn strike_network(&self, fault: Fault, lasts: Duration) -> bool {
        let ends = |broker: usize, client: usize| (self.broker(broker), self.client(client));
        match fault {
            Fault::CutOffFromController { .. }
            | Fault::CutOffFromPeers { .. }
            | Fault::CutOffFromClient { .. }
            | Fault::AnswersVanish { .. }
            | Fault::RequestsVanish { .. } => self.cut(&self.ways(&fault), lasts).await,
            Fault::CutAtByte { broker, client, bytes, how } => {
                let (broker, client) = ends(broker, client);
                let network = self.0.world.network();
                network.end_after(broker.host(), &client, Some((bytes, how)));
                sleep(lasts).await;
                network.end_after(broker.host(), &client, None);
            }
            Fault::Reset { broker, client } => {
                let (broker, client) = ends(broker, client);
                return self.0.world.network().reset_all(broker.host(), &client) > 0;
            }
            Fault::SlowAnswers { broker, client, latency_ms, bytes_per_second } => {
                let (broker, client) = ends(broker, client);
                let latency = Duration::ZERO..=Duration::from_millis(latency_ms);
                let slow = Conditions { latency, bandwidth: Some(bytes_per_second), ..Conditions::default() };
                self.slow(broker.host(), &client, slow, lasts).await;
            }
            Fault::Latency { at_most_ms } => {
                let latency = Duration::ZERO..=Duration::from_millis(at_most_ms);
                self.everywhere(Conditions { latency, ..Conditions::default() }, lasts).await;
            }
            Fault::Resets { per_mille } => {
                let reset = f64::from(per_mille) / 1_000.0;
                self.everywhere(Conditions { reset, short: 0.5, ..Conditions::default() }, lasts).await;
            }
            Fault::Loss { per_mille } => {
                let loss = f64::from(per_mille) / 1_000.0;
                self.everywhere(Conditions { loss, ..Conditions::default() }, lasts).await;
            }
            other => unreachable!("{other:?} is none of the network's"),
        }
        true
    }

    pub(super) fn world(&self) -> &World {
        &self.0.world
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    pub(super) fn broker(&self, index: usize) -> Broker {
        self.0.cluster.broker(index)
    }

    pub(super) fn client(&self, index: usize) -> Host {
        self.0.world.host(CLIENTS[index])
    }

    /// Whether this is the first to want it.
    fn begin(&self, what: &Held) -> bool {
        let mut held = self.0.held.borrow_mut();
        let count = held.entry(what.clone()).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether this was the last to want it.
    fn end(&self, what: &Held) -> bool {
        let mut held = self.0.held.borrow_mut();
        let Some(count) = held.get_mut(what) else { return false };
        *count = count.saturating_sub(1);
        *count == 0
    }

    /// Gives whether anything would have happened there meanwhile.
    async fn freeze(&self, host: &Host, lasts: Duration) -> bool {
        self.begin_freezing(host);
        sleep(lasts).await;
        let held_up = host.is_held_up();
        self.end_freezing(host);
        held_up
    }

    /// As [`Nemesis::freeze`].
    async fn sleep_all_clients(&self, lasts: Duration) -> bool {
        let clients = fault::clients(self.0.members.as_ref().map_or(0, |members| members.count()));
        let clients: Vec<Host> = clients.iter().map(|name| self.0.world.host(name)).collect();
        clients.iter().for_each(|client| self.begin_freezing(client));
        self.0.cluster.while_clients_sleep(lasts).await;
        let held_up = clients.iter().any(Host::is_held_up);
        clients.iter().for_each(|client| self.end_freezing(client));
        held_up
    }

    fn begin_freezing(&self, host: &Host) {
        self.begin(&Held::Frozen(host.name().to_string()));
        // A process that is not there cannot be stopped, and one that was started since is another one.
        if host.is_running() {
            host.freeze();
        }
    }

    fn end_freezing(&self, host: &Host) {
        if self.end(&Held::Frozen(host.name().to_string())) {
            host.thaw();
        }
    }

    /// Gives whether it was up, and lost what it was to lose.
    async fn down(&self, broker: usize, lasts: Duration, how: impl FnOnce(&Broker) -> bool) -> bool {
        let what = Held::Down(broker);
        let struck = self.begin(&what) && how(&self.broker(broker));
        sleep(lasts).await;
        if self.end(&what) {
            self.broker(broker).start();
        }
        struck
    }

    /// The last one that fills a disk says how much room there is.
    async fn full(&self, broker: usize, bytes: usize, lasts: Duration) {
        let what = Held::Full(broker);
        self.begin(&what);
        self.broker(broker).disk_room(Some(bytes));
        sleep(lasts).await;
        if self.end(&what) {
            self.broker(broker).disk_room(None);
        }
    }

    async fn clock_wrong(&self, host: &Host, seconds: i64, lasts: Duration) {
        host.set_clock_skew(seconds);
        sleep(lasts).await;
        host.set_clock_skew(0);
    }

    /// Nothing more happens if nobody answers soon.
    async fn delete_records(&self, partition: i32, percent: u32) {
        let cluster = &self.0.cluster;
        let Some(leader) = cluster.leader(TOPIC, partition) else { return };
        let log = leader.log(TOPIC, partition);
        let (Some(first), Some(last)) = (log.first(), log.last()) else { return };
        let offset = match percent {
            100.. => -1,
            _ => first.offset + (last.offset - first.offset) * i64::from(percent) / 100,
        };
        let deleted = timeout(ANSWERED, cluster.delete_records(TOPIC, partition, offset)).await;
        self.0
            .world
            .note(format!("records of partition {partition} below {offset} are deleted: {deleted:?}"));
    }

    async fn slow_name(&self, broker: usize, millis: u64, lasts: Duration) {
        let name = self.broker(broker).host().name();
        self.0.world.network().delay_name(&name, Duration::from_millis(millis));
        sleep(lasts).await;
        self.0.world.network().delay_name(&name, Duration::ZERO);
    }

    async fn without_name(&self, broker: usize, lasts: Duration) {
        let (what, network) = (Held::NameGone(broker), self.0.world.network());
        let broker = self.broker(broker);
        self.begin(&what);
        network.set_name(&broker.host().name(), &[]);
        sleep(lasts).await;
        if self.end(&what) {
            network.set_name(&broker.host().name(), &[broker.host()]);
        }
    }

    /// A member goes, and another process comes in its place. Gives whether it was there.
    async fn without(
        &self,
        member: usize,
        lasts: Duration,
        goes: impl AsyncFnOnce(&Members) -> bool,
    ) -> bool {
        let Some(members) = &self.0.members else { return false };
        let what = Held::Gone(member);
        let was_there = self.begin(&what) && goes(members).await;
        sleep(lasts).await;
        if self.end(&what) {
            members.join(member);
        }
        was_there
    }

    async fn power(&self, broker: usize, lasts: Duration, tail: Tail) -> bool {
        let struck = |broker: &Broker| broker.lose_power_and_bytes(tail) > 0 || tail == Tail::Kept;
        self.down(broker, lasts, struck).await
    }

    /// A broker hears no other until its replicas are out of sync; then the others die, and it is elected.
    async fn unclean_election(&self, broker: usize, lasts: Duration) {
        let (lagging, others) = (self.broker(broker), [(broker + 1) % 3, (broker + 2) % 3]);
        let peers = others.map(|other| self.broker(other));
        let both_ways = peers.iter().flat_map(|peer| {
            let (lagging, peer) = (lagging.host(), peer.host());
            [(lagging.clone(), peer.clone()), (peer.clone(), lagging.clone())]
        });
        let both_ways: Vec<(Host, Host)> = both_ways.collect();
        let dead = ELECTED + lasts.min(ALONE);
        let [one, other] = others.map(|other| async move {
            sleep(OUT_OF_SYNC).await;
            self.down(other, dead, killed).await;
        });
        tokio::join!(self.cut(&both_ways, OUT_OF_SYNC + dead), one, other);
    }

    /// The directions in which packets vanish.
    pub(super) fn ways(&self, fault: &Fault) -> Vec<(Host, Host)> {
        let broker = |index| self.broker(index).host().clone();
        let both_ways = |one: Host, other: Host| [(one.clone(), other.clone()), (other, one)];
        match *fault {
            Fault::CutOffFromController { broker: index } => {
                both_ways(broker(index), self.0.world.host("controller")).to_vec()
            }
            Fault::CutOffFromPeers { broker: index } => {
                let mut peers: Vec<Host> = self.0.cluster.brokers().map(|peer| peer.host().clone()).collect();
                peers.remove(index);
                peers.push(self.0.world.host("controller"));
                peers.into_iter().flat_map(|peer| both_ways(broker(index), peer)).collect()
            }
            Fault::CutOffFromClient { broker: index, client } => {
                both_ways(broker(index), self.client(client)).to_vec()
            }
            Fault::AnswersVanish { broker: index, client } => vec![(broker(index), self.client(client))],
            Fault::RequestsVanish { broker: index, client } => vec![(self.client(client), broker(index))],
            _ => Vec::new(),
        }
    }

    async fn cut(&self, ways: &[(Host, Host)], lasts: Duration) {
        let held = |(from, to): &(Host, Host)| Held::Blocked(from.name().to_string(), to.name().to_string());
        for way in ways {
            if self.begin(&held(way)) {
                self.0.world.network().block(&way.0, &way.1);
            }
        }
        sleep(lasts).await;
        for way in ways {
            if self.end(&held(way)) {
                self.0.world.network().unblock(&way.0, &way.1);
            }
        }
    }

    async fn slow(&self, from: &Host, to: &Host, conditions: Conditions, lasts: Duration) {
        let what = Held::Slow(from.name().to_string(), to.name().to_string());
        self.begin(&what);
        self.0.world.network().set(from, to, conditions);
        sleep(lasts).await;
        if self.end(&what) {
            self.0.world.network().set(from, to, None);
        }
    }

    /// The last one that sets conditions for all has them.
    async fn everywhere(&self, conditions: Conditions, lasts: Duration) {
        self.0.world.network().everywhere(conditions);
        sleep(lasts).await;
        self.0.world.network().everywhere(Conditions::default());
    }
}

/// Who is up dies of it.
fn killed(broker: &Broker) -> bool {
    broker.kill();
    true
}
