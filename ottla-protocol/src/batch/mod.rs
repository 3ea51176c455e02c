//! Record batches, format v2: the only format that Kafka has written since 0.11 and that 4.x accepts.
//!
//! A batch is 61 bytes of header and then the records, which a codec may have compressed as a whole:
//!
//! ```text
//!  at   bytes  field                          written by
//!   0   8      base offset                    broker   ┐ outside the checksum: a broker
//!   8   4      length, counted from byte 12   seal     │ assigns offsets and epochs
//!  12   4      partition leader epoch         broker   │ without touching the rest
//!  16   1      magic = 2                      seal     ┘
//!  17   4      CRC-32C of bytes 21…           stamp
//!  21   2      attributes                     seal     codec, timestamp type, transactional, control
//!  23   4      last offset delta              seal
//!  27   8      base timestamp                 seal
//!  35   8      max timestamp                  seal
//!  43   8      producer id                    stamp    ┐ known when the batch is drained,
//!  51   2      producer epoch                 stamp    │ so that batches get their
//!  53   4      base sequence                  stamp    ┘ sequence in the order of sending
//!  57   4      record count                   seal
//!  61   …      records
//! ```
//!
//! Out: [`BatchBuilder`] appends records straight into the buffer that will be sent, [`BatchBuilder::seal_with`]
//! compresses and fills the header, [`SealedBatch::stamp`] adds the producer's identity and the checksum.
//!
//! In: [`batches`] cuts a fetched `records` field into [`RawBatch`]es, and [`RawBatch::records`] gives [`RecordView`]s
//! that borrow from the frame (or from the decompressed batch). Nothing that a peer writes is trusted: each lie is a
//! [`BatchError`].

mod builder;
mod control;
mod crc;
mod error;
mod header;
mod patch;
mod raw;
mod record;
mod varint;

#[cfg(test)]
mod allocation_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod round_trip_tests;

pub use builder::{AppendError, BatchBuilder, SealedBatch};
pub use control::{ControlRecord, ControlType, control_batch};
pub use crc::crc32c;
pub use error::{BatchError, RecordError};
pub use header::{
    Attributes, BatchHeader, HEADER_LEN, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, TimestampType,
};
pub use patch::{set_base_offset_and_epoch, set_log_append_time};
pub use raw::{Batches, RawBatch, Records, batches};
pub use record::{Headers, RecordCursor, RecordHeader, RecordIter, RecordView};
