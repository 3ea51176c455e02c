//! What shells complete of a cluster: the names of topics and groups, asked for at that moment.
//!
//! Somebody has pressed a key and waits: what does not answer at once completes nothing, and nothing is said about it.

use std::{
    ffi::{OsStr, OsString},
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches};
use clap_complete::{CompletionCandidate, engine::ArgValueCompleter};
use ottla::Admin;

use crate::{Arguments, connect::Connect, profile};

/// For everything: connecting, asking, answering.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Names of topics.
pub(crate) fn topics() -> ArgValueCompleter {
    ArgValueCompleter::new(|begun: &OsStr| {
        that_begin(begun, ask(async |admin| admin.list_topics().await.ok()), |topic| topic.name)
    })
}

/// Names of groups.
pub(crate) fn groups() -> ArgValueCompleter {
    ArgValueCompleter::new(|begun: &OsStr| {
        let listed = ask(async |admin| Some(admin.list_groups().await.ok()?.groups));
        that_begin(begun, listed, |group| group.group)
    })
}

/// Names of profiles.
pub(crate) fn profiles() -> ArgValueCompleter {
    ArgValueCompleter::new(|begun: &OsStr| that_begin(begun, profile::names().ok(), |name| name))
}

fn that_begin<T>(begun: &OsStr, all: Option<Vec<T>>, name: fn(T) -> String) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let names = all.unwrap_or_default().into_iter().map(name);
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Asks the cluster that the words on the command line mean.
fn ask<T>(question: impl AsyncFnOnce(Admin) -> Option<T>) -> Option<T> {
    let connect = connection()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async {
        let asked = async {
            let client = connect.quietly(&[]).ok()?.connect().await.ok()?;
            question(Admin::new(&client)).await
        };
        tokio::time::timeout(PATIENCE, asked).await.ok()?
    });
    // A name may still be looked up on a thread of its own.
    runtime.shutdown_background();
    answer
}

/// The options for the connection among the words so far, most of which are not complete.
fn connection() -> Option<Connect> {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let matches = Arguments::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let mut leaf = &matches;
    while let Some((_, below)) = leaf.subcommand() {
        leaf = below;
    }
    Connect::from_arg_matches(leaf).ok()
}
