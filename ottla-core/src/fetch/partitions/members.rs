//! Partitions that come and go one by one, as a group gives them to its members.
//!
//! Those that stay keep their positions and whatever is buffered (KIP-429); of those that go everything is forgotten,
//! and when one comes back it begins where the group says.

use ottla_protocol::Str;

use super::{
    super::{
        Position, Start,
        cursor::{Cursor, Phase},
    },
    Partitions, Ticket, enlist,
};

impl Partitions {
    /// Reads one more partition, from this place. Gives a token: no other assignment, also of the same partition, ever
    /// has the same. One that is read already starts over.
    ///
    /// The leader comes with the next [`Self::on_metadata`].
    pub fn add(&mut self, topic: Str, partition: i32, start: Start) -> u64 {
        if let Some(known) = self.id(&topic, partition) {
            self.remove(known);
        }
        self.insert(topic, partition, start)
    }

    /// Stops reading a partition. Answers that are under way are dropped when they come.
    pub fn remove(&mut self, token: u64) {
        let Some(cursor) = self.cursors.remove(&token) else { return };
        if let Some(ids) = self.by_name.get_mut(&cursor.topic) {
            ids.retain(|_, id| *id != token);
            if ids.is_empty() {
                self.by_name.remove(&cursor.topic);
            }
        }
    }

    /// The tokens of all assignments.
    pub fn tokens(&self) -> impl Iterator<Item = u64> {
        self.cursors.keys().copied()
    }

    /// Topic and number of the partition with this token.
    #[must_use]
    pub fn name(&self, token: u64) -> Option<(&Str, i32)> {
        self.cursors.get(&token).map(|cursor| (&cursor.topic, cursor.partition))
    }

    /// The token of the partition's assignment.
    #[must_use]
    pub fn token(&self, topic: &str, partition: i32) -> Option<u64> {
        self.id(topic, partition)
    }

    /// Hands out nothing new of a partition, or does so again. What is fetched meanwhile is buffered.
    pub fn hold_back(&mut self, token: u64, hold_back: bool) {
        if let Some(cursor) = self.cursors.get_mut(&token) {
            cursor.held_back = hold_back;
            enlist(&mut self.ready, token, cursor);
        }
    }

    /// Where reading goes on once that is known; `None` also while the partition is held.
    #[must_use]
    pub fn place(&self, token: u64) -> Option<Position> {
        let cursor = self.cursors.get(&token)?;
        match cursor.phase {
            Phase::Held { .. } | Phase::Resolving { .. } => None,
            _ => cursor.position,
        }
    }

    /// Whether the log that was read is gone and another one has its name: no offset of the old one means anything in it.
    #[must_use]
    pub fn is_log_gone(&self, token: u64) -> bool {
        self.cursors.get(&token).is_some_and(Cursor::is_log_gone)
    }

    /// What a batch would have that was taken now.
    #[must_use]
    pub fn ticket(&self, token: u64) -> Option<Ticket> {
        self.cursors.get(&token).map(|cursor| Ticket::of(token, cursor))
    }
}
