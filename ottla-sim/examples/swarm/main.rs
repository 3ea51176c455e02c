//! Runs seeds of the swarm. `cargo xtask sim` builds it and is the comfortable way to call it.
//!
//! ```text
//! swarm sweep FROM..TO [json]  runs the seeds; what failed, with the command that replays it, and totals;
//!                              the figures among them once more, as the last line, for programs to read
//! swarm replay SEED [FOLDER]   runs one seed and prints every event; its plan and what was wrong come last. What clients were
//!                              told is written into the folder: readers.jsonl, and group.jsonl of a group
//! swarm shrink SEED [RUNS]     makes a seed that fails as small as it goes, and prints it as a test
//! swarm hashes FROM..TO [N]    runs each seed N times in this process, and prints the hashes of its runs
//! swarm hunt FROM..TO          ends at the first seed that fails, and says which run, how fast, and what was wrong
//! ```
//!
//! `OTTLA_SIM_PROFILE` is what kind of plans seeds draw: `short`, `long`, `unclean` or `hostile`. `OTTLA_SIM_JOBS` is how many threads run
//! seeds; a run is always on one thread.

mod sweep;

use std::{ops::Range, path::Path, process::ExitCode, str::FromStr, time::Instant};

use ottla_sim::{
    kit::Report,
    swarm::{Plan, Profile, shrink},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let profile = setting("OTTLA_SIM_PROFILE").unwrap_or(Profile::Short);
    match words[..] {
        ["sweep", range] => sweep::sweep(profile, seeds(range), false),
        ["sweep", range, "json"] => sweep::sweep(profile, seeds(range), true),
        ["replay", seed] => replay(&Plan::draw_as(profile, parsed(seed)), None),
        ["replay", seed, folder] => replay(&Plan::draw_as(profile, parsed(seed)), Some(Path::new(folder))),
        ["shrink", seed] => smaller(Plan::draw_as(profile, parsed(seed)), 200),
        ["shrink", seed, runs] => smaller(Plan::draw_as(profile, parsed(seed)), parsed(runs)),
        ["hashes", range] => hashes(profile, seeds(range), 1),
        ["hashes", range, times] => hashes(profile, seeds(range), parsed(times)),
        ["hunt", range] => hunt(profile, seeds(range)),
        _ => {
            eprintln!("usage: swarm sweep|replay|shrink|hashes|hunt SEED|FROM..TO");
            ExitCode::from(2)
        }
    }
}

/// A word of the command line.
fn parsed<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| {
        eprintln!("{text:?} is not what is expected there");
        std::process::exit(2)
    })
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| parsed(&text))
}

fn seeds(range: &str) -> Range<u64> {
    match range.split_once("..") {
        Some((from, to)) => parsed(from)..parsed(to),
        None => parsed(range)..parsed::<u64>(range) + 1,
    }
}

fn replay(plan: &Plan, histories: Option<&Path>) -> ExitCode {
    let ran = plan.run_printing_everything(histories);
    println!("the plan of seed {}:\n{plan}", plan.seed);
    match ran {
        Ok(ran) => {
            let seconds = ran.simulated.as_secs_f64();
            println!("nothing was wrong: {seconds:.0} s, {} records acknowledged", ran.acknowledged);
            ExitCode::SUCCESS
        }
        Err(report) => {
            println!("{report}");
            ExitCode::FAILURE
        }
    }
}

fn smaller(plan: Plan, runs: usize) -> ExitCode {
    let Err(Report { expected, .. }) = plan.run() else {
        println!("seed {} does not fail", plan.seed);
        return ExitCode::FAILURE;
    };
    // Another failure is another story; offsets, times and names with numbers are not.
    let what = |expected: &str| expected.replace(|it: char| it.is_ascii_digit(), "");
    let fails = |plan: &Plan| plan.run().is_err_and(|report| what(&report.expected) == what(&expected));
    let small = shrink(plan, runs, fails);
    if let Err(report) = small.run() {
        println!("{report}");
    }
    println!("{}", small.to_test());
    ExitCode::SUCCESS
}

fn hashes(profile: Profile, seeds: Range<u64>, times: usize) -> ExitCode {
    for seed in seeds {
        let plan = Plan::draw_as(profile, seed);
        let runs = (0..times).map(|_| match plan.run() {
            Ok(ran) => format!(" {:016x}", ran.hash),
            Err(report) => format!(" failed at {:?}: {}", report.at, report.happened.replace('\n', " ")),
        });
        println!("{seed}{}", runs.collect::<String>());
    }
    ExitCode::SUCCESS
}

#[allow(clippy::disallowed_methods, reason = "how long a developer waits is told in real time")]
fn hunt(profile: Profile, seeds: Range<u64>) -> ExitCode {
    // What is hunted may well panic; the one line is enough.
    std::panic::set_hook(Box::new(|_| ()));
    let (begun, from) = (Instant::now(), seeds.start);
    for seed in seeds.clone() {
        if let Err(report) = Plan::draw_as(profile, seed).run() {
            let (runs, seconds) = (seed - from + 1, begun.elapsed().as_secs_f64());
            // What follows the first line is the record of what led there.
            let happened = report.happened.lines().next().unwrap_or_default();
            println!("{runs}\t{seconds:.1}\texpected {}: {happened}", report.expected);
            return ExitCode::SUCCESS;
        }
    }
    println!("no seed of {} failed", seeds.end - seeds.start);
    ExitCode::FAILURE
}
