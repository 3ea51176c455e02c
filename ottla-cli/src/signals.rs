//! SIGTERM and Ctrl-C.

use std::io;

use tokio::sync::oneshot;

use crate::output::say;

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
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
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
    pub(crate) fn new() -> io::Result<Self> {
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
    /// that does not read.
    #[expect(clippy::disallowed_methods, reason = "a command is a driver: the runtime is its own")]
    pub(crate) fn stop(mut self) -> Stop {
        let (ask, asked) = oneshot::channel();
        tokio::spawn(async move {
            self.recv().await;
            drop(ask);
            self.recv().await;
            say("ottla: stopped at once; what was not committed yet will come again");
            std::process::exit(1);
        });
        Stop(asked)
    }
}

/// Whether somebody asked to stop.
pub(crate) struct Stop(oneshot::Receiver<()>);

impl Stop {
    /// Waits until somebody asks to stop. Cancel safe; may be awaited until it is ready, not longer.
    pub(crate) async fn asked(&mut self) {
        // The sender says nothing: that it is gone is the message.
        drop((&mut self.0).await);
    }
}
