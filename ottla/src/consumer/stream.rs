//! Records as a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};
use tokio::{sync::futures::OwnedNotified, task::coop::poll_proceed};

use super::{Consumer, ready::Waiting, received::ReceivedRecord};
use crate::Result;

/// The records of a consumer, one at a time, as [`Consumer::stream`] gives them. It ends when the consumer is closed;
/// an error does not end it.
///
/// Dropping it takes nothing: the next `poll`, `recv` or stream goes on behind the last record that it gave.
#[must_use = "streams do nothing unless polled"]
pub struct RecordStream {
    consumer: Consumer,
    /// Allocated when there is nothing to give, and not for each record.
    waiting: Option<(Pin<Box<OwnedNotified>>, Waiting)>,
    ended: bool,
}

impl RecordStream {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, waiting: None, ended: false }
    }
}

impl Stream for RecordStream {
    type Item = Result<ReceivedRecord>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Other tasks have a turn now and then, also while records are there.
        let turn = std::task::ready!(poll_proceed(cx));
        loop {
            if let Some((notified, _)) = &mut self.waiting {
                std::task::ready!(notified.as_mut().poll(cx));
                self.waiting = None;
            }
            // Enabled before the look, so that whatever comes after it wakes.
            let mut waiting = None;
            loop {
                let inner = self.consumer.inner();
                if inner.is_closed() {
                    self.ended = true;
                    turn.made_progress();
                    return Poll::Ready(None);
                }
                match inner.try_recv() {
                    Ok(Some(record)) => {
                        turn.made_progress();
                        return Poll::Ready(Some(Ok(record)));
                    }
                    Err(error) => {
                        turn.made_progress();
                        return Poll::Ready(Some(Err(error)));
                    }
                    Ok(None) if waiting.is_some() => break,
                    Ok(None) => {
                        let counted = Waiting::stream(&inner.ready);
                        let mut notified = Box::pin(inner.ready.notified_stream());
                        notified.as_mut().enable();
                        waiting = Some((notified, counted));
                    }
                }
            }
            self.waiting = waiting;
        }
    }
}

impl FusedStream for RecordStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}
