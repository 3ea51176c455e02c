//! The cluster on TCP, as a client sees it that is made of nothing but frames.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are drivers")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, RawClient, Scratch, cluster, config, fetch_request, produce_request, records, texts};
use ottla_broker::{FlushPolicy, disk::Tail, tcp::Cluster};
use ottla_protocol::{
    ApiKey, ApiVersionsRequest, CreateTopicsRequest, ElectLeadersRequest, ErrorCode, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, Message, MetadataRequest, OffsetForLeaderEpochRequest,
    ProduceRequest,
    create_topics_request::CreatableTopic,
    elect_leaders_request::TopicPartitions,
    encode_request,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_record_goes_in_and_comes_back() {
    let cluster = cluster(1).await;
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;

    let request = ApiVersionsRequest {
        client_software_name: "raw".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let versions = client.call(3, &request).await;
    assert_eq!(versions.error_code, ErrorCode::NONE);
    assert!(versions.api_keys.iter().any(|api| ApiKey(api.api_key) == ApiKey::PRODUCE));

    client.create_topic("orders", 2, 1).await;
    assert_eq!(client.produce("orders", 1, &["one", "two"]).await, 0);
    assert_eq!(client.produce("orders", 1, &["three"]).await, 2);
    let seen = client.fetch_all("orders", 1, 0).await;
    assert_eq!(texts(&seen), ["one", "two", "three"]);
    assert_eq!(seen.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(client.fetch_all("orders", 0, 0).await.is_empty());
    cluster.stop().await;
}

/// What a new version added must not make an answer impossible in an old one.
#[tokio::test]
async fn every_version_of_the_apis_around_a_record_is_answered() {
    let cluster = cluster(1).await;
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.create_topic("t", 1, 1).await;
    client.produce("t", 0, &["x"]).await;

    for version in MetadataRequest::VERSIONS {
        let topic = MetadataRequestTopic { name: Some("t".into()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        assert_eq!(client.call(version, &request).await.topics[0].error_code, ErrorCode::NONE, "{version}");
    }
    // From version 13 on topics are named by their id.
    for version in *ProduceRequest::VERSIONS.start()..13 {
        let response = client.call(version, &produce_request("t", 0, &["x"], 1)).await;
        assert!(response.responses[0].partition_responses[0].error_code.is_ok(), "{version}");
    }
    for version in *FetchRequest::VERSIONS.start()..13 {
        let response = client.call(version, &fetch_request("t", 0, 0, 0)).await;
        assert!(response.responses[0].partitions[0].error_code.is_ok(), "{version}");
    }
    for version in ListOffsetsRequest::VERSIONS {
        for timestamp in [-2, -1, 0] {
            let wanted = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
            let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![wanted] };
            let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
            let response = client.call(version, &request).await;
            assert!(response.topics[0].partitions[0].error_code.is_ok(), "{version}");
        }
    }
    for version in OffsetForLeaderEpochRequest::VERSIONS {
        let partition = OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() };
        let topic = OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let response = client.call(version, &request).await;
        assert!(response.topics[0].partitions[0].error_code.is_ok(), "{version}");
    }
    for version in InitProducerIdRequest::VERSIONS {
        let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let response = client.call(version, &request).await;
        assert!(response.error_code.is_ok() && response.producer_id >= 0, "{version}");
    }
    for version in CreateTopicsRequest::VERSIONS {
        let name = format!("v{version}");
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        assert!(client.call(version, &request).await.topics[0].error_code.is_ok(), "{version}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_also_around_one_without_an_answer() {
    let cluster = cluster(1).await;
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.create_topic("t", 1, 1).await;
    let mut expected = Vec::new();
    // More than are read ahead of their answers, so that those without one have to make room as well.
    for n in 0..100 {
        client.send(9, &produce_request("t", 0, &[&format!("silent {n}")], 0)).await;
        expected.push(client.send(9, &produce_request("t", 0, &[&format!("loud {n}")], -1)).await);
    }
    for sent in expected {
        let (correlation, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!(correlation, sent);
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
    assert_eq!(client.fetch_all("t", 0, 0).await.len(), 200);
    cluster.stop().await;
}

#[tokio::test]
async fn a_fetch_at_the_end_waits_for_the_next_record() {
    let cluster = cluster(1).await;
    let mut producer = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    let mut consumer = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    producer.create_topic("t", 1, 1).await;
    consumer.send(11, &fetch_request("t", 0, 0, 30_000)).await;
    // Its answer would be there by the time that another request has been answered.
    consumer.stream.readable_soon(false).await;
    producer.produce("t", 0, &["now"]).await;
    let (_, response) = consumer.receive::<FetchRequest>(11).await;
    let data = response.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(texts(&records(data)), ["now"]);
    cluster.stop().await;
}

/// What is about to come on a socket.
trait ReadableSoon {
    async fn readable_soon(&self, expected: bool);
}

impl ReadableSoon for TcpStream {
    async fn readable_soon(&self, expected: bool) {
        let readable = timeout(Duration::from_millis(200), self.peek(&mut [0])).await.is_ok();
        assert_eq!(readable, expected);
    }
}

#[tokio::test]
async fn a_frozen_node_keeps_its_connections_accepts_new_ones_and_answers_when_thawed() {
    let cluster = cluster(1).await;
    let address = cluster.bootstrap_servers()[0].clone();
    let mut old = RawClient::connect(&address).await;
    old.call(12, &MetadataRequest::default()).await;
    cluster.freeze(1).await.unwrap();

    let mut new = RawClient::connect(&address).await;
    let first = old.send(12, &MetadataRequest::default()).await;
    let second = new.send(12, &MetadataRequest::default()).await;
    old.stream.readable_soon(false).await;
    new.stream.readable_soon(false).await;

    cluster.thaw(1).await.unwrap();
    assert_eq!(old.receive::<MetadataRequest>(12).await.0, first);
    assert_eq!(new.receive::<MetadataRequest>(12).await.0, second);
    cluster.stop().await;
}

#[tokio::test]
async fn a_crash_breaks_connections_and_a_restart_has_the_same_port_and_records() {
    let cluster = cluster(1).await;
    let address = cluster.bootstrap_servers()[0].clone();
    let mut client = RawClient::connect(&address).await;
    client.create_topic("t", 1, 1).await;
    client.produce("t", 0, &["before"]).await;
    cluster.crash(1, Tail::Kept).await.unwrap();

    assert!(timeout(PATIENCE, client.frame()).await.unwrap().is_err());
    assert!(TcpStream::connect(&address).await.is_err());
    assert!(cluster.freeze(1).await.is_err());

    cluster.restart(1).await.unwrap();
    assert_eq!(cluster.restart(1).await.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let mut client = RawClient::connect(&address).await;
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].error_code.is_ok()).await;
    client.produce("t", 0, &["after"]).await;
    assert_eq!(texts(&client.fetch_all("t", 0, 0).await), ["before", "after"]);
    cluster.stop().await;
}

#[tokio::test]
async fn another_node_takes_over_from_one_that_crashed() {
    let cluster = cluster(3).await;
    let addresses = cluster.bootstrap_servers();
    let mut any = RawClient::connect(&addresses[0]).await;
    any.create_topic("t", 1, 3).await;
    let leader =
        any.metadata_until("t", |metadata| metadata.topics[0].partitions[0].isr_nodes.len() == 3).await;
    let leader = leader.topics[0].partitions[0].leader_id;
    let address_of = |node: i32| addresses[usize::try_from(node - 1).unwrap()].clone();
    let mut client = RawClient::connect(&address_of(leader)).await;
    client.produce("t", 0, &["before"]).await;
    cluster.crash(leader, Tail::Lost).await.unwrap();

    let other = if leader == 1 { 2 } else { 1 };
    let mut client = RawClient::connect(&address_of(other)).await;
    let moved = client
        .metadata_until("t", |metadata| {
            let partition = &metadata.topics[0].partitions[0];
            partition.error_code.is_ok() && partition.leader_id != leader
        })
        .await;
    let mut client = RawClient::connect(&address_of(moved.topics[0].partitions[0].leader_id)).await;
    client.produce("t", 0, &["after"]).await;
    assert_eq!(texts(&client.fetch_all("t", 0, 0).await), ["before", "after"]);

    // The one that lost its tail comes back and catches up.
    cluster.restart(leader).await.unwrap();
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].isr_nodes.len() == 3).await;
    cluster.stop().await;
}

#[tokio::test]
async fn an_operator_moves_a_leader_and_an_administrator_asks_for_the_preferred_one() {
    let cluster = cluster(3).await;
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.create_topic("t", 1, 3).await;
    let before =
        client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].isr_nodes.len() == 3).await;
    let preferred = before.topics[0].partitions[0].leader_id;
    let other = 1 + preferred % 3;
    cluster.move_leader("t", 0, other).await.unwrap();
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].leader_id == other).await;

    let request = ElectLeadersRequest {
        topic_partitions: Some(vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }]),
        ..ElectLeadersRequest::default()
    };
    for (version, expected) in
        [(2, ErrorCode::NONE), (1, ErrorCode::ELECTION_NOT_NEEDED), (0, ErrorCode::ELECTION_NOT_NEEDED)]
    {
        let elected = client.call(version, &request).await;
        assert_eq!(elected.replica_election_results[0].partition_result[0].error_code, expected);
    }
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].leader_id == preferred).await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_was_stopped_goes_on_where_it_was() {
    let scratch = Scratch::new("tcp");
    for round in 0..3 {
        let cluster = Cluster::start(config(1), Some(scratch.path().into())).await.unwrap();
        let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
        if round == 0 {
            client.create_topic("t", 1, 1).await;
        }
        client.metadata_until("t", |metadata| metadata.topics[0].error_code.is_ok()).await;
        assert_eq!(client.produce("t", 0, &["again"]).await, round);
        assert_eq!(client.fetch_all("t", 0, 0).await.len() as i64, round + 1);
        let second = Cluster::start(config(1), Some(scratch.path().into())).await.unwrap_err();
        assert_eq!(second.kind(), std::io::ErrorKind::ResourceBusy, "{second}");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn with_a_flush_before_each_acknowledgement_requests_still_share_them() {
    let scratch = Scratch::new("fsync");
    let mut config = config(1);
    config.flush = FlushPolicy::BeforeAck;
    let cluster = Cluster::start(config, Some(scratch.path().into())).await.unwrap();
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.create_topic("t", 1, 1).await;
    for n in 0..100 {
        client.send(9, &produce_request("t", 0, &[&n.to_string()], -1)).await;
    }
    for n in 0..100 {
        let (_, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, n);
    }
    cluster.stop().await;
}

/// `/dev/full` is a disk that is always full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_whose_disk_is_full_says_so() {
    let scratch = Scratch::new("full");
    let cluster = Cluster::start(config(1), Some(scratch.path().into())).await.unwrap();
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.create_topic("t", 1, 1).await;
    client.produce("t", 0, &["fits"]).await;
    cluster.stop().await;
    let log = log_file(&scratch);
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();

    let cluster = Cluster::start(config(1), Some(scratch.path().into())).await.unwrap();
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].error_code.is_ok()).await;
    client.send(9, &produce_request("t", 0, &["does not fit"], -1)).await;
    let halted = timeout(PATIENCE, cluster.halted()).await.expect("it went on");
    assert_eq!(halted.node, Some(1));
    assert!(halted.reason.contains("No space left") && halted.reason.contains(".log"), "{}", halted.reason);
    assert!(timeout(PATIENCE, client.frame()).await.unwrap().is_err());

    // There is room again.
    std::fs::remove_file(&log).unwrap();
    cluster.restart(1).await.unwrap();
    let mut client = RawClient::connect(&cluster.bootstrap_servers()[0]).await;
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].error_code.is_ok()).await;
    assert_eq!(client.produce("t", 0, &["fits"]).await, 0);
    cluster.stop().await;
}

#[cfg(target_os = "linux")]
fn log_file(scratch: &Scratch) -> std::path::PathBuf {
    let mut entries =
        std::fs::read_dir(scratch.path().join("node-1")).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.extension().is_some_and(|extension| extension == "log")).unwrap()
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let cluster = cluster(1).await;
    let mut config = config(1);
    config.nodes[0].port = cluster.config().nodes[0].port;
    let error = Cluster::start(config, None).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&cluster.bootstrap_servers()[0]), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_no_kafka_client_is_disconnected_and_the_others_are_served() {
    let cluster = cluster(1).await;
    let address = cluster.bootstrap_servers()[0].clone();
    let hostile: [&[u8]; 7] = [
        b"\xff\xff\xff\xff",
        b"\x80\0\0\0",
        b"\x7f\xff\xff\xff and so on",
        b"\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\x0c\x7f\xff\x7f\xff\0\0\0\x01\xff\xff\0\0",
    ];
    for input in hostile {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(input).await.unwrap();
        let mut rest = Vec::new();
        // Closed, with or without a reset.
        drop(timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection was left open"));
        assert!(rest.is_empty(), "{input:?}: {rest:?}");
    }
    RawClient::connect(&address).await.call(12, &MetadataRequest::default()).await;
    cluster.stop().await;
}

#[tokio::test]
async fn silence_is_disconnected() {
    let cluster = Cluster::builder(config(1)).max_idle(Duration::from_millis(100)).start().await.unwrap();
    let address = cluster.bootstrap_servers()[0].clone();
    for input in [&b""[..], b"\0\0", b"\0\0\0\x20half"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(input).await.unwrap();
        let read = timeout(PATIENCE, stream.read_u8()).await.expect("the connection was left open");
        assert!(read.is_err());
    }
    cluster.stop().await;
}

/// A client that sends and never reads: TCP holds it back before the broker has taken in much.
#[tokio::test]
async fn a_client_that_never_reads_is_held_back() {
    let cluster = cluster(1).await;
    let mut stream = TcpStream::connect(&cluster.bootstrap_servers()[0]).await.unwrap();
    let mut request = Vec::new();
    for n in 0..1_000 {
        for segment in encode_request(3, n, Some("deaf"), &ApiVersionsRequest::default()).unwrap() {
            request.extend_from_slice(&segment);
        }
    }
    let request = Bytes::from(request);
    let flood = async {
        // Far more than the buffers of two sockets hold.
        for _ in 0..10_000 {
            stream.write_all(&request).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_secs(3), flood).await.is_err(), "250 MB of requests were swallowed");
    cluster.stop().await;
}
