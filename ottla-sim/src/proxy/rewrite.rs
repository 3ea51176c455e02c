//! Answers that name brokers, with the proxy's addresses in place of theirs.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use ottla_protocol::{
    ApiKey, DecodeError, Decoder, Request, Str,
    frame::{decode_response, encode_response},
    messages::{
        DescribeClusterRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest, ProduceRequest,
    },
};

use super::Brokers;

/// The requests of one connection whose answers are to be rewritten: API and version by correlation id.
#[derive(Debug, Default)]
pub(super) struct Awaited(BTreeMap<i32, (ApiKey, i16)>);

/// More than that many answers are never awaited at once: `acks=0` has none, and must not pile up.
const MOST_AWAITED: usize = 4_096;

/// The host that every broker seems to have.
const PROXY_HOST: &str = "127.0.0.1";

/// Where one broker is named in an answer.
type Named<'a> = (&'a mut Str, &'a mut i32);

impl Awaited {
    /// Looks at a request frame on its way.
    pub(super) fn on_request(&mut self, frame: &Bytes) -> io::Result<()> {
        let mut header = Decoder::new(frame.clone());
        let mut read = || {
            let (api_key, version) = (header.get_i16("api key")?, header.get_i16("version")?);
            Ok::<_, DecodeError>((ApiKey(api_key), version, header.get_i32("correlation id")?))
        };
        let (api_key, version, correlation_id) = read().map_err(garbled)?;
        if names_brokers(api_key) {
            if self.0.len() >= MOST_AWAITED {
                self.0.pop_first();
            }
            self.0.insert(correlation_id, (api_key, version));
        }
        Ok(())
    }

    /// The API and the version that a response frame answers, if it may name brokers.
    pub(super) fn answered(&mut self, frame: &Bytes) -> Option<(ApiKey, i16)> {
        let correlation_id = Decoder::new(frame.clone()).get_i32("correlation id").ok()?;
        self.0.remove(&correlation_id)
    }
}

fn names_brokers(api_key: ApiKey) -> bool {
    [
        MetadataRequest::API_KEY,
        FindCoordinatorRequest::API_KEY,
        DescribeClusterRequest::API_KEY,
        ProduceRequest::API_KEY,
        FetchRequest::API_KEY,
    ]
    .contains(&api_key)
}

/// The response frame without its length, with the proxy's addresses in it.
pub(super) async fn rewrite(
    brokers: &Arc<Brokers>,
    (api_key, version): (ApiKey, i16),
    frame: Bytes,
) -> io::Result<Bytes> {
    match api_key {
        MetadataRequest::API_KEY => {
            each::<MetadataRequest>(brokers, version, frame, |answer| {
                answer.brokers.iter_mut().map(|broker| (&mut broker.host, &mut broker.port)).collect()
            })
            .await
        }
        DescribeClusterRequest::API_KEY => {
            each::<DescribeClusterRequest>(brokers, version, frame, |answer| {
                answer.brokers.iter_mut().map(|broker| (&mut broker.host, &mut broker.port)).collect()
            })
            .await
        }
        FindCoordinatorRequest::API_KEY => {
            each::<FindCoordinatorRequest>(brokers, version, frame, |answer| {
                let several = answer.coordinators.iter_mut().map(|found| (&mut found.host, &mut found.port));
                std::iter::once((&mut answer.host, &mut answer.port)).chain(several).collect()
            })
            .await
        }
        ProduceRequest::API_KEY => {
            each::<ProduceRequest>(brokers, version, frame, |answer| {
                answer.node_endpoints.iter_mut().map(|node| (&mut node.host, &mut node.port)).collect()
            })
            .await
        }
        FetchRequest::API_KEY => {
            each::<FetchRequest>(brokers, version, frame, |answer| {
                answer.node_endpoints.iter_mut().map(|node| (&mut node.host, &mut node.port)).collect()
            })
            .await
        }
        _ => Ok(frame),
    }
}

async fn each<R: Request>(
    brokers: &Arc<Brokers>,
    version: i16,
    frame: Bytes,
    named: impl for<'a> Fn(&'a mut R::Response) -> Vec<Named<'a>>,
) -> io::Result<Bytes> {
    let (correlation_id, mut answer) = decode_response::<R>(version, frame.clone()).map_err(garbled)?;
    let mut renamed = Vec::new();
    for (host, port) in named(&mut answer) {
        renamed.push(match u16::try_from(*port) {
            Ok(known) if known > 0 && !host.is_empty() => Some((host.to_string(), known)),
            // "Nobody" stays nobody.
            _ => None,
        });
    }
    if renamed.iter().all(Option::is_none) {
        return Ok(frame);
    }
    let mut local = Vec::new();
    for address in &renamed {
        local.push(match address {
            Some((host, port)) => Some(brokers.listener(host, *port).await?),
            None => None,
        });
    }
    for ((host, port), local) in named(&mut answer).into_iter().zip(local) {
        if let Some(local) = local {
            (*host, *port) = (Str::from_static(PROXY_HOST), i32::from(local));
        }
    }
    let segments = encode_response::<R>(version, correlation_id, &answer).map_err(garbled)?;
    let mut whole = BytesMut::new();
    for segment in &segments {
        whole.extend_from_slice(segment);
    }
    // The length in front is written again with the frame.
    Ok(whole.freeze().slice(4..))
}

fn garbled(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
