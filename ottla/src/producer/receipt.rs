//! What became of a record: one shared completion per batch, and a place in it per record.
//!
//! ```text
//!  pending ──────▶ written | failed | failed record by record | split ──▶ two parts, pending
//! ```
//!
//! A record costs one reference count. Only futures that wait touch the lock.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Error, net::lock};

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    topic: Arc<str>,
    partition: i32,
    offset: Option<i64>,
    log_append_time: Option<i64>,
}

impl RecordMetadata {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The offset. `None` if the broker did not say: with `acks=0`, and where the broker still knows that it has the
    /// record, but no longer where.
    #[must_use]
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// The broker's time, where the topic has it replace the producer's (`message.timestamp.type=LogAppendTime`).
    #[must_use]
    pub fn log_append_time(&self) -> Option<SystemTime> {
        let since = u64::try_from(self.log_append_time?).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_millis(since))
    }
}

/// Why a record was not acknowledged. There will never be a third variant.
#[derive(Debug, Clone)]
pub enum SendError {
    /// It is not in the log and never will be: it is safe to send it again.
    NotWritten(Error),
    /// It may be in the log, now or a little later: sending it again may duplicate it.
    PossiblyWritten(Error),
}

impl SendError {
    /// The error itself.
    #[must_use]
    pub fn error(&self) -> &Error {
        match self {
            Self::NotWritten(error) | Self::PossiblyWritten(error) => error,
        }
    }

    pub(super) fn possibly_written(error: Error) -> Self {
        Self::PossiblyWritten(error.with_possibly_written())
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotWritten(error) | SendError::PossiblyWritten(error) => error,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWritten(_) => "not written: ",
            Self::PossiblyWritten(_) => "possibly written: ",
        })?;
        fmt::Display::fmt(self.error(), f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error().source()
    }
}

/// The first failure of a record whose [`Receipt`] was dropped: [`Producer::flush`](crate::Producer::flush) tells it.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<Option<SendError>>);

impl Unheard {
    fn note(&self, error: &SendError) {
        lock(&self.0).get_or_insert_with(|| error.clone());
    }

    pub(super) fn take(&self) -> Option<SendError> {
        lock(&self.0).take()
    }
}

/// Where the records of a batch go, and who is told of failures that nobody waits for.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) unheard: Arc<Unheard>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    Written {
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
    },
    Failed(SendError),
    /// The culprits, by position and in order; the others failed only with them (KIP-467).
    FailedByRecord {
        culprits: Vec<(u32, SendError)>,
        others: SendError,
    },
    /// The first `at` records, and the rest.
    Split {
        at: u32,
        first: Arc<BatchOutcome>,
        rest: Arc<BatchOutcome>,
    },
}

/// The completion that all records of a batch share.
#[derive(Debug)]
pub(super) struct BatchOutcome {
    destination: Arc<Destination>,
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Vec<Option<Waker>>>,
    /// Some receipt was dropped without having told its outcome.
    unheard: AtomicBool,
}

impl BatchOutcome {
    pub(super) fn new(destination: Arc<Destination>) -> Self {
        Self {
            destination,
            outcome: OnceLock::new(),
            waiting: Mutex::new(Vec::new()),
            unheard: AtomicBool::new(false),
        }
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// Settles it and wakes who waits; false if it was settled before, and then nothing changes.
    pub(super) fn resolve(&self, outcome: Outcome) -> bool {
        if self.outcome.set(outcome).is_err() {
            return false;
        }
        // Either this sees that a receipt was dropped, or the receipt saw the outcome.
        fence(Ordering::SeqCst);
        if self.unheard.load(Ordering::Relaxed) {
            self.tell_unheard();
        }
        // Woken without the lock: a waker may run its task at once.
        let waiting = mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().flatten().for_each(Waker::wake);
        true
    }

    /// Divides it: receipts of the whole lead to the parts from now on.
    pub(super) fn split(&self, at: u32) -> (Arc<Self>, Arc<Self>) {
        let part = || Arc::new(Self::new(self.destination.clone()));
        let (first, rest) = (part(), part());
        for part in [&first, &rest] {
            part.unheard.store(self.unheard.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.resolve(Outcome::Split { at, first: first.clone(), rest: rest.clone() });
        (first, rest)
    }

    /// The result of the record at `index`; `None` while it is open.
    pub(super) fn result(&self, index: u32) -> Option<Result<RecordMetadata, SendError>> {
        match self.outcome.get()? {
            Outcome::Written { base_offset, log_append_time } => Some(Ok(RecordMetadata {
                topic: self.destination.topic.clone(),
                partition: self.destination.partition,
                offset: base_offset.map(|base| base.saturating_add(index.into())),
                log_append_time: *log_append_time,
            })),
            Outcome::Failed(error) => Some(Err(error.clone())),
            Outcome::FailedByRecord { culprits, others } => {
                let culprit = culprits.binary_search_by_key(&index, |(index, _)| *index);
                let error = culprit.ok().and_then(|at| culprits.get(at)).map_or(others, |(_, error)| error);
                Some(Err(error.clone()))
            }
            Outcome::Split { at, first, .. } if index < *at => first.result(index),
            Outcome::Split { at, rest, .. } => rest.result(index - at),
        }
    }

    /// Waits until all of it is settled.
    pub(super) async fn settled(self: Arc<Self>) {
        let mut left = vec![self];
        while let Some(batch) = left.pop() {
            let mut slot = NO_SLOT;
            poll_fn(|cx| batch.poll_settled(cx, &mut slot)).await;
            if let Some(Outcome::Split { first, rest, .. }) = batch.outcome.get() {
                left.extend([first.clone(), rest.clone()]);
            }
        }
    }

    /// Waits for this batch, parts aside. `slot` is the place of the caller's waker.
    fn poll_settled(&self, cx: &mut Context<'_>, slot: &mut u32) -> Poll<()> {
        if self.outcome.get().is_some() {
            return Poll::Ready(());
        }
        let mut waiting = lock(&self.waiting);
        // Whoever settles it takes the wakers behind this lock, and sets the outcome before.
        if self.outcome.get().is_some() {
            return Poll::Ready(());
        }
        match waiting.get_mut(*slot as usize) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => {}
            Some(place) => *place = Some(cx.waker().clone()),
            None => {
                *slot = u32::try_from(waiting.len()).unwrap_or(NO_SLOT);
                waiting.push(Some(cx.waker().clone()));
            }
        }
        Poll::Pending
    }

    /// Nobody will ask for the result of one of its records.
    fn on_dropped(&self) {
        // Mostly set already, and then the cache line stays shared.
        if !self.unheard.load(Ordering::Relaxed) {
            self.unheard.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        self.tell_unheard();
    }

    fn tell_unheard(&self) {
        match self.outcome.get() {
            None | Some(Outcome::Written { .. }) => {}
            Some(Outcome::Failed(error) | Outcome::FailedByRecord { others: error, .. }) => {
                self.destination.unheard.note(error);
            }
            Some(Outcome::Split { first, rest, .. }) => {
                first.on_dropped();
                rest.on_dropped();
            }
        }
    }
}

const NO_SLOT: u32 = u32::MAX;

/// The future of a record's acknowledgement. 16 bytes; borrows nothing.
///
/// Dropping it is fine: the record is sent all the same, and [`Producer::flush`](crate::Producer::flush) tells if it
/// failed.
///
/// # Cancel safety
/// Sending goes on whether it is polled or not.
#[must_use = "the record may still fail; a dropped receipt leaves that to `flush`"]
pub struct Receipt {
    batch: Arc<BatchOutcome>,
    index: u32,
    /// Place of its waker in the batch. Behind `HEARD` there is nothing left to tell.
    slot: u32,
}

const HEARD: u32 = u32::MAX - 1;

impl Receipt {
    #[inline]
    pub(super) fn new(batch: Arc<BatchOutcome>, index: u32) -> Self {
        Self { batch, index, slot: NO_SLOT }
    }

    /// The result, if it is known; does not wait.
    #[must_use]
    pub fn try_result(&mut self) -> Option<Result<RecordMetadata, SendError>> {
        let result = self.batch.result(self.index);
        if result.is_some() {
            self.slot = HEARD;
        }
        result
    }
}

impl Future for Receipt {
    type Output = Result<RecordMetadata, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(result) = this.try_result() {
                return Poll::Ready(result);
            }
            match this.batch.poll_settled(cx, &mut this.slot) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => this.descend(),
            }
        }
    }
}

impl Receipt {
    /// Follows a split to the part that has its record.
    fn descend(&mut self) {
        let Some(Outcome::Split { at, first, rest }) = self.batch.outcome.get() else { return };
        let (part, index) = if self.index < *at { (first, self.index) } else { (rest, self.index - at) };
        (self.batch, self.index, self.slot) = (part.clone(), index, NO_SLOT);
    }
}

impl Drop for Receipt {
    #[inline]
    fn drop(&mut self) {
        if self.slot != HEARD {
            self.batch.on_dropped();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Destination { topic, partition, .. } = &*self.batch.destination;
        write!(f, "Receipt({topic}-{partition}, record {} of its batch)", self.index)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    fn batch() -> Arc<BatchOutcome> {
        let destination = Destination { topic: "orders".into(), partition: 3, unheard: Arc::default() };
        Arc::new(BatchOutcome::new(Arc::new(destination)))
    }

    fn failed() -> Outcome {
        Outcome::Failed(SendError::NotWritten(Error::timeout("too late")))
    }

    const WRITTEN: Outcome = Outcome::Written { base_offset: Some(40), log_append_time: None };

    struct Wakes(AtomicBool);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_receipt_is_sixteen_bytes_and_goes_anywhere() {
        fn anywhere<T: Send + Sync + Unpin + 'static>() {}
        anywhere::<Receipt>();
        assert_eq!(size_of::<Receipt>(), 16);
    }

    #[test]
    fn offsets_count_from_the_first_record_of_the_batch() {
        let batch = batch();
        let mut receipt = Receipt::new(batch.clone(), 2);
        assert!(receipt.try_result().is_none());
        assert!(batch.resolve(WRITTEN));
        let written = receipt.try_result().unwrap().unwrap();
        assert_eq!((written.topic(), written.partition(), written.offset()), ("orders", 3, Some(42)));
    }

    #[test]
    fn the_first_outcome_stays() {
        let batch = batch();
        assert!(batch.resolve(failed()));
        assert!(!batch.resolve(WRITTEN));
        assert!(Receipt::new(batch, 0).try_result().unwrap().is_err());
    }

    #[test]
    fn who_waits_is_woken_once_the_batch_is_settled() {
        let batch = batch();
        let mut receipt = Receipt::new(batch.clone(), 0);
        let wakes = Arc::new(Wakes(AtomicBool::new(false)));
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut receipt).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut receipt).poll(&mut cx).is_pending());
        assert_eq!(lock(&batch.waiting).len(), 1, "polling again takes no other place");
        batch.resolve(WRITTEN);
        assert!(wakes.0.load(Ordering::SeqCst));
        assert!(Pin::new(&mut receipt).poll(&mut cx).is_ready());
    }

    #[test]
    fn a_split_leads_each_record_to_its_part() {
        let batch = batch();
        let mut receipts = [0, 1, 2].map(|index| Receipt::new(batch.clone(), index));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut receipts[2]).poll(&mut cx).is_pending());
        let (first, rest) = batch.split(2);
        assert!(Pin::new(&mut receipts[2]).poll(&mut cx).is_pending());
        rest.resolve(Outcome::Written { base_offset: Some(90), log_append_time: None });
        let Poll::Ready(Ok(written)) = Pin::new(&mut receipts[2]).poll(&mut cx) else {
            panic!("it was written")
        };
        assert_eq!(written.offset(), Some(90));
        assert!(receipts[1].try_result().is_none());
        first.resolve(failed());
        assert!(receipts[1].try_result().unwrap().is_err());
    }

    #[test]
    fn a_failure_is_unheard_only_if_the_receipt_was_dropped_without_telling_it() {
        let batch = batch();
        let unheard = batch.destination.unheard.clone();
        let (mut heard, early, late) =
            (Receipt::new(batch.clone(), 0), Receipt::new(batch.clone(), 1), Receipt::new(batch.clone(), 2));
        batch.resolve(failed());
        assert!(heard.try_result().is_some());
        drop(heard);
        assert!(unheard.take().is_none());
        drop(early);
        assert!(unheard.take().is_some());
        drop(late);
        assert!(unheard.take().is_some());
    }

    #[test]
    fn a_receipt_dropped_before_the_batch_fails_is_unheard_also_after_a_split() {
        let batch = batch();
        let unheard = batch.destination.unheard.clone();
        drop(Receipt::new(batch.clone(), 0));
        let (first, _rest) = batch.split(1);
        assert!(unheard.take().is_none());
        first.resolve(failed());
        assert!(unheard.take().is_some());
    }

    #[test]
    fn records_of_a_failed_batch_have_their_own_errors() {
        let batch = batch();
        let culprit = SendError::NotWritten(Error::misuse("bad record"));
        let others = SendError::NotWritten(Error::timeout("failed with another"));
        batch.resolve(Outcome::FailedByRecord { culprits: vec![(1, culprit)], others });
        let text = |index| batch.result(index).unwrap().unwrap_err().to_string();
        assert_eq!(text(0), "not written: failed with another");
        assert_eq!(text(1), "not written: bad record");
    }

    #[tokio::test]
    async fn all_parts_are_waited_for() {
        let batch = batch();
        let all = batch.clone().settled();
        tokio::pin!(all);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(&mut cx).is_pending());
        let (first, rest) = batch.split(1);
        rest.resolve(WRITTEN);
        assert!(all.as_mut().poll(&mut cx).is_pending());
        first.resolve(WRITTEN);
        all.await;
    }
}
