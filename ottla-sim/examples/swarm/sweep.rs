//! Many seeds, what they amounted to, and which of them failed.

use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ottla_sim::{
    Counts,
    kit::Report,
    swarm::{Fault, Plan, Profile, Ran, ids, ids_of},
};

/// After so many seeds every kind of fault must have occurred.
const EVERY_KIND_WITHIN: u64 = 100;

/// After so many failures a sweep ends: there is something to do.
const ENOUGH_FAILURES: usize = 10;

/// Runs the seeds, and tells; `json`: also in a line for programs.
pub(super) fn sweep(profile: Profile, seeds: Range<u64>, json: bool) -> ExitCode {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    let lock = || totals.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < seeds.end) {
                    let plan = Plan::draw_as(profile, seed);
                    let outcome = plan.run();
                    let mut totals = lock();
                    totals.add(&plan, outcome);
                    if totals.failed.len() >= ENOUGH_FAILURES {
                        return;
                    }
                }
            });
        }
    });
    let totals = lock();
    totals.print();
    let missing = totals.missing(profile);
    if !missing.is_empty() {
        println!("kinds of faults that never struck: {}", missing.join(", "));
    }
    if json {
        println!("{}", totals.figures());
    }
    ExitCode::from(u8::from(!totals.failed.is_empty() || !missing.is_empty()))
}

fn jobs() -> usize {
    super::setting("OTTLA_SIM_JOBS").unwrap_or(1).max(1)
}

/// How many faults there were.
#[derive(Clone, Copy, Default)]
struct Struck {
    planned: u64,
    /// They took effect.
    struck: u64,
}

/// What runs amounted to.
#[derive(Default)]
struct Totals {
    runs: u64,
    overlapping: u64,
    simulated: Duration,
    /// Of runs that say something: see [`Ran::counts`].
    counted: Duration,
    cpu: Duration,
    acknowledged: usize,
    /// The longest.
    recovered: Duration,
    /// How many of each kind began, and how many of them struck.
    faults: BTreeMap<String, Struck>,
    /// What clients met.
    met: Counts,
    /// In how many runs each scenario occurred.
    scenarios: BTreeMap<&'static str, u64>,
    failed: BTreeMap<u64, String>,
}

impl Totals {
    fn add(&mut self, plan: &Plan, outcome: Result<Ran, Report>) {
        self.runs += 1;
        self.overlapping += u64::from(plan.overlaps());
        match outcome {
            Ok(ran) => {
                for occurred in &ran.faults {
                    let kind = self.faults.entry(occurred.fault.kind()).or_default();
                    kind.planned += 1;
                    kind.struck += u64::from(occurred.struck);
                }
                self.simulated += ran.simulated;
                self.cpu += ran.cpu.unwrap_or_default();
                self.acknowledged += ran.acknowledged;
                self.recovered = self.recovered.max(ran.recovered);
                if ran.counts() {
                    self.counted += ran.simulated;
                }
                for id in ids_of(plan, &ran) {
                    *self.scenarios.entry(id).or_default() += 1;
                }
                for (name, times) in ran.met {
                    *self.met.entry(name).or_default() += times;
                }
            }
            Err(report) => {
                println!("{report}\nits plan:\n{plan}");
                println!("smaller:  {} --shrink\n", plan.replay());
                self.failed.insert(plan.seed, plan.replay());
            }
        }
    }

    /// The kinds of faults that should have occurred by now, and did not.
    fn missing(&self, profile: Profile) -> Vec<&'static str> {
        let occurred = |kind: &&str| self.faults.get(*kind).is_some_and(|kind| kind.struck > 0);
        let expected = if self.runs < EVERY_KIND_WITHIN { &[][..] } else { Fault::kinds(profile) };
        expected.iter().copied().filter(|kind| !occurred(kind)).collect()
    }

    fn per_cpu_second(&self) -> f64 {
        self.simulated.as_secs_f64() / self.cpu.as_secs_f64().max(1e-9)
    }

    fn acknowledged_per_second(&self) -> f64 {
        self.acknowledged as f64 / self.simulated.as_secs_f64().max(1e-9)
    }

    fn all_faults(&self) -> Struck {
        self.faults.values().fold(Struck::default(), |all, kind| Struck {
            planned: all.planned + kind.planned,
            struck: all.struck + kind.struck,
        })
    }

    fn per_hour(&self, count: u64) -> f64 {
        count as f64 / hours(self.simulated).max(1e-9)
    }

    fn figures(&self) -> serde_json::Value {
        serde_json::json!({
            "seeds": self.runs,
            "failed": self.failed.len(),
            "failed_seeds": self.failed.keys().collect::<Vec<_>>(),
            "hours": hours(self.simulated),
            "counted_hours": hours(self.counted),
            "cpu_seconds": self.cpu.as_secs_f64(),
            "simulated_seconds_per_cpu_second": self.per_cpu_second(),
            "acknowledged_per_second": self.acknowledged_per_second(),
            "longest_recovery_seconds": self.recovered.as_secs_f64(),
            "faults_per_hour": self.per_hour(self.all_faults().struck),
            "faults_planned_per_hour": self.per_hour(self.all_faults().planned),
            "overlapping": self.overlapping,
        })
    }

    fn print(&self) {
        println!(
            "{} seeds, {} failed; {:.2} h simulated, of which {:.2} h count; faults overlap in {} of {} runs",
            self.runs,
            self.failed.len(),
            hours(self.simulated),
            hours(self.counted),
            self.overlapping,
            self.runs,
        );
        println!(
            "{:.1} CPU-s, {:.0} simulated s per CPU-s, {:.1} acknowledged records per simulated s; recovered within {:.0} s",
            self.cpu.as_secs_f64(),
            self.per_cpu_second(),
            self.acknowledged_per_second(),
            self.recovered.as_secs_f64(),
        );
        let rate = |Struck { planned, struck }: &Struck| match planned == struck {
            true => format!("{:.1}", self.per_hour(*struck)),
            false => format!("{:.1} of {:.1}", self.per_hour(*struck), self.per_hour(*planned)),
        };
        let kinds: Vec<String> =
            self.faults.iter().map(|(kind, count)| format!("{kind} {}", rate(count))).collect();
        let all = rate(&self.all_faults());
        println!("faults per hour that struck, of those planned: {all} ({})", kinds.join(", "));
        self.print_met();
        for replay in self.failed.values() {
            println!("failed: {replay}");
        }
    }

    /// Scenarios by the number of runs; error codes by API and what clients told, by how often. One line each.
    fn print_met(&self) {
        let runs = |id: &str| self.scenarios.get(id).copied().unwrap_or_default();
        let (fired, missing): (Vec<_>, Vec<_>) = ids().partition(|id| runs(id) > 0);
        let fired: Vec<String> = fired.into_iter().map(|id| format!("{id} {}", runs(id))).collect();
        println!("scenarios, by runs: {}", fired.join(", "));
        if !missing.is_empty() {
            println!("scenarios that did not occur: {}", missing.join(", "));
        }
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, times) in &self.met {
            let (of, what) = name.split_once(": ").unwrap_or((name, ""));
            groups.entry(of).or_default().push(format!("{what} {times}").trim_start().to_owned());
        }
        let (told, answered): (Vec<_>, Vec<_>) =
            groups.iter().partition(|(of, _)| of.starts_with(char::is_lowercase));
        for (title, branches) in [("error codes answered", answered), ("what clients told", told)] {
            println!("{title}:");
            branches.iter().for_each(|(of, what)| println!("  {of}: {}", what.join(", ")));
        }
    }
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / 3_600.0
}
