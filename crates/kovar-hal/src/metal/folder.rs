use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// A folder of our own among the temporary files, gone when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> std::io::Result<Folder> {
        Folder::within(&std::env::temp_dir())
    }

    fn within(base: &Path) -> std::io::Result<Folder> {
        let process = std::process::id();
        for number in 0..u16::MAX {
            let path = base.join(format!("kovar-{process}-{number}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Folder(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::AlreadyExists, format!("{} is full of folders of ours", base.display())))
    }

    /// Path of a file in there.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which empties this place.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_apart_and_do_not_stay() {
        let (first, second) = (Folder::new().unwrap(), Folder::new().unwrap());
        let file = first.file("x");
        assert_ne!(file, second.file("x"));
        std::fs::write(&file, "text").unwrap();
        drop(first);
        assert!(!file.exists());
    }
}
