//! Files that are whole or not there: named by what they hold the answer to, checksummed, replaced by renaming.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// First bytes of a file, with the version of this format.
const MAGIC: &[u8; 8] = b"kovar\x00\x00\x01";
/// Files above this size are not ours.
const LARGEST: u64 = 256 << 20;
/// Names to try for a temporary file.
const TRIES: u32 = 16;
/// Temporary files of this age belong to nobody who still writes.
const ABANDONED: Duration = Duration::from_secs(3600);
const TEMPORARY: &str = "part";

/// FNV-1a of 128 bits: any change of one byte changes it for certain, any other with all but certainty.
pub(super) fn digest(parts: &[&[u8]]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    parts.iter().copied().flatten().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The bytes that were stored under this key.
    Bytes(Vec<u8>),
    /// A file that is damaged, of another format, or the answer to another key.
    Rejected,
    Nothing,
}

/// A folder of answers by key.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// The folder is made when something is first stored.
    pub(super) fn open(folder: &Path) -> Store {
        let store = Store { folder: folder.into() };
        store.sweep();
        store
    }

    pub(super) fn path(&self, key: &[u8], extension: &str) -> PathBuf {
        self.folder.join(format!("{:032x}.{extension}", digest(&[key])))
    }

    /// What is stored under a key. The key itself is compared, so that two keys of one name are told apart.
    pub(super) fn load(&self, key: &[u8], extension: &str) -> Found {
        match read(&self.path(key, extension)) {
            Ok(bytes) => contents(&bytes, key).map_or(Found::Rejected, |bytes| Found::Bytes(bytes.to_vec())),
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            Err(_) => Found::Rejected,
        }
    }

    /// Stores bytes under a key: readers see the file before or the file after, never a part.
    pub(super) fn save(&self, key: &[u8], extension: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let target = self.path(key, extension);
        let (mut file, temporary) = self.temporary(&target)?;
        let written = file.write_all(&head(key, bytes)).and_then(|()| file.write_all(bytes));
        drop(file);
        let renamed = written.and_then(|()| fs::rename(&temporary, &target));
        if renamed.is_err() {
            // Whoever comes later sweeps it up if this fails too.
            let _ = fs::remove_file(&temporary);
        }
        renamed
    }

    /// A file of a name that nobody else has.
    fn temporary(&self, target: &Path) -> io::Result<(File, PathBuf)> {
        let process = std::process::id();
        for attempt in 0..TRIES {
            let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
            let path = target.with_extension(format!("{process}-{clock:x}-{attempt}.{TEMPORARY}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Removes what processes left that died while they wrote. What cannot be removed does no harm.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let now = SystemTime::now();
        for entry in entries.flatten() {
            let path = entry.path();
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| now.duration_since(at).ok());
            if path.extension().is_some_and(|e| e == TEMPORARY) && age.is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What stands before the bytes: magic, checksum of the rest, length of the key, key.
fn head(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let len = (key.len() as u64).to_le_bytes();
    let checksum = digest(&[&len, key, bytes]).to_le_bytes();
    [MAGIC, checksum.as_slice(), &len, key].concat()
}

fn contents<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (checksum, rest) = file.strip_prefix(MAGIC)?.split_at_checked(16)?;
    if digest(&[rest]).to_le_bytes() != checksum {
        return None;
    }
    let (len, rest) = rest.split_at_checked(8)?;
    (len == (key.len() as u64).to_le_bytes()).then_some(rest)?.strip_prefix(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(key: &[u8], bytes: &[u8]) -> Vec<u8> {
        [head(key, bytes).as_slice(), bytes].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 2000 }))]

        #[test]
        fn what_is_damaged_is_rejected(
            key in prop::collection::vec(any::<u8>(), 0..40),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
            tail in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let whole = file(&key, &bytes);
            prop_assert_eq!(contents(&whole, &key), Some(bytes.as_slice()));
            let at = at.index(whole.len());
            prop_assert_eq!(contents(&whole[..at], &key), None);
            let mut flipped = whole.clone();
            flipped[at] ^= flip;
            prop_assert_eq!(contents(&flipped, &key), None);
            let longer = [whole.as_slice(), &tail].concat();
            prop_assert_eq!(contents(&longer, &key), None);
            let other = [key.as_slice(), &tail].concat();
            prop_assert_eq!(contents(&whole, &other), None);
        }

        #[test]
        fn no_bytes_are_taken_for_a_file(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(contents(&noise, b"key"), None);
            let with_magic = [MAGIC.as_slice(), &noise].concat();
            prop_assert_eq!(contents(&with_magic, b"key"), None);
        }
    }

    #[test]
    fn a_key_is_not_the_start_of_another() {
        // The length tells them apart: "a" with "bc" is not "ab" with "c".
        assert_ne!(file(b"a", b"bc"), file(b"ab", b"c"));
        assert_eq!(contents(&file(b"ab", b"c"), b"a"), None);
    }

    #[test]
    fn what_is_stored_is_found_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("deep").join("folder"));
        assert_eq!(store.load(b"k", "x"), Found::Nothing);
        store.save(b"k", "x", b"one").unwrap();
        store.save(b"k", "x", b"two").unwrap();
        assert_eq!(store.load(b"k", "x"), Found::Bytes(b"two".to_vec()));
        fs::write(store.path(b"k", "x"), b"something else").unwrap();
        assert_eq!(store.load(b"k", "x"), Found::Rejected);
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1, "temporary files are left");
        // A folder in the place of the file.
        fs::remove_file(store.path(b"k", "x")).unwrap();
        fs::create_dir(store.path(b"k", "x")).unwrap();
        assert_eq!(store.load(b"k", "x"), Found::Rejected);
        store.save(b"k", "x", b"three").unwrap_err();
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1, "temporary files are left");
    }

    #[test]
    fn abandoned_files_are_swept_up() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("a.1-2-0.part"), folder.path().join("b.1-2-0.part"));
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&new).unwrap();
        Store::open(folder.path());
        assert!(!old.exists() && new.exists());
    }
}
