//! `FindCoordinator`: which node looks after a group or a transactional id.

use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::{ErrorCode, Str};

use super::text;
use crate::image::Image;
use crate::io::{NodeId, Now};
use crate::node::{Exchange, Node, Outcome, coordinator_of};
use crate::peer::PeerMessage;

/// The key is that of a group.
const GROUP: i8 = 0;

/// Groups 0, transactional ids 1, share groups 2.
const KEY_TYPES: std::ops::RangeInclusive<i8> = 0..=2;

pub(super) fn find_coordinator(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: FindCoordinatorRequest,
) -> Outcome {
    let mut response = FindCoordinatorResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        ..FindCoordinatorResponse::default()
    };
    if request.key_type == GROUP && node.image.topic(crate::coordinator::TOPIC).is_none() {
        // The client finds the coordinator when it asks again.
        let topics = vec![node.offsets_topic()];
        node.call(|request| PeerMessage::CreateTopics { request, topics, validate_only: false });
    }
    // Several keys at once since version 4 (KIP-699).
    if exchange.version >= 4 {
        let find = |key| find(&node.image, request.key_type, key);
        response.coordinators = request.coordinator_keys.iter().map(find).collect();
    } else {
        let found = find(&node.image, request.key_type, &request.key);
        response.error_code = found.error_code;
        response.error_message = found.error_message;
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
    }
    exchange.reply::<FindCoordinatorRequest>(&response)
}

fn find(image: &Image, key_type: i8, key: &Str) -> Coordinator {
    let failed = |error_code: ErrorCode, message: &str| Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(text(message)),
        ..Coordinator::default()
    };
    if !KEY_TYPES.contains(&key_type) {
        return failed(ErrorCode::INVALID_REQUEST, "Unknown coordinator type");
    }
    let coordinator =
        if key_type == GROUP { coordinator_of(image, key) } else { coordinator(image, key_type, key) };
    let chosen = coordinator.and_then(|id| Some((id, image.brokers.get(&id)?)));
    let Some((node_id, broker)) = chosen else {
        return failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.");
    };
    let (host, port) = (text(&broker.host), i32::from(broker.port));
    Coordinator { key: key.clone(), node_id, host, port, ..Coordinator::default() }
}

/// The living node with the highest score for the key: when a node dies, only what it looked after moves.
pub(crate) fn coordinator(image: &Image, key_type: i8, key: &str) -> Option<NodeId> {
    image.brokers.keys().copied().max_by_key(|node| (score(*node, key_type, key), *node))
}

/// FNV-1a over node, kind and key, with the bits mixed once more since short keys leave the high ones alone.
fn score(node: NodeId, key_type: i8, key: &str) -> u64 {
    let prefix = node.to_be_bytes().into_iter().chain(key_type.to_be_bytes());
    let hash = prefix.chain(key.bytes()).fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::coordinator;
    use crate::image::{Broker, Image};

    fn image(nodes: &[i32]) -> Image {
        let broker = Broker { host: "h".into(), port: 1, rack: None, incarnation: 0 };
        Image { brokers: nodes.iter().map(|node| (*node, broker.clone())).collect(), ..Image::default() }
    }

    #[test]
    fn keys_are_spread_over_the_nodes() {
        let image = image(&[1, 2, 3]);
        let mut found = [0; 4];
        for group in 0..300 {
            let node = coordinator(&image, 0, &format!("group-{group}")).unwrap();
            found[usize::try_from(node).unwrap()] += 1;
        }
        assert!(found[1..].iter().all(|count| *count > 50), "{found:?}");
    }

    #[test]
    fn only_the_keys_of_a_dead_node_move() {
        for group in (0..100).map(|group| format!("group-{group}")) {
            let before = coordinator(&image(&[1, 2, 3]), 0, &group).unwrap();
            let after = coordinator(&image(&[1, 3]), 0, &group).unwrap();
            assert!(before == after || before == 2);
        }
    }
}
