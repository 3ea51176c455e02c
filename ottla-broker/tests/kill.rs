//! `kill -9` of a broker that is being produced to, or committed to.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are drivers")]

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use common::{PATIENCE, RawClient, Scratch, config, produce_request, texts};
use ottla_broker::tcp::Cluster;
use ottla_protocol::{
    ErrorCode, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, Str, SyncGroupRequest,
    join_group_request::JoinGroupRequestProtocol,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::OffsetFetchRequestTopic,
};
use tokio::time::timeout;

const DATA_DIR: &str = "OTTLA_TEST_DATA_DIR";
const AT: &str = "bootstrap server: ";

/// A broker in a process of its own: this test program, run again.
struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    fn start(data: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_broker_to_be_killed", "--nocapture"])
            .env(DATA_DIR, data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.map(Result::unwrap).find_map(|line| line.split_once(AT).map(|(_, at)| at.to_owned()));
        Self { process, address: address.expect("the broker did not start") }
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What the child does: it serves until it is killed, or until its parent is gone.
async fn serve(data: &Path) {
    let cluster = Cluster::start(config(1), Some(data.into())).await.unwrap();
    println!("{AT}{}", cluster.bootstrap_servers()[0]);
    std::io::stdout().flush().unwrap();
    std::future::pending().await
}

/// Not a test: the other tests run it as a process of its own, and it has nothing to do otherwise.
#[tokio::test]
async fn a_broker_to_be_killed() {
    if let Some(data) = env::var_os(DATA_DIR) {
        serve(Path::new(&data)).await;
    }
}

#[tokio::test]
async fn acknowledged_records_survive_kill_minus_nine() {
    let scratch = Scratch::new("kill");
    let mut acknowledged: Vec<(i64, String)> = Vec::new();
    for round in 0..4 {
        let broker = Broker::start(scratch.path());
        let mut client = RawClient::connect(&broker.address).await;
        if round == 0 {
            client.create_topic("t", 1, 1).await;
        }
        client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].error_code.is_ok()).await;
        check(&mut client, &acknowledged).await;
        produce_until_killed(client, broker, round, &mut acknowledged).await;
        tear_the_log(scratch.path(), round);
    }
    let broker = Broker::start(scratch.path());
    let mut client = RawClient::connect(&broker.address).await;
    client.metadata_until("t", |metadata| metadata.topics[0].partitions[0].error_code.is_ok()).await;
    check(&mut client, &acknowledged).await;
    broker.kill();
}

/// Keeps ten requests in flight, and kills the broker in the middle of them.
async fn produce_until_killed(
    mut client: RawClient,
    broker: Broker,
    round: usize,
    acknowledged: &mut Vec<(i64, String)>,
) {
    let value = |n: usize| format!("round {round}, record {n}");
    let mut broker = Some(broker);
    let (mut sent, mut answered) = (0, 0);
    loop {
        while broker.is_some() && sent < answered + 10 {
            client.send(9, &produce_request("t", 0, &[&value(sent)], -1)).await;
            sent += 1;
        }
        let Ok(frame) = client.frame().await else { break };
        let response = ottla_protocol::decode_response::<ProduceRequest>(9, frame).unwrap().1;
        let partition = &response.responses[0].partition_responses[0];
        assert!(partition.error_code.is_ok(), "{}", partition.error_code);
        acknowledged.push((partition.base_offset, value(answered)));
        answered += 1;
        if answered == 100 + 37 * round
            && let Some(broker) = broker.take()
        {
            broker.kill();
        }
    }
    assert!(broker.is_none(), "the connection broke before the broker was killed");
}

#[tokio::test]
async fn acknowledged_commits_and_the_members_of_a_group_survive_kill_minus_nine() {
    let scratch = Scratch::new("kill-group");
    let mut member = (Str::EMPTY, -1);
    let mut acknowledged = -1;
    for round in 0..3 {
        let broker = Broker::start(scratch.path());
        let mut client = RawClient::connect(&broker.address).await;
        if round == 0 {
            client.create_topic("t", 1, 1).await;
        }
        find_coordinator(&mut client).await;
        if round == 0 {
            member = only_member(&mut client).await;
        }
        assert!(committed(&mut client).await >= acknowledged);
        let mut broker = Some(broker);
        for offset in acknowledged + 1.. {
            client.send(9, &commit_request(&member, offset)).await;
            if offset % 40 == 39
                && let Some(broker) = broker.take()
            {
                broker.kill();
            }
            let Ok(frame) = client.frame().await else { break };
            let response = ottla_protocol::decode_response::<OffsetCommitRequest>(9, frame).unwrap().1;
            assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
            acknowledged = offset;
        }
        assert!(broker.is_none(), "the connection broke before the broker was killed");
    }
    let broker = Broker::start(scratch.path());
    let mut client = RawClient::connect(&broker.address).await;
    find_coordinator(&mut client).await;
    assert!(committed(&mut client).await >= acknowledged);
    let (member_id, generation_id) = member;
    let heartbeat =
        HeartbeatRequest { group_id: "g".into(), generation_id, member_id, ..HeartbeatRequest::default() };
    assert_eq!(client.call(4, &heartbeat).await.error_code, ErrorCode::NONE);
    broker.kill();
}

async fn find_coordinator(client: &mut RawClient) {
    let request = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    let find = async {
        while !client.call(3, &request).await.error_code.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while committed_or_error(client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, find).await.expect("the group has no coordinator");
}

/// The id and the generation of a member that is alone in its group.
async fn only_member(client: &mut RawClient) -> (Str, i32) {
    let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() }];
    let join = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols,
        ..JoinGroupRequest::default()
    };
    let joined = client.call(3, &join).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let (member_id, generation_id) = (joined.member_id, joined.generation_id);
    let member = (member_id.clone(), generation_id);
    let sync =
        SyncGroupRequest { group_id: "g".into(), generation_id, member_id, ..SyncGroupRequest::default() };
    assert_eq!(client.call(3, &sync).await.error_code, ErrorCode::NONE);
    member
}

fn commit_request((member_id, generation): &(Str, i32), offset: i64) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition { committed_offset: offset, ..OffsetCommitRequestPartition::default() };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: *generation,
        member_id: member_id.clone(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

async fn committed(client: &mut RawClient) -> i64 {
    committed_or_error(client).await.unwrap()
}

async fn committed_or_error(client: &mut RawClient) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequest::default()
    };
    let response = client.call(5, &request).await;
    match response.error_code {
        ErrorCode::NONE => Ok(response.topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

/// Half a batch at the end, as a loss of power leaves it.
fn tear_the_log(data: &Path, round: usize) {
    let log = fs::read_dir(data.join("node-1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .expect("no log");
    let content = fs::read(&log).unwrap();
    let torn = &content[..(20 + 30 * round).min(content.len())];
    fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(torn).unwrap();
}

/// Each acknowledged record is at its offset, and the log has no holes.
async fn check(client: &mut RawClient, acknowledged: &[(i64, String)]) {
    let seen = client.fetch_all("t", 0, 0).await;
    let values = texts(&seen);
    assert!((0..).zip(&seen).all(|(expected, record)| record.offset == expected));
    for (offset, value) in acknowledged {
        assert_eq!(values.get(usize::try_from(*offset).unwrap()), Some(value));
    }
}
