//! A group beside the readers: its members come, crash and go while everything else goes wrong.

use std::{cell::RefCell, time::Duration};

use ottla::{Assignor, Reset};

use super::fault::MEMBERS;
use crate::{
    Cluster, World,
    group::{Group, Member, Settings},
};

/// Which assignors the members name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignors {
    /// `cooperative-sticky`.
    Cooperative,
    /// `range`: everything is given up before each rebalance.
    Eager,
    /// Both, `cooperative-sticky` first.
    Both,
}

/// The group of a [`Plan`](super::Plan), and how its members work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of `group::Settings`")]
pub struct GroupPlan {
    /// How many there are; three at most.
    pub members: usize,
    /// Members keep their `group.instance.id` when they come again (KIP-345).
    pub static_members: bool,
    pub assignors: Assignors,
    pub session_ms: u64,
    pub rebalance_ms: u64,
    pub handling_ms: u64,
    pub giving_up_ms: u64,
    pub auto_commit_ms: u64,
    pub commit_on_revoke: bool,
    /// So many of a thousand records are given back once, and handled when they come again.
    pub given_back_per_mille: u32,
}

impl GroupPlan {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        use Assignors::{Both, Cooperative, Eager};
        Self {
            members: random.usize(1..=MEMBERS.len()),
            static_members: random.u32(..3) == 0,
            assignors: [Cooperative, Eager, Both][random.usize(..3)],
            session_ms: random.u64(6_000..20_000),
            rebalance_ms: random.u64(6_000..30_000),
            handling_ms: random.u64(..20),
            giving_up_ms: if random.bool() { 0 } else { random.u64(..3_000) },
            auto_commit_ms: random.u64(50..5_000),
            commit_on_revoke: random.bool(),
            given_back_per_mille: if random.bool() { 0 } else { random.u32(..100) },
        }
    }

    fn settings(&self, member: usize, dropping: bool) -> Settings {
        let assignors = match self.assignors {
            Assignors::Cooperative => vec![Assignor::CooperativeSticky],
            Assignors::Eager => vec![Assignor::Range],
            Assignors::Both => vec![Assignor::CooperativeSticky, Assignor::Range],
        };
        Settings {
            session: Duration::from_millis(self.session_ms),
            rebalance: Duration::from_millis(self.rebalance_ms),
            assignors,
            instance: self.static_members.then_some(MEMBERS[member]),
            handling: Duration::from_millis(self.handling_ms),
            giving_up: Duration::from_millis(self.giving_up_ms),
            auto_commit_interval: Duration::from_millis(self.auto_commit_ms),
            commit_on_revoke: self.commit_on_revoke,
            on_out_of_range: if dropping { Reset::Earliest } else { Reset::Error },
            given_back: f64::from(self.given_back_per_mille) / 1_000.0,
            ..Settings::default()
        }
    }
}

/// The members while things happen to them.
pub(super) struct Members {
    group: Group,
    plan: GroupPlan,
    /// Records may be dropped before they are handled.
    dropping: bool,
    members: RefCell<Vec<Option<Member>>>,
}

impl Members {
    pub(super) fn start(world: &World, cluster: &Cluster, plan: &GroupPlan, dropping: bool) -> Self {
        let members = (0..plan.members).map(|_| None).collect();
        let group = Group::of(world, cluster);
        let this = Self { group, plan: *plan, dropping, members: RefCell::new(members) };
        (0..plan.members).for_each(|member| this.join(member));
        this
    }

    /// A process starts where none is.
    pub(super) fn join(&self, member: usize) {
        if let Some(slot @ None) = self.members.borrow_mut().get_mut(member) {
            *slot = Some(self.group.start_with(MEMBERS[member], &self.plan.settings(member, self.dropping)));
        }
    }

    fn take(&self, member: usize) -> Option<Member> {
        self.members.borrow_mut().get_mut(member)?.take()
    }

    /// `kill -9`.
    pub(super) fn crash(&self, member: usize) {
        if let Some(member) = self.take(member) {
            member.crash();
        }
    }

    /// It is asked to stop. That fails when the cluster is in no state to let it go, which is no reason for anything to
    /// be lost.
    pub(super) async fn stop(&self, member: usize) {
        if let Some(member) = self.take(member) {
            drop(member.stop().await);
        }
    }

    /// Everything has healed: the group catches up, what its members have told is checked, and they go.
    pub(super) async fn settle(&self, world: &World) {
        self.join(0);
        self.group.check().await;
        let members: Vec<Member> = self.members.borrow_mut().iter_mut().filter_map(Option::take).collect();
        for member in members {
            let (host, stopped) = (member.host.clone(), member.stop().await);
            world.expect(stopped.is_ok(), &format!("{} to leave in peace", host.name()), || {
                format!("{stopped:?}")
            });
            let left = || host.tasks() + host.sockets() == 0;
            world.until(&format!("no task and no socket of {} is left", host.name()), left).await;
        }
    }
}
