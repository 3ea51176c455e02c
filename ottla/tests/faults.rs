//! Scripted faults of the embedded cluster over real sockets: whatever goes wrong with a request, the client makes good.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use ottla::{Admin, Client, Consumer, ErrorCode, NewTopic, OffsetSpec, Producer, Reset, Result};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
    tcp::Cluster,
};
use ottla_protocol::{
    ApiKey, FetchRequest, MetadataRequest, ProduceRequest, Response, frame::decode_response,
};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(200);

async fn cluster() -> (Cluster, Client) {
    let config = ClusterConfig::with_nodes(1, "127.0.0.1", 0);
    let cluster = Cluster::start(config, None).await.expect("a free port");
    let builder = Client::builder().bootstrap_servers(cluster.bootstrap_servers());
    let client = builder.request_timeout(Duration::from_secs(1)).connect().await.expect("it runs");
    let created = Admin::new(&client).create_topics([NewTopic::new("orders", 1, 1)]).await;
    created.and_then(|created| created.all()).expect("it is new");
    (cluster, client)
}

/// Produces ten records one after the other, and reads what is there.
async fn produced_and_read(client: &Client) -> Result<Vec<String>> {
    let producer = Producer::builder(client).build()?;
    for number in 0..10 {
        producer.send("orders", &number.to_string()).await?;
    }
    let consumer = Consumer::builder(client).build()?;
    consumer.assign([(("orders", 0), OffsetSpec::Earliest)])?;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let record = consumer.recv().await?.expect("it is open");
        seen.push(String::from_utf8_lossy(record.view().value().unwrap_or_default()).into_owned());
    }
    // What is there twice would come now.
    if let Ok(more) = timeout(MOMENT, consumer.recv()).await {
        seen.push(format!("more: {:?}", more?));
    }
    Ok(seen)
}

fn effects() -> Vec<Effect> {
    let moment = MOMENT;
    vec![
        Effect::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Effect::AnswerWith(ErrorCode::KAFKA_STORAGE_ERROR),
        Effect::LoseRequest,
        Effect::LoseAnswer,
        Effect::Silence,
        Effect::Delay(moment),
        Effect::DelayAnswer(moment),
        Effect::CarryOutLate(moment),
        Effect::Throttle(moment),
        Effect::Truncate(9),
        Effect::Replace(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        Effect::edit::<ProduceRequest>(|response| response.responses.clear()),
        Effect::edit::<FetchRequest>(|response| response.session_id += 1),
    ]
}

async fn survives(api: ApiKey, fault: impl Fn(Effect) -> Fault) -> Result<()> {
    for effect in effects() {
        let (cluster, client) = cluster().await;
        let name = format!("{effect:?} of {api}");
        let struck = cluster.faults().add(fault(effect).times(2));
        let seen = timeout(PATIENCE, produced_and_read(&client)).await;
        let seen = seen.unwrap_or_else(|_| panic!("{name} is survived in time"))?;
        assert_eq!(seen.join(" "), "0 1 2 3 4 5 6 7 8 9", "{name}");
        assert!(struck.strikes() > 0, "{name}");
        client.close().await?;
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn whatever_goes_wrong_with_produce_requests_records_are_there_once_and_in_order() -> Result<()> {
    survives(ApiKey::PRODUCE, |effect| Fault::on::<ProduceRequest>(effect).of("orders", 0)).await
}

#[tokio::test]
async fn whatever_goes_wrong_with_fetches_records_are_read_once_and_in_order() -> Result<()> {
    survives(ApiKey::FETCH, |effect| Fault::on::<FetchRequest>(effect).of("orders", 0)).await
}

#[tokio::test]
async fn what_is_held_goes_on_when_it_is_let_go() -> Result<()> {
    let (cluster, client) = cluster().await;
    let producer = Producer::builder(&client).build()?;
    producer.send("orders", "before").await?;
    let held = cluster.faults().add(Fault::on::<ProduceRequest>(Effect::Hold).at(1));
    let receipt = producer.enqueue("orders", "held").await?;
    let mut receipt = std::pin::pin!(receipt);
    assert!(timeout(MOMENT, receipt.as_mut()).await.is_err());
    held.end();
    assert_eq!(receipt.await?.offset(), Some(1));
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_a_broker_says_of_throttling_is_heeded() -> Result<()> {
    let (cluster, client) = cluster().await;
    let admin = Admin::new(&client);
    cluster.faults().add(Fault::on::<MetadataRequest>(Effect::Throttle(2 * MOMENT)).times(1));
    let begin = Instant::now();
    for _ in 0..2 {
        admin.list_topics().await?;
    }
    assert!(begin.elapsed() >= 2 * MOMENT, "{:?}", begin.elapsed());
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

/// One byte of each answer to Metadata behind its length is another one, each time elsewhere. None asks the client to be
/// silent: it would heed that for minutes, as it would believe for minutes what a broker says of its versions.
fn one_wrong_byte() -> Effect {
    let random = Mutex::new(fastrand::Rng::with_seed(60));
    Effect::rewrite(move |_, version, answer| {
        let mut random = random.lock().expect("no panic holds it");
        let mut damaged = std::iter::repeat_with(|| {
            let mut damaged = answer.to_vec();
            damaged[random.usize(4..answer.len())] ^= random.u8(1..);
            damaged
        });
        let asks_for_silence = |damaged: &[u8]| {
            let frame = Bytes::copy_from_slice(&damaged[4..]);
            let decoded = decode_response::<MetadataRequest>(version, frame);
            decoded.is_ok_and(|(_, response)| response.throttle_time_ms() > 0)
        };
        damaged.find(|damaged| !asks_for_silence(damaged)).expect("most places are others").into()
    })
}

#[tokio::test]
async fn a_client_whose_answers_are_corrupted_ends_every_call_and_goes_on_when_they_are_not() -> Result<()> {
    let (cluster, client) = cluster().await;
    let corrupted = cluster.faults().add(Fault::on::<MetadataRequest>(one_wrong_byte()).times(60));
    let lied_to = async {
        while corrupted.strikes() < 60 {
            // Whatever comes of it: a wrong byte may say anything.
            drop(timeout(10 * MOMENT, Admin::new(&client).list_topics()).await);
        }
    };
    timeout(PATIENCE, lied_to).await.expect("it goes on asking");
    assert_eq!(produced_and_read(&client).await?.join(" "), "0 1 2 3 4 5 6 7 8 9");
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn leaders_and_coordinators_that_are_moved_are_followed() -> Result<()> {
    let config = ClusterConfig::with_nodes(3, "127.0.0.1", 0);
    let cluster = Cluster::start(config, None).await.expect("a free port");
    let client = Client::builder().bootstrap_servers(cluster.bootstrap_servers()).connect().await?;
    let admin = Admin::new(&client);
    admin.create_topics([NewTopic::new("orders", 1, 3)]).await?.all()?;
    let in_sync = async {
        loop {
            let described = admin.describe_topics(["orders"]).await?.all();
            if described.is_ok_and(|topics| topics[0].1.partitions[0].isr.len() == 3) {
                return Ok::<_, ottla::Error>(());
            }
            tokio::time::sleep(MOMENT / 10).await;
        }
    };
    timeout(PATIENCE, in_sync).await.expect("all live")?;
    let producer = Producer::builder(&client).build()?;
    let consumer = Consumer::builder(&client).group("billing").on_missing_offset(Reset::Earliest).build()?;
    consumer.subscribe(["orders"])?;
    for number in 0..9 {
        let node = 1 + number % 3;
        let written = timeout(PATIENCE, producer.send("orders", &number.to_string())).await;
        assert_eq!(written.expect("a leader is found")?.offset(), Some(i64::from(number)));
        let read = timeout(PATIENCE, consumer.recv()).await.expect("it is found too")?.expect("it is open");
        assert_eq!(read.view().offset(), i64::from(number));
        read.complete();
        timeout(PATIENCE, consumer.commit()).await.expect("and so is the coordinator")?;
        cluster.move_leader("orders", 0, node).await.expect("all are in sync");
        cluster.move_coordinator("billing", node).await.expect("all are in sync");
    }
    let missing = cluster.move_leader("orders", 1, 1).await.expect_err("there is one partition");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let stranger = cluster.move_leader("orders", 0, 4).await.expect_err("there are three nodes");
    assert_eq!(stranger.kind(), std::io::ErrorKind::NotConnected);
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
