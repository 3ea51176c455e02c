//! The swarm: every seed draws faults, a load and settings of its own, and the same rules hold for all.
//!
//! ```text
//!   seed ──draw──▶ Plan (data) ──run──▶ Ran, or a Report
//!                    ▲                      │ failed
//!                    └──────── shrink ◀─────┘
//! ```
//!
//! Faults overlap. At the end everything heals, and then progress must resume within a bound: what was sent is settled,
//! read and checked. See `cargo xtask sim`.

mod api;
mod draw;
mod fault;
mod ids;
mod members;
mod nemesis;
mod occurred;
mod plan;
mod requests;
mod shrink;
mod toll;

use std::{cell::Cell, path::Path, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until};

pub use self::{
    api::Api,
    fault::{Fault, Planned},
    ids::{ids, ids_of},
    members::{Assignors, GroupPlan, Subscription},
    occurred::Occurred,
    plan::{Plan, Profile, UnknownProfile},
    shrink::shrink,
};
use self::{members::Members, nemesis::Nemesis, occurred::Occurrences};
use crate::{
    Cluster, Counts, Sim, World, hostile,
    kit::{Report, Summary},
    load::{self, Load, TOPIC},
};

/// So long may it take, once everything is healed, until everything is settled, read, handled and committed: less than what
/// clients do every five minutes anyway, and would hide what they missed.
const RECOVERY: Duration = Duration::from_secs(280);

/// A run of a plan in which nothing was wrong.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ran {
    /// The same for every run of the plan.
    pub hash: u64,
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Virtual time.
    pub simulated: Duration,
    /// What it cost, where the system tells.
    pub cpu: Option<Duration>,
    /// How long it took, once everything was healed, until all was as it should be.
    pub recovered: Duration,
    /// What clients met, and how often.
    pub met: Counts,
    /// What became of the plan's faults, in the order in which they began.
    pub faults: Vec<Occurred>,
}

impl Ran {
    /// Whether the run says something: it had ten acknowledged records a second, and twenty faults an hour that struck.
    #[must_use]
    pub fn counts(&self) -> bool {
        let seconds = self.simulated.as_secs_f64();
        let struck = self.faults.iter().filter(|occurred| occurred.struck).count();
        self.acknowledged as f64 >= 10.0 * seconds && struck as f64 >= 20.0 * seconds / 3_600.0
    }
}

impl Plan {
    /// Runs it once.
    ///
    /// # Errors
    /// A rule was broken: what, when, and what happened before.
    pub fn run(&self) -> Result<Ran, Report> {
        self.run_in(Sim::seed(self.seed), None)
    }

    /// [`Plan::run`], and every event goes to standard output; what clients were told goes into a folder, if there is one: see
    /// [`crate::history::jsonl`].
    ///
    /// # Errors
    /// As `run`.
    pub fn run_printing_everything(&self, histories: Option<&Path>) -> Result<Ran, Report> {
        self.run_in(Sim::seed(self.seed).printing_everything(), histories)
    }

    fn run_in(&self, sim: Sim, histories: Option<&Path>) -> Result<Ran, Report> {
        let (outcome, occurrences) = (Cell::default(), Occurrences::default());
        let ran = sim.once().try_run(async |world| {
            histories.into_iter().for_each(|folder| world.keep_histories(folder));
            outcome.set(self.happen(world, &occurrences).await);
        });
        let faults = occurrences.take();
        let summary = ran.map_err(|report| {
            let faults = faults.iter().map(|occurred| format!("\n    {occurred}"));
            let happened = format!("{}\n  the faults so far:{}", report.happened, faults.collect::<String>());
            Report { replay: self.replay(), happened, ..report }
        })?;
        let Summary { hashes, simulated, cpu, .. } = summary;
        let hash = hashes.first().copied().unwrap_or_default();
        let (acknowledged, recovered, met) = outcome.take();
        Ok(Ran { hash, acknowledged, simulated, cpu, recovered, met, faults })
    }

    /// The command that runs the seed again.
    #[must_use]
    pub fn replay(&self) -> String {
        let profile = match self.profile {
            Profile::Short => String::new(),
            profile => format!(" --profile {}", profile.name()),
        };
        format!("cargo xtask sim --seed {}{profile}", self.seed)
    }

    /// For regression tests: runs it twice, and panics with a report if a rule was broken or the runs differ.
    ///
    /// # Panics
    /// As said.
    pub fn check(&self) {
        Sim::seed(self.seed).run(async |world| {
            self.happen(world, &Occurrences::default()).await;
        });
    }

    /// Gives how many records were acknowledged, how long it took to recover, and what clients met. `occurrences` gets the
    /// faults as they come.
    async fn happen(&self, world: &World, occurrences: &Occurrences) -> (usize, Duration, Counts) {
        if let Some(lies) = &self.lies {
            let (acknowledged, met) = hostile::happen(world, self.partitions, lies).await;
            return (acknowledged, Duration::ZERO, met);
        }
        let load = self.load();
        let cluster = load::cluster(world, load).await;
        cluster.clients_metadata_max_age(self.metadata_max_age);
        let begun = Instant::now();
        let load = Load::begin(world, &cluster, load);
        let members = match &self.group {
            Some(group) => {
                let (window, resets) = (self.window(), self.unclean || self.drops_records());
                Some(Rc::new(Members::start(world, &cluster, group, window, resets).await))
            }
            None => None,
        };
        // Who takes a new consumer all the time has connections to open.
        let clients = fault::clients(self.group.map_or(0, |group| group.members)).iter();
        let steady: Vec<_> = clients.copied().filter(|name| *name != "slow-reader").collect();
        drop(world.host("test").spawn("dials", hostile::watch_dials(world.clone(), &steady)));
        let told = (&load.history, occurrences);
        let nemesis = Nemesis::new(world, &cluster, members.clone(), told, self.one_broker_at_a_time);
        nemesis.carry_out(&self.faults).await;
        sleep_until(begun + self.window()).await;
        let recovered = self.recover(world, &cluster, &load, members.as_deref()).await;
        (load.acknowledged(), recovered, cluster.met())
    }

    fn load(&self) -> load::Plan {
        load::Plan {
            partitions: self.partitions,
            senders: self.senders,
            records: self.records,
            deadline: self.deadline,
            request_timeout: self.request_timeout,
            unclean: self.unclean,
            dropping: self.drops_records(),
            recreated: self.recreates_topic(),
            retention: self.retention,
            racks: self.racks,
            pause: self.pause,
            ..load::Plan::default()
        }
    }

    /// Everything is healed: all goes on, is checked, and ends in peace. Gives how long that took.
    async fn recover(
        &self,
        world: &World,
        cluster: &Cluster,
        load: &Load,
        members: Option<&Members>,
    ) -> Duration {
        let healed = Instant::now();
        cluster.healed(TOPIC).await;
        // Records may have missed the deadline, or their topic, and the producer has said which.
        match self.deadline.is_some() || self.recreates_topic() {
            true => load.settle(world, cluster).await,
            false => load.settle_all(world, cluster).await,
        }
        if let Some(members) = members {
            members.settle(world).await;
        }
        load.close(world).await;
        let recovered = healed.elapsed();
        world.expect(recovered <= RECOVERY, &format!("all is as it should be within {RECOVERY:?}"), || {
            format!("it took {recovered:?}")
        });
        recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_runs_the_same_every_time() {
        let plan = Plan { records: 60, ..Plan::new(11) };
        let plan = plan.fault(500, 3_000, Fault::BrokerKilled { broker: 0 });
        let ran = plan.run().unwrap();
        assert_eq!(ran.acknowledged, 120);
        assert_eq!(ran.hash, plan.run().unwrap().hash);
    }
}
