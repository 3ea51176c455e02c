//! The world of one run: hosts, virtual time, one source of randomness.

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    env::SimEnv,
    failure::{Failure, Happened, Thrown},
    gate::{NewSendTask, NewTask, Ready, TaskId, Tasks},
    names::{Names, Troubled},
    net::{self, Conditions, Ending, Listener, Net, Toll},
    trace::{Event, Trace},
};

/// How long [`World::until`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A host of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(crate) u32);

/// The host of the scenario itself. It never crashes.
const TEST: HostId = HostId(0);

struct HostState {
    name: Arc<str>,
    /// Raised by each crash: what older incarnations left behind is recognised by it.
    generation: u32,
    running: bool,
    frozen: bool,
    random: fastrand::Rng,
    /// How far the host's wall clock is ahead of the world's, in seconds.
    clock_skew: i64,
    /// How often it looked at its wall clock while that stood wrong.
    misled: u64,
}

struct State {
    hosts: Vec<HostState>,
    random: fastrand::Rng,
    net: Net,
    names: Names,
    trace: Trace,
    spawned: Vec<NewSendTask>,
    failure: Option<Failure>,
    /// How far the world's clock is ahead of the monotonic clock of clients, which tokio has.
    clients_slept: Duration,
    /// Where histories are written that are checked.
    histories: Option<PathBuf>,
}

/// What a world's hosts share. `Send`, as the client's seam demands, though only one thread ever uses it.
pub(crate) struct Shared {
    pub(crate) started: Instant,
    pub(crate) ready: Arc<Ready>,
    /// Nanoseconds since it started, by tokio's clock: read there once for each turn of the executor, between which alone
    /// it moves.
    now: AtomicU64,
    /// When the network has something to deliver, in the same way.
    next_packet: AtomicU64,
    state: Mutex<State>,
}

impl Shared {
    /// Must be called within tokio's runtime, for its clock.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let net = Net::new(random.fork());
        let state = State {
            hosts: Vec::new(),
            net,
            names: Names::default(),
            trace,
            spawned: Vec::new(),
            failure: None,
            clients_slept: Duration::ZERO,
            histories: None,
            random,
        };
        let (now, next_packet) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { started: Instant::now(), ready: Arc::default(), now, next_packet, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock fails the run; what is left only has to be readable for the report.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time may have gone on: the executor takes its next turn.
    pub(crate) fn look_at_clock(&self) {
        self.now.store(nanos(self.started.elapsed()), Ordering::Relaxed);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    /// How long the world lives: the clock of brokers, and the one that counts suspend.
    pub(crate) fn lived(&self) -> Duration {
        self.elapsed() + self.clients_slept()
    }

    /// How long machines of clients were suspended so far.
    pub(crate) fn clients_slept(&self) -> Duration {
        self.lock().clients_slept
    }

    pub(crate) fn let_clients_sleep(&self, duration: Duration) {
        self.lock().clients_slept += duration;
    }

    /// Does something with the network, and wakes whom it concerns when the lock is free again.
    pub(crate) fn with_net<T>(&self, act: impl FnOnce(&mut Net, Duration, &mut Trace) -> T) -> T {
        let now = self.elapsed();
        let mut state = self.lock();
        let State { net, trace, .. } = &mut *state;
        let result = act(net, now, trace);
        self.next_packet.store(net.next_due().map_or(u64::MAX, nanos), Ordering::Relaxed);
        let wakers = std::mem::take(&mut net.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Delivers what is due.
    pub(crate) fn carry_packets(&self) {
        if self.next_packet.load(Ordering::Relaxed) <= self.now.load(Ordering::Relaxed) {
            self.with_net(|net, now, trace| net.carry(now, trace));
        }
    }

    /// When there will be something to deliver.
    pub(crate) fn next_packet(&self) -> Option<Duration> {
        let next = self.next_packet.load(Ordering::Relaxed);
        (next < u64::MAX).then(|| Duration::from_nanos(next))
    }

    pub(crate) fn spawn(&self, task: NewSendTask) {
        self.lock().spawned.push(task);
    }

    pub(crate) fn take_spawned(&self) -> Vec<NewSendTask> {
        std::mem::take(&mut self.lock().spawned)
    }

    pub(crate) fn is_current(&self, host: HostId, generation: u32) -> bool {
        let state = self.lock();
        let host = &state.hosts[host.0 as usize];
        host.running && host.generation == generation
    }

    pub(crate) fn is_frozen(&self, host: HostId) -> bool {
        self.lock().hosts[host.0 as usize].frozen
    }

    pub(crate) fn host_name(&self, host: HostId) -> Arc<str> {
        Arc::clone(&self.lock().hosts[host.0 as usize].name)
    }

    /// Somebody on the host looks at its wall clock: how far ahead is it?
    pub(crate) fn clock_skew(&self, host: HostId) -> i64 {
        let mut state = self.lock();
        let host = &mut state.hosts[host.0 as usize];
        host.misled += u64::from(host.clock_skew != 0);
        host.clock_skew
    }

    pub(crate) fn random(&self, host: HostId) -> u64 {
        self.lock().hosts[host.0 as usize].random.u64(..)
    }

    pub(crate) fn fork_random(&self, host: HostId) -> fastrand::Rng {
        self.lock().hosts[host.0 as usize].random.fork()
    }

    pub(crate) fn resolve(&self, host: HostId, name: &str) -> crate::names::Answer {
        let mut state = self.lock();
        let State { names, random, .. } = &mut *state;
        names.look_up(host, name, random)
    }

    pub(crate) fn record(&self, event: Event) {
        let now = self.elapsed();
        self.lock().trace.event(now, event);
    }

    pub(crate) fn record_poll(&self, now: Duration, task: TaskId) {
        self.lock().trace.polled(now, task.0);
    }

    pub(crate) fn record_spawn(&self, host: HostId, name: &'static str) {
        self.record(Event::Spawned { host, name });
    }

    /// The first failure counts.
    pub(crate) fn fail(&self, failure: Failure) {
        self.lock().failure.get_or_insert(failure);
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.lock().failure.take()
    }

    pub(crate) fn finish(&self) -> Ended {
        let state = self.lock();
        let names: Vec<Arc<str>> = state.hosts.iter().map(|host| Arc::clone(&host.name)).collect();
        Ended {
            hash: state.trace.hash(),
            events: state.trace.count(),
            last: state.trace.last(&names),
            everything: state.trace.everything(&names),
            elapsed: self.elapsed(),
        }
    }
}

/// For five centuries.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// What is left of a world.
pub(crate) struct Ended {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) last: Vec<String>,
    pub(crate) everything: Vec<String>,
    pub(crate) elapsed: Duration,
}

/// The world of one run. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Rc<Tasks>,
    shutdown: Rc<Shutdown>,
    random: Rc<RefCell<fastrand::Rng>>,
    seed: u64,
}

#[derive(Default)]
struct Shutdown {
    begun: RefCell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl World {
    /// Must be called within tokio's runtime, for its clock.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let shared = Arc::new(Shared::new(seed, trace));
        let random = shared.lock().random.fork();
        let world = Self {
            shared,
            tasks: Rc::default(),
            shutdown: Rc::default(),
            random: Rc::new(RefCell::new(random)),
            seed,
        };
        let test = world.host("test");
        debug_assert_eq!(test.id, TEST);
        world
    }

    /// From now on, each history that is checked is written into this folder first.
    pub(crate) fn keep_histories(&self, folder: &Path) {
        self.shared.lock().histories = Some(folder.to_owned());
    }

    pub(crate) fn histories(&self) -> Option<PathBuf> {
        self.shared.lock().histories.clone()
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Virtual time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.elapsed()
    }

    /// A source of randomness for the scenario: the same numbers in each run of the seed.
    #[must_use]
    pub fn random(&self) -> fastrand::Rng {
        self.random.borrow_mut().fork()
    }

    /// The host of that name; it exists from the first mention on. Its name resolves to its address.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        let mut state = self.shared.lock();
        let known = state.hosts.iter().position(|host| &*host.name == name);
        let index = known.unwrap_or_else(|| {
            let random = state.random.fork();
            let name: Arc<str> = name.into();
            let (generation, running, frozen, clock_skew, misled) = (0, true, false, 0, 0);
            state.hosts.push(HostState { name, generation, running, frozen, random, clock_skew, misled });
            state.hosts.len() - 1
        });
        let id = HostId(index as u32);
        if known.is_none() {
            state.names.set(name, [net::address(id)]);
        }
        drop(state);
        Host { world: self.clone(), id }
    }

    /// The network between the hosts.
    #[must_use]
    pub fn network(&self) -> Network<'_> {
        Network { world: self }
    }

    /// Runs a future on a host (see [`Host::spawn`]).
    pub fn spawn<T: 'static>(&self, host: &str, future: impl Future<Output = T> + 'static) -> Running<T> {
        self.host(host).spawn("spawned", future)
    }

    /// Waits until `condition` holds, at most ten minutes of virtual time. It is looked at whenever everything that
    /// could run has run.
    ///
    /// A condition that does not come true fails the run; `what` is what the report says was expected.
    pub async fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        self.until_within(PATIENCE, what, condition).await;
    }

    /// [`World::until`] with a bound in virtual time of its own.
    pub async fn until_within(&self, bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut bound_reached = std::pin::pin!(sleep(bound));
        let met = poll_fn(|cx| {
            if condition() {
                return Poll::Ready(true);
            }
            self.tasks.when_idle(cx.waker());
            bound_reached.as_mut().poll(cx).map(|()| false)
        });
        if !met.await {
            self.throw(format!("{what}, within {bound:?}"), "it is still not so".to_owned());
        }
    }

    /// Waits until no task and no socket of a host is left: what [`until`](Self::until) does.
    pub async fn until_nothing_is_left_of(&self, host: &Host) {
        let left = || host.tasks() + host.sockets() == 0;
        self.until(&format!("no task and no socket of {} is left", host.name()), left).await;
    }

    /// Fails the run unless `holds`. `expected` and `happened` are for a person to read.
    pub fn expect(&self, holds: bool, expected: &str, happened: impl FnOnce() -> String) {
        if !holds {
            self.throw(expected.to_owned(), happened());
        }
    }

    fn throw(&self, expected: String, happened: String) {
        let failure = Failure { at: self.elapsed(), expected, happened: Happened::Unmet(happened) };
        // Not `panic!`: the panic hook would print, and nothing has panicked.
        std::panic::resume_unwind(Box::new(Thrown(failure)));
    }

    /// Writes a line into the trace.
    pub fn note(&self, text: impl Into<String>) {
        self.shared.record(Event::Note(text.into().into()));
    }

    /// Ready as soon as somebody asks the applications of this world to stop ([`Running::shut_down`]).
    pub fn shutdown(&self) -> impl Future<Output = ()> + use<> {
        let shutdown = Rc::clone(&self.shutdown);
        poll_fn(move |cx| {
            if *shutdown.begun.borrow() {
                return Poll::Ready(());
            }
            shutdown.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn begin_shutdown(&self) {
        *self.shutdown.begun.borrow_mut() = true;
        self.shutdown.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("elapsed", &self.elapsed()).finish()
    }
}

/// A machine with one process. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    world: World,
    pub(crate) id: HostId,
}

impl Host {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.world.shared.host_name(self.id)
    }

    /// The seam through which a client of this host touches the world. It belongs to the present incarnation: after a
    /// crash it spawns nothing and connects nowhere.
    #[must_use]
    pub fn env(&self) -> SimEnv {
        SimEnv::new(Arc::clone(&self.world.shared), self.id, self.generation())
    }

    /// Runs a future on this host: it stands still while the host is frozen, and is dropped when it crashes.
    pub fn spawn<T: 'static>(
        &self,
        name: &'static str,
        future: impl Future<Output = T> + 'static,
    ) -> Running<T> {
        let slot: Rc<RefCell<Slot<T>>> = Rc::default();
        let outcome = Outcome(Rc::clone(&slot));
        let future = async move {
            let value = future.await;
            outcome.0.borrow_mut().value = Some(value);
        };
        let (host, generation) = (self.id, self.generation());
        self.world.tasks.spawn(NewTask { host, generation, name, future: Box::pin(future) });
        Running { host: self.clone(), slot }
    }

    /// Listens on a port.
    ///
    /// # Errors
    /// When something of this host already does.
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        Listener::bind(Arc::clone(&self.world.shared), self.id, self.generation(), port)
    }

    /// Where a port of this host is.
    #[must_use]
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(net::address(self.id), port)
    }

    /// SIGSTOP: no task of this host runs until [`Host::thaw`]. Its kernel goes on: connections stay up, bytes arrive
    /// until windows are full, and new connections are established.
    pub fn freeze(&self) {
        self.must_not_be_the_test("frozen");
        let mut state = self.world.shared.lock();
        if !std::mem::replace(&mut state.hosts[self.id.0 as usize].frozen, true) {
            drop(state);
            self.world.shared.record(Event::Frozen { host: self.id });
        }
    }

    /// SIGCONT. Time has gone on meanwhile.
    pub fn thaw(&self) {
        let mut state = self.world.shared.lock();
        if std::mem::replace(&mut state.hosts[self.id.0 as usize].frozen, false) {
            drop(state);
            self.world.shared.record(Event::Thawed { host: self.id });
            self.world.tasks.thaw(self.id, &self.world.shared.ready);
        }
    }

    /// Freezes the host for so long, and waits for it.
    pub async fn pause_for(&self, duration: Duration) {
        self.freeze();
        sleep(duration).await;
        self.thaw();
    }

    /// `kill -9`: the process is gone at once, without running anything; the kernel closes its sockets.
    pub fn crash(&self) {
        self.die(false);
    }

    /// The machine loses power: the process is gone, and nobody is told. Peers are half open until they write to the
    /// host after it came back.
    pub fn lose_power(&self) {
        self.die(true);
    }

    fn die(&self, power_lost: bool) {
        self.must_not_be_the_test("crashed");
        {
            let mut state = self.world.shared.lock();
            let host = &mut state.hosts[self.id.0 as usize];
            host.generation += 1;
            host.running = false;
            host.frozen = false;
        }
        self.world.shared.record(Event::Crashed { host: self.id, power_lost });
        self.world.shared.with_net(|net, now, _| net.crash(now, self.id, power_lost));
        self.world.tasks.drop_all(self.id);
    }

    /// A new incarnation, after a crash. Nothing runs on it yet.
    pub fn start(&self) {
        let mut state = self.world.shared.lock();
        if std::mem::replace(&mut state.hosts[self.id.0 as usize].running, true) {
            return;
        }
        drop(state);
        self.world.shared.record(Event::Started { host: self.id });
        self.world.shared.with_net(|net, now, _| net.start(now, self.id));
    }

    /// Whether the host's process may run: it was not crashed, or started again.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.world.shared.lock().hosts[self.id.0 as usize].running
    }

    /// Sets the wall clock so many seconds ahead of (or, negative, behind) the world's. Timers do not notice.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.world.shared.lock().hosts[self.id.0 as usize].clock_skew = seconds;
    }

    /// How often this host looked at its wall clock while that stood wrong.
    pub(crate) fn misled(&self) -> u64 {
        self.world.shared.lock().hosts[self.id.0 as usize].misled
    }

    /// Whether a task of this host would run, were it not frozen.
    pub(crate) fn is_held_up(&self) -> bool {
        self.world.tasks.is_held_up(self.id)
    }

    /// How many tasks of this host are alive.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.world.tasks.alive(self.id)
    }

    /// How many sockets this host has open.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.world.shared.with_net(|net, _, _| net.sockets(self.id))
    }

    /// How many connections this host has begun to open, since the world began.
    #[must_use]
    pub fn dials(&self) -> u64 {
        self.world.shared.with_net(|net, _, _| net.dials(self.id))
    }

    pub(crate) fn generation(&self) -> u32 {
        self.world.shared.lock().hosts[self.id.0 as usize].generation
    }

    fn must_not_be_the_test(&self, verb: &str) {
        assert!(self.id != TEST, "the scenario runs on host \"test\", which cannot be {verb}");
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name()).finish()
    }
}

struct Slot<T> {
    value: Option<T>,
    ended: bool,
    waiting: Option<Waker>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: None, ended: false, waiting: None }
    }
}

/// Tells the [`Running`] that its future has ended, also when it was dropped by a crash.
struct Outcome<T>(Rc<RefCell<Slot<T>>>);

impl<T> Drop for Outcome<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut slot = self.0.borrow_mut();
            slot.ended = true;
            slot.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// A future that runs on a host. Dropping this does not stop it.
#[must_use = "without it nobody learns how the future ended; `drop` says that this is meant"]
pub struct Running<T> {
    host: Host,
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Running<T> {
    /// The host it runs on: to be frozen or crashed.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it has ended, by itself or by a crash.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.slot.borrow().ended
    }

    /// Asks every application of the world to stop ([`World::shutdown`]) and waits for this one.
    pub async fn shut_down(self) -> T {
        self.host.world.begin_shutdown();
        self.finished().await
    }

    /// Waits for the future's value. A crash of its host fails the run; see [`Running::outcome`].
    pub async fn finished(self) -> T {
        let host = self.host.clone();
        match self.outcome().await {
            Some(value) => value,
            None => {
                let expected = format!("what runs on {} to end", host.name());
                let happened = Happened::Unmet("its host crashed".to_owned());
                let failure = Failure { at: host.world.elapsed(), expected, happened };
                std::panic::resume_unwind(Box::new(Thrown(failure)))
            }
        }
    }

    /// Waits for the future's end: its value, or `None` if its host crashed.
    pub async fn outcome(self) -> Option<T> {
        poll_fn(|cx| {
            let mut slot = self.slot.borrow_mut();
            if slot.ended {
                return Poll::Ready(slot.value.take());
            }
            slot.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("host", &self.host).field("ended", &self.has_ended()).finish()
    }
}

/// The network of a world: how packets travel, and the resolver's answers.
#[derive(Debug)]
pub struct Network<'a> {
    world: &'a World,
}

impl Network<'_> {
    /// How packets travel wherever a link has no conditions of its own.
    pub fn everywhere(&self, conditions: Conditions) {
        self.world.shared.with_net(|net, _, _| net.links_set_everywhere(conditions));
    }

    /// How packets travel from `from` to `to`, in this direction only; `None`: as everywhere.
    pub fn set(&self, from: &Host, to: &Host, conditions: impl Into<Option<Conditions>>) {
        self.world.shared.with_net(|net, _, _| net.set_link(from.id, to.id, conditions.into()));
    }

    /// Packets from `from` to `to` vanish, in this direction only, until [`Network::unblock`]. Nobody is told.
    pub fn block(&self, from: &Host, to: &Host) {
        self.world.shared.with_net(|net, now, trace| net.set_blocked(now, from.id, to.id, true, trace));
    }

    /// Packets arrive again; what vanished is sent again as TCP does.
    pub fn unblock(&self, from: &Host, to: &Host) {
        self.world.shared.with_net(|net, now, trace| net.set_blocked(now, from.id, to.id, false, trace));
    }

    /// Breaks every connection between two hosts, now.
    pub fn reset(&self, one: &Host, other: &Host) {
        self.reset_all(one, other);
    }

    /// [`Network::reset`]. Gives how many there were.
    pub(crate) fn reset_all(&self, one: &Host, other: &Host) -> usize {
        self.world.shared.with_net(|net, now, trace| net.reset_between(now, one.id, other.id, trace))
    }

    /// What faults have done so far to what `from` sent to `to`.
    pub(crate) fn toll(&self, from: &Host, to: &Host) -> Toll {
        self.world.shared.with_net(|net, _, _| net.toll(from.id, to.id))
    }

    /// What [`Network::everywhere`] has done so far.
    pub(crate) fn toll_everywhere(&self) -> Toll {
        self.world.shared.with_net(|net, _, _| net.toll_everywhere())
    }

    /// What faults have done so far to those who looked a name up.
    pub(crate) fn troubled(&self, name: &str) -> Troubled {
        self.world.shared.lock().names.troubled(name)
    }

    /// Behind so many bytes from `from` to `to` the connection that they belong to ends, once; `None` takes it back.
    pub fn end_after(&self, from: &Host, to: &Host, ends_after: Option<(usize, Ending)>) {
        self.world.shared.with_net(|net, _, _| net.set_ending(from.id, to.id, ends_after));
    }

    /// What the resolver answers for `name`, in this order; nothing: that it does not exist.
    pub fn set_name(&self, name: &str, hosts: &[&Host]) {
        let addresses = hosts.iter().map(|host| net::address(host.id));
        self.world.shared.lock().names.set(name, addresses);
    }

    /// How long the resolver takes for `name`.
    pub fn delay_name(&self, name: &str, delay: Duration) {
        self.world.shared.lock().names.delay(name, delay);
    }
}

impl World {
    /// Drops everything that still runs, in the order of spawning, within tokio's runtime.
    pub(crate) fn end(&self) {
        let hosts = self.shared.lock().hosts.len();
        for index in 0..hosts {
            self.shared.lock().hosts[index].running = false;
            self.tasks.drop_all(HostId(index as u32));
        }
        drop(self.shared.take_spawned());
        self.tasks.drop_new();
    }
}
