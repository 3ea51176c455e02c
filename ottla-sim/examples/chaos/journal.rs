//! Where everybody tells what they do: a file, and what must be known of it while the run goes on.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ottla_sim::history::{
    event::{Actor, Event, Failed, Outcome, What},
    jsonl::Writer,
};
use tokio::{sync::Notify, time::timeout};

use super::Result;

/// A history of more events, half a gigabyte, is that of a loop without end.
const MOST_EVENTS: usize = 4_000_000;

/// Cheap to clone: clones share it.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Shared>);

struct Shared {
    /// By the clock that dates the brokers' commits.
    began: SystemTime,
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    file: Writer<BufWriter<File>>,
    failed: Option<io::Error>,
    events: usize,
    /// What a process does after its crash did not happen.
    dead: BTreeSet<Actor>,
    seen: Seen,
}

/// What was told so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) acknowledged: usize,
    pub(crate) processed: BTreeSet<(i32, i64)>,
}

#[expect(clippy::disallowed_methods, reason = "real time, as the brokers have it")]
fn now() -> SystemTime {
    SystemTime::now()
}

impl Journal {
    pub(crate) fn create(file: &Path) -> io::Result<Self> {
        let file = Writer::new(BufWriter::new(File::create(file)?));
        let inner = Inner { file, failed: None, events: 0, dead: BTreeSet::new(), seen: Seen::default() };
        Ok(Self(Arc::new(Shared { began: now(), inner: Mutex::new(inner), changed: Notify::new() })))
    }

    pub(crate) fn began(&self) -> SystemTime {
        self.0.began
    }

    /// A panic of any task is an event.
    pub(crate) fn tell_panics(&self) {
        let (journal, usual) = (self.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            journal.observe(What::Panic(panic.to_string()));
        }));
    }

    pub(crate) fn ok(&self, actor: Actor, what: What) {
        self.tell(actor, Outcome::Ok, what, None);
    }

    /// Something that is seen or done from outside.
    pub(crate) fn observe(&self, what: What) {
        if let What::Fault(text) = &what {
            println!("{:7.1} s  {text}", self.elapsed().as_secs_f64());
        }
        let outcome = if matches!(what, What::Log(_)) { Outcome::Ok } else { Outcome::Info };
        self.tell(Actor::OBSERVER, outcome, what, None);
    }

    pub(crate) fn tell(&self, actor: Actor, outcome: Outcome, what: What, error: Option<Failed>) {
        let mut inner = self.lock();
        if inner.dead.contains(&actor) {
            return;
        }
        match (&what, outcome) {
            (What::Send(_), Outcome::Ok) => inner.seen.acknowledged += 1,
            (What::Process(records), _) => {
                let places = records.iter().filter_map(|at| Some((at.partition.partition(), at.offset?)));
                inner.seen.processed.extend(places);
            }
            (What::Crash, _) => drop(inner.dead.insert(actor)),
            _ => {}
        }
        let at = self.elapsed();
        inner.write(&Event { at, actor, outcome, what, error });
        drop(inner);
        self.0.changed.notify_waiters();
    }

    /// An event that has its time already.
    pub(crate) fn write(&self, event: &Event) {
        self.lock().write(event);
    }

    pub(crate) fn seen<T>(&self, look: impl Fn(&Seen) -> T) -> T {
        look(&self.lock().seen)
    }

    /// Waits until what was told is so.
    pub(crate) async fn until(
        &self,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<()> {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.0.changed.notified());
                changed.as_mut().enable();
                if self.seen(&is_so) {
                    return;
                }
                changed.await;
            }
        };
        let late = |_| format!("still not so after {} s: {what}", limit.as_secs());
        Ok(timeout(limit, waiting).await.map_err(late)?)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.failed.take() {
            Some(error) => Err(error),
            None => inner.file.flush(),
        }
    }

    fn elapsed(&self) -> Duration {
        now().duration_since(self.0.began).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic is an event of its own, and the file is whole.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, event: &Event) {
        self.events += 1;
        let written = match self.events {
            ..=MOST_EVENTS => self.file.write(event),
            _ => Err(io::Error::other(format!("the history has more than {MOST_EVENTS} events"))),
        };
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }
}
