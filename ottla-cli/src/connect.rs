//! The options that every command has that talks to a cluster.

use std::path::PathBuf;

use clap::Args;
use ottla::{Client, Properties};

use crate::output::{Failure, say};

/// Where the cluster is, and how to talk to it.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// Brokers to start from, comma separated.
    #[arg(
        long,
        short = 'b',
        global = true,
        value_name = "HOST:PORT,…",
        env = "OTTLA_BOOTSTRAP_SERVERS",
        default_value = "localhost:9092",
        value_delimiter = ','
    )]
    bootstrap_server: Vec<String>,

    /// A client.properties file with Java's names; unknown keys are warned of.
    #[arg(long, global = true, value_name = "FILE")]
    command_config: Option<PathBuf>,
}

impl Connect {
    /// A client that has answered once: a wrong address fails here and not in the middle of the work.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        self.client_of(&self.bootstrap_server).await
    }

    /// The same, of brokers that are given otherwise.
    pub(crate) async fn client_of(&self, servers: &[String]) -> Result<Client, Failure> {
        let mut builder = Client::builder().client_id("ottla-cli");
        if let Some(file) = &self.command_config {
            let properties = Properties::load(file)?;
            for warning in properties.warnings() {
                say(format_args!("ottla: {warning}"));
            }
            builder = builder.properties(properties);
        }
        Ok(builder.bootstrap_servers(servers.iter().cloned()).connect().await?)
    }
}
