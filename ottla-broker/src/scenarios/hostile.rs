//! Frames that no honest client sends: the connection is closed with a reason, and the node lives on.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use ottla_protocol::{Request, TopicId, frame};

use super::group_requests::{
    self, Member, commit_request, heartbeat_request, join_request, leave_request, sync_request,
};
use super::harness::{Cluster, plain};
use super::requests::{fetch_request, produce_request};
use crate::Rng;
use crate::cluster::ClusterConfig;
use crate::io::{CloseReason, Input};

/// Sends a frame on a connection of its own.
fn throw(cluster: &mut Cluster, frame: Bytes) -> Option<CloseReason> {
    let client = cluster.connect(1);
    cluster.input(1, Input::Frame(client.connection, frame));
    let reason = cluster.closed(client).cloned();
    cluster.input(1, Input::Disconnected(client.connection));
    reason
}

fn assert_alive(cluster: &mut Cluster, topic: TopicId) {
    let client = cluster.connect(1);
    let before = cluster.fetch(client, topic, 0).high_watermark;
    assert_eq!(cluster.produce(client, topic, plain(&["alive"])).base_offset, before);
}

fn body<R: Request>(version: i16, request: &R) -> BytesMut {
    let mut whole = BytesMut::new();
    for segment in frame::encode_request(version, 7, Some("test"), request).unwrap() {
        whole.extend_from_slice(&segment);
    }
    whole.split_off(4)
}

#[test]
fn random_bytes_are_survived() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let mut rng = Rng::seeded(1);
    for _ in 0..3_000 {
        let length = rng.next_u64() as usize % 200;
        let mut bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
        // Half of them reach a decoder.
        if length > 4 && rng.next_u64().is_multiple_of(2) {
            bytes[0] = 0;
            bytes[1] %= 80;
            bytes[2] = 0;
            bytes[3] %= 16;
        }
        throw(&mut cluster, Bytes::from(bytes));
    }
    assert_alive(&mut cluster, topic);
}

#[test]
fn altered_requests_are_survived() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let session = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 0) };
    let frames = [
        body(13, &produce_request(topic, -1, plain(&["a", "b"]))),
        body(9, &produce_request(topic, 1, plain(&["a", "b"]))),
        body(17, &session),
        body(4, &FetchRequest { max_wait_ms: 0, ..fetch_request(TopicId::ZERO, 0) }),
        body(13, &MetadataRequest { topics: None, ..MetadataRequest::default() }),
        body(4, &ApiVersionsRequest::default()),
    ];
    let mut rng = Rng::seeded(2);
    for round in 0..6_000 {
        let mut frame = frames[round % frames.len()].clone();
        for _ in 0..=rng.next_u64() % 3 {
            let at = rng.next_u64() as usize % frame.len();
            frame[at] = rng.next_u64() as u8;
        }
        throw(&mut cluster, frame.freeze());
    }
    assert_alive(&mut cluster, topic);
}

#[test]
fn altered_requests_to_a_group_are_survived() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let mut member = cluster.only_member();
    let new = Member { id: Default::default(), ..member.clone() };
    let mut rng = Rng::seeded(3);
    for round in 0..6_000 {
        let mut frame = match round % 7 {
            0 => body(9, &join_request(&new)),
            1 => body(9, &join_request(&member)),
            2 => body(5, &sync_request(&member, &[(&member.id, "all")])),
            3 => body(4, &heartbeat_request(&member)),
            4 => body(9, &commit_request(&member, 1)),
            5 => body(9, &group_requests::fetch_request(true)),
            _ => body(5, &leave_request(&member)),
        };
        for _ in 0..rng.next_u64() % 3 {
            let at = rng.next_u64() as usize % frame.len();
            frame[at] = rng.next_u64() as u8;
        }
        throw(&mut cluster, frame.freeze());
        if round % 50 == 0 {
            cluster.advance(Duration::from_secs(rng.next_u64() % 30));
            member = cluster.member();
            cluster.send_join(&member);
            cluster.disconnect(member.client);
        }
    }
    assert_alive(&mut cluster, topic);
    cluster.advance(Duration::from_secs(1800));
    cluster.only_member();
    cluster.assert_at_rest();
}

#[test]
fn requests_cut_off_anywhere_are_refused() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let whole = body(13, &produce_request(topic, -1, plain(&["a", "b"]))).freeze();
    for length in 0..whole.len() {
        let reason = throw(&mut cluster, whole.slice(..length));
        assert!(matches!(reason, Some(CloseReason::Malformed(_))), "{length}: {reason:?}");
    }
    let mut longer = BytesMut::from(&whole[..]);
    longer.extend_from_slice(&[0]);
    assert!(matches!(throw(&mut cluster, longer.freeze()), Some(CloseReason::Malformed(_))));
    assert_alive(&mut cluster, topic);
}

#[test]
fn a_frame_larger_than_allowed_closes_the_connection() {
    let config = ClusterConfig { max_request_bytes: 1000, ..ClusterConfig::with_nodes(1, "localhost", 1) };
    let mut cluster = Cluster::with(config);
    let reason = throw(&mut cluster, Bytes::from(vec![0; 1001]));
    assert_eq!(reason, Some(CloseReason::FrameTooLarge(1001)));
}

#[test]
fn a_client_that_does_not_wait_for_answers_is_cut_off() {
    let config = ClusterConfig {
        max_request_bytes: 1000,
        max_queued_bytes: 1000,
        ..ClusterConfig::with_nodes(1, "localhost", 1)
    };
    let mut cluster = Cluster::with(config);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    for _ in 0..100 {
        cluster.send(client, 17, &fetch_request(topic, 0));
    }
    assert_eq!(cluster.closed(client), Some(&CloseReason::QueueFull));
}

#[test]
fn a_connection_that_ends_leaves_nothing_behind() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.slow_disk(2);
    cluster.send(client, 13, &produce_request(topic, -1, plain(&["a"])));
    cluster.input(1, Input::Disconnected(client.connection));
    cluster.fast_disk(2);
    assert!(cluster.reply::<ProduceRequest>(client, 13).is_none());
    cluster.assert_at_rest();
    let other = cluster.connect(1);
    assert_eq!(cluster.read_all(other, topic), ["a"]);
}
