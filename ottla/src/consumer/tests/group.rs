//! A member of a group against a scripted coordinator.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use ottla_protocol::{ApiKey, ErrorCode, compression::Compression};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, sleep, timeout},
};

use super::cluster::{Brokers, TOPIC};
use crate::{
    BoxError, Client, CloseOptions, Consumer, ConsumerRecord, ErrorKind, Event, Events, Rebalance,
    RebalanceListener, Reset, net::lock,
};

const SECOND: Duration = Duration::from_secs(1);
const PARTITIONS: i32 = 3;

fn builder(client: &Client) -> crate::ConsumerBuilder {
    Consumer::builder(client).group("billing").on_missing_offset(Reset::Earliest)
}

/// The first event that `wanted` gives something for.
async fn until<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = wanted(&events.recv().await.expect("the client is open")) {
                return found;
            }
        }
    };
    timeout(600 * SECOND, look).await.expect("it happens")
}

async fn until_named(events: &mut Events, name: &str) {
    until(events, |event| (event.name() == name).then_some(())).await;
}

/// A member that has all partitions.
async fn member(brokers: &Brokers, client: &Client) -> Consumer {
    let mut events = client.events();
    let consumer = builder(client).build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    until_named(&mut events, "group.partitions_assigned").await;
    assert_eq!(lock(&brokers.desk).count(ApiKey::SYNC_GROUP), 1);
    consumer
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_a_join_is_parked() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let _consumer = member(&brokers, &client).await;
    {
        let mut desk = lock(&brokers.desk);
        desk.parks = vec![ApiKey::JOIN_GROUP];
        desk.verdict = ErrorCode::REBALANCE_IN_PROGRESS;
    }
    sleep(10 * SECOND).await;
    let before = lock(&brokers.desk).count(ApiKey::HEARTBEAT);
    sleep(30 * SECOND).await;
    let desk = lock(&brokers.desk);
    assert_eq!(desk.count(ApiKey::JOIN_GROUP), 3, "one for a member id, one to join, one that is parked");
    assert!(desk.count(ApiKey::HEARTBEAT) - before >= 9);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_stands_still_is_asked_for_again_although_it_was_named_again() {
    let brokers = Brokers::start(2, PARTITIONS);
    let client = brokers.client();
    let mut events = client.events();
    let consumer = builder(&client).session_timeout(10 * SECOND).build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    until_named(&mut events, "group.partitions_assigned").await;
    // It has a heartbeat, and a commit behind it.
    sleep(SECOND / 2).await;
    assert!(consumer.assignment().iter().all(|each| each.lease().remaining() > Duration::ZERO));
    lock(&brokers.logs).frozen = vec![0];
    // The other broker hears of it only now. Until then, it names the one whose connections open and say nothing.
    sleep(9 * SECOND).await;
    lock(&brokers.desk).node = 1;
    let moved = Instant::now();
    until_named(&mut events, "group.lease_renewed").await;
    assert!(moved.elapsed() < 5 * SECOND, "{:?} of the session that began there are gone", moved.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let mut events = client.events();
    let consumer = builder(&client).build().unwrap();
    consumer.subscribe(["refunds"]).unwrap();
    until_named(&mut events, "group.joined").await;
    sleep(20 * SECOND).await;
    assert!(consumer.assignment().is_empty());
    lock(&brokers.topics).insert("refunds".to_owned(), vec![0]);
    let assigned = until(&mut events, |event| match event {
        Event::PartitionsAssigned { partitions, .. } => Some(partitions.clone()),
        _ => None,
    });
    assert_eq!(assigned.await[..], [("refunds", 0).into()]);
}

#[tokio::test(start_paused = true)]
async fn closing_leaves_the_group() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let consumer = member(&brokers, &client).await;
    consumer.close().await.unwrap();
    assert_eq!(lock(&brokers.desk).count(ApiKey::LEAVE_GROUP), 1);
    assert!(consumer.poll().await.unwrap().is_none());
    assert_eq!(consumer.subscribe([TOPIC]).unwrap_err().kind(), ErrorKind::Closed);
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_can_keep_the_place_in_the_group() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    member(&brokers, &client).await.close_with(CloseOptions::new().remain()).await.unwrap();
    let static_member = builder(&client).group_instance_id("a").build().unwrap();
    let mut events = client.events();
    static_member.subscribe([TOPIC]).unwrap();
    until_named(&mut events, "group.partitions_assigned").await;
    static_member.close().await.unwrap();
    assert_eq!(lock(&brokers.desk).count(ApiKey::LEAVE_GROUP), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_takes_its_time_and_no_longer_when_the_coordinator_is_dead() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let consumer = member(&brokers, &client).await;
    lock(&brokers.desk).silent = true;
    let began = Instant::now();
    let error = consumer.close().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(began.elapsed() <= 30 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_has_its_consumers_leave() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let _consumer = member(&brokers, &client).await;
    client.close().await.unwrap();
    assert_eq!(lock(&brokers.desk).count(ApiKey::LEAVE_GROUP), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_that_is_dropped_leaves_the_group_in_the_background() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let mut events = client.events();
    let consumer = member(&brokers, &client).await;
    drop(consumer.clone());
    sleep(5 * SECOND).await;
    assert_eq!(lock(&brokers.desk).count(ApiKey::LEAVE_GROUP), 0);
    drop(consumer);
    until_named(&mut events, "group.left").await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_known_any_more_loses_its_partitions_and_joins_again() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let _consumer = member(&brokers, &client).await;
    let mut events = client.events();
    lock(&brokers.desk).verdict = ErrorCode::UNKNOWN_MEMBER_ID;
    let cause = until(&mut events, |event| match event {
        Event::SessionLost { cause, .. } => Some(cause.clone()),
        _ => None,
    });
    assert_eq!(cause.await.broker_code(), Some(ErrorCode::UNKNOWN_MEMBER_ID));
    let lost = until(&mut events, |event| match event {
        Event::PartitionsLost { partitions, .. } => Some(partitions.len()),
        _ => None,
    });
    assert_eq!(lost.await, 3);
    until_named(&mut events, "group.partitions_assigned").await;
}

/// Does as it is told, and notes what it was told of.
#[derive(Clone, Default)]
struct Listener {
    calls: Arc<Mutex<Vec<String>>>,
    mood: Mood,
}

#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Well,
    Hangs,
}

impl Listener {
    fn new(mood: Mood) -> Self {
        Self { calls: Arc::default(), mood }
    }

    async fn note(&self, what: &str, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        let call = format!("{what} {}", rebalance.partitions().len());
        assert!(rebalance.remaining() > Duration::ZERO);
        lock(&self.calls).push(call);
        match self.mood {
            Mood::Well => Ok(()),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

impl RebalanceListener for Listener {
    async fn on_assigned(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.note("assigned", rebalance).await
    }

    async fn on_revoked(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.note("revoked", rebalance).await
    }

    async fn on_lost(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.note("lost", rebalance).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_listener_hears_of_everything_that_comes_and_goes() {
    let brokers = Brokers::start(1, PARTITIONS);
    let (client, listener) = (brokers.client(), Listener::default());
    let mut events = client.events();
    let consumer = builder(&client).rebalance_listener(listener.clone()).build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    until_named(&mut events, "group.partitions_assigned").await;
    lock(&brokers.desk).verdict = ErrorCode::UNKNOWN_MEMBER_ID;
    until_named(&mut events, "group.partitions_lost").await;
    until_named(&mut events, "group.partitions_assigned").await;
    consumer.close().await.unwrap();
    assert_eq!(*lock(&listener.calls), ["assigned 3", "lost 3", "assigned 3", "revoked 3"]);
}

#[tokio::test(start_paused = true)]
async fn explain_names_the_listener_that_holds_up_a_partition() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let consumer = builder(&client).rebalance_listener(Listener::new(Mood::Hangs)).build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    sleep(10 * SECOND).await;
    let why = consumer.explain(&(TOPIC, 0).into());
    assert!(why.starts_with("waits for the rebalance listener's on_assigned for "), "{why}");
    assert!(consumer.explain(&("refunds", 0).into()).starts_with("not owned: "));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_member_can_do_is_misuse_for_others() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let reader = Consumer::builder(&client).build().unwrap();
    let member = builder(&client).build().unwrap();
    let assigning = builder(&client).build().unwrap();
    assigning.assign([((TOPIC, 0), crate::OffsetSpec::Earliest)]).unwrap();
    for error in [
        reader.subscribe([TOPIC]).unwrap_err(),
        reader.commit().await.unwrap_err(),
        reader.commit_async().unwrap_err(),
        reader.committed([(TOPIC, 0)]).await.unwrap_err(),
        member.commit().await.unwrap_err(),
        member.subscribe(Vec::<String>::new()).unwrap_err(),
        assigning.subscribe([TOPIC]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    }
    member.subscribe([TOPIC]).unwrap();
    let error = member.assign([((TOPIC, 0), crate::OffsetSpec::Earliest)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

/// What a group may cost: a parcel for what is unpacked together, and nothing for a record.
#[tokio::test(start_paused = true)]
async fn handing_out_and_completing_a_record_allocates_nothing() {
    let brokers = Brokers::start(1, 1);
    lock(&brokers.logs).batches_at_once = 100;
    brokers.produce(0, 100, Compression::None);
    let client = brokers.client();
    let consumer = builder(&client).build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    let first = timeout(60 * SECOND, consumer.recv()).await.expect("there is one").unwrap().unwrap();
    first.complete();
    // Within one turn of the task.
    let step = || unconstrained(consumer.recv()).now_or_never().expect("it is unpacked").unwrap().unwrap();
    let stepping = allocation_counter::measure(|| (1..500).for_each(|_| step().complete()));
    assert_eq!(stepping.count_total, 0, "{stepping:?}");
    let batch = unconstrained(consumer.poll()).now_or_never().expect("the rest").unwrap().unwrap();
    assert_eq!(batch.len(), 500);
    let completing = allocation_counter::measure(|| {
        batch.iter().for_each(ConsumerRecord::complete);
        drop(batch);
    });
    assert_eq!(completing.count_total, 0, "{completing:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_may_take_as_long_as_it_likes() {
    let brokers = Brokers::start(1, PARTITIONS);
    let client = brokers.client();
    let consumer = member(&brokers, &client).await;
    consumer.close_with(CloseOptions::new().timeout(Duration::MAX)).await.unwrap();
    assert_eq!(lock(&brokers.desk).count(ApiKey::LEAVE_GROUP), 1);
}
