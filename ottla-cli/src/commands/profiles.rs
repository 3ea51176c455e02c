//! `ottla profiles`: which there are, and what is in effect.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use crate::{connect::Connect, output::Failure, profile};

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
    /// Print the client's settings in effect, and where each comes from.
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
            Verb::Show => writeln!(out, "{}", self.connect.builder()?.build()?.config())?,
        }
        Ok(())
    }
}
