//! What goes wrong: three strands at the same time, of brokers, of the network, of clients. Each ends what it began.

use std::time::Duration;

use ottla_sim::{
    history::event::What,
    proxy::{Direction, Proxy},
};
use tokio::time::{Instant, sleep};

use super::{
    Journal, PATIENCE, Result,
    brokers::{Brokers, Verb},
    processes::Processes,
};

pub(crate) struct Nemesis<'a> {
    journal: &'a Journal,
    brokers: &'a Brokers,
    proxy: &'a Proxy,
    processes: &'a Processes,
    seed: u64,
}

fn between(random: &mut fastrand::Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..most))
}

/// How long what begins now may last: a little longer than others may begin, so that the end is an overlap too.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()) + Duration::from_secs(3)
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(
        journal: &'a Journal,
        brokers: &'a Brokers,
        proxy: &'a Proxy,
        processes: &'a Processes,
        seed: u64,
    ) -> Self {
        Self { journal, brokers, proxy, processes, seed }
    }

    /// Until the time is over and everything works again.
    pub(crate) async fn rage(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let random = |strand: u64| fastrand::Rng::with_seed(self.seed ^ (strand << 48));
        tokio::try_join!(
            self.processes_of_brokers(random(1), until),
            self.network(random(2), until),
            self.clients(random(3), until)
        )?;
        self.proxy.all().iter().for_each(|faults| faults.heal());
        Ok(())
    }

    fn tell(&self, text: String) {
        self.journal.observe(What::Fault(text));
    }

    async fn processes_of_brokers(&self, mut random: fastrand::Rng, until: Instant) -> Result<()> {
        loop {
            sleep(between(&mut random, 1_000, 5_000)).await;
            if Instant::now() >= until {
                return Ok(());
            }
            let broker = random.usize(..self.brokers.servers().len());
            let number = broker + 1;
            let lasts = between(&mut random, 500, 12_000).min(left(until));
            let (begin, end) = match random.bool() {
                true => (Verb::Kill, Verb::Restart),
                false => (Verb::Stop, Verb::Continue),
            };
            self.tell(format!("broker {number}: {begin:?} for {:.1} s", lasts.as_secs_f64()));
            self.brokers.order(broker, begin).await?;
            sleep(lasts).await;
            self.brokers.order(broker, end).await?;
            self.tell(format!("broker {number}: {end:?}"));
        }
    }

    async fn network(&self, mut random: fastrand::Rng, until: Instant) -> Result<()> {
        loop {
            sleep(between(&mut random, 200, 3_000)).await;
            if Instant::now() >= until {
                return Ok(());
            }
            let servers = self.brokers.servers();
            let broker = random.usize(..servers.len());
            let faults = self.proxy.broker(&servers[broker])?;
            let direction = if random.bool() { Direction::Requests } else { Direction::Responses };
            let what = match random.u32(..7) {
                0 => {
                    faults.freeze();
                    "everything stands still".to_owned()
                }
                1 => {
                    faults.hold(direction);
                    format!("{direction:?} stand still")
                }
                2 => {
                    faults.black_hole(direction);
                    format!("{direction:?} vanish")
                }
                3 => {
                    let bytes = random.u64(50..20_000);
                    faults.reset_after(direction, bytes);
                    format!("a reset after {bytes} bytes of {direction:?}")
                }
                4 => {
                    faults.refuse();
                    faults.cut();
                    "connections are refused".to_owned()
                }
                5 => {
                    let delay = between(&mut random, 5, 800);
                    faults.delay(direction, delay);
                    format!("{direction:?} take {} ms longer", delay.as_millis())
                }
                _ => {
                    faults.cut();
                    "all connections break".to_owned()
                }
            };
            let lasts = between(&mut random, 100, 8_000).min(left(until));
            self.tell(format!("network of broker {}: {what}, for {:.1} s", broker + 1, lasts.as_secs_f64()));
            sleep(lasts).await;
            faults.heal();
        }
    }

    async fn clients(&self, mut random: fastrand::Rng, until: Instant) -> Result<()> {
        loop {
            sleep(between(&mut random, 3_000, 10_000)).await;
            if Instant::now() >= until {
                return Ok(());
            }
            let number = random.usize(..self.processes.len());
            let next = match random.u32(..3) {
                0 => self.processes.stop(number, PATIENCE).await,
                _ => self.processes.crash(number),
            };
            sleep(between(&mut random, 100, 4_000)).await;
            self.processes.begin(next)?;
        }
    }
}
