//! Which replica a consumer is to read from (KIP-392).

use crate::cluster::ReplicaSelector;
use crate::io::NodeId;
use crate::node::Node;
use crate::replica::Replica;

/// The follower that a consumer in `rack` is to read from; `None` if this leader serves it itself.
///
/// It is in sync, has what is asked for, and stands in that rack; of several it is the one that has most.
pub(super) fn closest(node: &Node, replica: &Replica, rack: &str, offset: i64) -> Option<NodeId> {
    if rack.is_empty() || node.config.replica_selector == ReplicaSelector::Leader {
        return None;
    }
    let leader = replica.leader()?;
    let stands_there =
        |id: &NodeId| node.image.brokers.get(id).is_some_and(|it| it.rack.as_deref() == Some(rack));
    if stands_there(&node.id) {
        return None;
    }
    let candidates = leader.in_sync_followers(offset).filter(|(id, ..)| stands_there(id));
    candidates.max_by_key(|(id, end, caught_up)| (*end, *caught_up, *id)).map(|(id, ..)| id)
}
