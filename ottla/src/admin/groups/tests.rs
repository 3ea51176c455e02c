//! Administration of groups against scripted brokers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, Encoder, ErrorCode, Message, RequestFrame,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment,
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
        FindCoordinatorRequest, FindCoordinatorResponse, ListGroupsRequest, ListGroupsResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
        OffsetFetchRequest, OffsetFetchResponse, consumer_group_describe_response as next_generation,
        consumer_protocol_assignment::TopicPartition as Assigned,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        find_coordinator_response::Coordinator,
        list_groups_response::ListedGroup,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
};
use tokio::time::Instant;

use super::*;
use crate::{
    Admin, ErrorKind, OffsetAndMetadata, PerItem, TopicPartition,
    net::lock,
    scripted::{Cluster, DecodeBody, Reply, World, address, answer, api_versions_with},
};

const SECOND: Duration = Duration::from_secs(1);

/// Brokers at these ports, the first of which is node 0. A group's coordinator is at the port that `port_of` gives;
/// group requests are answered by `on`, which is told who is asked.
fn world(
    ports: &[u16],
    limits: &'static [(ApiKey, i16)],
    port_of: impl Fn(&str) -> Option<u16> + Clone + Send + Sync + 'static,
    on: impl Fn(u16, &mut RequestFrame) -> Reply + Clone + Send + Sync + 'static,
) -> Arc<World> {
    let world = World::new();
    for port in ports.iter().copied() {
        let (others, port_of, on) = (Cluster::new(ports).script(), port_of.clone(), on.clone());
        world.serve(port, move |request| match request.api_key {
            ApiKey::API_VERSIONS => api_versions_with(request, limits),
            ApiKey::METADATA => others(request),
            ApiKey::FIND_COORDINATOR => coordinators(request, &port_of),
            _ => on(port, request),
        });
    }
    world
}

fn coordinators(request: &mut RequestFrame, port_of: impl Fn(&str) -> Option<u16>) -> Reply {
    let asked = FindCoordinatorRequest::decode_body(request);
    let told = asked.coordinator_keys.iter().map(|key| {
        let (port, error_code) = match port_of(key) {
            Some(port) => (i32::from(port), ErrorCode::NONE),
            None => (0, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        };
        let host = address(0).ip().to_string().as_str().into();
        Coordinator { key: key.clone(), node_id: port - 1, host, port, error_code, error_message: None }
    });
    let response = FindCoordinatorResponse { coordinators: told.collect(), ..Default::default() };
    answer::<FindCoordinatorRequest>(request, &response)
}

fn admin(world: &Arc<World>) -> Admin {
    Admin::new(&world.client(&["10.0.0.1:1"]))
}

fn codes<K, T>(results: PerItem<K, T>) -> Vec<(K, Option<ErrorCode>)> {
    let code = |result: crate::Result<T>| result.err().map(|error| error.broker_code().unwrap());
    results.into_iter().map(|(item, result)| (item, code(result))).collect()
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// An answer to DescribeGroups, with the state or the code that `tell` gives each group.
fn described(request: &mut RequestFrame, tell: impl Fn(&str) -> Result<&'static str, ErrorCode>) -> Reply {
    let asked = DescribeGroupsRequest::decode_body(request);
    let group = |name: &ottla_protocol::Str| {
        let mut told = DescribedGroup { group_id: name.clone(), ..DescribedGroup::default() };
        match tell(name) {
            Ok(state) => told.group_state = state.into(),
            Err(code) => told.error_code = code,
        }
        told
    };
    let response =
        DescribeGroupsResponse { groups: asked.groups.iter().map(group).collect(), ..Default::default() };
    answer::<DescribeGroupsRequest>(request, &response)
}

#[tokio::test(start_paused = true)]
async fn each_coordinator_is_asked_once_for_all_of_its_groups() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let port_of = |group: &str| Some(if group < "c" { 1 } else { 2 });
    let world = world(&[1, 2], &[], port_of, move |port, request| {
        let groups = DescribeGroupsRequest::decode(request.api_version, &mut request.body.clone()).unwrap();
        lock(&log).push((port, groups.groups.len()));
        described(request, |group| match group {
            "b" => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
            _ => Ok("Empty"),
        })
    });
    let results = admin(&world).describe_groups(["d", "b", "c", "a"]).await.unwrap();
    let denied = Some(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let expected = [("d", None), ("b", denied), ("c", None), ("a", None)];
    assert_eq!(codes(results.clone()), expected.map(|(group, code)| (group.to_owned(), code)));
    let coordinators: Vec<_> =
        results.into_iter().filter_map(|(_, group)| Some(group.ok()?.coordinator)).collect();
    assert_eq!(coordinators.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(coordinators[0].address, "10.0.0.1:2");
    let mut asked = lock(&asked).clone();
    asked.sort_unstable();
    assert_eq!(asked, [(1, 2), (2, 2)]);
}

fn encoded(partitions: &[i32]) -> Bytes {
    let topic = Assigned { topic: "orders".into(), partitions: partitions.to_vec() };
    let message = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
    let mut out = Encoder::new();
    out.put_i16(1);
    message.encode(1, &mut out).unwrap();
    out.to_bytes()
}

#[tokio::test(start_paused = true)]
async fn who_has_which_partitions_is_told_in_order() {
    let world = world(
        &[1],
        &[],
        |_| Some(1),
        |_, request| {
            let member = |id: &str, assignment: Bytes| DescribedGroupMember {
                member_id: id.into(),
                group_instance_id: (id == "m-2").then(|| "static".into()),
                client_id: "c".into(),
                client_host: "/10.1.1.1".into(),
                member_assignment: assignment,
                ..Default::default()
            };
            let group = |name: &str, protocol_type: &str, members| DescribedGroup {
                group_id: name.into(),
                group_state: "Stable".into(),
                protocol_type: protocol_type.into(),
                protocol_data: "range".into(),
                members,
                ..Default::default()
            };
            let consumers = vec![
                member("m-2", encoded(&[3, 1])),
                member("m-1", Bytes::new()),
                member("m-3", encoded(&[0]).slice(..7)),
            ];
            let groups = vec![
                group("g", "consumer", consumers),
                group("connect", "connect", vec![member("w", encoded(&[0]))]),
            ];
            answer::<DescribeGroupsRequest>(request, &DescribeGroupsResponse { groups, ..Default::default() })
        },
    );
    let mut groups = admin(&world).describe_groups(["g", "connect"]).await.unwrap().all().unwrap();
    let (_, connect) = groups.pop().unwrap();
    assert_eq!(connect.members[0].assignment, None, "these are no consumers");
    let (_, group) = groups.pop().unwrap();
    assert_eq!(
        (group.state, group.group_type, group.assignor.as_deref()),
        (GroupState::Stable, GroupType::Classic, Some("range"))
    );
    let assigned: Vec<_> =
        group.members.iter().map(|m| (m.member_id.as_str(), m.assignment.clone())).collect();
    let expected = [("m-1", Some(vec![])), ("m-2", Some(vec![orders(1), orders(3)])), ("m-3", None)];
    assert_eq!(assigned, expected);
    assert_eq!(group.members[1].instance_id.as_deref(), Some("static"));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dead_does_not_exist() {
    let world = world(
        &[1],
        &[(ApiKey::DESCRIBE_GROUPS, 5)],
        |_| Some(1),
        |_, request| described(request, |_| Ok("Dead")),
    );
    let results = codes(admin(&world).describe_groups(["g"]).await.unwrap());
    assert_eq!(results, [("g".to_owned(), Some(ErrorCode::GROUP_ID_NOT_FOUND))]);
}

#[tokio::test(start_paused = true)]
async fn groups_of_the_newer_protocol_are_described_as_well() {
    let world = world(
        &[1],
        &[(ApiKey::CONSUMER_GROUP_DESCRIBE, 0)],
        |_| Some(1),
        |_, request| {
            if request.api_key == ApiKey::DESCRIBE_GROUPS {
                return described(request, |group| match group {
                    "classic" => Ok("Stable"),
                    _ => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                });
            }
            let asked = ConsumerGroupDescribeRequest::decode_body(request);
            let group = |name: &ottla_protocol::Str| next_generation::DescribedGroup {
                error_code: if &**name == "none" { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
                group_id: name.clone(),
                group_state: "Reconciling".into(),
                members: vec![next_generation::Member {
                    assignment: next_generation::Assignment {
                        topic_partitions: vec![next_generation::TopicPartitions {
                            topic_name: "orders".into(),
                            partitions: vec![2],
                            ..Default::default()
                        }],
                    },
                    ..Default::default()
                }],
                ..Default::default()
            };
            let groups = asked.group_ids.iter().map(group).collect();
            answer::<ConsumerGroupDescribeRequest>(
                request,
                &ConsumerGroupDescribeResponse { groups, ..Default::default() },
            )
        },
    );
    let results = admin(&world).describe_groups(["none", "next", "classic"]).await.unwrap();
    let next = results.iter().nth(1).unwrap().1.clone().unwrap();
    assert_eq!((next.state, next.group_type), (GroupState::Reconciling, GroupType::Consumer));
    assert_eq!(next.members[0].assignment, Some(vec![orders(2)]));
    let missing = Some(ErrorCode::GROUP_ID_NOT_FOUND);
    let expected = [("none", missing), ("next", None), ("classic", None)];
    assert_eq!(codes(results), expected.map(|(group, code)| (group.to_owned(), code)));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let moves = asked.clone();
    // The first answer still names the old one.
    let port_of = move |_: &str| Some(if moves.load(Ordering::Relaxed) < 2 { 1 } else { 2 });
    let world = world(&[1, 2], &[], port_of, move |port, request| {
        asked.fetch_add(1, Ordering::Relaxed);
        described(request, |_| if port == 1 { Err(ErrorCode::NOT_COORDINATOR) } else { Ok("Empty") })
    });
    let (_, group) = admin(&world).describe_groups(["g"]).await.unwrap().all().unwrap().remove(0);
    assert_eq!(group.coordinator.id, 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_without_a_coordinator_does_not_spoil_the_others() {
    let port_of = |group: &str| (group != "b").then_some(1);
    let world = world(&[1], &[], port_of, |_, request| described(request, |_| Ok("Empty")));
    let started = Instant::now();
    let results = admin(&world).describe_groups(["a", "b"]).timeout(7 * SECOND).await.unwrap();
    assert!(started.elapsed() <= 7 * SECOND);
    let none = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(codes(results), [("a".to_owned(), None), ("b".to_owned(), none)]);
    let error = admin(&world).describe_groups(["b"]).timeout(7 * SECOND).await.unwrap_err();
    assert_eq!(error.broker_code(), none, "no item was answered");
}

#[tokio::test(start_paused = true)]
async fn groups_are_deleted_and_a_lost_connection_is_tried_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let world = world(
        &[1],
        &[],
        |_| Some(1),
        move |_, request| {
            let error_code = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => return Reply::Close,
                1 => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                _ => ErrorCode::NON_EMPTY_GROUP,
            };
            let asked = DeleteGroupsRequest::decode_body(request);
            let result = |name: &ottla_protocol::Str| DeletableGroupResult {
                group_id: name.clone(),
                error_code: if &**name == "done" { ErrorCode::NONE } else { error_code },
                ..Default::default()
            };
            let results = asked.groups_names.iter().map(result).collect();
            answer::<DeleteGroupsRequest>(request, &DeleteGroupsResponse { results, ..Default::default() })
        },
    );
    let results = codes(admin(&world).delete_groups(["busy", "done"]).await.unwrap());
    let expected = [("busy", Some(ErrorCode::NON_EMPTY_GROUP)), ("done", None)];
    assert_eq!(results, expected.map(|(group, code)| (group.to_owned(), code)));
}

/// An answer to ListGroups with one group, named after the broker.
fn listed(port: u16, request: &RequestFrame) -> Reply {
    let own = ListedGroup {
        group_id: format!("of-{port}").as_str().into(),
        protocol_type: "consumer".into(),
        group_state: "Stable".into(),
        group_type: "classic".into(),
    };
    let shared = ListedGroup { group_id: "moving".into(), ..own.clone() };
    let response = ListGroupsResponse { groups: vec![own, shared], ..Default::default() };
    answer::<ListGroupsRequest>(request, &response)
}

#[tokio::test(start_paused = true)]
async fn all_brokers_tell_their_groups() {
    let world = world(&[1, 2, 3], &[], |_| None, |port, request| listed(port, request));
    let groups = admin(&world).list_groups().await.unwrap().all().unwrap();
    let names: Vec<_> = groups.iter().map(|group| (group.group.as_str(), group.coordinator)).collect();
    assert_eq!(names, [("moving", 0), ("of-1", 0), ("of-2", 1), ("of-3", 2)]);
    assert_eq!(
        (&groups[1].state, &groups[1].group_type),
        (&Some(GroupState::Stable), &Some(GroupType::Classic))
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_is_named_and_the_groups_of_others_told() {
    let world = world(
        &[1, 2],
        &[],
        |_| None,
        |port, request| match port {
            1 => listed(port, request),
            _ => Reply::Close,
        },
    );
    let listed = admin(&world).list_groups().timeout(7 * SECOND).await.unwrap();
    assert_eq!(listed.groups.len(), 2);
    assert_eq!(listed.failed.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1]);
    assert!(listed.all().unwrap_err().is_retriable());
}

#[tokio::test(start_paused = true)]
async fn what_an_old_broker_cannot_choose_by_is_not_passed_over() {
    let limits = &[(ApiKey::LIST_GROUPS, 4)];
    let world = world(
        &[1],
        limits,
        |_| None,
        |port, request| {
            let asked = ListGroupsRequest::decode(request.api_version, &mut request.body.clone()).unwrap();
            assert_eq!(asked.states_filter, ["Stable"]);
            listed(port, request)
        },
    );
    let admin = admin(&world);
    assert_eq!(admin.list_groups().in_states([GroupState::Stable]).await.unwrap().all().unwrap().len(), 2);
    let error = admin.list_groups().with_types([GroupType::Classic]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

/// Partition 0 of `orders` is committed at 5, 1 is not, 2 must not be seen.
fn committed(request: &mut RequestFrame) -> Reply {
    let asked = OffsetFetchRequest::decode_body(request);
    let offset = |partition| if partition == 0 { 5 } else { -1 };
    let code =
        |partition| if partition == 2 { ErrorCode::TOPIC_AUTHORIZATION_FAILED } else { ErrorCode::NONE };
    let response = match request.api_version {
        8.. => {
            let groups = asked.groups.iter().map(|group| {
                let asked =
                    group.topics.as_ref().map_or(vec![0], |topics| topics[0].partition_indexes.clone());
                let part = |partition_index| OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: offset(partition_index),
                    committed_leader_epoch: 7,
                    metadata: Some("m".into()),
                    error_code: code(partition_index),
                };
                let partitions = asked.into_iter().map(part).collect();
                let topic =
                    OffsetFetchResponseTopics { name: "orders".into(), partitions, ..Default::default() };
                OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    topics: vec![topic],
                    ..Default::default()
                }
            });
            OffsetFetchResponse { groups: groups.collect(), ..Default::default() }
        }
        _ => {
            let asked = asked.topics.as_ref().map_or(vec![0], |topics| topics[0].partition_indexes.clone());
            let part = |partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_offset: offset(partition_index),
                committed_leader_epoch: 7,
                metadata: Some("m".into()),
                error_code: code(partition_index),
            };
            let partitions = asked.into_iter().map(part).collect();
            let topic = OffsetFetchResponseTopic { name: "orders".into(), partitions };
            OffsetFetchResponse { topics: vec![topic], ..Default::default() }
        }
    };
    answer::<OffsetFetchRequest>(request, &response)
}

#[tokio::test(start_paused = true)]
async fn commits_of_several_groups_are_listed_in_every_version() {
    for limits in [&[(ApiKey::OFFSET_FETCH, 9)], &[(ApiKey::OFFSET_FETCH, 7)]] {
        let world = world(&[1], limits, |_| Some(1), |_, request| committed(request));
        let admin = admin(&world);
        let five = OffsetAndMetadata { offset: 5, leader_epoch: Some(7), metadata: "m".into() };
        for (_, offsets) in admin.list_group_offsets(["a", "b"]).await.unwrap().all().unwrap() {
            assert_eq!(offsets.all().unwrap(), [(orders(0), Some(five.clone()))]);
        }
        let wanted = [2, 1, 0].map(orders);
        let chosen = admin.list_group_offsets(["a"]).partitions(wanted).require_stable();
        let (_, offsets) = chosen.await.unwrap().all().unwrap().remove(0);
        let told: Vec<_> =
            offsets.into_iter().map(|(partition, told)| (partition.partition(), told)).collect();
        assert!(
            matches!(&told[0], (2, Err(error)) if error.broker_code() == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED))
        );
        assert!(matches!(&told[1], (1, Ok(None))), "nothing is committed, which is not 0");
        assert!(matches!(&told[2], (0, Ok(Some(offset))) if *offset == five));
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_are_altered_partition_by_partition() {
    let asked = Arc::new(AtomicUsize::new(0));
    let world = world(
        &[1],
        &[],
        |_| Some(1),
        move |_, request| {
            let attempt = asked.fetch_add(1, Ordering::Relaxed);
            let asked = OffsetCommitRequest::decode_body(request);
            assert_eq!((asked.generation_id_or_member_epoch, &*asked.member_id), (-1, ""));
            let parts = asked.topics[0].partitions.iter().map(|part| OffsetCommitResponsePartition {
                partition_index: part.partition_index,
                error_code: match (attempt, part.partition_index, part.committed_offset) {
                    (0, ..) => ErrorCode::NOT_COORDINATOR,
                    (_, 0, 42) => ErrorCode::NONE,
                    _ => ErrorCode::UNKNOWN_MEMBER_ID,
                },
            });
            let partitions = parts.collect();
            let topic = OffsetCommitResponseTopic { name: "orders".into(), partitions, ..Default::default() };
            let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
            answer::<OffsetCommitRequest>(request, &response)
        },
    );
    let admin = admin(&world);
    let results = admin.alter_group_offsets("g", [(orders(1), 7), (orders(0), 42)]).await.unwrap();
    let error = results.clone().all().unwrap_err().to_string();
    assert!(error.contains("orders-1 in group g"), "{error}");
    assert_eq!(codes(results), [(orders(1), Some(ErrorCode::UNKNOWN_MEMBER_ID)), (orders(0), None)]);
    let nothing: [(TopicPartition, i64); 0] = [];
    assert!(admin.alter_group_offsets("g", nothing).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_partition_by_partition_or_the_group_is_not_there() {
    let world = world(
        &[1],
        &[],
        |_| Some(1),
        move |_, request| {
            let asked = OffsetDeleteRequest::decode_body(request);
            if &*asked.group_id == "none" {
                let error_code = ErrorCode::GROUP_ID_NOT_FOUND;
                return answer::<OffsetDeleteRequest>(
                    request,
                    &OffsetDeleteResponse { error_code, ..Default::default() },
                );
            }
            let parts = asked.topics[0].partitions.iter().map(|part| OffsetDeleteResponsePartition {
                partition_index: part.partition_index,
                error_code: match part.partition_index {
                    0 => ErrorCode::NONE,
                    _ => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                },
            });
            let topic =
                OffsetDeleteResponseTopic { name: asked.topics[0].name.clone(), partitions: parts.collect() };
            let response = OffsetDeleteResponse { topics: vec![topic], ..Default::default() };
            answer::<OffsetDeleteRequest>(request, &response)
        },
    );
    let admin = admin(&world);
    let results = codes(admin.delete_group_offsets("g", [orders(1), orders(0)]).await.unwrap());
    assert_eq!(results, [(orders(1), Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)), (orders(0), None)]);
    let error = admin.delete_group_offsets("none", [orders(0)]).await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
}
