//! `ottla demo`: a broker stands still for longer than a consumer's session, and nothing is handled twice.

mod diary;
mod holding;
mod ledger;
mod report;
mod screen;
mod script;
mod world;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;

use self::{
    screen::{Screen, Who},
    script::Plan,
    world::World,
};
use crate::{
    output::{Failure, say},
    signals::Signals,
    text::time,
};

/// How much longer than the session the brokers are frozen, if nothing else is said.
const LONGER: Duration = Duration::from_secs(3);
/// In a shorter session a consumer would not dare to hand out anything.
const SHORTEST: Duration = Duration::from_secs(2);
/// A client gives no request more than an hour.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Freeze a broker for longer than a consumer's session, and count what is handled twice or lost.
///
/// Orders are produced; a consumer in a group handles and commits them. Then the broker stands still until the group has
/// given the consumer up, and as many orders again are there when it wakes up: records reach the consumer a second
/// before word that it is no member any more. Every effect is counted. Succeeds if the session was lost, no order was
/// handled twice, and none was lost.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla demo
  ottla demo --session 45s --pause 50s
  ottla demo --against localhost:9092 --json")]
pub(crate) struct Demo {
    /// Print one line of JSON on stdout, in place of the table.
    #[arg(long)]
    json: bool,
    /// How many orders there are before the pause, and after it.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    orders: u64,
    /// After how long without a heartbeat the group gives a consumer up (session.timeout.ms).
    #[arg(long, value_name = "DURATION", default_value = "6s", value_parser = time::duration)]
    session: Duration,
    /// For how long the broker stands still; three seconds longer than the session when left out.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    pause: Option<Duration>,
    /// Use this cluster, and not an embedded one: its brokers go on, and what they and the consumer say to each other
    /// is held up on the way. The topic and the group are deleted at the end.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    against: Vec<String>,
    /// Hand out records also when the membership may have ended: succeeds if orders are handled twice.
    #[arg(long, hide = true)]
    no_lease: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let plan = self.plan()?;
        // Before anything is started: a signal that comes early has to find somebody who heeds it.
        let mut stop = Signals::new()?.stop("a topic and a group called ottla-demo-… may be left");
        let world = tokio::select! {
            biased;
            () = stop.asked() => return Err(interrupted()),
            world = self.world(&plan) => world?,
        };
        let screen = Screen::new(plan.all_orders());
        screen.line(Who::Broker, world.description());
        let outcome = script::play(plan, &world, &screen, &mut stop).await;
        screen.end();
        world.end().await;
        let report = outcome?;
        if self.json {
            say(format_args!("\n{report}"));
            writeln!(io::stdout(), "{}", report.json())?;
        } else {
            writeln!(io::stdout(), "\n{report}")?;
        }
        report.verdict()
    }

    async fn world(&self, plan: &Plan) -> Result<World, Failure> {
        match self.against.as_slice() {
            [] => World::embedded(plan.session, plan.pause).await,
            servers => World::against(servers.to_vec()).await,
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let pause = self.pause.unwrap_or(self.session + LONGER);
        if self.session < SHORTEST {
            return Err(Failure::usage("--session: a consumer's session is at least two seconds long"));
        }
        if pause <= self.session {
            return Err(Failure::usage("a pause that is no longer than the session ends no session"));
        }
        if pause > LONGEST {
            return Err(Failure::usage("a pause of more than half an hour is too long to wait for"));
        }
        Ok(Plan { orders: self.orders, session: self.session, pause, lease: !self.no_lease })
    }
}

fn interrupted() -> Failure {
    Failure::new("interrupted")
}
