//! What a record costs to append and to look at, in nanoseconds of this machine:
//!
//! ```text
//! cargo run --release -p ottla-protocol --example batch_cost
//! ```
//!
//! All cases run once in each round, and the median of the rounds is printed, so that a busy neighbour spoils a round
//! and not a case. Compare figures of one run only.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::batch::{BatchBuilder, batches, crc32c};
use ottla_protocol::compression::{Compression, Compressor, Decompressor};

const ROUNDS: usize = 15;
const BATCH: usize = 1 << 20;

fn main() {
    for size in [100, 1_024] {
        let records = records(size);
        println!("records of {size} bytes in batches of 1 MiB           ns per record, median (min to max)");
        uncompressed(&records);
        for codec in Compression::ALL.into_iter().skip(1).filter(|codec| codec.is_available()) {
            compressed(codec, &records);
        }
        println!();
    }
}

fn uncompressed(records: &[Vec<u8>]) {
    let (batch, count) = build(records, Vec::new(), &mut Compressor::none());
    let field = Bytes::from(batch.clone());
    let mut buffer = batch;
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        samples[0].push(time(|| {
            let mut builder = BatchBuilder::with_buffer(std::mem::take(&mut buffer));
            fill(&mut builder, records);
            buffer = builder.seal().into_bytes().into();
        }));
        samples[1].push(time(|| {
            black_box(crc32c(black_box(&field)));
        }));
        samples[2].push(time(|| walk(&field, false)));
        samples[3].push(time(|| walk(&field, true)));
    }
    for (name, samples) in ["append", "checksum", "views", "views and checksum"].into_iter().zip(samples) {
        report(name, samples, count);
    }
}

fn compressed(codec: Compression, records: &[Vec<u8>]) {
    let mut compressor = Compressor::new(codec, None).expect("its default level exists");
    let mut decompressor = Decompressor::new();
    let (batch, count) = build(records, Vec::new(), &mut compressor);
    let field = Bytes::from(batch.clone());
    let mut buffer = batch;
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        out.push(time(|| {
            buffer = build(records, std::mem::take(&mut buffer), &mut compressor).0;
        }));
        back.push(time(|| {
            for batch in batches(field.clone()) {
                let batch = batch.expect("we wrote it");
                batch.verify_crc().expect("we wrote it");
                for record in batch.views(&mut decompressor).expect("we wrote it") {
                    touch(record.expect("we wrote it").value);
                }
            }
        }));
    }
    report(&format!("{codec}: append, compress, stamp"), out, count);
    report(&format!("{codec}: checksum, decompress, views"), back, count);
}

/// JSON-like, each record different, exactly `size` bytes.
fn records(size: usize) -> Vec<Vec<u8>> {
    let mut state = 42_u64;
    let record = |n: u32| {
        let mut text =
            format!("{{\"ts\":{},\"user\":{},\"event\":\"{}\",\"sid\":\"", 1_700_000_000 + n, n % 977, n % 8);
        while text.len() < size {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += if state >> 63 == 0 { "order" } else { "click" };
            text += &format!("{:08x}", state >> 32);
        }
        text.truncate(size);
        text.into_bytes()
    };
    (0..16_384).map(record).collect()
}

fn fill(builder: &mut BatchBuilder, records: &[Vec<u8>]) {
    for (n, value) in records.iter().cycle().enumerate() {
        let timestamp = 1_700_000_000_000 + (n as i64 >> 6);
        if builder.append_within(BATCH, timestamp, None, Some(value), std::iter::empty()).is_err() {
            return;
        }
    }
}

fn build(records: &[Vec<u8>], buffer: Vec<u8>, compressor: &mut Compressor) -> (Vec<u8>, u32) {
    let mut builder = BatchBuilder::with_buffer(buffer);
    fill(&mut builder, records);
    let mut sealed = builder.seal_with(compressor).expect("there is memory");
    sealed.stamp(1, 0, 0);
    let count = sealed.count();
    (sealed.into_bytes().into(), count)
}

fn walk(field: &Bytes, checksum: bool) {
    let mut decompressor = Decompressor::new();
    for batch in batches(field.clone()) {
        let batch = batch.expect("we wrote it");
        if checksum {
            batch.verify_crc().expect("we wrote it");
        }
        for record in batch.views(&mut decompressor).expect("it is not compressed") {
            touch(record.expect("we wrote it").value);
        }
    }
}

fn touch(value: Option<&[u8]>) {
    black_box(value.and_then(|value| value.first()));
}

/// Runs a case often enough for the clock to tell.
#[allow(clippy::disallowed_methods, reason = "it measures real time")]
fn time(mut case: impl FnMut()) -> Duration {
    const TIMES: u32 = 5;
    let start = Instant::now();
    for _ in 0..TIMES {
        case();
    }
    start.elapsed() / TIMES
}

fn report(name: &str, mut samples: Vec<Duration>, count: u32) {
    samples.sort();
    let each = |sample: Duration| sample.as_nanos() as f64 / f64::from(count);
    let (min, median, max) = (samples[0], samples[samples.len() / 2], samples[samples.len() - 1]);
    println!("  {name:<44} {:>8.1} ({:.1} to {:.1})", each(median), each(min), each(max));
}
