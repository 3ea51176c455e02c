//! Runs a scenario over seeds, and says what went wrong so that a person understands it.

use std::{fmt, fmt::Write as _, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use crate::{
    failure::{Failure, Happened},
    gate::Executor,
    panics,
    trace::Trace,
    world::{Ended, World},
};

/// Seeds to run instead of those in the code: `17`, or `0..1000`.
const SEEDS: &str = "OTTLA_SIM_SEEDS";

/// If set, every event of a run is printed.
const TRACE: &str = "OTTLA_SIM_TRACE";

/// Why two runs of a seed may differ.
const UNREPEATABLE: &str = "something depends on more than the seed: most often a `tokio::select!` without `biased;` in \
     the code under test, else the iteration of a std `HashMap`, a thread, the system's clock, or randomness that does not \
     come from `Env::random` or `World::random`";

/// A scenario's runs.
///
/// Each seed is run twice, and both runs must be the same, event by event: a difference means that something in the
/// program depends on more than the seed (a random number that does not come from [`Env`](ottla::env::Env), the
/// iteration of a `HashMap`, an unbiased `select!`, a thread).
#[derive(Debug, Clone)]
#[must_use = "`run` runs it"]
pub struct Sim {
    seeds: Vec<u64>,
    twice: bool,
    everything: bool,
    /// Tasks may panic that are not of any host.
    panics: bool,
    longest: Duration,
}

impl Sim {
    /// One world per seed.
    pub fn seeds(seeds: impl IntoIterator<Item = u64>) -> Self {
        let everything = std::env::var_os(TRACE).is_some();
        let longest = Duration::from_secs(24 * 3600);
        Self { seeds: seeds.into_iter().collect(), twice: true, everything, panics: false, longest }
    }

    /// One world.
    pub fn seed(seed: u64) -> Self {
        Self::seeds([seed])
    }

    /// Runs each seed once only: twice as fast, and blind for what is not repeatable.
    pub fn once(mut self) -> Self {
        self.twice = false;
        self
    }

    /// Lets tasks panic that were spawned with `tokio::spawn`, for those who look at what became of them. Otherwise that fails
    /// the run: tokio keeps a panic for whoever awaits the task, and mostly that is nobody. A panic of a host's task always
    /// fails it.
    pub fn tolerate_panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// Prints every event of each run to standard output, as `OTTLA_SIM_TRACE=1` does.
    pub fn printing_everything(mut self) -> Self {
        self.everything = true;
        self
    }

    /// Bounds each run in virtual time. Default: 24 hours.
    pub fn at_most(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Runs the scenario in a fresh world per seed.
    ///
    /// The scenario runs on host `test`. It fails when it panics or returns an error, when any task panics, when a condition
    /// of [`World::until`] or [`World::expect`] does not hold, when time stands still, or when the second run of a seed differs
    /// from the first.
    ///
    /// The environment variable `OTTLA_SIM_SEEDS` (`17`, `0..1000`) replaces the seeds; `OTTLA_SIM_TRACE=1` prints every
    /// event.
    ///
    /// # Panics
    /// With a report, at the first seed that fails.
    pub fn run<F, T>(self, scenario: F) -> Summary
    where
        F: AsyncFn(&World) -> T,
        T: Outcome,
    {
        match self.try_run(scenario) {
            Ok(summary) => {
                println!("{summary}");
                summary
            }
            Err(report) => panic!("{report}"),
        }
    }

    /// [`Sim::run`], for those who want the report instead of a panic.
    ///
    /// # Errors
    /// The first seed that failed.
    pub fn try_run<F, T>(self, scenario: F) -> Result<Summary, Report>
    where
        F: AsyncFn(&World) -> T,
        T: Outcome,
    {
        let seeds = seeds_from_environment().unwrap_or_else(|| self.seeds.clone());
        let everything = self.everything;
        let mut summary = Summary::default();
        let cpu = cpu_time();
        for seed in seeds {
            let first = self.run_once(seed, everything, &scenario);
            if everything {
                first.ended.everything.iter().for_each(|event| println!("{event}"));
            }
            summary.add(&first.ended);
            if let Err(failure) = first.outcome {
                let report = Report::new(seed, &failure, &first.ended.last);
                // Whoever replays it should know whether that is of any use.
                let again = self.twice.then(|| self.run_once(seed, false, &scenario));
                let same = |again: &Run| {
                    again.ended.hash == first.ended.hash && again.outcome.as_ref() == Err(&failure)
                };
                return Err(if again.as_ref().is_none_or(same) { report } else { report.unrepeatable() });
            }
            if self.twice {
                let second = self.run_once(seed, false, &scenario);
                summary.add(&second.ended);
                if second.ended.hash != first.ended.hash {
                    return Err(self.unrepeatable(seed, &scenario));
                }
            }
            summary.hashes.push(first.ended.hash);
        }
        summary.cpu = cpu.and_then(|before| cpu_time()?.checked_sub(before));
        Ok(summary)
    }

    fn run_once<F, T>(&self, seed: u64, everything: bool, scenario: &F) -> Run
    where
        F: AsyncFn(&World) -> T,
        T: Outcome,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        panics::forget();
        // Neither I/O nor threads are asked for: there is nothing that the system could refuse.
        let runtime = runtime.expect("a runtime without drivers of the system");
        let (world, outcome) = runtime.block_on(async {
            let trace = if everything { Trace::recording() } else { Trace::default() };
            let world = World::new(seed, trace);
            let random = world.random();
            let scenario: Pin<Box<dyn Future<Output = Result<(), Failure>>>> = Box::pin(async {
                scenario(&world).await.into_outcome().map_err(|error| Failure {
                    at: world.elapsed(),
                    expected: "the scenario to succeed".to_owned(),
                    happened: Happened::Error(error),
                })
            });
            let shared = Arc::clone(&world.shared);
            let tasks = Rc::clone(&world.tasks);
            let outcome = Executor::new(shared, tasks, random, self.longest, scenario).await;
            let ended = world.shared.finish();
            world.end();
            (ended, outcome)
        });
        let outcome = outcome.and_then(|()| match panics::first().filter(|_| !self.panics) {
            Some(panicked) => Err(Failure::of_nobodys_task(world.elapsed, &panicked)),
            None => Ok(()),
        });
        Run { ended: world, outcome }
    }

    /// Runs the seed twice more, keeping everything, to find where the runs part.
    fn unrepeatable<F, T>(&self, seed: u64, scenario: &F) -> Report
    where
        F: AsyncFn(&World) -> T,
        T: Outcome,
    {
        let one = self.run_once(seed, true, scenario).ended;
        let other = self.run_once(seed, true, scenario).ended;
        let same =
            one.everything.iter().zip(&other.everything).take_while(|(one, other)| one == other).count();
        let at =
            |ended: &Ended| ended.everything.get(same).cloned().unwrap_or_else(|| "(nothing more)".into());
        let happened = if one.hash == other.hash {
            "they differed, but two further runs did not".to_owned()
        } else if same == one.everything.len().max(other.everything.len()) {
            "the same events, but tasks were polled in another order".to_owned()
        } else {
            format!(
                "after {same} equal events\n      one run:   {}\n      the other: {}",
                at(&one),
                at(&other)
            )
        };
        let failure = Failure {
            at: one.elapsed,
            expected: "two runs of one seed to be the same".to_owned(),
            happened: Happened::Unmet(format!("{happened}\n      {UNREPEATABLE}")),
        };
        let before = same.saturating_sub(30);
        Report::new(seed, &failure, &one.everything[before..same])
    }
}

struct Run {
    ended: Ended,
    outcome: Result<(), Failure>,
}

/// What a scenario may return: nothing, or a `Result` whose error can be printed.
pub trait Outcome {
    /// `Err` with the error's text.
    ///
    /// # Errors
    /// When the scenario failed.
    fn into_outcome(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Debug> Outcome for Result<(), E> {
    fn into_outcome(self) -> Result<(), String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// What the runs amounted to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The hash of each seed's run, in order.
    pub hashes: Vec<u64>,
    /// Worlds that ran.
    pub runs: u64,
    /// Events in them.
    pub events: u64,
    /// Virtual time in them.
    pub simulated: Duration,
    /// What they cost, where the system tells.
    pub cpu: Option<Duration>,
}

impl Summary {
    fn add(&mut self, ended: &Ended) {
        self.runs += 1;
        self.events += ended.events;
        self.simulated += ended.elapsed;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, events, simulated, .. } = self;
        write!(
            f,
            "{} seeds, {runs} runs, {events} events, {:.0} s simulated",
            self.hashes.len(),
            simulated.as_secs_f64()
        )?;
        let Some(cpu) = self.cpu.filter(|cpu| !cpu.is_zero()) else { return Ok(()) };
        let speed = simulated.as_secs_f64() / cpu.as_secs_f64();
        write!(f, " in {:.2} CPU-s ({speed:.0} simulated s per CPU-s)", cpu.as_secs_f64())
    }
}

/// Why a seed failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed that failed.
    pub seed: u64,
    /// When, in virtual time since the world began.
    pub at: Duration,
    /// What should have been.
    pub expected: String,
    /// What was instead.
    pub happened: String,
    /// A command that runs this seed again.
    pub replay: String,
    /// The last events before that, oldest first.
    pub events: Vec<String>,
}

impl Report {
    fn new(seed: u64, failure: &Failure, events: &[String]) -> Self {
        Self {
            seed,
            at: failure.at,
            expected: failure.expected.clone(),
            happened: failure.happened.to_string(),
            replay: replay_command(seed),
            events: events.to_vec(),
        }
    }

    /// A second run was another one.
    fn unrepeatable(mut self) -> Self {
        let _ = write!(
            self.happened,
            "\n      a second run of the seed was another one, and a replay may be too: {UNREPEATABLE}"
        );
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed after {:.3} s of virtual time", self.seed, self.at.as_secs_f64())?;
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  happened: {}", self.happened)?;
        writeln!(f, "  replay:   {}", self.replay)?;
        writeln!(f, "  the last events:")?;
        self.events.iter().try_for_each(|event| writeln!(f, "    {event}"))
    }
}

/// The command that runs one seed of the calling test again: cargo and libtest tell which test that is.
fn replay_command(seed: u64) -> String {
    let mut command = format!("{SEEDS}={seed} cargo test");
    if let Ok(package) = std::env::var("CARGO_PKG_NAME") {
        let _ = write!(command, " -p {package}");
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let stem = executable.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if let Some((target, _hash)) = stem.rsplit_once('-') {
        let library =
            std::env::var("CARGO_PKG_NAME").is_ok_and(|package| package.replace('-', "_") == target);
        let _ = if library { write!(command, " --lib") } else { write!(command, " --test {target}") };
    }
    if let Some(test) = std::thread::current().name().filter(|name| *name != "main") {
        let _ = write!(command, " -- --exact {test}");
    }
    command
}

fn seeds_from_environment() -> Option<Vec<u64>> {
    let text = std::env::var(SEEDS).ok()?;
    let parse = |text: &str| -> u64 {
        let parsed = text.trim().parse();
        parsed.unwrap_or_else(|_| panic!("{SEEDS}: expected a seed such as 17, or a range such as 0..1000"))
    };
    Some(match text.split_once("..") {
        Some((from, until)) => (parse(from)..parse(until)).collect(),
        None => vec![parse(&text)],
    })
}

/// The calling thread's CPU time, where the system tells (Linux).
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}
