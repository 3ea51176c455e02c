//! `ottla reference`, hidden: the page `docs/cli.md`.

use std::io::{self, Write};

use clap::{Args, Command};
use ottla::config::{KnownSetting, known_settings};

use crate::{connect::HEADING, output::Failure};

const TITLE: &str = "\
# The command

Every command with its options, as `--help` prints it, and the settings that files and `-X` may hold. Written by
`ottla reference`; a test compares.
";

const SETTINGS: &str = "\
## Settings

What `--command-config FILE`, profiles and `-X KEY=VALUE` may hold, by Java's name or librdkafka's. `${env:NAME}` in the value
of a file is a variable of the environment. An unknown name is a warning that suggests the nearest one; names that begin with
`schema.registry.`, `basic.auth.`, `confluent.`, `connect.` and `streams.` belong to other programs.
`ottla profiles show` prints what is in effect and where it comes from.

| setting | librdkafka's name |
|---|---|
";

/// Print the page docs/cli.md.
#[derive(Debug, Args)]
pub(crate) struct Reference {}

impl Reference {
    pub(crate) fn run(&self, mut whole: Command) -> Result<(), Failure> {
        whole.build();
        let mut page = TITLE.to_owned();
        let mut connection = None;
        describe(&whole, &mut page, &mut connection);
        page.push_str(
            "\n## Options for the connection\n\nOf every command that talks to a cluster.\n\n```text\n",
        );
        page.push_str(&connection.unwrap_or_default());
        page.push_str("```\n\n");
        page.push_str(SETTINGS);
        for KnownSetting { name, aliases, .. } in known_settings().filter(|setting| setting.has_effect) {
            page.push_str(&format!("| `{name}` | {} |\n", listed(aliases.iter().copied())));
        }
        let others = known_settings().filter(|setting| !setting.has_effect).map(|setting| setting.name);
        page.push_str(&format!("\nAccepted, and without effect: {}.\n", listed(others)));
        Ok(io::stdout().write_all(page.as_bytes())?)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A command and those below it.
fn describe(command: &Command, page: &mut String, connection: &mut Option<String>) {
    let is_of_connection = |arg: &clap::Arg| arg.get_help_heading() == Some(HEADING);
    if connection.is_none() && command.get_arguments().any(is_of_connection) {
        // Nothing but these.
        let only = command.clone().mut_args(|arg| if is_of_connection(&arg) { arg } else { arg.hide(true) });
        let help = help(only.about("").long_about("").after_help("").help_template("{all-args}"));
        *connection = Some(help.split_once(":\n").map_or(help.clone(), |(_, options)| options.to_owned()));
    }
    let name = command.get_bin_name().unwrap_or("ottla").to_owned();
    let without = command.clone().mut_args(|arg| {
        let told = is_of_connection(&arg) || matches!(arg.get_id().as_str(), "help" | "version");
        if told { arg.hide(true) } else { arg }
    });
    page.push_str(&format!("\n## {name}\n\n```text\n{}```\n", help(without)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        describe(below, page, connection);
    }
}

/// The same on every terminal.
fn help(command: Command) -> String {
    let rendered = command.term_width(100).render_long_help().to_string();
    rendered.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>().trim_start().to_owned()
}
