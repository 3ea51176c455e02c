//! Brokers that answer nearly right: bytes changed, cut, repeated. Nothing panics, hangs, hammers or leaks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla_protocol::RequestFrame;
use proptest::{collection::vec, prelude::*};
use tokio::time::{Instant, timeout};

use crate::{
    net::lock,
    scripted::{Cluster, Reply, Script, World},
};

/// What becomes of an answer.
#[derive(Debug, Clone)]
enum Damage {
    None,
    /// Bytes at places, counted modulo the length.
    Bytes(Vec<(usize, u8)>),
    Cut(usize),
    Twice,
    Garbage(Vec<u8>),
    Silence,
    Close,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::None),
        vec((any::<usize>(), any::<u8>()), 1..4).prop_map(Damage::Bytes),
        any::<usize>().prop_map(Damage::Cut),
        Just(Damage::Twice),
        vec(any::<u8>(), 0..100).prop_map(Damage::Garbage),
        Just(Damage::Silence),
        Just(Damage::Close),
    ]
}

impl Damage {
    fn apply(&self, answer: Reply) -> Reply {
        let Reply::Answer(segments) = answer else { return answer };
        let mut bytes = segments.concat();
        match self {
            Self::None => {}
            Self::Bytes(changes) => {
                for (at, byte) in changes {
                    let at = at % bytes.len();
                    bytes[at] = *byte;
                }
            }
            Self::Cut(at) => bytes.truncate(at % bytes.len()),
            Self::Twice => bytes.extend(bytes.clone()),
            Self::Garbage(garbage) => bytes.clone_from(garbage),
            Self::Silence => return Reply::Nothing,
            Self::Close => return Reply::Close,
        }
        Reply::Raw(bytes)
    }
}

/// Answers rightly, except that the n-th answer suffers the n-th damage.
fn damaging(
    right: Script,
    damages: Vec<Damage>,
) -> impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static {
    let damages = Mutex::new(damages.into_iter());
    move |request| {
        let damage = lock(&damages).next().unwrap_or(Damage::None);
        damage.apply(right(request))
    }
}

async fn survive(damages: Vec<Damage>) {
    const SECOND: Duration = Duration::from_secs(1);
    let world = World::new();
    let right = Cluster::new(&[1]).topic("orders", &[0]).script();
    world.serve(1, damaging(Arc::new(right), damages));
    let client = world.builder(&["10.0.0.1:1"]).request_timeout(3 * SECOND).build().unwrap();
    let started = Instant::now();
    // A changed byte may be a lie that can be believed: that the topic must not be seen, or that the broker knows no
    // metadata, which is believed until the idle connection is closed.
    timeout(3_000 * SECOND, client.shared().metadata.topic("orders")).await.expect("an end").ok();
    let seconds = started.elapsed().as_secs() as usize + 1;
    assert!(world.dials().len() <= 10 * seconds, "{} dials in {seconds} s", world.dials().len());
    client.close().await.unwrap();
    assert_eq!(world.open_streams(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_broker_that_answers_nearly_right_is_survived(damages in vec(damage(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(survive(damages));
    }
}
