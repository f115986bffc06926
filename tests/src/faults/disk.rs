//! A disk that misbehaves: `tests/shim/disk.c`, compiled here and loaded into the server.

use std::collections::HashMap;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/disk.c");

/// Stands between a server and its data folder.
pub struct Disk {
    folder: TempDir,
    data: PathBuf,
}

impl Disk {
    /// Compiles it for the data folder `data`.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub fn new(data: &Path) -> Result<Disk> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("undo"))?;
        let disk = Disk {
            folder,
            data: data.to_owned(),
        };
        let compiled = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(disk.library())
            .args([SOURCE, "-ldl", "-lpthread"])
            .output()
            .context("there is no C compiler")?;
        ensure!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        Ok(disk)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("disk.so")
    }

    fn undo(&self) -> PathBuf {
        self.folder.path().join("undo")
    }

    /// The environment of a server that uses it.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD".into(), text(self.library())),
            ("DISK_DATA".into(), text(self.data.clone())),
            ("DISK_UNDO".into(), text(self.undo())),
        ]
    }

    /// The next sync fails with EIO of a file that has `part` in its path.
    ///
    /// # Errors
    /// When that can not be said.
    pub fn fail_next_sync(&self, part: &str) -> Result<()> {
        // In its place at once: half of it would fit more.
        let new = self.undo().join("new");
        fs::write(&new, part)?;
        Ok(fs::rename(new, self.undo().join("fail"))?)
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        !self.undo().join("fail").exists()
    }

    /// Each sync takes so many milliseconds longer.
    ///
    /// # Errors
    /// When that can not be said.
    pub fn slow_down(&self, sync_ms: u64) -> Result<()> {
        Ok(fs::write(self.undo().join("slow"), sync_ms.to_string())?)
    }

    /// Each sync takes as long as it takes.
    ///
    /// # Errors
    /// When that can not be said.
    pub fn speed_up(&self) -> Result<()> {
        Ok(fs::remove_file(self.undo().join("slow"))?)
    }

    /// Takes back what was not synced when the server was killed: of each file all of it, or the newest part.
    /// Gives how many writes were taken back.
    ///
    /// # Errors
    /// When a file can not be written.
    pub fn lose_power(&self, random: &mut StdRng) -> Result<usize> {
        let mut files = HashMap::new();
        inodes(&self.data, &mut files)?;
        let mut lost = 0;
        for entry in fs::read_dir(self.undo())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (inode, is_lost) = match name.strip_suffix(".lost") {
                Some(inode) => (inode, true),
                None => (name.as_str(), false),
            };
            let inode: Option<u64> = inode.parse().ok();
            let Some(file) = inode.and_then(|inode| files.get(&inode)) else {
                continue;
            };
            let records = records(&fs::read(entry.path())?)?;
            if is_lost {
                lost += records.len();
                put_back(file, &records)?;
                fs::write(entry.path(), "")?;
                continue;
            }
            let kept = match random.random() {
                true => 0,
                false => random.random_range(0..=records.len()),
            };
            let mut target = fs::OpenOptions::new().write(true).open(file)?;
            for record in records[kept..].iter().rev() {
                target.set_len(record.size)?;
                target.seek(SeekFrom::Start(record.at))?;
                target.write_all(&record.bytes)?;
                lost += 1;
            }
            fs::write(entry.path(), "")?;
        }
        Ok(lost)
    }
}

/// Puts back what a failed sync had not written, in the midst of what was synced behind it.
fn put_back(file: &Path, records: &[Record]) -> Result<()> {
    let mut target = fs::OpenOptions::new().write(true).open(file)?;
    for record in records.iter().rev() {
        // What was not there before is a hole now.
        let mut bytes = record.bytes.clone();
        let end = (record.at + record.count).min(target.metadata()?.len());
        bytes.resize(usize::try_from(end.saturating_sub(record.at))?, 0);
        target.seek(SeekFrom::Start(record.at))?;
        target.write_all(&bytes)?;
    }
    Ok(())
}

/// What a write replaced.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    at: u64,
    bytes: Vec<u8>,
    /// The length of the file before.
    size: u64,
    /// How many bytes were written.
    count: u64,
}

fn records(mut from: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    // The last one may be cut off: then its write did not happen.
    while let Some((head, rest)) = from.split_at_checked(32) {
        let number =
            |n: usize| u64::from_ne_bytes(head[8 * n..8 * n + 8].try_into().expect("8 bytes"));
        let (at, there, size) = (number(0), usize::try_from(number(1))?, number(2));
        let count = number(3);
        let Some((bytes, rest)) = rest.split_at_checked(there) else {
            break;
        };
        records.push(Record {
            at,
            bytes: bytes.to_vec(),
            size,
            count,
        });
        from = rest;
    }
    Ok(records)
}

fn inodes(folder: &Path, found: &mut HashMap<u64, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        match kind.is_dir() {
            true => inodes(&entry.path(), found)?,
            false => _ = found.insert(kind.ino(), entry.path()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    /// Runs a shell command with the disk below `data`.
    fn shell(disk: &Disk, command: &str) -> bool {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", command])
            .envs(disk.env())
            .current_dir(&disk.data);
        shell.status().unwrap().success()
    }

    #[test]
    fn what_was_not_synced_is_lost_with_the_power_and_what_was_is_not() {
        let data = tempfile::tempdir().unwrap();
        let disk = Disk::new(data.path()).unwrap();
        assert!(shell(
            &disk,
            "dd if=/dev/zero of=synced bs=100 count=3 conv=fsync 2>/dev/null"
        ));
        assert!(shell(
            &disk,
            "dd if=/dev/zero of=loose bs=100 count=3 2>/dev/null"
        ));
        let mut random = StdRng::seed_from_u64(1);
        disk.lose_power(&mut random).unwrap();
        let len = |name: &str| fs::metadata(data.path().join(name)).unwrap().len();
        assert_eq!(len("synced"), 300);
        assert!(
            len("loose") < 300,
            "{} bytes outlived the power cut",
            len("loose")
        );
        assert_eq!(
            disk.lose_power(&mut random).unwrap(),
            0,
            "power is lost once"
        );
    }

    #[test]
    fn a_sync_fails_once_when_it_is_told_to() {
        let data = tempfile::tempdir().unwrap();
        let disk = Disk::new(data.path()).unwrap();
        disk.fail_next_sync("").unwrap();
        let write = "dd if=/dev/zero of=file bs=100 count=1 conv=fsync 2>/dev/null";
        assert!(!shell(&disk, write));
        assert!(disk.has_failed());
        assert!(shell(&disk, write));
    }

    #[test]
    fn what_a_failed_sync_had_to_write_no_later_sync_writes() {
        let data = tempfile::tempdir().unwrap();
        let disk = Disk::new(data.path()).unwrap();
        let mut random = StdRng::seed_from_u64(1);
        let write = |file: &str, at: usize| {
            let to = format!("of={file} seek={at} conv=fsync,notrunc 2>/dev/null");
            shell(
                &disk,
                &format!("tr '\\0' x </dev/zero | dd bs=100 count=1 iflag=fullblock {to}"),
            )
        };
        let byte = |file: &str| fs::read(data.path().join(file)).unwrap()[0];
        for file in ["later", "again"] {
            disk.fail_next_sync("").unwrap();
            assert!(!write(file, 0));
        }
        assert!(write("later", 1), "this sync writes what is behind");
        assert!(write("again", 0), "and this one the same once more");
        disk.lose_power(&mut random).unwrap();
        assert_eq!((byte("later"), byte("again")), (0, b'x'));
    }

    #[test]
    fn a_record_that_was_cut_off_is_no_record() {
        let mut bytes = Vec::new();
        for number in [5_u64, 2, 9, 4] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend([1, 2]);
        let whole = [Record {
            at: 5,
            bytes: vec![1, 2],
            size: 9,
            count: 4,
        }];
        assert_eq!(records(&bytes).unwrap(), whole);
        let more: Vec<u8> = bytes.iter().chain(&bytes[..33]).copied().collect();
        assert_eq!(records(&more).unwrap(), whole);
    }
}
