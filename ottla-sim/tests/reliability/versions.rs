//! Brokers of other versions, and brokers whose version changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use ottla::ErrorCode;
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::{
    ApiKey,
    messages::{ApiVersionsRequest, ProduceRequest},
};
use ottla_sim::Sim;
use tokio::time::timeout;

use crate::support::{FEW, SECOND, Stream, TOPIC};

#[test]
fn n12_a_broker_that_refuses_the_version_of_the_first_request_or_hangs_up_is_asked_in_a_lower_one() {
    for effect in [Effect::Refuse(ErrorCode::UNSUPPORTED_VERSION), Effect::LoseRequest] {
        Sim::seeds(FEW).run(async |world| {
            let stream = Stream::start(world, |builder| builder).await;
            let struck =
                stream.cluster.faults().add(Fault::on::<ApiVersionsRequest>(effect.clone()).times(4));
            stream.send(20).await;
            timeout(10 * SECOND, stream.settled()).await.expect("they understand each other");
            stream.settle_all().await;
            assert_eq!(struck.strikes(), 4);
        });
    }
}

/// The versions of Kafka 2.1, of those APIs that have newer ones.
fn as_in_kafka_2_1() -> Effect {
    Effect::edit::<ApiVersionsRequest>(|response| {
        for api in &mut response.api_keys {
            let newest = match ApiKey(api.api_key) {
                ApiKey::PRODUCE => 7,
                ApiKey::FETCH => 10,
                ApiKey::METADATA => 7,
                ApiKey::LIST_OFFSETS => 4,
                ApiKey::INIT_PRODUCER_ID => 1,
                ApiKey::OFFSET_FOR_LEADER_EPOCH => 2,
                ApiKey::API_VERSIONS => 2,
                _ => continue,
            };
            api.max_version = api.max_version.min(newest);
        }
    })
}

#[test]
fn n12_a_broker_that_comes_back_older_or_newer_is_asked_in_the_versions_that_it_has_then() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        let used = Arc::<Mutex<BTreeSet<i16>>>::default();
        let used_by_client = || std::mem::take(&mut *used.lock().expect("nobody panics with it"));
        let seen = Arc::clone(&used);
        let look = Effect::rewrite(move |_, version, answer| {
            seen.lock().expect("nobody panics with it").insert(version);
            answer
        });
        stream.cluster.faults().add(Fault::on::<ProduceRequest>(look));
        stream.send(20).await;
        stream.settled().await;
        let newest = used_by_client();
        assert!(newest.iter().all(|version| *version > 7), "{newest:?}");

        for _ in 0..3 {
            for old in [true, false] {
                let older = old
                    .then(|| stream.cluster.faults().add(Fault::on::<ApiVersionsRequest>(as_in_kafka_2_1())));
                // All of them, one after the other, while records are sent.
                for broker in stream.cluster.brokers() {
                    broker.kill();
                    stream.send(10).await;
                    broker.start();
                    stream.cluster.healed(TOPIC).await;
                }
                stream.settled().await;
                used_by_client();
                stream.send(10).await;
                stream.settled().await;
                let now = used_by_client();
                assert_eq!(now, if old { [7].into() } else { newest.clone() });
                if let Some(older) = older {
                    older.end();
                }
            }
        }
        stream.settle_all().await;
    });
}
