//! A record costs no allocation: neither to append nor to look at.

use allocation_counter::measure;
use bytes::Bytes;

use super::*;
use crate::compression::{Compression, Compressor, Decompressor};

const RECORDS: i64 = 1_000;

fn fill(builder: &mut BatchBuilder) {
    let header = [RecordHeader::new("trace", Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-01"))];
    for n in 0..RECORDS {
        let value = [b'v'; 100];
        builder.append(n, Some(&n.to_be_bytes()), Some(&value), header.into_iter()).expect("there is room");
    }
}

fn look(field: &Bytes, decompressor: &mut Decompressor) -> usize {
    let mut records = 0;
    for batch in batches(field.clone()) {
        let batch = batch.expect("we wrote it");
        batch.verify_crc().expect("we wrote it");
        for record in batch.views(decompressor).expect("we wrote it") {
            records += record.expect("we wrote it").headers().count();
        }
    }
    records
}

#[test]
fn appending_allocates_nothing_in_a_buffer_that_is_large_enough() {
    let mut builder = BatchBuilder::new(1 << 20);
    assert_eq!(measure(|| fill(&mut builder)).count_total, 0);
}

#[test]
fn a_batch_in_a_warm_buffer_allocates_a_handful_of_times_with_any_codec() {
    for codec in Compression::ALL.into_iter().filter(|codec| codec.is_available()) {
        let mut compressor = Compressor::new(codec, None).expect("its default level exists");
        let mut decompressor = Decompressor::new();
        let mut buffer = Vec::with_capacity(1 << 20);
        let mut field = Bytes::new();
        let mut round = |counted: bool| {
            let warm = std::mem::take(&mut buffer);
            let written = measure(|| {
                let mut builder = BatchBuilder::with_buffer(warm);
                fill(&mut builder);
                let mut sealed = builder.seal_with(&mut compressor).expect("there is memory");
                sealed.stamp(1, 2, 3);
                field = sealed.into_bytes();
            });
            let seen = measure(|| assert_eq!(look(&field, &mut decompressor), RECORDS as usize));
            buffer = Vec::from(std::mem::take(&mut field));
            if counted {
                assert!(written.count_total <= 8, "{codec}: {} for a batch out", written.count_total);
                assert!(seen.count_total <= 8, "{codec}: {} for a batch in", seen.count_total);
            }
        };
        (0..3).for_each(|_| round(false));
        round(true);
    }
}
