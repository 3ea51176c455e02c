//! `JoinGroup`, `SyncGroup`, `Heartbeat` and `LeaveGroup`: what the members of a group say.

use std::fmt::Write as _;
use std::time::Duration;

use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use ottla_protocol::{ErrorCode, Str};

use super::group_wait::{GroupWait, Pending, error};
use crate::coordinator::{Answer, Ask, Join, Reply};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};

/// Members have to come back with the id that they are given (KIP-394).
const FIRST_JOIN_WITH_KNOWN_ID: i16 = 4;

/// There may be no protocol in the answer.
const FIRST_JOIN_WITHOUT_PROTOCOL: i16 = 7;

/// A leader may be told to skip the assignment (KIP-814).
const FIRST_JOIN_WITHOUT_ASSIGNMENT: i16 = 9;

/// Members say which protocol they mean (KIP-559).
const FIRST_SYNC_WITH_PROTOCOL: i16 = 5;

/// Several members may leave at once (KIP-345).
const FIRST_LEAVE_OF_MANY: i16 = 3;

pub(super) fn join_group(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    mut request: JoinGroupRequest,
) -> Outcome {
    node.watch_join(&request);
    let limits = node.config.groups.min_session_timeout..=node.config.groups.max_session_timeout;
    let session = Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or(0));
    let refused = |error_code| {
        let member_id = request.member_id.clone();
        joined(exchange, Ok(Reply::Join(JoinGroupResponse { error_code, member_id, ..Default::default() })))
    };
    if request.group_id.is_empty() {
        return refused(ErrorCode::INVALID_GROUP_ID);
    }
    if !limits.contains(&session) {
        return refused(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    if exchange.version == 0 {
        // The one timeout was for both.
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let client_id = exchange.client_id.clone();
    let prefix = request.group_instance_id.as_ref().unwrap_or(&client_id);
    let join = Join {
        new_member_id: Str::from(format!("{prefix}-{}", uuid(node.rng.uuid()))),
        client_id,
        client_host: Str::from(format!("/{}", exchange.client_host)),
        id_required: exchange.version >= FIRST_JOIN_WITH_KNOWN_ID,
        may_skip_assignment: exchange.version >= FIRST_JOIN_WITHOUT_ASSIGNMENT,
        request,
    };
    let ask = (join.request.group_id.clone(), Ask::Join(Box::new(join)));
    Outcome::Wait(Waiting::Group(GroupWait::new(vec![ask], Pending::Join)))
}

pub(super) fn joined(exchange: &Exchange, answer: Answer) -> Outcome {
    let mut response = match answer {
        Ok(Reply::Join(response)) => response,
        other => JoinGroupResponse { error_code: error(&other), ..JoinGroupResponse::default() },
    };
    response.throttle_time_ms = exchange.throttle_time_ms;
    if exchange.version < FIRST_JOIN_WITHOUT_PROTOCOL {
        response.protocol_name.get_or_insert_default();
    }
    exchange.reply::<JoinGroupRequest>(&response)
}

pub(super) fn sync_group(_: &mut Node, _: Now, exchange: &Exchange, request: SyncGroupRequest) -> Outcome {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if exchange.version >= FIRST_SYNC_WITH_PROTOCOL && !named {
        return synced(exchange, Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    }
    if request.group_id.is_empty() {
        return synced(exchange, Err(ErrorCode::INVALID_GROUP_ID));
    }
    let ask = (request.group_id.clone(), Ask::Sync(request));
    Outcome::Wait(Waiting::Group(GroupWait::new(vec![ask], Pending::Sync)))
}

pub(super) fn synced(exchange: &Exchange, answer: Answer) -> Outcome {
    let mut response = match answer {
        Ok(Reply::Sync(response)) => response,
        other => SyncGroupResponse { error_code: error(&other), ..SyncGroupResponse::default() },
    };
    response.throttle_time_ms = exchange.throttle_time_ms;
    exchange.reply::<SyncGroupRequest>(&response)
}

pub(super) fn heartbeat(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: HeartbeatRequest,
) -> Outcome {
    let error_code = if request.group_id.is_empty() {
        ErrorCode::INVALID_GROUP_ID
    } else {
        node.group_heartbeat(now, &request)
    };
    if matches!(error_code, ErrorCode::NONE | ErrorCode::REBALANCE_IN_PROGRESS) {
        node.watch_heartbeat(now, exchange, &request);
    }
    let throttle_time_ms = exchange.throttle_time_ms;
    exchange.reply::<HeartbeatRequest>(&HeartbeatResponse { throttle_time_ms, error_code })
}

pub(super) fn leave_group(
    _: &mut Node,
    _: Now,
    exchange: &Exchange,
    mut request: LeaveGroupRequest,
) -> Outcome {
    if request.group_id.is_empty() {
        return left(exchange, Err(ErrorCode::INVALID_GROUP_ID));
    }
    if exchange.version < FIRST_LEAVE_OF_MANY {
        let member_id = request.member_id.clone();
        request.members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
    }
    let ask = (request.group_id.clone(), Ask::Leave(request));
    Outcome::Wait(Waiting::Group(GroupWait::new(vec![ask], Pending::Leave)))
}

pub(super) fn left(exchange: &Exchange, answer: Answer) -> Outcome {
    let mut response = match answer {
        Ok(Reply::Leave(response)) => response,
        other => LeaveGroupResponse { error_code: error(&other), ..LeaveGroupResponse::default() },
    };
    response.throttle_time_ms = exchange.throttle_time_ms;
    if exchange.version < FIRST_LEAVE_OF_MANY
        && let Some(only) = std::mem::take(&mut response.members).first()
        && response.error_code.is_ok()
    {
        response.error_code = only.error_code;
    }
    exchange.reply::<LeaveGroupRequest>(&response)
}

/// As Java writes a `UUID`.
fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn uuids_are_written_as_java_writes_them() {
        let bytes = *b"\x12\x3e\x45\x67\xe8\x9b\x42\xd3\xa4\x56\x42\x66\x14\x17\x40\x00";
        assert_eq!(uuid(bytes), "123e4567-e89b-42d3-a456-426614174000");
    }
}
