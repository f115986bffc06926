//! Keeps everything in one folder: an append-only log of checksummed batches, rewritten when most of it is
//! no longer needed.
//!
//! ```text
//!   log   = mark batch*       batch = length u32, crc32 u32, JSON array of records; little endian
//!   lock  held by the process that uses the folder
//! ```
//! The mark says which form the records have. A log of the first form, which had no mark, is begun anew with
//! what outlives everything: who this is, and what is not sent. One of a later form is left alone.
//!
//! A batch that is cut off or does not match its checksum ends the log: what is before it is whole, and what
//! is behind it was never promised.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{EVENTS_PER_CHAT_MAX, Error, Record, Snapshot, Store};

/// What a log begins with; the number at its end is that of the form.
const MARK: &[u8; 8] = b"tert-l-2";
/// A log below this size is not rewritten.
const COMPACT_BYTES_MIN: u64 = 1 << 20;
/// A batch above this size is no batch, but rubbish that looks like a length.
const BATCH_BYTES_MAX: u32 = 256 << 20;

/// A store in a folder that only its owner may read.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Guards the end of the log; held for one append, sync or rewrite.
    log: Mutex<Log>,
    /// Held as long as the store is open.
    _lock: File,
}

#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
    /// Up to where it survives a power cut.
    synced_bytes: u64,
    /// How large it was after the last rewrite.
    compact_bytes: u64,
}

impl Folder {
    /// Opens the folder, and makes it when it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it open, or what the file system says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        private_folder(&path)?;
        let lock = private_file(&path.join("lock"), false)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        let log = open_log(&path)?;
        sync_folder(&path)?;
        Ok(Folder {
            path,
            log: Mutex::new(log),
            _lock: lock,
        })
    }
}

fn open_log(folder: &Path) -> Result<Log, Error> {
    let mut file = private_file(&folder.join("log"), false)?;
    let bytes = all_bytes(&mut file)?;
    match bytes.first_chunk::<8>() {
        Some(mark) if mark == MARK => {
            let (_, whole) = read(&bytes)?;
            // A torn end is cut off, so that the next batch does not come behind it.
            file.set_len(whole)?;
            file.seek(SeekFrom::End(0))?;
            Ok(Log {
                file,
                bytes: whole,
                synced_bytes: 0,
                compact_bytes: 0,
            })
        }
        Some(mark) if mark[..7] == MARK[..7] => Err(Error::Unreadable(
            "a newer version wrote this folder".into(),
        )),
        _ => rewrite(folder, &lasting_of_first_form(&bytes)),
    }
}

/// What outlives everything, of a log of the first form.
fn lasting_of_first_form(bytes: &[u8]) -> Vec<Record> {
    let (mut snapshot, mut at) = (Snapshot::default(), 0);
    while let Some((batch, len)) = whole_batch(&bytes[at..]) {
        let records: Vec<serde_json::Value> = serde_json::from_slice(batch).unwrap_or_default();
        for record in records {
            // What has another form now is about the logs, and is read from the server again.
            let record = serde_json::from_value(record)
                .ok()
                .filter(outlives_everything);
            record.into_iter().for_each(|record| snapshot.apply(record));
        }
        at += len;
    }
    snapshot.lasting()
}

fn outlives_everything(record: &Record) -> bool {
    matches!(
        record,
        Record::Device(_)
            | Record::SignedIn(_)
            | Record::TokensGone
            | Record::SignedOut
            | Record::Message(_)
            | Record::MessageGone { .. }
    )
}

/// Puts a log of these records in the place of the one that is there.
fn rewrite(folder: &Path, records: &[Record]) -> Result<Log, Error> {
    let next = folder.join("log.next");
    let mut file = private_file(&next, true)?;
    let framed = [&MARK[..], &frame(records)?].concat();
    file.write_all(&framed)?;
    file.sync_all()?;
    fs::rename(&next, folder.join("log"))?;
    sync_folder(folder)?;
    let bytes = framed.len() as u64;
    Ok(Log {
        file,
        bytes,
        synced_bytes: bytes,
        compact_bytes: bytes,
    })
}

fn all_bytes(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Store for Folder {
    fn load(&self) -> Result<Snapshot, Error> {
        let mut log = self.log.lock();
        let (snapshot, _) = read(&all_bytes(&mut log.file)?)?;
        log.file.seek(SeekFrom::End(0))?;
        Ok(snapshot.reopened())
    }

    fn write(&self, batch: &[Record]) -> Result<(), Error> {
        let framed = frame(batch)?;
        let mut log = self.log.lock();
        if let Err(error) = log.file.write_all(&framed) {
            // Half a batch must not stay before the next one.
            let whole = log.bytes;
            log.file.set_len(whole)?;
            log.file.seek(SeekFrom::End(0))?;
            return Err(error.into());
        }
        log.bytes += framed.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        let mut log = self.log.lock();
        if log.bytes > COMPACT_BYTES_MIN.max(3 * log.compact_bytes) {
            return self.compact(&mut log);
        }
        // Who waited for the lock may have been served by whoever held it.
        if log.synced_bytes < log.bytes {
            log.file.sync_data()?;
            log.synced_bytes = log.bytes;
        }
        Ok(())
    }
}

impl Folder {
    /// Writes what is still needed into a new log and puts it in the place of the old one.
    fn compact(&self, log: &mut Log) -> Result<(), Error> {
        let (snapshot, _) = read(&all_bytes(&mut log.file)?)?;
        log.file.seek(SeekFrom::End(0))?;
        *log = rewrite(&self.path, &snapshot.records(EVENTS_PER_CHAT_MAX))?;
        Ok(())
    }
}

fn frame(batch: &[Record]) -> Result<Vec<u8>, Error> {
    let unreadable = |e: serde_json::Error| Error::Unreadable(e.to_string());
    let mut framed = vec![0; 8];
    serde_json::to_writer(&mut framed, batch).map_err(unreadable)?;
    let length = u32::try_from(framed.len() - 8)
        .ok()
        .filter(|n| *n <= BATCH_BYTES_MAX);
    let length = length.ok_or_else(|| Error::Unreadable("a batch is too large".into()))?;
    let sum = crc32fast::hash(&framed[8..]);
    framed[..4].copy_from_slice(&length.to_le_bytes());
    framed[4..8].copy_from_slice(&sum.to_le_bytes());
    Ok(framed)
}

/// What all whole batches of a log make, and how many bytes they take with the mark.
fn read(bytes: &[u8]) -> Result<(Snapshot, u64), Error> {
    let (mut snapshot, mut at) = (Snapshot::default(), MARK.len());
    while let Some((batch, len)) = whole_batch(&bytes[at..]) {
        let records: Vec<Record> =
            serde_json::from_slice(batch).map_err(|e| Error::Unreadable(e.to_string()))?;
        records
            .into_iter()
            .for_each(|record| snapshot.apply(record));
        at += len;
    }
    Ok((snapshot, at as u64))
}

fn whole_batch(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let batch = (length <= BATCH_BYTES_MAX)
        .then(|| rest.get(..length as usize))
        .flatten()?;
    (crc32fast::hash(batch) == u32::from_le_bytes(*sum) && length > 0)
        .then_some((batch, 8 + batch.len()))
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes new names in the folder survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tertulia_proto::chats::event::Body;
    use tertulia_proto::chats::{Event, Message, MessageEdited, MessagesDeleted};

    use super::*;

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_tears() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let first = frame(&[Record::Epoch("one".into())]).unwrap();
        let second = frame(&[Record::Epoch("two".into()), Record::Own(7)]).unwrap();
        for cut in 0..second.len() {
            let log = [&MARK[..], &first, &second[..cut]].concat();
            fs::write(&path, log).unwrap();
            let store = Folder::open(folder.path()).unwrap();
            let snapshot = store.load().unwrap();
            assert_eq!(
                (snapshot.epoch.as_str(), snapshot.own_tip),
                ("one", 0),
                "cut at {cut}"
            );
            store.write(&[Record::Epoch("three".into())]).unwrap();
            assert_eq!(store.load().unwrap().epoch, "three");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_log_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let first = frame(&[Record::Epoch("one".into())]).unwrap();
        let second = frame(&[Record::Epoch("two".into())]).unwrap();
        for at in 0..second.len() {
            let mut damaged = second.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, [&MARK[..], &first, &damaged].concat()).unwrap();
            let store = Folder::open(folder.path()).unwrap();
            assert_eq!(store.load().unwrap().epoch, "one", "bit in byte {at}");
        }
    }

    #[test]
    fn a_folder_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(Error::InUse)));
        drop(first);
        assert!(Folder::open(folder.path()).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile");
        let _store = Folder::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("log")), 0o600);
    }

    #[test]
    fn rewriting_shortens_the_log_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        for n in 0..30_000 {
            store
                .write(&[Record::Own(n), Record::Epoch("an epoch".into())])
                .unwrap();
        }
        let before = store.load().unwrap();
        let long = fs::metadata(folder.path().join("log")).unwrap().len();
        store.sync().unwrap();
        assert!(fs::metadata(folder.path().join("log")).unwrap().len() < long / 100);
        assert_eq!(store.load().unwrap(), before);
        store.write(&[Record::Own(-1)]).unwrap();
        drop(store);
        assert_eq!(
            Folder::open(folder.path()).unwrap().load().unwrap().own_tip,
            -1
        );
    }

    fn said(seq: i64, text: &str) -> Event {
        let message = Message {
            message_id: seq,
            text: text.into(),
            changed_seq: seq,
            ..Default::default()
        };
        event(seq, message.into())
    }

    fn event(seq: i64, body: Body) -> Event {
        Event {
            chat_id: 5,
            seq,
            actor_id: 9,
            body: Some(body),
            ..Default::default()
        }
    }

    #[test]
    fn a_deleted_text_is_gone_from_the_file_once_it_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        let edited = MessageEdited {
            message_seq: 1,
            text: "the secret, better said".into(),
            ..Default::default()
        };
        let deleted = MessagesDeleted {
            message_seqs: vec![1],
            ..Default::default()
        };
        let events = [
            said(1, "the secret"),
            said(2, "something else"),
            event(3, edited.into()),
            event(4, deleted.into()),
        ];
        for event in events {
            let seq = event.seq;
            let live = Record::Events {
                chat: 5,
                from: seq,
                to: seq,
                at: seq,
                events: vec![event],
            };
            store.write(&[live]).unwrap();
        }
        let before = store.load().unwrap();
        store.compact(&mut store.log.lock()).unwrap();
        let bytes = fs::read(folder.path().join("log")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("something else") && !text.contains("the secret"),
            "{text}"
        );
        assert_eq!(store.load().unwrap(), before);
    }

    #[test]
    fn a_log_of_the_first_form_is_begun_anew_with_the_login_and_the_unsent_messages() {
        let folder = tempfile::tempdir().unwrap();
        let batches = [
            r#"[{"Device":"dev"},{"SignedIn":{"userId":"7","deviceId":"dev","accessToken":"a","refreshToken":"r"}}]"#,
            r#"[{"Epoch":"e"},{"Chat":{"chatId":"5"}},{"Position":{"chat":5,"tip":0,"head":0}},
                {"Events":{"chat":5,"from":1,"to":1,"events":[{"chatId":"5","seq":"1"}]}},{"Cursor":"AQ=="}]"#,
            r#"[{"Message":{"chat":5,"client_message_id":"m1","text":"sent","at_ms":3,"state":"Queued"}},
                {"Message":{"chat":5,"client_message_id":"m2","text":"unsent","at_ms":4,"state":"Queued"}}]"#,
            r#"[{"MessageGone":{"chat":5,"client_message_id":"m1"}}]"#,
        ];
        let mut log = Vec::new();
        for batch in batches {
            log.extend((batch.len() as u32).to_le_bytes());
            log.extend(crc32fast::hash(batch.as_bytes()).to_le_bytes());
            log.extend(batch.as_bytes());
        }
        fs::write(folder.path().join("log"), log).unwrap();
        for _ in 0..2 {
            let store = Folder::open(folder.path()).unwrap();
            let kept = store.load().unwrap();
            let unsent: Vec<_> = kept.outbox.iter().map(|e| e.text.as_str()).collect();
            assert_eq!(unsent, ["unsent"]);
            assert_eq!((kept.user, kept.device.as_str()), (7, "dev"));
            assert!(kept.credentials.is_some());
            assert!(kept.chats.is_empty() && kept.cursor.is_empty());
        }
    }

    #[test]
    fn a_log_of_a_later_form_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, b"tert-l-3 whatever comes").unwrap();
        let opened = Folder::open(folder.path());
        assert!(matches!(opened, Err(Error::Unreadable(_))));
        assert_eq!(fs::read(&path).unwrap(), b"tert-l-3 whatever comes");
    }
}
