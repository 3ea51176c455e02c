//! The null broker's answers are those of a broker.

use bytes::{Bytes, BytesMut};
use ottla_protocol::{
    batch::batches,
    compression::{Compression, Decompressor},
};

use super::*;

fn read(shape: Shape, offset: i64, max_bytes: usize) -> Bytes {
    let mut buffer = BytesMut::new();
    shape.prepare().expect("a shape").read(offset, max_bytes, &mut buffer);
    buffer.freeze()
}

#[test]
fn a_log_goes_on_where_the_last_answer_ended_and_its_batches_are_valid() {
    let shape = Shape { compression: Compression::Lz4, ..Shape::default() };
    let mut offset = 0;
    for _ in 0..3 {
        let mut read_batches = 0;
        for batch in batches(read(shape, offset, 200_000)) {
            let batch = batch.expect("a batch");
            assert_eq!(batch.header().base_offset, offset);
            batch.verify_crc().expect("its checksum");
            let records = batch.records(&mut Decompressor::new()).expect("records");
            let is_whole = |value: Option<&[u8]>| value.is_some_and(|value| value.len() == 100);
            assert_eq!(
                records.iter().filter(|record| is_whole(record.as_ref().expect("a record").value)).count(),
                595
            );
            offset = batch.header().next_offset();
            read_batches += 1;
        }
        assert!(read_batches > 1);
    }
}

#[test]
fn there_is_one_batch_however_small_the_limit_and_whatever_the_offset() {
    for (offset, first) in [(0, 0), (7, 7), (-1, 0), (1 << 60, 1 << 60)] {
        let read = read(Shape { records_per_batch: 0, ..Shape::default() }, offset, 1);
        let batches: Vec<_> = batches(read).collect();
        assert_eq!(batches.len(), 1, "{offset}");
        assert_eq!(batches[0].as_ref().expect("a batch").header().base_offset, first);
    }
}
