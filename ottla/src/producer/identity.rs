//! The producer id: asked for once, when the first batch needs it, and again when a partition has used up its epochs.
//!
//! ```text
//!            needed                        answered
//!  unknown ─────────▶ asking (retries) ─────────────▶ known ──── epochs used up ────▶ asking
//!     ▲                  │
//!     └── refused: who waits fails
//! ```

use std::sync::{Arc, Mutex};

use ottla_core::{backoff::Backoff, produce::ProducerIdentity};
use ottla_protocol::messages::InitProducerIdRequest;

use super::{inner::Inner, topic::Partition};
use crate::{
    Error, Result,
    net::{Connection, Lane, lock},
};

/// The producer id, and who waits for it.
#[derive(Default)]
pub(super) struct Identity(Mutex<State>);

#[derive(Default)]
struct State {
    known: Option<ProducerIdentity>,
    waiting: Vec<Arc<Partition>>,
    asking: bool,
    /// What came of asking last.
    trouble: Option<Error>,
}

impl Identity {
    /// The producer id, if it is known and other than the one that the partition used up. Otherwise it is asked for,
    /// and the partition is listed when it is here.
    pub(super) fn get(
        &self,
        inner: &Arc<Inner>,
        partition: &Arc<Partition>,
        former: Option<i64>,
    ) -> Option<ProducerIdentity> {
        let mut state = lock(&self.0);
        if let Some(known) = state.known.filter(|known| former != Some(known.id)) {
            return Some(known);
        }
        state.waiting.push(partition.clone());
        if !std::mem::replace(&mut state.asking, true) {
            inner.client.spawn("producer id", ask(inner.clone()));
        }
        None
    }

    /// Why those who wait for it are still waiting.
    pub(super) fn trouble(&self) -> Option<Error> {
        let state = lock(&self.0);
        let waits = Error::timeout("no broker has given a producer id yet (InitProducerId)");
        state.asking.then(|| match &state.trouble {
            Some(trouble) => waits.with_source(trouble.clone()),
            None => waits,
        })
    }

    fn answered(&self, inner: &Arc<Inner>, answer: Result<ProducerIdentity>) {
        let waiting = {
            let mut state = lock(&self.0);
            state.asking = false;
            state.trouble = None;
            state.known = answer.as_ref().ok().copied();
            std::mem::take(&mut state.waiting)
        };
        match answer {
            Ok(_) => waiting.iter().for_each(|partition| inner.list(partition)),
            Err(error) => inner.give_up(&waiting, &error),
        }
    }
}

async fn ask(inner: Arc<Inner>) {
    let answer = tokio::select! {
        biased;
        () = inner.ended() => Err(Error::closed()),
        answer = ask_until_answered(&inner) => answer,
    };
    inner.identity.answered(&inner, answer);
}

/// Asks all brokers, again and again, until one gives an id or says that there will be none.
async fn ask_until_answered(inner: &Inner) -> Result<ProducerIdentity> {
    let mut backoff = Backoff::new(inner.config.retry_backoff);
    loop {
        match ask_around(inner).await {
            Err(error) if error.is_retriable() => {
                tracing::debug!(error = format_args!("{error:#}"), "no producer id yet");
                lock(&inner.identity.0).trouble = Some(error);
                tokio::time::sleep(backoff.on_failure(inner.client.env.random())).await;
            }
            answer => return answer,
        }
    }
}

/// Asks one broker after the other. One that does not hear the controller has no ids to give, for as long as that lasts,
/// and is connected to all the same: who has none now, or is slow, must not keep the next one from being asked. An id that
/// comes too late is given to nobody.
async fn ask_around(inner: &Inner) -> Result<ProducerIdentity> {
    let ask = |connection| async move {
        match ask_one(inner, connection).await {
            Err(error) if error.is_retriable() => Err(error),
            // What one broker refuses for good, all do.
            answer => Ok(answer),
        }
    };
    inner.client.brokers.ask_any(Lane::Control, ask).await?
}

async fn ask_one(inner: &Inner, connection: Connection) -> Result<ProducerIdentity> {
    let version = connection.version::<InitProducerIdRequest>(0..=i16::MAX)?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        // Means something for transactions only; Java sends the same.
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let answer = connection.call(&request, version, inner.config.request_timeout).await?;
    if !answer.error_code.is_ok() {
        return Err(Error::broker(
            answer.error_code,
            format!("no producer id from {}", connection.address()),
        ));
    }
    Ok(ProducerIdentity { id: answer.producer_id, epoch: answer.producer_epoch })
}
