//! `cargo xtask sim --planted`: each deliberate defect is found by the swarm, or the swarm is too weak.
//!
//! A defect is a `planted!("name")` in the sources, compiled with `--cfg ottla_planted` and chosen by `OTTLA_PLANTED`;
//! `planted!("name", unclean)` is found under that profile. A seed has found it if it fails with the defect, and not without.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
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

/// The profile of a defect that names none.
const USUAL: &str = "short";

/// The defects by name, each with the profile of the swarm that finds it.
type Defects = BTreeMap<String, String>;

/// How a defect was found: how many seeds it took, how many seconds, and what was said.
struct Found {
    runs: String,
    seconds: String,
    said: String,
}

/// Hunts all defects, or those whose names contain `wanted`, and tells how soon each was found, as a table of Markdown.
#[allow(clippy::disallowed_methods, reason = "how long a developer waits is told in real time")]
pub(super) fn run(arguments: &Arguments, wanted: &str) -> Result<()> {
    let defects: Defects = defects()?.into_iter().filter(|(name, _)| name.contains(wanted)).collect();
    if defects.is_empty() {
        return Err(format!("no defect has {wanted:?} in its name").into());
    }
    let program = super::build(arguments.release, true)?;
    let (begun, count) = (Instant::now(), defects.len());
    println!("{count} planted defects, at most {SEEDS} seeds each, {} at a time", arguments.jobs());
    let waiting = Mutex::new(defects.into_iter());
    let hunted = Mutex::new(BTreeMap::new());
    let hunt = || {
        loop {
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some((name, profile)) = next else { return Ok(()) };
            let found = Hunt { name: &name, profile: &profile, program: &program }.run(arguments.start)?;
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

/// A defect that is looked for.
struct Hunt<'a> {
    name: &'a str,
    profile: &'a str,
    program: &'a Path,
}

impl Hunt<'_> {
    /// Runs seeds with the defect until one fails that does not fail without it; none if there is no such seed.
    #[allow(clippy::disallowed_methods, reason = "how long a developer waits is told in real time")]
    fn run(&self, start: u64) -> std::io::Result<Option<Found>> {
        let (begun, end) = (Instant::now(), start + SEEDS);
        let mut next = start;
        while let Some((failed, said)) = self.first_failure(self.name, next..end)? {
            if self.first_failure("", failed..failed + 1)?.is_none() {
                let seconds = format!("{:.1}", begun.elapsed().as_secs_f64());
                let runs = (failed - start + 1).to_string();
                return Ok(Some(Found { runs, seconds, said: shortened(&said) }));
            }
            next = failed + 1;
        }
        Ok(None)
    }

    /// The first seed that fails with a defect, and why.
    fn first_failure(&self, defect: &str, seeds: Range<u64>) -> std::io::Result<Option<(u64, String)>> {
        let mut swarm = Command::new(self.program);
        swarm.arg("hunt").arg(format!("{}..{}", seeds.start, seeds.end)).stdin(Stdio::null());
        swarm.env("OTTLA_PLANTED", defect).env("OTTLA_SIM_PROFILE", self.profile);
        let Output { status, stdout, .. } = swarm.output()?;
        let line = String::from_utf8_lossy(&stdout).trim().replace('|', "/");
        let mut fields = line.splitn(3, '\t');
        let runs = fields.next().and_then(|runs| runs.parse::<u64>().ok());
        let (Some(runs), _, Some(said), true) = (runs, fields.next(), fields.next(), status.success()) else {
            return Ok(None);
        };
        Ok(Some((seeds.start + runs - 1, said.to_owned())))
    }
}

fn shortened(said: &str) -> String {
    match said.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said.to_owned(),
    }
}

/// Looks for the names of defects in a program that must not have them.
pub(super) fn absent_from(program: &Path) -> Result<()> {
    let bytes = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let defects = defects()?;
    let there = |name: &&String| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    match defects.keys().find(there) {
        Some(name) => Err(format!("{} has the planted defect {name}", program.display()).into()),
        None => {
            println!("{}: none of {} planted defects", program.display(), defects.len());
            Ok(())
        }
    }
}

/// All of them.
fn defects() -> Result<Defects> {
    let mut defects = Defects::new();
    for package in ["ottla-core", "ottla", "ottla-broker"] {
        collect(&workspace::root().join(package).join("src"), &mut defects)?;
    }
    if defects.is_empty() { Err("there is no planted defect in the sources".into()) } else { Ok(defects) }
}

fn collect(folder: &Path, defects: &mut Defects) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, defects)?;
        } else {
            defects.extend(fs::read_to_string(&path)?.split(HOOK).skip(1).filter_map(defect));
        }
    }
    Ok(())
}

/// A defect's name and profile, from what follows [`HOOK`].
fn defect(source: &str) -> Option<(String, String)> {
    let (name, rest) = source.split_once('"')?;
    let (profile, _) = rest.split_once(')')?;
    let profile = profile.trim_start_matches(", ");
    Some((name.to_owned(), if profile.is_empty() { USUAL } else { profile }.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_the_simulation_has_a_row_for_each_defect() {
        let page = fs::read_to_string(workspace::root().join("docs/simulation.md")).expect("the page");
        let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let rows: Vec<String> = page.lines().filter_map(row).collect();
        assert_eq!(rows, defects().expect("the sources").into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_defect_may_name_its_profile() {
        let of = |source: &str| defect(source).expect("a defect");
        assert_eq!(of("skip\") {"), ("skip".to_owned(), "short".to_owned()));
        assert_eq!(of("cut\", unclean) {"), ("cut".to_owned(), "unclean".to_owned()));
    }
}
