//! Whatever brokers tell, and in whatever order: what is believed of the cluster stays consistent.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

const TOPICS: [&str; 2] = ["a", "b"];

fn partition() -> impl Strategy<Value = MetadataResponsePartition> {
    (-2..6_i32, -2..4_i32, -1..6_i32).prop_map(|(partition_index, leader_id, leader_epoch)| {
        MetadataResponsePartition { partition_index, leader_id, leader_epoch, ..Default::default() }
    })
}

fn topic() -> impl Strategy<Value = MetadataResponseTopic> {
    let code = prop_oneof![
        8 => Just(ErrorCode::NONE),
        1 => Just(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        1 => Just(ErrorCode::LEADER_NOT_AVAILABLE),
        1 => Just(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
    ];
    (0..TOPICS.len(), 0..4_u8, code, vec(partition(), 0..6)).prop_map(|(name, id, error_code, partitions)| {
        MetadataResponseTopic {
            name: Some(TOPICS[name].into()),
            // Incarnations of one topic; 0 is a broker without topic ids.
            topic_id: if id == 0 { TopicId::ZERO } else { TopicId([16 * (name as u8 + 1) + id; 16]) },
            error_code,
            partitions,
            ..Default::default()
        }
    })
}

fn answer() -> impl Strategy<Value = MetadataResponse> {
    let broker = (-1..4_i32, 0..2_i32).prop_map(|(node_id, port)| MetadataResponseBroker {
        node_id,
        host: "b".into(),
        port,
        ..Default::default()
    });
    (vec(broker, 0..5), vec(topic(), 0..4)).prop_map(|(brokers, topics)| MetadataResponse {
        brokers,
        topics,
        ..Default::default()
    })
}

/// Of one incarnation, a leader epoch that is known may only grow, and partitions only get more, within minutes.
fn check_progress(before: &ClusterSnapshot, after: &ClusterSnapshot) {
    for (id, old) in &before.topics_by_id {
        let Some(new) = after.topics_by_id.get(id) else { continue };
        assert!(new.partitions.len() >= old.partitions.len(), "partitions went away");
        for (old, new) in old.partitions.iter().zip(&new.partitions) {
            assert!(new.leader_epoch < 0 || new.leader_epoch >= old.leader_epoch, "a leader epoch went back");
        }
    }
}

fn check_consistency(snapshot: &ClusterSnapshot) {
    for (name, topic) in &snapshot.topics {
        assert!(*name == topic.name && !topic.partitions.is_empty());
        if !topic.id.is_zero() {
            assert_eq!(snapshot.topics_by_id.get(&topic.id), Some(topic));
        }
    }
    let by_id: BTreeSet<_> = snapshot.topics_by_id.values().map(|topic| topic.name.as_str()).collect();
    assert_eq!(by_id.len(), snapshot.topics_by_id.len(), "two incarnations of one topic at once");
    for broker in snapshot.brokers.values() {
        assert!(broker.is_usable());
    }
}

proptest! {
    #[test]
    fn what_is_believed_stays_consistent(answers in vec((answer(), 0..4_u64, -1..5_i32), 1..40)) {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let mut now = Instant::now();
        let mut cache = MetadataCache::new(Duration::from_secs(5));
        for (answer, seconds, leader_id) in answers {
            now += Duration::from_secs(seconds);
            for topic in TOPICS {
                cache.watch(now, topic);
            }
            let before = cache.snapshot().clone();
            let applied = cache.apply(now, &answer);
            prop_assert_eq!(applied.is_err(), Useless::check(&answer).is_some());
            let changed = applied.is_ok_and(|applied| applied.changed);
            prop_assert_eq!(cache.snapshot().version, before.version + u64::from(changed));
            check_progress(&before, cache.snapshot());
            check_consistency(cache.snapshot());

            let before = cache.snapshot().clone();
            let hint = LeaderHint { topic: "a", partition: 0, leader_id, leader_epoch: 3, endpoint: None };
            let news = cache.on_leader_hints([hint]);
            prop_assert_eq!(cache.snapshot().version, before.version + u64::from(news));
            check_progress(&before, cache.snapshot());
            check_consistency(cache.snapshot());
        }
    }
}
