//! More partitions for topics that exist (KIP-195).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
    },
};

use super::{
    PerItem,
    controller::ask_controller,
    items::Answers,
    request::{awaited, check},
    topics::broker_timeout,
};
use crate::{Result, client::Shared, net::Connection};

/// A request of [`Admin::create_partitions`](super::Admin::create_partitions).
///
/// # Errors
/// When the controller cannot be reached in time. The partitions may have been created all the same.
///
/// # Cancel safety
/// The partitions may have been created when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct CreatePartitions {
    shared: Arc<Shared>,
    totals: Vec<(String, i32)>,
    timeout: Option<Duration>,
    validate_only: bool,
}

impl CreatePartitions {
    pub(super) fn new(shared: &Arc<Shared>, totals: Vec<(String, i32)>) -> Self {
        Self { shared: shared.clone(), totals, timeout: None, validate_only: false }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Only says whether it would be done.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }

    async fn run(self) -> Result<PerItem<String, ()>> {
        let topics = self.totals.iter().map(|(topic, _)| topic.clone()).collect();
        let totals: &BTreeMap<_, _> =
            &self.totals.iter().map(|(topic, total)| (topic.as_str(), *total)).collect();
        let validate_only = self.validate_only;
        let ask = |connection, open: Vec<String>, left| async move {
            let topic = |topic: &String| CreatePartitionsTopic {
                name: Str::from(topic.as_str()),
                count: totals.get(topic.as_str()).copied().unwrap_or_default(),
                assignments: None,
            };
            let topics = open.iter().map(topic).collect();
            let request = CreatePartitionsRequest { topics, timeout_ms: broker_timeout(left), validate_only };
            create(connection, request, left).await
        };
        let done = ask_controller(&self.shared, "create partitions", self.timeout, topics, ask).await;
        self.shared.metadata.refresh();
        done
    }
}

async fn create(
    connection: Connection,
    request: CreatePartitionsRequest,
    left: Duration,
) -> Result<Answers<String, ()>> {
    let version = connection.version::<CreatePartitionsRequest>(0..=i16::MAX)?;
    let response: CreatePartitionsResponse = connection.call(&request, version, left).await?;
    let answers = response.results.iter().map(|told| {
        let what = || format!("create partitions of topic {}", told.name);
        (told.name.to_string(), check(told.error_code, told.error_message.as_ref(), what))
    });
    Ok(answers.collect())
}

awaited! {
    CreatePartitions => PerItem<String, ()>,
}
