//! `cargo xtask protocol`: Kafka's message definitions become Rust.

mod codec;
mod condition;
mod emit;
mod emit_json;
mod fields;
mod names;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, jars, workspace};
use schema::{Kind, Message};

/// What `cargo xtask protocol` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if the committed files are not what would be generated
    #[arg(long)]
    check: bool,
}

/// Share-group state travels between brokers, though it is sent to a broker's listener.
const BETWEEN_BROKERS: std::ops::RangeInclusive<i16> = 83..=87;

/// What is neither request nor response and is needed nevertheless.
const DATA: [&str; 5] = [
    "AbortedTxn",
    "ConsumerProtocolAssignment",
    "ConsumerProtocolSubscription",
    "ControlRecordTypeSchema",
    "EndTxnMarker",
];

/// Generates the messages, or checks that they are up to date.
///
/// # Errors
///
/// When the definitions cannot be had or understood, or with `--check` when a file differs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all = schema::read_folder(&definitions()?)?;
    let wanted = select(&all);
    let messages: Vec<(String, String)> = std::iter::once(("mod".to_owned(), emit::index(&wanted, &all)))
        .chain(wanted.iter().map(|message| (names::snake(&message.name), emit::message(message, &all))))
        .collect();
    let protocol = workspace::root().join("ottla-protocol");
    write_formatted("messages", &messages, &protocol.join("src/messages"), arguments.check)?;
    let tests = [("mod".to_owned(), emit_json::module(&wanted))];
    write_formatted("tests", &tests, &protocol.join("tests/golden/generated"), arguments.check)
}

/// The names of the messages that are generated.
///
/// # Errors
///
/// When the definitions cannot be had or understood.
pub(crate) fn message_names() -> Result<Vec<String>> {
    let all = schema::read_folder(&definitions()?)?;
    Ok(select(&all).into_iter().map(|message| message.name.clone()).collect())
}

fn write_formatted(name: &str, files: &[(String, String)], committed: &Path, check: bool) -> Result<()> {
    let folder = workspace::target().join("protocol").join(name);
    workspace::fresh_folder(&folder)?;
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = folder.join(format!("{name}.rs"));
        fs::write(&path, text)?;
        paths.push(path);
    }
    let config = workspace::root().join("rustfmt.toml");
    workspace::run(Command::new("rustfmt").arg("--config-path").arg(config).args(&paths))?;
    workspace::synchronize(&folder, committed, check)
}

/// The folder with the definitions, extracted from the jar.
fn definitions() -> Result<PathBuf> {
    let jars = jars::kafka_clients()?;
    let folder = jars.join("definitions");
    if !folder.exists() {
        let extracted = jars.join("extracted");
        workspace::fresh_folder(&extracted)?;
        let jar = jars.join(format!("kafka-clients-{}.jar", jars::KAFKA_CLIENTS));
        workspace::run(Command::new("jar").arg("xf").arg(jar).arg("common/message").current_dir(&extracted))?;
        fs::rename(extracted.join("common/message"), &folder)?;
    }
    Ok(folder)
}

/// The messages that clients, admins and the embedded broker need.
fn select(all: &[Message]) -> Vec<&Message> {
    let serves_clients = |message: &Message| match message.kind {
        Kind::Request(key) => {
            message.listeners.iter().any(|listener| listener == "broker") && !BETWEEN_BROKERS.contains(&key)
        }
        Kind::Response(_) | Kind::Other => false,
    };
    let keys: Vec<i16> =
        all.iter().filter(|message| serves_clients(message)).filter_map(Message::api_key).collect();
    all.iter()
        .filter(|message| match message.api_key() {
            Some(key) => keys.contains(&key),
            None => DATA.contains(&message.name.as_str()),
        })
        .collect()
}
