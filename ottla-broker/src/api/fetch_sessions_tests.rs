use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::fetch_request::FetchPartition;
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::{ErrorCode, TopicId};

use super::{Context, FetchSessions, SessionRequest, Wanted, next_epoch};
use crate::api::TopicRef;
use crate::rng::Rng;

fn wanted(partition: i32) -> Wanted {
    let request = FetchPartition { partition, ..FetchPartition::default() };
    Wanted { topic: TopicRef::Id(TopicId([1; 16])), request }
}

fn answer(partition: i32, high_watermark: i64, records: &'static [u8]) -> (Wanted, PartitionData) {
    let data = PartitionData {
        partition_index: partition,
        high_watermark,
        log_start_offset: 0,
        records: Some(Bytes::from_static(records)),
        ..PartitionData::default()
    };
    (wanted(partition), data)
}

fn request(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest { id, epoch, by_id: true, wanted: Vec::new(), forgotten: Vec::new() }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Begins a session over so many partitions.
fn open(sessions: &mut FetchSessions, now: Instant, partitions: i32) -> i32 {
    let answers = (0..partitions).map(|partition| answer(partition, 5, b"")).collect();
    let seed = sessions.sessions.len() as u64;
    sessions.finish(now, &mut Rng::seeded(seed), Context::Full, true, answers).unwrap().0
}

#[test]
fn only_partitions_with_news_are_answered() {
    let (mut sessions, now) = (FetchSessions::new(10), now());
    let id = open(&mut sessions, now, 4);
    let (context, wanted) = sessions.begin(now, request(id, 1)).unwrap();
    assert_eq!(wanted.len(), 4);
    let failed = PartitionData { error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER, ..answer(3, -1, b"").1 };
    let answers =
        vec![answer(0, 5, b""), answer(1, 6, b""), answer(2, 5, b"x"), (super::tests::wanted(3), failed)];
    let (_, sent) = sessions.finish(now, &mut Rng::seeded(0), context, true, answers).unwrap();
    let sent: Vec<_> = sent.iter().map(|(_, data)| data.partition_index).collect();
    assert_eq!(sent, [1, 2, 3]);

    // What had data is served last; behind an error everything is news.
    let (context, wanted) = sessions.begin(now, request(id, 2)).unwrap();
    let order: Vec<_> = wanted.iter().map(|wanted| wanted.request.partition).collect();
    assert_eq!(order, [0, 1, 3, 2]);
    let answers = vec![answer(0, 5, b""), answer(1, 6, b""), answer(3, 5, b""), answer(2, 5, b"")];
    let (_, sent) = sessions.finish(now, &mut Rng::seeded(0), context, true, answers).unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.partition_index, 3);
}

#[test]
fn a_response_to_an_overtaken_request_is_an_error() {
    let (mut sessions, now) = (FetchSessions::new(10), now());
    let id = open(&mut sessions, now, 1);
    let (first, _) = sessions.begin(now, request(id, 1)).unwrap();
    sessions.begin(now, request(id, 2)).unwrap();
    let late = sessions.finish(now, &mut Rng::seeded(0), first, true, vec![answer(0, 5, b"")]);
    assert_eq!(late.unwrap_err(), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

#[test]
fn topics_are_named_alike_within_a_session() {
    let (mut sessions, now) = (FetchSessions::new(10), now());
    let id = open(&mut sessions, now, 1);
    let by_name = SessionRequest { by_id: false, ..request(id, 1) };
    assert_eq!(sessions.begin(now, by_name).unwrap_err(), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
}

#[test]
fn a_full_cache_gives_way_only_to_the_worthier() {
    let (mut sessions, start) = (FetchSessions::new(2), now());
    let (small, large) = (open(&mut sessions, start, 1), open(&mut sessions, start, 3));
    assert_eq!(open(&mut sessions, start, 9), 0, "both are new");

    let later = start + Duration::from_secs(121);
    sessions.begin(later, request(small, 1)).unwrap();
    sessions.begin(later, request(large, 1)).unwrap();
    assert_eq!(open(&mut sessions, later, 1), 0, "both are in use, and no smaller");
    assert_ne!(open(&mut sessions, later, 2), 0);
    assert!(!sessions.sessions.contains_key(&small));

    let much_later = later + Duration::from_secs(121);
    assert_ne!(open(&mut sessions, much_later, 1), 0, "unused ones give way to anything");
}

#[test]
fn a_full_request_ends_the_session_that_it_names() {
    let (mut sessions, now) = (FetchSessions::new(10), now());
    let id = open(&mut sessions, now, 1);
    let (context, _) = sessions.begin(now, request(id, -1)).unwrap();
    assert_eq!(context, Context::Sessionless);
    assert_eq!(sessions.begin(now, request(id, 1)).unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!((next_epoch(0), next_epoch(i32::MAX)), (1, 1));
}
