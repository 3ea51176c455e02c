//! Groups are removed.

use std::{sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{DeleteGroupsRequest, DeleteGroupsResponse},
};

use crate::{
    Result,
    admin::{
        PerItem,
        coordinators::ask_coordinators,
        items::Answers,
        request::{awaited, check},
    },
    client::Shared,
    net::Connection,
};

/// A request of [`Admin::delete_groups`](crate::Admin::delete_groups).
///
/// # Errors
/// When no coordinator can be reached in time. Of one group: `NON_EMPTY_GROUP` while it has members,
/// `GROUP_ID_NOT_FOUND` when there is none of that name. A group may have been deleted all the same when no answer came:
/// after a retry inside the call, `GROUP_ID_NOT_FOUND` may mean that it was by this very request.
///
/// # Cancel safety
/// The groups may have been deleted when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteGroups {
    shared: Arc<Shared>,
    groups: Vec<String>,
    timeout: Option<Duration>,
}

impl DeleteGroups {
    pub(in crate::admin) fn new(shared: &Arc<Shared>, groups: Vec<String>) -> Self {
        Self { shared: shared.clone(), groups, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, ()>> {
        ask_coordinators(&self.shared, "delete groups", self.timeout, self.groups, delete).await
    }
}

async fn delete(connection: Connection, groups: Vec<String>, left: Duration) -> Result<Answers<String, ()>> {
    let version = connection.version::<DeleteGroupsRequest>(0..=i16::MAX)?;
    let groups_names = groups.iter().map(|group| Str::from(group.as_str())).collect();
    let response: DeleteGroupsResponse =
        connection.call(&DeleteGroupsRequest { groups_names }, version, left).await?;
    let answers = response.results.iter().map(|told| {
        let group = told.group_id.to_string();
        let outcome = check(told.error_code, told.error_message.as_ref(), || format!("delete group {group}"));
        (group, outcome)
    });
    Ok(answers.collect())
}

awaited! {
    DeleteGroups => PerItem<String, ()>,
}
