//! `ottla completion`: what shells complete.

use std::{
    env,
    io::{self, Write},
};

use clap::Args;
use clap_complete::{CompleteEnv, Shell, env::Shells};

use crate::output::Failure;

/// In it a shell says that it wants to know how words go on.
const VARIABLE: &str = "OTTLA_COMPLETE";

/// Print the completion script of a shell.
///
/// Commands, options, and the names of topics, groups and profiles: the cluster is asked for these when somebody presses
/// the key, with the options that are there already, and for a second and a half at most.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(ottla completion bash)
  ottla completion zsh > \"${fpath[1]}/_ottla\"
  ottla completion fish > ~/.config/fish/completions/ottla.fish")]
pub(crate) struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let name = self.shell.to_string();
        let shells = Shells::builtins();
        let shell =
            shells.completer(&name).ok_or_else(|| Failure::usage(format!("nothing is known of {name}")))?;
        // Found by its name later, if it was found by its name now.
        let called = env::args_os().next().filter(|called| called.to_string_lossy().contains(['/', '\\']));
        let program = match called {
            Some(_) => env::current_exe()
                .map_err(|error| Failure::new(format!("cannot find this program: {error}")))?
                .display()
                .to_string(),
            None => "ottla".to_owned(),
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "ottla", "ottla", &program, &mut script)?;
        Ok(io::stdout().write_all(&script)?)
    }
}

/// Answers a shell, and ends, if one is asking.
pub(crate) fn answer_a_shell(whole: fn() -> clap::Command) {
    CompleteEnv::with_factory(whole).var(VARIABLE).bin("ottla").complete();
}
