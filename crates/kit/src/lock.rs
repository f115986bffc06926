//! The folder that holds everything a node keeps. One process has it at a time: the system's lock on the
//! file `lock` says which, and is let go when the process ends, however it ends.
//!
//! Where all data is in the folder, the lock is also the lease of the node id: while it is held no other process makes
//! ids over the same data.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::TryRngCore as _;
use rand::rngs::OsRng;

use crate::secret::Secret;

/// A data folder that this process has for itself.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

/// Why a data folder can not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("the data folder {} is in use by {}", path.display(), holder(*pid))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, when it can be told.
        pid: Option<u32>,
    },
    /// A newer version wrote it.
    #[error(
        "this data was written by a newer version: the data folder {} has format {found}, and this \
         version reads formats up to {known}",
        path.display()
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// A file in it does not hold what it should. It is not repaired: that would lose what it held.
    #[error("the file {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The system said no.
    #[error("can not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// How the data in a folder stands to a version of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// There is none yet.
    Fresh,
    /// It is as this version writes it.
    Current,
    /// It has this older format, and needs a migration.
    Older(u32),
}

impl DataFolder {
    /// Makes the folder when it is not there, readable by its owner alone, and takes it.
    ///
    /// # Errors
    /// When another process has it, or the system says no.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("make the folder", path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(FolderError::InUse {
                    path: path.to_path_buf(),
                    pid,
                });
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &lock_path)(e)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(io_error("write", &lock_path))?;
        Ok(DataFolder {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The secret of this name: read, or made of `bytes` random bytes when there is none. It is on the disk
    /// before this returns, and readable by its owner alone.
    ///
    /// # Errors
    /// When the file has another size, or the system says no. Such a file is left as it is: what was made
    /// with a lost secret is lost, too.
    pub fn secret(&self, name: &str, bytes: usize) -> Result<Secret, FolderError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(held) if held.len() == bytes => {
                fs::set_permissions(&path, Permissions::from_mode(0o600))
                    .map_err(io_error("close to others", &path))?;
                Ok(Secret::new(held))
            }
            Ok(_) => Err(FolderError::Damaged {
                path,
                problem: "it has the wrong size",
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut made = vec![0; bytes];
                OsRng
                    .try_fill_bytes(&mut made)
                    .map_err(|e| io_error("make a secret for", &path)(io::Error::other(e)))?;
                self.write(name, &made)?;
                Ok(Secret::new(made))
            }
            Err(e) => Err(io_error("read", &path)(e)),
        }
    }

    /// How the data stands to a version that writes format `known`.
    ///
    /// # Errors
    /// When a newer version wrote it: this one would harm it.
    pub fn format(&self, known: u32) -> Result<Format, FolderError> {
        let path = self.path.join("format");
        let found: u32 = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| FolderError::Damaged {
                path,
                problem: "it holds no number",
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Format::Fresh),
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        match found {
            _ if found > known => Err(FolderError::Newer {
                path: self.path.clone(),
                found,
                known,
            }),
            _ if found < known => Ok(Format::Older(found)),
            _ => Ok(Format::Current),
        }
    }

    /// Says that the data has this format now: after it was made, or migrated.
    ///
    /// # Errors
    /// When the system says no.
    pub fn set_format(&self, version: u32) -> Result<(), FolderError> {
        self.write("format", format!("{version}\n").as_bytes())
    }

    /// Writes a file whole or not at all. The lock makes this process the only writer.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let next = self.path.join(format!("{name}.new"));
        write_synced(&next, bytes)
            .and_then(|()| fs::rename(&next, &path))
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(io_error("write", &path))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left behind might be open to others.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_path_buf();
    move |source| FolderError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_second_holder_is_refused_with_folder_and_process_until_the_first_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/data");
        let first = DataFolder::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let words = DataFolder::open(&path).unwrap_err().to_string();
        assert!(words.contains(path.to_str().unwrap()), "{words}");
        assert!(
            words.contains(&format!("process {}", std::process::id())),
            "{words}"
        );
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_secret_is_made_once_and_only_the_owner_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        let made = folder.secret("pepper", 32).unwrap();
        assert_eq!(made.expose().len(), 32);
        assert_ne!(made, folder.secret("other", 32).unwrap());
        assert_eq!(mode(&place.path().join("pepper")), 0o600);
        assert!(!place.path().join("pepper.new").exists());
        drop(folder);
        let folder = DataFolder::open(place.path()).unwrap();
        assert_eq!(made, folder.secret("pepper", 32).unwrap());
    }

    #[test]
    fn a_secret_of_another_size_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        fs::write(place.path().join("pepper"), "short").unwrap();
        let error = folder.secret("pepper", 32).unwrap_err();
        assert!(matches!(error, FolderError::Damaged { .. }));
        assert_eq!(fs::read(place.path().join("pepper")).unwrap(), b"short");
    }

    #[test]
    fn what_a_crash_left_half_written_is_not_taken_for_a_secret() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        fs::write(place.path().join("pepper.new"), "half").unwrap();
        assert_eq!(folder.secret("pepper", 32).unwrap().expose().len(), 32);
        assert_eq!(mode(&place.path().join("pepper")), 0o600);
    }

    #[test]
    fn data_of_a_newer_version_is_refused_and_of_an_older_one_recognised() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path()).unwrap();
        assert_eq!(folder.format(2).unwrap(), Format::Fresh);
        folder.set_format(2).unwrap();
        assert_eq!(folder.format(2).unwrap(), Format::Current);
        assert_eq!(folder.format(3).unwrap(), Format::Older(2));
        let words = folder.format(1).unwrap_err().to_string();
        assert!(words.contains("written by a newer version"), "{words}");
        fs::write(place.path().join("format"), "what").unwrap();
        assert!(matches!(folder.format(2), Err(FolderError::Damaged { .. })));
    }
}
