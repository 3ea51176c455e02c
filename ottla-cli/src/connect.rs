//! The options that every command has that talks to a cluster.

use std::path::PathBuf;

use clap::Args;
use ottla::{Client, ClientBuilder, Properties, config::Warning};

use crate::{
    bounds, complete,
    output::{Failure, say},
    profile::{self, variable},
};

/// What these options are listed under. Each says it for itself: one that is said for a whole struct stays in force for
/// the options of the command that it is flattened into.
pub(crate) const HEADING: &str = "Connection";

/// Variables of the environment that stand for options.
const PROFILE: &str = "OTTLA_PROFILE";
const SERVERS: &str = "OTTLA_BOOTSTRAP_SERVERS";

/// What this command has for what nobody says.
const OWN: &[&[(&str, &str)]] = &[&[("client.id", "ottla-cli")], &[("bootstrap.servers", "localhost:9092")]];
/// Where it comes from.
const OURS: &str = "ottla's default";

/// Where the cluster is, and how to talk to it. What stands further down in this list wins over what is above:
/// the profile, the file, single settings, the brokers.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// A named properties file; see `ottla profiles`. The one called `default` is read when there is one. [env:
    /// OTTLA_PROFILE]
    #[arg(long, global = true, help_heading = HEADING, value_name = "NAME", add = complete::profiles())]
    profile: Option<String>,

    /// A client.properties file with Java's or librdkafka's names; unknown keys are warned of.
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    command_config: Option<PathBuf>,

    /// One setting by its Java or librdkafka name, as linger.ms=20; may be repeated.
    #[arg(long = "property", short = 'X', global = true, help_heading = HEADING, value_name = "KEY=VALUE", value_parser = setting)]
    properties: Vec<(String, String)>,

    /// Brokers to start from, comma separated; localhost:9092 if nothing says where. [env: OTTLA_BOOTSTRAP_SERVERS]
    #[arg(
        long,
        short = 'b',
        global = true,
        help_heading = HEADING,
        value_name = "HOST:PORT,…",
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

    /// The same, of brokers that the option of that name gives.
    pub(crate) async fn client_of(&self, servers: &[String], option: &str) -> Result<Client, Failure> {
        let servers = Properties::from_iter([("bootstrap.servers", servers.join(","))]).called(option);
        Ok(self.builder()?.properties(servers).connect().await?)
    }

    /// The same, with settings of the command's own: those of a line hold where nothing is said of any of them.
    pub(crate) async fn client_unless_said(&self, defaults: &[&[(&str, &str)]]) -> Result<Client, Failure> {
        Ok(self.assemble(defaults, warn)?.connect().await?)
    }

    /// A client as it is configured, which has asked nobody yet.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        self.assemble(&[], warn)
    }

    /// The same with settings of a command's own, and without a word about settings that have no effect.
    pub(crate) fn quietly(&self, defaults: &[&[(&str, &str)]]) -> Result<ClientBuilder, Failure> {
        self.assemble(defaults, |_| {})
    }

    /// What is said of a setting, wherever it is said.
    pub(crate) fn said_of(&self, key: &str) -> Result<Option<String>, Failure> {
        let said = self.said()?;
        Ok(said.iter().rev().find_map(|properties| properties.get(key)).map(str::to_owned))
    }

    /// What `-X` says of a setting.
    pub(crate) fn single(&self, key: &str) -> Option<String> {
        self.singles().get(key).map(str::to_owned)
    }

    fn assemble(
        &self,
        defaults: &[&[(&str, &str)]],
        warn: impl Fn(&Warning),
    ) -> Result<ClientBuilder, Failure> {
        let said = self.said()?;
        let is_said = |key: &str| said.iter().any(|properties| properties.get(key).is_some());
        let bound = [("default.api.timeout.ms", bounds::API.as_millis().to_string())];
        let mut builder = Client::builder().properties(Properties::from_iter(bound).called(OURS));
        for line in OWN.iter().chain(defaults) {
            if !line.iter().any(|(key, _)| is_said(key)) {
                builder = builder.properties(Properties::from_iter(line.iter().copied()).called(OURS));
            }
        }
        for properties in said {
            properties.warnings().iter().for_each(&warn);
            builder = builder.properties(properties);
        }
        Ok(builder)
    }

    /// What is said, the most specific last.
    fn said(&self) -> Result<Vec<Properties>, Failure> {
        let name = self.profile.clone().or_else(|| variable(PROFILE)?.into_string().ok());
        let profile = profile::load(name.as_deref())?;
        let file = self.command_config.as_ref().map(Properties::load).transpose()?;
        Ok(profile.into_iter().chain(file).chain([self.singles()]).chain(self.servers()).collect())
    }

    fn singles(&self) -> Properties {
        Properties::from_iter(self.properties.iter().cloned()).called("-X")
    }

    fn servers(&self) -> Option<Properties> {
        let (servers, origin) = match self.bootstrap_server.as_slice() {
            [] => (variable(SERVERS)?.into_string().ok()?, SERVERS),
            servers => (servers.join(","), "--bootstrap-server"),
        };
        Some(Properties::from_iter([("bootstrap.servers", servers)]).called(origin))
    }
}

fn warn(warning: &Warning) {
    say(format_args!("ottla: {warning}"));
}
