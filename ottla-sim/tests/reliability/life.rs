//! The end of a client, wherever it comes.

use std::time::Duration;

use ottla::{Consumer, OffsetSpec, Producer, Record, TopicPartition};
use ottla_sim::{Conditions, Sim};
use tokio::time::{sleep, timeout};

use crate::support::{SECOND, TOPIC};

#[test]
fn l01_a_client_that_is_dropped_anywhere_leaves_no_task_and_no_socket() {
    Sim::seeds(0..24).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 3).await;
        let mut random = world.random();
        let slow = Duration::ZERO..=Duration::from_millis(30);
        let rough = Conditions { latency: slow, reset: 0.02, ..Conditions::default() };
        world.network().everywhere(rough);
        let app = world.host("app");
        for _ in 0..8 {
            let frozen = (random.u8(..3) == 0).then(|| cluster.broker(random.usize(..3)));
            if let Some(broker) = &frozen {
                broker.freeze();
            }
            let client = cluster.client_builder("app").build()?;
            let working = async {
                let producer = Producer::builder(&client).build()?;
                let consumer = Consumer::builder(&client).group("billing").build()?;
                consumer.subscribe([TOPIC])?;
                let reader = Consumer::builder(&client).build()?;
                reader.assign([(TopicPartition::new(TOPIC, 0), OffsetSpec::Earliest)])?;
                for number in 0.. {
                    let record = number.to_string();
                    drop(producer.enqueue(TOPIC, Record::new(&record)).await);
                    if number % 7 == 0 {
                        drop(timeout(SECOND / 20, reader.recv()).await);
                    }
                }
                Ok::<_, ottla::Error>(())
            };
            // The future goes, and with it everything that it holds.
            let stopped = timeout(Duration::from_millis(random.u64(..3_000)), working).await;
            assert!(stopped.is_err(), "it works until it is stopped");
            drop(client);
            let gone = || app.tasks() + app.sockets() == 0;
            world.until_within(180 * SECOND, "no task and no socket is left", gone).await;
            if let Some(broker) = frozen {
                broker.thaw();
            }
            sleep(SECOND).await;
        }
        Ok::<_, ottla::Error>(())
    });
}
