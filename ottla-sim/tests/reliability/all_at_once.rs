//! Each seed draws its own faults. Brokers fail one at a time, the network whenever it likes.

use std::{fmt, time::Duration};

use ottla_broker::disk::Tail;
use ottla_sim::{Broker, Cluster, Conditions, Sim, World};
use tokio::time::sleep;

use crate::support::{self, Load, Plan, TOPIC};

/// What can happen to a broker, or between it and the others.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    Frozen,
    Killed,
    PowerLost,
    TailLost,
    TailTorn(usize),
    CutOffFromController,
    CutOffFromClient(usize),
    AnswersVanish(usize),
    SlowAnswers(usize),
    Resets,
}

/// The hosts of clients.
const CLIENTS: [&str; 3] = ["sender-1", "reader", "slow-reader"];

/// A fault, which broker it meets, how long it lasts, and how long it is quiet before.
#[derive(Debug, Clone, Copy)]
struct Planned {
    fault: Fault,
    broker: usize,
    quiet: Duration,
    lasts: Duration,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, broker, quiet, lasts } = self;
        write!(f, "{fault:?} for {lasts:.1?}, broker {}, after {quiet:.1?}", broker + 1)
    }
}

/// The schedule is data, drawn before anything runs.
fn draw(random: &mut fastrand::Rng) -> Planned {
    let client = random.usize(..CLIENTS.len());
    let fault = match random.u32(..11) {
        0 => Fault::Nothing,
        1 => Fault::Frozen,
        2 => Fault::Killed,
        3 => Fault::PowerLost,
        4 => Fault::TailLost,
        5 => Fault::TailTorn(random.usize(1..20_000)),
        6 => Fault::CutOffFromController,
        7 => Fault::CutOffFromClient(client),
        8 => Fault::AnswersVanish(client),
        9 => Fault::SlowAnswers(client),
        _ => Fault::Resets,
    };
    // Mostly shorter than the timeouts of the cluster and of the client, now and then longer than all of them.
    let most = if random.u32(..4) == 0 { 60_000 } else { 8_000 };
    Planned {
        fault,
        broker: random.usize(..3),
        quiet: Duration::from_millis(random.u64(..4_000)),
        lasts: Duration::from_millis(random.u64(10..most)),
    }
}

async fn happen(world: &World, cluster: &Cluster, planned: Planned) {
    sleep(planned.quiet).await;
    world.note(planned.to_string());
    let broker = cluster.broker(planned.broker);
    match planned.fault {
        Fault::Nothing => sleep(planned.lasts).await,
        Fault::Frozen => broker.pause_for(planned.lasts).await,
        Fault::Killed => crash(&broker, planned.lasts, Broker::kill).await,
        Fault::PowerLost => crash(&broker, planned.lasts, |broker| broker.lose_power(Tail::Kept)).await,
        Fault::TailLost => crash(&broker, planned.lasts, |broker| broker.lose_power(Tail::Lost)).await,
        Fault::TailTorn(bytes) => {
            crash(&broker, planned.lasts, |broker| broker.lose_power(Tail::Torn(bytes))).await;
        }
        Fault::CutOffFromController => cut_off(world, &broker, "controller", true, planned.lasts).await,
        Fault::CutOffFromClient(client) => {
            cut_off(world, &broker, CLIENTS[client], true, planned.lasts).await
        }
        Fault::AnswersVanish(client) => cut_off(world, &broker, CLIENTS[client], false, planned.lasts).await,
        Fault::SlowAnswers(client) => {
            let slow = Duration::ZERO..=Duration::from_secs(3);
            let slow = Conditions { latency: slow, bandwidth: Some(20_000), ..Conditions::default() };
            world.network().set(broker.host(), &world.host(CLIENTS[client]), slow);
            // Its leaders move meanwhile.
            cut_off(world, &broker, "controller", true, planned.lasts).await;
            world.network().set(broker.host(), &world.host(CLIENTS[client]), None);
        }
        Fault::Resets => {
            let breaking = Conditions { reset: 0.05, loss: 0.02, short: 0.5, ..Conditions::default() };
            world.network().everywhere(breaking);
            sleep(planned.lasts).await;
            world.network().everywhere(Conditions::default());
        }
    }
    cluster.healed(TOPIC).await;
}

async fn crash(broker: &Broker, lasts: Duration, how: impl FnOnce(&Broker)) {
    how(broker);
    sleep(lasts).await;
    broker.start();
}

async fn cut_off(world: &World, broker: &Broker, other: &str, both_ways: bool, lasts: Duration) {
    let other = world.host(other);
    world.network().block(broker.host(), &other);
    if both_ways {
        world.network().block(&other, broker.host());
    }
    sleep(lasts).await;
    world.network().unblock(broker.host(), &other);
    world.network().unblock(&other, broker.host());
}

#[test]
fn every_record_is_there_once_in_order_and_read_once_whatever_happens() {
    Sim::seeds(0..16).run(async |world| {
        let plan = Plan { records: 1500, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        let mut random = world.random();
        let schedule: Vec<Planned> = (0..6).map(|_| draw(&mut random)).collect();
        for planned in schedule {
            happen(world, &cluster, planned).await;
        }
        load.settle_all(world, &cluster).await;
    });
}
