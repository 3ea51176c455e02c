//! One rule each. What happens when they meet is in `model_tests`.

use std::time::{Duration, Instant};

use ottla_protocol::{
    ErrorCode,
    batch::{BatchBuilder, BatchHeader, RecordHeader, SealedBatch},
};

use super::*;
use crate::backoff::BackoffPolicy;

const LINGER: Duration = Duration::from_millis(5);
const BACKOFF: Duration = Duration::from_millis(100);
const DELIVERY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(10);
const HERE: Leader = Leader { node: 1, epoch: 1 };
const THERE: Leader = Leader { node: 2, epoch: 2 };

/// The values of the records that it stands for.
#[derive(Debug, Clone, PartialEq)]
struct Told(Vec<u32>);

impl Completion for Told {
    fn split(mut self, at: u32) -> (Self, Self) {
        let rest = self.0.split_off(at as usize);
        (self, Self(rest))
    }
}

struct Test {
    queue: PartitionQueue<Told>,
    now: Instant,
    next_value: u32,
}

fn settings() -> QueueSettings {
    QueueSettings {
        batch_size: 1_000,
        linger: LINGER,
        delivery_timeout: DELIVERY,
        unknown_topic_grace: GRACE,
        max_in_flight: 5,
        idempotent: true,
        compressed: false,
        backoff: BackoffPolicy::new(BACKOFF, BACKOFF),
    }
}

fn test() -> Test {
    let mut test = test_with(settings());
    test.queue.adopt(ProducerIdentity { id: 7, epoch: 0 });
    test
}

fn test_with(settings: QueueSettings) -> Test {
    #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
    let now = Instant::now();
    let mut queue = PartitionQueue::new(settings);
    queue.set_leader(Some(HERE));
    Test { queue, now, next_value: 0 }
}

fn answered(code: ErrorCode) -> Attempt {
    Attempt::Answered { code, base_offset: -1, log_start_offset: -1 }
}

const WRITTEN: Attempt = Attempt::Answered { code: ErrorCode::NONE, base_offset: 40, log_start_offset: 0 };

impl Test {
    /// Appends `records` records of some bytes each as one closed batch.
    fn batch(&mut self, records: u32) {
        for _ in 0..records {
            self.append();
        }
        assert!(self.queue.close());
    }

    fn append(&mut self) {
        let value = self.next_value;
        self.next_value += 1;
        let bytes = [value as u8; 10];
        if self.queue.open_completion().is_none() {
            self.queue.open(Vec::new(), 1_000, Told(Vec::new()), self.now);
        }
        self.queue.append(0, None, Some(&bytes), no_headers()).expect("there is room");
        self.queue.open_completion().expect("open").0.push(value);
    }

    fn next(&mut self) -> Next {
        self.queue.next(self.now, true, usize::MAX)
    }

    fn send(&mut self) -> Outgoing {
        match self.next() {
            Next::Send(mut outgoing) => {
                outgoing.stamp();
                outgoing
            }
            other => panic!("nothing to send: {other:?}"),
        }
    }

    fn settle(&mut self, outgoing: Outgoing, attempt: Attempt) -> Settled<Told> {
        self.queue.settle(outgoing.ticket, outgoing.batch, attempt, self.now, u64::MAX)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn expire(&mut self) -> Vec<(Told, Fate)> {
        self.queue.expire(self.now, Told::clone).into_iter().map(|told| (told.to, told.fate)).collect()
    }

    /// Gets the window open: one batch is acknowledged.
    fn establish(&mut self) {
        self.batch(1);
        let first = self.send();
        assert!(matches!(self.settle(first, WRITTEN), Settled::Written { .. }));
    }
}

fn no_headers() -> std::iter::Empty<RecordHeader<'static>> {
    std::iter::empty()
}

fn header(batch: &SealedBatch) -> BatchHeader {
    BatchHeader::parse(&batch.bytes()).expect("well-formed").expect("whole")
}

/// Epoch, sequence and count on the wire.
fn numbers(outgoing: &Outgoing) -> (i16, i32, u32) {
    let header = header(&outgoing.batch);
    (header.producer_epoch, header.base_sequence, outgoing.batch.count())
}

fn told(settled: &Settled<Told>) -> Option<(Vec<u32>, Option<Fate>)> {
    match settled {
        Settled::Written { completion, .. } => Some((completion.0.clone(), None)),
        Settled::Failed(GivenUp { to, fate, .. }) => Some((to.0.clone(), Some(*fate))),
        Settled::Again { .. } | Settled::Unknown => None,
    }
}

#[test]
fn a_batch_is_stamped_when_it_is_sent_and_its_offset_comes_back() {
    let mut test = test();
    test.batch(3);
    let first = test.send();
    assert_eq!(numbers(&first), (0, 0, 3));
    let settled = test.settle(first, WRITTEN);
    assert!(matches!(
        settled,
        Settled::Written { base_offset: Some(40), facts: Facts { records: 3, attempts: 1, .. }, .. }
    ));
    test.batch(2);
    assert_eq!(numbers(&test.send()), (0, 3, 2));
}

#[test]
fn an_open_batch_goes_at_once_when_nothing_is_in_flight() {
    let mut test = test();
    test.append();
    assert_eq!(test.send().batch.count(), 1);
}

#[test]
fn an_open_batch_lingers_while_the_broker_is_busy_and_takes_more_records() {
    let mut test = test();
    test.append();
    let until = test.now + LINGER;
    assert!(matches!(test.queue.next(test.now, false, usize::MAX), Next::Linger(at) if at == until));
    test.append();
    test.pass(LINGER);
    let Next::Send(outgoing) = test.queue.next(test.now, false, usize::MAX) else {
        panic!("it lingered enough")
    };
    assert_eq!(outgoing.batch.count(), 2);
}

#[test]
fn a_flushed_batch_does_not_linger() {
    let mut test = test();
    test.append();
    test.queue.hurry();
    assert!(matches!(test.queue.next(test.now, false, usize::MAX), Next::Send(_)));
}

#[test]
fn a_batch_that_does_not_fit_into_the_request_stays_where_it_is() {
    let mut test = test();
    test.append();
    assert!(matches!(test.queue.next(test.now, true, 70), Next::NoRoom));
    test.append();
    assert_eq!(test.send().batch.count(), 2);
}

#[test]
fn appending_says_what_is_missing() {
    let mut test = test();
    let append =
        |queue: &mut PartitionQueue<Told>, len| queue.append(0, None, Some(&vec![0; len]), no_headers());
    assert_eq!(append(&mut test.queue, 1), Err(Refusal::NoBatch));
    test.queue.open(Vec::new(), 100, Told(Vec::new()), test.now);
    // A record of its own batch may be larger than `batch_size`.
    assert!(matches!(append(&mut test.queue, 5_000), Err(Refusal::Grow { to }) if to > 5_000));
    assert_eq!(append(&mut test.queue, 10), Ok(0));
    assert!(matches!(append(&mut test.queue, 100), Err(Refusal::Grow { to }) if to < 1_000));
    test.queue.grow(1_000);
    assert_eq!(append(&mut test.queue, 100), Ok(1));
    assert_eq!(append(&mut test.queue, 5_000), Err(Refusal::Full));
}

#[test]
fn an_open_batch_without_records_is_nothing() {
    let mut test = test();
    test.queue.open(Vec::new(), 100, Told(Vec::new()), test.now);
    assert!(test.queue.is_empty() && test.queue.next_deadline().is_none());
    assert!(matches!(test.next(), Next::Empty));
    assert!(!test.queue.close());
}

#[test]
fn one_in_flight_until_the_leader_has_acknowledged_then_five() {
    let mut test = test();
    (0..8).for_each(|_| test.batch(1));
    let first = test.send();
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(first, WRITTEN);
    let sent: Vec<_> = (0..5).map(|_| numbers(&test.send()).1).collect();
    assert_eq!(sent, [1, 2, 3, 4, 5]);
    assert!(matches!(test.next(), Next::Waiting));
}

#[test]
fn a_new_leader_gets_one_batch_first_and_nothing_before_the_old_one_has_answered() {
    let mut test = test();
    test.establish();
    (0..3).for_each(|_| test.batch(1));
    let (a, b) = (test.send(), test.send());
    test.queue.set_leader(Some(THERE));
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(a, answered(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(matches!(test.next(), Next::BackOff(_)));
    test.settle(b, Attempt::Lost);
    test.pass(BACKOFF);
    let again = test.send();
    assert_eq!(numbers(&again), (0, 1, 1));
    assert!(matches!(test.next(), Next::Waiting));
}

#[test]
fn an_acknowledgement_of_the_old_leader_says_nothing_about_the_new_one() {
    let mut test = test();
    (0..4).for_each(|_| test.batch(1));
    let first = test.send();
    test.queue.set_leader(Some(THERE));
    test.settle(first, WRITTEN);
    test.send();
    assert!(matches!(test.next(), Next::Waiting));
}

#[test]
fn a_lost_answer_is_resent_unchanged_and_alone() {
    let mut test = test();
    test.establish();
    (0..3).for_each(|_| test.batch(2));
    let (a, b) = (test.send(), test.send());
    let bytes = a.batch.bytes();
    test.settle(a, Attempt::Lost);
    test.settle(b, Attempt::Lost);
    assert!(matches!(test.next(), Next::BackOff(_)));
    test.pass(BACKOFF);
    let a = test.send();
    assert_eq!(a.batch.bytes(), bytes);
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(a, answered(ErrorCode::DUPLICATE_SEQUENCE_NUMBER));
    assert_eq!(numbers(&test.send()), (0, 3, 2));
}

#[test]
fn p08_a_batch_behind_a_failed_one_is_merely_sent_again() {
    let mut test = test();
    test.establish();
    (0..2).for_each(|_| test.batch(1));
    let (a, b) = (test.send(), test.send());
    test.settle(a, answered(ErrorCode::NOT_ENOUGH_REPLICAS));
    test.settle(b, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    test.pass(BACKOFF);
    for sequence in [1, 2] {
        let again = test.send();
        assert_eq!(numbers(&again), (0, sequence, 1));
        test.settle(again, WRITTEN);
    }
}

#[test]
fn p08_a_true_gap_raises_the_epoch_and_numbers_everything_anew_in_order() {
    let mut test = test();
    test.establish();
    (0..2).for_each(|_| test.batch(2));
    let (a, b) = (test.send(), test.send());
    test.settle(a, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert!(matches!(test.next(), Next::BackOff(_)));
    test.settle(b, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    test.pass(BACKOFF);
    let a = test.send();
    assert_eq!(numbers(&a), (1, 0, 2));
    test.settle(a, WRITTEN);
    assert_eq!(numbers(&test.send()), (1, 2, 2));
}

#[test]
fn the_epoch_is_not_raised_while_a_batch_is_in_doubt() {
    let mut test = test();
    test.establish();
    (0..2).for_each(|_| test.batch(1));
    let (a, b) = (test.send(), test.send());
    test.settle(a, answered(ErrorCode::INVALID_RECORD));
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(b, Attempt::Lost);
    test.pass(BACKOFF);
    let b = test.send();
    assert_eq!(numbers(&b), (0, 2, 1));
    test.settle(b, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(numbers(&test.send()), (1, 0, 1));
}

#[test]
fn whoever_is_asked_about_a_doubt_in_vain_is_asked_again_after_a_back_off() {
    for vain in [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::INVALID_PRODUCER_EPOCH] {
        let mut test = test();
        test.establish();
        (0..2).for_each(|_| test.batch(1));
        let (a, b) = (test.send(), test.send());
        test.settle(a, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        test.settle(b, Attempt::Lost);
        test.pass(BACKOFF);
        for _ in 0..3 {
            let b = test.send();
            assert_eq!(numbers(&b), (0, 2, 1), "the epoch waits for what became of it");
            test.settle(b, answered(vain));
            assert!(matches!(test.next(), Next::BackOff(_)), "{vain}");
            test.pass(BACKOFF);
        }
        let b = test.send();
        test.settle(b, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(numbers(&test.send()), (1, 0, 1), "the doubt is over: nothing to wait for");
    }
}

#[test]
fn p27_behind_the_last_epoch_a_new_producer_id_is_asked_for() {
    let mut test = test_with(settings());
    test.batch(1);
    assert!(matches!(test.next(), Next::NeedsIdentity));
    test.queue.adopt(ProducerIdentity { id: 7, epoch: i16::MAX });
    let first = test.send();
    test.settle(first, answered(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    test.pass(BACKOFF);
    assert!(matches!(test.next(), Next::NeedsIdentity));
    test.queue.adopt(ProducerIdentity { id: 8, epoch: 0 });
    assert_eq!(header(&test.send().batch).producer_id, 8);
}

#[test]
fn a_rejected_batch_fails_alone_and_those_behind_it_are_renumbered() {
    let mut test = test();
    (0..2).for_each(|_| test.batch(1));
    let a = test.send();
    let settled = test.settle(a, answered(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(told(&settled), Some((vec![0], Some(Fate::NotWritten))));
    assert_eq!(numbers(&test.send()), (1, 0, 1));
}

#[test]
fn a_rejection_does_not_undo_an_earlier_doubt() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.settle(a, Attempt::Lost);
    test.pass(BACKOFF);
    let a = test.send();
    let settled = test.settle(a, answered(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(told(&settled), Some((vec![0], Some(Fate::PossiblyWritten))));
}

#[test]
fn p12_a_batch_that_is_too_large_is_split_and_every_record_keeps_its_sequence() {
    let mut test = test();
    test.establish();
    test.batch(5);
    let whole = test.send();
    assert_eq!(numbers(&whole), (0, 1, 5));
    assert!(matches!(test.settle(whole, answered(ErrorCode::MESSAGE_TOO_LARGE)), Settled::Again { .. }));
    let first = test.send();
    assert_eq!(numbers(&first), (0, 1, 2));
    assert!(matches!(test.next(), Next::Waiting));
    assert_eq!(told(&test.settle(first, WRITTEN)), Some((vec![1, 2], None)));
    let rest = test.send();
    assert_eq!(numbers(&rest), (0, 3, 3));
    assert_eq!(told(&test.settle(rest, WRITTEN)), Some((vec![3, 4, 5], None)));
}

#[test]
fn batches_behind_a_split_one_are_kept_smaller() {
    let mut test = test();
    test.batch(40);
    let whole = test.send();
    test.settle(whole, answered(ErrorCode::MESSAGE_TOO_LARGE));
    (0..18).for_each(|_| test.append());
    let value = [0; 40];
    assert_eq!(test.queue.append(0, None, Some(&value), no_headers()), Err(Refusal::Full));
}

#[test]
fn p12_a_single_record_that_is_too_large_fails_alone() {
    let mut test = test();
    test.batch(1);
    let only = test.send();
    let settled = test.settle(only, answered(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!(told(&settled), Some((vec![0], Some(Fate::NotWritten))));
}

#[test]
fn what_may_have_been_written_whole_is_not_sent_in_pieces() {
    let mut test = test();
    test.batch(2);
    let whole = test.send();
    test.settle(whole, Attempt::Lost);
    test.pass(BACKOFF);
    let whole = test.send();
    let settled = test.settle(whole, answered(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!(told(&settled), Some((vec![0, 1], Some(Fate::PossiblyWritten))));
}

#[test]
fn at_the_deadline_what_was_never_sent_is_given_up_as_not_written() {
    let mut test = test();
    test.queue.set_leader(None);
    test.batch(1);
    test.append();
    assert_eq!(test.queue.next_deadline(), Some(test.now + DELIVERY));
    test.pass(DELIVERY - Duration::from_millis(1));
    assert_eq!(test.expire(), []);
    test.pass(Duration::from_millis(1));
    let told = test.expire();
    assert_eq!(told, [(Told(vec![0]), Fate::NotWritten), (Told(vec![1]), Fate::NotWritten)]);
    assert!(test.queue.is_empty());
}

#[test]
fn p11_at_the_deadline_what_is_in_doubt_is_reported_and_stays_first() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.pass(DELIVERY / 2);
    test.batch(1);
    test.pass(DELIVERY / 2);
    assert_eq!(test.expire(), [(Told(vec![0]), Fate::PossiblyWritten)]);
    assert_eq!(test.expire(), []);
    // The one behind it cannot go before the fate of the first is known.
    test.settle(a, Attempt::Lost);
    test.pass(BACKOFF);
    let a = test.send();
    assert_eq!(numbers(&a), (0, 0, 1));
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(a, WRITTEN);
    assert_eq!(numbers(&test.send()), (0, 1, 1));
}

#[test]
fn a_reported_batch_that_turns_out_unwritten_is_not_sent_again() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.pass(DELIVERY);
    test.expire();
    test.batch(1);
    assert!(matches!(test.settle(a, answered(ErrorCode::NOT_ENOUGH_REPLICAS)), Settled::Failed(_)));
    assert_eq!(numbers(&test.send()), (1, 0, 1));
}

#[test]
fn a_numbered_batch_that_was_surely_not_written_is_given_up_at_the_deadline() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.settle(a, answered(ErrorCode::NOT_ENOUGH_REPLICAS));
    test.pass(DELIVERY);
    assert_eq!(test.expire(), [(Told(vec![0]), Fate::NotWritten)]);
    test.batch(1);
    assert_eq!(numbers(&test.send()), (1, 0, 1));
}

#[test]
fn an_unknown_topic_is_retried_for_a_while_and_then_fails() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    assert!(matches!(
        test.settle(a, answered(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
        Settled::Again { refresh: true }
    ));
    test.pass(GRACE);
    let a = test.send();
    let settled = test.settle(a, answered(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    // A leader that had appended it answers so when the topic is deleted before the followers have it.
    assert_eq!(told(&settled), Some((vec![0], Some(Fate::PossiblyWritten))));
}

#[test]
fn an_unknown_topic_of_long_ago_leaves_a_later_batch_all_of_its_time() {
    let unknown = answered(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.settle(a, unknown);
    test.pass(GRACE);
    let a = test.send();
    assert!(matches!(test.settle(a, unknown), Settled::Failed(_)));
    test.pass(10 * GRACE);
    test.batch(1);
    let b = test.send();
    assert!(matches!(test.settle(b, unknown), Settled::Again { refresh: true }));
    test.pass(GRACE);
    let b = test.send();
    assert!(matches!(test.settle(b, unknown), Settled::Failed(_)));
}

#[test]
fn a_lost_answer_is_no_sign_that_the_topic_is_still_unknown() {
    let unknown = answered(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut test = test();
    test.batch(1);
    for (pass, attempt) in [(GRACE / 2, unknown), (GRACE, Attempt::Lost), (BACKOFF, unknown)] {
        let a = test.send();
        assert!(matches!(test.settle(a, attempt), Settled::Again { refresh: true }), "{attempt:?}");
        test.pass(pass);
    }
}

#[test]
fn a_recreated_topic_gets_one_batch_first() {
    let mut test = test();
    test.establish();
    test.queue.recreated();
    (0..2).for_each(|_| test.batch(1));
    test.send();
    assert!(matches!(test.next(), Next::Waiting));
}

#[test]
fn an_answer_of_the_log_that_is_gone_says_nothing_of_the_one_in_its_place() {
    let mut test = test();
    test.establish();
    test.batch(1);
    let former = test.send();
    test.queue.recreated();
    assert!(matches!(test.settle(former, WRITTEN), Settled::Written { .. }));
    (0..2).for_each(|_| test.batch(1));
    let first = test.send();
    assert!(matches!(test.next(), Next::Waiting), "the node leads as before, in the same epoch");
    test.settle(first, WRITTEN);
    (0..2).for_each(|_| test.batch(1));
    (0..2).for_each(|_| drop(test.send()));
}

#[test]
fn a_new_leader_is_not_made_to_wait_for_the_back_off_of_the_old_one() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    test.settle(a, answered(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(matches!(test.next(), Next::BackOff(_)));
    assert!(test.queue.set_leader(Some(THERE)));
    assert!(!test.queue.set_leader(Some(THERE)));
    assert!(matches!(test.next(), Next::Send(_)));
}

#[test]
fn without_idempotence_nothing_is_numbered_and_a_reported_batch_is_dropped() {
    let mut test = test_with(QueueSettings { idempotent: false, ..settings() });
    (0..2).for_each(|_| test.batch(1));
    let (a, b) = (test.send(), test.send());
    assert_eq!(numbers(&a), (-1, -1, 1));
    test.settle(a, Attempt::Lost);
    test.pass(DELIVERY);
    let told = test.expire();
    assert_eq!(told, [(Told(vec![0]), Fate::PossiblyWritten), (Told(vec![1]), Fate::PossiblyWritten)]);
    assert!(matches!(test.settle(b, Attempt::Lost), Settled::Failed(_)));
    assert!(test.queue.is_empty());
}

#[test]
fn one_compressed_batch_waits_ready_while_the_next_one_grows() {
    let mut test = test_with(QueueSettings { compressed: true, ..settings() });
    test.queue.adopt(ProducerIdentity { id: 7, epoch: 0 });
    (0..3).for_each(|_| test.batch(1));
    let compress = |test: &mut Test| match test.next() {
        Next::Compress(ticket, builder) => (ticket, builder.seal()),
        other => panic!("nothing to compress: {other:?}"),
    };
    let (ticket, sealed) = compress(&mut test);
    assert!(matches!(test.next(), Next::Waiting));
    assert!(test.queue.compressed(ticket, sealed));
    let first = test.send();
    // The next one is compressed while the first is on its way, and no more than that one.
    let (ticket, sealed) = compress(&mut test);
    assert!(test.queue.compressed(ticket, sealed));
    assert!(matches!(test.next(), Next::Waiting));
    test.settle(first, WRITTEN);
    assert_eq!(numbers(&test.send()), (0, 1, 1));
}

#[test]
fn a_batch_given_up_while_it_was_compressed_is_not_sent() {
    let mut test = test_with(QueueSettings { compressed: true, ..settings() });
    test.batch(1);
    let Next::Compress(ticket, builder) = test.next() else { panic!("nothing to compress") };
    test.pass(DELIVERY);
    assert_eq!(test.expire().len(), 1);
    assert!(!test.queue.compressed(ticket, builder.seal()));
    assert!(test.queue.is_empty());
}

#[test]
fn a_batch_that_the_codec_lost_was_not_written() {
    let mut test = test_with(QueueSettings { compressed: true, ..settings() });
    test.batch(1);
    let Next::Compress(ticket, _) = test.next() else { panic!("nothing to compress") };
    let lost = test.queue.lost(ticket).expect("it was being compressed");
    assert_eq!((lost.to, lost.fate), (Told(vec![0]), Fate::NotWritten));
    assert!(test.queue.is_empty() && test.queue.lost(ticket).is_none());
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut test = test();
    test.batch(1);
    let a = test.send();
    let ticket = a.ticket;
    test.settle(a, WRITTEN);
    let late = BatchBuilder::new(0).seal();
    assert!(matches!(test.queue.settle(ticket, late, WRITTEN, test.now, 0), Settled::Unknown));
}

#[test]
fn giving_up_tells_everybody_what_is_known() {
    let mut test = test();
    test.establish();
    (0..2).for_each(|_| test.batch(1));
    let a = test.send();
    let b = test.send();
    test.settle(b, answered(ErrorCode::NOT_ENOUGH_REPLICAS));
    test.append();
    let told = test.queue.give_up(Told::clone);
    let fates: Vec<_> = told.iter().map(|told| told.fate).collect();
    assert_eq!(fates, [Fate::PossiblyWritten, Fate::NotWritten, Fate::NotWritten]);
    assert!(matches!(test.settle(a, WRITTEN), Settled::Written { .. }));
    assert!(test.queue.is_empty());
}
