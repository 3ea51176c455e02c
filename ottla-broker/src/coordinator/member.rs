//! A member of a group.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::Str;
use ottla_protocol::messages::describe_groups_response::DescribedGroupMember;

use super::Ticket;
use super::records::MemberValue;

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Str,
    /// `group.instance.id` of a static member (KIP-345).
    pub(super) instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// What it can speak, the preferred first.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Its `JoinGroup` that waits for the rebalance.
    pub(super) joining: Option<Ticket>,
    /// Its `SyncGroup` that waits for the leader's assignment.
    pub(super) syncing: Option<Ticket>,
    /// It has joined for the first time and was not answered yet: it cannot send heartbeats.
    pub(super) is_new: bool,
    /// When its session ends.
    pub(super) expires: Option<Instant>,
}

/// By what a member is known.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) member_id: Str,
    /// `group.instance.id` of a static member (KIP-345).
    pub(crate) instance_id: Option<Str>,
}

/// A protocol (an assignor, for consumers) and what the member says in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: Str,
    pub(super) metadata: Bytes,
}

impl Member {
    /// The member as it was written, with the one protocol that the group had chosen.
    pub(super) fn loaded(value: MemberValue, protocol: Option<&Str>) -> Self {
        let metadata = value.subscription;
        Self {
            id: value.member_id,
            instance_id: value.instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocol.map(|name| Protocol { name: name.clone(), metadata }).into_iter().collect(),
            assignment: value.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            expires: None,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { member_id: self.id.clone(), instance_id: self.instance_id.clone() }
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| *known.name == *protocol)
    }

    /// What it says in that protocol.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|known| Some(&*known.name) == protocol);
        found.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    /// Whether the end of its session does not matter, because it waits for the coordinator.
    pub(super) fn is_kept_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn session_timeout(&self) -> Duration {
        milliseconds(self.session_timeout_ms)
    }

    /// The member as it is written, with the assignment that it is to have.
    pub(super) fn value(&self, protocol: Option<&str>, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// The member as administrators see it; its metadata only between rebalances.
    pub(super) fn described(&self, protocol: Option<&str>) -> DescribedGroupMember {
        DescribedGroupMember {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            member_metadata: self.metadata(protocol),
            member_assignment: self.assignment.clone(),
        }
    }
}

/// A time that a client has named; none is negative.
pub(super) fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
