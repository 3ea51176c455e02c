use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Disk;
use crate::io::{DiskRequest, DiskResult, FileId};

/// A disk in memory, with a sync point per file: the disk of the simulation and of tests.
///
/// It tells what is only in the operating system's cache from what would survive a loss of power, so that a
/// [`crash`](Self::crash) can take the difference away.
#[derive(Debug, Default, Clone)]
pub struct MemoryDisk {
    files: BTreeMap<FileId, MemoryFile>,
    /// How many bytes fit on it, where that is limited.
    room: Option<usize>,
}

/// What becomes of bytes that were written but not synced when the machine crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// They survive: the process crashed, not the machine.
    Kept,
    /// They are gone.
    Lost,
    /// So many bytes of each file's tail happened to reach the disk: within a batch, it is torn.
    Torn(usize),
}

/// Bytes are copied in and out: a slice of a request's frame would keep the whole frame alive.
#[derive(Debug, Default, Clone)]
struct MemoryFile {
    /// How many bytes were released at the beginning; they are not part of the content any more.
    released: usize,
    content: Vec<u8>,
    /// How many bytes of the content.
    synced: usize,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine crashes: of each file's unsynced tail remains what `tail` says. Gives how many bytes are lost.
    pub fn crash(&mut self, tail: Tail) -> usize {
        let mut lost = 0;
        for file in self.files.values_mut() {
            let unsynced = file.content.len() - file.synced;
            let kept = match tail {
                Tail::Kept => unsynced,
                Tail::Lost => 0,
                Tail::Torn(bytes) => unsynced.min(bytes),
            };
            file.content.truncate(file.synced + kept);
            file.synced = file.content.len();
            lost += unsynced - kept;
        }
        lost
    }

    /// Cuts everything behind the first `length` bytes of a file, synced or not: a disk that lies.
    pub fn tear(&mut self, id: &FileId, length: usize) {
        if let Some(file) = self.files.get_mut(id) {
            file.released = file.released.min(length);
            file.content.truncate(length - file.released);
            file.synced = file.synced.min(file.content.len());
        }
    }

    fn release(&mut self, id: &FileId, length: u64) {
        if let Some(file) = self.files.get_mut(id) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let gone = length.saturating_sub(file.released).min(file.content.len());
            file.content.drain(..gone);
            file.synced = file.synced.saturating_sub(gone);
            file.released += gone;
        }
    }

    /// So many more bytes fit on it, or any number of them again. What is cut or removed makes room.
    pub fn set_room(&mut self, bytes: Option<usize>) {
        self.room = bytes.map(|bytes| self.used().saturating_add(bytes));
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.content.len()).sum()
    }

    /// Says so if there is no room for so many bytes.
    fn no_room(&self, id: &FileId, bytes: usize) -> Option<DiskResult> {
        let size = self.room.filter(|size| self.used() + bytes > *size)?;
        Some(DiskResult::NoRoom(format!("{id:?}: {bytes} more bytes on a disk of {size}")))
    }

    /// The bytes of a file, without what was released; none when it does not exist.
    #[must_use]
    pub fn contents(&self, id: &FileId) -> Option<&[u8]> {
        self.files.get(id).map(|file| &file.content[..])
    }

    /// The bytes of a file before and behind a position, without what was released.
    #[must_use]
    pub fn split(&self, id: &FileId, position: u64) -> (&[u8], &[u8]) {
        let Some(file) = self.files.get(id) else { return (&[], &[]) };
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        file.content.split_at(position.saturating_sub(file.released).min(file.content.len()))
    }

    /// The files, in order.
    pub fn files(&self) -> impl Iterator<Item = &FileId> {
        self.files.keys()
    }

    fn read(&self, id: &FileId, position: u64, length: u32) -> Bytes {
        let released = self.files.get(id).map_or(0, |file| file.released as u64);
        // What was released reads as zeros, as it does from a file with a hole.
        let zeros = vec![0; released.saturating_sub(position).min(u64::from(length)) as usize];
        let (_, behind) = self.split(id, position);
        let until = (length as usize - zeros.len()).min(behind.len());
        if zeros.is_empty() {
            Bytes::copy_from_slice(&behind[..until])
        } else {
            [&zeros, &behind[..until]].concat().into()
        }
    }
}

impl Disk for MemoryDisk {
    fn handle(&mut self, request: DiskRequest) -> DiskResult {
        match request {
            DiskRequest::Append(id, bytes) => {
                if let Some(no_room) = self.no_room(&id, bytes.len()) {
                    return no_room;
                }
                self.files.entry(id).or_default().content.extend_from_slice(&bytes);
            }
            DiskRequest::Sync(id) => {
                if let Some(file) = self.files.get_mut(&id) {
                    file.synced = file.content.len();
                }
            }
            DiskRequest::Read { file, position, length } => {
                return DiskResult::Data(self.read(&file, position, length));
            }
            DiskRequest::Truncate(id, length) => {
                self.tear(&id, usize::try_from(length).unwrap_or(usize::MAX));
            }
            DiskRequest::Release(id, length) => self.release(&id, length),
            DiskRequest::Replace(id, bytes) => {
                // The new file is complete before the old one goes.
                if let Some(no_room) = self.no_room(&id, bytes.len()) {
                    return no_room;
                }
                let file = MemoryFile { released: 0, content: bytes.to_vec(), synced: bytes.len() };
                self.files.insert(id, file);
            }
            DiskRequest::Remove(id) => {
                self.files.remove(&id);
            }
        }
        DiskResult::Done
    }

    fn logs(&self) -> std::io::Result<Vec<FileId>> {
        let logs: BTreeSet<FileId> = self.files.keys().filter_map(FileId::log).collect();
        Ok(logs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::TopicId;

    use super::*;

    const LOG: FileId = FileId::Log(TopicId::ZERO, 3);

    fn append(disk: &mut MemoryDisk, bytes: &'static [u8]) {
        assert!(matches!(disk.handle(DiskRequest::Append(LOG, Bytes::from_static(bytes))), DiskResult::Done));
    }

    fn content(disk: &mut MemoryDisk) -> Bytes {
        match disk.handle(DiskRequest::Read { file: LOG, position: 0, length: 100 }) {
            DiskResult::Data(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"kept");
        disk.handle(DiskRequest::Sync(LOG));
        append(&mut disk, b"lost");
        disk.crash(Tail::Lost);
        assert_eq!(content(&mut disk), "kept");
    }

    #[test]
    fn a_crash_may_tear_the_tail() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abcdef");
        disk.crash(Tail::Torn(2));
        assert_eq!(content(&mut disk), "ab");
        disk.crash(Tail::Lost);
        assert_eq!(content(&mut disk), "ab", "what survived one crash survives the next");
    }

    #[test]
    fn a_cut_file_has_nothing_synced_beyond_its_end() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abcdef");
        disk.handle(DiskRequest::Sync(LOG));
        disk.handle(DiskRequest::Truncate(LOG, 2));
        append(&mut disk, b"XYZ");
        disk.crash(Tail::Lost);
        assert_eq!(content(&mut disk), "ab");
    }

    #[test]
    fn what_was_released_takes_no_room_and_moves_nothing() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abcdef");
        disk.set_room(Some(0));
        disk.handle(DiskRequest::Release(LOG, 4));
        disk.handle(DiskRequest::Release(LOG, 2));
        append(&mut disk, b"gh");
        assert_eq!(content(&mut disk), "\0\0\0\0efgh");
        assert_eq!(disk.contents(&LOG).unwrap(), b"efgh");
        disk.handle(DiskRequest::Truncate(LOG, 5));
        assert_eq!(content(&mut disk), "\0\0\0\0e");
        disk.handle(DiskRequest::Truncate(LOG, 0));
        append(&mut disk, b"xyz");
        assert_eq!(content(&mut disk), "xyz");
    }

    #[test]
    fn a_read_beyond_the_end_is_short() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abc");
        let read = DiskRequest::Read { file: LOG, position: 2, length: u32::MAX };
        assert!(matches!(disk.handle(read), DiskResult::Data(bytes) if bytes == "c"));
        let read = DiskRequest::Read { file: LOG, position: u64::MAX, length: 1 };
        assert!(matches!(disk.handle(read), DiskResult::Data(bytes) if bytes.is_empty()));
    }
}
