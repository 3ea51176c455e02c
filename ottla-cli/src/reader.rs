//! Whether somebody reads stdout.

/// Waits until nobody reads stdout any more, as behind `| head` that has seen enough: whoever has nothing to write would
/// not notice. For ever where nobody can go away (a file), or where it cannot be told (no Unix). Cancel safe.
#[cfg(unix)]
pub(crate) async fn gone() {
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that sleeps to the end of the process. To have the runtime watch the pipe it would have to be made one that
    // does not block, which others would notice who have it too.
    let thread = std::thread::Builder::new().name("reader".to_owned());
    let started = thread.spawn(move || {
        if wait_until_unread() {
            // Nobody listens any more: then nobody wants to know.
            tell.send(()).ok();
        }
    });
    if started.is_err() || told.await.is_err() {
        std::future::pending().await
    }
}

/// Whether that is how it ended.
#[cfg(unix)]
fn wait_until_unread() -> bool {
    use std::{io, os::fd::AsFd};

    use nix::{
        errno::Errno,
        poll::{PollFd, PollFlags, PollTimeout, poll},
    };

    let stdout = io::stdout();
    // Asked for nothing, it tells what it always does: that the other side is gone.
    let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    while poll(&mut watched, PollTimeout::NONE) == Err(Errno::EINTR) {}
    let [stdout] = watched;
    stdout.revents().is_some_and(|seen| seen.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
}

/// Not told here: the next write fails.
#[cfg(not(unix))]
pub(crate) async fn gone() {
    std::future::pending().await
}
