//! The door of a node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc, time::sleep};

use super::runner::Event;
use crate::io::ConnectionId;

/// Accepting fails when the process has too many open files: it goes on when some were closed, but nothing tells
/// when that is.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the machine behind `queue` is gone.
pub(super) async fn accept(listener: TcpListener, ids: Arc<AtomicU64>, queue: mpsc::UnboundedSender<Event>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = queue.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let id = ConnectionId(ids.fetch_add(1, Ordering::Relaxed));
                // Closed just now: the next turn sees it.
                drop(queue.send(Event::Accepted(id, stream, peer)));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(PAUSE).await;
            }
        }
    }
}
