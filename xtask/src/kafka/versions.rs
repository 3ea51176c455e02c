//! Which jars make which release.

use std::path::PathBuf;

use crate::Result;
use crate::jars::{self, Artifact};

/// Binds to the SLF4J 1.7 that Kafka 4 brings along.
const LOG4J_2: &str = "2.24.3";

/// The folder with all jars of a release's broker, and of its tools where they are published.
pub(super) fn libs(version: &str) -> Result<PathBuf> {
    let kafka = format!("org.apache.kafka:kafka_2.13:{version}");
    let tools = format!("org.apache.kafka:kafka-tools:{version}");
    let log4j =
        ["log4j-slf4j-impl", "log4j-core"].map(|name| format!("org.apache.logging.log4j:{name}:{LOG4J_2}"));
    let mut artifacts = Vec::new();
    if version.starts_with("3.") {
        artifacts.extend([Artifact::new(&kafka), Artifact::new(&tools)]);
        artifacts.extend(
            ["ch.qos.reload4j:reload4j:1.2.25", "org.slf4j:slf4j-reload4j:1.7.36"].map(Artifact::new),
        );
    } else {
        if version == "4.4.0" {
            // The registry has no tools of this release, and the broker runs without them.
            artifacts
                .push(Artifact { coordinates: &kafka, excluding: &["org.apache.kafka:kafka-tools-api"] });
        } else {
            artifacts.extend([Artifact::new(&kafka), Artifact::new(&tools)]);
        }
        artifacts.extend(log4j.iter().map(|name| Artifact::new(name)));
    }
    jars::resolve(&format!("kafka-{version}"), &artifacts)
}

/// What `group.coordinator.rebalance.protocols` allows at most.
pub(super) fn group_protocols(version: &str) -> &'static str {
    if version.starts_with("3.") { "classic,consumer" } else { "classic,consumer,streams,share" }
}

/// Logging to standard output, for either generation of log4j: the argument for Java, and the file it names.
pub(super) fn logging(version: &str) -> (&'static str, &'static str, &'static str) {
    if version.starts_with("3.") {
        (
            "-Dlog4j.configuration=file:",
            "log4j.properties",
            "log4j.rootLogger=INFO, stdout\n\
             log4j.appender.stdout=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.stdout.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n\n",
        )
    } else {
        (
            "-Dlog4j2.configurationFile=",
            "log4j2.properties",
            "status=error\n\
             appender.stdout.type=Console\n\
             appender.stdout.name=stdout\n\
             appender.stdout.layout.type=PatternLayout\n\
             appender.stdout.layout.pattern=[%d] %p %m (%c)%n\n\
             rootLogger.level=info\n\
             rootLogger.appenderRef.stdout.ref=stdout\n",
        )
    }
}
