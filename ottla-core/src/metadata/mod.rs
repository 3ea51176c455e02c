//! What is known of the cluster: who leads which partition, and when to ask again.

mod cache;
mod overdue;
mod refresh;
mod snapshot;
mod told;

pub(crate) use self::cache::LIE_BELIEVED;
pub use self::{
    cache::{Applied, LeaderHint, Lookup, MetadataCache, Useless},
    overdue::Overdue,
    refresh::Refresh,
    snapshot::{BrokerAddress, ClusterSnapshot, PartitionMetadata, TopicMetadata},
    told::Told,
};
