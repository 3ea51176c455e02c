//! A broker that lies: its answers to clients are spoiled by seed, for a while. Its logs and what it says to other brokers
//! stay as they are.
//!
//! ```text
//!   answer ──▶ by chance: a Lie ──▶ client      bits, lengths, counts, numbers, other answers, garbage, twice
//!          └─▶ by chance: silence, or the connection ends in the middle of it
//!          └─▶ or all of them, byte by byte
//! ```
//!
//! What holds all the same, whatever is said:
//!
//! * no task panics, no task spins, and every call ends within its bound, in success or in an error;
//! * what was acknowledged is in the log, unless the acknowledgement itself was invented. (Handing out another producer's
//!   id is the one lie that is left out: two producers of one id are one to honest brokers, and no client can notice.)
//! * no client opens more than ten connections a second, and none is a hot loop of requests;
//! * when the lies are over, clients that have heard them go on by themselves: they write, read, handle and administer
//!   again within a bound, at the latest with a new producer or consumer of the same client; and they close in peace;
//! * brokers survive what clients ask of them in their error, and whoever comes new finds everything in order.
//!
//! What does not hold: that a reader gets nothing twice, or nothing but the truth, from a broker that lies about offsets,
//! which no checksum covers; nor that what it calls *not written* is not there.

mod applications;
mod lies;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ottla::{Consumer, OffsetSpec, Producer, Record, TopicPartition};
use ottla_broker::{
    faults::{Effect, Fault, ScriptedFault},
    strict::Rule,
};
use tokio::time::{Instant, sleep, timeout};

pub use self::lies::Lie;
use self::{
    applications::{Applications, Book, HOSTS},
    lies::Liar,
};
use crate::{
    Cluster, Conditions, Counts, World,
    history::{Fate, Logs},
    load::TOPIC,
};

/// How a broker lies, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lies {
    /// Which broker, counted from 0; `None`: all of them.
    pub broker: Option<usize>,
    /// From so many milliseconds after the beginning.
    pub at_ms: u64,
    /// For so many milliseconds.
    pub lasts_ms: u64,
    /// So many answers of a thousand are spoiled.
    pub per_mille: u32,
    /// In one of these ways.
    pub kinds: [Lie; 3],
    /// So many requests of a thousand are answered by silence, and so is what follows on their connection.
    pub silent_per_mille: u32,
    /// So many answers of a thousand end behind their first bytes, and with them their connection.
    pub cut_per_mille: u32,
    /// Answers come byte by byte: so many a second.
    pub bytes_per_second: Option<u64>,
}

/// Connections that a client may open in a second.
const DIALS_PER_SECOND: u64 = 10;

/// Clients have got over it after so long.
const RECOVERY: Duration = Duration::from_secs(900);

impl Lies {
    pub(crate) fn draw(random: &mut fastrand::Rng) -> Self {
        let mut kind = || Lie::ALL[random.usize(..Lie::ALL.len())];
        let kinds = [kind(), kind(), kind()];
        let mut now_and_then =
            |of: u32, most: u32| if random.u32(..of) == 0 { random.u32(1..most) } else { 0 };
        let (silent_per_mille, cut_per_mille) = (now_and_then(3, 30), now_and_then(3, 100));
        Self {
            broker: (random.u32(..4) > 0).then(|| random.usize(..3)),
            at_ms: random.u64(..4_000),
            lasts_ms: random.u64(5_000..40_000),
            per_mille: [20, 100, 300, 1_000][random.usize(..4)],
            kinds,
            silent_per_mille,
            cut_per_mille,
            bytes_per_second: (random.u32(..5) == 0).then(|| random.u64(50..2_000)),
        }
    }
}

/// Clients at work while a broker lies, and after that. Gives how many records were acknowledged, and what clients met.
pub(crate) async fn happen(world: &World, partitions: i32, lies: &Lies) -> (usize, Counts) {
    let cluster = world.cluster(3).await;
    cluster.topic(TOPIC, partitions).await;
    // Who believes lies keeps to rules that do not apply; but never in a hurry.
    cluster.watch_only(&[Rule::Pace]);
    let applications = Applications::start(world, &cluster, partitions);
    drop(world.host("test").spawn("dials", watch_dials(world.clone(), &HOSTS)));
    sleep(Duration::from_millis(lies.at_ms)).await;
    let liar = Liar::new(world.random(), &lies.kinds);
    let lying = begin(world, &cluster, lies, &liar);
    sleep(Duration::from_millis(lies.lasts_ms)).await;
    lying.iter().for_each(ScriptedFault::end);
    network(world, &cluster, lies, None);
    world.note(format!("the lies are over, after {}", liar.told()));
    recover(world, &cluster, partitions, &applications.book).await;
    let book = std::rc::Rc::clone(&applications.book);
    applications.stop(world).await;
    world.until("the fate of every record is known", || book.pending() == 0).await;
    for name in HOSTS {
        world.until_nothing_is_left_of(&world.host(name)).await;
    }
    cluster.healed(TOPIC).await;
    let logs = cluster.logs(TOPIC);
    let acknowledged = check(world, &logs, &liar, &book);
    read_everything(world, &cluster, &logs).await;
    (acknowledged, cluster.met())
}

fn begin(world: &World, cluster: &Cluster, lies: &Lies, liar: &Liar) -> Vec<ScriptedFault> {
    let mut random = world.random();
    network(world, cluster, lies, lies.bytes_per_second);
    let chance = |effect, per_mille: u32| (effect, f64::from(per_mille) / 1_000.0);
    let ways = [
        chance(Effect::Silence, lies.silent_per_mille),
        chance(Effect::Truncate(random.usize(..40)), lies.cut_per_mille),
        chance(liar.effect(), lies.per_mille),
    ];
    let mut lying = Vec::new();
    for (effect, probability) in ways.into_iter().filter(|(_, probability)| *probability > 0.0) {
        let fault = Fault::on_any(effect).with_probability(probability);
        let fault = match lies.broker {
            Some(broker) => fault.at(cluster.broker(broker).id()),
            None => fault,
        };
        lying.push(cluster.faults().add(fault));
    }
    lying
}

/// So many bytes a second from whoever lies to all clients.
fn network(world: &World, cluster: &Cluster, lies: &Lies, bandwidth: Option<u64>) {
    let liars = cluster.brokers().enumerate();
    for (_, liar) in liars.filter(|(index, _)| lies.broker.is_none_or(|broker| broker == *index)) {
        for host in HOSTS {
            let trickle = bandwidth.map(|_| Conditions { bandwidth, short: 1.0, ..Conditions::default() });
            world.network().set(liar.host(), &world.host(host), trickle);
        }
    }
}

/// No client dials like mad, whatever it is told: what it dials at once when all its connections break is made up for.
pub(crate) fn watch_dials(world: World, hosts: &[&str]) -> impl Future<Output = ()> + use<> {
    let mut clients: Vec<_> =
        hosts.iter().map(|name| world.host(name)).map(|host| (host.dials(), 0, host)).collect();
    async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            for (before, ahead, client) in &mut clients {
                let dials = client.dials() - std::mem::replace(before, client.dials());
                *ahead = (*ahead + dials).saturating_sub(DIALS_PER_SECOND);
                let expected = format!(
                    "{} to open {DIALS_PER_SECOND} connections a second at most, and as many again at once",
                    client.name()
                );
                world.expect(*ahead <= DIALS_PER_SECOND, &expected, || format!("it opened {dials}"));
            }
        }
    }
}

/// Who has heard the lies goes on.
async fn recover(world: &World, cluster: &Cluster, partitions: i32, book: &Book) {
    cluster.healed(TOPIC).await;
    let healed = Instant::now();
    let newcomer = cluster.client_on("newcomer");
    let producer = Producer::builder(&newcomer).build().expect("default settings");
    let missing = || {
        let written = |partition: &i32| {
            book.sent.borrow().iter().any(|sent| {
                (sent.partition, sent.sent > healed) == (*partition, true)
                    && matches!(sent.fate, Fate::Written(_))
            })
        };
        let marker = |partition: i32| Bytes::from(format!("after the lies, partition {partition}"));
        let has = |values: &std::cell::RefCell<std::collections::BTreeSet<Bytes>>, partition| {
            values.borrow().contains(&marker(partition))
        };
        let mut missing = Vec::new();
        for partition in 0..partitions {
            let done = [
                ("written to", written(&partition)),
                ("read", has(&book.read, partition)),
                ("handled", has(&book.handled, partition)),
            ];
            let not_yet = done.into_iter().filter(|(_, done)| !done);
            missing.extend(not_yet.map(|(what, _)| format!("partition {partition} is not {what}")));
        }
        if book.administered.get().is_none_or(|at| at < healed) {
            missing.push("nothing is administered".to_owned());
        }
        missing
    };
    while !missing().is_empty() && healed.elapsed() < RECOVERY {
        for partition in 0..partitions {
            let marker = format!("after the lies, partition {partition}");
            let record = Record::new(&marker).partition(partition);
            let sent = timeout(RECOVERY, producer.send(TOPIC, record)).await;
            world.expect(matches!(sent, Ok(Ok(_))), "whoever comes new to write", || format!("{sent:?}"));
        }
        sleep(Duration::from_secs(1)).await;
    }
    let missing = missing();
    let bound = RECOVERY.as_secs();
    let expected = format!("clients to have got over the lies after {bound} s");
    world.expect(missing.is_empty(), &expected, || {
        let explained = book.explained.borrow();
        let said = explained.iter().map(|((host, partition), said)| format!("{host}, {partition}: {said}"));
        format!("{} ({})", missing.join(", "), said.collect::<Vec<_>>().join("; "))
    });
    drop(producer.close().await);
    drop(newcomer.close().await);
}

/// What was acknowledged is there. Gives how much.
fn check(world: &World, logs: &Logs, liar: &Liar, book: &Book) -> usize {
    let hangs = book.hangs.borrow();
    world.expect(hangs.is_empty(), "every call to end within its bound", || hangs.join(", "));
    let mut acknowledged = 0;
    for sent in book.sent.borrow().iter().filter(|sent| matches!(sent.fate, Fate::Written(_))) {
        let there = logs.get(&sent.partition).is_some_and(|log| log.iter().any(|it| it.value == sent.value));
        let forged = || liar.may_have_forged(sent.partition, sent.settled);
        world.expect(there || forged(), "what an honest answer has acknowledged to be there", || {
            format!("{:?} is not in partition {}", sent.value, sent.partition)
        });
        acknowledged += usize::from(there);
    }
    acknowledged
}

/// Whoever comes new reads what is there.
async fn read_everything(world: &World, cluster: &Cluster, logs: &Logs) {
    let reader = cluster.client_on("newcomer");
    let consumer = Consumer::builder(&reader).build().expect("default settings");
    let all = logs.keys().map(|partition| (TopicPartition::new(TOPIC, *partition), OffsetSpec::Earliest));
    consumer.assign(all).expect("partitions that exist");
    let mut next: BTreeMap<i32, usize> = BTreeMap::new();
    for left in (1..=logs.values().map(Vec::len).sum::<usize>()).rev() {
        let received = timeout(RECOVERY, consumer.recv()).await;
        world.expect(matches!(received, Ok(Ok(Some(_)))), "whoever comes new to read everything", || {
            format!("{left} records are missing: {received:?}")
        });
        let Ok(Ok(Some(record))) = received else { return };
        let view = record.view();
        let at = next.entry(view.partition()).or_default();
        let expected = logs.get(&view.partition()).and_then(|log| log.get(*at));
        let fits =
            expected.is_some_and(|it| view.offset() == it.offset && view.value() == Some(&it.value[..]));
        world.expect(fits, "whoever comes new to read what is there, in order", || {
            format!("offset {} of partition {} came", view.offset(), view.partition())
        });
        *at += 1;
    }
}
