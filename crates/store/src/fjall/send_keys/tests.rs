use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tertulia_services::ids::{ChatId, ScheduledId};

use super::*;
use crate::fjall::disk::{Batch, Disk, META_POSITION, Table};
use crate::fjall::room::SEALED_MAX;

const WEEK: i64 = SEND_KEYS_KEPT_MS;

/// A store of keys, without anybody who keeps it but the test.
struct Bench {
    folder: TempDir,
    disk: Disk,
    keys: SendKeys,
    position: u64,
    /// What was put in, and in which week.
    known: Vec<(SendHash, Used, i64)>,
}

fn open(folder: &Path, fresh_max: usize) -> (Disk, SendKeys) {
    let opened = Disk::open(folder, 1 << 20, false).unwrap();
    let keys = SendKeys::open_with(folder, &opened.disk.engine, opened.send_keys, fresh_max);
    (opened.disk, keys.unwrap())
}

impl Bench {
    fn new(fresh_max: usize) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (disk, keys) = open(folder.path(), fresh_max);
        Bench {
            folder,
            disk,
            keys,
            position: 0,
            known: Vec::new(),
        }
    }

    /// Commits some keys, as the writer does.
    fn commit(&mut self, now_ms: i64, keys: Vec<(SendHash, Used)>) {
        let week = self.keys.current(now_ms).unwrap();
        self.known
            .extend(keys.iter().map(|(hash, used)| (*hash, used.clone(), week)));
        let used: FxHashMap<_, _> = keys.into_iter().collect();
        self.position += 1;
        let mut batch = Batch::new();
        if !used.is_empty() {
            let mut row = Vec::new();
            codec::write_fresh(&mut row, week, used.iter());
            batch.insert_send_keys(self.position, &row);
        }
        let position = self.position.to_be_bytes();
        batch.insert(Table::Meta, META_POSITION.as_bytes(), &position);
        self.disk.commit(&mut batch).unwrap();
        self.keys.take_in(self.position, week, used);
    }

    /// The same so many times, each of them filed.
    fn file(&mut self, now_ms: impl Fn(i64) -> i64, times: i64, random: &mut StdRng, count: usize) {
        for time in 0..times {
            self.commit(now_ms(time), keys(random, count));
            self.keys.keep().unwrap();
        }
    }

    fn again(self, fresh_max: usize) -> Bench {
        let Bench {
            folder,
            disk,
            keys,
            position,
            known,
        } = self;
        drop((keys, disk));
        let (disk, keys) = open(folder.path(), fresh_max);
        Bench {
            folder,
            disk,
            keys,
            position,
            known,
        }
    }

    fn knows_all(&self) {
        for (hash, used, _) in &self.known {
            assert_eq!(self.keys.find(hash).unwrap().as_ref(), Some(used));
        }
        for _ in 0..100 {
            assert_eq!(self.keys.find(&rand::random()).unwrap(), None);
        }
        let at_once = self.keys.at_once();
        assert_eq!(at_once.count(), self.known.len() as u64);
        let mut all = Vec::new();
        for week in at_once.weeks_from(i64::MIN) {
            for row in at_once.of_week(week, None).unwrap() {
                let (hash, content) = row.unwrap();
                all.push((week, hash, codec::read_used(&content).unwrap()));
            }
        }
        let known = self.known.iter();
        let mut known: Vec<_> = known
            .map(|(hash, used, week)| (*week, *hash, used.clone()))
            .collect();
        known.sort_unstable_by_key(|(week, hash, _)| (*week, *hash));
        assert_eq!(all, known);
    }

    fn files(&self) -> Vec<Span> {
        let kept = self.keys.kept.read();
        kept.files
            .values()
            .flatten()
            .map(|file| file.span)
            .collect()
    }
}

fn key(random: &mut StdRng) -> (SendHash, Used) {
    let used = match random.random_range(0..10) {
        0 => Used::Chat(ChatId(random.random())),
        1 => Used::Scheduled(ScheduledId(random.random())),
        2 => Used::Invite("x".repeat(random.random_range(0..60))),
        _ => Used::Messages {
            chat: ChatId(random.random()),
            first: random.random(),
            count: random.random(),
        },
    };
    (random.random(), used)
}

fn keys(random: &mut StdRng, count: usize) -> Vec<(SendHash, Used)> {
    (0..count).map(|_| key(random)).collect()
}

fn random() -> StdRng {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn a_key_is_known_wherever_it_is_and_after_every_start() {
    let mut random = random();
    let mut bench = Bench::new(100);
    for round in 0..400 {
        let count = random.random_range(0..30);
        bench.commit(0, keys(&mut random, count));
        // Nobody else files what is sealed, and the writer waits when that is too much.
        if *bench.keys.room.taken.lock() == SEALED_MAX || random.random_bool(0.1) {
            bench.keys.keep().unwrap();
        }
        if round % 97 == 0 {
            bench.knows_all();
            bench = bench.again(100);
            bench.knows_all();
        }
    }
    bench.keys.keep().unwrap();
    bench.knows_all();
    assert!(bench.files().len() < 20, "nothing was merged");
    bench.again(100).knows_all();
}

#[test]
fn it_is_known_from_which_commit_on_keys_are_in_memory() {
    let mut random = random();
    let mut bench = Bench::new(10);
    assert_eq!(bench.keys.first_in_memory(), None);
    bench.file(|_| 0, 50, &mut random, 10);
    assert_eq!(bench.keys.first_in_memory(), Some(50));
    bench.keys.seal().unwrap();
    bench.commit(0, keys(&mut random, 1));
    assert_eq!(bench.keys.first_in_memory(), Some(50));
    bench.keys.keep().unwrap();
    assert_eq!(bench.keys.first_in_memory(), Some(51));
    bench.keys.seal().unwrap();
    bench.keys.keep().unwrap();
    assert_eq!(bench.keys.first_in_memory(), None);
    bench.again(10).knows_all();
}

#[test]
fn keys_are_forgotten_after_the_week_after_theirs() {
    let mut random = random();
    let mut bench = Bench::new(1_000);
    bench.file(|week| week * WEEK, 4, &mut random, 50);
    bench.commit(4 * WEEK - 1, keys(&mut random, 1));
    bench.known.retain(|(_, _, week)| *week >= 2);
    bench.knows_all();
    let left = fs::read_dir(bench.folder.path().join(FOLDER)).unwrap();
    assert_eq!(left.count(), 1);
}

#[test]
fn a_clock_that_goes_back_does_not_age_what_is_new() {
    let mut random = random();
    let mut bench = Bench::new(1_000);
    bench.commit(9 * WEEK, keys(&mut random, 5));
    bench.commit(3 * WEEK, keys(&mut random, 5));
    assert!(bench.known.iter().all(|(_, _, week)| *week == 9));
    let bench = bench.again(1_000);
    assert_eq!(bench.keys.current(0).unwrap(), 9);
    bench.knows_all();
}

#[test]
fn a_start_takes_away_what_was_not_finished_and_what_was_merged() {
    let mut random = random();
    let mut bench = Bench::new(10);
    bench.commit(0, keys(&mut random, 10));
    bench.commit(0, keys(&mut random, 10));
    bench.keys.keep().unwrap();
    let folder = bench.folder.path().join(FOLDER);
    // As a merge leaves it that was killed before it took away what it was made of.
    let part = bench.keys.kept.read().files[&0][0].span;
    let all = Span {
        last: part.last + 1,
        ..part
    };
    bench.keys.current(0).unwrap();
    bench.keys.keep().unwrap();
    let at_once = bench.keys.at_once();
    let mut file = file::Writer::begin(&folder, all, 20).unwrap();
    for row in at_once.of_week(0, None).unwrap() {
        let (hash, content) = row.unwrap();
        file.add(&hash, &content).unwrap();
    }
    file.finish().unwrap();
    fs::write(folder.join("0_7_9.new"), b"half of it").unwrap();
    drop(at_once);
    let bench = bench.again(10);
    bench.knows_all();
    assert_eq!(bench.files(), [all]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn the_tables_of_an_older_format_become_files_once() {
    let mut random = random();
    let mut bench = Bench::new(1_000);
    bench.position = 7;
    let engine = &bench.disk.engine;
    let meta = engine.table(Table::Meta).unwrap();
    meta.insert(META_POSITION, 7_u64.to_be_bytes()).unwrap();
    for week in [3, 4] {
        let table = engine.old_table(&format!("{TABLES_BEFORE}{week}")).unwrap();
        for (hash, used) in keys(&mut random, 300) {
            let mut content = Vec::new();
            codec::write_used(&mut content, &used);
            table.insert(hash, content).unwrap();
            bench.known.push((hash, used, week));
        }
    }
    engine.old_table("send_keys_2").unwrap();
    let mut bench = bench.again(1_000);
    bench.knows_all();
    let names = bench.disk.engine.db.list_keyspace_names();
    assert!(names.iter().all(|name| !name.starts_with(TABLES_BEFORE)));
    bench.commit(4 * WEEK, keys(&mut random, 5));
    let bench = bench.again(1_000);
    bench.knows_all();
    assert_eq!(bench.files().len(), 2);
}

#[test]
fn the_table_of_the_newest_keys_of_format_4_becomes_a_file_once() {
    let mut random = random();
    let mut bench = Bench::new(1_000);
    bench.commit(0, keys(&mut random, 5));
    bench.keys.seal().unwrap();
    bench.keys.keep().unwrap();
    let engine = &bench.disk.engine;
    let table = engine.old_table(FRESH_BEFORE).unwrap();
    // The first of them is in a file already.
    for (position, week) in [(1_u64, 0), (2, 0), (3, 1)] {
        let used: FxHashMap<_, _> = keys(&mut random, 20).into_iter().collect();
        let mut row = Vec::new();
        codec::write_fresh(&mut row, week, used.iter());
        table.insert(position.to_be_bytes(), row).unwrap();
        let known = used.into_iter().map(|(hash, used)| (hash, used, week));
        bench.known.extend(known.filter(|_| position > 1));
    }
    drop(table);
    let bench = bench.again(1_000);
    bench.knows_all();
    assert!(!bench.disk.engine.db.keyspace_exists(FRESH_BEFORE));
    let bench = bench.again(1_000);
    bench.knows_all();
    assert_eq!(bench.files().len(), 3);
}

#[test]
fn the_writer_is_told_when_nothing_can_be_filed() {
    let mut random = random();
    let mut bench = Bench::new(1);
    for _ in 0..=SEALED_MAX {
        bench.commit(0, keys(&mut random, 1));
    }
    *bench.keys.room.taken.lock() = SEALED_MAX;
    let folder = bench.folder.path().join(FOLDER);
    fs::remove_dir_all(&folder).unwrap();
    assert!(bench.keys.keep().is_err());
    bench.knows_all();
    assert!(bench.keys.current(0).is_err());
    fs::create_dir(&folder).unwrap();
    bench.keys.keep().unwrap();
    bench.keys.current(0).unwrap();
    bench.knows_all();
}

#[test]
fn a_file_that_was_damaged_gives_no_wrong_answer() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let mut all = keys(&mut random, 300);
    all.sort_unstable_by_key(|(hash, _)| *hash);
    let span = Span {
        week: -1,
        first: 1,
        last: 9,
    };
    let mut file = file::Writer::begin(folder.path(), span, 300).unwrap();
    let mut content = Vec::new();
    for (hash, used) in &all {
        codec::write_used(&mut content, used);
        file.add(hash, &content).unwrap();
    }
    let path = file.finish().unwrap();
    assert_eq!(
        path.file_name()
            .and_then(|name| file::span_of(name.to_str()?)),
        Some(span)
    );
    let whole = fs::read(&path).unwrap();
    let (mut refused, mut found) = (0, 0);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        let at = random.random_range(0..bytes.len());
        match random.random_bool(0.1) {
            true => bytes.truncate(at),
            false => bytes[at] ^= 1 << random.random_range(0..8),
        }
        fs::write(&path, bytes).unwrap();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(why) => {
                let cause = why.cause_chain().unwrap();
                assert!(
                    cause.contains("send_keys/-1_1_9.keys is damaged"),
                    "{cause}"
                );
                refused += 1;
                continue;
            }
        };
        let (hash, used) = all.choose(&mut random).unwrap();
        match file.find(hash) {
            Ok(content) => assert_eq!(&codec::read_used(&content.unwrap()).unwrap(), used),
            Err(_) => found += 1,
        }
        let read: Result<Vec<_>> = file.rows(None).collect();
        assert!(read.is_err() || read.is_ok_and(|rows| rows.len() == 300));
    }
    assert!(refused > 0 && found > 0, "{refused} refused, {found} found");
}
