//! What a first start leaves that was killed before the engine had made its folder. The engine makes its journal, then
//! the marker that the folder is its own, then its tables; without the marker it begins once more, and refuses a
//! journal that is there already.

use std::fs;
use std::io;
use std::path::Path;

use super::journal;

const MARKER: &str = "version";
const FIRST_JOURNAL: &str = "0.jnl";
const TABLES: &str = "keyspaces";

/// Takes away a journal and a marker with nothing in them, so that the engine can begin once more. Whatever has anything
/// in it stays, for people to look at. Nobody may have the folder open.
pub fn clear(folder: &Path) -> io::Result<()> {
    let (marker, first) = (folder.join(MARKER), folder.join(FIRST_JOURNAL));
    let is_made = marker.metadata().is_ok_and(|marker| marker.len() > 0);
    let is_begun =
        first.exists() && !journal::has_batch(folder)? && is_empty(&folder.join(TABLES))?;
    if is_made || !is_begun {
        return Ok(());
    }
    if marker.exists() {
        fs::remove_file(marker)?;
    }
    fs::remove_file(first)
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut files) => Ok(files.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use ::fjall::{Database, KeyspaceCreateOptions, PersistMode};
    use tempfile::TempDir;

    use super::*;

    fn killed_before_the_marker() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(TABLES)).unwrap();
        fs::write(folder.path().join(FIRST_JOURNAL), vec![0; 1 << 16]).unwrap();
        folder
    }

    #[test]
    fn a_folder_that_was_not_made_to_its_end_is_made_once_more() {
        let folder = killed_before_the_marker();
        assert!(Database::builder(folder.path()).open().is_err());
        clear(folder.path()).unwrap();
        drop(Database::builder(folder.path()).open().unwrap());

        let folder = killed_before_the_marker();
        fs::write(folder.path().join(MARKER), []).unwrap();
        clear(folder.path()).unwrap();
        drop(Database::builder(folder.path()).open().unwrap());
    }

    #[test]
    fn a_folder_that_lost_its_marker_loses_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::builder(folder.path()).open().unwrap();
        let table = db.keyspace("t", KeyspaceCreateOptions::default).unwrap();
        table.insert("key", "value").unwrap();
        db.persist(PersistMode::SyncAll).unwrap();
        drop((table, db));
        fs::remove_file(folder.path().join(MARKER)).unwrap();
        let before = fs::read(folder.path().join(FIRST_JOURNAL)).unwrap();
        clear(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join(FIRST_JOURNAL)).unwrap(), before);
    }

    #[test]
    fn a_made_folder_and_none_at_all_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        clear(&folder.path().join("nowhere")).unwrap();
        drop(Database::builder(folder.path()).open().unwrap());
        clear(folder.path()).unwrap();
        assert!(folder.path().join(FIRST_JOURNAL).exists());
    }
}
