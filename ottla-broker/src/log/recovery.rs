//! What a log file holds after a crash: whole batches whose checksum is right, and perhaps a torn tail.
//!
//! Every batch is checked. The first one that is incomplete, damaged, or out of order ends the log; it and all that
//! follows is cut. A follower gets it again from the leader.

use std::collections::BTreeMap;
use std::io;

use bytes::{Bytes, BytesMut};
use ottla_protocol::TopicId;
use ottla_protocol::batch::{self, BatchHeader};

use super::{BatchMeta, FLOOR, Floor};
use crate::disk::Disk;
use crate::io::{DiskRequest, DiskResult, FileId};
use crate::replica::ReplicaKey;

/// How much of a file is read at a time.
const CHUNK: u32 = 1 << 20;

/// A batch is part of a request frame; a length beyond this in a file is damage.
const MAX_BATCH: usize = 1 << 30;

/// What a node finds on its disk when it starts.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The logs of its replicas, by topic and partition.
    pub logs: BTreeMap<(TopicId, i32), RecoveredLog>,
    /// The file [`FileId::Meta`] of that name, for each that exists.
    pub meta: BTreeMap<&'static str, Bytes>,
}

/// What a log file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Where it begins.
    pub floor: Floor,
    /// The batches, in the order of the file.
    pub batches: Vec<BatchMeta>,
    /// Where the last of them ends: the size that the file is to be cut to.
    pub size: u64,
    /// Why the log ends there, where the file goes on.
    pub torn: Option<String>,
}

impl Recovered {
    /// Reads the disk of a node: scans each log, cuts its torn tail on the disk too, and reads the small files.
    ///
    /// # Errors
    /// When the disk cannot be read or cut; the error names the file.
    pub fn read(disk: &mut dyn Disk) -> io::Result<Self> {
        let mut recovered = Self::default();
        for file in disk.logs()? {
            let FileId::Log(topic, partition) = file else { continue };
            recovered.logs.insert((topic, partition), recover_log(disk, (topic, partition))?);
        }
        let cluster = read_whole(disk, &FileId::Meta(crate::node::META))?;
        if !cluster.is_empty() {
            recovered.meta.insert(crate::node::META, cluster);
        }
        Ok(recovered)
    }
}

/// Reads a small file; empty when it does not exist.
///
/// # Errors
/// When the disk cannot be read; the error names the file.
pub fn read_whole(disk: &mut dyn Disk, file: &FileId) -> io::Result<Bytes> {
    let mut whole = BytesMut::new();
    loop {
        let chunk = read_chunk(disk, file, whole.len() as u64)?;
        if chunk.is_empty() {
            return Ok(whole.freeze());
        }
        whole.extend_from_slice(&chunk);
    }
}

/// What a log file with these bytes holds.
#[must_use]
pub fn scan(bytes: &[u8]) -> RecoveredLog {
    let mut scan = Scan::new();
    scan.feed(bytes);
    scan.finish()
}

/// Reads a log file chunk by chunk.
#[derive(Debug, Default)]
pub struct Scan {
    log: RecoveredLog,
    /// What was fed and is not yet part of a whole batch.
    rest: BytesMut,
}

impl Scan {
    /// Begins at the beginning of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins where the first batch is that was not dropped.
    #[must_use]
    pub fn from_floor(floor: Floor) -> Self {
        let log = RecoveredLog { size: floor.position, floor, ..RecoveredLog::default() };
        Self { log, ..Self::default() }
    }

    /// Takes the next bytes of the file. Whether more are wanted is returned: none are once the log is torn.
    pub fn feed(&mut self, chunk: &[u8]) -> bool {
        if self.log.torn.is_none() {
            self.rest.extend_from_slice(chunk);
            while self.take_batch() {}
        }
        self.log.torn.is_none()
    }

    /// The file has ended.
    #[must_use]
    pub fn finish(mut self) -> RecoveredLog {
        if self.log.torn.is_none() && !self.rest.is_empty() {
            self.log.torn = Some(format!("{} bytes of an incomplete batch", self.rest.len()));
        }
        self.log
    }

    fn take_batch(&mut self) -> bool {
        let size = match BatchHeader::parse(&self.rest) {
            Ok(Some(header)) if header.size() <= MAX_BATCH => header.size(),
            Ok(Some(header)) => return self.tear(format!("a batch of {} bytes", header.size())),
            Ok(None) => return false,
            Err(error) => return self.tear(error.to_string()),
        };
        if self.rest.len() < size {
            return false;
        }
        let batch = self.rest.split_to(size).freeze();
        match self.check(batch) {
            Ok(meta) => {
                self.log.size += size as u64;
                self.log.batches.push(meta);
                true
            }
            Err(error) => self.tear(error),
        }
    }

    fn check(&self, bytes: Bytes) -> Result<BatchMeta, String> {
        let found = batch::batches(bytes).next().ok_or("no batch")?;
        let found = found.map_err(|error| error.to_string())?;
        found.verify_crc().map_err(|error| error.to_string())?;
        let meta = BatchMeta::of(found.header(), self.log.size);
        match self.log.batches.last() {
            Some(last) if meta.base_offset <= last.last_offset => {
                Err(format!("offset {} behind offset {}", meta.base_offset, last.last_offset))
            }
            Some(last) if meta.leader_epoch < last.leader_epoch => {
                Err(format!("leader epoch {} behind {}", meta.leader_epoch, last.leader_epoch))
            }
            _ if meta.base_offset < 0 => Err(format!("offset {}", meta.base_offset)),
            _ => Ok(meta),
        }
    }

    fn tear(&mut self, why: String) -> bool {
        self.log.torn = Some(why);
        self.rest.clear();
        false
    }
}

fn recover_log(disk: &mut dyn Disk, key: ReplicaKey) -> io::Result<RecoveredLog> {
    let file = &FileId::Log(key.0, key.1);
    let floor = recover_floor(disk, key)?;
    let mut position = floor.position;
    let mut scan = Scan::from_floor(floor);
    loop {
        let chunk = read_chunk(disk, file, position)?;
        position += chunk.len() as u64;
        if chunk.is_empty() || !scan.feed(&chunk) {
            break;
        }
    }
    let log = scan.finish();
    if log.torn.is_some() {
        done(disk.handle(DiskRequest::Truncate(file.clone(), log.size)))?;
    }
    Ok(log)
}

/// Where a log begins. Of a log without records behind it, the file begins anew: it may have lost its tail, and be shorter
/// than what was dropped.
fn recover_floor(disk: &mut dyn Disk, (topic, partition): ReplicaKey) -> io::Result<Floor> {
    let (file, log) = (FileId::ReplicaMeta(topic, partition, FLOOR), FileId::Log(topic, partition));
    let kept = read_whole(disk, &file)?;
    if kept.is_empty() {
        return Ok(Floor::default());
    }
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{file:?}: not understood"));
    let mut floor = Floor::read(&kept).ok_or_else(damaged)?;
    if floor.position > 0 && read_chunk(disk, &log, floor.position)?.is_empty() {
        floor.position = 0;
        done(disk.handle(DiskRequest::Truncate(log, 0)))?;
        done(disk.handle(DiskRequest::Replace(file, floor.write().into())))?;
    }
    Ok(floor)
}

fn done(result: DiskResult) -> io::Result<()> {
    match result {
        DiskResult::Failed(error) | DiskResult::NoRoom(error) => Err(io::Error::other(error)),
        DiskResult::Done | DiskResult::Data(_) => Ok(()),
    }
}

fn read_chunk(disk: &mut dyn Disk, file: &FileId, position: u64) -> io::Result<Bytes> {
    match disk.handle(DiskRequest::Read { file: file.clone(), position, length: CHUNK }) {
        DiskResult::Data(chunk) => Ok(chunk),
        DiskResult::Done => Err(io::Error::other(format!("{file:?}: the disk gave no bytes"))),
        DiskResult::Failed(error) | DiskResult::NoRoom(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
