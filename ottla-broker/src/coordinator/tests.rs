//! A shard without a node: what it answers, what it writes, and what time does to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::offsets::{Commit, CommitPartition};
use super::{Answer, Ask, Context, Join, Output, Record, Reply, Shard, Ticket, partition_of};
use crate::cluster::{ClusterConfig, GroupConfig};
use crate::io::Now;
use crate::node::RequestId;

const TOPIC_ID: TopicId = TopicId([7; 16]);

/// A shard with a log that is replicated at once, unless told otherwise.
struct World {
    shard: Shard,
    config: GroupConfig,
    start: Instant,
    elapsed: Duration,
    log: Vec<Record>,
    end: i64,
    /// Appends fail with this.
    refuse: Option<ErrorCode>,
    /// Nothing is replicated for now.
    lagging: bool,
    answers: BTreeMap<u64, Answer>,
    asked: u64,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = ClusterConfig::with_nodes(1, "localhost", 1).groups;
        change(&mut config);
        Self {
            shard: Shard::new(0, 0),
            config,
            start: tokio::time::Instant::now().into_std(),
            elapsed: Duration::ZERO,
            log: Vec::new(),
            end: 0,
            refuse: None,
            lagging: false,
            answers: BTreeMap::new(),
            asked: 0,
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Shard, Context, &mut Vec<Output>) -> T) -> T {
        let config = self.config.clone();
        let elapsed = i64::try_from(self.elapsed.as_millis()).unwrap();
        let now = Now { monotonic: self.start + self.elapsed, wall_ms: elapsed };
        let cx = Context { now, config: &config };
        let mut outputs = Vec::new();
        let done = act(&mut self.shard, cx, &mut outputs);
        while !outputs.is_empty() {
            let mut more = Vec::new();
            for output in outputs {
                match output {
                    Output::Answer(ticket, answer) => {
                        self.answers.insert(ticket.part as u64, answer);
                    }
                    Output::Append(write, records) => {
                        let result = match self.refuse {
                            Some(error) => Err(error),
                            None => {
                                self.end += i64::try_from(records.len()).unwrap();
                                self.log.extend(records);
                                Ok(self.end)
                            }
                        };
                        self.shard.appended(cx, write, result, &mut more);
                    }
                }
            }
            if !self.lagging {
                self.shard.replicated(cx, self.end, true, &mut more);
            }
            outputs = more;
        }
        done
    }

    /// Asks, and names the place where the answer will be.
    fn ask(&mut self, ask: Ask) -> u64 {
        self.asked += 1;
        let at = self.asked;
        let ticket = Ticket { request: RequestId::numbered(at), part: usize::try_from(at).unwrap() };
        self.act(|shard, cx, out| shard.ask(cx, ticket, &"g".into(), ask, out));
        at
    }

    fn catch_up(&mut self) {
        self.lagging = false;
        let end = self.end;
        self.act(|shard, cx, out| shard.replicated(cx, end, true, out));
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= self.start + end) {
            self.elapsed = self.elapsed.max(at.duration_since(self.start));
            self.act(Shard::tick);
        }
        self.elapsed = end;
    }

    /// Lets time pass without looking at it, as a machine does that is frozen.
    fn freeze(&mut self, time: Duration) {
        self.elapsed += time;
        self.act(Shard::tick);
    }

    fn join(&mut self, member: &str, instance_id: Option<&str>) -> u64 {
        self.join_with(member, instance_id, |_| {})
    }

    fn join_with(
        &mut self,
        member: &str,
        instance_id: Option<&str>,
        change: impl FnOnce(&mut JoinGroupRequest),
    ) -> u64 {
        let mut request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: member.into(),
            group_instance_id: instance_id.map(Str::from),
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range")],
            reason: None,
        };
        change(&mut request);
        let new_member_id = Str::from(format!("m{}", self.asked + 1));
        self.ask(Ask::Join(Box::new(Join {
            request,
            client_id: "c".into(),
            client_host: "/h".into(),
            new_member_id,
            id_required: false,
            may_skip_assignment: true,
        })))
    }

    fn joined(&mut self, at: u64) -> JoinGroupResponse {
        match self.answers.remove(&at) {
            Some(Ok(Reply::Join(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    fn sync(&mut self, joined: &JoinGroupResponse, assignments: &[(&str, &'static str)]) -> u64 {
        let assignment = |(id, assignment): &(&str, &'static str)| SyncGroupRequestAssignment {
            member_id: (*id).into(),
            assignment: Bytes::from_static(assignment.as_bytes()),
        };
        self.ask(Ask::Sync(SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: assignments.iter().map(assignment).collect(),
            ..SyncGroupRequest::default()
        }))
    }

    fn synced(&mut self, at: u64) -> SyncGroupResponse {
        match self.answers.remove(&at) {
            Some(Ok(Reply::Sync(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    /// A member, alone in a stable group.
    fn only_member(&mut self, instance_id: Option<&str>) -> JoinGroupResponse {
        let joining = self.join("", instance_id);
        self.pass(Duration::ZERO);
        let joined = self.joined(joining);
        let syncing = self.sync(&joined, &[(&joined.member_id, "all")]);
        assert_eq!(&self.synced(syncing).assignment[..], b"all");
        joined
    }

    fn heartbeat(&mut self, joined: &JoinGroupResponse) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        self.act(|shard, cx, _| shard.heartbeat(cx, &request))
    }

    fn commit(&mut self, generation: i32, member_id: &str, partitions: &[i32], offset: i64) -> u64 {
        let partition = |partition: &i32| CommitPartition {
            topic: "t".into(),
            topic_id: TOPIC_ID,
            partition: *partition,
            offset,
            leader_epoch: -1,
            metadata: None,
        };
        self.ask(Ask::Commit(Commit {
            member_id: member_id.into(),
            instance_id: None,
            generation,
            unknown_group: ErrorCode::GROUP_ID_NOT_FOUND,
            partitions: partitions.iter().map(partition).collect(),
        }))
    }

    fn fetch(&mut self, require_stable: bool) -> u64 {
        let topic =
            OffsetFetchRequestTopics { name: "t".into(), topic_id: TOPIC_ID, partition_indexes: vec![0] };
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        self.ask(Ask::Fetch { group, require_stable })
    }

    fn fetched(&mut self, at: u64) -> Result<i64, ErrorCode> {
        match self.answers.remove(&at).expect("no answer") {
            Ok(Reply::Offsets(topics)) => Ok(topics[0].partitions[0].committed_offset),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> String {
        self.shard.describe("g").map(|group| group.group_state.to_string()).unwrap_or_default()
    }

    /// The number of members in the last record of the group.
    fn written_members(&self) -> Option<usize> {
        self.log.iter().rev().find_map(|record| match record {
            Record::Group(_, value) => Some(value.as_ref()?.members.len()),
            Record::Offset(..) => None,
        })
    }
}

fn protocol(name: &str) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol { name: name.into(), metadata: Bytes::new() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn groups_are_spread_as_java_hashes_their_ids() {
    // "abc".hashCode() is 96354, that of "polygenelubricants" is the smallest integer, which has no absolute value,
    // that of a negative one loses its sign, and a character beyond the first 65536 counts as two.
    for (group, hash) in [("", 0), ("abc", 96_354), ("polygenelubricants", 0), ("orders", 1_008_770_331)] {
        assert_eq!(partition_of(group, 50), hash % 50, "{group}");
    }
    assert_eq!(partition_of("\u{1F600}", 1 << 30), 31 * 0xD83D + 0xDE00);
    assert_eq!(partition_of("abc", 0), 0, "never a division by zero");
}

#[test]
fn the_first_rebalance_waits_for_more_members_as_long_as_they_keep_coming() {
    let mut world = World::with(|config| config.initial_rebalance_delay = 3 * SECOND);
    let mut joining = vec![world.join("", None)];
    for _ in 0..3 {
        world.pass(2 * SECOND);
        joining.push(world.join("", None));
    }
    assert!(world.answers.is_empty());
    world.pass(3 * SECOND);
    assert!(world.answers.is_empty(), "the last one came within the delay that ended just now");
    world.pass(3 * SECOND);
    let generations: Vec<i32> = joining.into_iter().map(|at| world.joined(at).generation_id).collect();
    assert_eq!(generations, [1, 1, 1, 1]);
}

#[test]
fn the_first_rebalance_waits_no_longer_than_the_rebalance_timeout() {
    let mut world = World::with(|config| config.initial_rebalance_delay = 3 * SECOND);
    let first = world.join("", None);
    for _ in 0..20 {
        world.pass(SECOND);
        if world.answers.contains_key(&first) {
            break;
        }
        world.join("", None);
    }
    assert_eq!(world.elapsed, 20 * SECOND);
    assert_eq!(world.joined(first).members.len(), 20);
}

#[test]
fn a_machine_that_wakes_up_ends_all_sessions_that_are_over_and_the_group_is_empty() {
    let mut world = World::new();
    let one = world.only_member(None);
    let two = world.join("", None);
    let again = world.join(&one.member_id, None);
    let (one, two) = (world.joined(again), world.joined(two));
    let (first, second) = (world.sync(&two, &[]), world.sync(&one, &[]));
    assert!(world.synced(first).error_code.is_ok() && world.synced(second).error_code.is_ok());
    world.freeze(12 * SECOND);
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.written_members(), Some(0));
    assert_eq!(world.heartbeat(&one), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_that_cannot_be_written_was_never_there() {
    for error in [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NOT_LEADER_OR_FOLLOWER] {
        let mut world = World::new();
        world.refuse = Some(error);
        let joining = world.join("", None);
        let told = world.joined(joining).error_code;
        let expected = match error {
            ErrorCode::NOT_ENOUGH_REPLICAS => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            _ => ErrorCode::NOT_COORDINATOR,
        };
        assert_eq!((told, world.state().as_str()), (expected, ""));
        assert_eq!(world.shard.next_deadline(), None);
    }
}

#[test]
fn an_assignment_that_is_too_large_is_refused_and_the_group_joins_again() {
    let mut world = World::new();
    let joining = world.join("", None);
    world.pass(Duration::ZERO);
    let joined = world.joined(joining);
    world.refuse = Some(ErrorCode::RECORD_LIST_TOO_LARGE);
    let syncing = world.sync(&joined, &[(&joined.member_id, "large")]);
    assert_eq!(world.synced(syncing).error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(world.heartbeat(&joined), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn an_assignment_that_is_overtaken_by_a_new_member_is_not_told() {
    let mut world = World::new();
    let joining = world.join("", None);
    world.pass(Duration::ZERO);
    let joined = world.joined(joining);
    world.lagging = true;
    let syncing = world.sync(&joined, &[(&joined.member_id, "all")]);
    let other = world.join("", None);
    assert_eq!(world.synced(syncing).error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    world.catch_up();
    assert_eq!(world.state(), "PreparingRebalance");
    let again = world.join(&joined.member_id, None);
    assert_eq!(world.joined(again).generation_id, 2);
    assert_eq!(world.joined(other).generation_id, 2);
}

#[test]
fn a_static_member_whose_new_id_cannot_be_written_keeps_the_old_one() {
    let mut world = World::new();
    let old = world.only_member(Some("s"));
    world.refuse = Some(ErrorCode::NOT_ENOUGH_REPLICAS);
    let joining = world.join_with("", Some("s"), |request| request.session_timeout_ms = 30_000);
    let refused = world.joined(joining);
    assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::COORDINATOR_NOT_AVAILABLE, ""));
    assert_eq!(world.heartbeat(&old), ErrorCode::NONE);
    let leader = world.shard.describe("g").unwrap().members[0].member_id.clone();
    assert_eq!(leader, old.member_id);
    world.refuse = None;
    world.pass(11 * SECOND);
    assert_eq!(world.state(), "Empty", "with the session that it had");
}

#[test]
fn a_static_member_that_comes_back_twice_is_answered_once_its_last_id_is_written() {
    let mut world = World::new();
    world.only_member(Some("s"));
    world.lagging = true;
    let (one, two) = (world.join("", Some("s")), world.join("", Some("s")));
    assert_eq!(world.joined(one).error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert!(!world.answers.contains_key(&two));
    world.catch_up();
    let joined = world.joined(two);
    assert!(joined.error_code.is_ok() && joined.skip_assignment);
    assert_eq!(world.heartbeat(&joined), ErrorCode::NONE);
}

#[test]
fn a_group_with_too_many_members_rebalances_when_it_is_loaded() {
    let mut world = World::new();
    let one = world.only_member(None);
    let log = batches(&world.log);
    world.config.max_size = 0;
    let end = world.end;
    world.shard = Shard::new(1, end);
    assert_eq!(world.shard.to_load(), Some((0, end)));
    world.act(|shard, cx, out| shard.load(cx, log, end, out));
    assert_eq!(world.state(), "PreparingRebalance");
    let again = world.join(&one.member_id, None);
    assert_eq!(world.joined(again).error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn a_commit_that_took_too_long_counts_when_it_is_replicated_after_all() {
    let mut world = World::new();
    world.lagging = true;
    let commit = world.commit(-1, "", &[0], 42);
    world.pass(5 * SECOND);
    assert_eq!(world.answers.remove(&commit), Some(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)));
    let at_once = world.fetch(false);
    assert_eq!(world.fetched(at_once), Ok(-1));
    let stable = world.fetch(true);
    world.pass(5 * SECOND);
    assert_eq!(world.fetched(stable), Err(ErrorCode::NOT_COORDINATOR));
    world.catch_up();
    let after = world.fetch(true);
    assert_eq!(world.fetched(after), Ok(42));
}

#[test]
fn what_a_former_leader_wrote_is_read_once_it_is_known_to_be_replicated() {
    let mut world = World::new();
    world.commit(-1, "", &[0], 42);
    world.answers.clear();
    let (log, end) = (batches(&world.log), world.end);
    world.shard = Shard::new(1, end);
    world.lagging = true;
    world.act(|shard, cx, out| shard.load(cx, log, end, out));
    let fetches = [world.fetch(false), world.fetch(true)];
    assert!(world.answers.is_empty());
    // A commit of this leader waits for more replicas, and holds nobody up.
    let commit = world.commit(-1, "", &[0], 43);
    world.act(|shard, cx, out| shard.replicated(cx, end + 1, false, out));
    for fetch in fetches {
        assert_eq!(world.fetched(fetch), Ok(42));
    }
    assert!(!world.answers.contains_key(&commit));
    world.catch_up();
    assert!(world.answers.contains_key(&commit));
}

#[test]
fn offsets_of_topics_that_are_gone_are_forgotten_however_many_they_are() {
    let mut world = World::new();
    world.commit(-1, "", &(0..1200).collect::<Vec<_>>(), 1);
    let before = world.log.len();
    world.act(|shard, cx, out| shard.forget_topics(cx, |topic| topic == "other", out));
    assert_eq!(world.log.len(), before);
    world.act(|shard, cx, out| shard.forget_topics(cx, |topic| topic == "t", out));
    assert_eq!(world.log.len(), before + 1200);
    let fetch = world.fetch(true);
    assert_eq!(world.fetched(fetch), Ok(-1));
    world.act(|shard, cx, out| shard.forget_topics(cx, |topic| topic == "t", out));
    assert_eq!(world.log.len(), before + 1200, "once");
}

#[test]
fn a_group_is_deleted_with_the_offsets_that_are_being_committed() {
    let mut world = World::new();
    world.commit(-1, "", &[0], 1);
    world.lagging = true;
    world.commit(-1, "", &[1], 1);
    let deletion = world.ask(Ask::DeleteGroup);
    let tombstones = world.log.iter().filter(|record| matches!(record, Record::Offset(_, None))).count();
    assert_eq!(tombstones, 2);
    assert_eq!(world.state(), "");
    assert!(!world.answers.contains_key(&deletion));
    world.catch_up();
    assert_eq!(world.answers.remove(&deletion), Some(Ok(Reply::Deleted)));
    let again = world.ask(Ask::DeleteGroup);
    assert_eq!(world.answers.remove(&again), Some(Err(ErrorCode::GROUP_ID_NOT_FOUND)));
}

#[test]
fn the_last_one_to_leave_is_answered_when_that_is_written() {
    let mut world = World::new();
    let member = world.only_member(None);
    world.lagging = true;
    let members = vec![MemberIdentity { member_id: member.member_id, ..MemberIdentity::default() }];
    let leave = LeaveGroupRequest { group_id: "g".into(), members, ..LeaveGroupRequest::default() };
    let leaving = world.ask(Ask::Leave(leave));
    assert_eq!(world.state(), "Empty");
    assert!(!world.answers.contains_key(&leaving));
    world.catch_up();
    assert!(matches!(world.answers.remove(&leaving), Some(Ok(Reply::Leave(_)))));
}

#[test]
fn whoever_waits_is_told_when_the_shard_moves() {
    let mut world = World::new();
    let one = world.only_member(None);
    let joining = world.join("", None);
    world.lagging = true;
    let commit = world.commit(one.generation_id, &one.member_id, &[0], 1);
    let fetch = world.fetch(true);
    let shard = std::mem::replace(&mut world.shard, Shard::new(1, 0));
    world.act(|_, _, out| shard.resign(out));
    assert_eq!(world.joined(joining).error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(world.answers.remove(&commit), Some(Err(ErrorCode::NOT_COORDINATOR)));
    assert_eq!(world.fetched(fetch), Err(ErrorCode::NOT_COORDINATOR));
}

/// The records as batches of the log.
fn batches(records: &[Record]) -> Bytes {
    let mut bytes = Vec::new();
    for (offset, record) in (0..).zip(records) {
        let mut batch = ottla_protocol::batch::BatchBuilder::new(256);
        let (key, value) = record.encode().unwrap();
        batch.append(0, Some(&key), value.as_deref(), [].into_iter()).unwrap();
        let mut batch = batch.seal();
        batch.stamp_without_producer();
        let mut batch = batch.into_bytes().to_vec();
        ottla_protocol::batch::set_base_offset_and_epoch(&mut batch, offset, 0);
        bytes.extend_from_slice(&batch);
    }
    bytes.into()
}
