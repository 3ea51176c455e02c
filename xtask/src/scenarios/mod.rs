//! `cargo xtask scenarios`: which scenarios have a test, by the tests' names.
//!
//! A test covers the scenarios whose ids its name begins with: `p01_p05_…` covers P01 and P05, `rp_a1_…` covers RP-A1.

mod catalogue;
mod tests_by_id;

use std::fmt::Write as _;
use std::fs;

use crate::{Result, workspace};
use catalogue::{AREAS, Area, Scenario};
use tests_by_id::{Test, TestsById};

/// Where the table is.
const TABLE: &str = "docs/scenarios.md";

/// What `cargo xtask scenarios` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if the committed table is not what the tests' names say
    #[arg(long)]
    check: bool,
}

/// Writes the table, or checks that it is up to date, and says what is open.
///
/// # Errors
///
/// When files cannot be read or written, a test names a scenario that does not exist, or with `--check` when the table
/// differs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let known: Vec<&str> = all().map(|scenario| scenario.id).collect();
    let tests = TestsById::find(&workspace::root(), &known)?;
    let (table, path) = (table(&tests), workspace::root().join(TABLE));
    if !fs::read_to_string(&path).is_ok_and(|committed| committed == table) {
        if arguments.check {
            return Err(format!("{TABLE} differs: run this without --check").into());
        }
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, table)?;
        println!("updated: {TABLE}");
    }
    println!("{}", summary(&tests));
    Ok(())
}

fn all() -> impl Iterator<Item = &'static Scenario> {
    AREAS.iter().flat_map(|area| area.scenarios)
}

fn summary(tests: &TestsById) -> String {
    let count = |core: bool| {
        let of_kind = || all().filter(move |scenario| scenario.core == core);
        (of_kind().filter(|scenario| tests.of(scenario.id).next().is_some()).count(), of_kind().count())
    };
    let ((core, of_core), (also, of_also)) = (count(true), count(false));
    format!("{core} of {of_core} core scenarios and {also} of {of_also} others have a test.")
}

fn table(tests: &TestsById) -> String {
    let mut text = String::from(
        "# Scenarios\n\n\
         What goes wrong around a Kafka client, what it has to do then, and the test that proves it. Ids of core \
         scenarios are bold. `cargo xtask scenarios` writes this page from the tests' names: a test covers the ids \
         that its name begins with.\n\n",
    );
    let open = listed(|scenario| tests.of(scenario.id).next().is_none());
    let in_parts = listed(|scenario| {
        let mut of_it = tests.of(scenario.id).peekable();
        of_it.peek().is_some() && !of_it.any(Test::is_whole)
    });
    let _ = writeln!(text, "{}\n\nOpen:\n\n{open}", summary(tests));
    if !in_parts.is_empty() {
        let _ = writeln!(
            text,
            "Proven where it is decided, and not yet with the whole client against a cluster:\n\n{in_parts}"
        );
    }
    for area in AREAS {
        write_area(&mut text, area, tests);
    }
    text
}

/// Some scenarios, by area.
fn listed(which: impl Fn(&Scenario) -> bool) -> String {
    let mut text = String::new();
    for area in AREAS {
        let ids: Vec<String> = area.scenarios.iter().filter(|scenario| which(scenario)).map(shown).collect();
        if !ids.is_empty() {
            let why = area.missing.map(|why| format!(" ({why})")).unwrap_or_default();
            let _ = writeln!(text, "* {}: {}{why}", area.name, ids.join(", "));
        }
    }
    text
}

fn shown(scenario: &Scenario) -> String {
    if scenario.core { format!("**{}**", scenario.id) } else { scenario.id.to_owned() }
}

fn write_area(text: &mut String, area: &Area, tests: &TestsById) {
    let _ = writeln!(
        text,
        "## {}\n\n| id | what happens | what has to follow | tests |\n|---|---|---|---|",
        area.name
    );
    for scenario in area.scenarios {
        let links: Vec<String> =
            tests.of(scenario.id).map(|test| format!("[{}](../{})", test.says(), test.file)).collect();
        let links = if links.is_empty() { "open".to_owned() } else { links.join(" · ") };
        let Scenario { happens, required, .. } = scenario;
        let _ = writeln!(text, "| {} | {happens} | {required} | {links} |", shown(scenario));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_there_once() {
        let mut ids: Vec<&str> = all().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    }

    // Here and not in a stage of its own, so that whoever renames a test is told by the tests.
    #[test]
    fn the_committed_table_is_what_the_tests_names_say() {
        run(&Arguments { check: true }).unwrap();
    }
}
