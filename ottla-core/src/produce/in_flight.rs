//! How many batches of a partition may be on their way at once.
//!
//! ```text
//!                    answer that proves the leader knows the producer
//!   one at a time ──────────────────────────────────────────────────▶ up to five
//!        ▲                                                                 │
//!        └──────────── another leader, epoch or producer id ───────────────┘
//! ```
//!
//! A broker that has no state for a producer accepts *any* first sequence. With two batches on their way to it, the
//! second would be accepted although the first was not, and sending the first again would be reordering. Whoever has
//! acknowledged a batch has state and refuses gaps; then up to five are safe, since a broker remembers the last five
//! batches of a producer and recognises every one of them when it comes again.

use super::sequence::ProducerIdentity;

/// The most batches of one partition that may be in flight: as many as a broker remembers.
pub const MAX_IN_FLIGHT: usize = 5;

/// Who leads a partition. The epoch counts elections: the same node in a later epoch may have lost its tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The broker's id.
    pub node: i32,
    /// Leader epoch, -1 if unknown.
    pub epoch: i32,
}

/// The number of batches of a partition that are in flight, and how many may be.
#[derive(Debug)]
pub(super) struct Window {
    in_flight: usize,
    most: usize,
    /// Who is known to have state for which producer. `None` in it: not idempotent, nothing to know.
    established: Option<(Option<ProducerIdentity>, Leader)>,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Self { in_flight: 0, most: most.clamp(1, MAX_IN_FLIGHT), established: None }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether another batch may go. Batches count while they are on their way to a former leader, too.
    pub(super) fn has_room(&self, identity: Option<ProducerIdentity>, leader: Leader) -> bool {
        let several = identity.is_none()
            || self.is_established(identity, leader)
            || planted!("five-in-flight-before-the-first-acknowledgement");
        self.in_flight < if several { self.most } else { 1 }
    }

    pub(super) fn is_established(&self, identity: Option<ProducerIdentity>, leader: Leader) -> bool {
        self.established == Some((identity, leader))
    }

    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn answered(&mut self) {
        debug_assert!(self.in_flight > 0, "an answer to nothing");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// `leader` has answered in a way that only one who knows the producer can; nobody, if its log is gone by now.
    pub(super) fn establish(&mut self, identity: Option<ProducerIdentity>, leader: Option<Leader>) {
        if let Some(leader) = leader {
            self.established = Some((identity, leader));
        }
    }

    /// Nobody is known to know the producer.
    pub(super) fn forget(&mut self) {
        self.established = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Option<ProducerIdentity> = Some(ProducerIdentity { id: 1, epoch: 0 });
    const LEADER: Leader = Leader { node: 1, epoch: 4 };

    #[test]
    fn one_at_a_time_until_the_leader_is_known_to_know_the_producer() {
        let mut window = Window::new(5);
        assert!(window.has_room(ME, LEADER));
        window.sent();
        assert!(!window.has_room(ME, LEADER));
        window.answered();
        window.establish(ME, Some(LEADER));
        for _ in 0..5 {
            assert!(window.has_room(ME, LEADER));
            window.sent();
        }
        assert!(!window.has_room(ME, LEADER));
    }

    #[test]
    fn another_leader_another_election_and_another_epoch_start_over() {
        let mut window = Window::new(5);
        window.establish(ME, Some(LEADER));
        window.sent();
        assert!(window.has_room(ME, LEADER));
        assert!(!window.has_room(ME, Leader { node: 2, epoch: 5 }));
        assert!(!window.has_room(ME, Leader { node: 1, epoch: 5 }));
        assert!(!window.has_room(Some(ProducerIdentity { id: 1, epoch: 1 }), LEADER));
    }

    #[test]
    fn what_is_on_its_way_to_the_old_leader_counts_for_the_new_one() {
        let mut window = Window::new(5);
        window.establish(ME, Some(LEADER));
        window.sent();
        let moved = Leader { node: 2, epoch: 5 };
        assert!(!window.has_room(ME, moved));
        window.answered();
        assert!(window.has_room(ME, moved));
    }

    #[test]
    fn without_idempotence_there_is_nothing_to_learn_first() {
        let mut window = Window::new(2);
        window.sent();
        assert!(window.has_room(None, LEADER));
        window.sent();
        assert!(!window.has_room(None, LEADER));
    }

    #[test]
    fn nobody_gets_more_in_flight_than_a_broker_remembers() {
        let mut window = Window::new(100);
        (0..MAX_IN_FLIGHT).for_each(|_| window.sent());
        assert!(!window.has_room(None, LEADER));
    }
}
