//! Where offsets are, and whether the log is still the same: ListOffsets and OffsetForLeaderEpoch.

use std::{collections::BTreeSet, time::Instant};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsResponse},
        offset_for_leader_epoch_request::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderEpochResponse},
    },
};

use super::{
    super::{
        EpochEnd, Position, Query, Tick,
        cursor::{Cursor, Phase},
    },
    Effects, Partitions, PositionReset, Ticket, by_topic, enlist,
};
use crate::fetch::cursor::ResetNote;

/// What to ask a broker about positions.
#[derive(Debug)]
pub enum LookUpPlan {
    /// Ask this.
    Send(LookUpAsk),
    /// There is nothing to ask until something changes, or until this moment.
    Wait(Option<Instant>),
}

/// A question about positions.
#[derive(Debug)]
pub enum LookUpAsk {
    /// Where records of a time are; the answer goes to [`Partitions::on_offsets`].
    Offsets(ListOffsetsRequest, Vec<Ticket>),
    /// Where epochs end; the answer goes to [`Partitions::on_epoch_ends`].
    EpochEnds(OffsetForLeaderEpochRequest, Vec<Ticket>),
}

impl Partitions {
    /// What to ask `node` about positions next.
    pub fn plan_look_up(&self, node: i32, tick: Tick) -> LookUpPlan {
        let mut earliest = None::<Instant>;
        let (mut offsets, mut ends) = (Vec::new(), Vec::new());
        for (id, cursor) in &self.cursors {
            if cursor.leader != Some(node) {
                continue;
            }
            let due = match cursor.phase {
                Phase::Resolving { .. } => &mut offsets,
                Phase::Validating => &mut ends,
                _ => continue,
            };
            match cursor.retry.blocked(tick.now) {
                Some(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                None => due.push((*id, cursor)),
            }
        }
        if !ends.is_empty() {
            LookUpPlan::Send(epoch_question(&ends))
        } else if !offsets.is_empty() {
            LookUpPlan::Send(self.offset_question(&offsets, tick))
        } else {
            LookUpPlan::Wait(earliest)
        }
    }

    fn offset_question(&self, due: &[(u64, &Cursor)], tick: Tick) -> LookUpAsk {
        let mut tickets = Vec::new();
        let parts = due.iter().filter_map(|(id, cursor)| {
            let Some(Query::Timestamp(timestamp)) = cursor.query(tick.wall) else { return None };
            tickets.push(Ticket::of(*id, cursor));
            let partition = ListOffsetsPartition {
                partition_index: cursor.partition,
                current_leader_epoch: cursor.leader_epoch,
                timestamp,
            };
            Some((cursor.topic.clone(), partition))
        });
        let topics = by_topic(parts).into_iter();
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.settings.isolation.to_wire(),
            topics: topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect(),
            ..ListOffsetsRequest::default()
        };
        LookUpAsk::Offsets(request, tickets)
    }

    /// The answer to [`LookUpAsk::Offsets`].
    pub fn on_offsets(&mut self, tickets: &[Ticket], response: &ListOffsetsResponse, tick: Tick) -> Effects {
        let mut effects = Effects::default();
        for topic in &response.topics {
            for part in &topic.partitions {
                self.on_answer_about(
                    tickets,
                    &topic.name,
                    part.partition_index,
                    &mut effects,
                    |cursor, effects, s| {
                        if !matches!(cursor.phase, Phase::Resolving { .. }) {
                            return None;
                        }
                        if !part.error_code.is_ok() {
                            effects.refresh_metadata |=
                                cursor.on_look_up_error(part.error_code, tick, &s.backoff);
                            return None;
                        }
                        cursor.on_resolved(found(part), tick, &s.backoff)
                    },
                );
            }
        }
        let parts = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |part| (&topic.name, part.partition_index)));
        self.on_left_out(tickets, &parts.collect(), tick);
        effects
    }

    /// A partition that is not in the answer is asked about again, but not at once.
    fn on_left_out(&mut self, tickets: &[Ticket], answered: &BTreeSet<(&Str, i32)>, tick: Tick) {
        for ticket in tickets {
            if let Some(cursor) = self.cursors.get_mut(&ticket.id)
                && cursor.generation == ticket.generation
                && !answered.contains(&(&cursor.topic, cursor.partition))
            {
                cursor.on_look_up_error(ErrorCode::UNKNOWN_SERVER_ERROR, tick, &self.settings.backoff);
            }
        }
    }

    /// The answer to [`LookUpAsk::EpochEnds`].
    pub fn on_epoch_ends(
        &mut self,
        tickets: &[Ticket],
        response: &OffsetForLeaderEpochResponse,
        tick: Tick,
    ) -> Effects {
        let mut effects = Effects::default();
        for topic in &response.topics {
            for part in &topic.partitions {
                self.on_answer_about(
                    tickets,
                    &topic.topic,
                    part.partition,
                    &mut effects,
                    |cursor, effects, s| {
                        if !matches!(cursor.phase, Phase::Validating) {
                            return None;
                        }
                        if !part.error_code.is_ok() {
                            effects.refresh_metadata |=
                                cursor.on_look_up_error(part.error_code, tick, &s.backoff);
                            return None;
                        }
                        cursor.on_epoch_end(end_of(part), s.on_out_of_range)
                    },
                );
            }
        }
        let parts = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |part| (&topic.topic, part.partition)));
        self.on_left_out(tickets, &parts.collect(), tick);
        effects
    }

    /// The broker cannot be asked about epochs (before Kafka 2.3 it takes rights over the whole cluster): the
    /// positions count as good.
    pub fn on_epochs_unavailable(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            if let Some(cursor) = self.cursors.get_mut(&ticket.id)
                && cursor.generation == ticket.generation
            {
                cursor.skip_validation();
            }
        }
    }

    /// Nobody answered.
    pub fn on_look_up_lost(&mut self, tickets: &[Ticket], tick: Tick) {
        for ticket in tickets {
            if let Some(cursor) = self.cursors.get_mut(&ticket.id)
                && cursor.generation == ticket.generation
            {
                cursor.on_look_up_error(ErrorCode::NETWORK_EXCEPTION, tick, &self.settings.backoff);
            }
        }
    }

    /// Finds the partition of an answer among those that were asked about, unless it has moved meanwhile, or another leader
    /// is known: what the one before says of its log, the new one need not have.
    fn on_answer_about(
        &mut self,
        tickets: &[Ticket],
        topic: &Str,
        partition: i32,
        effects: &mut Effects,
        apply: impl FnOnce(&mut Cursor, &mut Effects, &super::FetchSettings) -> Option<(ResetNote, Position)>,
    ) {
        let Some(id) = self.id(topic, partition) else { return };
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        // They are in the order of the cursors that they were made of.
        let ticket = tickets.binary_search_by_key(&id, |ticket| ticket.id).ok().map(|at| tickets[at]);
        if ticket != Some(Ticket::of(id, cursor)) {
            return;
        }
        let reset = apply(cursor, effects, &self.settings);
        effects.resets.extend(reset.map(|(note, to)| cursor.position_reset(note, to)));
        cursor.settle(self.settings.on_out_of_range);
        let waiting = self.ready.len();
        enlist(&mut self.ready, id, cursor);
        effects.ready += self.ready.len() - waiting;
    }
}

/// `None` when the log has no record of that time or later; a negative offset means the same from every version on.
fn found(part: &ListOffsetsPartitionResponse) -> Option<Position> {
    (part.offset >= 0).then(|| Position::with_epoch(part.offset, part.leader_epoch))
}

fn end_of(part: &EpochEndOffset) -> EpochEnd {
    EpochEnd { epoch: part.leader_epoch, end_offset: part.end_offset }
}

fn epoch_question(due: &[(u64, &Cursor)]) -> LookUpAsk {
    let parts = due.iter().map(|(_, cursor)| {
        let partition = OffsetForLeaderPartition {
            partition: cursor.partition,
            current_leader_epoch: cursor.epoch_to_know(),
            leader_epoch: cursor.doubtful().epoch,
        };
        (cursor.topic.clone(), partition)
    });
    let topics = by_topic(parts).into_iter();
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: topics.map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions }).collect(),
    };
    LookUpAsk::EpochEnds(request, due.iter().map(|(id, cursor)| Ticket::of(*id, cursor)).collect())
}

impl Cursor {
    pub(super) fn position_reset(&self, note: ResetNote, to: Position) -> PositionReset {
        let ResetNote { from, reason, other_log } = note;
        PositionReset { topic: self.topic.clone(), partition: self.partition, from, to, reason, other_log }
    }
}
