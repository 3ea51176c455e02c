//! FindCoordinator, and what a node says that is not the coordinator.

use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use ottla_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, LeaveGroupRequest,
    OffsetDeleteRequest, OffsetFetchRequest,
};
use ottla_protocol::{ErrorCode, Str};

use crate::broker::{Broker, call};
use crate::group::Group;
use crate::member::{dynamic, named};
use crate::quirks::Quirk;

/// A key type of FindCoordinator.
const GROUP: i8 = 0;

#[tokio::test]
async fn every_node_and_every_version_names_the_same_coordinator() {
    let Some(broker) = Broker::alone(1).await else { return };
    let [group, other] = [broker.group().await, broker.group().await];
    for address in broker.addresses() {
        for version in 0..4 {
            let request = FindCoordinatorRequest { key: group.id.clone(), ..Default::default() };
            let found = call(address, version, &request).await;
            assert_eq!(found.error_code, ErrorCode::NONE, "v{version}");
            assert_eq!(format!("{}:{}", found.host, found.port), group.coordinator, "v{version}");
            assert!(found.node_id > 0);
        }
        for version in 4..=broker.newest::<FindCoordinatorRequest>() {
            let coordinator_keys = vec![group.id.clone(), other.id.clone()];
            let request = FindCoordinatorRequest { coordinator_keys, key_type: GROUP, ..Default::default() };
            let found = call(address, version, &request).await;
            let names = |found: &Coordinator| (found.key.clone(), format!("{}:{}", found.host, found.port));
            let expected = [&group, &other].map(|group| (group.id.clone(), group.coordinator.clone()));
            assert_eq!(found.coordinators.iter().map(names).collect::<Vec<_>>(), expected, "v{version}");
            assert!(found.coordinators.iter().all(|found| found.error_code.is_ok() && found.node_id > 0));
        }
    }
}

#[tokio::test]
async fn a_key_type_must_be_known() {
    let broker = Broker::start().await;
    let key = || Str::from("key");
    for key_type in [7, -1] {
        let request = FindCoordinatorRequest { key: key(), key_type, ..Default::default() };
        assert_eq!(broker.call(3, &request).await.error_code, ErrorCode::INVALID_REQUEST);
        let coordinator_keys = vec![key()];
        let request = FindCoordinatorRequest { coordinator_keys, key_type, ..Default::default() };
        let found = broker.call(4, &request).await;
        assert_eq!(found.coordinators[0].error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!((found.coordinators[0].node_id, found.coordinators[0].port), (-1, -1));
    }
}

#[tokio::test]
async fn another_node_than_the_coordinator_says_so() {
    let Some(broker) = Broker::alone(3).await else { return };
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    for address in broker.addresses() {
        if *address == group.coordinator {
            continue;
        }
        let group = Group { coordinator: address.clone(), ..group.clone() };
        let mut member = member.clone();
        member.group = group.clone();
        let wrong = ErrorCode::NOT_COORDINATOR;
        assert_eq!(group.refused(&dynamic(), "").await, wrong);
        assert_eq!(group.refused(&named("one"), "").await, wrong);
        assert_eq!(member.rejoin().await.answer().await.error_code, wrong);
        assert_eq!(member.synced().await, wrong);
        let heartbeat =
            HeartbeatRequest { group_id: group.id.clone(), generation_id: 1, ..Default::default() };
        assert_eq!(group.call(4, &heartbeat).await.error_code, wrong);
        assert_eq!(member.commit(&topic, 5).await, wrong);
        let members = vec![member.identity()];
        let leave = LeaveGroupRequest { group_id: group.id.clone(), members, ..Default::default() };
        assert_eq!(group.call(5, &leave).await.error_code, wrong);

        check_administration(&group).await;
        check_fetch(&broker, &group).await;
    }
    assert_eq!(member.heartbeat().await, ErrorCode::NONE);
}

async fn check_administration(group: &Group) {
    let wrong = ErrorCode::NOT_COORDINATOR;
    let groups = vec![group.id.clone()];
    let describe = DescribeGroupsRequest { groups: groups.clone(), ..Default::default() };
    let described = group.call(5, &describe).await;
    assert_eq!((described.groups[0].error_code, &described.groups[0].group_id), (wrong, &group.id));
    let deleted = group.call(2, &DeleteGroupsRequest { groups_names: groups }).await;
    assert_eq!((deleted.results[0].error_code, &deleted.results[0].group_id), (wrong, &group.id));
    let topics = vec![OffsetDeleteRequestTopic { name: "no-such-topic".into(), partitions: Vec::new() }];
    let delete = OffsetDeleteRequest { group_id: group.id.clone(), topics };
    assert_eq!(group.call(0, &delete).await.error_code, wrong);
}

async fn check_fetch(broker: &Broker, group: &Group) {
    let wrong = ErrorCode::NOT_COORDINATOR;
    let topic = OffsetFetchRequestTopic { name: "topic".into(), partition_indexes: vec![0] };
    for version in 1..8 {
        let request = OffsetFetchRequest {
            group_id: group.id.clone(),
            topics: Some(vec![topic.clone()]),
            ..OffsetFetchRequest::default()
        };
        let fetched = group.call(version, &request).await;
        if version >= 2 {
            assert_eq!(fetched.error_code, wrong, "v{version}");
        } else if broker.has(Quirk::OffsetFetchV1HidesErrors) {
            assert_eq!(fetched.topics.len(), 0);
        } else {
            // There is no other place to say it.
            assert_eq!(fetched.topics[0].partitions[0].error_code, wrong);
        }
    }
    let groups =
        vec![OffsetFetchRequestGroup { group_id: group.id.clone(), topics: None, ..Default::default() }];
    let fetched = group.call(9, &OffsetFetchRequest { groups, ..Default::default() }).await;
    assert_eq!((fetched.groups[0].error_code, &fetched.groups[0].group_id), (wrong, &group.id));
}
