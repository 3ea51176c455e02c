//! Calls a rebalance listener: the program's code, which may fail, panic, or take its time.
//!
//! It runs in a task of its own, so that a listener that blocks its thread holds up no heartbeat where there are other
//! threads. When nobody waits for it any more (its deadline has passed, its partitions are lost), its future is
//! dropped.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ottla_core::group::TopicPartition as Owned;
use tokio::{sync::oneshot, time::Instant};

use super::{
    listener::{BoxError, Listener, Method, Rebalance},
    member::Group,
};
use crate::{Assignment, Consumer, Error, Event, TopicPartition, consumer::inner::Inner};

/// Calls the listener, if there is one, and waits until it has returned or its deadline has passed. A failure goes to the
/// events and to the next `poll`.
///
/// # Cancel safety
/// The listener's future is dropped as well.
pub(super) async fn tell(
    inner: &Arc<Inner>,
    group: &Group,
    method: Method,
    partitions: &BTreeSet<Owned>,
    deadline: Instant,
) {
    let Some(listener) = group.config.listener.clone().filter(|_| !partitions.is_empty()) else { return };
    group.set_listening(Some((method, partitions.clone())));
    let listening = Listening(group);
    let outcome = call(inner, listener, method, partitions, deadline).await;
    drop(listening);
    if let Err(cause) = outcome {
        let what = format!("the rebalance listener's {method} failed");
        let error = Error::misuse(what).with_source(cause);
        let (name, method) = (group.name.clone(), method.name());
        inner.shared.events.emit(Event::ListenerFailed { group: name, method, error: error.clone() });
        group.report(error);
    }
}

/// However the call ends, nobody is told that it goes on.
struct Listening<'a>(&'a Group);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.set_listening(None);
    }
}

async fn call(
    inner: &Arc<Inner>,
    listener: Arc<dyn Listener>,
    method: Method,
    partitions: &BTreeSet<Owned>,
    deadline: Instant,
) -> Result<(), BoxError> {
    let (mut done, outcome) = oneshot::channel();
    let consumer = Consumer::for_listener(inner);
    let name = |owned: &Owned| TopicPartition::new(&*owned.topic, owned.partition);
    let partitions: Vec<_> = partitions.iter().map(|owned| Assignment::new(name(owned), inner)).collect();
    inner.shared.spawn("rebalance listener", async move {
        let returned = {
            let rebalance = Rebalance::new(&consumer, &partitions, deadline);
            let mut call = Contained(Box::pin(async { listener.call(method, &rebalance).await }));
            tokio::select! {
                biased;
                () = done.closed() => return,
                returned = &mut call => returned,
            }
        };
        // Whoever waited may have given up just now.
        let _ = done.send(returned);
    });
    match tokio::time::timeout_at(deadline, outcome).await {
        Ok(Ok(returned)) => returned,
        Ok(Err(_)) => Err("its task ended with the client".into()),
        Err(_) => Err("it had not returned when its time was over".into()),
    }
}

/// A future whose panic is its result.
struct Contained<F>(Pin<Box<F>>);

impl<F: Future<Output = Result<(), BoxError>>> Future for Contained<F> {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The future is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(format!("it panicked: {}", message(&*panic)).into())),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
