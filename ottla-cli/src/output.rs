//! What every command says, and how it ends.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Why a command failed, in words for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    /// The reader of stdout went away: `ottla consume … | head` is no failure.
    BrokenPipe,
}

impl Failure {
    /// Something that was tried went wrong: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Failed }
    }

    /// The arguments make no sense together: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Usage }
    }
}

impl From<ottla::Error> for Failure {
    fn from(error: ottla::Error) -> Self {
        // Settings are arguments, also those that stand in a file.
        let kind = if error.kind() == ottla::ErrorKind::Config { Kind::Usage } else { Kind::Failed };
        Self { message: with_causes(&error), kind }
    }
}

/// Of what is printed. Other errors of the operating system are put into words where they happen.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::BrokenPipe } else { Kind::Failed };
        Self { message: format!("stdout: {error}"), kind }
    }
}

/// An error and what caused it, without saying the same thing twice.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

/// The items that failed: each is said, and one is enough for exit code 1.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<String>);

impl Failures {
    pub(crate) fn add(&mut self, item: &str, error: &ottla::Error) {
        self.add_words(item, &with_causes(error));
    }

    pub(crate) fn add_words(&mut self, item: &str, why: &str) {
        say(format_args!("ottla: {item}: {why}"));
        self.0.push(item.to_string());
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_result(self) -> Result<(), Failure> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("failed for {}", self.0.join(", "))))
        }
    }
}

/// Says something to the person at the terminal.
pub(crate) fn say(message: impl fmt::Display) {
    // Whoever closed stderr does not want to hear it, and that is no reason to panic.
    drop(writeln!(io::stderr(), "{message}"));
}

/// Ends the command: the failure to stderr, and its exit code.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) | Err(Failure { kind: Kind::BrokenPipe, .. }) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("ottla: {}", failure.message));
            ExitCode::from(if failure.kind == Kind::Usage { 2 } else { 1 })
        }
    }
}

/// The client's log goes to stderr, by default from this level on; `OTTLA_LOG=ottla=debug` shows more.
pub(crate) fn log_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("OTTLA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
}
