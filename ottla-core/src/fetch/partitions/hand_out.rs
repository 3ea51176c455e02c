//! What `poll` gets.

use ottla_protocol::{Str, batch::BatchError};

use super::{
    super::{
        Absence, Position, Range, Trouble,
        cursor::{Cursor, Phase},
    },
    Partitions, enlist,
};

/// Which assignment of a partition, in which generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) id: u64,
    pub(super) generation: u64,
    /// How often the user had moved it.
    pub(super) seeks: u64,
    /// The epoch that whoever answers has to have reached.
    pub(super) epoch: i32,
}

impl Ticket {
    pub(super) fn of(id: u64, cursor: &Cursor) -> Self {
        Self { id, generation: cursor.generation, seeks: cursor.seeks, epoch: cursor.epoch_to_know() }
    }

    /// The token of the assignment: no other has the same.
    #[must_use]
    pub fn token(self) -> u64 {
        self.id
    }
}

/// Something for the user.
#[derive(Debug)]
pub enum Handout {
    /// Raw bytes to unpack. [`Partitions::finish`] must follow: until then the partition hands out nothing else.
    Range {
        /// The partition's topic.
        topic: Str,
        /// The partition's number.
        partition: i32,
        /// To be given back.
        ticket: Ticket,
        /// What to unpack.
        range: Range,
    },
    /// The partition is held until the user seeks. Told once.
    Trouble {
        /// The partition's topic.
        topic: Str,
        /// The partition's number.
        partition: i32,
        /// Why.
        trouble: Trouble,
    },
    /// Something that was named is not there. Told once for each cause.
    Absent(Absence),
}

/// What unpacking a range came to: all of [`super::super::Unpacked`] but the records.
#[derive(Debug)]
pub struct Outcome {
    /// The position behind what was unpacked.
    pub next: Position,
    /// What was not unpacked yet.
    pub rest: Option<Range>,
    /// Why the batch at `next` cannot be read.
    pub corrupt: Option<BatchError>,
}

/// What became of a range that was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Hand out what there is.
    Current,
    /// Hand out what there is; the partition goes on elsewhere, and a broker has to be asked.
    AskAgain,
    /// It is out of date, since a seek came between: nothing of it may be handed out.
    Stale,
}

impl Partitions {
    /// The next thing for the user, of the partition whose turn it is.
    pub fn take(&mut self) -> Option<Handout> {
        if let Some(absent) = self.take_absent() {
            return Some(Handout::Absent(absent));
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            cursor.listed = false;
            if !cursor.is_ready() {
                continue;
            }
            if let Some(handout) = cursor.take(id) {
                return Some(handout);
            }
        }
        None
    }

    /// The next thing for the reader of one partition.
    pub fn take_of(&mut self, token: u64) -> Option<Handout> {
        self.cursors.get_mut(&token).filter(|cursor| cursor.has_something())?.take(token)
    }

    /// Whether [`Self::take_of`] would give something.
    #[must_use]
    pub fn has_something(&self, token: u64) -> bool {
        self.cursors.get(&token).is_some_and(Cursor::has_something)
    }

    /// Has a partition handed out by [`Self::take_of`] only, or by [`Self::take`] again.
    pub fn reserve(&mut self, token: u64, reserved: bool) {
        if let Some(cursor) = self.cursors.get_mut(&token) {
            cursor.reserved = reserved;
            enlist(&mut self.ready, token, cursor);
        }
    }

    /// Whether a partition has a reader of its own.
    #[must_use]
    pub fn is_reserved(&self, token: u64) -> bool {
        self.cursors.get(&token).is_some_and(|cursor| cursor.reserved)
    }

    /// What is not there, or the next partition that is held, and of which the user was not told. It needs neither a lease
    /// nor a turn.
    pub fn take_trouble(&mut self) -> Option<Handout> {
        if let Some(absent) = self.take_absent() {
            return Some(Handout::Absent(absent));
        }
        let has_trouble = |cursor: &Cursor| !cursor.reserved && cursor.has_trouble();
        let (id, cursor) = self.cursors.iter_mut().find(|(_, cursor)| has_trouble(cursor))?;
        cursor.take(*id)
    }

    /// The same, for the reader of one partition.
    pub fn take_trouble_of(&mut self, token: u64) -> Option<Handout> {
        self.cursors.get_mut(&token).filter(|cursor| cursor.has_trouble())?.take(token)
    }

    /// Whether somebody else who polls would get something.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.notices.is_empty()
    }

    /// The first record that could be had of some partition, with or without a reader of its own; by the partition's token.
    #[must_use]
    pub fn first_to_be_had(&self) -> Option<(u64, i64)> {
        let (token, cursor) = self.cursors.iter().find(|(_, it)| it.has_something() && !it.has_trouble())?;
        Some((*token, cursor.position?.offset))
    }

    /// A range was unpacked.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome) -> Finished {
        let policy = self.settings.on_out_of_range;
        let cursor = self.cursors.get_mut(&ticket.id).filter(|cursor| cursor.generation == ticket.generation);
        let Some(cursor) = cursor else { return Finished::Stale };
        cursor.on_handed_out(outcome.next);
        if let Some(rest) = outcome.rest {
            cursor.queue.put_back(rest);
        }
        if let Some(cause) = outcome.corrupt {
            cursor.on_corrupt_at_position(cause);
        }
        cursor.settle(policy);
        enlist(&mut self.ready, ticket.id, cursor);
        if cursor.generation == ticket.generation { Finished::Current } else { Finished::AskAgain }
    }

    /// Whether what was handed out under this ticket is up to date: no seek, no other assignment came since. A reset or
    /// a hold behind it takes nothing of it back: nobody would fetch it again.
    #[must_use]
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.cursors.get(&ticket.id).is_some_and(|cursor| cursor.seeks == ticket.seeks)
    }

    /// Whether somebody has paused the partition of this ticket.
    #[must_use]
    pub fn is_ticket_paused(&self, ticket: Ticket) -> bool {
        self.cursors.get(&ticket.id).is_some_and(Cursor::is_paused)
    }
}

impl Cursor {
    fn take(&mut self, id: u64) -> Option<Handout> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        if let Phase::Held { trouble, told } = &mut self.phase {
            *told = true;
            let trouble = trouble.clone();
            return Some(Handout::Trouble { topic, partition, trouble });
        }
        let range = self.queue.pop()?;
        self.lent = true;
        let ticket = Ticket::of(id, self);
        Some(Handout::Range { topic, partition, ticket, range })
    }
}
