//! Files: weights are mapped into memory, small ones read.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::WeightsError;

/// A whole file mapped for reading. Its address is a multiple of the page size.
///
/// **The file must stay as it is while it is mapped.** If another process shortens it, touching the lost pages ends this
/// process with `SIGBUS` (an access violation on Windows); if it is rewritten in place, the bytes change underfoot. Replace
/// model files by renaming a new one over them, which leaves the mapped one intact.
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the file.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if the system refuses, [`WeightsError::NotAFile`] if it is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let failed = |source: io::Error| WeightsError::Io { path: path.into(), source };
        // looked at before it is opened: opening a pipe would wait for its writer
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(WeightsError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the mapping is read-only and lives as long as the slices taken from it, which borrow `self`. That nobody
        // changes the file meanwhile cannot be enforced by any program; it is the stated condition of this type's use.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Self { path: path.into(), map })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.map
    }
}

/// For those who use the pages in place.
impl AsRef<Mmap> for MappedFile {
    fn as_ref(&self) -> &Mmap {
        &self.map
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({}, {} bytes)", self.path.display(), self.map.len())
    }
}

/// Whether opening failed because the file is not there.
pub(crate) fn is_missing(error: &WeightsError) -> bool {
    matches!(error, WeightsError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// Reads a whole file of settings, unless it is larger than `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, WeightsError> {
    let failed = |source| WeightsError::Io { path: path.into(), source };
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(WeightsError::NotAFile { path: path.into() });
    }
    if meta.len() > limit {
        return Err(WeightsError::TooLarge { path: path.into(), size: meta.len(), limit });
    }
    fs::read(path).map_err(failed)
}
