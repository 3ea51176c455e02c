//! A broker stops answering while its TCP connections stay up, and later goes on as if nothing had happened.

use std::time::Duration;

use crate::support::{self, FEW, Load, Plan, SEEDS, TOPIC};
use ottla::{Consumer, OffsetSpec, Record};
use ottla_sim::Sim;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn n04_producing_and_consuming_resume_after_the_only_broker_was_frozen_for_45_s() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { partitions: 2, ..Plan::default() };
        let cluster = world.cluster(1).await;
        cluster.topic(TOPIC, plan.partitions).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;
        cluster.broker(0).pause_for(45 * SECOND).await;
        let before = load.acknowledged();
        world.until_within(5 * SECOND, "producing goes on", || load.acknowledged() > before).await;
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n04_producing_goes_on_at_another_leader_while_one_of_three_brokers_is_frozen() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1000, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(3 * SECOND).await;
        let frozen = cluster.leader(TOPIC, 0).expect("a leader");
        frozen.freeze();
        let moved = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() != frozen.id());
        world.until_within(15 * SECOND, "the partition has another leader", moved).await;
        sleep(30 * SECOND).await;
        load.forget_pauses();
        sleep(10 * SECOND).await;
        let pause = load.longest_pause(|_| true);
        world.expect(pause < 5 * SECOND, "every partition to be written while one broker is frozen", || {
            format!("there was no acknowledgement for {pause:?}")
        });
        frozen.thaw();
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n04_partitions_of_other_brokers_do_not_notice_a_frozen_broker() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { partitions: 6, pause: SECOND / 20, records: 2000, ..Plan::default() };
        let cluster = world.cluster(3).await;
        // One replica: else the others wait for the frozen one, which is in their in-sync sets.
        cluster.topic_with(TOPIC, plan.partitions, 1).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;

        let frozen = cluster.broker(world.random().usize(..3));
        let of_frozen: Vec<i32> =
            (0..6).filter(|p| cluster.leader(TOPIC, *p).is_some_and(|l| l.id() == frozen.id())).collect();
        load.forget_pauses();
        frozen.pause_for(20 * SECOND).await;
        let pause = load.longest_pause(|partition| !of_frozen.contains(&partition));
        world.expect(pause < 2 * SECOND, "partitions of other brokers to be written all the time", || {
            format!("there was no acknowledgement for {pause:?}")
        });
        load.settle_all(world, &cluster).await;
    });
}

/// No connection breaks: what the frozen leader was asked for has half a minute before it counts as lost.
#[test]
fn n04_consuming_goes_on_at_another_leader_as_soon_as_there_is_one() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        cluster.produce(TOPIC, [Record::new("before")]).await;
        let client = cluster.client();
        let consumer = Consumer::builder(&client).build()?;
        consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
        consumer.recv().await?;
        sleep(Duration::from_millis(world.random().u64(1_000..4_000))).await;

        let frozen = cluster.leader(TOPIC, 0).expect("a leader");
        frozen.freeze();
        let froze = world.elapsed();
        let moved = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() != frozen.id());
        world.until_within(15 * SECOND, "the partition has another leader", moved).await;
        let elected = world.elapsed();
        cluster.produce(TOPIC, [Record::new("meanwhile")]).await;
        let written = world.elapsed();
        let record = timeout(60 * SECOND, consumer.recv()).await.expect("it is read")?.expect("open");
        assert_eq!(record.view().value(), Some(&b"meanwhile"[..]));
        let (since_elected, since_written) = (world.elapsed() - elected, world.elapsed() - written);
        world.expect(
            since_elected < 4 * SECOND || since_written < SECOND,
            "the new leader to be asked within seconds",
            || {
                format!(
                    "frozen {froze:?}, elected {elected:?}, written {written:?}, read {since_written:?} later"
                )
            },
        );

        // What the frozen one says when it goes on is about a log that it does not lead any more.
        frozen.thaw();
        cluster.produce(TOPIC, [Record::new("after")]).await;
        let record = timeout(10 * SECOND, consumer.recv()).await.expect("it is read")?.expect("open");
        assert_eq!(record.view().value(), Some(&b"after"[..]));
        Ok::<_, ottla::Error>(())
    });
}

/// The same for who looks for a place to begin.
#[test]
fn n04_looking_a_place_up_goes_on_at_another_leader_as_soon_as_there_is_one() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        cluster.produce(TOPIC, [Record::new("before")]).await;
        let client = cluster.client();
        let consumer = Consumer::builder(&client).build()?;
        consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
        consumer.recv().await?;

        let frozen = cluster.leader(TOPIC, 0).expect("a leader");
        frozen.freeze();
        let begin = world.elapsed();
        consumer.seek(&(TOPIC, 0).into(), OffsetSpec::Earliest).await?;
        let took = world.elapsed() - begin;
        world.expect(took < 15 * SECOND, "the place to be found once there is another leader", || {
            format!("it took {took:?}")
        });
        frozen.thaw();
        Ok::<_, ottla::Error>(())
    });
}

/// What is in flight stays in doubt until its request ends; everything else goes to the new leader at once.
#[test]
fn n04_records_for_a_partition_with_nothing_in_flight_go_to_the_new_leader_at_once() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 6).await;
        let client = cluster.client();
        let producer = ottla::Producer::builder(&client).build()?;
        let frozen = cluster.leader(TOPIC, 0).expect("a leader");
        let led =
            |partition: &i32| cluster.leader(TOPIC, *partition).is_some_and(|it| it.id() == frozen.id());
        let of_frozen: Vec<i32> = (0..6).filter(led).collect();
        for partition in &of_frozen {
            producer.send(TOPIC, Record::new("before").partition(*partition)).await?;
        }
        frozen.freeze();
        // The one that is in doubt.
        let doubtful = producer.enqueue(TOPIC, Record::new("doubtful").partition(0)).await?;
        let moved = || of_frozen.iter().all(|partition| !led(partition));
        world.until_within(15 * SECOND, "its partitions have other leaders", moved).await;
        sleep(3 * SECOND).await;
        for partition in of_frozen.iter().filter(|partition| **partition != 0) {
            let record = Record::new("meanwhile").partition(*partition);
            let sent = timeout(SECOND, producer.send(TOPIC, record)).await;
            world.expect(sent.is_ok(), "the new leader to be known by now", || {
                format!("partition {partition}")
            });
            sent.expect("in time")?;
        }
        timeout(60 * SECOND, doubtful).await.expect("its fate is known in the end")?;
        frozen.thaw();
        Ok::<_, ottla::Error>(())
    });
}
