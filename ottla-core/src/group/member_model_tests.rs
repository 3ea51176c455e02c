//! Several members against a model of the coordinator: delays, lost requests, lost answers, frozen and crashed processes,
//! clocks that differ, coordinators that move and load. No partition may ever be handed out by two of them at the same moment, and in the end everything
//! is assigned.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{HeartbeatResponse, JoinGroupRequest, LeaveGroupResponse, SyncGroupRequest},
};
use proptest::prelude::*;

use super::{
    Action, Assignor, CallError, Departure, Member, MemberConfig, Membership, Moment, TopicCount,
    TopicPartition,
    model_coordinator::{Answer, CallId, Coordinator},
};
use crate::backoff::BackoffPolicy;

const SESSION: Duration = s(10);
const REBALANCE: Duration = s(15);
const PARTITIONS: i32 = 7;
const STEP: Duration = Duration::from_millis(50);
const TROUBLED: Duration = s(120);
const CALM: Duration = s(120);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a member sends, or hears.
enum Message {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(Str, i32),
    Commit(Membership),
    Leave(Str),
    Answer(Answer),
    HeartbeatAnswer(ErrorCode),
    CommitAnswer(ErrorCode),
    LeaveAnswer,
}

/// What a call that is under way is about.
#[derive(Clone)]
enum Kind {
    Join,
    Sync,
    Heartbeat,
    Leave,
    Commit { sent: Moment, membership: Membership },
}

struct Call {
    kind: Kind,
    times_out: Duration,
}

/// One process, and the driver in it.
struct Process {
    member: Member,
    /// How fast its clocks run.
    rate: f64,
    frozen_until: Duration,
    calls: BTreeMap<CallId, Call>,
    /// Being drained, until when.
    revoking: Vec<(Duration, BTreeSet<TopicPartition>)>,
    next_commit: Duration,
    /// What it may hand out, as far as its lease goes.
    open: BTreeSet<TopicPartition>,
}

struct World {
    start: Instant,
    now: Duration,
    random: u64,
    troubled: bool,
    assignor: Assignor,
    coordinator: Coordinator,
    processes: Vec<Process>,
    /// By arrival: to the coordinator or from it.
    wire: BTreeMap<(Duration, u64), (CallId, Message)>,
    calls: CallId,
}

impl World {
    fn new(seed: u64, members: usize, assignor: Assignor) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let start = Instant::now();
        let mut world = Self {
            start,
            now: Duration::ZERO,
            random: seed | 1,
            troubled: true,
            assignor,
            coordinator: Coordinator::new(),
            processes: Vec::new(),
            wire: BTreeMap::new(),
            calls: 0,
        };
        for _ in 0..members {
            let process = world.process();
            world.processes.push(process);
        }
        world
    }

    fn process(&mut self) -> Process {
        let mut member = Member::new(MemberConfig {
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            heartbeat_interval: s(1),
            backoff: BackoffPolicy::new(Duration::from_millis(100), s(1)),
            assignors: vec![self.assignor],
            ..MemberConfig::new("g")
        });
        member.subscribe(["t".into()].into());
        Process {
            member,
            rate: 0.96 + 0.08 * self.fraction(),
            frozen_until: Duration::ZERO,
            calls: BTreeMap::new(),
            revoking: Vec::new(),
            next_commit: Duration::ZERO,
            open: BTreeSet::new(),
        }
    }

    /// xorshift64*.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn fraction(&mut self) -> f64 {
        (self.next_random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens, with this probability while there is trouble.
    fn happens(&mut self, probability: f64) -> bool {
        self.troubled && self.fraction() < probability
    }

    fn moment(&mut self, process: usize) -> Moment {
        let elapsed = self.now.mul_f64(self.processes[process].rate);
        Moment { now: self.start + elapsed, elapsed, random: self.next_random() }
    }

    /// Puts a message on the wire, or loses it.
    fn send(&mut self, call: CallId, message: Message) {
        if self.happens(0.08) {
            return;
        }
        let delay = match self.happens(0.05) {
            true => SESSION.mul_f64(1.5 * self.fraction()),
            false => Duration::from_millis(200).mul_f64(self.fraction()),
        };
        let order = self.next_random();
        self.wire.insert((self.now + delay, order), (call, message));
    }

    fn call(&mut self, process: usize, kind: Kind, timeout: Duration, message: Message) {
        self.calls += 1;
        let times_out = self.now + timeout;
        self.processes[process].calls.insert(self.calls, Call { kind, times_out });
        self.send(self.calls, message);
    }

    fn step(&mut self) {
        self.now += STEP;
        self.trouble();
        self.coordinator.tick(self.now);
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (call, message) = entry.remove();
            self.arrive(call, message);
        }
        for (call, answer) in self.coordinator.take_answers() {
            self.send(call, Message::Answer(answer));
        }
        for process in 0..self.processes.len() {
            if self.processes[process].frozen_until <= self.now {
                self.drive(process);
            }
        }
        self.check();
    }

    fn trouble(&mut self) {
        if self.happens(0.001) {
            let loaded = self.now + SESSION.mul_f64(2.0 * self.fraction());
            self.coordinator.moves(loaded);
        }
        for process in 0..self.processes.len() {
            if self.happens(0.001) {
                self.processes[process].frozen_until = self.now + SESSION.mul_f64(2.0 * self.fraction());
            }
            if self.happens(0.0005) {
                self.processes[process] = self.process();
            }
            if self.happens(0.001) {
                let at = self.moment(process);
                self.processes[process].member.withdraw(at.now);
            }
            if !self.happens(0.99) {
                self.processes[process].member.come_back();
            }
        }
    }

    fn arrive(&mut self, call: CallId, message: Message) {
        let now = self.now;
        match message {
            Message::Join(request) => self.coordinator.join(now, call, request),
            Message::Sync(request) => self.coordinator.sync(now, call, request),
            Message::Heartbeat(id, generation) => {
                let code = self.coordinator.heartbeat(now, &id, generation);
                self.send(call, Message::HeartbeatAnswer(code));
            }
            Message::Commit(membership) => {
                let code = self.coordinator.commit(&membership.member_id, membership.generation_id);
                self.send(call, Message::CommitAnswer(code));
            }
            Message::Leave(id) => {
                self.coordinator.leave(now, &id);
                self.send(call, Message::LeaveAnswer);
            }
            answer => self.hear(call, answer),
        }
    }

    fn hear(&mut self, call: CallId, answer: Message) {
        let at = self.processes.iter().position(|process| process.calls.contains_key(&call));
        let Some(process) = at else { return };
        if self.processes[process].frozen_until > self.now {
            // It lies in the socket until the process goes on.
            let (until, order) = (self.processes[process].frozen_until, self.next_random());
            self.wire.insert((until, order), (call, answer));
            return;
        }
        let at = self.moment(process);
        let Process { member, calls, .. } = &mut self.processes[process];
        let Some(Call { kind, .. }) = calls.remove(&call) else { return };
        match (answer, kind) {
            (Message::Answer(Answer::Join(response)), _) => member.on_join(at, Ok(response)),
            (Message::Answer(Answer::Sync(response)), _) => member.on_sync(at, Ok(response)),
            (Message::HeartbeatAnswer(error_code), _) => {
                member.on_heartbeat(at, Ok(HeartbeatResponse { error_code, ..HeartbeatResponse::default() }));
            }
            (Message::CommitAnswer(ErrorCode::NONE), Kind::Commit { sent, membership }) => {
                member.on_write_acknowledged(sent, &membership);
            }
            (Message::CommitAnswer(code), Kind::Commit { membership, .. }) => {
                member.on_rejected(at, &membership, code);
            }
            _ => member.on_leave(at, Ok(LeaveGroupResponse::default())),
        }
    }

    fn drive(&mut self, process: usize) {
        let (at, now) = (self.moment(process), self.now);
        let Process { member, calls, revoking, .. } = &mut self.processes[process];
        let late: Vec<_> =
            calls.iter().filter(|(_, call)| call.times_out <= now).map(|(id, _)| *id).collect();
        for call in late.iter().filter_map(|id| calls.remove(id)) {
            match call.kind {
                Kind::Join => member.on_join(at, Err(CallError::Lost)),
                Kind::Sync => member.on_sync(at, Err(CallError::Lost)),
                Kind::Heartbeat => member.on_heartbeat(at, Err(CallError::Lost)),
                Kind::Leave => member.on_leave(at, Err(CallError::Lost)),
                Kind::Commit { .. } => {}
            }
        }
        let (done, rest) = std::mem::take(revoking).into_iter().partition(|(until, _)| *until <= now);
        *revoking = rest;
        let done: Vec<(Duration, BTreeSet<_>)> = done;
        for (_, partitions) in done {
            self.processes[process].open.retain(|at| !partitions.contains(at));
            self.processes[process].member.on_revoked(&partitions);
        }
        while let Some(action) = self.processes[process].member.next(at) {
            self.carry_out(process, action);
        }
        let membership = self.processes[process].member.membership();
        if let Some(membership) = membership.filter(|_| self.processes[process].next_commit <= now) {
            self.processes[process].next_commit = now + SESSION / 4;
            let kind = Kind::Commit { sent: at, membership: membership.clone() };
            self.call(process, kind, s(3), Message::Commit(membership));
        }
    }

    fn carry_out(&mut self, process: usize, action: Action) {
        match action {
            Action::Join { request, timeout } => {
                self.call(process, Kind::Join, timeout, Message::Join(request));
            }
            Action::Sync { request, timeout } => {
                self.call(process, Kind::Sync, timeout, Message::Sync(request));
            }
            Action::Heartbeat { request, timeout } => {
                let message = Message::Heartbeat(request.member_id, request.generation_id);
                self.call(process, Kind::Heartbeat, timeout, message);
            }
            Action::Leave { leave, timeout } => {
                self.call(process, Kind::Leave, timeout, Message::Leave(leave.membership.member_id));
            }
            Action::Watch(_) => {
                self.processes[process].member.on_metadata(&|_| TopicCount::Partitions(PARTITIONS));
            }
            Action::Assign { partitions } => {
                let process = &mut self.processes[process];
                process.member.on_assigned(&partitions);
                process.open.extend(partitions);
                process.next_commit = self.now;
            }
            Action::Revoke { partitions, .. } | Action::Abandon { partitions, .. } => {
                let slow = self.happens(0.05);
                let most = if slow { REBALANCE * 2 } else { s(1) };
                let until = self.now + most.mul_f64(self.fraction());
                self.processes[process].revoking.push((until, partitions));
            }
            Action::Lost { partitions, .. } => {
                let process = &mut self.processes[process];
                process.open.retain(|at| !partitions.contains(at));
                for (_, revoking) in &mut process.revoking {
                    revoking.retain(|at| !partitions.contains(at));
                }
            }
            Action::ForgetCoordinator(_) | Action::Joined(_) => {}
            Action::Failed(failure) => panic!("{failure:?}"),
        }
    }

    /// What a process may hand out now. One that is frozen hands out nothing until it goes on.
    fn handed_out(&mut self, process: usize) -> BTreeSet<TopicPartition> {
        let elapsed = self.moment(process).elapsed;
        let Process { member, frozen_until, open, .. } = &self.processes[process];
        match *frozen_until <= self.now && member.lease_until().is_some_and(|until| elapsed < until) {
            true => open.clone(),
            false => BTreeSet::new(),
        }
    }

    fn check(&mut self) {
        let mut all = BTreeMap::new();
        for process in 0..self.processes.len() {
            for at in self.handed_out(process) {
                if let Some(other) = all.insert(at.clone(), process) {
                    panic!("{at} belongs to {other} and {process} at {:?}", self.now);
                }
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn check_all_is_assigned(&mut self) {
        let all: BTreeSet<_> =
            (0..self.processes.len()).flat_map(|process| self.handed_out(process)).collect();
        let lines: Vec<_> = (0..self.processes.len())
            .map(|process| {
                let at = self.moment(process);
                self.processes[process].member.describe(at)
            })
            .collect();
        assert_eq!(all.len(), usize::try_from(PARTITIONS).unwrap(), "{lines:#?}");
    }
}

fn assignors() -> impl Strategy<Value = Assignor> {
    prop_oneof![Just(Assignor::CooperativeSticky), Just(Assignor::Range)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_two_members_hand_out_a_partition_and_all_is_assigned_in_the_end(
        seed in any::<u64>(),
        members in 1_usize..5,
        assignor in assignors(),
    ) {
        let mut world = World::new(seed, members, assignor);
        world.run_for(TROUBLED);
        world.troubled = false;
        world.run_for(CALM);
        world.check_all_is_assigned();
        // One goes, and the others take over.
        if members > 1 {
            let at = world.moment(0);
            let departure = Departure { until: at.now + s(30), reason: "closed".into(), remain: None };
            world.processes[0].member.leave(departure);
            world.run_for(s(30));
            world.check_all_is_assigned();
            prop_assert!(world.processes[0].member.owned().is_empty());
        }
    }
}
