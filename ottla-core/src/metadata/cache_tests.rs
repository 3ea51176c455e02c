//! Twin tests of the metadata cache.

use super::*;

const GRACE: Duration = Duration::from_secs(5);
const OLD: TopicId = TopicId([1; 16]);
const NEW: TopicId = TopicId([2; 16]);

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
    Instant::now()
}

fn broker(node_id: i32, host: &str, port: i32) -> MetadataResponseBroker {
    MetadataResponseBroker { node_id, host: host.into(), port, ..Default::default() }
}

fn partition(partition_index: i32, leader_id: i32, leader_epoch: i32) -> MetadataResponsePartition {
    MetadataResponsePartition { partition_index, leader_id, leader_epoch, ..Default::default() }
}

fn topic(name: &str, topic_id: TopicId, partitions: Vec<MetadataResponsePartition>) -> MetadataResponseTopic {
    MetadataResponseTopic { name: Some(name.into()), topic_id, partitions, ..Default::default() }
}

fn refused(name: &str, error_code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code, ..topic(name, TopicId::ZERO, Vec::new()) }
}

fn answer(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    MetadataResponse {
        brokers: vec![broker(0, "b0", 9092), broker(1, "b1", 9092)],
        controller_id: 1,
        cluster_id: Some("c".into()),
        topics,
        ..Default::default()
    }
}

/// A cache that watches `orders` and was told of it.
fn told(topic_id: TopicId, partitions: Vec<MetadataResponsePartition>) -> MetadataCache {
    let mut cache = MetadataCache::new(GRACE);
    assert!(cache.watch(now(), "orders"));
    cache.apply(now(), &answer(vec![topic("orders", topic_id, partitions)])).unwrap();
    cache
}

fn leaders(cache: &MetadataCache) -> Vec<(Option<i32>, i32)> {
    let Lookup::Known(topic) = cache.lookup("orders") else { panic!("{:?}", cache.lookup("orders")) };
    topic.partitions.iter().map(|partition| (partition.leader, partition.leader_epoch)).collect()
}

fn tell(cache: &mut MetadataCache, told: MetadataResponseTopic) -> Applied {
    cache.apply(now(), &answer(vec![told])).unwrap()
}

#[test]
fn an_answer_becomes_a_snapshot() {
    let cache = told(OLD, vec![partition(1, 1, 7), partition(0, 0, 3)]);
    let snapshot = cache.snapshot();
    assert_eq!((snapshot.version, snapshot.controller_id), (1, 1));
    assert_eq!(snapshot.cluster_id.as_deref(), Some("c"));
    assert_eq!(leaders(&cache), [(Some(0), 3), (Some(1), 7)]);
    assert_eq!(snapshot.topics_by_id.get(&OLD).map(|topic| topic.name.as_str()), Some("orders"));
    assert_eq!(snapshot.leader("orders", 1), Some(1));
    assert_eq!(snapshot.leader("orders", 2), None);
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    let applied = tell(&mut cache, topic("orders", OLD, vec![partition(0, 0, 3)]));
    assert_eq!(applied, Applied { changed: false, complete: true });
    assert_eq!(cache.snapshot().version, 1);
}

#[test]
fn p22_an_older_leader_epoch_is_ignored_partition_by_partition() {
    let mut cache = told(OLD, vec![partition(0, 0, 3), partition(1, 0, 3)]);
    tell(&mut cache, topic("orders", OLD, vec![partition(0, 1, 2), partition(1, 1, 4)]));
    assert_eq!(leaders(&cache), [(Some(0), 3), (Some(1), 4)]);
}

#[test]
fn p20_a_stale_broker_cannot_take_partitions_away() {
    let mut cache = told(OLD, vec![partition(0, 0, 3), partition(1, 1, 0)]);
    tell(&mut cache, topic("orders", OLD, vec![partition(0, 0, 3)]));
    assert_eq!(leaders(&cache), [(Some(0), 3), (Some(1), 0)]);
}

#[test]
fn p19_a_recreated_topic_is_accepted_and_its_former_self_cannot_return() {
    let mut cache = told(OLD, vec![partition(0, 0, 9), partition(1, 0, 9)]);
    tell(&mut cache, topic("orders", NEW, vec![partition(0, 1, 0)]));
    assert_eq!(leaders(&cache), [(Some(1), 0)]);
    tell(&mut cache, topic("orders", OLD, vec![partition(0, 0, 10)]));
    assert_eq!(leaders(&cache), [(Some(1), 0)]);
    assert!(!cache.snapshot().topics_by_id.contains_key(&OLD));
}

#[test]
fn without_topic_ids_an_older_epoch_is_believed_in_the_end() {
    let mut cache = told(TopicId::ZERO, vec![partition(0, 0, 3)]);
    for _ in 1..REGRESSIONS_BELIEVED {
        tell(&mut cache, topic("orders", TopicId::ZERO, vec![partition(0, 1, 0)]));
        assert_eq!(leaders(&cache), [(Some(0), 3)]);
    }
    tell(&mut cache, topic("orders", TopicId::ZERO, vec![partition(0, 1, 0)]));
    assert_eq!(leaders(&cache), [(Some(1), 0)]);
}

/// Tells the same for so long, ten times.
fn tell_for(cache: &mut MetadataCache, time: Duration, told: &MetadataResponseTopic) {
    let from = now();
    for tenth in 0..=10 {
        cache.apply(from + time * tenth / 10, &answer(vec![told.clone()])).unwrap();
    }
}

#[test]
fn what_every_answer_of_five_minutes_contradicts_was_a_lie() {
    let honest = topic("orders", OLD, vec![partition(0, 0, 3), partition(1, 0, 3)]);
    let lies = [
        topic("orders", NEW, vec![partition(0, 1, 0), partition(1, 1, 0)]),
        topic("orders", OLD, vec![partition(0, 1, i32::MAX), partition(1, 0, 3)]),
        topic("orders", OLD, vec![partition(0, 0, 3), partition(1, 0, 3), partition(2, 1, 7)]),
    ];
    for lie in lies {
        let mut cache = told(OLD, vec![partition(0, 0, 3), partition(1, 0, 3)]);
        tell(&mut cache, lie.clone());
        let lied = leaders(&cache);
        tell_for(&mut cache, LIE_BELIEVED - Duration::from_secs(1), &honest);
        assert_eq!(leaders(&cache), lied);
        // One broker that says so again, and the time begins anew.
        tell(&mut cache, lie);
        tell_for(&mut cache, LIE_BELIEVED - Duration::from_secs(1), &honest);
        assert_eq!(leaders(&cache), lied);
        tell_for(&mut cache, LIE_BELIEVED * 2, &honest);
        assert_eq!(leaders(&cache), [(Some(0), 3), (Some(0), 3)]);
        assert_eq!(cache.snapshot().topics_by_id.keys().collect::<Vec<_>>(), [&OLD]);
    }
}

#[test]
fn an_unknown_epoch_is_accepted() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    tell(&mut cache, topic("orders", OLD, vec![partition(0, 1, -1)]));
    assert_eq!(leaders(&cache), [(Some(1), -1)]);
}

#[test]
fn an_unknown_topic_is_refused_only_after_the_grace_time() {
    let (mut cache, now) = (MetadataCache::new(GRACE), now());
    cache.watch(now, "orders");
    let unknown = answer(vec![refused("orders", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert!(!cache.apply(now, &unknown).unwrap().complete);
    assert_eq!(cache.lookup("orders"), Lookup::Pending);
    // Leaving it out of the answer is no better.
    assert!(cache.apply(now + GRACE, &answer(Vec::new())).unwrap().complete);
    assert_eq!(cache.lookup("orders"), Lookup::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

#[test]
fn a_refusal_holds_for_a_moment_and_is_then_asked_anew() {
    let (mut cache, now) = (MetadataCache::new(Duration::ZERO), now());
    cache.watch(now, "orders");
    cache.apply(now, &answer(Vec::new())).unwrap();
    assert!(!cache.watch(now, "orders"), "whoever waits must be able to see it");
    assert!(cache.watch(now + REFUSAL_HOLDS, "orders"));
    assert_eq!(cache.lookup("orders"), Lookup::Pending);
}

#[test]
fn a_known_topic_survives_a_stale_broker_and_ends_with_the_grace_time() {
    let (mut cache, now) = (told(OLD, vec![partition(0, 0, 3)]), now());
    cache.apply(now, &answer(Vec::new())).unwrap();
    assert!(matches!(cache.lookup("orders"), Lookup::Known(_)));
    cache.apply(now + GRACE, &answer(Vec::new())).unwrap();
    assert_eq!(cache.lookup("orders"), Lookup::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(cache.snapshot().topics.is_empty());
}

#[test]
fn a_topic_that_must_not_be_seen_is_refused_at_once() {
    let mut cache = MetadataCache::new(GRACE);
    cache.watch(now(), "orders");
    tell(&mut cache, refused("orders", ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(cache.lookup("orders"), Lookup::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    tell(&mut cache, topic("orders", OLD, vec![partition(0, 0, 0)]));
    assert!(matches!(cache.lookup("orders"), Lookup::Known(_)));
}

#[test]
fn a_refused_topic_that_nobody_asks_for_is_forgotten() {
    let (mut cache, now) = (MetadataCache::new(Duration::ZERO), now());
    cache.watch(now, "orders");
    cache.apply(now, &answer(Vec::new())).unwrap();
    cache.apply(now + REFUSAL_FORGOTTEN, &answer(Vec::new())).unwrap();
    assert_eq!(cache.watched().count(), 0);
}

#[test]
fn a_partition_without_a_leader_leaves_the_answer_incomplete() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    let applied = tell(&mut cache, topic("orders", OLD, vec![partition(0, -1, 4)]));
    assert_eq!(applied, Applied { changed: true, complete: false });
    assert_eq!(leaders(&cache), [(None, 4)]);
}

#[test]
fn a_passing_error_about_a_known_topic_leaves_the_answer_incomplete() {
    for code in [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_SERVER_ERROR] {
        let mut cache = told(OLD, vec![partition(0, 0, 3)]);
        let applied = tell(&mut cache, refused("orders", code));
        assert_eq!(applied, Applied { changed: false, complete: false });
        assert_eq!(leaders(&cache), [(Some(0), 3)]);
    }
}

#[test]
fn d05_hostile_partitions_are_sanitised() {
    let wild = vec![
        partition(-1, 0, 0),
        partition(i32::MAX, 0, 0),
        partition(0, 77, 0),
        partition(1, 1, 5),
        partition(1, 0, 6),
    ];
    let cache = told(OLD, wild);
    // Five were told, so that five can exist; the leader that is no broker, and what was not told, have none.
    assert_eq!(leaders(&cache), [(None, 0), (Some(1), 5), (None, -1), (None, -1), (None, -1)]);
}

#[test]
fn d05_a_topic_without_partitions_tells_nothing() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    tell(&mut cache, topic("orders", NEW, Vec::new()));
    assert_eq!(leaders(&cache), [(Some(0), 3)]);
}

#[test]
fn d05_brokers_that_cannot_be_connected_to_are_dropped() {
    let mut cache = MetadataCache::new(GRACE);
    let mut hostile = answer(Vec::new());
    hostile.brokers = vec![
        broker(-5, "b", 9092),
        broker(1, "", 9092),
        broker(2, "b", 0),
        broker(3, "b", 70_000),
        broker(4, "first", 1),
        broker(4, "second", 1),
    ];
    cache.apply(now(), &hostile).unwrap();
    let brokers: Vec<_> = cache.snapshot().brokers.values().map(|broker| broker.host.as_str()).collect();
    assert_eq!(brokers, ["first"]);
    hostile.brokers.truncate(4);
    assert_eq!(cache.apply(now(), &hostile), Err(Useless::NoBrokers));
    assert_eq!(cache.snapshot().brokers.len(), 1, "what was known stays");
}

#[test]
fn a_broker_that_refuses_changes_nothing() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    let code = ErrorCode::REBOOTSTRAP_REQUIRED;
    let no = MetadataResponse { error_code: code, ..answer(Vec::new()) };
    assert_eq!(cache.apply(now(), &no), Err(Useless::Refused(code)));
    assert_eq!(leaders(&cache), [(Some(0), 3)]);
}

fn hint(leader_id: i32, leader_epoch: i32) -> LeaderHint<'static> {
    LeaderHint { topic: "orders", partition: 0, leader_id, leader_epoch, endpoint: None }
}

#[test]
fn a_newer_leader_named_in_passing_is_believed() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    assert!(cache.on_leader_hints([hint(1, 4)]));
    assert_eq!(leaders(&cache), [(Some(1), 4)]);
    assert_eq!(cache.snapshot().topics_by_id[&OLD].partitions[0].leader, Some(1));
    assert!(!cache.on_leader_hints([hint(0, 4)]), "not newer");
    assert!(!cache.on_leader_hints([hint(9, 5)]), "nobody knows where broker 9 is");
    assert!(!cache.on_leader_hints([LeaderHint { partition: 6, ..hint(1, 9) }]), "no such partition");
}

#[test]
fn of_leaders_named_in_passing_together_the_newest_of_each_partition_counts() {
    let mut cache = told(OLD, vec![partition(0, 0, 3), partition(1, 0, 3)]);
    let version = cache.snapshot().version;
    let of_second = LeaderHint { partition: 1, ..hint(1, 5) };
    assert!(cache.on_leader_hints([hint(1, 5), hint(0, 4), of_second, hint(9, 9)]));
    assert_eq!(leaders(&cache), [(Some(1), 5), (Some(1), 5)]);
    assert_eq!(cache.snapshot().version, version + 1);
    assert!(!cache.on_leader_hints([]));
}

#[test]
fn a_leader_named_in_passing_may_bring_its_address() {
    let mut cache = told(OLD, vec![partition(0, 0, 3)]);
    let endpoint = BrokerAddress { id: 9, host: "b9".into(), port: 1, rack: None };
    assert!(
        !cache.on_leader_hints([LeaderHint { endpoint: Some(endpoint.clone()), ..hint(8, 4) }]),
        "another's"
    );
    assert!(cache.on_leader_hints([LeaderHint { endpoint: Some(endpoint), ..hint(9, 4) }]));
    assert_eq!(leaders(&cache), [(Some(9), 4)]);
    assert!(cache.snapshot().brokers.contains_key(&9));
}
