//! Disks: what carries out a [`DiskRequest`].
//!
//! [`MemoryDisk`] forgets everything when it is dropped and can lose its unsynced tail on demand; [`FileDisk`] keeps
//! one file per replica below a [`DataDir`]. Both carry out requests one after the other, in the order given.

mod data_dir;
mod file;
mod memory;
mod patience;
#[cfg(test)]
mod scratch;

pub use data_dir::DataDir;
pub use file::FileDisk;
pub use memory::{MemoryDisk, Tail};
pub use patience::Patience;

use crate::io::{DiskRequest, DiskResult, FileId};

/// The disk of one node, or of the controller.
pub trait Disk: Send {
    /// Carries out one request. It may block; a failure is a [`DiskResult::Failed`], never a panic. After a
    /// [`DiskResult::NoRoom`] the file is as it was before.
    fn handle(&mut self, request: DiskRequest) -> DiskResult;

    /// The logs of which a file exists, in order: what recovery has to read.
    ///
    /// # Errors
    /// When the directory cannot be listed; the error names it.
    fn logs(&self) -> std::io::Result<Vec<FileId>>;
}
