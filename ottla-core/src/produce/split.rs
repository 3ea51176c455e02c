//! Cuts a batch that a broker found too large into two.

use ottla_protocol::{
    batch::{BatchBuilder, BatchError, HEADER_LEN, RawBatch, SealedBatch, batches},
    compression::{Compression, CompressionError, Compressor, Decompressor},
};

/// Why a batch cannot be split; none of it happens to a batch that this process encoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("the bytes are no batch")]
    NoBatch,
    #[error("a half is larger than the format allows")]
    TooLarge,
}

/// The first `at` records and the rest, with the timestamps, the codec and the order that they had.
pub(super) fn split(batch: &SealedBatch, at: u32) -> Result<(SealedBatch, SealedBatch), SplitError> {
    let raw = batches(batch.bytes()).next().ok_or(SplitError::NoBatch)??;
    let codec = raw.header().compression()?;
    let first = part(&raw, codec, 0, at)?;
    let rest = part(&raw, codec, at, batch.count())?;
    Ok((first, rest))
}

fn part(raw: &RawBatch, codec: Compression, from: u32, to: u32) -> Result<SealedBatch, SplitError> {
    let mut decompressor = Decompressor::new();
    let mut builder = BatchBuilder::new(HEADER_LEN + raw.bytes().len() / 2);
    let count = usize::try_from(to.saturating_sub(from)).map_err(|_| SplitError::TooLarge)?;
    let skipped = usize::try_from(from).map_err(|_| SplitError::TooLarge)?;
    for record in raw.views(&mut decompressor)?.skip(skipped).take(count) {
        let record = record?;
        builder
            .append(record.timestamp, record.key, record.value, record.headers())
            .map_err(|_| SplitError::TooLarge)?;
    }
    Ok(builder.seal_with(&mut Compressor::new(codec, None)?)?)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::batch::RecordHeader;

    use super::*;

    fn batch(codec: Compression) -> SealedBatch {
        let mut builder = BatchBuilder::new(0);
        for n in 0..5_i64 {
            let value = [n as u8; 40];
            let headers = [RecordHeader::new("n", Some(&value[..1])), RecordHeader::new("n", None)];
            builder.append(1_000 - n, Some(b"key"), Some(&value), headers.into_iter()).expect("fits");
        }
        builder.seal_with(&mut Compressor::new(codec, None).expect("built in")).expect("compresses")
    }

    fn records(batch: &SealedBatch) -> Vec<(i64, Vec<u8>, usize)> {
        let raw = batches(batch.bytes()).next().expect("one batch").expect("well-formed");
        let mut decompressor = Decompressor::new();
        let views = raw.views(&mut decompressor).expect("decodes");
        views
            .map(|record| record.expect("decodes"))
            .map(|record| {
                (record.timestamp, record.value.unwrap_or_default().to_vec(), record.headers().len())
            })
            .collect()
    }

    #[test]
    fn the_halves_together_are_the_whole() {
        for codec in Compression::ALL.into_iter().filter(|codec| codec.is_available()) {
            let whole = batch(codec);
            let (first, rest) = split(&whole, 2).expect("splits");
            assert_eq!((first.count(), rest.count()), (2, 3), "{codec}");
            let halves: Vec<_> = records(&first).into_iter().chain(records(&rest)).collect();
            assert_eq!(halves, records(&whole), "{codec}");
        }
    }
}
