//! Fetches Java artifacts with Maven, once per set of versions.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, workspace};

/// The release whose message definitions and codec are the reference.
pub(crate) const KAFKA_CLIENTS: &str = "4.4.0";

/// A Java artifact and what it depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Artifact<'a> {
    /// `group:name:version`.
    pub(crate) coordinates: &'a str,
    /// `group:name` of dependencies to leave out.
    pub(crate) excluding: &'a [&'a str],
}

impl<'a> Artifact<'a> {
    pub(crate) const fn new(coordinates: &'a str) -> Self {
        Self { coordinates, excluding: &[] }
    }
}

/// The jar of `kafka-clients` with its dependencies, and Jackson, which its JSON converters need.
///
/// # Errors
///
/// When Maven fails.
pub(crate) fn kafka_clients() -> Result<PathBuf> {
    let clients = format!("org.apache.kafka:kafka-clients:{KAFKA_CLIENTS}");
    let artifacts = [
        Artifact::new(&clients),
        Artifact::new("com.fasterxml.jackson.core:jackson-databind:2.19.0"),
        // Else SLF4J complains that it has no logger.
        Artifact::new("org.slf4j:slf4j-nop:1.7.36"),
    ];
    resolve(&format!("clients-{KAFKA_CLIENTS}"), &artifacts)
}

/// The folder with the jars of `artifacts` and of all that they depend on: `target/kafka-jars/<name>`. Downloads nothing
/// if the folder was made from the same list.
///
/// # Errors
///
/// When Maven fails.
pub(crate) fn resolve(name: &str, artifacts: &[Artifact<'_>]) -> Result<PathBuf> {
    let folder = workspace::target().join("kafka-jars").join(name);
    let pom = pom(artifacts)?;
    let pom_file = folder.join("pom.xml");
    let complete = folder.join("complete");
    if complete.exists() && fs::read_to_string(&pom_file).is_ok_and(|existing| existing == pom) {
        return Ok(folder);
    }
    workspace::fresh_folder(&folder)?;
    fs::write(&pom_file, pom)?;
    eprintln!("fetching jars into {}", folder.display());
    workspace::run(
        Command::new("mvn")
            .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=."])
            .current_dir(&folder),
    )?;
    fs::write(complete, "")?;
    Ok(folder)
}

/// What goes behind `java -cp` to have all jars of a folder.
pub(crate) fn class_path(folder: &Path) -> String {
    folder.join("*").to_string_lossy().into_owned()
}

fn pom(artifacts: &[Artifact<'_>]) -> Result<String> {
    let mut pom = String::from(
        "<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId><artifactId>jars</artifactId>\
         <version>1</version><dependencies>\n",
    );
    for artifact in artifacts {
        let [group, name, version] = parts(artifact.coordinates)?;
        write!(
            pom,
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>"
        )?;
        for excluded in artifact.excluding {
            let [group, name] = parts(excluded)?;
            write!(
                pom,
                "<exclusions><exclusion><groupId>{group}</groupId><artifactId>{name}</artifactId></exclusion></exclusions>"
            )?;
        }
        pom.push_str("</dependency>\n");
    }
    pom.push_str("</dependencies></project>\n");
    Ok(pom)
}

fn parts<const N: usize>(coordinates: &str) -> Result<[&str; N]> {
    let parts: Vec<&str> = coordinates.split(':').collect();
    parts.try_into().map_err(|_| format!("not {N} parts: {coordinates}").into())
}
