//! `cargo xtask golden`: what Kafka's own code makes of every message, as the oracle of ottla-protocol's tests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::{Result, jars, protocol, workspace};

/// What `cargo xtask golden` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if the committed vectors are not what would be written
    #[arg(long)]
    check: bool,
}

/// Writes the vectors, or checks that they are up to date.
///
/// # Errors
///
/// When Java fails, or with `--check` when a vector differs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let vectors = workspace::target().join("protocol/vectors");
    workspace::fresh_folder(&vectors)?;
    let jars = jars::kafka_clients()?;
    workspace::run(
        Command::new("java")
            .args(["-cp", &jars::class_path(&jars)])
            .arg(workspace::root().join("xtask/java/Golden.java"))
            .arg(&vectors)
            .args(protocol::message_names()?),
    )?;
    let compressed = workspace::target().join("protocol/vectors.gz");
    let committed = workspace::root().join("ottla-protocol/tests/golden/vectors");
    compress(&vectors, &compressed, &committed)?;
    workspace::synchronize(&compressed, &committed, arguments.check)
}

/// Compresses each file, unless the committed one has the same content: another compressor makes other bytes of it.
fn compress(vectors: &Path, compressed: &Path, committed: &Path) -> Result<()> {
    workspace::fresh_folder(compressed)?;
    for entry in fs::read_dir(vectors)? {
        let path = entry?.path();
        let text = fs::read(&path)?;
        let name = format!("{}.gz", path.file_name().unwrap_or_default().to_string_lossy());
        let existing = fs::read(committed.join(&name)).unwrap_or_default();
        let mut existing_text = Vec::new();
        let readable = GzDecoder::new(existing.as_slice()).read_to_end(&mut existing_text).is_ok();
        let bytes = if readable && existing_text == text {
            existing
        } else {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&text)?;
            encoder.finish()?
        };
        fs::write(compressed.join(name), bytes)?;
    }
    Ok(())
}
