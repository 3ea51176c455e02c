//! The kit as those use it who test their own consumers: their code, the real client, embedded brokers.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ottla::{Client, Consumer, OffsetSpec, Record, Reset, TopicPartition};
use ottla_sim::Sim;

/// How often each offset was seen.
type Seen = Rc<RefCell<BTreeMap<i64, u32>>>;

/// The application under test.
async fn remember(client: Client, seen: Seen, shutdown: impl Future<Output = ()>) -> ottla::Result<usize> {
    let consumer = Consumer::builder(&client).build()?;
    consumer.assign([(TopicPartition::new("orders", 0), OffsetSpec::Earliest)])?;
    let mut shutdown = std::pin::pin!(shutdown);
    let mut records = 0;
    loop {
        let polled = tokio::select! {
            biased;
            () = &mut shutdown => break,
            polled = consumer.poll() => polled?,
        };
        let Some(batch) = polled else { break };
        for record in &batch {
            *seen.borrow_mut().entry(record.offset()).or_default() += 1;
            records += 1;
        }
    }
    client.close().await?;
    Ok(records)
}

#[test]
fn a_broker_paused_for_45_seconds_causes_no_duplicate() {
    Sim::seeds(0..8).run(async |world| {
        let (cluster, seen) = (world.cluster(1).await, Seen::default());
        cluster.topic("orders", 1).await;
        let app = world.spawn("app", remember(cluster.client(), Rc::clone(&seen), world.shutdown()));

        cluster.produce("orders", (0..1_000).map(|_| Record::new("order"))).await;
        world.until("half is seen", || seen.borrow().len() == 1_000).await;
        cluster.broker(0).pause_for(Duration::from_secs(45)).await;
        cluster.produce("orders", (0..1_000).map(|_| Record::new("order"))).await;
        world.until("all is seen", || seen.borrow().len() == 2_000).await;
        assert!(seen.borrow().values().all(|times| *times == 1));
        let host = app.host().clone();
        assert_eq!(app.shut_down().await?, 2_000);
        world.until("no task and no socket is left", || host.tasks() + host.sockets() == 0).await;
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn a_frozen_application_goes_on_where_it_was_and_a_crashed_one_leaves_nothing_behind() {
    Sim::seeds(0..8).run(async |world| {
        let (cluster, seen) = (world.cluster(1).await, Seen::default());
        cluster.topic("orders", 1).await;
        let app = world.spawn("app", remember(cluster.client(), Rc::clone(&seen), world.shutdown()));
        cluster.produce("orders", (0..100).map(|_| Record::new("order"))).await;
        world.until("the first are seen", || seen.borrow().len() == 100).await;

        app.host().freeze();
        cluster.produce("orders", (0..100).map(|_| Record::new("order"))).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(seen.borrow().len(), 100);
        app.host().thaw();
        world.until("the others are seen", || seen.borrow().len() == 200).await;
        assert!(seen.borrow().values().all(|times| *times == 1));

        let host = app.host().clone();
        host.crash();
        assert!(app.outcome().await.is_none());
        assert_eq!((host.tasks(), host.sockets()), (0, 0));
    });
}

/// A member of a group, as users write it.
async fn bill(client: Client, seen: Seen, shutdown: impl Future<Output = ()>) -> ottla::Result<()> {
    let consumer = Consumer::builder(&client).group("billing").on_missing_offset(Reset::Earliest).build()?;
    consumer.subscribe(["orders"])?;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let received = tokio::select! {
            biased;
            () = &mut shutdown => break,
            received = consumer.recv() => received?,
        };
        let Some(order) = received else { break };
        *seen.borrow_mut().entry(order.view().offset()).or_default() += 1;
        order.complete();
    }
    consumer.close().await?;
    client.close().await
}

#[test]
fn a_group_goes_on_where_it_was_after_a_pause_and_in_another_process() {
    Sim::seeds(0..4).run(async |world| {
        let (cluster, seen) = (world.cluster(1).await, Seen::default());
        cluster.topic("orders", 1).await;
        let orders = || (0..100).map(|_| Record::new("order"));
        let app = world.spawn("app", bill(cluster.client(), Rc::clone(&seen), world.shutdown()));
        cluster.produce("orders", orders()).await;
        world.until("the first are seen", || seen.borrow().len() == 100).await;
        // Auto-commit has time for it.
        tokio::time::sleep(Duration::from_secs(10)).await;
        cluster.broker(0).pause_for(Duration::from_secs(50)).await;
        cluster.produce("orders", orders()).await;
        world.until("those after the pause are seen", || seen.borrow().len() == 200).await;
        app.shut_down().await?;

        let other = cluster.client_on("other");
        drop(world.spawn("other", bill(other, Rc::clone(&seen), std::future::pending())));
        cluster.produce("orders", orders()).await;
        world.until("those for another process are seen", || seen.borrow().len() == 300).await;
        assert!(seen.borrow().values().all(|times| *times == 1), "{seen:?}");
        Ok::<_, ottla::Error>(())
    });
}

/// Each order in a task of its own, as many handlers do it.
async fn bill_at_once(client: Client, seen: Seen, handled: Arc<AtomicUsize>) -> ottla::Result<()> {
    let consumer = Consumer::builder(&client).group("billing").on_missing_offset(Reset::Earliest).build()?;
    consumer.subscribe(["orders"])?;
    while let Some(order) = consumer.recv().await? {
        *seen.borrow_mut().entry(order.view().offset()).or_default() += 1;
        let handled = Arc::clone(&handled);
        #[expect(clippy::disallowed_methods, reason = "users' handlers spawn as they like")]
        drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            handled.fetch_add(1, Ordering::Relaxed);
            order.complete();
        }));
    }
    Ok(())
}

#[test]
fn a_handler_that_spawns_tasks_of_its_own_runs_and_what_it_completes_is_committed() {
    Sim::seeds(0..4).run(async |world| {
        let (cluster, seen) = (world.cluster(1).await, Seen::default());
        cluster.topic("orders", 1).await;
        let handled = Arc::<AtomicUsize>::default();
        let app = bill_at_once(cluster.client(), Rc::clone(&seen), Arc::clone(&handled));
        drop(world.spawn("app", app));
        cluster.produce("orders", (0..100).map(|_| Record::new("order"))).await;
        world.until("all are handled", || handled.load(Ordering::Relaxed) == 100).await;
        assert_eq!(cluster.committed("billing", "invoices", 0), None);
        world.until("that is committed", || cluster.committed("billing", "orders", 0) == Some(100)).await;
        cluster.broker(0).pause_for(Duration::from_secs(45)).await;
        cluster.produce("orders", (0..100).map(|_| Record::new("order"))).await;
        world.until("the others are handled", || handled.load(Ordering::Relaxed) >= 200).await;
        assert!(seen.borrow().values().all(|times| *times == 1), "{seen:?}");
    });
}
