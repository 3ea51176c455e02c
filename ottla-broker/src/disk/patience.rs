//! What waits until a disk has room again.
//!
//! ```text
//!                  NoRoom, which is told once
//!   carried out ───────────────────────────────► waits, and behind it whatever else is asked of its file
//!        ▲                                              │ every RETRY, in order
//!        └──────────────────────────────────────────────┘
//! ```
//!
//! A write that was asked for is never given up: the node has promised nobody that it is there, but has told its followers of
//! it, and what comes later must not take its place. Reads of what is there, and other files, do not wait.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    time::Duration,
};

use super::Disk;
use crate::io::{DiskRequest, DiskResult, DiskToken, FileId};

/// The requests that wait for room on one disk. Whoever drives a [`Disk`] passes its requests through here.
#[derive(Debug, Default)]
pub struct Patience {
    waiting: BTreeMap<FileId, VecDeque<(DiskToken, DiskRequest)>>,
}

impl Patience {
    /// When to [`retry`](Self::retry) while something [waits](Self::is_waiting).
    pub const RETRY: Duration = Duration::from_millis(500);

    /// Whether anything waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether requests to a file wait.
    #[must_use]
    pub fn holds(&self, file: &FileId) -> bool {
        self.waiting.contains_key(file)
    }

    /// Carries out a request, or lets it wait behind others of its file. `complete` hears of what is done.
    pub fn handle(
        &mut self,
        disk: &mut dyn Disk,
        token: DiskToken,
        request: DiskRequest,
        complete: &mut dyn FnMut(DiskToken, DiskResult),
    ) {
        let Entry::Occupied(mut queue) = self.waiting.entry(request.file().clone()) else {
            let result = disk.handle(request.clone());
            if let DiskResult::NoRoom(_) = result {
                self.waiting.insert(request.file().clone(), VecDeque::from([(token, request)]));
            }
            return complete(token, result);
        };
        match &request {
            DiskRequest::Remove(_) => {
                // Nobody misses what was to be written into a file that goes, and it makes room.
                queue.remove().into_iter().for_each(|(token, _)| complete(token, DiskResult::Done));
                complete(token, disk.handle(request));
            }
            DiskRequest::Read { length, .. } => match disk.handle(request.clone()) {
                DiskResult::Data(data) if data.len() < *length as usize => {
                    queue.get_mut().push_back((token, request));
                }
                result => complete(token, result),
            },
            _ => queue.get_mut().push_back((token, request)),
        }
    }

    /// Tries again what waits. `complete` hears of what is done, and of the next write to a file for which there is no room.
    pub fn retry(&mut self, disk: &mut dyn Disk, complete: &mut dyn FnMut(DiskToken, DiskResult)) {
        self.waiting.retain(|_, queue| {
            let mut is_first = true;
            while let Some((token, request)) = queue.pop_front() {
                match disk.handle(request.clone()) {
                    result @ DiskResult::NoRoom(_) => {
                        // Of the first one it was told when it began to wait.
                        if !is_first {
                            complete(token, result);
                        }
                        queue.push_front((token, request));
                        return true;
                    }
                    result => complete(token, result),
                }
                is_first = false;
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::TopicId;

    use super::*;
    use crate::disk::MemoryDisk;

    const LOG: FileId = FileId::Log(TopicId::ZERO, 0);
    const OTHER: FileId = FileId::Log(TopicId::ZERO, 1);

    #[derive(Default)]
    struct World {
        disk: MemoryDisk,
        patience: Patience,
        told: Vec<(u64, &'static str)>,
    }

    fn word(result: &DiskResult) -> &'static str {
        match result {
            DiskResult::Done => "done",
            DiskResult::Data(_) => "data",
            DiskResult::NoRoom(_) => "no room",
            DiskResult::Failed(_) => "failed",
        }
    }

    impl World {
        fn ask(&mut self, token: u64, request: DiskRequest) {
            let told = &mut self.told;
            let complete = &mut |DiskToken(token), result: DiskResult| told.push((token, word(&result)));
            self.patience.handle(&mut self.disk, DiskToken(token), request, complete);
        }

        fn append(&mut self, token: u64, file: &FileId, bytes: &'static str) {
            self.ask(token, DiskRequest::Append(file.clone(), Bytes::from_static(bytes.as_bytes())));
        }

        fn retry(&mut self) {
            let told = &mut self.told;
            let complete = &mut |DiskToken(token), result: DiskResult| told.push((token, word(&result)));
            self.patience.retry(&mut self.disk, complete);
        }

        fn told(&mut self) -> Vec<(u64, &'static str)> {
            std::mem::take(&mut self.told)
        }
    }

    fn read(position: u64, length: u32) -> DiskRequest {
        DiskRequest::Read { file: LOG, position, length }
    }

    #[test]
    fn what_waits_keeps_its_order_and_nothing_overtakes_it() {
        let mut world = World::default();
        world.disk.set_room(Some(6));
        world.append(1, &LOG, "abcd");
        world.append(2, &LOG, "efgh");
        world.append(3, &LOG, "i");
        world.ask(4, DiskRequest::Sync(LOG));
        world.append(5, &OTHER, "xy");
        assert_eq!(world.told(), [(1, "done"), (2, "no room"), (5, "done")], "3 would fit, and must not");
        world.retry();
        assert_eq!(world.told(), [], "it is told once");
        world.disk.set_room(Some(4));
        world.retry();
        assert_eq!(world.told(), [(2, "done"), (3, "no room")]);
        world.disk.set_room(None);
        world.retry();
        assert_eq!(world.told(), [(3, "done"), (4, "done")]);
        assert_eq!(world.disk.contents(&LOG), Some(&b"abcdefghi"[..]));
        assert!(!world.patience.is_waiting());
    }

    #[test]
    fn what_is_there_can_be_read_and_the_rest_is_waited_for() {
        let mut world = World::default();
        world.disk.set_room(Some(4));
        world.append(1, &LOG, "abcd");
        world.append(2, &LOG, "efgh");
        world.ask(3, read(0, 4));
        world.ask(4, read(2, 4));
        assert_eq!(world.told(), [(1, "done"), (2, "no room"), (3, "data")]);
        world.disk.set_room(None);
        world.retry();
        assert_eq!(world.told(), [(2, "done"), (4, "data")]);
    }

    #[test]
    fn a_file_that_goes_takes_what_waits_with_it() {
        let mut world = World::default();
        world.disk.set_room(Some(0));
        world.append(1, &LOG, "abcd");
        world.append(2, &LOG, "efgh");
        world.ask(3, DiskRequest::Remove(LOG));
        assert_eq!(world.told(), [(1, "no room"), (1, "done"), (2, "done"), (3, "done")]);
        assert!(!world.patience.is_waiting() && !world.patience.holds(&LOG));
    }
}
