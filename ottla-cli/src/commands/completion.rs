//! `ottla completion`: what shells complete.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use crate::output::Failure;

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(ottla completion bash)
  ottla completion zsh > \"${fpath[1]}/_ottla\"
  ottla completion fish > ~/.config/fish/completions/ottla.fish")]
pub(crate) struct Completion {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self, mut whole: clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut whole, "ottla", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}
