//! Looks at the cluster as it is now, past what the client remembers of it.

use ottla_core::metadata::BrokerAddress;
use ottla_protocol::{
    Str,
    messages::{MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic},
};

use super::{request::check, retry::Retry};
use crate::{
    Result,
    net::{Connection, Lane},
};

/// Asks any broker about some topics, or about all; all brokers again until one answers or time is up.
pub(super) async fn ask_metadata(
    retry: &mut Retry<'_>,
    topics: Option<&[String]>,
) -> Result<MetadataResponse> {
    let topic = |name: &String| MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() };
    let request = &MetadataRequest {
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        // A look must not create what it looks for.
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let (shared, what) = (retry.shared, retry.what);
    loop {
        let left = retry.left();
        let ask = |connection: Connection| async move {
            let version = connection.version::<MetadataRequest>(0..=i16::MAX)?;
            let answer = connection.call(request, version, left).await?;
            check(answer.error_code, None, || what.to_owned())?;
            Ok((connection.node_id(), answer))
        };
        // What was told before has not helped.
        let asked = shared.brokers.ask_any_but(retry.told.last(), Lane::Control, ask);
        match retry.bound(asked).await {
            Err(error) if error.is_retriable() => retry.pause(error).await?,
            Err(error) => return Err(error),
            Ok((told_by, answer)) => {
                retry.told.by(told_by);
                return Ok(answer);
            }
        }
    }
}

/// The brokers of the cluster, each of which can be connected to from here on.
pub(super) async fn ask_brokers(retry: &mut Retry<'_>) -> Result<Vec<i32>> {
    let answer = ask_metadata(retry, Some(&[])).await?;
    Ok(introduce(retry, &answer))
}

/// Has the brokers that an answer names connected to where it says; gives their ids.
pub(super) fn introduce(retry: &Retry<'_>, answer: &MetadataResponse) -> Vec<i32> {
    let addresses = answer.brokers.iter().filter_map(|broker| {
        let port = u16::try_from(broker.port).ok().filter(|port| *port > 0)?;
        let host = Some(broker.host.detached()).filter(|host| !host.is_empty())?;
        Some(BrokerAddress { id: broker.node_id, host, port, rack: None })
    });
    addresses
        .map(|address| {
            retry.shared.brokers.add(&address);
            address.id
        })
        .collect()
}
