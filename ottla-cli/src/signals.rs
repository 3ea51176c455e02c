//! SIGTERM and Ctrl-C.

use std::io;

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
