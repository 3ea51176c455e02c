//! Asks one broker where offsets are and where epochs end, beside its fetcher: on another connection, so that no long
//! poll stands in front of it.

use std::{sync::Arc, time::Duration};

use ottla_core::fetch::{LookUpAsk, LookUpPlan, Ticket};
use ottla_protocol::{Request, Response};

use super::inner::{BrokerWake, Inner};
use crate::{
    Error, ErrorKind, Result,
    net::{Lane, sleep_until_some},
};

/// With timestamps and leader epochs.
const LIST_OFFSETS_VERSIONS: std::ops::RangeInclusive<i16> = 1..=i16::MAX;
/// Before version 3 the question takes rights over the whole cluster, which a consumer need not have (KIP-320).
const EPOCH_VERSIONS: std::ops::RangeInclusive<i16> = 3..=i16::MAX;

pub(super) async fn run(inner: Arc<Inner>, node: i32, wake: Arc<BrokerWake>) {
    tokio::select! {
        biased;
        () = inner.closed.wait() => {}
        () = look_up_for_ever(&inner, node, &wake) => {}
    }
}

async fn look_up_for_ever(inner: &Inner, node: i32, wake: &BrokerWake) {
    loop {
        let tick = inner.tick();
        match inner.with(|state| state.partitions.plan_look_up(node, tick)) {
            LookUpPlan::Send(ask) => look_up(inner, node, ask).await,
            LookUpPlan::Wait(until) => {
                tokio::select! {
                    biased;
                    () = wake.look_up.notified() => {}
                    () = sleep_until_some(until) => {}
                }
            }
        }
    }
}

async fn look_up(inner: &Inner, node: i32, ask: LookUpAsk) {
    match ask {
        LookUpAsk::Offsets(request, tickets) => {
            match call(inner, node, &request, LIST_OFFSETS_VERSIONS).await {
                Ok(response) => {
                    let tick = inner.tick();
                    inner
                        .apply(inner.answered(|partitions| partitions.on_offsets(&tickets, &response, tick)));
                }
                Err(error) => on_lost(inner, node, error, &tickets),
            }
        }
        LookUpAsk::EpochEnds(request, tickets) => match call(inner, node, &request, EPOCH_VERSIONS).await {
            Ok(response) => {
                let tick = inner.tick();
                inner.apply(inner.answered(|partitions| partitions.on_epoch_ends(&tickets, &response, tick)));
            }
            Err(error) if error.kind() == ErrorKind::Incompatible => {
                inner.with(|state| state.partitions.on_epochs_unavailable(&tickets));
            }
            Err(error) => on_lost(inner, node, error, &tickets),
        },
    }
    inner.on_positions_known();
}

fn on_lost(inner: &Inner, node: i32, error: Error, tickets: &[Ticket]) {
    let tick = inner.tick();
    inner.with(|state| {
        state.partitions.on_look_up_lost(tickets, tick);
        state.unreachable.insert(node, error);
    });
    inner.shared.metadata.refresh();
}

async fn call<R>(
    inner: &Inner,
    node: i32,
    request: &R,
    versions: std::ops::RangeInclusive<i16>,
) -> Result<R::Response>
where
    R: Request<Response: Response + Send + 'static> + 'static,
{
    let answer = async {
        let connection = inner.shared.brokers.connection(node, Lane::Control).await?;
        inner.with(|state| state.unreachable.remove(&node));
        let version = connection.version::<R>(versions)?;
        connection.call(request, version, inner.shared.config.request_timeout).await
    };
    inner.shared.metadata.ask_while_overdue(Duration::ZERO, answer).await
}
