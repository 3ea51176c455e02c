//! Producers and members of a group, each with a runtime of its own, so that it can crash: everything that it runs ends in
//! the middle, and its connections break.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ottla::{
    BoxError, Client, Consumer, Producer, Rebalance, RebalanceListener, Record, Reset, SendError,
    TopicPartition,
};
use ottla_sim::history::event::{Actor, Change, Entry, Failed, Open, Outcome, What, value_of};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{GROUP, Journal, PARTITIONS, Result, TOPIC};

const PRODUCERS: u32 = 2;
const MEMBERS: u32 = 3;
/// Members are counted from here.
const FIRST_MEMBER: u32 = 11;

/// All of them.
pub(crate) struct Processes {
    journal: Journal,
    servers: Vec<String>,
    seed: u64,
    running: Mutex<Vec<Process>>,
}

struct Process {
    actor: Actor,
    /// Until it is dropped, which ends the process.
    runtime: Option<Runtime>,
    stop: Arc<Notify>,
    ended: oneshot::Receiver<()>,
}

impl Processes {
    pub(crate) fn start(journal: &Journal, servers: Vec<String>, seed: u64) -> Result<Self> {
        let processes = Self { journal: journal.clone(), servers, seed, running: Mutex::default() };
        let numbers = (1..=PRODUCERS).chain(FIRST_MEMBER..FIRST_MEMBER + MEMBERS);
        for number in numbers {
            processes.begin(Actor::first(number))?;
        }
        Ok(processes)
    }

    /// `kill -9` of one of them. Gives its next life.
    pub(crate) fn crash(&self, number: usize) -> Actor {
        let process = self.take(number);
        self.journal.observe(What::Fault(format!("{} crashes", name(process.actor))));
        self.journal.tell(process.actor, Outcome::Info, What::Crash, None);
        Actor { incarnation: process.actor.incarnation + 1, ..process.actor }
    }

    /// Asks one of them to end. Gives its next life.
    pub(crate) async fn stop(&self, number: usize, limit: Duration) -> Actor {
        let process = self.take(number);
        self.journal.observe(What::Fault(format!("{} is asked to end", name(process.actor))));
        let actor = process.actor;
        process.end(limit).await;
        Actor { incarnation: actor.incarnation + 1, ..actor }
    }

    pub(crate) fn len(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self, number: usize) -> Process {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(number)
    }

    pub(crate) fn begin(&self, actor: Actor) -> Result<()> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (journal, stop) = (self.journal.clone(), Arc::new(Notify::new()));
        let is_member = actor.process >= FIRST_MEMBER;
        let open =
            Open { name: name(actor).into(), group: is_member.then(|| GROUP.into()), ..Open::default() };
        journal.tell(actor, Outcome::Info, What::Open(open), None);
        let seed = self.seed ^ (u64::from(actor.process) << 32) ^ u64::from(actor.incarnation);
        let (ends, ended) = oneshot::channel();
        let work = Work { journal, actor, stop: Arc::clone(&stop), random: fastrand::Rng::with_seed(seed) };
        let servers = self.servers.clone();
        runtime.spawn(async move {
            let journal = work.journal.clone();
            let outcome = if is_member { work.consume(servers).await } else { work.produce(servers).await };
            match outcome {
                Ok(()) => journal.tell(actor, Outcome::Info, What::Close, None),
                Err(error) => journal.observe(What::Panic(format!("{} gave up: {error:#}", name(actor)))),
            }
            // Nobody may wait for it.
            let _ = ends.send(());
        });
        let process = Process { actor, runtime: Some(runtime), stop, ended };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(())
    }

    pub(crate) async fn stop_producers(&self, limit: Duration) {
        self.stop_those(|actor| actor.process < FIRST_MEMBER, limit).await;
    }

    pub(crate) async fn stop_members(&self, limit: Duration) {
        self.stop_those(|actor| actor.process >= FIRST_MEMBER, limit).await;
    }

    async fn stop_those(&self, which: impl Fn(Actor) -> bool, limit: Duration) {
        let stopping: Vec<Process> = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let (stopping, others) = running.drain(..).partition(|process| which(process.actor));
            *running = others;
            stopping
        };
        for process in stopping {
            process.end(limit).await;
        }
    }
}

impl Process {
    /// What has not ended in time, never settles what it has begun, and the check says so.
    async fn end(mut self, limit: Duration) {
        self.stop.notify_one();
        if timeout(limit, &mut self.ended).await.is_err() {
            eprintln!("{} does not end", name(self.actor));
        }
    }
}

impl Drop for Process {
    /// In the middle of whatever it does. A runtime that is merely dropped would wait for that, which no task may do.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn name(actor: Actor) -> String {
    match actor.process.checked_sub(FIRST_MEMBER) {
        Some(member) => format!("{GROUP}-{}", member + 1),
        None => format!("shop-{}", actor.process),
    }
}

/// What runs in a process.
struct Work {
    journal: Journal,
    actor: Actor,
    stop: Arc<Notify>,
    random: fastrand::Rng,
}

fn client(servers: Vec<String>) -> ottla::Result<Client> {
    let second = Duration::from_secs(1);
    Client::builder()
        .bootstrap_servers(servers)
        .request_timeout(3 * second)
        .socket_connection_setup_timeout(2 * second)
        .reconnect_backoff_max(second)
        .build()
}

impl Work {
    /// Sends bursts of records until it is asked to stop, and tells what becomes of each.
    async fn produce(mut self, servers: Vec<String>) -> ottla::Result<()> {
        let client = client(servers)?;
        let producer = Producer::builder(&client).delivery_timeout(Duration::from_secs(15)).build()?;
        let (receipts, mut outstanding) = mpsc::unbounded_channel();
        let sending = async {
            let stop = Arc::clone(&self.stop);
            let mut stopped = std::pin::pin!(stop.notified());
            for number in 0_u64.. {
                let partition = self.random.i32(0..PARTITIONS);
                let padding = "=".repeat(self.random.usize(..400));
                let value = format!("{}.{}-{number} {padding}", self.actor.process, self.actor.incarnation);
                let entry =
                    Entry::record(TopicPartition::new(TOPIC, partition), None, value_of(value.as_bytes()));
                self.journal.tell(self.actor, Outcome::Invoke, What::Send(vec![entry.clone()]), None);
                match producer.enqueue(TOPIC, Record::new(&value).partition(partition)).await {
                    Ok(receipt) => drop(receipts.send((entry, receipt))),
                    Err(error) => {
                        let error = Some(failed(&error, true));
                        self.journal.tell(self.actor, Outcome::Fail, What::Send(vec![entry]), error);
                    }
                }
                if self.random.u32(..4) == 0 {
                    let pause = Duration::from_millis(self.random.u64(..60));
                    if timeout(pause, stopped.as_mut()).await.is_ok() {
                        break;
                    }
                }
            }
            drop(receipts);
            // Each failure is told by its receipt.
            drop(producer.flush().await);
        };
        let (journal, actor) = (self.journal.clone(), self.actor);
        let settling = async {
            while let Some((mut entry, receipt)) = outstanding.recv().await {
                let (outcome, error) = match receipt.await {
                    Ok(written) => {
                        entry.offset = written.offset();
                        (Outcome::Ok, None)
                    }
                    Err(SendError::NotWritten(error)) => (Outcome::Fail, Some(failed(&error, true))),
                    Err(SendError::PossiblyWritten(error)) => (Outcome::Info, Some(failed(&error, false))),
                };
                journal.tell(actor, outcome, What::Send(vec![entry]), error);
            }
        };
        tokio::join!(sending, settling);
        // The same failures again; and brokers may be gone just now.
        drop(producer.close().await);
        drop(client.close().await);
        Ok(())
    }

    /// Processes one record after the other until it is asked to stop.
    async fn consume(mut self, servers: Vec<String>) -> ottla::Result<()> {
        let client = client(servers)?;
        let listener = Listener { journal: self.journal.clone(), actor: self.actor };
        let consumer = Consumer::builder(&client)
            .group(GROUP)
            .session_timeout(Duration::from_secs(6))
            .heartbeat_interval(Duration::from_millis(500))
            .auto_commit_interval(Duration::from_secs(1))
            .on_missing_offset(Reset::Earliest)
            .rebalance_listener(listener)
            .build()?;
        consumer.subscribe([TOPIC])?;
        loop {
            let received = tokio::select! {
                biased;
                () = self.stop.notified() => break,
                received = consumer.recv() => received?,
            };
            let Some(record) = received else { break };
            let (partition, offset) = (record.view().topic_partition().clone(), record.view().offset());
            let value = value_of(record.view().value().unwrap_or_default());
            let polled = Entry::record(partition.clone(), Some(offset), value);
            self.journal.ok(self.actor, What::Poll(vec![polled]));
            if self.random.u32(..50) == 0 {
                sleep(Duration::from_millis(self.random.u64(..40))).await;
            }
            self.journal.ok(self.actor, What::Process(vec![Entry::at(partition, offset)]));
            record.complete();
        }
        // Brokers may be gone just now: what could not be committed, the listener has told.
        drop(consumer.close().await);
        drop(client.close().await);
        Ok(())
    }
}

fn failed(error: &ottla::Error, definite: bool) -> Failed {
    Failed { code: format!("{:?}", error.kind()), definite, retriable: error.is_retriable() }
}

/// Tells what comes and goes.
struct Listener {
    journal: Journal,
    actor: Actor,
}

impl Listener {
    fn tell(&self, change: Change, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            self.journal.ok(self.actor, What::Rebalance { change, partitions });
        }
    }
}

fn partitions(rebalance: &Rebalance<'_>) -> Vec<TopicPartition> {
    rebalance.partitions().iter().map(|owned| owned.topic_partition().clone()).collect()
}

/// Partitions that are being given up. They are gone when the client waits for the listener no longer, too.
struct Going<'a> {
    listener: &'a Listener,
    partitions: Vec<TopicPartition>,
    committed: bool,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        let change = Change::Revoked { committed: self.committed };
        self.listener.tell(change, std::mem::take(&mut self.partitions));
    }
}

impl RebalanceListener for Listener {
    async fn on_assigned(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.tell(Change::Assigned, partitions(rebalance));
        Ok(())
    }

    async fn on_revoked(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        let mut going = Going { listener: self, partitions: partitions(rebalance), committed: false };
        going.committed = rebalance.consumer().commit().await.is_ok();
        Ok(())
    }

    async fn on_lost(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        self.tell(Change::Lost, partitions(rebalance));
        Ok(())
    }
}
