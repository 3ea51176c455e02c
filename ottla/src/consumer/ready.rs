//! Who waits for records, and how they hear of some.
//!
//! Whoever waits in `poll` or `recv` stands in line, and news wake the first: it takes what there is, and passes the word
//! on if there is more. A stream cannot stand in line: once it has said that there is nothing, nobody may ever ask it
//! again, and the news would end with it. So all streams that wait are woken by any news, beside the first in line.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{
    Notify,
    futures::{Notified, OwnedNotified},
};

/// Tells whoever waits that there may be something.
#[derive(Debug, Default)]
pub(super) struct Ready {
    line: Notify,
    streams: Arc<Notify>,
    /// How many wait, and how many of them are streams.
    waiting: AtomicUsize,
    streaming: AtomicUsize,
}

impl Ready {
    /// There may be something for one of those who wait.
    pub(super) fn notify_one(&self) {
        self.line.notify_one();
        // A stream that comes just now has counted itself before it looks.
        if self.streaming.load(Ordering::SeqCst) > 0 {
            self.streams.notify_waiters();
        }
    }

    /// Everybody has to look.
    pub(super) fn notify_all(&self) {
        self.line.notify_waiters();
        self.streams.notify_waiters();
    }

    /// The next news, for somebody who stands in line.
    pub(super) fn notified(&self) -> Notified<'_> {
        self.line.notified()
    }

    /// The next news, for a stream.
    pub(super) fn notified_stream(&self) -> OwnedNotified {
        Arc::clone(&self.streams).notified_owned()
    }

    /// Whether anybody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

/// Somebody who waits for records. To be made before the look that finds none.
pub(super) struct Waiting {
    ready: Arc<Ready>,
    is_stream: bool,
}

impl Waiting {
    /// In line.
    pub(super) fn in_line(ready: &Arc<Ready>) -> Self {
        Self::new(ready, false)
    }

    /// A stream.
    pub(super) fn stream(ready: &Arc<Ready>) -> Self {
        Self::new(ready, true)
    }

    fn new(ready: &Arc<Ready>, is_stream: bool) -> Self {
        ready.waiting.fetch_add(1, Ordering::AcqRel);
        if is_stream {
            ready.streaming.fetch_add(1, Ordering::SeqCst);
        }
        Self { ready: Arc::clone(ready), is_stream }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ready.waiting.fetch_sub(1, Ordering::AcqRel);
        if self.is_stream {
            self.ready.streaming.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
