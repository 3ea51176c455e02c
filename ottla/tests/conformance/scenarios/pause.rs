//! A broker stands still for longer than a session, and the member of the group that comes back to it handles nothing
//! twice.
//!
//! ```text
//!   handled 10,000, committed ─ freeze ── 10,000 more are sent ── lease ends ── session is over ─ thaw ── handled 20,000
//! ```
//!
//! By hand, with the session that is the default, and with what the client did when:
//!
//! ```text
//! OTTLA_SESSION_S=45 OTTLA_PAUSE_S=50 cargo xtask kafka run --nodes 3 -- \
//!     cargo test -p ottla --test conformance -- --nocapture real_kafka::the_coordinator_stands_still
//! ```

use std::time::Duration;

use ottla::{Client, Consumer, Event, Producer, Reset};
use tokio::time::Instant;

use crate::World;
use crate::diary::Diary;
use crate::effects::{Effects, PARTITIONS, produce};
use crate::world::fresh_name;

const BEFORE: usize = 10_000;
const ALL: usize = 20_000;
/// From the moment in which the broker goes on until everything is handled. It takes a second or two.
const BOUND: Duration = Duration::from_secs(30);

/// Nobody can take over meanwhile. The session is over when the brokers wake up, if they look at the clock before they look
/// at the heartbeat that waits in their sockets.
pub(crate) async fn every_broker_stands_still_for_longer_than_a_session(world: &World) {
    let nodes = 1..=world.backend().bootstrap_servers().len() as i32;
    Pause::new(world).await.run(async |_| nodes.collect()).await;
}

/// The others elect new leaders and coordinate the group, and then it comes back, deposed.
pub(crate) async fn the_coordinator_stands_still_for_longer_than_a_session(world: &World) {
    let pause = Pause::new(world).await;
    pause.run(async |pause| vec![pause.world.coordinator(&pause.group).await]).await;
}

struct Pause<'a> {
    world: &'a World,
    client: Client,
    group: String,
    topic: String,
    session: Duration,
    still_for: Duration,
    diary: Diary,
    effects: Effects,
}

impl<'a> Pause<'a> {
    async fn new(world: &'a World) -> Self {
        Self {
            world,
            client: world.another_client().await,
            group: fresh_name(),
            topic: world.topic(PARTITIONS).await,
            session: seconds("OTTLA_SESSION_S", 10),
            still_for: seconds("OTTLA_PAUSE_S", 12),
            diary: Diary::new(),
            effects: Effects::default(),
        }
    }

    /// `victims` tells who stands still, once the group has a coordinator.
    async fn run(self, victims: impl AsyncFnOnce(&Self) -> Vec<i32>) {
        let consumer = Consumer::builder(&self.client)
            .group(&*self.group)
            .session_timeout(self.session)
            .on_missing_offset(Reset::Earliest)
            .build()
            .expect("valid");
        consumer.subscribe([&*self.topic]).expect("it has a group");
        let story = async {
            tokio::select! {
                biased;
                () = self.effects.handle_all(&consumer) => panic!("the consumer is open"),
                () = self.freeze_and_thaw(&consumer, victims) => {}
            }
        };
        self.diary.keep_during(self.client.events(), story).await;
        self.client.close().await.expect("everything is committed");
    }

    async fn freeze_and_thaw(&self, consumer: &Consumer, victims: impl AsyncFnOnce(&Self) -> Vec<i32>) {
        let producer = Producer::builder(&self.client).build().expect("valid");
        produce(&producer, &self.topic, 0..BEFORE).await;
        self.effects.until(BEFORE).await;
        consumer.commit().await.expect("the coordinator is there");
        let victims = victims(self).await;

        let frozen = Instant::now();
        for node in &victims {
            self.world.backend().freeze(*node).await;
        }
        self.diary.note(format_args!("{BEFORE} handled and committed; nodes {victims:?} stand still"));
        let all = victims.len() == self.world.backend().bootstrap_servers().len();
        let thaw = async {
            // How long the others take to elect somebody is for them to say: if the victim was the controller, too, they
            // need longer than a session.
            let noticed: fn(&Event) -> bool = match all {
                true => |event| matches!(event, Event::LeaseEnded { .. }),
                false => |event| matches!(event, Event::CoordinatorChanged { .. }),
            };
            self.diary.until(frozen, noticed).await;
            tokio::time::sleep_until(frozen + self.still_for).await;
            for node in &victims {
                self.world.backend().thaw(*node).await;
            }
            self.diary.note(format_args!("nodes {victims:?} go on"));
            Instant::now()
        };
        let (thawed, ()) = tokio::join!(thaw, produce(&producer, &self.topic, BEFORE..ALL));
        self.effects.until(ALL).await;
        let took = thawed.elapsed();
        self.diary.note(format_args!("{ALL} handled, {:.3} s after that", took.as_secs_f64()));
        assert!(took < BOUND, "it took {took:?} to handle everything");
        self.assert_membership_was_told(frozen, all);

        // Anything that is handed out again comes before what is written now.
        let sentinels = ALL..ALL + PARTITIONS as usize;
        produce(&producer, &self.topic, sentinels.clone()).await;
        self.effects.until(sentinels.end).await;
        let twice = self.effects.twice(sentinels.end);
        assert!(twice.is_empty(), "{} records were handled several times: {twice:?}", twice.len());
        consumer.commit().await.expect("the coordinator is there");
        self.assert_committed(consumer, sentinels.end).await;
    }

    /// Whoever reads the events knows why nothing came for a while.
    fn assert_membership_was_told(&self, frozen: Instant, all_stood_still: bool) {
        let has = |wanted: fn(&Event) -> bool| self.diary.has(frozen, wanted);
        let renewed = has(|event| matches!(event, Event::LeaseRenewed { .. }));
        let lost = has(|event| matches!(event, Event::SessionLost { .. }));
        let lost_partitions = has(|event| matches!(event, Event::PartitionsLost { .. }));
        let joined = has(|event| matches!(event, Event::GroupJoined { .. }));
        let assigned = has(|event| matches!(event, Event::PartitionsAssigned { .. }));
        assert_eq!(
            [lost; 3],
            [lost_partitions, joined, assigned],
            "a session is lost with its partitions, and then comes another"
        );
        if all_stood_still {
            assert!(renewed || lost, "a lease that has ended goes on, or the session is lost");
        }
    }

    async fn assert_committed(&self, consumer: &Consumer, count: usize) {
        let partitions = (0..PARTITIONS).map(|partition| (&*self.topic, partition));
        let committed = consumer.committed(partitions).await.expect("the coordinator is there");
        let offset =
            |found: &Option<ottla::OffsetAndMetadata>| found.as_ref().map_or(0, |found| found.offset);
        assert_eq!(committed.iter().map(|(_, found)| offset(found)).sum::<i64>(), count as i64);
    }
}

fn seconds(variable: &str, default: u64) -> Duration {
    let seconds = std::env::var(variable).ok().map(|text| text.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(default))
}
