//! `cargo xtask sim --planted`: each deliberate defect is found by the swarm, or the swarm is too weak.
//!
//! A defect is a `planted!("name")` in the sources, compiled with `--cfg ottla_planted` and chosen by `OTTLA_PLANTED`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Mutex,
    time::Instant,
};

use super::Arguments;
use crate::{Result, workspace};

/// Seeds within which each defect must be found.
const SEEDS: u64 = 500;

/// How a hook begins; what follows up to the next quote is the defect's name.
const HOOK: &str = "planted!(\"";

/// More of what was said does not fit into a table.
const LONGEST: usize = 110;

/// How a defect was found: how many seeds it took, how many seconds, and what was said.
struct Found {
    runs: String,
    seconds: String,
    said: String,
}

/// Hunts all defects, or those whose names contain `wanted`, and tells how soon each was found, as a table of Markdown.
#[allow(clippy::disallowed_methods, reason = "how long a developer waits is told in real time")]
pub(super) fn run(arguments: &Arguments, wanted: &str) -> Result<()> {
    let names: Vec<String> = names()?.into_iter().filter(|name| name.contains(wanted)).collect();
    if names.is_empty() {
        return Err(format!("no defect has {wanted:?} in its name").into());
    }
    let program = super::build(arguments.release, true)?;
    let (begun, count) = (Instant::now(), names.len());
    println!("{count} planted defects, at most {SEEDS} seeds each, {} at a time", arguments.jobs());
    let seeds = format!("{}..{}", arguments.start, arguments.start + SEEDS);
    let waiting = Mutex::new(names.into_iter());
    let hunted = Mutex::new(BTreeMap::new());
    let hunt = || {
        loop {
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some(name) = next else { return Ok(()) };
            let found = look_for(&name, &program, &seeds)?;
            match &found {
                Some(Found { runs, seconds, said }) => println!("{name}: seed {runs}, {seconds} s: {said}"),
                None => println!("{name}: not found"),
            }
            if let Ok(mut hunted) = hunted.lock() {
                hunted.insert(name, found);
            }
        }
    };
    std::thread::scope(|scope| {
        let hunters: Vec<_> = (0..arguments.jobs()).map(|_| scope.spawn(hunt)).collect();
        hunters.into_iter().try_for_each(|hunter| hunter.join().unwrap_or(Ok::<_, std::io::Error>(())))
    })?;
    let hunted = hunted.into_inner().unwrap_or_default();
    println!("\n| defect | found after seeds | s | what was said |\n|---|---|---|---|");
    for (name, found) in &hunted {
        if let Some(Found { runs, seconds, said }) = found {
            println!("| `{name}` | {runs} | {seconds} | {said} |");
        }
    }
    let missed: Vec<&str> =
        hunted.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| &**name).collect();
    println!("\n{} of {count} found, in {} s", hunted.len() - missed.len(), begun.elapsed().as_secs());
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("not found within {SEEDS} seeds: {}", missed.join(", ")).into())
    }
}

/// Runs seeds with a defect until one fails; none if all go well.
fn look_for(name: &str, program: &Path, seeds: &str) -> std::io::Result<Option<Found>> {
    let mut swarm = Command::new(program);
    swarm.args(["hunt", seeds]).env("OTTLA_PLANTED", name).stdin(Stdio::null());
    let Output { status, stdout, .. } = swarm.output()?;
    let line = String::from_utf8_lossy(&stdout).trim().replace('|', "/");
    let mut fields = line.splitn(3, '\t');
    let (Some(runs), Some(seconds), Some(said), true) =
        (fields.next(), fields.next(), fields.next(), status.success())
    else {
        return Ok(None);
    };
    let said = match said.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said.to_owned(),
    };
    Ok(Some(Found { runs: runs.to_owned(), seconds: seconds.to_owned(), said }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_the_simulation_has_a_row_for_each_defect() {
        let page = fs::read_to_string(workspace::root().join("docs/simulation.md")).expect("the page");
        let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let rows: BTreeSet<String> = page.lines().filter_map(row).collect();
        assert_eq!(rows, names().expect("the sources"));
    }
}
