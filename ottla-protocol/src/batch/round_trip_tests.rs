use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::compression::{Compression, Compressor, Decompressor};

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Owned {
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn headers(&self) -> impl ExactSizeIterator<Item = RecordHeader<'_>> + Clone {
        self.headers.iter().map(|(key, value)| RecordHeader::new(key, value.as_deref()))
    }

    fn of(view: RecordView<'_>) -> Self {
        Self {
            timestamp: view.timestamp,
            key: view.key.map(<[u8]>::to_vec),
            value: view.value.map(<[u8]>::to_vec),
            headers: view.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

pub(super) fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| codec.is_available())
}

pub(super) fn batch(records: &[Owned], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    for (index, record) in records.iter().enumerate() {
        let foretold = builder.record_size(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            record.headers(),
        );
        let before = builder.size();
        let appended = builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            record.headers(),
        );
        assert_eq!(appended, Ok(index as u32));
        assert_eq!(builder.size() - before, foretold);
    }
    let mut sealed = builder.seal_with(&mut Compressor::new(codec, None).unwrap()).unwrap();
    sealed.stamp(7, 3, 100);
    sealed.into_bytes()
}

pub(super) fn only(bytes: Bytes) -> RawBatch {
    let mut all = batches(bytes);
    let batch = all.next().unwrap().unwrap();
    assert!(all.next().is_none());
    assert_eq!(all.leftover(), 0);
    batch
}

fn read(batch: &RawBatch) -> Vec<Owned> {
    batch.verify_crc().unwrap();
    let mut decompressor = Decompressor::new();
    let records = batch.records(&mut decompressor).unwrap();
    let owned: Vec<_> = records.iter().map(|record| Owned::of(record.unwrap())).collect();
    let viewed: Vec<_> = batch.views(&mut decompressor).unwrap().map(|r| Owned::of(r.unwrap())).collect();
    assert_eq!(owned, viewed);
    owned
}

fn plain(value: &str) -> Owned {
    Owned { value: Some(value.into()), ..Owned::default() }
}

#[test]
fn the_bytes_are_the_formats() {
    let mut builder = BatchBuilder::new(0);
    builder.append(1_000, Some(b"k"), Some(b"v"), [RecordHeader::new("h", None)].into_iter()).unwrap();
    builder.append(999, None, None, std::iter::empty()).unwrap();
    let mut sealed = builder.seal();
    sealed.stamp(0x0102, 4, 5);
    let bytes = sealed.bytes();
    let expected = [
        &[0; 8][..],                                     // base offset
        &[0, 0, 0, 68],                                  // length
        &[0xff; 4],                                      // leader epoch
        &[2],                                            // magic
        &crc32c(&bytes[21..]).to_be_bytes(),             // checksum
        &[0, 0],                                         // attributes
        &[0, 0, 0, 1],                                   // last offset delta
        &1_000_i64.to_be_bytes(),                        // base timestamp
        &1_000_i64.to_be_bytes(),                        // max timestamp
        &0x0102_i64.to_be_bytes(),                       // producer id
        &[0, 4],                                         // producer epoch
        &[0, 0, 0, 5],                                   // base sequence
        &[0, 0, 0, 2],                                   // count
        &[22, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 1], // length, attributes, deltas, key, value, one header
        &[12, 0, 1, 2, 1, 1, 0], // timestamp delta -1, offset delta 1, nulls, no headers
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn null_and_empty_duplicate_headers_and_time_running_backwards_survive_every_codec() {
    let header =
        |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec()));
    let records = [
        Owned { timestamp: 1_700_000_000_000, key: Some(vec![]), value: Some(vec![]), headers: vec![] },
        Owned { timestamp: 1_600_000_000_000, key: None, value: None, headers: vec![] },
        Owned {
            timestamp: i64::MAX,
            key: Some(b"key".to_vec()),
            value: Some(vec![b'x'; 100_000]),
            headers: vec![
                header("via", Some("web")),
                header("", None),
                header("via", Some("eu")),
                header("via", Some("")),
                header("ключ", Some("значение")),
            ],
        },
        Owned { timestamp: i64::MIN, ..plain("the most distant delta") },
    ];
    for codec in codecs() {
        let raw = only(batch(&records, codec));
        assert_eq!(raw.header().compression(), Ok(codec));
        assert_eq!(read(&raw), records, "{codec}");
        assert_eq!(raw.header().max_timestamp, i64::MAX);
        assert_eq!((raw.header().producer_id, raw.header().producer_epoch), (7, 3));
        assert_eq!((raw.header().base_sequence, raw.header().last_sequence()), (100, 103));
    }
}

#[test]
fn what_compression_would_make_larger_stays_as_it_is() {
    for codec in codecs() {
        let raw = only(batch(&[plain("a")], codec));
        assert_eq!(raw.header().compression(), Ok(Compression::None), "{codec}");
        assert_eq!(read(&raw), [plain("a")]);
    }
}

#[test]
fn a_compressor_serves_batch_after_batch_from_the_buffers_it_was_given() {
    for codec in codecs() {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut buffer = Vec::new();
        for round in 0..5 {
            let mut builder = BatchBuilder::with_buffer(buffer);
            for n in 0..1_000 {
                builder
                    .append(n, None, Some(format!("round {round}, record {n}").as_bytes()), [].into_iter())
                    .unwrap();
            }
            let mut sealed = builder.seal_with(&mut compressor).unwrap();
            sealed.stamp_without_producer();
            let bytes = sealed.into_bytes();
            let raw = only(bytes.clone());
            assert_eq!(read(&raw).len(), 1_000);
            drop(raw);
            buffer = Vec::from(bytes);
        }
    }
}

#[test]
fn a_batch_refuses_what_would_pass_the_limit_and_stays_as_it_was() {
    let mut builder = BatchBuilder::new(200);
    let value = [b'v'; 50];
    let none = std::iter::empty::<RecordHeader<'_>>;
    let size = 61 + builder.record_size(5, None, Some(&value), none());
    assert_eq!(
        builder.append_within(size - 1, 5, None, Some(&value), none()),
        Err(AppendError::Full { size, limit: size - 1 })
    );
    assert_eq!((builder.size(), builder.len(), builder.base_timestamp()), (61, 0, -1));
    assert_eq!(builder.append_within(size, 5, None, Some(&value), none()), Ok(0));
    assert_eq!((builder.size(), builder.base_timestamp()), (size, 5));
    assert!(builder.append_within(size, 5, None, None, none()).is_err());
}

#[test]
fn stamping_again_leaves_bytes_alone_that_somebody_holds() {
    let mut builder = BatchBuilder::new(0);
    builder.append(0, None, Some(b"v"), std::iter::empty()).unwrap();
    let mut sealed = builder.seal();
    sealed.stamp(1, 0, 0);
    let sent = sealed.bytes();
    sealed.stamp(2, 1, 9);
    assert_eq!(only(sent).header().producer_id, 1);
    let again = only(sealed.bytes());
    again.verify_crc().unwrap();
    assert_eq!((again.header().producer_id, again.header().base_sequence), (2, 9));

    // Alone, it is stamped in place.
    drop(again);
    let place = sealed.bytes().as_ptr();
    sealed.stamp(3, 0, 0);
    assert_eq!(sealed.bytes().as_ptr(), place);
}

#[test]
fn offsets_go_across_the_gaps_of_compaction() {
    let mut builder = BatchBuilder::new(0);
    builder.skip_offsets(2);
    builder.append(0, None, Some(b"a"), std::iter::empty()).unwrap();
    builder.skip_offsets(5);
    builder.append(0, None, Some(b"b"), std::iter::empty()).unwrap();
    builder.skip_offsets(1);
    let mut bytes = Vec::from(builder.seal().into_bytes());
    set_base_offset_and_epoch(&mut bytes, 1_000, 3);
    let raw = only(Bytes::from(bytes));
    let offsets: Vec<_> = raw.views(&mut Decompressor::new()).unwrap().map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [1_002, 1_008]);
    assert_eq!((raw.header().last_offset(), raw.header().next_offset()), (1_009, 1_010));
    assert_eq!(raw.header().partition_leader_epoch, 3);
}

#[test]
fn a_batch_that_compaction_emptied_still_moves_the_position() {
    let mut builder = BatchBuilder::new(0);
    builder.skip_offsets(10);
    let raw = only(builder.seal().into_bytes());
    assert_eq!(raw.views(&mut Decompressor::new()).unwrap().count(), 0);
    assert_eq!(raw.header().next_offset(), 10);
}

#[test]
fn the_brokers_time_replaces_the_producers() {
    let mut bytes = Vec::from(batch(&[plain("a"), Owned { timestamp: 5, ..plain("b") }], Compression::None));
    set_log_append_time(&mut bytes, 1_234);
    let raw = only(Bytes::from(bytes));
    assert_eq!(raw.header().timestamp_type(), TimestampType::LogAppendTime);
    assert!(read(&raw).iter().all(|record| record.timestamp == 1_234));
}

#[test]
fn a_transaction_marker_says_what_became_of_the_transaction() {
    for (control_type, epoch) in [(ControlType::Commit, 7), (ControlType::Abort, 0)] {
        let raw = only(control_batch(42, 3, 1_000, (9, 2), control_type, epoch));
        raw.verify_crc().unwrap();
        assert!(raw.header().is_control() && raw.header().is_transactional());
        assert_eq!((raw.header().producer_id, raw.header().producer_epoch), (9, 2));
        let marker = raw.control_record().unwrap().unwrap();
        assert_eq!(marker, ControlRecord { offset: 42, control_type, coordinator_epoch: epoch });
    }
    assert_eq!(only(batch(&[plain("data")], Compression::None)).control_record(), Ok(None));
}

#[test]
fn reading_can_stop_and_go_on_later() {
    let records: Vec<_> = (0..10).map(|n| plain(&n.to_string())).collect();
    for codec in codecs() {
        let raw = only(batch(&records, codec));
        let owned = raw.records(&mut Decompressor::new()).unwrap();
        let mut cursor = RecordCursor::default();
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let mut iter = owned.resume(cursor);
            seen.extend(iter.by_ref().take(3).map(|record| record.unwrap().offset));
            cursor = owned.cursor(&iter);
            assert_eq!(cursor.index() as usize, seen.len());
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert!(owned.resume(cursor).next().is_none());
    }
}

#[test]
fn a_record_that_was_skipped_is_read_later_or_never() {
    let records: Vec<_> = (0..10).map(|n| plain(&n.to_string())).collect();
    let raw = only(batch(&records, Compression::None));
    let owned = raw.records(&mut Decompressor::new()).unwrap();
    let mut cursor = RecordCursor::default();
    for n in 0..10 {
        let at = cursor;
        assert!(owned.skip(&mut cursor));
        assert_eq!(cursor.index(), n + 1);
        assert_eq!(owned.resume(at).next().unwrap().unwrap().offset, i64::from(n));
        assert_eq!(owned.resume(at).count(), 10 - n as usize);
    }
    assert!(!owned.skip(&mut cursor));
    assert_eq!(cursor.index(), 10);
    assert!(owned.resume(cursor).next().is_none());
}

#[test]
fn a_recycled_buffer_serves_the_next_batch_and_a_held_one_is_left_alone() {
    let records = [plain(&"x".repeat(10_000))];
    for codec in codecs().filter(|codec| *codec != Compression::None) {
        let raw = only(batch(&records, codec));
        let mut decompressor = Decompressor::new();
        let first = raw.records(&mut decompressor).unwrap();
        let (held, place) = (first.clone(), first.payload().as_ptr());
        decompressor.recycle(first);
        let second = raw.records(&mut decompressor).unwrap();
        assert_ne!(second.payload().as_ptr(), place);
        assert_eq!(held.payload(), second.payload());
        let place = second.payload().as_ptr();
        decompressor.recycle(second);
        assert_eq!(raw.records(&mut decompressor).unwrap().payload().as_ptr(), place);
    }
}

pub(super) fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let headers = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..4), bytes()), 0..4);
    (any::<i64>(), bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers,
    })
}

proptest! {
    #[test]
    fn any_records_round_trip(records in prop::collection::vec(any_record(), 1..50)) {
        for codec in codecs() {
            prop_assert_eq!(&read(&only(batch(&records, codec))), &records);
        }
    }

    #[test]
    fn batches_in_a_row_are_cut_where_they_end(sizes in prop::collection::vec(1_usize..5, 1..5), cut: prop::sample::Index) {
        let one = |count: &usize| batch(&vec![plain("value"); *count], Compression::None);
        let parts: Vec<_> = sizes.iter().map(one).collect();
        let field = Bytes::from(parts.concat());
        let whole: Vec<_> = batches(field.clone()).map(|b| b.unwrap().header().count as usize).collect();
        prop_assert_eq!(&whole, &sizes);

        // A batch that was cut short is left over, quietly.
        let cut = cut.index(field.len());
        let mut iter = batches(field.slice(..cut));
        let given: usize = iter.by_ref().map(|b| b.unwrap().bytes().len()).sum();
        prop_assert_eq!(given + iter.leftover(), cut);
    }
}
