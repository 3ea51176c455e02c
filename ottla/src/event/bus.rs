//! From the client to whoever observes it.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::Event;
use crate::net::now;

/// Hands every event to the log and to whoever listens.
#[derive(Clone, Default)]
pub(crate) struct EventBus(Arc<Mutex<Listeners>>);

#[derive(Default)]
struct Listeners {
    queues: Vec<Weak<Mutex<Queue>>>,
    closed: bool,
    warned: Warned,
}

/// What goes on failing, and when it was last warned of.
#[derive(Default)]
struct Warned(BTreeMap<(&'static str, Arc<str>), Failing>);

struct Failing {
    since: Instant,
    last: Instant,
    warned: Option<Instant>,
}

impl Warned {
    /// How long a warning stands for the same again; what did not fail for so long is a new failure.
    const FOR: Duration = Duration::from_secs(10);
    /// So much can fail at once and be told apart.
    const MOST: usize = 256;

    /// Whether this is worth a warning now.
    fn is_due(&mut self, event: &Event, now: Instant) -> bool {
        let Some((what, patience)) = event.failing() else { return true };
        let is_over = |at: Instant| now.saturating_duration_since(at) >= Self::FOR;
        if self.0.len() >= Self::MOST {
            self.0.retain(|_, failing| !is_over(failing.last));
        }
        let key = (event.name(), Arc::from(what));
        if self.0.len() >= Self::MOST && !self.0.contains_key(&key) {
            return patience.is_zero();
        }
        let begun = || Failing { since: now, last: now, warned: None };
        let failing = self.0.entry(key).or_insert_with(begun);
        if is_over(failing.last) {
            *failing = begun();
        }
        failing.last = now;
        let goes_on = now.saturating_duration_since(failing.since) >= patience;
        let is_due = goes_on && failing.warned.is_none_or(is_over);
        if is_due {
            failing.warned = Some(now);
        }
        is_due
    }
}

impl EventBus {
    pub(crate) fn emit(&self, event: Event) {
        let is_due = event.failing().is_none() || lock(&self.0).warned.is_due(&event, now());
        event.trace(is_due);
        let queues = &mut lock(&self.0).queues;
        if queues.is_empty() {
            return;
        }
        queues.retain(|listener| match listener.upgrade() {
            Some(queue) => {
                push(&queue, event.clone());
                true
            }
            None => false,
        });
    }

    pub(crate) fn listen(&self) -> Events {
        let mut listeners = lock(&self.0);
        let queue = Arc::new(Mutex::new(Queue { closed: listeners.closed, ..Queue::default() }));
        listeners.queues.push(Arc::downgrade(&queue));
        drop(listeners);
        Events(queue)
    }

    /// The last event, after which listeners see the end.
    pub(crate) fn close(&self) {
        self.emit(Event::ClientClosed);
        let mut listeners = lock(&self.0);
        listeners.closed = true;
        for queue in listeners.queues.drain(..).filter_map(|listener| listener.upgrade()) {
            let mut queue = lock(&queue);
            queue.closed = true;
            queue.wake();
        }
    }
}

/// The events of a client, from the moment of [`Client::events`](crate::Client::events) on; also a
/// [`Stream`](futures_core::Stream).
///
/// A reader that falls more than 1,024 events behind gets [`Event::Missed`] in place of the ones that it lost.
#[derive(Debug)]
#[must_use = "events are only kept while somebody reads them"]
pub struct Events(Arc<Mutex<Queue>>);

impl Events {
    /// The next event; `None` when the client is closed.
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = lock(&self.0);
        if queue.missed > 0 {
            let count = std::mem::take(&mut queue.missed);
            return Poll::Ready(Some(Event::Missed { count }));
        }
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl futures_core::Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_recv(cx)
    }
}

const CAPACITY: usize = 1_024;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Events that were dropped before the first one in `events`.
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn push(queue: &Mutex<Queue>, event: Event) {
    let mut queue = lock(queue);
    if queue.events.len() == CAPACITY {
        queue.events.pop_front();
        queue.missed += 1;
    }
    queue.events.push_back(event);
    queue.wake();
}

// Nothing that runs under these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn throttled(node: i32) -> Event {
        Event::Throttled { node, duration: Duration::from_millis(1) }
    }

    #[tokio::test]
    async fn a_listener_sees_what_happens_after_it_began_to_listen() {
        let bus = EventBus::default();
        bus.emit(throttled(1));
        let mut events = bus.listen();
        bus.emit(throttled(2));
        assert!(matches!(events.recv().await, Some(Event::Throttled { node: 2, .. })));
    }

    #[tokio::test]
    async fn a_slow_listener_learns_how_many_events_it_lost() {
        let bus = EventBus::default();
        let mut events = bus.listen();
        for node in 0..CAPACITY as i32 + 3 {
            bus.emit(throttled(node));
        }
        assert!(matches!(events.recv().await, Some(Event::Missed { count: 3 })));
        assert!(matches!(events.recv().await, Some(Event::Throttled { node: 3, .. })));
    }

    #[test]
    fn what_goes_on_failing_is_warned_of_once_in_a_while() {
        let failed = |group: &str| Event::JoinFailed { group: group.into(), error: Error::closed() };
        let (mut warned, at) = (Warned::default(), now());
        let mut is_due = |event: &Event, seconds| warned.is_due(event, at + Duration::from_secs(seconds));
        assert!(is_due(&failed("billing"), 0));
        assert!(!is_due(&failed("billing"), 9));
        assert!(is_due(&failed("audit"), 9), "another group is news");
        let commit = Event::CommitFailed { group: "billing".into(), error: Error::closed() };
        assert!(is_due(&commit, 9), "and so is another failure");
        assert!(is_due(&failed("billing"), 10));
        assert!(is_due(&throttled(1), 10) && is_due(&throttled(1), 10), "nothing that fails");
    }

    #[test]
    fn what_is_usual_for_a_moment_is_warned_of_when_it_goes_on() {
        let group = "billing".into();
        let unknown = Event::CoordinatorNotFound { group, error: Error::closed() };
        let (mut warned, at) = (Warned::default(), now());
        let due = [0, 1, 2, 3, 4, 12, 13, 40, 43]
            .map(|seconds| warned.is_due(&unknown, at + Duration::from_secs(seconds)));
        assert_eq!(due, [false, false, false, true, false, false, true, false, true]);
    }

    #[test]
    fn what_is_remembered_of_warnings_is_bounded() {
        let (mut warned, at) = (Warned::default(), now());
        for group in 0..Warned::MOST * 2 {
            let event = Event::JoinFailed { group: group.to_string().into(), error: Error::closed() };
            assert!(warned.is_due(&event, at));
        }
        assert_eq!(warned.0.len(), Warned::MOST);
    }

    #[tokio::test]
    async fn the_end_of_the_client_is_the_last_event() {
        let bus = EventBus::default();
        let mut events = bus.listen();
        bus.close();
        assert_eq!(events.recv().await.map(|event| event.name()), Some("client.closed"));
        assert!(events.recv().await.is_none());
        assert!(bus.listen().recv().await.is_none(), "who comes later finds the end as well");
    }
}
