//! Until when this member is certainly still the owner of what it was assigned.
//!
//! ```text
//!   sent(last heartbeat answered REBALANCE_IN_PROGRESS, or NONE and proven) + session timeout
//!   sent(last heartbeat answered NONE and proven)                           + rebalance timeout      the earliest of them:
//!   sent(last acknowledged commit)                                          + the shorter of both    the lease ends there
//! ```
//!
//! Each term is shortened by its margin, and is counted from the moment *before* the request was written, on a clock that
//! counts suspend: the coordinator started its own timer when the request reached it, which was later.
//!
//! * The first term is the session timer, which every heartbeat from a known member of the right generation restarts.
//! * The second is the rebalance timer: when it fires, a dynamic member that has not joined again is removed, although its
//!   heartbeats, answered REBALANCE_IN_PROGRESS, kept its session alive. A heartbeat answered NONE says that no such timer
//!   ran when it arrived, so that any that runs by now was started later.
//! * The third is for a coordinator that was cut off from its peers: heartbeats write nothing, so that it goes on answering
//!   them while another coordinator has taken over. That one starts the session timer of each member when it has loaded the
//!   group, and may start a rebalance at once; it hears nothing of this member, and removes it when the first of the two
//!   timers fires. But the old one cannot acknowledge a commit any more, since it cannot replicate it: a commit that was
//!   acknowledged was sent before the new one began. Hence the first record of an assignment waits for a commit, and an idle
//!   member repeats one several times in that span ([`Lease::proof_of_life`]).
//!
//! *Proven* is a NONE by a commit that was sent after it had come, and acknowledged. A coordinator that has just taken over
//! and is still loading the group answers NONE to anybody, also to a member that its predecessor has removed: it cannot
//! know. But it acknowledges no commit before it has loaded the group, and then none of a member that is not in it. If the
//! member is in it, the timers began when the group was loaded, which was after that heartbeat; if the coordinator had it
//! loaded all the time, the heartbeat says what it seems to say.
//!
//! Nothing else extends the first two terms. JoinGroup and SyncGroup prove nothing about partitions that are kept
//! through a rebalance, and a commit restarts the session timer only in a group of type *classic*, which a member cannot
//! know (a group may be converted, KIP-848).
//!
//! Two assumptions remain: clocks differ by less than a tenth, and no two living processes use one `group.instance.id`
//! (the second takes the place of the first at once, and no timer tells the first).

use std::{collections::VecDeque, time::Duration};

/// What is known of the coordinator's timers. Times are readings of a clock that counts suspend.
#[derive(Debug, Clone)]
pub struct Lease {
    session: Duration,
    rebalance: Duration,
    /// Heartbeats that were answered NONE, and that no commit has proven yet, oldest first.
    unproven: VecDeque<Unproven>,
    /// Sending time of the last heartbeat that restarted the session timer.
    alive: Option<Duration>,
    /// Sending time of the last heartbeat that found the group at rest.
    at_rest: Option<Duration>,
    /// Sending time of the last commit that was acknowledged.
    written: Option<Duration>,
}

/// A heartbeat that was answered NONE.
#[derive(Debug, Clone, Copy)]
struct Unproven {
    sent: Duration,
    answered: Duration,
    at_rest: bool,
}

/// So many are remembered: those that come while a commit is under way.
const UNPROVEN_KEPT: usize = 32;

impl Lease {
    /// No lease yet.
    #[must_use]
    pub fn new(session_timeout: Duration, rebalance_timeout: Duration) -> Self {
        Self {
            session: session_timeout,
            rebalance: rebalance_timeout,
            unproven: VecDeque::new(),
            alive: None,
            at_rest: None,
            written: None,
        }
    }

    /// A heartbeat of this membership, sent at `sent`, was answered REBALANCE_IN_PROGRESS, which only a coordinator says
    /// that knows the member: it restarted the session timer.
    pub fn on_rebalance(&mut self, sent: Duration) {
        self.alive = self.alive.max(Some(sent));
    }

    /// A heartbeat of this membership, sent at `sent`, was answered NONE at `answered`. `at_rest`: it asked for a generation
    /// of which this member has its assignment. It counts once it is proven.
    pub fn on_heartbeat(&mut self, sent: Duration, answered: Duration, at_rest: bool) {
        if self.unproven.len() == UNPROVEN_KEPT {
            self.unproven.pop_front();
        }
        self.unproven.push_back(Unproven { sent, answered, at_rest });
    }

    /// A commit of this membership, sent at `sent`, was acknowledged.
    pub fn on_write(&mut self, sent: Duration) {
        self.written = self.written.max(Some(sent));
        while let Some(heartbeat) = self.unproven.front().copied().filter(|it| it.answered <= sent) {
            self.prove(heartbeat);
            self.unproven.pop_front();
        }
    }

    fn prove(&mut self, heartbeat: Unproven) {
        self.alive = self.alive.max(Some(heartbeat.sent));
        if heartbeat.at_rest {
            self.at_rest = self.at_rest.max(Some(heartbeat.sent));
        }
    }

    /// Whether nothing may be handed out at `now` until a commit has proven a heartbeat.
    #[must_use]
    pub fn waits_for_write(&self, now: Duration) -> bool {
        !self.unproven.is_empty() && self.until().is_none_or(|until| until <= now)
    }

    /// How often a member that has nothing else to commit repeats a commit, so that the lease does not end: one may fail,
    /// and its successor be late.
    #[must_use]
    pub fn proof_of_life(session_timeout: Duration, rebalance_timeout: Duration) -> Duration {
        session_timeout.min(rebalance_timeout) / 4
    }

    /// The membership is over: nothing of it counts for the next one.
    pub fn end(&mut self) {
        (self.alive, self.at_rest, self.written) = (None, None, None);
        self.unproven.clear();
    }

    /// Until when records may be handed out; `None`: not at all.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        if planted!("deliver-without-lease") {
            return Some(Duration::from_secs(u32::MAX.into()));
        }
        let alive = self.alive? + without_margin(self.session);
        let at_rest = self.at_rest? + without_margin(self.rebalance);
        let written = self.written? + without_margin(self.session.min(self.rebalance));
        Some(alive.min(at_rest).min(written))
    }
}

/// A coordinator's timeout as it may be relied on: a tenth less for clocks that differ, and at least a second for what
/// lies between looking at the lease and handing out.
pub(super) fn without_margin(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = s(45);
    const REBALANCE: Duration = s(60);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What happened, with the sending time in seconds.
    enum Told {
        AtRest(u64),
        Rebalancing(u64),
        Written(u64),
        End,
    }
    use Told::{AtRest, End, Rebalancing, Written};

    fn until(told: &[Told]) -> Option<f64> {
        let mut lease = Lease::new(SESSION, REBALANCE);
        for told in told {
            match told {
                AtRest(sent) => lease.on_heartbeat(s(*sent), s(*sent), true),
                Rebalancing(sent) => lease.on_rebalance(s(*sent)),
                Written(sent) => lease.on_write(s(*sent)),
                End => lease.end(),
            }
        }
        lease.until().map(|until| until.as_secs_f64())
    }

    #[test]
    fn the_earliest_of_the_three_terms_ends_the_lease() {
        assert_eq!(until(&[AtRest(100), Written(100)]), Some(100.0 + 40.5), "session");
        assert_eq!(until(&[AtRest(100), Rebalancing(130), Written(130)]), Some(100.0 + 54.0), "rebalance");
        assert_eq!(
            until(&[AtRest(90), Written(90), AtRest(130)]),
            Some(90.0 + 40.5),
            "no write for a session"
        );
    }

    #[test]
    fn a_coordinator_that_took_over_may_rebalance_at_once() {
        let mut lease = Lease::new(SESSION, s(20));
        lease.on_heartbeat(s(100), s(100), true);
        lease.on_write(s(100));
        lease.on_heartbeat(s(115), s(115), true);
        assert_eq!(lease.until(), Some(s(118)));
        assert!(Lease::proof_of_life(SESSION, s(20)) * 2 < s(18));
    }

    #[test]
    fn every_term_is_needed() {
        assert_eq!(until(&[]), None);
        assert_eq!(until(&[AtRest(1)]), None, "nothing was written yet");
        assert_eq!(until(&[Written(1)]), None, "no heartbeat was answered yet");
        assert_eq!(until(&[Rebalancing(1), Written(1)]), None, "the rebalance may be over");
    }

    #[test]
    fn a_coordinator_that_says_that_all_is_well_is_believed_once_it_has_acknowledged_a_commit() {
        let mut lease = Lease::new(SESSION, REBALANCE);
        lease.on_heartbeat(s(100), s(102), true);
        assert!(lease.waits_for_write(s(102)));
        lease.on_write(s(101));
        assert_eq!(lease.until(), None, "the commit may have gone to the one before");
        lease.on_write(s(102));
        assert_eq!(lease.until(), Some(Duration::from_millis(140_500)));
        assert!(!lease.waits_for_write(s(103)));

        // Later ones renew it only together with a commit, and ask for one when it is over.
        lease.on_heartbeat(s(130), s(130), true);
        assert_eq!(lease.until(), Some(Duration::from_millis(140_500)));
        assert!(!lease.waits_for_write(s(140)) && lease.waits_for_write(s(141)));
        lease.on_write(s(141));
        assert_eq!(lease.until(), Some(Duration::from_millis(170_500)));
    }

    #[test]
    fn however_long_it_loads_no_more_than_so_much_is_remembered() {
        let mut lease = Lease::new(SESSION, REBALANCE);
        (0..1_000).for_each(|second| lease.on_heartbeat(s(second), s(second), true));
        assert_eq!(lease.unproven.len(), UNPROVEN_KEPT);
        lease.on_write(s(999));
        assert_eq!(lease.until(), Some(Duration::from_millis(999_000 + 40_500)));
    }

    #[test]
    fn an_answer_that_overtook_another_takes_nothing_back() {
        assert_eq!(until(&[AtRest(110), AtRest(100), Written(110), Written(90)]), Some(110.0 + 40.5));
    }

    #[test]
    fn a_membership_that_ended_leaves_nothing_to_the_next() {
        assert_eq!(until(&[AtRest(100), Written(100), End]), None);
        assert_eq!(until(&[AtRest(100), Written(100), End, AtRest(101)]), None);
        assert_eq!(until(&[AtRest(100), End, AtRest(101), Written(102)]), Some(101.0 + 40.5));
    }

    #[test]
    fn the_margin_is_a_tenth_and_at_least_a_second() {
        assert_eq!(without_margin(s(60)), s(54));
        assert_eq!(without_margin(s(6)), s(5));
        assert_eq!(without_margin(Duration::from_millis(300)), Duration::ZERO);
    }
}
