use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{DataDir, Disk, data_dir::named};
use crate::io::{DiskRequest, DiskResult, FileId};
use crate::log::FLOOR;

/// Open files per disk. A process may have 1,024 on many systems, sockets included.
const MAX_OPEN_FILES: usize = 200;

/// A disk of files below one directory.
///
/// Survives `kill -9` of the process at any moment: an append that was torn is found by its checksum when the log is
/// recovered, and a small file is replaced by renaming a complete one over it.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    open: BTreeMap<FileId, OpenFile>,
    /// Files whose content on disk is not known any more, and why. They accept nothing until a new start has
    /// recovered them.
    broken: BTreeMap<FileId, String>,
    /// Counts requests, to find the file that was used longest ago.
    clock: u64,
    max_open: usize,
    _dir: DataDir,
}

/// What a failed request means for its file.
enum Failure {
    /// The file is as it was before.
    Unchanged(io::Error),
    /// Nobody knows what is on disk now.
    Unknown(io::Error),
}

impl FileDisk {
    pub(super) fn open(path: PathBuf, dir: DataDir) -> io::Result<Self> {
        fs::create_dir_all(&path).map_err(|error| named(&path, &error))?;
        sync_dir(dir.path()).map_err(|error| named(dir.path(), &error))?;
        let (open, broken) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { path, open, broken, clock: 0, max_open: MAX_OPEN_FILES, _dir: dir })
    }

    /// Syncs what was written and not synced yet: the end of an orderly stop. Failures are logged; there is nobody
    /// left to tell.
    pub(crate) fn sync_all(&mut self) {
        for (id, file) in &mut self.open {
            if let Err(error) = file.sync(&self.path) {
                tracing::error!(file = name_of(id), %error, "sync failed");
            }
        }
    }

    fn append(&mut self, id: &FileId, bytes: &[u8]) -> Result<(), Failure> {
        let file = self.opened(id, true)?;
        let before = file.length;
        // A write that failed half-way (disk full) is undone, so that the next append does not follow a torn one.
        file.append(bytes).map_err(|error| match file.cut(before) {
            Ok(()) => Failure::Unchanged(error),
            Err(_) => Failure::Unknown(error),
        })
    }

    fn sync(&mut self, id: &FileId) -> Result<(), Failure> {
        // After a failed fsync the kernel calls the lost pages clean: a second one would succeed, and lie.
        match self.open.get_mut(id) {
            Some(file) => file.sync(&self.path).map_err(Failure::Unknown),
            None => Ok(()), // files are synced before they are closed
        }
    }

    fn read(&mut self, id: &FileId, position: u64, length: u32) -> Result<Bytes, Failure> {
        match self.opened(id, false) {
            Ok(file) => file.read(position, length).map_err(Failure::Unchanged),
            Err(failure) if failure.is_not_found() => Ok(Bytes::new()),
            Err(failure) => Err(failure),
        }
    }

    fn truncate(&mut self, id: &FileId, length: u64) -> Result<(), Failure> {
        match self.opened(id, false) {
            Ok(file) if length < file.length => file.cut(length).map_err(Failure::Unknown),
            Err(failure) if !failure.is_not_found() => Err(failure),
            _ => Ok(()),
        }
    }

    fn release(&mut self, id: &FileId, length: u64) -> Result<(), Failure> {
        match self.opened(id, false) {
            Ok(file) => {
                // Where the file system has no holes the bytes stay until the topic goes; nobody reads them.
                if let Err(error) = punch_hole(&file.file, length.min(file.length)) {
                    tracing::debug!(file = name_of(id), %error, "room not given back");
                }
                Ok(())
            }
            Err(failure) if !failure.is_not_found() => Err(failure),
            Err(_) => Ok(()),
        }
    }

    fn replace(&mut self, id: &FileId, bytes: &[u8]) -> Result<(), Failure> {
        self.open.remove(id);
        let (path, temporary) = (self.path_of(id), self.path.join(format!("{}.tmp", name_of(id))));
        let replaced = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = replaced {
            // Only tidying up: the next attempt would overwrite it.
            drop(fs::remove_file(&temporary));
            return Err(Failure::Unchanged(error));
        }
        self.broken.remove(id);
        sync_dir(&self.path).map_err(Failure::Unchanged)
    }

    fn remove(&mut self, id: &FileId) -> Result<(), Failure> {
        self.open.remove(id);
        match fs::remove_file(self.path_of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::Unchanged(error)),
            _ => self.broken.remove(id),
        };
        sync_dir(&self.path).map_err(Failure::Unchanged)
    }

    fn opened(&mut self, id: &FileId, create: bool) -> Result<&mut OpenFile, Failure> {
        if let Some(cause) = self.broken.get(id) {
            return Err(Failure::Unchanged(io::Error::other(format!("unusable since: {cause}"))));
        }
        if !self.open.contains_key(id) && self.open.len() >= self.max_open {
            self.close_oldest();
        }
        self.clock += 1;
        let path = self.path_of(id);
        let file = match self.open.entry(id.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(OpenFile::open(&path, create).map_err(Failure::Unchanged)?),
        };
        file.last_used = self.clock;
        Ok(file)
    }

    /// A file is synced before it is closed: the kernel tells an error of its own write-back only to those who have
    /// the file open.
    fn close_oldest(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, file)| file.last_used).map(|(id, _)| id.clone());
        if let Some((id, mut file)) = oldest.and_then(|id| self.open.remove_entry(&id))
            && let Err(error) = file.sync(&self.path)
        {
            self.broken.insert(id, error.to_string());
        }
    }

    fn path_of(&self, id: &FileId) -> PathBuf {
        self.path.join(name_of(id))
    }
}

impl Disk for FileDisk {
    fn handle(&mut self, request: DiskRequest) -> DiskResult {
        let id = request.file().clone();
        let result = match request {
            DiskRequest::Append(id, bytes) => self.append(&id, &bytes),
            DiskRequest::Sync(id) => self.sync(&id),
            DiskRequest::Read { file, position, length } => match self.read(&file, position, length) {
                Ok(bytes) => return DiskResult::Data(bytes),
                Err(failure) => Err(failure),
            },
            DiskRequest::Truncate(id, length) => self.truncate(&id, length),
            DiskRequest::Release(id, length) => self.release(&id, length),
            DiskRequest::Replace(id, bytes) => self.replace(&id, &bytes),
            DiskRequest::Remove(id) => self.remove(&id),
        };
        let text = |error: &io::Error| format!("{}: {error}", self.path_of(&id).display());
        match result {
            Ok(()) => DiskResult::Done,
            Err(Failure::Unchanged(error)) if is_no_room(&error) => DiskResult::NoRoom(text(&error)),
            Err(Failure::Unchanged(error)) => DiskResult::Failed(text(&error)),
            Err(Failure::Unknown(error)) => {
                let text = text(&error);
                self.open.remove(&id);
                self.broken.insert(id, error.to_string());
                DiskResult::Failed(text)
            }
        }
    }

    fn logs(&self) -> io::Result<Vec<FileId>> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| named(&self.path, &error))? {
            let name = entry.map_err(|error| named(&self.path, &error))?.file_name();
            logs.extend(name.to_str().and_then(log_of));
        }
        logs.sort();
        logs.dedup();
        Ok(logs)
    }
}

impl Failure {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Unchanged(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    length: u64,
    /// Written to since the last sync.
    dirty: bool,
    /// The directory's entry may not be on disk yet.
    is_new: bool,
    last_used: u64,
}

impl OpenFile {
    fn open(path: &Path, create: bool) -> io::Result<Self> {
        let is_new = create && !path.try_exists()?;
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, dirty: false, is_new, last_used: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.dirty = true;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.dirty = true;
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    fn read(&mut self, position: u64, length: u32) -> io::Result<Bytes> {
        let wanted = self.length.saturating_sub(position).min(u64::from(length));
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.file.seek(SeekFrom::Start(position))?;
        (&self.file).take(wanted).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        if self.is_new {
            sync_dir(dir)?;
            self.is_new = false;
        }
        Ok(())
    }
}

/// Whether a write may succeed when somebody has made room: the disk is full, a quota or a limit of the process is reached.
fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn name_of(id: &FileId) -> String {
    match id {
        FileId::Log(topic, partition) => format!("{topic}-{partition}.log"),
        FileId::Meta(name) => (*name).to_owned(),
        FileId::ReplicaMeta(topic, partition, name) => format!("{topic}-{partition}.{name}"),
    }
}

/// The inverse of [`name_of`] for logs, and for what is left of one whose records were all dropped.
fn log_of(name: &str) -> Option<FileId> {
    let (log, suffix) = name.rsplit_once('.')?;
    let (topic, partition) = Some(log).filter(|_| suffix == "log" || suffix == FLOOR)?.rsplit_once('-')?;
    Some(FileId::Log(topic.parse().ok()?, partition.parse().ok()?))
}

/// Gives the room of the first `length` bytes back to the file system.
#[cfg(target_os = "linux")]
fn punch_hole(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, hole, 0, length)?)
}

#[cfg(not(target_os = "linux"))]
fn punch_hole(_file: &File, _length: u64) -> io::Result<()> {
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a directory (of new, renamed and removed files) survive a crash of the machine.
#[cfg(unix)]
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and the file system's journal orders its names.
#[cfg(not(unix))]
pub(super) fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use ottla_protocol::TopicId;

    use super::*;
    use crate::disk::scratch::Scratch;

    const LOG: FileId = FileId::Log(TopicId([7; 16]), 12);
    const META: FileId = FileId::Meta("cluster.json");

    fn disk(scratch: &Scratch) -> FileDisk {
        DataDir::open(scratch.path()).unwrap().node(1).unwrap()
    }

    fn done(disk: &mut FileDisk, request: DiskRequest) {
        let result = disk.handle(request);
        assert!(matches!(result, DiskResult::Done), "{result:?}");
    }

    fn failed(disk: &mut FileDisk, request: DiskRequest) -> String {
        match disk.handle(request) {
            DiskResult::Failed(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn append(id: &FileId, bytes: &'static [u8]) -> DiskRequest {
        DiskRequest::Append(id.clone(), Bytes::from_static(bytes))
    }

    fn read(disk: &mut FileDisk, id: &FileId, position: u64, length: u32) -> Bytes {
        match disk.handle(DiskRequest::Read { file: id.clone(), position, length }) {
            DiskResult::Data(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn appends_and_reads_at_a_position() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, append(&LOG, b"hello "));
        assert_eq!(read(&mut disk, &LOG, 2, 2), "ll");
        done(&mut disk, append(&LOG, b"world"));
        assert_eq!(read(&mut disk, &LOG, 4, u32::MAX), "o world");
        assert_eq!(read(&mut disk, &LOG, 400, 1), "");
        assert_eq!(read(&mut disk, &META, 0, 100), "", "a file that does not exist is empty");
    }

    #[test]
    fn keeps_its_files_over_a_restart_and_lists_its_logs() {
        let scratch = Scratch::new();
        let mut first = disk(&scratch);
        done(&mut first, append(&LOG, b"kept"));
        done(&mut first, DiskRequest::Replace(META, Bytes::from_static(b"{}")));
        drop(first);
        let mut second = disk(&scratch);
        assert_eq!(second.logs().unwrap(), [LOG]);
        assert_eq!(read(&mut second, &LOG, 0, 100), "kept");
        assert_eq!(read(&mut second, &META, 0, 100), "{}");
    }

    #[test]
    fn appends_after_a_cut_follow_what_is_left() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, append(&LOG, b"abcdef"));
        done(&mut disk, DiskRequest::Truncate(LOG, 2));
        done(&mut disk, DiskRequest::Truncate(LOG, 4));
        done(&mut disk, append(&LOG, b"X"));
        done(&mut disk, DiskRequest::Sync(LOG));
        assert_eq!(read(&mut disk, &LOG, 0, 100), "abX");
    }

    #[test]
    fn what_is_released_moves_nothing_and_its_log_is_listed_without_it() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, DiskRequest::Release(LOG, 4));
        done(&mut disk, append(&LOG, b"abcdef"));
        done(&mut disk, DiskRequest::Release(LOG, 4));
        done(&mut disk, append(&LOG, b"gh"));
        assert_eq!(read(&mut disk, &LOG, 4, 100), "efgh");
        let floor = FileId::ReplicaMeta(TopicId([7; 16]), 12, FLOOR);
        done(&mut disk, DiskRequest::Replace(floor, Bytes::from_static(b"start")));
        assert_eq!(disk.logs().unwrap(), [LOG]);
        done(&mut disk, DiskRequest::Remove(LOG));
        assert_eq!(disk.logs().unwrap(), [LOG]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_released_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, DiskRequest::Append(LOG, vec![7; 1 << 20].into()));
        done(&mut disk, DiskRequest::Sync(LOG));
        let path = disk.path_of(&LOG);
        let blocks = || fs::metadata(&path).unwrap().blocks();
        let before = blocks();
        done(&mut disk, DiskRequest::Release(LOG, 1 << 19));
        assert!(blocks() <= before / 2 + 16, "{} of {before} blocks are left", blocks());
        assert_eq!(read(&mut disk, &LOG, 1 << 19, u32::MAX), vec![7; 1 << 19]);
    }

    #[test]
    fn replaces_a_file_as_a_whole_and_leaves_no_other() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        for text in ["the first, longer", "second"] {
            done(&mut disk, DiskRequest::Replace(META, Bytes::from_static(text.as_bytes())));
            assert_eq!(read(&mut disk, &META, 0, 100), text);
        }
        assert_eq!(fs::read_dir(scratch.path().join("node-1")).unwrap().count(), 1);
    }

    #[test]
    fn removes_what_exists_and_what_does_not() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, append(&LOG, b"old"));
        done(&mut disk, DiskRequest::Remove(LOG));
        done(&mut disk, DiskRequest::Remove(LOG));
        assert_eq!(disk.logs().unwrap(), []);
        done(&mut disk, append(&LOG, b"new"));
        assert_eq!(read(&mut disk, &LOG, 0, 100), "new");
    }

    #[test]
    fn more_files_than_may_be_open_are_served() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        disk.max_open = 3;
        let logs: Vec<FileId> = (0..10).map(|partition| FileId::Log(TopicId::ZERO, partition)).collect();
        for part in [b"a", b"b"] {
            logs.iter().for_each(|id| done(&mut disk, append(id, part)));
            assert_eq!(disk.open.len(), 3);
        }
        logs.iter().for_each(|id| done(&mut disk, DiskRequest::Sync(id.clone())));
        assert!(logs.iter().all(|id| read(&mut disk, id, 0, 9) == "ab"));
    }

    #[test]
    fn a_failure_names_the_file_and_the_cause() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        fs::create_dir(disk.path_of(&LOG)).unwrap();
        let text = failed(&mut disk, append(&LOG, b"x"));
        assert!(text.contains("-12.log: ") && text.to_lowercase().contains("directory"), "{text}");
        fs::create_dir(disk.path.join("cluster.json")).unwrap();
        let text = failed(&mut disk, DiskRequest::Replace(META, Bytes::from_static(b"{}")));
        assert!(text.contains("cluster.json: "), "{text}");
        assert!(!disk.path.join("cluster.json.tmp").exists());
    }

    /// `/dev/full` is a disk that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_that_cannot_be_cut_back_leaves_a_file_in_doubt_which_accepts_nothing_more() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        std::os::unix::fs::symlink("/dev/full", disk.path_of(&LOG)).unwrap();
        let text = failed(&mut disk, append(&LOG, b"x"));
        assert!(text.contains("No space left"), "{text}");
        // A device cannot be cut back to its old length: from here on its content is unknown.
        let text = failed(&mut disk, append(&LOG, b"x"));
        assert!(text.contains("unusable since: No space left"), "{text}");
        done(&mut disk, DiskRequest::Remove(LOG));
        done(&mut disk, append(&LOG, b"x"));
    }

    /// The small file is written beside the old one first, and that is where there is no room for it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_small_file_that_finds_no_room_leaves_the_old_one_as_it_is() {
        let scratch = Scratch::new();
        let mut disk = disk(&scratch);
        done(&mut disk, DiskRequest::Replace(META, Bytes::from_static(b"old")));
        std::os::unix::fs::symlink("/dev/full", disk.path.join("cluster.json.tmp")).unwrap();
        let result = disk.handle(DiskRequest::Replace(META, Bytes::from_static(b"new")));
        assert!(
            matches!(&result, DiskResult::NoRoom(text) if text.contains("cluster.json: No space")),
            "{result:?}"
        );
        assert_eq!(read(&mut disk, &META, 0, 100), "old");
        done(&mut disk, DiskRequest::Replace(META, Bytes::from_static(b"new")));
        assert_eq!(read(&mut disk, &META, 0, 100), "new");
    }
}
