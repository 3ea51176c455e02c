//! The options that every command has that talks to a cluster.

use std::path::PathBuf;

use clap::Args;
use ottla::{Client, ClientBuilder, Properties, config::Warning};

use crate::{
    bounds, complete,
    output::{Failure, say},
    profile,
};

const DEFAULT_SERVERS: &str = "localhost:9092";

/// Where the cluster is, and how to talk to it. What stands further down in this list wins over what is above:
/// the profile, the file, single settings, the brokers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// A named properties file; see `ottla profiles`. The one called `default` is read when there is one.
    #[arg(long, global = true, value_name = "NAME", env = "OTTLA_PROFILE", hide_env_values = true, add = complete::profiles())]
    profile: Option<String>,

    /// A client.properties file with Java's or librdkafka's names; unknown keys are warned of.
    #[arg(long, global = true, value_name = "FILE")]
    command_config: Option<PathBuf>,

    /// One setting by its Java or librdkafka name, as linger.ms=20; may be repeated.
    #[arg(long = "property", short = 'X', global = true, value_name = "KEY=VALUE", value_parser = setting)]
    properties: Vec<(String, String)>,

    /// Brokers to start from, comma separated; localhost:9092 if nothing says where.
    #[arg(
        long,
        short = 'b',
        global = true,
        value_name = "HOST:PORT,…",
        env = "OTTLA_BOOTSTRAP_SERVERS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    bootstrap_server: Vec<String>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("use KEY=VALUE, as in linger.ms=20".into()),
    }
}

impl Connect {
    /// A client that has answered once: a wrong address fails here and not in the middle of the work.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(self.builder()?.connect().await?)
    }

    /// The same, of brokers that are given otherwise.
    pub(crate) async fn client_of(&self, servers: &[String]) -> Result<Client, Failure> {
        Ok(self.builder()?.bootstrap_servers(servers.iter().cloned()).connect().await?)
    }

    /// The same, with settings of the command's own: those of a line hold where nothing is said of any of them.
    pub(crate) async fn client_unless_said(&self, defaults: &[&[(&str, &str)]]) -> Result<Client, Failure> {
        Ok(self.builder_over(defaults)?.connect().await?)
    }

    /// A client as it is configured, which has asked nobody yet.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        self.builder_over(&[])
    }

    /// The same without a word about settings that have no effect; nothing if they cannot be used.
    pub(crate) fn quietly(&self) -> Option<ClientBuilder> {
        self.assemble(&[], |_| {}).ok()
    }

    fn builder_over(&self, defaults: &[&[(&str, &str)]]) -> Result<ClientBuilder, Failure> {
        self.assemble(defaults, |warning| say(format_args!("ottla: {warning}")))
    }

    fn assemble(
        &self,
        defaults: &[&[(&str, &str)]],
        warn: impl Fn(&Warning),
    ) -> Result<ClientBuilder, Failure> {
        let mut builder = Client::builder().client_id("ottla-cli").bootstrap_servers([DEFAULT_SERVERS]);
        builder = builder.default_api_timeout(bounds::API);
        let profile = profile::load(self.profile.as_deref())?;
        let file = self.command_config.as_ref().map(Properties::load).transpose()?;
        let single = Properties::from_iter(self.properties.iter().cloned());
        let said: Vec<_> = profile.into_iter().chain(file).chain([single]).collect();
        for line in defaults {
            if !line.iter().any(|(key, _)| said.iter().any(|properties| properties.get(key).is_some())) {
                builder = builder.properties(Properties::from_iter(line.iter().copied()));
            }
        }
        for properties in said {
            properties.warnings().iter().for_each(&warn);
            builder = builder.properties(properties);
        }
        if !self.bootstrap_server.is_empty() {
            builder = builder.bootstrap_servers(self.bootstrap_server.iter().cloned());
        }
        Ok(builder)
    }
}
