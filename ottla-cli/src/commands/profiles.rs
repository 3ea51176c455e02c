//! `ottla profiles`: which there are, and what is in effect.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use clap::{Args, Subcommand};
use ottla::{Consumer, Producer};

use crate::{bounds, commands::consume, connect::Connect, output::Failure, profile};

/// List profiles, and show the settings in effect.
///
/// A profile is a client.properties file NAME.properties in the directory that `ottla profiles list` says on stderr:
/// $OTTLA_CONFIG_DIR, or ottla in $XDG_CONFIG_HOME, %APPDATA% or ~/.config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla profiles list
  ottla profiles show --profile staging          # all settings with where they come from, secrets masked
  ottla topics list --profile staging -X request.timeout.ms=5000")]
pub(crate) struct Profiles {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the names of all profiles.
    List,
    /// Print the settings in effect of every client, of producers and of consumers, and where each comes from.
    Show,
}

impl Profiles {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match self.verb {
            Verb::List => {
                if let Some(directory) = profile::directory() {
                    crate::output::say(format_args!("profiles are in {}", directory.display()));
                }
                for name in profile::names()? {
                    writeln!(out, "{name}")?;
                }
            }
            Verb::Show => self.show(&mut out)?,
        }
        Ok(())
    }

    /// Nothing is printed unless all of it is as it may be.
    fn show(&self, out: &mut impl Write) -> Result<(), Failure> {
        let every = self.connect.builder()?.build()?.config().to_string();
        let producing = self.connect.quietly(bounds::PRODUCING)?.build()?;
        let producers = Producer::builder(&producing).effective()?.to_string();
        let consuming = self.connect.quietly(consume::DEFAULTS)?.build()?;
        let consumers = Consumer::builder(&consuming).effective()?.to_string();
        let mut shown = BTreeSet::new();
        for (whose, settings) in
            [("every client", &every), ("producers", &producers), ("consumers", &consumers)]
        {
            writeln!(out, "# {whose}")?;
            for line in settings.lines().filter(|line| shown.insert(*line)) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}
