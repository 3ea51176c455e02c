//! `DescribeGroups`, `ListGroups` and `DeleteGroups`: what administrators ask of groups.

use std::collections::BTreeSet;

use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse,
};
use ottla_protocol::{ErrorCode, Str};

use super::group_wait::{GroupWait, Pending};
use crate::coordinator::{Answer, Ask};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};

/// A group that does not exist is an error; before, it was a dead one (KIP-1043).
const FIRST_DESCRIBE_WITH_NOT_FOUND: i16 = 6;

/// The operations on a group: read, delete, describe, describe and alter its configuration. Without authorization a
/// client may do everything.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(super) fn describe_groups(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: DescribeGroupsRequest,
) -> Outcome {
    let describe = |group: &Str| {
        let mut described = match node.describe_group(group) {
            Ok(described) => described,
            Err(ErrorCode::GROUP_ID_NOT_FOUND) => dead(exchange.version, group),
            Err(error_code) => {
                DescribedGroup { group_id: group.clone(), error_code, ..DescribedGroup::default() }
            }
        };
        if request.include_authorized_operations && described.error_code.is_ok() {
            described.authorized_operations = ALL_OPERATIONS;
        }
        described
    };
    let groups = request.groups.iter().map(describe).collect();
    let throttle_time_ms = exchange.throttle_time_ms;
    exchange.reply::<DescribeGroupsRequest>(&DescribeGroupsResponse { throttle_time_ms, groups })
}

fn dead(version: i16, group: &Str) -> DescribedGroup {
    let missing = version >= FIRST_DESCRIBE_WITH_NOT_FOUND;
    DescribedGroup {
        group_id: group.clone(),
        group_state: Str::from_static("Dead"),
        error_code: if missing { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
        error_message: missing.then(|| Str::from(format!("Group {group} not found."))),
        ..DescribedGroup::default()
    }
}

pub(super) fn list_groups(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: ListGroupsRequest,
) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let mut response = ListGroupsResponse { throttle_time_ms, ..ListGroupsResponse::default() };
    match node.list_groups() {
        Ok(groups) => {
            let states = Filter::new(&request.states_filter);
            let types = Filter::new(&request.types_filter);
            let wanted =
                |group: &ListedGroup| states.allows(&group.group_state) && types.allows(&group.group_type);
            response.groups = groups.into_iter().filter(wanted).collect();
        }
        Err(error_code) => response.error_code = error_code,
    }
    exchange.reply::<ListGroupsRequest>(&response)
}

/// Words of which a group must have one; no words allow everything.
struct Filter(BTreeSet<String>);

impl Filter {
    fn new(words: &[Str]) -> Self {
        Self(words.iter().map(|word| word.trim().to_lowercase()).collect())
    }

    fn allows(&self, word: &str) -> bool {
        self.0.is_empty() || self.0.contains(&word.to_lowercase())
    }
}

pub(super) fn delete_groups(
    _: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: DeleteGroupsRequest,
) -> Outcome {
    let mut seen = BTreeSet::new();
    let mut names = request.groups_names;
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() {
        return deleted(exchange, &mut names, Vec::new());
    }
    let asks = names.iter().map(|name| (name.clone(), Ask::DeleteGroup)).collect();
    Outcome::Wait(Waiting::Group(GroupWait::new(asks, Pending::DeleteGroups(names))))
}

pub(super) fn deleted(exchange: &Exchange, names: &mut Vec<Str>, answers: Vec<Answer>) -> Outcome {
    let result = |(group_id, answer): (Str, Answer)| DeletableGroupResult {
        group_id,
        error_code: answer.err().unwrap_or(ErrorCode::NONE),
        ..DeletableGroupResult::default()
    };
    let results = std::mem::take(names).into_iter().zip(answers).map(result).collect();
    let throttle_time_ms = exchange.throttle_time_ms;
    exchange.reply::<DeleteGroupsRequest>(&DeleteGroupsResponse { throttle_time_ms, results })
}
