//! Decompressors and their buffers, used again and again: memory that is taken anew for each batch costs more in page
//! faults than the decompression itself.

use std::sync::Mutex;

use ottla_protocol::{batch::Records, compression::Decompressor};

use crate::net::lock;

/// The decompressors that nobody uses at the moment.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Decompressor>>);

/// As many callers may unpack at once without making new ones.
const KEPT: usize = 4;

impl Pool {
    /// Lends a decompressor.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Decompressor) -> T) -> T {
        let mut decompressor = lock(&self.0).pop().unwrap_or_default();
        let result = work(&mut decompressor);
        self.put(decompressor);
        result
    }

    /// Takes back the buffers of records that nobody sees any more.
    pub(super) fn recycle(&self, records: impl Iterator<Item = Records>) {
        let mut pool = lock(&self.0);
        for records in records {
            if let Some(decompressor) = pool.last_mut() {
                decompressor.recycle(records);
            }
        }
    }

    fn put(&self, decompressor: Decompressor) {
        let mut pool = lock(&self.0);
        if pool.len() < KEPT {
            pool.push(decompressor);
        }
    }
}
