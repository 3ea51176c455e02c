//! A classic group: Kafka's `ClassicGroup`.
//!
//! ```text
//!              a member joins                          all have joined, or the rebalance timeout is over
//!   Empty ────────────────────► PreparingRebalance ─────────────────────────────────► CompletingRebalance
//!     ▲                           ▲   │      ▲                                               │     │
//!     │  nobody has joined        │   │      │  a member joins, leaves or fails              │     │
//!     └───────────────────────────┼───┘      └───────────────────────────────────────────────┘     │
//!                                 │                                                                │
//!                                 │ a member joins, leaves, fails or     the leader's assignment   │
//!                                 │ has other metadata                   is written                │
//!                                 └───────────────────── Stable ◄──────────────────────────────────┘
//!
//!   Dead: the group was deleted, or its partition is led elsewhere. A dead group is not kept.
//! ```
//!
//! This file holds the state and its invariants; `join`, `sync` and `session` hold what moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::ConsumerProtocolSubscription;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::{Decoder, ErrorCode, Message, Str};

use super::join::JoinTimer;
use super::member::{Member, milliseconds};
use super::records::{GroupValue, MemberValue};

/// The protocol type of consumers, whose metadata the coordinator can read.
const CONSUMER: &str = "consumer";

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has no members.
    Empty,
    /// It waits for its members to join.
    PreparingRebalance,
    /// It waits for the leader to assign.
    CompletingRebalance,
    /// Its members have their assignments.
    Stable,
}

/// A classic group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Str,
    pub(super) state: State,
    /// Whether the rebalance that is being prepared is the first since the group was empty: it is given time.
    pub(super) initial: bool,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Str>,
    pub(super) protocol: Option<Str>,
    pub(super) leader: Option<Str>,
    /// Since when it is in its state, in milliseconds since 1970.
    pub(super) since_ms: i64,
    pub(super) members: BTreeMap<Str, Member>,
    /// The member ids of the static members, by instance id (KIP-345).
    pub(super) static_members: BTreeMap<Str, Str>,
    /// Member ids that were given out and not used yet, and until when they may be (KIP-394).
    pub(super) pending: BTreeMap<Str, Instant>,
    /// Members that know of the generation and have not asked for their assignment yet.
    pub(super) unsynced: BTreeSet<Str>,
    /// What consumers have subscribed to, where the coordinator can tell.
    pub(super) subscribed: Option<BTreeSet<Str>>,
    pub(super) join_timer: Option<JoinTimer>,
    /// When members that have not asked for their assignment are removed.
    pub(super) sync_timer: Option<Instant>,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Group {
    pub(super) fn new(id: Str, now_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            initial: false,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            since_ms: now_ms,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            subscribed: None,
            join_timer: None,
            sync_timer: None,
        }
    }

    /// The group as it was written. The sessions of its members begin with [`Self::begin_sessions`].
    pub(super) fn loaded(id: Str, value: GroupValue) -> Self {
        let mut group = Self::new(id, value.since_ms);
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = value.protocol;
        group.leader = value.leader;
        for member in value.members {
            group.insert(Member::loaded(member, group.protocol.as_ref()));
        }
        group.subscribed = group.subscriptions();
        group
    }

    /// The group as it is written, with the assignments that its members are to have.
    pub(super) fn value(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref();
        let member = |member: &Member| -> MemberValue { member.value(protocol, assignment(member)) };
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.members.values().map(member).collect(),
        }
    }

    pub(super) fn enter(&mut self, state: State, now_ms: i64) {
        self.state = state;
        self.since_ms = now_ms;
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Adds a member; the first one is the leader, and says what the group speaks.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member, or a member id that was given out; another member becomes the leader.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(instance_id) = self.members.remove(id).and_then(|member| member.instance_id) {
            self.static_members.remove(&instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending.remove(id);
        self.unsynced.remove(id);
    }

    pub(super) fn everybody_has_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// The longest that a member wants to be waited for.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        milliseconds(longest.unwrap_or(0))
    }

    /// Whether a member that speaks these protocols fits in.
    pub(super) fn accepts<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a Str>,
    ) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        let all_speak = |name: &Str| self.members.values().all(|member| member.supports(name));
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.any(all_speak)
    }

    /// The protocol that all members speak and most of them prefer.
    pub(super) fn favourite(&self) -> Option<Str> {
        let all_speak = |name: &Str| self.members.values().all(|member| member.supports(name));
        let vote = |member: &Member| -> Option<Str> {
            let protocol = member.protocols.iter().find(|protocol| all_speak(&protocol.name))?;
            Some(protocol.name.clone())
        };
        let mut votes: BTreeMap<Str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(vote) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)
    }

    /// Whether a request may speak for a member.
    pub(super) fn check_member(&self, id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if **current != *id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// The session of a member begins anew.
    pub(super) fn renew(&mut self, now: Instant, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.expires = Some(now + member.session_timeout());
        }
    }

    /// The members as the leader needs them to assign.
    pub(super) fn for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref();
        let member = |member: &Member| JoinGroupResponseMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(member).collect()
    }

    /// What consumers have subscribed to: nothing where the members are none, or are not understood.
    pub(super) fn subscriptions(&self) -> Option<BTreeSet<Str>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription(member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }

    /// Whether offsets of the topic are in use. Of consumers that are not understood, all are.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.speaks_consumer(),
        }
    }

    /// Whether its members are consumers.
    pub(super) fn speaks_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The group as administrators see it.
    pub(super) fn described(&self) -> DescribedGroup {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state.name()),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: self.protocol.clone().filter(|_| stable).unwrap_or_default(),
            members: self.members.values().map(|member| member.described(protocol)).collect(),
            ..DescribedGroup::default()
        }
    }

    /// The group in a list of groups.
    pub(super) fn listed(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            group_state: Str::from_static(self.state.name()),
            group_type: Str::from_static("classic"),
        }
    }
}

/// The topics in a consumer's metadata, read in version 0, with which every other version begins.
fn subscription(metadata: Bytes) -> Option<Vec<Str>> {
    let mut input = Decoder::new(metadata);
    input.get_i16("ConsumerProtocolSubscription.version").ok()?;
    let subscription = ConsumerProtocolSubscription::decode(0, &mut input).ok()?;
    Some(subscription.topics.iter().map(Str::detached).collect())
}
