use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::io::NodeId;

use super::{FileDisk, file::sync_dir};

/// The name of the file that says what the directory is. Kafka's log directories have one of the same name.
const MARKER: &str = "meta.properties";
/// Held, locked, for as long as the directory is in use.
const LOCK: &str = ".lock";
const MARKER_TEXT: &str = "# An Ottla broker's data directory.\nversion=1\n";

/// A data directory of a cluster, locked for this process.
///
/// ```text
/// data/meta.properties                      what this is: version=1
/// data/.lock                                locked while in use
/// data/controller/…                         the cluster's metadata
/// data/node-0/<topic id>-<partition>.log    one replica: record batches as clients see them, back to back
/// data/node-0/<topic id>-<partition>.start  where it begins, once records were dropped
/// data/node-0/…                             the node's own small files, replaced as a whole
/// ```
///
/// Clones share the lock, which goes with the last of them.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Opens or creates a data directory and locks it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] when it is in use already, by this process or another;
    /// [`io::ErrorKind::InvalidData`] when it holds something else than an Ottla broker's data; otherwise what the
    /// file system says, with the path.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|error| named(&path, &error))?;
        let marker = path.join(MARKER);
        let is_new = !marker.try_exists().map_err(|error| named(&marker, &error))?;
        if is_new && has_content(&path)? {
            let text =
                format!("{}: not empty, and not an Ottla data directory (no {MARKER})", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let lock = lock(&path)?;
        if is_new {
            write_marker(&path, &marker).map_err(|error| named(&marker, &error))?;
        } else {
            check_marker(&marker)?;
        }
        Ok(Self { path, _lock: Arc::new(lock) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk of a node.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn node(&self, node: NodeId) -> io::Result<FileDisk> {
        FileDisk::open(self.path.join(format!("node-{node}")), self.clone())
    }

    /// The disk of the controller.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn controller(&self) -> io::Result<FileDisk> {
        FileDisk::open(self.path.join("controller"), self.clone())
    }
}

fn has_content(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path).map_err(|error| named(path, &error))? {
        // Volumes that were just formatted hold a `lost+found`; a start that failed leaves our own lock.
        let name = entry.map_err(|error| named(path, &error))?.file_name();
        if name != LOCK && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(path: &Path) -> io::Result<File> {
    let name = path.join(LOCK);
    let busy = || {
        let text = format!("{}: in use by another broker", path.display());
        io::Error::new(io::ErrorKind::ResourceBusy, text)
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    open_locked(&options, &name).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => busy(),
        _ => named(&name, &error),
    })
}

/// `flock` belongs to the open file: the kernel drops it when the process ends, however it ends.
#[cfg(unix)]
fn open_locked(options: &OpenOptions, name: &Path) -> io::Result<File> {
    let file = options.open(name)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(windows)]
fn open_locked(options: &OpenOptions, name: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;
    const ERROR_SHARING_VIOLATION: i32 = 32;
    options.clone().share_mode(0).open(name).map_err(|error| match error.raw_os_error() {
        Some(ERROR_SHARING_VIOLATION) => io::ErrorKind::ResourceBusy.into(),
        _ => error,
    })
}

fn write_marker(dir: &Path, marker: &Path) -> io::Result<()> {
    let mut file = File::create(marker)?;
    file.write_all(MARKER_TEXT.as_bytes())?;
    file.sync_all()?;
    sync_dir(dir)
}

fn check_marker(marker: &Path) -> io::Result<()> {
    let mut text = String::new();
    // A marker is some ten bytes; whatever else has that name is not worth reading.
    let file = File::open(marker).map_err(|error| named(marker, &error))?;
    file.take(4096).read_to_string(&mut text).map_err(|error| named(marker, &error))?;
    // A kill between creating the marker and filling it leaves an empty one, and nothing else.
    if text.is_empty() || text.lines().any(|line| line.trim() == "version=1") && text.contains("Ottla") {
        return Ok(());
    }
    let text = format!("{}: not the data of an Ottla broker of this version", marker.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// The same error with the path in its text: the bare text does not say which file it is about.
pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::scratch::Scratch;

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_free() {
        let scratch = Scratch::new();
        let first = DataDir::open(scratch.path()).unwrap();
        let disk = first.node(1).unwrap();
        drop(first);
        let error = DataDir::open(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("in use by another broker"), "{error}");
        drop(disk);
        DataDir::open(scratch.path()).unwrap();
    }

    #[test]
    fn a_directory_with_foreign_files_is_refused() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("thesis.tex"), "years of work").unwrap();
        let error = DataDir::open(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(!scratch.path().join(LOCK).exists());
    }

    #[test]
    fn a_directory_of_another_version_or_of_kafka_is_refused() {
        for text in
            ["# An Ottla broker's data directory.\nversion=2\n", "version=1\ncluster.id=x\nnode.id=1\n"]
        {
            let scratch = Scratch::new();
            fs::write(scratch.path().join(MARKER), text).unwrap();
            assert_eq!(DataDir::open(scratch.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error_with_its_name() {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(DataDir::open(&path).unwrap_err().to_string().contains("file"));
    }
}
