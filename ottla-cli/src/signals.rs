//! SIGTERM and Ctrl-C.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    output::{Failure, say},
    reader,
};

/// What comes sooner after the first signal is the same one again: `timeout` sends its signal to the program, and to the
/// program's process group.
const SECOND_SIGNAL: Duration = Duration::from_millis(200);

/// What ends a program that runs until it is told to stop.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    /// Heeds signals from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let heed = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot heed signals: {error}")));
        Ok(Self { terminate: heed(SignalKind::terminate())?, interrupt: heed(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    /// Waits for SIGTERM or Ctrl-C. Cancel safe.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    /// Heeds signals from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    /// Waits for SIGTERM or Ctrl-C. Cancel safe.
    pub(crate) async fn recv(&mut self) {
        // Without a console there is no Ctrl-C, and then only the end of the process ends it.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Signals {
    /// The first signal asks to stop. A second one ends the program at once, also while it is stuck at a reader of stdout
    /// that does not read; `last_words` say what that leaves behind.
    #[expect(clippy::disallowed_methods, reason = "a command is a driver: the runtime is its own")]
    pub(crate) fn stop(mut self, last_words: &'static str) -> Stop {
        let (ask, asked) = oneshot::channel();
        tokio::spawn(async move {
            self.recv().await;
            drop(ask);
            let asked = Instant::now();
            self.recv().await;
            while asked.elapsed() < SECOND_SIGNAL {
                self.recv().await;
            }
            say(format_args!("ottla: stopped at once; {last_words}"));
            std::process::exit(1);
        });
        Stop { asked, unread: std::future::pending().boxed() }
    }
}

/// Whether there is a reason to stop.
pub(crate) struct Stop {
    asked: oneshot::Receiver<()>,
    unread: BoxFuture<'static, ()>,
}

impl Stop {
    /// That nobody reads stdout any more is a reason, too.
    pub(crate) fn or_when_unread(self) -> Self {
        Self { unread: reader::gone().boxed(), ..self }
    }

    /// Waits until somebody asks to stop. Cancel safe; may be awaited until it is ready, not longer.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            biased;
            // The sender says nothing: that it is gone is the message.
            _ = &mut self.asked => {}
            () = &mut self.unread => {}
        }
    }
}
