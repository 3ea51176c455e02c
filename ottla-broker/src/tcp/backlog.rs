//! Back-pressure of one connection.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tokio::{sync::Notify, time::Instant};

/// The requests of one connection that were read and not answered yet.
///
/// No further frame is read while there are too many, or while the next one would make them too large together:
/// TCP then holds the client back.
pub(super) struct Backlog {
    unanswered: Mutex<Unanswered>,
    /// Only the connection's reader waits for it.
    changed: Notify,
    max_frames: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Unanswered {
    sizes: VecDeque<usize>,
    bytes: usize,
    last_answer: Option<Instant>,
}

impl Backlog {
    pub(super) fn new(max_frames: usize, max_bytes: usize) -> Self {
        Self { unanswered: Mutex::default(), changed: Notify::new(), max_frames, max_bytes }
    }

    /// Waits until there is room for a frame of `size` bytes, and takes it. One that is too large for the whole
    /// room gets it alone.
    pub(super) async fn admit(&self, size: usize) {
        while !self.try_admit(size) {
            self.changed.notified().await;
        }
    }

    fn try_admit(&self, size: usize) -> bool {
        let mut unanswered = self.lock();
        let fits = unanswered.sizes.len() < self.max_frames && unanswered.bytes + size <= self.max_bytes;
        if fits || unanswered.sizes.is_empty() {
            unanswered.sizes.push_back(size);
            unanswered.bytes += size;
            return true;
        }
        false
    }

    /// The oldest request was answered.
    pub(super) fn answered(&self) {
        let mut unanswered = self.lock();
        if let Some(size) = unanswered.sizes.pop_front() {
            unanswered.bytes -= size;
            unanswered.last_answer = Some(Instant::now());
        }
        self.changed.notify_one();
    }

    /// Whether nothing has been waiting for an answer for that long.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        let unanswered = self.lock();
        let is_past = unanswered.last_answer.is_none_or(|answer| answer.elapsed() >= time);
        unanswered.sizes.is_empty() && is_past
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unanswered> {
        // Nothing panics while it is held.
        self.unanswered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_by_number_and_by_size() {
        let backlog = Backlog::new(3, 100);
        assert!(backlog.try_admit(60));
        assert!(!backlog.try_admit(41));
        assert!(backlog.try_admit(40) && backlog.try_admit(0));
        assert!(!backlog.try_admit(0));
        backlog.answered();
        assert!(backlog.try_admit(60));
    }

    #[test]
    fn one_frame_above_the_limit_passes_alone() {
        let backlog = Backlog::new(3, 100);
        assert!(backlog.try_admit(1000));
        assert!(!backlog.try_admit(1));
        backlog.answered();
        assert!(backlog.try_admit(1));
    }

    #[tokio::test]
    async fn an_answer_lets_the_next_frame_in() {
        let backlog = Backlog::new(1, 100);
        backlog.admit(10).await;
        tokio::join!(backlog.admit(10), async { backlog.answered() });
        assert!(!backlog.is_idle_for(Duration::ZERO));
    }
}
