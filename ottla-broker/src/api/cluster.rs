//! `DescribeCluster` (KIP-700).

use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::{ErrorCode, Str};

use super::text;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome};

/// Endpoints of brokers; those of controllers are 2, and a client cannot talk to ours.
const BROKERS: i8 = 1;

pub(super) fn describe_cluster(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: DescribeClusterRequest,
) -> Outcome {
    let image = &node.image;
    let mut response = DescribeClusterResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        endpoint_type: BROKERS,
        cluster_id: text(&image.cluster_id),
        controller_id: image.brokers.keys().next().copied().unwrap_or(-1),
        ..DescribeClusterResponse::default()
    };
    if request.endpoint_type == BROKERS {
        let brokers = image.brokers.iter().map(|(id, broker)| DescribeClusterBroker {
            broker_id: *id,
            host: text(&broker.host),
            port: i32::from(broker.port),
            rack: broker.rack.as_deref().map(text),
            is_fenced: false,
        });
        response.brokers = brokers.collect();
    } else {
        response.error_code = ErrorCode::MISMATCHED_ENDPOINT_TYPE;
        response.error_message = Some(Str::from("The request was sent to an endpoint of type BROKER."));
    }
    exchange.reply::<DescribeClusterRequest>(&response)
}
