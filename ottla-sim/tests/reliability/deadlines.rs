//! Producers that give up early: what they say about a record must be true, also of what a broker does later.

use std::{cell::Cell, time::Duration};

use ottla_sim::{Sim, history::Fate};
use tokio::time::sleep;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn p11_what_a_producer_says_about_a_record_whose_deadline_passed_is_true() {
    let (not_written, possibly_written) = (Cell::new(0), Cell::new(0));
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { deadline: Some(3 * SECOND), records: 1000, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        let (mut random, sender) = (world.random(), world.host("sender-1"));
        for _ in 0..4 {
            sleep(2 * SECOND).await;
            let broker = cluster.broker(random.usize(..3));
            let lasts = Duration::from_millis(random.u64(1_000..15_000));
            match random.u32(..3) {
                // Appended, but nobody hears of it.
                0 => {
                    world.network().block(broker.host(), &sender);
                    sleep(lasts).await;
                    world.network().unblock(broker.host(), &sender);
                }
                // Appended later than anybody waits.
                1 => broker.pause_for(lasts).await,
                _ => {
                    broker.kill();
                    sleep(lasts).await;
                    broker.start();
                }
            }
            cluster.healed(TOPIC).await;
        }
        load.settle(world, &cluster).await;
        let count = |cell: &Cell<usize>, fate| cell.set(cell.get() + load.history.count(|is| is == fate));
        count(&not_written, Fate::NotWritten);
        count(&possibly_written, Fate::PossiblyWritten);
    });
    let (not_written, possibly_written) = (not_written.get(), possibly_written.get());
    println!("{not_written} records not written, {possibly_written} possibly written");
    // A single seed that somebody replays need not show both.
    assert!(std::env::var_os("OTTLA_SIM_SEEDS").is_some() || (not_written > 0 && possibly_written > 0));
}
