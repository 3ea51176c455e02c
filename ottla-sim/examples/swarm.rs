//! Runs seeds of the swarm. `cargo xtask sim` is the comfortable way to call it.
//!
//! ```text
//! swarm FROM..TO             runs the seeds, one line of totals at the end; exit code 1 and a report if one fails
//! swarm hashes FROM..TO      prints the hash of each seed's run
//! swarm shrink SEED [RUNS]   makes a seed that fails as small as it goes, and prints it as a test
//! ```

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use ottla_sim::swarm::{Plan, Ran, shrink};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["hashes", range] => hashes(range),
        ["shrink", seed] => smaller(seed, 200),
        ["shrink", seed, runs] => smaller(seed, number(runs) as usize),
        [range] => sweep(range),
        _ => {
            eprintln!("usage: swarm FROM..TO | swarm hashes FROM..TO | swarm shrink SEED [RUNS]");
            ExitCode::from(2)
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| {
        eprintln!("{text:?} is no number");
        std::process::exit(2)
    })
}

fn seeds(range: &str) -> std::ops::Range<u64> {
    match range.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(range)..number(range) + 1,
    }
}

#[derive(Default)]
struct Totals {
    runs: u64,
    counted: Duration,
    simulated: Duration,
    cpu: Duration,
    acknowledged: usize,
    overlapping: u64,
    faults: BTreeMap<String, u64>,
}

impl Totals {
    fn add(&mut self, plan: &Plan, ran: &Ran) {
        self.runs += 1;
        self.simulated += ran.simulated;
        self.cpu += ran.cpu.unwrap_or_default();
        self.acknowledged += ran.acknowledged;
        self.overlapping += u64::from(plan.overlaps());
        if ran.counts(plan) {
            self.counted += ran.simulated;
        }
        for planned in &plan.faults {
            *self.faults.entry(planned.fault.kind()).or_default() += 1;
        }
    }

    fn print(&self) {
        let hours = |time: Duration| time.as_secs_f64() / 3_600.0;
        let speed = self.simulated.as_secs_f64() / self.cpu.as_secs_f64().max(1e-9);
        println!(
            "{} runs, {} with faults at the same time; {:.2} h simulated, {:.2} h of it count; {} records acknowledged",
            self.runs,
            self.overlapping,
            hours(self.simulated),
            hours(self.counted),
            self.acknowledged
        );
        println!("{:.1} CPU-s, {speed:.0} simulated s per CPU-s", self.cpu.as_secs_f64());
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("faults: {}", faults.join(", "));
    }
}

fn sweep(range: &str) -> ExitCode {
    let mut totals = Totals::default();
    for seed in seeds(range) {
        let plan = Plan::draw(seed);
        match plan.run() {
            Ok(ran) => totals.add(&plan, &ran),
            Err(report) => {
                println!("{report}");
                println!("the plan:");
                plan.faults.iter().for_each(|planned| println!("    {planned}"));
                println!("smaller: cargo xtask sim --shrink {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    totals.print();
    ExitCode::SUCCESS
}

fn hashes(range: &str) -> ExitCode {
    for seed in seeds(range) {
        match Plan::draw(seed).run() {
            Ok(ran) => println!("{seed} {:016x}", ran.hash),
            Err(_) => println!("{seed} failed"),
        }
    }
    ExitCode::SUCCESS
}

fn smaller(seed: &str, runs: usize) -> ExitCode {
    let plan = Plan::draw(number(seed));
    if plan.run().is_ok() {
        println!("seed {seed} does not fail");
        return ExitCode::FAILURE;
    }
    let small = shrink(plan, runs, |plan| plan.run().is_err());
    if let Err(report) = small.run() {
        println!("{report}");
    }
    println!("{}", small.to_test());
    ExitCode::SUCCESS
}
