//! A program hangs while its member lives.

use std::{error::Error as _, time::Duration};

use ottla::{Client, Consumer, ErrorKind, Reset, Stall};

use crate::World;
use crate::record::Written;
use crate::world::fresh_name;

const ALL: usize = 20;
const LIMIT: Duration = Duration::from_secs(2);

pub(crate) async fn others_go_on_for_a_program_that_is_stuck_and_it_comes_back(world: &World) {
    let (group, topic) = (fresh_name(), world.topic(1).await);
    let member = |client: &Client| {
        let member = Consumer::builder(client).group(&*group).on_missing_offset(Reset::Earliest);
        let member = member.processing_timeout(LIMIT).drain_timeout(LIMIT / 20).build().expect("valid");
        member.subscribe([&*topic]).expect("it has a group");
        member
    };
    let records: Vec<_> = (0..ALL).map(|n| Written::value(n.to_string())).collect();
    world.write(&topic, &records).await;

    let (one, two) = (world.another_client().await, world.another_client().await);
    let stuck = member(&one);
    let held = stuck.recv().await.expect("it is a member").expect("it is open");
    assert_eq!(held.view().offset(), 0);
    let other = member(&two);
    for offset in 0..ALL as i64 {
        let record = other.recv().await.expect("it asks in time").expect("it is open");
        assert_eq!(record.view().offset(), offset);
        record.complete();
    }
    other.commit().await.expect("it owns everything");

    // The program works again, and learns what it has missed.
    held.complete();
    let late = stuck.commit().await.expect_err("it is out");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late:#}");
    let error = stuck.recv().await.expect_err("it is out");
    let stall = error.source().and_then(|source| source.downcast_ref::<Stall>()).expect("it says why");
    assert_eq!((error.topic_partition().map(|of| of.topic()), stall.offset), (Some(&*topic), 0));
    assert!(stall.in_hand && stall.lasted >= LIMIT, "{stall:?}");

    let (record, ()) = tokio::join!(stuck.recv(), async {
        world.write(&topic, &records).await;
        other.close().await.expect("it leaves");
    });
    let record = record.expect("it is a member again").expect("it is open");
    assert_eq!(record.view().offset(), ALL as i64);
    record.complete();
    stuck.close().await.expect("it leaves");
    for client in [one, two] {
        client.close().await.expect("nothing is left to do");
    }
}
