//! Which groups there are.

use std::{sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup},
};

use super::{GroupState, GroupType};
use crate::{
    Error, Result,
    admin::{
        metadata::ask_brokers,
        request::{awaited, check},
        retry::Retry,
    },
    client::Shared,
    net::{Lane, join_all},
};

/// From here on groups can be chosen by state (KIP-518).
const BY_STATE: i16 = 4;
/// From here on groups can be chosen by type (KIP-848).
const BY_TYPE: i16 = 5;

/// A group of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// The name.
    pub group: String,
    /// What its members have in common: `consumer` for consumers; empty for a group that has offsets and never had
    /// members.
    pub protocol_type: String,
    /// What it does; none from brokers before Kafka 2.6.
    pub state: Option<GroupState>,
    /// What its members speak; none from brokers before Kafka 3.8.
    pub group_type: Option<GroupType>,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// The groups that were found.
#[derive(Debug, Clone)]
#[must_use = "some brokers may not have answered"]
pub struct ListedGroups {
    /// Ordered by name.
    pub groups: Vec<GroupListing>,
    /// The brokers that did not tell what they coordinate, and why: groups of theirs are missing.
    pub failed: Vec<(i32, Error)>,
}

impl ListedGroups {
    /// Every group, if every broker answered.
    ///
    /// # Errors
    /// That of the first broker that did not.
    pub fn all(self) -> Result<Vec<GroupListing>> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.groups),
        }
    }
}

/// A request of [`Admin::list_groups`](crate::Admin::list_groups). Asks every broker for the groups that it coordinates.
///
/// # Errors
/// When no broker answers in time. One that does not answer while others do is in [`ListedGroups::failed`].
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct ListGroups {
    shared: Arc<Shared>,
    states: Vec<GroupState>,
    types: Vec<GroupType>,
    timeout: Option<Duration>,
}

impl ListGroups {
    pub(in crate::admin) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), states: Vec::new(), types: Vec::new(), timeout: None }
    }

    /// Only groups in one of these states. Brokers before Kafka 2.6 cannot tell, and are
    /// [`Incompatible`](crate::ErrorKind::Incompatible) then.
    pub fn in_states(mut self, states: impl IntoIterator<Item = GroupState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Only groups of one of these types. Brokers before Kafka 3.8 cannot tell, and are
    /// [`Incompatible`](crate::ErrorKind::Incompatible) then.
    pub fn with_types(mut self, types: impl IntoIterator<Item = GroupType>) -> Self {
        self.types = types.into_iter().collect();
        self
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<ListedGroups> {
        let mut retry = Retry::new(&self.shared, "list groups", self.timeout);
        let brokers = ask_brokers(&mut retry).await?;
        let ask = |node: i32| {
            let (this, retry) = (&self, retry.for_another());
            async move { (node, this.ask_until_answered(node, retry).await) }
        };
        let mut listed = ListedGroups { groups: Vec::new(), failed: Vec::new() };
        let answers = join_all(brokers.into_iter().map(ask)).await;
        let all = answers.len();
        for (node, answer) in answers {
            match answer {
                Ok(groups) => listed.groups.extend(groups),
                Err(error) => listed.failed.push((node, error)),
            }
        }
        match listed.failed.first() {
            Some((_, error)) if listed.failed.len() == all => Err(error.clone()),
            _ => {
                listed.groups.sort_by(|a, b| a.group.cmp(&b.group));
                // A group that moved meanwhile was told of by both.
                listed.groups.dedup_by(|a, b| a.group == b.group);
                Ok(listed)
            }
        }
    }

    async fn ask_until_answered(&self, node: i32, mut retry: Retry<'_>) -> Result<Vec<GroupListing>> {
        loop {
            match retry.bound(self.ask(node, retry.left())).await {
                Err(error) if error.is_retriable() => retry.pause(error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn ask(&self, node: i32, left: Duration) -> Result<Vec<GroupListing>> {
        let connection = self.shared.brokers.connection(node, Lane::Admin).await?;
        let oldest = match (self.types.is_empty(), self.states.is_empty()) {
            (false, _) => BY_TYPE,
            (true, false) => BY_STATE,
            (true, true) => 0,
        };
        let version = connection.version::<ListGroupsRequest>(oldest..=i16::MAX)?;
        let request = ListGroupsRequest {
            states_filter: self.states.iter().map(|state| Str::from(state.as_str())).collect(),
            types_filter: self.types.iter().map(|kind| Str::from(kind.as_str())).collect(),
        };
        let response: ListGroupsResponse = connection.call(&request, version, left).await?;
        check(response.error_code, None, || format!("list the groups of broker {node}"))?;
        Ok(response.groups.iter().map(|told| listing(node, told)).collect())
    }
}

fn listing(coordinator: i32, told: &ListedGroup) -> GroupListing {
    GroupListing {
        group: told.group_id.to_string(),
        protocol_type: told.protocol_type.to_string(),
        state: Some(&*told.group_state).filter(|word| !word.is_empty()).map(GroupState::from),
        group_type: Some(&*told.group_type).filter(|word| !word.is_empty()).map(GroupType::from),
        coordinator,
    }
}

awaited! {
    ListGroups => ListedGroups,
}
