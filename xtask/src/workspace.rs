//! Where things are, and running other programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Cargo's folder for what is built.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a program to its end.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}").into()) }
}

/// An empty folder: what was in it is removed.
///
/// # Errors
///
/// When it cannot be emptied or created.
pub(crate) fn fresh_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    Ok(())
}

/// Brings `committed` up to date with `generated`, a folder of files; or, if `check`, only says which files differ.
///
/// # Errors
///
/// When files cannot be read or written, or differ and `check` is set.
pub(crate) fn synchronize(generated: &Path, committed: &Path, check: bool) -> Result<()> {
    let new = file_names(generated)?;
    let mut stale = Vec::new();
    for name in &new {
        let content = fs::read(generated.join(name))?;
        let target = committed.join(name);
        if fs::read(&target).is_ok_and(|existing| existing == content) {
            continue;
        }
        stale.push(target.clone());
        if !check {
            fs::create_dir_all(committed)?;
            fs::write(target, content)?;
        }
    }
    for name in file_names(committed)?.into_iter().filter(|name| !new.contains(name)) {
        let target = committed.join(name);
        if !check {
            fs::remove_file(&target)?;
        }
        stale.push(target);
    }
    for path in &stale {
        println!("{}: {}", if check { "differs" } else { "updated" }, path.display());
    }
    if check && !stale.is_empty() {
        return Err(format!("{} generated files differ: run this without --check", stale.len()).into());
    }
    println!("{}: {} files, {} changed", committed.display(), new.len(), stale.len());
    Ok(())
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if folder.exists() {
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
