//! A log that is cut behind what a member has handled.

use std::cell::Cell;

use ottla::{Acks, Consumer, ErrorCode, Producer, Reset};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
};
use ottla_protocol::messages::OffsetCommitRequest;
use ottla_sim::{Cluster, Sim, World, group::GROUP};
use tokio::time::sleep;

use crate::SECOND;

const TOPIC: &str = "orders";

/// Of two replicas that elect whoever is there.
async fn cluster(world: &World) -> Cluster {
    let config = ClusterConfig {
        unclean_leader_election: true,
        min_insync_replicas: 1,
        default_replication_factor: 2,
        ..ClusterConfig::with_nodes(3, "", 0)
    };
    let cluster = world.cluster_with(config).await;
    cluster.topic(TOPIC, 1).await;
    cluster
}

/// The coordinator takes no commits while the log is cut. What is left of it was complete when the commit was asked for.
#[test]
fn g10_a_commit_behind_which_the_log_is_cut_waits_until_what_is_left_of_it_is_committed() {
    Sim::seeds(0..6).run(async |world| {
        let cluster = cluster(world).await;
        let client = cluster.client_on("writer");
        let producer = Producer::builder(&client).acks(Acks::Leader).enable_idempotence(false).build()?;
        let produce = async |what: &str, count: i64| {
            for number in 0..count {
                producer.send(TOPIC, &format!("{what} {number}")).await.expect("the leader runs");
            }
        };
        produce("common", 20).await;
        sleep(5 * SECOND).await;
        let leader = cluster.leader(TOPIC, 0).expect("a leader");
        let replicas = cluster.image().topic(TOPIC).expect("it exists").partitions[0].replicas.clone();
        let is_follower = |id| replicas.contains(&id) && id != leader.id();
        let follower = cluster.brokers().find(|broker| is_follower(broker.id())).expect("two replicas");
        follower.kill();
        let alone = || cluster.image().topic(TOPIC).is_some_and(|topic| topic.partitions[0].isr.len() == 1);
        world.until("the leader is alone in the in-sync set", alone).await;
        produce("lost", 10).await;

        let consumer = Consumer::builder(&cluster.client_on("billing"))
            .group(GROUP)
            .enable_auto_commit(false)
            .on_missing_offset(Reset::Earliest)
            .on_out_of_range(Reset::Earliest)
            .build()?;
        consumer.subscribe([TOPIC])?;
        for _ in 0..30 {
            consumer.recv().await?.expect("open").complete();
        }
        let loading = Effect::Refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        let refused = cluster.faults().add(Fault::on::<OffsetCommitRequest>(loading));
        let is_told = Cell::new(false);
        let commit = async {
            let outcome = consumer.commit().await;
            is_told.set(true);
            outcome
        };
        let cut = async {
            world.until("the commit is refused", || refused.strikes() > 0).await;
            leader.kill();
            follower.start();
            let record = consumer.recv().await?.expect("open");
            assert_eq!((record.view().offset(), record.view().value()), (20, Some(&b"other 0"[..])));
            let before = refused.strikes();
            world.until("commits are refused behind the cut", || refused.strikes() > before + 1).await;
            assert!(!is_told.get(), "nothing is committed");
            refused.end();
            Ok::<_, ottla::Error>(record)
        };
        let writes = async {
            let leads = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() == follower.id());
            world.until("the follower leads", leads).await;
            produce("other", 10).await;
        };
        let (committed, in_hand, ()) = tokio::join!(commit, cut, writes);
        committed?;
        assert_eq!(cluster.committed(GROUP, TOPIC, 0), Some(20));
        drop(in_hand?);
        Ok::<_, ottla::Error>(())
    });
}
