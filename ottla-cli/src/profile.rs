//! Profiles: properties files that have a name, in one directory.

use std::{env, ffi::OsString, fs, io, path::PathBuf};

use ottla::Properties;

use crate::output::Failure;

const EXTENSION: &str = "properties";
/// The profile that is used when none is named.
const DEFAULT: &str = "default";

/// A variable of the environment; an empty one is as good as none.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Where profiles are; none where there is no home.
pub(crate) fn directory() -> Option<PathBuf> {
    let path = |name: &str| variable(name).map(PathBuf::from);
    path("OTTLA_CONFIG_DIR")
        .or_else(|| Some(path("XDG_CONFIG_HOME").or_else(|| path("APPDATA"))?.join("ottla")))
        .or_else(|| Some(path("HOME")?.join(".config").join("ottla")))
}

/// The names of all profiles, in order.
pub(crate) fn names() -> Result<Vec<String>, Failure> {
    let Some(directory) = directory() else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.map_err(|error| Failure::new(format!("cannot read {}: {error}", directory.display())))?
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|error| Failure::new(format!("cannot read {}: {error}", directory.display())))?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a profile: that one, or the default if there is one.
pub(crate) fn load(name: Option<&str>) -> Result<Option<Properties>, Failure> {
    let file = |name: &str| Some(directory()?.join(format!("{name}.{EXTENSION}")));
    match name {
        // A name leads to no other directory.
        Some(name) if name.is_empty() || name.contains(['/', '\\']) => Err(Failure::usage(format!(
            "--profile: {name:?} is no name; a file is read with --command-config"
        ))),
        Some(name) => match file(name).filter(|file| file.exists()) {
            Some(file) => Ok(Some(Properties::load(file)?)),
            None => Err(Failure::usage(unknown(name)?)),
        },
        None => match file(DEFAULT).filter(|file| file.exists()) {
            Some(file) => Ok(Some(Properties::load(file)?)),
            None => Ok(None),
        },
    }
}

fn unknown(name: &str) -> Result<String, Failure> {
    let names = names()?;
    let there_is = if names.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Ok(match directory() {
        Some(directory) => {
            format!("--profile: there is no {name}.{EXTENSION} in {}; {there_is}", directory.display())
        }
        None => format!("--profile: no directory for {name}: set OTTLA_CONFIG_DIR"),
    })
}
