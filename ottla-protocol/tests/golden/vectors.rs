//! Reads the vectors that `cargo xtask golden` writes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::any::Entry;

/// A message as Kafka's own code writes it.
pub(crate) struct Vector {
    pub(crate) version: i16,
    /// What it is filled with: `default`, `filled`, `nulls`, `empty`, `long`, or `tagged` with unknown tags.
    pub(crate) variant: String,
    pub(crate) bytes: Bytes,
    json: String,
}

impl Vector {
    /// What it holds, as Kafka's JSON converter says it.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap()
    }
}

/// What Kafka writes for the newest version's `filled` in each version; `None` where it refuses.
pub(crate) fn downgrades(entry: &Entry) -> Vec<(i16, Option<Bytes>)> {
    let lines = table(entry.name).into_iter().filter(|line| line[1] == "downgrade");
    lines.map(|line| (line[0].parse().unwrap(), (line[2] != "-").then(|| unhex(&line[2])))).collect()
}

/// The vectors of a message.
pub(crate) fn vectors(entry: &Entry) -> Vec<Vector> {
    let parse = |line: Vec<String>| {
        let [version, variant, hex, json] = line.try_into().unwrap();
        Vector { version: version.parse().unwrap(), variant, bytes: unhex(&hex), json }
    };
    table(entry.name).into_iter().filter(|line| line[1] != "downgrade").map(parse).collect()
}

/// The lines of a file, split at tabs.
pub(crate) fn table(name: &str) -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vectors");
    let file = File::open(folder.join(format!("{name}.gz"))).unwrap();
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    lines.map(|line| line.unwrap().split('\t').map(str::to_owned).collect()).collect()
}

pub(crate) fn unhex(hex: &str) -> Bytes {
    let digit = |letter: u8| char::from(letter).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
