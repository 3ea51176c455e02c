//! A group as seen from outside, and the ways to populate it.

use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::{DescribeGroupsRequest, JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::{ErrorCode, Request, Str};

use crate::broker::{call, try_call, until};
use crate::client::Parked;
use crate::member::{Member, Profile};

/// A group and where to ask about it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: Str,
    /// `host:port`
    pub(crate) coordinator: String,
}

impl Group {
    /// Asks the coordinator.
    pub(crate) async fn call<R: Request>(&self, version: i16, request: &R) -> R::Response {
        call(&self.coordinator, version, request).await
    }

    /// Asks the coordinator something that it may answer late.
    pub(crate) async fn send<R: Request>(&self, version: i16, request: &R) -> Parked<R> {
        Parked::send(&self.coordinator, version, request).await
    }

    /// Whether the coordinator has loaded what it looks after.
    pub(crate) async fn is_served(&self) -> bool {
        let request = DescribeGroupsRequest { groups: vec![self.id.clone()], ..Default::default() };
        let described = try_call(&self.coordinator, 5, &request).await;
        described.is_ok_and(|described| described.groups[0].error_code.is_ok())
    }

    /// The group as the coordinator describes it; `Dead` and empty if there is none.
    pub(crate) async fn describe(&self) -> DescribedGroup {
        let request = DescribeGroupsRequest { groups: vec![self.id.clone()], ..Default::default() };
        let mut described = self.call(5, &request).await;
        assert_eq!(described.groups.len(), 1);
        assert_eq!(described.groups[0].error_code, ErrorCode::NONE);
        described.groups.remove(0)
    }

    /// Waits until the group is in this state with so many members.
    pub(crate) async fn until(&self, state: &str, members: usize) {
        let what = format!("the group is {state} with {members} members");
        until(&what, async || {
            let group = self.describe().await;
            group.group_state == state && group.members.len() == members
        })
        .await;
    }

    pub(crate) async fn assert_state(&self, state: &str) {
        assert_eq!(self.describe().await.group_state, state);
    }

    /// Sends a JoinGroup.
    pub(crate) async fn join(&self, profile: &Profile, member_id: &str) -> Parked<JoinGroupRequest> {
        self.send(profile.version, &profile.join_request(&self.id, member_id)).await
    }

    /// Sends a JoinGroup that is answered with an error at once.
    pub(crate) async fn refused(&self, profile: &Profile, member_id: &str) -> ErrorCode {
        self.join(profile, member_id).await.answer().await.error_code
    }

    /// Has a new dynamic member given an id, by which it is pending.
    pub(crate) async fn new_id(&self, profile: &Profile) -> Str {
        let response = self.join(profile, "").await.answer().await;
        assert_eq!(response.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        response.member_id
    }

    /// Joins as a client does that has no id yet.
    pub(crate) async fn enter(&self, profile: &Profile) -> Parked<JoinGroupRequest> {
        let id = if profile.is_asked_to_return() { self.new_id(profile).await } else { Str::default() };
        self.join(profile, &id).await
    }

    /// The member that an answer to JoinGroup makes.
    pub(crate) fn member(&self, profile: &Profile, joined: &JoinGroupResponse) -> Member {
        assert_eq!(joined.error_code, ErrorCode::NONE);
        Member {
            group: self.clone(),
            profile: profile.clone(),
            id: joined.member_id.clone(),
            generation: joined.generation_id,
        }
    }

    /// Members that all have joined, of which the first leads, and none has synced.
    pub(crate) async fn joined<const N: usize>(&self, profiles: [Profile; N]) -> [Member; N] {
        let first = self.member(&profiles[0], &self.enter(&profiles[0]).await.answer().await);
        if N == 1 {
            return std::array::from_fn(|_| first.clone());
        }
        let mut parked = Vec::new();
        // As long as the first has not come back, nothing is decided: all get into the same generation.
        let mut ids = Vec::new();
        for profile in &profiles[1..] {
            let is_asked = profile.is_asked_to_return();
            ids.push(if is_asked { self.new_id(profile).await } else { Str::default() });
        }
        for (profile, id) in profiles[1..].iter().zip(&ids) {
            parked.push(self.join(profile, id).await);
        }
        self.until("PreparingRebalance", N).await;
        parked.insert(0, first.rejoin().await);
        let mut members = Vec::new();
        for (profile, parked) in profiles.iter().zip(parked) {
            let joined = parked.answer().await;
            assert_eq!(joined.leader, first.id);
            members.push(self.member(profile, &joined));
        }
        members.try_into().expect("as many as there are profiles")
    }

    /// Members of a stable group, of which the first leads. Each is assigned [`Member::share`].
    pub(crate) async fn stable<const N: usize>(&self, profiles: [Profile; N]) -> [Member; N] {
        let members = self.joined(profiles).await;
        self.settle(&members).await;
        members
    }

    /// Has all members sync, the leader first.
    pub(crate) async fn settle(&self, members: &[Member]) {
        let shares: Vec<_> = members.iter().map(|member| (member.id.clone(), member.share())).collect();
        for (index, member) in members.iter().enumerate() {
            let assignments = if index == 0 { &shares[..] } else { &[] };
            let synced = member.sync(assignments).await.answer().await;
            assert_eq!(synced.error_code, ErrorCode::NONE);
            assert_eq!(synced.assignment, member.share());
        }
    }
}
