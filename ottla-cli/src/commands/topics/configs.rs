//! `ottla topics configs`: what topics have as settings, and changing them.

use std::io::{self, Write};

use clap::Args;
use ottla::{
    Admin,
    admin::{ConfigChange, ConfigEntry, ConfigSource},
};
use serde_json::json;

use super::{setting, why_not};
use crate::{
    complete,
    output::{Failure, Failures, say},
    text::{each_once, table::Table},
};

#[derive(Debug, Args)]
pub(super) struct Configs {
    /// The topics.
    #[arg(required = true, value_name = "TOPIC", add = complete::topics())]
    topics: Vec<String>,
    /// Set a setting; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Take back what was set; may be repeated.
    #[arg(long, value_name = "NAME")]
    delete: Vec<String>,
    /// Add to a setting that is a list, as cleanup.policy=compact; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    append: Vec<(String, String)>,
    /// Take out of a setting that is a list; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    subtract: Vec<(String, String)>,
    /// Only say whether it would be changed.
    #[arg(long)]
    dry_run: bool,
    /// Print also what nobody has set.
    #[arg(long)]
    all: bool,
}

impl Configs {
    pub(super) async fn run(mut self, admin: &Admin, json: bool) -> Result<(), Failure> {
        self.topics = each_once(self.topics);
        let changes = self.changes();
        if changes.is_empty() {
            self.print(admin, json).await
        } else {
            self.change(admin, &changes, json).await
        }
    }

    fn changes(&self) -> Vec<ConfigChange> {
        let set = self.set.iter().map(|(name, value)| ConfigChange::set(name, value));
        let append = self.append.iter().map(|(name, value)| ConfigChange::append(name, value));
        let subtract = self.subtract.iter().map(|(name, value)| ConfigChange::subtract(name, value));
        set.chain(self.delete.iter().map(ConfigChange::delete)).chain(append).chain(subtract).collect()
    }

    async fn change(&self, admin: &Admin, changes: &[ConfigChange], json: bool) -> Result<(), Failure> {
        let mut request =
            admin.alter_topic_configs(self.topics.iter().map(|topic| (topic, changes.to_vec())));
        if self.dry_run {
            request = request.validate_only();
        }
        let mut failed = Failures::default();
        for (topic, result) in request.await? {
            match result {
                Ok(()) if json => {
                    writeln!(io::stdout(), "{}", json!({ "topic": topic, "changed": !self.dry_run }))?;
                }
                Ok(()) if self.dry_run => say(format_args!("{topic} would be changed")),
                Ok(()) => say(format_args!("changed {topic}")),
                Err(error) => failed.add_words(&topic, &why_not(admin, &topic, &error).await),
            }
        }
        failed.into_result()
    }

    async fn print(&self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let mut failed = Failures::default();
        let mut table = Table::new(&["TOPIC", "NAME", "VALUE", "SOURCE"]);
        let mut out = io::stdout();
        for (topic, result) in admin.describe_topic_configs(&self.topics).await? {
            let entries = match result {
                Ok(entries) => entries,
                Err(error) => {
                    failed.add_words(&topic, &why_not(admin, &topic, &error).await);
                    continue;
                }
            };
            for entry in entries.into_iter().filter(|entry| self.all || entry.source != ConfigSource::Default)
            {
                let (source, value) = (source(&entry), entry.value.clone());
                if json {
                    let line = json!({
                        "topic": topic, "name": entry.name, "value": value, "source": source,
                        "read_only": entry.read_only, "sensitive": entry.sensitive,
                    });
                    writeln!(out, "{line}")?;
                } else {
                    table.row([topic.clone(), entry.name, value.unwrap_or_default(), source]);
                }
            }
        }
        // Of what failed altogether there is nothing to head.
        if !json && (failed.are_none() || !table.is_empty()) {
            table.write(&mut out)?;
        }
        failed.into_result()
    }
}

fn source(entry: &ConfigEntry) -> String {
    match entry.source {
        ConfigSource::Topic => "topic".to_owned(),
        ConfigSource::DynamicBroker => "dynamic-broker".to_owned(),
        ConfigSource::DynamicDefaultBroker => "dynamic-default-broker".to_owned(),
        ConfigSource::StaticBroker => "static-broker".to_owned(),
        ConfigSource::Default => "default".to_owned(),
        ConfigSource::Other(number) => number.to_string(),
        _ => "other".to_owned(),
    }
}
