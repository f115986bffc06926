use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use super::*;
use crate::fjall::engine::MERGED_AT_ONCE;
use crate::fjall::pace::UNMERGED_FILES_MAX;
use crate::fjall::room::SEALED_MAX;

/// Rows as they should be found.
type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

const TABLES: [Table; 3] = [Table::Chats, Table::Events, Table::Index];

/// Tables without anybody who flushes them but the test.
struct Bench {
    folder: TempDir,
    disk: Disk,
    model: Model,
    random: StdRng,
}

impl Bench {
    fn new() -> Bench {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        Bench {
            disk: open(folder.path()).unwrap(),
            folder,
            model: Model::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn again(self) -> Bench {
        let Bench {
            folder,
            disk,
            model,
            random,
        } = self;
        drop(disk);
        Bench {
            disk: open(folder.path()).unwrap(),
            folder,
            model,
            random,
        }
    }

    /// Commits so many random rows, some of which take others away.
    fn commit(&mut self, rows: usize) {
        let mut batch = Batch::new();
        for _ in 0..rows {
            let table = *TABLES.choose(&mut self.random).unwrap();
            let key = self.key();
            if self.random.random_bool(0.2) {
                batch.remove(table, &key);
                self.model.remove(&(table as u8, key));
            } else {
                let value: Vec<u8> = (0..self.random.random_range(0..40))
                    .map(|_| self.random.random())
                    .collect();
                batch.insert(table, &key, &value);
                self.model.insert((table as u8, key), value);
            }
        }
        self.disk.commit(&mut batch).unwrap();
    }

    fn key(&mut self) -> Vec<u8> {
        random_key(&mut self.random)
    }

    fn seal_and_flush(&self) {
        self.disk.seal().unwrap();
        while self.disk.flush_oldest().unwrap() {}
        self.disk.drop_files(None);
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path().join(FOLDER))
            .unwrap()
            .count()
    }

    /// Everything that is read now is as it should be.
    fn check(&mut self) {
        let (from, to) = (self.key(), self.key());
        is_as(&self.disk.moment(), &self.model, &from, &to);
    }
}

/// A key like others: a few bytes out of a few, sometimes behind as many as are compared at once.
fn random_key(random: &mut StdRng) -> Vec<u8> {
    let mut key = match random.random_range(0..3) {
        0 => vec![3; 16],
        1 => vec![3; 13],
        _ => Vec::new(),
    };
    for _ in 0..random.random_range(1..=5) {
        key.push(random.random_range(0..8));
    }
    key
}

fn open(folder: &Path) -> Result<Disk> {
    Disk::open(folder, 1 << 20, false).map(|opened| opened.disk)
}

/// All that can be read at a moment is what the model says.
fn is_as(moment: &Moment<'_>, model: &Model, from: &[u8], to: &[u8]) {
    for table in TABLES {
        let of_table = model.iter().filter(|((of, _), _)| *of == table as u8);
        let all: Vec<_> = of_table
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(read(moment.iter(table)), all);
        assert_eq!(moment.count(table).unwrap(), all.len() as u64);
        for (key, value) in &all {
            let found = moment.get(table, key).unwrap();
            assert_eq!(found.as_deref(), Some(&value[..]));
        }
        let is_in = |key: &Vec<u8>| key.as_slice() >= from && key.as_slice() < to;
        let mut part: Vec<_> = all.iter().filter(|(key, _)| is_in(key)).cloned().collect();
        assert_eq!(read(moment.range(table, from..to)), part);
        part.reverse();
        assert_eq!(read(moment.range_back(table, from..to)), part);
        let behind = (Bound::Excluded(from), Bound::Unbounded);
        let behind = read(moment.range::<&[u8]>(table, behind));
        let expected: Vec<_> = all
            .iter()
            .filter(|(key, _)| key.as_slice() > from)
            .cloned()
            .collect();
        assert_eq!(behind, expected);
        let absent = moment.get(table, &[9, 9, 9]).unwrap();
        assert!(absent.is_none());
    }
}

fn read(rows: Rows<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.map(|row| {
        let (key, value) = row.unwrap();
        (key.to_vec(), value.to_vec())
    })
    .collect()
}

#[test]
fn what_was_committed_is_read_wherever_it_is_and_after_every_start() {
    let mut bench = Bench::new();
    for _ in 0..200 {
        match bench.random.random_range(0..20) {
            0 => bench.seal_and_flush(),
            1 => bench.disk.seal().unwrap(),
            2 => _ = bench.disk.flush_oldest().unwrap(),
            3 => bench = bench.again(),
            // So many that they are given to the engine as a file.
            4 => bench.commit(4_500),
            _ => {
                let rows = bench.random.random_range(1..30);
                bench.commit(rows);
            }
        }
        // Nobody else flushes what is sealed.
        if *bench.disk.room.taken.lock() == SEALED_MAX {
            bench.disk.flush_oldest().unwrap();
        }
        if bench.random.random_bool(0.2) {
            bench.check();
        }
    }
    bench.check();
    bench.seal_and_flush();
    bench.check();
    let mut bench = bench.again();
    bench.check();
    assert_eq!(bench.files(), 1, "a file of the journal is left");
}

#[test]
fn a_moment_stays_as_it_is_whatever_is_committed_and_flushed() {
    let mut bench = Bench::new();
    for round in 0..6_u8 {
        bench.commit(3_000);
        if round % 2 == 0 {
            bench.disk.seal().unwrap();
        }
        let model = bench.model.clone();
        let (from, to) = (bench.key(), bench.key());
        let before = bench.disk.moment();
        // Begun before, and read to the end after.
        let mut begun = before.iter(Table::Events);
        let first = begun.next().map(Result::unwrap);
        for _ in 0..5 {
            let mut batch = Batch::new();
            for _ in 0..2_000 {
                let table = *TABLES.choose(&mut bench.random).unwrap();
                let key = random_key(&mut bench.random);
                batch.insert(table, &key, &[round]);
                bench.model.insert((table as u8, key), vec![round]);
            }
            bench.disk.commit(&mut batch).unwrap();
        }
        bench.disk.seal().unwrap();
        is_as(&before, &model, &from, &to);
        while bench.disk.flush_oldest().unwrap() {}
        is_as(&before, &model, &from, &to);
        let first = first.map(|(key, value)| (key.to_vec(), value.to_vec()));
        let all: Vec<_> = first.into_iter().chain(read(begun)).collect();
        assert_eq!(all, read(before.iter(Table::Events)));
        drop(before);
        is_as(&bench.disk.moment(), &bench.model, &from, &to);
    }
}

#[test]
fn nobody_sees_half_of_a_commit_or_goes_back_to_an_older_one() {
    const COMMITS: u64 = 4_000;
    const ROWS: u8 = 40;
    let bench = Bench::new();
    let disk = &bench.disk;
    let is_over = AtomicBool::new(false);
    let key = |row: u8| [row % 5, row];
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut newest = 0;
                while !is_over.load(Ordering::Acquire) {
                    let moment = disk.moment();
                    let found: Vec<_> = (0..ROWS)
                        .map(|row| {
                            let table = TABLES[usize::from(row) % TABLES.len()];
                            let value = moment.get(table, &key(row)).unwrap();
                            value.map_or(0, |value| read_number(Some(value)).unwrap())
                        })
                        .collect();
                    assert!(found.iter().all(|n| *n == found[0]), "{found:?}");
                    let walked: Vec<_> = TABLES
                        .iter()
                        .flat_map(|table| read(moment.iter(*table)))
                        .collect();
                    let expected = if found[0] == 0 { 0 } else { ROWS.into() };
                    assert_eq!(walked.len(), expected);
                    let value = found[0].to_be_bytes();
                    assert!(walked.iter().all(|(_, found)| *found == value));
                    assert!(found[0] >= newest);
                    newest = found[0];
                }
            });
        }
        threads.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                disk.seal().unwrap();
                while disk.flush_oldest().unwrap() {}
            }
        });
        let mut batch = Batch::new();
        for n in 1..=COMMITS {
            for row in 0..ROWS {
                let table = TABLES[usize::from(row) % TABLES.len()];
                batch.insert(table, &key(row), &n.to_be_bytes());
            }
            // What is promised of the disk is not looked at here.
            disk.commit_unsynced(&mut batch).unwrap();
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn a_flush_while_a_moment_is_taken_shows_nothing_that_is_later_than_the_rest() {
    let mut bench = Bench::new();
    let put = |disk: &Disk, keys: &[u8], value: u8| {
        let mut batch = Batch::new();
        for key in keys {
            batch.insert(Table::Chats, &[*key], &[value]);
        }
        disk.commit(&mut batch).unwrap();
    };
    put(&bench.disk, &[1], 1);
    *bench.disk.meanwhile.lock() = Some(Box::new(move |disk| {
        put(disk, &[1, 2], 2);
        disk.seal().unwrap();
        disk.flush_oldest().unwrap();
    }));
    for key in [1, 2] {
        bench.model.insert((Table::Chats as u8, vec![key]), vec![2]);
    }
    bench.check();
}

#[test]
fn a_flush_that_was_killed_is_begun_once_more() {
    let mut bench = Bench::new();
    bench.commit(6_000);
    bench.seal_and_flush();
    bench.commit(6_000);
    bench.disk.seal().unwrap();
    bench.commit(100);
    let memtable = bench.disk.oldest_sealed().unwrap();
    bench.disk.ingest(&memtable, Table::Events).unwrap();
    drop(memtable);
    let mut bench = bench.again();
    bench.check();
    bench.commit(100);
    bench.seal_and_flush();
    bench.check();
    bench.again().check();
}

#[test]
fn a_file_of_the_journal_goes_when_its_rows_and_its_send_keys_are_elsewhere() {
    let mut bench = Bench::new();
    for position in 1..=3_u64 {
        let mut batch = Batch::new();
        batch.insert(Table::Chats, &[1], &[1]);
        batch.insert_send_keys(position, &[position as u8]);
        bench.disk.commit(&mut batch).unwrap();
        bench.disk.seal().unwrap();
    }
    bench.model.insert((Table::Chats as u8, vec![1]), vec![1]);
    while bench.disk.flush_oldest().unwrap() {}
    assert_eq!(bench.files(), 4);
    bench.disk.drop_files(Some(2));
    assert_eq!(bench.files(), 3);
    let Bench { folder, disk, .. } = bench;
    drop(disk);
    // The keys are there after a start, though the rows are not read again.
    let opened = Disk::open(folder.path(), 1 << 20, false).unwrap();
    let keys: Vec<_> = opened.send_keys.iter().map(|(at, _)| *at).collect();
    assert_eq!(keys, [2, 3]);
    assert!(opened.disk.memtables.read().iter().all(|m| m.is_empty()));
    opened.disk.drop_files(None);
    assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 1);
}

#[test]
fn files_of_the_journal_go_in_any_order() {
    let mut bench = Bench::new();
    for position in [Some(1), None, Some(3)] {
        let mut batch = Batch::new();
        batch.insert(Table::Chats, &[1], &[1]);
        if let Some(position) = position {
            batch.insert_send_keys(position, &[1]);
        }
        bench.disk.commit(&mut batch).unwrap();
        bench.disk.seal().unwrap();
    }
    bench.model.insert((Table::Chats as u8, vec![1]), vec![1]);
    while bench.disk.flush_oldest().unwrap() {}
    // That in the middle has no keys which anybody needs.
    bench.disk.drop_files(Some(1));
    assert_eq!(bench.files(), 3);
    bench.commit(10);
    let mut bench = bench.again();
    bench.check();
    bench.commit(10);
    bench.check();
}

#[test]
fn the_writer_is_told_when_nothing_can_be_flushed() {
    let mut bench = Bench::new();
    for _ in 0..SEALED_MAX {
        bench.commit(10);
        bench.disk.seal().unwrap();
    }
    bench.commit(10);
    assert!(bench.disk.seal().is_err());
    // It goes on where it is, and when there is room.
    bench.commit(10);
    bench.check();
    assert!(bench.disk.flush_oldest().unwrap());
    bench.disk.seal().unwrap();
    bench.check();
    bench.again().check();
}

#[test]
fn what_waits_to_be_merged_is_merged_though_nothing_more_is_flushed() {
    let mut bench = Bench::new();
    // The engine merges once after each of these, which is less than there is to do.
    while bench.disk.engine.unmerged() < UNMERGED_FILES_MAX {
        for _ in 0..4_000 {
            let key = bench.random.random::<u64>().to_be_bytes();
            let mut batch = Batch::new();
            batch.insert(Table::Events, &key, &key);
            bench.disk.commit_unsynced(&mut batch).unwrap();
            let table = Table::Events as u8;
            bench.model.insert((table, key.to_vec()), key.to_vec());
        }
        bench.seal_and_flush();
    }
    while bench.disk.engine.unmerged() >= MERGED_AT_ONCE.into() {
        bench.disk.engine.merge().unwrap();
        std::thread::yield_now();
    }
    bench.check();
    bench.again().check();
}

#[test]
fn who_flushes_hurries_while_a_second_memtable_waits() {
    let mut bench = Bench::new();
    let pace = Arc::clone(&bench.disk.engine.pace);
    for is_hurried in [false, true] {
        bench.commit(10);
        bench.disk.seal().unwrap();
        assert_eq!(pace.is_hurried(), is_hurried);
    }
    bench.disk.keep_pace();
    assert!(pace.is_hurried());
    bench.disk.flush_oldest().unwrap();
    bench.disk.keep_pace();
    assert!(!pace.is_hurried());
}

#[test]
fn a_sealed_store_without_anything_new_is_not_sealed_again() {
    let mut bench = Bench::new();
    bench.commit(10);
    for _ in 0..3 {
        bench.disk.seal().unwrap();
    }
    assert_eq!(*bench.disk.room.taken.lock(), 1);
}

/// The newest file of the journal that has something in it, and what that is.
fn newest_file(folder: &Path) -> (PathBuf, Vec<u8>) {
    let files = journal::files(&folder.join(FOLDER)).unwrap();
    let mut files = files.into_iter().rev().filter_map(|(_, path)| {
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(journal::written(&bytes));
        let end = bytes.iter().rposition(|byte| *byte != 0)?;
        bytes.truncate(end + 1);
        Some((path, bytes))
    });
    files.next().unwrap()
}

/// A folder with some commits, each of which has its number in a row, and where each begins in the journal.
fn written(commits: u8) -> (TempDir, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path()).unwrap();
    let mut begins = Vec::new();
    for n in 1..=commits {
        begins.push(disk.journal.lock().bytes as usize);
        let mut batch = Batch::new();
        batch.insert(Table::Chats, &[n], &[n; 30]);
        batch.insert(Table::Meta, b"newest", &[n]);
        disk.commit(&mut batch).unwrap();
    }
    (folder, begins)
}

/// How many commits there are, when that is a beginning of all and nothing else.
fn beginning(disk: &Disk) -> u8 {
    let moment = disk.moment();
    let newest = moment.get(Table::Meta, b"newest").unwrap();
    let newest = newest.map_or(0, |newest| newest[0]);
    let rows = read(moment.iter(Table::Chats));
    let expected: Vec<_> = (1..=newest).map(|n| (vec![n], vec![n; 30])).collect();
    assert_eq!(rows, expected);
    newest
}

#[test]
fn a_journal_that_is_torn_anywhere_in_its_last_commit_loses_that_and_nothing_else() {
    let (folder, begins) = written(20);
    let (path, whole) = newest_file(folder.path());
    let last = *begins.last().unwrap();
    for end in last..=whole.len() {
        for rest in [0, 200] {
            let mut bytes = whole[..end].to_vec();
            bytes.resize(bytes.len() + rest, 0);
            fs::write(&path, bytes).unwrap();
            let disk = open(folder.path()).unwrap();
            let expected = if end == whole.len() { 20 } else { 19 };
            // Zeros behind it may be what the commit ends with.
            let found = beginning(&disk);
            assert!(
                found == expected || rest > 0 && found == 20,
                "{end}: {found}"
            );
            let mut batch = Batch::new();
            batch.insert(Table::Index, b"it goes on", &[]);
            disk.commit(&mut batch).unwrap();
            drop(disk);
            // As it was, without what came behind.
            fs::remove_dir_all(folder.path().join(FOLDER)).unwrap();
            fs::create_dir(folder.path().join(FOLDER)).unwrap();
        }
    }
}

#[test]
fn damage_before_what_was_acknowledged_is_named_and_nothing_is_cut_off() {
    let (folder, begins) = written(20);
    let (path, whole) = newest_file(folder.path());
    let mut random = StdRng::seed_from_u64(rand::random());
    for _ in 0..200 {
        let record = random.random_range(0..begins.len() - 1);
        let at = random.random_range(begins[record]..begins[record + 1]);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.random_range(0..8);
        fs::write(&path, &bytes).unwrap();
        let why = open(folder.path()).err().unwrap().cause_chain().unwrap();
        let place = format!(
            "journal/0000000000.journal is damaged at byte {}",
            begins[record]
        );
        assert!(why.contains(&place), "{why}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(beginning(&open(folder.path()).unwrap()), 20);
}

#[test]
fn a_file_of_the_journal_that_is_missing_or_damaged_before_others_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path()).unwrap();
    for n in 1..=3 {
        let mut batch = Batch::new();
        batch.insert(Table::Chats, &[n], &[n; 30]);
        disk.commit(&mut batch).unwrap();
        disk.seal().unwrap();
    }
    drop(disk);
    let files = journal::files(&folder.path().join(FOLDER)).unwrap();
    let second = &files[1].1;
    let whole = fs::read(second).unwrap();
    for bytes in [None, Some(&whole[..30]), Some(&[])] {
        match bytes {
            None => fs::remove_file(second).unwrap(),
            Some(bytes) => fs::write(second, bytes).unwrap(),
        }
        let before = second.exists().then(|| fs::read(second).unwrap());
        let why = open(folder.path()).err().unwrap().cause_chain().unwrap();
        let is_said = why.contains("commit 3 where 2 belongs") || why.contains("is damaged");
        assert!(is_said, "{why}");
        let after = second.exists().then(|| fs::read(second).unwrap());
        assert!(after == before, "it was changed");
    }
    fs::write(second, whole).unwrap();
    let disk = open(folder.path()).unwrap();
    assert_eq!(disk.moment().count(Table::Chats).unwrap(), 3);
}

#[test]
fn whatever_a_journal_is_made_into_nothing_is_read_that_was_not_written() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (folder, _) = written(20);
    let (_, whole) = newest_file(folder.path());
    let read = |bytes: &[u8]| {
        let path = folder.path().join("7.journal");
        fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let mut replay = Replay::behind(0);
        let outcome = replay.read(&path, |commit, row| {
            rows.push((
                commit,
                row.table,
                row.key.to_vec(),
                row.value.map(<[u8]>::to_vec),
            ));
        });
        (outcome.and_then(|()| replay.end()), rows)
    };
    let (last, all) = read(&whole);
    assert_eq!((last.unwrap(), all.len()), (20, 40));
    for _ in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = random.random(),
                2 => bytes[at..].fill(0),
                _ => bytes[at] ^= 1 << random.random_range(0..8),
            }
        }
        let (last, rows) = read(&bytes);
        assert!(all.starts_with(&rows));
        if let Ok(last) = last {
            assert_eq!(rows.len() as u64, 2 * last);
        }
    }
}

#[test]
fn the_last_commit_is_written_once_more_and_nothing_else_changes() {
    let (folder, _) = written(20);
    let (path, before) = newest_file(folder.path());
    drop(open(folder.path()).unwrap());
    assert_eq!(newest_file(folder.path()), (path, before));
}
