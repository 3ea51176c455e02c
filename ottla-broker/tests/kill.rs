//! `kill -9` of a broker that is being produced to.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are drivers")]

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{RawClient, Scratch, config, produce_request, texts};
use ottla_broker::tcp::Cluster;
use ottla_protocol::ProduceRequest;

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
            .args(["--exact", "acknowledged_records_survive_kill_minus_nine", "--nocapture"])
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

#[tokio::test]
async fn acknowledged_records_survive_kill_minus_nine() {
    if let Some(data) = env::var_os(DATA_DIR) {
        return serve(Path::new(&data)).await;
    }
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
