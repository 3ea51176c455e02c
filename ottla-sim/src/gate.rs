//! The executor: every task of every host is polled here, behind its host's gate.
//!
//! ```text
//!             woken                         gate open
//!   waiting ────────> ready ──(drawn)──> ┬───────────> polled ──> waiting │ done
//!                       ^                │ host frozen
//!                       └──── thawed ──── stopped
//!   crash of the host: the task is dropped wherever it is, in the order of spawning
//! ```
//!
//! Owning the executor, instead of wrapping tasks of tokio's, is what makes a run repeatable: the order of polls
//! comes from the seed (and so explores schedules), a crash drops tasks in the order in which they were spawned,
//! and a panic in any task is seen. tokio is still there, for its clock: the executor is the one future that its
//! runtime blocks on, and when no task is ready, tokio advances its paused clock to the next timer.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::{
    failure::{Failure, Happened},
    world::{HostId, Shared},
};

/// Polls per turn of tokio's runtime. They share tokio's co-operation budget, so that tasks are also made to yield
/// at points that they do not expect.
const POLLS_PER_TURN: usize = 8;

/// Polls at one instant of virtual time after which the run counts as stuck.
const POLLS_PER_INSTANT: u64 = 500_000;

/// One poll in this many is given to a task other than the one that waits longest.
const PERTURBED: u64 = 5;

/// The task that runs the scenario itself. It has no gate.
pub(crate) const SCENARIO: TaskId = TaskId(0);

/// A task, numbered in the order of spawning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u64);

/// A task that waits to be taken in by the executor.
pub(crate) struct NewTask<F: ?Sized = dyn Future<Output = ()>> {
    pub(crate) host: HostId,
    /// The host's incarnation that spawned it; stale ones are dropped.
    pub(crate) generation: u32,
    pub(crate) name: &'static str,
    pub(crate) future: Pin<Box<F>>,
}

/// [`NewTask`] from code that must be `Send`, such as the client's.
pub(crate) type NewSendTask = NewTask<dyn Future<Output = ()> + Send>;

struct Task {
    host: HostId,
    name: &'static str,
    waker: Arc<TaskWaker>,
    /// Taken out while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// The tasks of a world. Only its own thread touches them.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    spawned: RefCell<Vec<NewTask>>,
    /// Ready tasks of frozen hosts.
    stopped: RefCell<Vec<(HostId, TaskId)>>,
    /// Conditions that want to be looked at again after something ran.
    watching: RefCell<Vec<Waker>>,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: NewTask) {
        self.spawned.borrow_mut().push(task);
    }

    /// Wakes `waker` when everything that could run has run, and before time goes on.
    pub(crate) fn when_idle(&self, waker: &Waker) {
        let mut watching = self.watching.borrow_mut();
        if !watching.iter().any(|known| known.will_wake(waker)) {
            watching.push(waker.clone());
        }
    }

    /// How many tasks of a host are alive.
    pub(crate) fn alive(&self, host: HostId) -> usize {
        self.tasks.borrow().values().filter(|task| task.host == host).count()
    }

    /// Whether a task of a frozen host would run by now.
    pub(crate) fn is_held_up(&self, host: HostId) -> bool {
        self.stopped.borrow().iter().any(|(of, _)| *of == host)
    }

    /// Drops every task of `host` in the order of spawning.
    pub(crate) fn drop_all(&self, host: HostId) {
        let of_host = |(id, task): (&TaskId, &Task)| (task.host == host).then_some(*id);
        let ids: Vec<TaskId> = self.tasks.borrow().iter().filter_map(of_host).collect();
        for id in ids {
            // The borrow ends before the drop, which may run any code (and spawn, and wake).
            let task = self.tasks.borrow_mut().remove(&id);
            drop(task);
        }
        self.stopped.borrow_mut().retain(|(stopped, _)| *stopped != host);
    }

    /// Drops what was never taken in, and forgets who watches.
    pub(crate) fn drop_new(&self) {
        drop(self.spawned.take());
        drop(self.watching.take());
    }

    /// Makes the stopped tasks of `host` ready, in the order in which they were stopped.
    pub(crate) fn thaw(&self, host: HostId, ready: &Arc<Ready>) {
        let stopped = std::mem::take(&mut *self.stopped.borrow_mut());
        let (thawed, still): (Vec<_>, Vec<_>) = stopped.into_iter().partition(|(of, _)| *of == host);
        *self.stopped.borrow_mut() = still;
        for (_, id) in thawed {
            ready.push(id);
        }
    }
}

/// The queue of tasks that were woken.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    tasks: VecDeque<TaskId>,
    /// How to tell tokio that there is something to do; absent while the executor runs anyway.
    runtime: Option<Waker>,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: TaskId) {
        let runtime = {
            let mut queue = self.lock();
            queue.tasks.push_back(task);
            queue.runtime.take()
        };
        if let Some(runtime) = runtime {
            runtime.wake();
        }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> Option<TaskId> {
        let mut queue = self.lock();
        let waiting = queue.tasks.len();
        if waiting > 1 && random.u64(..PERTURBED) == 0 {
            return queue.tasks.remove(random.usize(..waiting));
        }
        queue.tasks.pop_front()
    }
}

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.id);
        }
    }
}

/// Runs a scenario and all tasks of its world until the scenario returns or the run fails.
pub(crate) struct Executor<'a> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Rc<Tasks>,
    scenario: Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>,
    scenario_waker: Arc<TaskWaker>,
    random: fastrand::Rng,
    next_id: u64,
    network: Pin<Box<Sleep>>,
    limit: Pin<Box<Sleep>>,
    longest: Duration,
    instant: Duration,
    polls: u64,
    /// Polls since conditions were last looked at, and how many tasks looked then.
    ran: usize,
    looked: usize,
}

impl<'a> Executor<'a> {
    /// `longest` bounds the run in virtual time. Must be called within tokio's runtime.
    pub(crate) fn new(
        shared: Arc<Shared>,
        tasks: Rc<Tasks>,
        random: fastrand::Rng,
        longest: Duration,
        scenario: Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>,
    ) -> Self {
        let ready = Arc::clone(&shared.ready);
        let scenario_waker = Arc::new(TaskWaker { id: SCENARIO, queued: AtomicBool::new(true), ready });
        shared.ready.push(SCENARIO);
        Self {
            shared,
            tasks,
            scenario,
            scenario_waker,
            random,
            next_id: 1,
            network: Box::pin(tokio::time::sleep(longest)),
            limit: Box::pin(tokio::time::sleep(longest)),
            longest,
            instant: Duration::ZERO,
            polls: 0,
            ran: 0,
            looked: 0,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.shared.ready.lock().runtime = None;
        self.shared.look_at_clock();
        for _ in 0..POLLS_PER_TURN {
            self.shared.carry_packets();
            self.take_in();
            let Some(id) = self.next_task() else {
                return self.idle(cx);
            };
            self.ran += 1;
            if let Err(failure) = self.count_poll(id) {
                return Poll::Ready(Err(failure));
            }
            if id == SCENARIO {
                if let Poll::Ready(outcome) = self.poll_scenario() {
                    return Poll::Ready(outcome);
                }
            } else {
                self.poll_task(id);
            }
            if let Some(failure) = self.shared.take_failure() {
                return Poll::Ready(Err(failure));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes in what was spawned, in the order of spawning.
    fn take_in(&mut self) {
        loop {
            let spawned = std::mem::take(&mut *self.tasks.spawned.borrow_mut());
            let sent = self.shared.take_spawned();
            if spawned.is_empty() && sent.is_empty() {
                return;
            }
            let sent = sent.into_iter().map(|NewTask { host, generation, name, future }| NewTask {
                host,
                generation,
                name,
                future: future as Pin<Box<dyn Future<Output = ()>>>,
            });
            for task in spawned.into_iter().chain(sent) {
                self.insert(task);
            }
        }
    }

    fn insert(&mut self, task: NewTask) {
        if !self.shared.is_current(task.host, task.generation) {
            return;
        }
        let id = TaskId(self.next_id);
        self.next_id += 1;
        self.shared.record_spawn(task.host, task.name);
        let ready = Arc::clone(&self.shared.ready);
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(true), ready });
        let entry = Task { host: task.host, name: task.name, waker, future: Some(task.future) };
        self.tasks.tasks.borrow_mut().insert(id, entry);
        self.shared.ready.push(id);
    }

    /// The next ready task whose gate is open.
    fn next_task(&mut self) -> Option<TaskId> {
        loop {
            let id = self.shared.ready.draw(&mut self.random)?;
            if id == SCENARIO {
                return Some(id);
            }
            let Some(host) = self.tasks.tasks.borrow().get(&id).map(|task| task.host) else {
                continue; // finished or crashed while it was queued
            };
            if !self.shared.is_frozen(host) {
                return Some(id);
            }
            self.tasks.stopped.borrow_mut().push((host, id));
        }
    }

    fn poll_scenario(&mut self) -> Poll<Result<(), Failure>> {
        self.scenario_waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.scenario_waker));
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| self.scenario.as_mut().poll(&mut cx))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(Failure::from_panic(self.shared.elapsed(), "the scenario", panic))),
        }
    }

    fn poll_task(&mut self, id: TaskId) {
        let taken = self.tasks.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            let future = task.future.take()?;
            Some((future, Arc::clone(&task.waker), task.name, task.host))
        });
        let Some((mut future, waker, name, host)) = taken else { return };
        waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(waker);
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {
                // Gone when the task crashed its own host: then the future is dropped here.
                if let Some(task) = self.tasks.tasks.borrow_mut().get_mut(&id) {
                    task.future = Some(future);
                    return;
                }
                self.drop_caught(host, name, future);
            }
            Ok(Poll::Ready(())) => {
                self.tasks.tasks.borrow_mut().remove(&id);
                self.drop_caught(host, name, future);
            }
            Err(panic) => {
                self.tasks.tasks.borrow_mut().remove(&id);
                self.fail(host, name, panic);
            }
        }
    }

    fn drop_caught(&self, host: HostId, name: &str, future: Pin<Box<dyn Future<Output = ()>>>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.fail(host, name, panic);
        }
    }

    fn fail(&self, host: HostId, name: &str, panic: Box<dyn Any + Send>) {
        let place = format!("task {name} of {}", self.shared.host_name(host));
        self.shared.fail(Failure::from_panic(self.shared.elapsed(), &place, panic));
    }

    fn count_poll(&mut self, id: TaskId) -> Result<(), Failure> {
        let now = self.shared.elapsed();
        self.shared.record_poll(now, id);
        if now != self.instant {
            self.instant = now;
            self.polls = 0;
        }
        self.polls += 1;
        if self.polls <= POLLS_PER_INSTANT {
            return Ok(());
        }
        let (name, host) = match self.tasks.tasks.borrow().get(&id) {
            Some(task) => (task.name, self.shared.host_name(task.host)),
            None => ("the scenario", "the test".into()),
        };
        let expected = "time to go on".to_owned();
        let happened =
            format!("{POLLS_PER_INSTANT} polls at one instant, the last one of task {name} of {host}");
        Err(Failure { at: now, expected, happened: Happened::Stuck(happened) })
    }

    /// Sets the timer for what the network delivers next.
    fn wait_for_packets(&mut self, cx: &mut Context<'_>) {
        let next = self.shared.next_packet();
        let at = next.map_or(self.limit.deadline(), |next| self.shared.started + next);
        if self.network.deadline() != at {
            self.network.as_mut().reset(at);
        }
        if self.network.as_mut().poll(cx).is_ready() {
            // Due now; or tokio's co-operation budget answered for it, and wakes this future at once.
            cx.waker().wake_by_ref();
        }
    }

    /// Nothing is ready: lets conditions be looked at, else lets time go on.
    fn idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // Those that looked last time were polled for it: only what ran besides can have changed anything.
        if std::mem::take(&mut self.ran) > std::mem::take(&mut self.looked) {
            let watching = self.tasks.watching.take();
            self.looked = watching.len();
            if self.looked > 0 {
                watching.into_iter().for_each(Waker::wake);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.wait_for_packets(cx);
        if self.limit.as_mut().poll(cx).is_ready() && Instant::now() >= self.limit.deadline() {
            let expected = format!("the scenario to end within {:?} of virtual time", self.longest);
            let happened = Happened::Unmet("it still runs".to_owned());
            return Poll::Ready(Err(Failure { at: self.shared.elapsed(), expected, happened }));
        }
        self.shared.ready.lock().runtime = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Future for Executor<'_> {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.turn(cx)
    }
}
