//! A value that is set once and that any number of tasks may wait for.

use std::sync::Mutex;

use tokio::sync::Notify;

use super::lock;

/// A value that is set once and that any number of tasks may wait for. They are woken in the order they came.
#[derive(Debug)]
pub(crate) struct Latch<T> {
    value: Mutex<Option<T>>,
    set: Notify,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self { value: Mutex::new(None), set: Notify::new() }
    }
}

impl<T: Clone> Latch<T> {
    /// Sets the value; false if it was set before.
    pub(crate) fn set(&self, value: T) -> bool {
        let first = {
            let mut current = lock(&self.value);
            let first = current.is_none();
            if first {
                *current = Some(value);
            }
            first
        };
        self.set.notify_waiters();
        first
    }

    pub(crate) fn get(&self) -> Option<T> {
        lock(&self.value).clone()
    }

    pub(crate) fn is_set(&self) -> bool {
        lock(&self.value).is_some()
    }

    /// Waits for the value.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn wait(&self) -> T {
        loop {
            let set = self.set.notified();
            tokio::pin!(set);
            // From here on a `set` is not missed.
            set.as_mut().enable();
            if let Some(value) = self.get() {
                return value;
            }
            set.await;
        }
    }
}
