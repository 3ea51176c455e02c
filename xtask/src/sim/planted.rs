//! `cargo xtask sim --planted`: each deliberate defect is found by the swarm, or the swarm is too weak.
//!
//! A defect is a `planted!("name")` in the sources, compiled with `--cfg ottla_planted` and chosen by `OTTLA_PLANTED`.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Mutex,
};

use super::Arguments;
use crate::{Result, workspace};

/// Seeds within which each defect must be found.
const SEEDS: u64 = 500;

/// How a hook begins; what follows up to the next quote is the defect's name.
const HOOK: &str = "planted!(\"";

/// Hunts all defects, or those whose names contain `wanted`, and tells how soon each was found.
pub(super) fn run(arguments: &Arguments, wanted: &str) -> Result<()> {
    let names = names()?;
    let program = super::build(arguments.release, true)?;
    let hunted: Vec<&String> = names.iter().filter(|name| name.contains(wanted)).collect();
    if hunted.is_empty() {
        return Err(format!("no defect has {wanted:?} in its name").into());
    }
    let range = format!("{}..{}", arguments.start, arguments.start + SEEDS);
    let waiting = Mutex::new(hunted.iter().rev());
    let missed = Mutex::new(Vec::new());
    let hunt = || {
        loop {
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some(name) = next else { return Ok(()) };
            let mut swarm = Command::new(&program);
            swarm.args(["hunt", &range]).env("OTTLA_PLANTED", name.as_str()).stdin(Stdio::null());
            let Output { status, stdout, .. } = swarm.output()?;
            println!("{name}: {}", String::from_utf8_lossy(&stdout).trim());
            if !status.success()
                && let Ok(mut missed) = missed.lock()
            {
                missed.push(name.as_str());
            }
        }
    };
    std::thread::scope(|scope| {
        let hunters: Vec<_> = (0..arguments.jobs()).map(|_| scope.spawn(hunt)).collect();
        hunters.into_iter().try_for_each(|hunter| hunter.join().unwrap_or(Ok::<_, std::io::Error>(())))
    })?;
    let missed = missed.into_inner().unwrap_or_default();
    println!(
        "{} of {} planted defects found within {SEEDS} seeds",
        hunted.len() - missed.len(),
        hunted.len()
    );
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {}", missed.join(", ")).into()) }
}

/// Looks for the names of defects in a program that must not have them.
pub(super) fn absent_from(program: &Path) -> Result<()> {
    let bytes = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let names = names()?;
    let there = |name: &&String| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    match names.iter().find(there) {
        Some(name) => Err(format!("{} has the planted defect {name}", program.display()).into()),
        None => {
            println!("{}: none of {} planted defects", program.display(), names.len());
            Ok(())
        }
    }
}

/// The names of all defects.
fn names() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for package in ["ottla-core", "ottla", "ottla-broker"] {
        collect(&workspace::root().join(package).join("src"), &mut names)?;
    }
    if names.is_empty() { Err("there is no planted defect in the sources".into()) } else { Ok(names) }
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, names)?;
        } else {
            let source = fs::read_to_string(&path)?;
            let hooks = source.split(HOOK).skip(1).filter_map(|rest| rest.split_once('"'));
            names.extend(hooks.map(|(name, _)| name.to_owned()));
        }
    }
    Ok(())
}
