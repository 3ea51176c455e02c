//! A reader that says where it stands reads from the replica that is closest to it, and from the leader while that one is of
//! no use (KIP-392): every record once, in order.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use ottla::{Client, Consumer, ErrorCode, Event, OffsetSpec, Producer, Reset};
use ottla_broker::{
    ClusterConfig, ReplicaSelector,
    faults::{Effect, Fault},
};
use ottla_protocol::messages::FetchRequest;
use ottla_sim::{Broker, Cluster, Sim, World};
use tokio::time::{sleep, timeout};

use crate::support::{FEW, SECOND, SEEDS, TOPIC};

/// When the client asks the leader again at the latest.
const MAX_AGE: Duration = Duration::from_secs(20);
/// How long it leaves a replica that was of no use alone.
const ALONE: Duration = Duration::from_secs(30);

/// Three brokers in three racks, and a reader in the rack of one that does not lead.
struct Reading {
    world: World,
    cluster: Cluster,
    leader: Broker,
    follower: Broker,
    consumer: Consumer,
    /// On a host of its own.
    producer: Producer,
    /// The brokers that have given records, in order.
    served: Rc<RefCell<Vec<i32>>>,
    next: Cell<i64>,
    _client: Client,
}

impl Reading {
    async fn begin(world: &World) -> ottla::Result<Self> {
        let mut config = ClusterConfig::with_nodes(3, "", 0);
        config.replica_selector = ReplicaSelector::RackAware;
        config.nodes.iter_mut().for_each(|node| node.rack = Some(format!("rack-{}", node.id)));
        let cluster = world.cluster_with(config).await;
        cluster.topic(TOPIC, 1).await;
        let leader = cluster.leader(TOPIC, 0).expect("a leader");
        let follower = cluster.brokers().find(|broker| broker.id() != leader.id()).expect("three");
        let builder = cluster.client_builder("app").client_rack(format!("rack-{}", follower.id()));
        let client = builder.metadata_max_age(MAX_AGE).build()?;
        let (mut events, served) = (client.events(), Rc::<RefCell<Vec<i32>>>::default());
        let noted = Rc::clone(&served);
        drop(world.host("test").spawn("events", async move {
            while let Some(event) = events.recv().await {
                if let Event::Fetched { node, .. } = event {
                    noted.borrow_mut().push(node);
                }
            }
        }));
        // A reset would be seen: nothing in front of what comes next may come.
        let consumer = Consumer::builder(&client).on_out_of_range(Reset::Earliest).build()?;
        consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
        let producer = Producer::builder(&cluster.client_on("writer")).build()?;
        let (world, next) = (world.clone(), Cell::new(0));
        Ok(Self { world, cluster, leader, follower, consumer, producer, served, next, _client: client })
    }

    /// Writes some records and reads them, the last of them so long after it was acknowledged.
    async fn write_and_read(&self) -> ottla::Result<Duration> {
        const COUNT: i64 = 5;
        let values: Vec<String> = (self.next.get()..self.next.get() + COUNT).map(|n| n.to_string()).collect();
        for value in &values {
            drop(self.producer.enqueue(TOPIC, value).await?);
        }
        self.producer.flush().await?;
        let written = self.world.elapsed();
        for value in &values {
            let record = timeout(120 * SECOND, self.consumer.recv()).await.expect("it comes")?.expect("open");
            assert_eq!(record.view().offset(), self.next.get());
            assert_eq!(record.view().value(), Some(value.as_bytes()));
            self.next.set(self.next.get() + 1);
        }
        Ok(self.world.elapsed() - written)
    }

    /// Everything so far has come from the follower.
    async fn all_by_the_follower(&self) -> ottla::Result<()> {
        for _ in 0..4 {
            self.write_and_read().await?;
            sleep(Duration::from_millis(self.world.random().u64(..1_500))).await;
        }
        assert!(self.who_served().await.iter().all(|node| *node == self.follower.id()));
        Ok(())
    }

    /// Who has given records since that was asked last.
    async fn who_served(&self) -> Vec<i32> {
        // Whoever notes it hears of it a little later.
        sleep(SECOND).await;
        let served = std::mem::take(&mut *self.served.borrow_mut());
        assert!(!served.is_empty(), "records were fetched");
        served
    }

    /// Records that are written now come from the leader, within that time.
    async fn back_to_the_leader(&self, bound: Duration) -> ottla::Result<()> {
        let took = self.write_and_read().await?;
        self.world.expect(took < bound, "the leader to be asked in time", || format!("it took {took:?}"));
        assert_eq!(self.who_served().await.last(), Some(&self.leader.id()));
        Ok(())
    }

    /// The follower is all right again: it is read before long.
    async fn to_the_follower_again(&self) -> ottla::Result<()> {
        self.cluster.healed(TOPIC).await;
        sleep(ALONE + MAX_AGE).await;
        self.write_and_read().await?;
        // The one that was asked while it was not may have had something.
        self.who_served().await;
        self.all_by_the_follower().await
    }
}

#[test]
fn c12_records_come_from_the_replica_in_the_readers_rack() {
    Sim::seeds(FEW).run(async |world| {
        let reading = Reading::begin(world).await?;
        reading.all_by_the_follower().await?;
        // Also when the leader has been asked again.
        sleep(3 * MAX_AGE).await;
        reading.all_by_the_follower().await
    });
}

#[test]
fn c12_a_preferred_replica_that_dies_is_left_for_the_leader_and_read_again_later() {
    Sim::seeds(SEEDS).run(async |world| {
        let reading = Reading::begin(world).await?;
        reading.all_by_the_follower().await?;
        reading.follower.kill();
        reading.back_to_the_leader(SECOND).await?;
        reading.follower.start();
        reading.to_the_follower_again().await
    });
}

/// No connection breaks. It leaves the in-sync set when its session is over, before which nothing is acknowledged; the cluster
/// is asked for as long as the replica owes an answer.
#[test]
fn c12_a_preferred_replica_that_stands_still_is_left_for_the_leader_and_read_again_later() {
    Sim::seeds(SEEDS).run(async |world| {
        let reading = Reading::begin(world).await?;
        reading.all_by_the_follower().await?;
        reading.follower.freeze();
        reading.back_to_the_leader(4 * SECOND).await?;
        reading.follower.thaw();
        reading.to_the_follower_again().await
    });
}

/// It answers, and has nothing new: that is seen when the leader is asked again.
#[test]
fn c12_a_preferred_replica_that_lags_is_left_for_the_leader_and_read_again_later() {
    Sim::seeds(SEEDS).run(async |world| {
        let reading = Reading::begin(world).await?;
        reading.all_by_the_follower().await?;
        reading.follower.cut_off_from_peers();
        reading.back_to_the_leader(MAX_AGE + SECOND).await?;
        reading.follower.reach_peers();
        reading.to_the_follower_again().await
    });
}

#[test]
fn c12_a_new_leader_is_asked_whom_to_read_from() {
    Sim::seeds(FEW).run(async |world| {
        let reading = Reading::begin(world).await?;
        reading.all_by_the_follower().await?;
        // The replica itself leads, and after it the third broker.
        let third = reading
            .cluster
            .brokers()
            .find(|broker| broker.id() != reading.leader.id() && broker.id() != reading.follower.id());
        for to in [&reading.follower, &third.expect("three")] {
            reading.cluster.move_leader(TOPIC, 0, to);
            let moved = || reading.cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() == to.id());
            world.until("the leader has moved", moved).await;
            reading.write_and_read().await?;
            reading.who_served().await;
            reading.all_by_the_follower().await?;
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn c01_c12_what_a_follower_refuses_the_leader_is_asked_for_and_no_position_is_reset() {
    let refusals = [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ];
    for code in refusals {
        Sim::seeds(FEW).run(async |world| {
            let reading = Reading::begin(world).await?;
            reading.all_by_the_follower().await?;
            let refusal =
                Fault::on::<FetchRequest>(Effect::Refuse(code)).at(reading.follower.id()).of(TOPIC, 0);
            let struck = reading.cluster.faults().add(refusal);
            // What was asked before is answered as ever.
            sleep(SECOND).await;
            reading.back_to_the_leader(SECOND).await?;
            assert!(struck.strikes() > 0, "{code}");
            struck.end();
            reading.to_the_follower_again().await
        });
    }
}
