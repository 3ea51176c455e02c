use bytes::{Bytes, BytesMut};
use ottla_protocol::TopicId;
use ottla_protocol::batch::BatchBuilder;

use super::{Recovered, Scan, scan};
use crate::disk::{Disk, MemoryDisk};
use crate::io::{DiskRequest, FileId};
use crate::replica::stamp;

/// A log of three batches of two records each, and where each ends.
fn log() -> (Bytes, Vec<usize>) {
    let (mut file, mut ends, mut offset) = (BytesMut::new(), Vec::new(), 0);
    for epoch in 0..3 {
        let mut batch = BatchBuilder::new(200);
        for value in ["x", "yy"] {
            batch.append(5, None, Some(value.as_bytes()), [].into_iter()).unwrap();
        }
        let mut batch = batch.seal();
        batch.stamp(9, 0, epoch * 2);
        let (stamped, next) = stamp(&batch.into_bytes(), offset, epoch, None);
        offset = next;
        file.extend_from_slice(&stamped);
        ends.push(file.len());
    }
    (file.freeze(), ends)
}

#[test]
fn a_whole_log_is_found_batch_by_batch() {
    let (file, ends) = log();
    let found = scan(&file);
    assert_eq!((found.size as usize, &found.torn), (file.len(), &None));
    let offsets: Vec<_> = found.batches.iter().map(|batch| (batch.base_offset, batch.last_offset)).collect();
    assert_eq!(offsets, [(0, 1), (2, 3), (4, 5)]);
    assert_eq!(found.batches[1].position as usize, ends[0]);
    assert_eq!((found.batches[2].leader_epoch, found.batches[2].base_sequence), (2, 4));
}

#[test]
fn a_log_cut_anywhere_ends_with_its_last_whole_batch() {
    let (file, ends) = log();
    for length in 0..file.len() {
        let found = scan(&file[..length]);
        let whole = ends.iter().rev().find(|end| **end <= length).copied().unwrap_or(0);
        assert_eq!(found.size as usize, whole, "cut at {length}");
        assert_eq!(found.torn.is_some(), whole < length, "cut at {length}");
    }
}

#[test]
fn a_damaged_byte_ends_the_log_before_its_batch() {
    let (file, ends) = log();
    for at in ends[0]..ends[1] {
        // The base offset and the leader epoch are outside the checksum.
        let unprotected = (0..8).contains(&(at - ends[0])) || (12..16).contains(&(at - ends[0]));
        if unprotected {
            continue;
        }
        let mut damaged = BytesMut::from(&file[..]);
        damaged[at] ^= 0x40;
        let found = scan(&damaged);
        assert_eq!(found.size as usize, ends[0], "damaged at {at}");
        assert!(found.torn.is_some());
    }
}

#[test]
fn offsets_and_epochs_that_go_back_end_the_log() {
    let (file, ends) = log();
    let mut twice = BytesMut::from(&file[..ends[1]]);
    twice.extend_from_slice(&file[..ends[0]]);
    assert_eq!(scan(&twice).size as usize, ends[1]);
    let mut older = BytesMut::from(&file[..]);
    older[ends[1] + 12..ends[1] + 16].copy_from_slice(&0_i32.to_be_bytes());
    assert_eq!(scan(&older).size as usize, ends[1]);
}

#[test]
fn chunks_of_any_size_give_the_same() {
    let (file, _) = log();
    for size in [1, 7, 60, 61, 62, 100] {
        let mut chunks = Scan::new();
        assert!(file.chunks(size).all(|chunk| chunks.feed(chunk)));
        assert_eq!(chunks.finish(), scan(&file));
    }
}

#[test]
fn a_torn_tail_is_cut_on_the_disk() {
    let (file, ends) = log();
    let id = FileId::Log(TopicId([1; 16]), 4);
    let mut disk = MemoryDisk::new();
    disk.handle(DiskRequest::Append(id.clone(), file.slice(..ends[1] + 10)));
    disk.handle(DiskRequest::Replace(FileId::Meta(crate::node::META), Bytes::from_static(b"cluster")));
    let recovered = Recovered::read(&mut disk).unwrap();
    assert_eq!(recovered.logs[&(TopicId([1; 16]), 4)].batches.len(), 2);
    assert_eq!(recovered.meta[crate::node::META], "cluster");
    assert_eq!(disk.contents(&id).unwrap().len(), ends[1]);
}
