use std::collections::BTreeMap;

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
    content: Vec<u8>,
    synced: usize,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine crashes: of each file's unsynced tail remains what `tail` says.
    pub fn crash(&mut self, tail: Tail) {
        for file in self.files.values_mut() {
            let unsynced = file.content.len() - file.synced;
            let kept = match tail {
                Tail::Kept => unsynced,
                Tail::Lost => 0,
                Tail::Torn(bytes) => unsynced.min(bytes),
            };
            file.content.truncate(file.synced + kept);
            file.synced = file.content.len();
        }
    }

    /// Cuts everything behind the first `length` bytes of a file, synced or not: a disk that lies.
    pub fn tear(&mut self, id: &FileId, length: usize) {
        if let Some(file) = self.files.get_mut(id) {
            file.content.truncate(length);
            file.synced = file.synced.min(file.content.len());
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

    /// The bytes of a file; none when it does not exist.
    #[must_use]
    pub fn contents(&self, id: &FileId) -> Option<&[u8]> {
        self.files.get(id).map(|file| &file.content[..])
    }

    /// The files, in order.
    pub fn files(&self) -> impl Iterator<Item = &FileId> {
        self.files.keys()
    }

    fn read(&self, id: &FileId, position: u64, length: u32) -> Bytes {
        let content = self.contents(id).unwrap_or_default();
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
        let until = from.saturating_add(length as usize).min(content.len());
        Bytes::copy_from_slice(&content[from..until])
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
            DiskRequest::Replace(id, bytes) => {
                // The new file is complete before the old one goes.
                if let Some(no_room) = self.no_room(&id, bytes.len()) {
                    return no_room;
                }
                self.files.insert(id, MemoryFile { content: bytes.to_vec(), synced: bytes.len() });
            }
            DiskRequest::Remove(id) => {
                self.files.remove(&id);
            }
        }
        DiskResult::Done
    }

    fn logs(&self) -> std::io::Result<Vec<FileId>> {
        Ok(self.files.keys().filter(|id| matches!(id, FileId::Log(..))).cloned().collect())
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
    fn a_read_beyond_the_end_is_short() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abc");
        let read = DiskRequest::Read { file: LOG, position: 2, length: u32::MAX };
        assert!(matches!(disk.handle(read), DiskResult::Data(bytes) if bytes == "c"));
        let read = DiskRequest::Read { file: LOG, position: u64::MAX, length: 1 };
        assert!(matches!(disk.handle(read), DiskResult::Data(bytes) if bytes.is_empty()));
    }
}
