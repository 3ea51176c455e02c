//! `cargo xtask sim`: seeds of the simulated world's swarm, which `ottla-sim`'s example of that name runs.

mod planted;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::{Result, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Run one seed, and print every event
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Make the seed smaller as long as it fails, and print what is left as a test
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Write what clients of the seed were told into this folder, as `check_history` reads it: readers.jsonl, and group.jsonl if
    /// there is a group
    #[arg(long, value_name = "FOLDER", requires = "seed", conflicts_with = "shrink")]
    history: Option<PathBuf>,
    /// Print the hash of each seed's run
    #[arg(long, conflicts_with_all = ["seed", "check_determinism"])]
    hashes: bool,
    /// Compare the hash of each seed's run: twice in one process, and in two processes, one with and one without what
    /// ran before it
    #[arg(long, conflicts_with = "seed")]
    check_determinism: bool,
    /// Prove that each deliberate defect, or those with this in their name, is found within 500 seeds
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with = "seed")]
    planted: Option<String>,
    /// Look for the names of deliberate defects in a program that must not have them
    #[arg(long, value_name = "PROGRAM", exclusive = true)]
    not_planted_in: Option<PathBuf>,
    /// What kind of plans seeds draw
    #[arg(long, value_enum, default_value_t = Profile::Short)]
    profile: Profile,
    /// Build with optimisations: faster by half, and another two minutes to build
    #[arg(long)]
    release: bool,
    /// Print the sweep's figures in a line of JSON, too, behind everything else
    #[arg(long, conflicts_with_all = ["seed", "hashes", "check_determinism", "planted"])]
    json: bool,
    /// How many runs at a time [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// About a minute each
    Short,
    /// About an hour each
    Long,
    /// About a minute each, in which replicas that are not in sync are elected
    Unclean,
    /// About a minute each, in which brokers lie to their clients
    Hostile,
}

impl Arguments {
    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(cores)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(program) = &arguments.not_planted_in {
        return planted::absent_from(program);
    }
    if let Some(wanted) = &arguments.planted {
        return planted::run(arguments, wanted);
    }
    let swarm = Swarm { program: build(arguments.release, false)?, arguments };
    let Arguments { seeds, start, .. } = *arguments;
    let range = format!("{start}..{}", start.saturating_add(seeds));
    match arguments.seed {
        Some(seed) if arguments.shrink => swarm.run("shrink", &seed.to_string()),
        Some(seed) => {
            let mut replay = swarm.command("replay", seed.to_string());
            if let Some(folder) = &arguments.history {
                std::fs::create_dir_all(folder)?;
                replay.arg(folder);
            }
            workspace::run(&mut replay)
        }
        None if arguments.hashes => swarm.run("hashes", &range),
        None if arguments.check_determinism => swarm.compare(start, seeds),
        None if arguments.json => workspace::run(swarm.command("sweep", &range).arg("json")),
        None => swarm.run("sweep", &range),
    }
}

/// Builds the example that runs seeds, and returns where it is. `planted`: with the deliberate defects, elsewhere.
fn build(release: bool, planted: bool) -> Result<PathBuf> {
    let target = if planted { workspace::target().join("planted") } else { workspace::target() };
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, as `cargo test --workspace` does it, so that nothing is compiled again with other features.
    cargo.args(["build", "--quiet", "--workspace", "--example", "swarm"]);
    cargo.arg("--target-dir").arg(&target).current_dir(workspace::root());
    if planted {
        cargo.env("RUSTFLAGS", "--cfg ottla_planted");
    }
    if release {
        cargo.arg("--release");
    }
    workspace::run(&mut cargo)?;
    let profile = if release { "release" } else { "debug" };
    Ok(target.join(profile).join("examples").join("swarm"))
}

/// The program that runs seeds.
struct Swarm<'a> {
    program: PathBuf,
    arguments: &'a Arguments,
}

impl Swarm<'_> {
    fn command(&self, verb: &str, seeds: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg(seeds);
        let profile = match self.arguments.profile {
            Profile::Short => "short",
            Profile::Long => "long",
            Profile::Unclean => "unclean",
            Profile::Hostile => "hostile",
        };
        command.env("OTTLA_SIM_PROFILE", profile);
        command.env("OTTLA_SIM_JOBS", self.arguments.jobs().to_string());
        command
    }

    fn run(&self, verb: &str, seeds: &str) -> Result<()> {
        workspace::run(&mut self.command(verb, seeds))
    }

    /// One process runs each seed once, another one twice, so that what ran before differs.
    fn compare(&self, start: u64, seeds: u64) -> Result<()> {
        let range = format!("{start}..{}", start + seeds);
        let once = self.command("hashes", &range).stdout(Stdio::piped()).spawn()?;
        let twice = self.command("hashes", &range).arg("2").output()?;
        let (once, twice) =
            (String::from_utf8(once.wait_with_output()?.stdout)?, String::from_utf8(twice.stdout)?);
        let (mut compared, mut mismatches, mut failed) = (0, 0, 0);
        for (one, both) in once.lines().zip(twice.lines()) {
            let (_, hash) = one.split_once(' ').unwrap_or_default();
            compared += 1;
            failed += u64::from(hash.starts_with("failed"));
            if both != format!("{one} {hash}") {
                mismatches += 1;
                println!("one process: {one}; another one, twice: {both}");
            }
        }
        println!(
            "{compared} seeds: {mismatches} mismatches within a process or between two; {failed} failed"
        );
        if compared == seeds && mismatches + failed == 0 {
            Ok(())
        } else {
            Err("runs are not repeatable, or not good".into())
        }
    }
}
