use std::collections::BTreeMap;

use bytes::Bytes;

use super::Disk;
use crate::io::{DiskRequest, DiskResult, FileId};

/// A disk in memory, with a sync point per file.
///
/// It tells what is only in the operating system's cache from what would survive a loss of power, so that a crash
/// can take the difference away: see [`lose_unsynced`](Self::lose_unsynced).
#[derive(Debug, Default, Clone)]
pub struct MemoryDisk {
    files: BTreeMap<FileId, MemoryFile>,
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

    /// What a loss of power does: of each file's unsynced tail only a part remains.
    ///
    /// `keep` is asked for each file that has such a tail, in the files' order, with the tail's length, and says how
    /// many bytes of it happened to reach the disk. Zero loses it all; a number within a batch tears that batch.
    pub fn lose_unsynced(&mut self, mut keep: impl FnMut(&FileId, usize) -> usize) {
        for (id, file) in &mut self.files {
            let tail = file.content.len() - file.synced;
            if tail > 0 {
                let kept = keep(id, tail).min(tail);
                file.content.truncate(file.synced + kept);
                file.synced = file.content.len();
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn execute(&mut self, request: DiskRequest) -> DiskResult {
        match request {
            DiskRequest::Append(id, bytes) => {
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
                if let Some(file) = self.files.get_mut(&id) {
                    file.content.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                    file.synced = file.synced.min(file.content.len());
                }
            }
            DiskRequest::Replace(id, bytes) => {
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

impl MemoryDisk {
    fn read(&self, id: &FileId, position: u64, length: u32) -> Bytes {
        let content = self.files.get(id).map_or(&[][..], |file| &file.content);
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
        let until = from.saturating_add(length as usize).min(content.len());
        Bytes::copy_from_slice(&content[from..until])
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::TopicId;

    use super::*;

    const LOG: FileId = FileId::Log(TopicId::ZERO, 3);

    fn append(disk: &mut MemoryDisk, bytes: &'static [u8]) {
        assert!(matches!(
            disk.execute(DiskRequest::Append(LOG, Bytes::from_static(bytes))),
            DiskResult::Done
        ));
    }

    fn content(disk: &mut MemoryDisk) -> Bytes {
        match disk.execute(DiskRequest::Read { file: LOG, position: 0, length: 100 }) {
            DiskResult::Data(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"kept");
        disk.execute(DiskRequest::Sync(LOG));
        append(&mut disk, b"lost");
        disk.lose_unsynced(|_, tail| {
            assert_eq!(tail, 4);
            0
        });
        assert_eq!(content(&mut disk), "kept");
    }

    #[test]
    fn a_crash_may_tear_the_tail() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abcdef");
        disk.lose_unsynced(|_, _| 2);
        assert_eq!(content(&mut disk), "ab");
        disk.lose_unsynced(|_, _| panic!("what survived one crash survives the next"));
    }

    #[test]
    fn a_cut_file_has_nothing_synced_beyond_its_end() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abcdef");
        disk.execute(DiskRequest::Sync(LOG));
        disk.execute(DiskRequest::Truncate(LOG, 2));
        append(&mut disk, b"XYZ");
        disk.lose_unsynced(|_, _| 0);
        assert_eq!(content(&mut disk), "ab");
    }

    #[test]
    fn a_read_beyond_the_end_is_short() {
        let mut disk = MemoryDisk::new();
        append(&mut disk, b"abc");
        let read = DiskRequest::Read { file: LOG, position: 2, length: u32::MAX };
        assert!(matches!(disk.execute(read), DiskResult::Data(bytes) if bytes == "c"));
        let read = DiskRequest::Read { file: LOG, position: u64::MAX, length: 1 };
        assert!(matches!(disk.execute(read), DiskResult::Data(bytes) if bytes.is_empty()));
    }
}
