//! Incremental fetch sessions (KIP-227).
//!
//! ```text
//!                      full fetch, epoch 0
//!   (none) ───────────────────────────────────► session, expects epoch 1
//!                                                 │       ▲
//!                              fetch, epoch n ────┘       │ expects n + 1 (behind the largest number: 1)
//!                                                 └───────┘
//!   A session ends by a full fetch that names it, by epoch -1, when it holds no partition any more, or by eviction.
//! ```
//!
//! An incremental request names what changed; the response names the partitions that have news.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::FetchPartition;
use ottla_protocol::messages::fetch_response::PartitionData;

use super::TopicRef;
use crate::faults::Chosen;
use crate::rng::Rng;

/// Kafka's `min.incremental.fetch.session.eviction.ms`.
const EVICTION: Duration = Duration::from_secs(120);

/// The epoch of a request that begins a session, and the id of no session.
const INITIAL_EPOCH: i32 = 0;
const NO_SESSION: i32 = 0;
/// The epoch of a request that wants no session.
const FINAL_EPOCH: i32 = -1;

/// A partition as a client fetches it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) topic: TopicRef,
    pub(super) request: FetchPartition,
}

/// The fetch sessions of a node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    sessions: BTreeMap<i32, Session>,
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    /// The epoch that the next request has.
    epoch: i32,
    created: Instant,
    used: Instant,
    /// In the order in which they are served: what had data moves to the end.
    partitions: Vec<Cached>,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// What the client knows; -1 so that the next answer is sent in any case.
    high_watermark: i64,
    log_start_offset: i64,
}

/// How a request and its response relate to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// Without a session.
    Sessionless,
    /// The response may begin a session.
    Full,
    /// Part of the session; the session expects this epoch until the next request.
    Incremental { id: i32, epoch: i32 },
}

/// The session fields of a request.
#[derive(Debug, Clone)]
pub(super) struct SessionRequest {
    pub(super) id: i32,
    pub(super) epoch: i32,
    pub(super) by_id: bool,
    pub(super) wanted: Vec<Wanted>,
    pub(super) forgotten: Vec<(TopicRef, i32)>,
}

impl FetchSessions {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, sessions: BTreeMap::new() }
    }

    /// Whether a session holds a partition.
    pub(crate) fn has(&self, session: i32, part: &Chosen) -> bool {
        let is = |cached: &Cached| {
            let Wanted { topic, request } = &cached.wanted;
            part.has(&topic.name(), topic.id(), request.partition)
        };
        self.sessions.get(&session).is_some_and(|session| session.partitions.iter().any(is))
    }

    /// What a request wants to fetch, after its session was told of it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        request: SessionRequest,
    ) -> Result<(Context, Vec<Wanted>), ErrorCode> {
        if request.epoch == INITIAL_EPOCH || request.epoch == FINAL_EPOCH {
            self.sessions.remove(&request.id);
            let context = if request.epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full };
            return Ok((context, request.wanted));
        }
        let session = self.sessions.get_mut(&request.id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != request.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.update(request.wanted, &request.forgotten);
        session.used = now;
        if session.partitions.is_empty() {
            self.sessions.remove(&request.id);
            return Ok((Context::Sessionless, Vec::new()));
        }
        session.epoch = next_epoch(session.epoch);
        let wanted = session.partitions.iter().map(|cached| cached.wanted.clone()).collect();
        Ok((Context::Incremental { id: request.id, epoch: session.epoch }, wanted))
    }

    /// The id of the session that a response names, and what of it is sent.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        context: Context,
        by_id: bool,
        answers: Vec<(Wanted, PartitionData)>,
    ) -> Result<(i32, Vec<(Wanted, PartitionData)>), ErrorCode> {
        match context {
            Context::Sessionless => Ok((NO_SESSION, answers)),
            Context::Full => {
                let id = self.create(now, rng, by_id, &answers).unwrap_or(NO_SESSION);
                Ok((id, answers))
            }
            Context::Incremental { id, epoch } => {
                let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
                }
                Ok((
                    id,
                    answers.into_iter().filter(|(wanted, data)| session.has_news(wanted, data)).collect(),
                ))
            }
        }
    }

    /// Begins a session if there is room, or can be made.
    fn create(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        by_id: bool,
        answers: &[(Wanted, PartitionData)],
    ) -> Option<i32> {
        if answers.is_empty() || (self.sessions.len() >= self.slots && !self.evict(now, answers.len())) {
            return None;
        }
        let partitions = answers.iter().map(|(wanted, data)| Cached::new(wanted.clone(), data)).collect();
        let session =
            Session { by_id, epoch: next_epoch(INITIAL_EPOCH), created: now, used: now, partitions };
        loop {
            // A positive i32.
            let id = (rng.next_u64() & 0x7FFF_FFFF) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                self.sessions.insert(id, session);
                return Some(id);
            }
        }
    }

    /// Gives up the session that was unused for longest if that is long, or else the smallest one that is not new,
    /// for a larger one.
    fn evict(&mut self, now: Instant, size: usize) -> bool {
        let stale = self
            .sessions
            .iter()
            .min_by_key(|(_, session)| session.used)
            .filter(|(_, session)| now.saturating_duration_since(session.used) > EVICTION);
        let smaller = self
            .sessions
            .iter()
            .filter(|(_, session)| now.saturating_duration_since(session.created) > EVICTION)
            .min_by_key(|(_, session)| session.partitions.len())
            .filter(|(_, session)| session.partitions.len() < size);
        match stale.or(smaller).map(|(id, _)| *id) {
            Some(id) => self.sessions.remove(&id).is_some(),
            None => false,
        }
    }
}

impl Session {
    fn update(&mut self, wanted: Vec<Wanted>, forgotten: &[(TopicRef, i32)]) {
        for wanted in wanted {
            let known =
                self.partitions.iter_mut().find(|cached| cached.is(&wanted.topic, wanted.request.partition));
            match known {
                Some(known) => known.wanted = wanted,
                None => self.partitions.push(Cached { wanted, high_watermark: -1, log_start_offset: -1 }),
            }
        }
        self.partitions
            .retain(|cached| !forgotten.iter().any(|(topic, partition)| cached.is(topic, *partition)));
    }

    /// Whether an answer tells the client something new.
    fn has_news(&mut self, wanted: &Wanted, data: &PartitionData) -> bool {
        let at = self.partitions.iter().position(|cached| cached.is(&wanted.topic, wanted.request.partition));
        let Some(at) = at else { return false };
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let diverging = data.diverging_epoch.epoch >= 0 || data.diverging_epoch.end_offset >= 0;
        let Some(cached) = self.partitions.get_mut(at) else { return false };
        let moved =
            cached.high_watermark != data.high_watermark || cached.log_start_offset != data.log_start_offset;
        *cached = Cached::new(cached.wanted.clone(), data);
        if has_records {
            // Others are served first next time.
            let served = self.partitions.remove(at);
            self.partitions.push(served);
        }
        let sent_elsewhere = data.preferred_read_replica >= 0;
        has_records || diverging || sent_elsewhere || moved || !data.error_code.is_ok()
    }
}

impl Cached {
    fn new(wanted: Wanted, data: &PartitionData) -> Self {
        // Behind an error the next answer is news, whatever it says.
        let high_watermark = if data.error_code.is_ok() { data.high_watermark } else { -1 };
        Self { wanted, high_watermark, log_start_offset: data.log_start_offset }
    }

    fn is(&self, topic: &TopicRef, partition: i32) -> bool {
        self.wanted.topic == *topic && self.wanted.request.partition == partition
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
#[path = "fetch_sessions_tests.rs"]
mod tests;
