//! Where a node's disk requests are carried out.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{self as blocking, RecvTimeoutError},
    thread,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::runner::Event;
use crate::{
    disk::{Disk, FileDisk, MemoryDisk, Patience},
    io::{DiskRequest, DiskResult, DiskToken, FileId, Input},
};

/// The disk of one running machine.
///
/// Files have a thread of their own per node: requests to a disk are carried out in order, so that a pool could only
/// add hand-overs, and a disk that hangs takes no thread away from the network or from other nodes. Memory is served
/// in place.
pub(super) enum DiskWorker {
    Memory(MemoryDisk),
    Files { requests: blocking::Sender<(DiskToken, DiskRequest)>, done: oneshot::Receiver<()> },
}

/// Reads what a machine needs to start.
pub(super) type Recover<T> = fn(&mut dyn Disk) -> io::Result<T>;

impl DiskWorker {
    /// A disk in memory, and what `recover` finds on it.
    pub(super) fn memory<T>(mut disk: MemoryDisk, recover: Recover<T>) -> io::Result<(Self, T)> {
        let recovered = recover(&mut disk)?;
        Ok((Self::Memory(disk), recovered))
    }

    /// Files with a thread of their own, where `recover` runs too: it reads all of them.
    pub(super) async fn files<T: Send + 'static>(
        name: String,
        mut disk: FileDisk,
        recover: Recover<T>,
        completions: mpsc::UnboundedSender<Event>,
    ) -> io::Result<(Self, T)> {
        let (requests, to_handle) = blocking::channel();
        let (report, recovered) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let work = move || {
            // Nobody waits for it when the start was given up, and then nobody sends a request either.
            drop(report.send(recover(&mut disk)));
            serve(&mut disk, &to_handle, &completions);
            disk.sync_all();
            // Files and lock are free before anybody is told so.
            drop(disk);
            drop(finished);
        };
        thread::Builder::new().name(name).spawn(work)?;
        let recovered = recovered.await.map_err(|_| io::Error::other("the disk's thread died"))??;
        Ok((Self::Files { requests, done }, recovered))
    }

    /// Carries out a request; its completion is returned, or comes as an event.
    pub(super) fn handle(&mut self, token: DiskToken, request: DiskRequest) -> Option<Input> {
        match self {
            Self::Memory(disk) => Some(Input::Disk(token, disk.handle(request))),
            Self::Files { requests, .. } => {
                // The thread ends only when this sender is dropped, or with a panic that it has reported.
                drop(requests.send((token, request)));
                None
            }
        }
    }

    /// Waits for what was asked for, and lets go of the files. A disk in memory is given back.
    pub(super) async fn close(self) -> Option<MemoryDisk> {
        match self {
            Self::Memory(disk) => Some(disk),
            Self::Files { requests, done } => {
                drop(requests);
                // Both a sent value and a dropped sender mean that the thread is through.
                drop(done.await);
                None
            }
        }
    }
}

/// Carries out requests until the machine is gone: at once when it crashed, after the last one when it was stopped. What
/// finds no room on the disk is tried again every now and then.
fn serve(
    disk: &mut impl Disk,
    requests: &blocking::Receiver<(DiskToken, DiskRequest)>,
    completions: &mpsc::UnboundedSender<Event>,
) {
    let mut complete = |token, result| {
        // The machine may have crashed in the meantime.
        drop(completions.send(Event::Input(Input::Disk(token, result))));
    };
    let mut patience = Patience::default();
    let mut tried = Instant::now();
    loop {
        let first = match patience.is_waiting() {
            false => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            true => requests.recv_timeout(Patience::RETRY),
        };
        if patience.is_waiting() && tried.elapsed() >= Patience::RETRY {
            patience.retry(disk, &mut complete);
            tried = Instant::now();
        }
        match first {
            Ok(_) if completions.is_closed() => {}
            Ok(first) => serve_batch(disk, &mut patience, first, requests, &mut complete),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// While one sync runs, more appends and syncs queue up; they then share the next one. A batch of requests is carried
/// out in order, but its syncs come last, together with the completions of what follows them.
fn serve_batch(
    disk: &mut impl Disk,
    patience: &mut Patience,
    first: (DiskToken, DiskRequest),
    requests: &blocking::Receiver<(DiskToken, DiskRequest)>,
    complete: &mut impl FnMut(DiskToken, DiskResult),
) {
    let mut held = Vec::new();
    let mut next = Some(first);
    while let Some((token, request)) = next {
        match request {
            // A sync behind an append that waits must wait with it.
            DiskRequest::Sync(file) if !patience.holds(&file) => held.push((token, Held::Sync(file))),
            request => patience.handle(disk, token, request, &mut |token, result| match held.is_empty() {
                true => complete(token, result),
                false => held.push((token, Held::Result(result))),
            }),
        }
        next = if held.len() < MAX_HELD { requests.try_recv().ok() } else { None };
    }
    let mut synced = BTreeMap::new();
    for (token, held) in held {
        let result = match held {
            Held::Result(result) => result,
            Held::Sync(file) => {
                let sync = |file: &FileId| disk.handle(DiskRequest::Sync(file.clone()));
                synced.entry(file).or_insert_with_key(sync).clone()
            }
        };
        complete(token, result);
    }
}

/// How many completions wait for one sync at most.
const MAX_HELD: usize = 128;

enum Held {
    Result(DiskResult),
    Sync(FileId),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::TopicId;

    use super::*;

    #[derive(Default)]
    struct Counting {
        disk: MemoryDisk,
        syncs: usize,
    }

    impl Disk for Counting {
        fn handle(&mut self, request: DiskRequest) -> DiskResult {
            self.syncs += usize::from(matches!(request, DiskRequest::Sync(_)));
            self.disk.handle(request)
        }

        fn logs(&self) -> io::Result<Vec<FileId>> {
            self.disk.logs()
        }
    }

    #[test]
    fn syncs_that_wait_together_are_one_and_completions_keep_their_order() {
        let (requests, to_handle) = blocking::channel();
        let (completions, mut completed) = mpsc::unbounded_channel();
        let logs = [0, 1].map(|partition| FileId::Log(TopicId::ZERO, partition));
        for n in 0..20 {
            let log = logs[n as usize % 2].clone();
            requests
                .send((DiskToken(2 * n), DiskRequest::Append(log.clone(), Bytes::from_static(b"x"))))
                .unwrap();
            requests.send((DiskToken(2 * n + 1), DiskRequest::Sync(log))).unwrap();
        }
        drop(requests);
        let mut disk = Counting::default();
        serve(&mut disk, &to_handle, &completions);

        assert_eq!(disk.syncs, 2);
        for n in 0..40 {
            let Ok(Event::Input(Input::Disk(token, DiskResult::Done))) = completed.try_recv() else {
                panic!()
            };
            assert_eq!(token, DiskToken(n));
        }
        disk.disk.crash(crate::disk::Tail::Lost);
        assert_eq!(disk.disk.contents(&logs[0]).unwrap().len(), 10);
    }

    #[test]
    fn nothing_more_is_written_once_the_machine_has_crashed() {
        let (requests, to_handle) = blocking::channel();
        let (completions, completed) = mpsc::unbounded_channel();
        let append = DiskRequest::Append(FileId::Log(TopicId::ZERO, 0), Bytes::from_static(b"x"));
        requests.send((DiskToken(0), append)).unwrap();
        drop((requests, completed));
        let mut disk = Counting::default();
        serve(&mut disk, &to_handle, &completions);
        assert_eq!(disk.disk.files().count(), 0);
    }
}
