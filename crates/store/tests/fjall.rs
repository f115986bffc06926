//! The logs on fjall keep the word of their port, also over restarts and torn files.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use tertulia_kit::clock::{ManualClock, SharedClock};
use tertulia_services::chats::suite::{Place, chats_of};
use tertulia_services::chats::{
    Act, ChatStore, Command, Committed, Done, Fact, Limits, ListPlace, Mentions, NewMessage, Pair,
    Position, SendKey, Sent,
};
use tertulia_services::ids::{ChatId, MessageId, UserId};
use tertulia_store::fjall::{ChatLog, CrashPoint, Options};

/// A folder on disk.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self, committed: Arc<dyn Committed>, clock: SharedClock) -> Arc<dyn ChatStore> {
        ChatLog::open(self.0.path(), Options::default(), committed, clock)
            .await
            .unwrap()
    }
}

mod with_defaults {
    use super::Folder;
    tertulia_services::chat_store_suite!(Folder::new());
}

/// As little of everything as possible: every bound is met all the time.
mod with_the_least {
    use super::*;

    struct Small(Folder);

    #[async_trait]
    impl Place for Small {
        async fn open(
            &self,
            committed: Arc<dyn Committed>,
            clock: SharedClock,
        ) -> Arc<dyn ChatStore> {
            let options = Options {
                commit_batch_max: 3,
                cache_mib: 0,
                ..Options::default()
            };
            ChatLog::open(self.0.0.path(), options, committed, clock)
                .await
                .unwrap()
        }
    }

    tertulia_services::chat_store_suite!(Small(Folder::new()));
}

const HOUR_MS: i64 = 3_600 * 1_000;
const BEGIN_MS: i64 = 1_780_000_000_000;

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

async fn open(folder: &Path) -> Arc<ChatLog> {
    let clock = ManualClock::at(BEGIN_MS);
    ChatLog::open(folder, Options::default(), Arc::new(Nobody), clock)
        .await
        .unwrap()
}

/// Somebody does something.
fn command(n: i64, act: Act) -> Command {
    Command {
        actor: UserId(1),
        at_ms: BEGIN_MS + n,
        act,
        limits: Limits::default(),
    }
}

/// The direct chat that the messages are in, opened if it is not there.
async fn direct_chat(log: &ChatLog) -> ChatId {
    let pair = Pair::new(UserId(1), UserId(2)).unwrap();
    let id = ChatId(5);
    match log.write(command(0, Act::OpenDirect { pair, id })).await {
        Ok(Done::Chat(standing)) => standing.chat.id,
        other => panic!("{other:?}"),
    }
}

/// Opens the direct chat of the first user and another one, at a time of its own.
async fn open_direct(log: &ChatLog, other: UserId, n: i64) -> ChatId {
    let pair = Pair::new(UserId(1), other).unwrap();
    let id = ChatId(100 + n);
    let open = command(n * HOUR_MS / 7, Act::OpenDirect { pair, id });
    assert!(matches!(log.write(open).await, Ok(Done::Chat(_))));
    id
}

/// Sends the `n`th message, the same whenever it is sent.
async fn send(log: &ChatLog, chat: ChatId, n: i64) -> Sent {
    let message = NewMessage {
        chat,
        id: MessageId(n),
        key: SendKey {
            device: "d".into(),
            client_message_id: n.to_string(),
        },
        text: text(n),
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    };
    match log.write(command(n, Act::Send(message))).await {
        Ok(Done::Sent(sent)) => sent,
        other => panic!("{other:?}"),
    }
}

fn text(n: i64) -> String {
    format!("the text of message {n}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_nothing_in_a_random_history() {
    let folder = Folder::new();
    tertulia_services::chats::suite::a_random_history_agrees_with_memory(&folder).await;
    let report = open(folder.0.path()).await.verify(|_| {}).await.unwrap();
    assert_eq!(report.problems, []);
    assert!(report.events > 100, "{report:?}");
    let again = open(folder.0.path()).await.verify(|_| {}).await.unwrap();
    assert_eq!(again, report);
}

#[tokio::test]
async fn two_folders_have_two_epochs() {
    let (one, two) = (Folder::new(), Folder::new());
    assert_ne!(
        open(one.0.path()).await.epoch(),
        open(two.0.path()).await.epoch()
    );
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let folder = Folder::new();
    let _owner = open(folder.0.path()).await;
    let clock = ManualClock::at(BEGIN_MS);
    let second = ChatLog::open(folder.0.path(), Options::default(), Arc::new(Nobody), clock).await;
    assert_eq!(second.err().unwrap().reason(), "STORE_UNAVAILABLE");
}

/// Why a folder is refused whose logs say that they are of another format.
async fn refusal_of_format(format: u32) -> String {
    let folder = Folder::new();
    drop(open(folder.0.path()).await);
    {
        let db = fjall::Database::builder(folder.0.path()).open().unwrap();
        let meta = db
            .keyspace("meta", fjall::KeyspaceCreateOptions::default)
            .unwrap();
        meta.insert("format", format.to_be_bytes()).unwrap();
    }
    let clock = ManualClock::at(BEGIN_MS);
    let opened = ChatLog::open(folder.0.path(), Options::default(), Arc::new(Nobody), clock).await;
    opened.err().unwrap().cause_chain().unwrap()
}

#[tokio::test]
async fn logs_of_a_newer_format_are_not_touched() {
    assert_eq!(
        refusal_of_format(6).await,
        "the logs are of format 6, and this program knows formats up to 5"
    );
}

#[tokio::test]
async fn logs_from_before_the_first_release_are_refused_in_words() {
    assert_eq!(
        refusal_of_format(1).await,
        "the logs are of format 1, made by a version before the first release, \
         and can not be read any more"
    );
}

#[tokio::test]
async fn logs_of_a_format_without_lists_get_them() {
    let folder = Folder::new();
    let all = ListPlace::BOTTOM..ListPlace::TOP;
    let (mut lists, users) = (Vec::new(), (1..=40).map(UserId));
    {
        let log = open(folder.0.path()).await;
        for other in 2..=40 {
            let chat = open_direct(&log, UserId(other), other).await;
            if other % 3 == 0 {
                send(&log, chat, 10 * HOUR_MS + other).await;
            }
        }
        for user in users.clone() {
            lists.push(log.chats_of(user, all.clone(), 100).await.unwrap());
        }
    }
    {
        let db = fjall::Database::builder(folder.0.path()).open().unwrap();
        let table = |name| db.keyspace(name, fjall::KeyspaceCreateOptions::default);
        let (meta, index) = (table("meta").unwrap(), table("index").unwrap());
        let listed: Vec<_> = index.prefix([17]).map(|row| row.key().unwrap()).collect();
        assert_eq!(listed.len(), 2 * 39);
        for key in listed {
            index.remove(key).unwrap();
        }
        meta.insert("format", 2_u32.to_be_bytes()).unwrap();
    }
    for _ in 0..2 {
        let log = open(folder.0.path()).await;
        for (user, list) in users.clone().zip(&lists) {
            assert_eq!(&log.chats_of(user, all.clone(), 100).await.unwrap(), list);
        }
        let report = log.verify(|_| {}).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

#[tokio::test]
async fn a_page_of_a_list_costs_as_much_with_many_chats_as_with_few() {
    let mut costs = Vec::new();
    for chats in [60, 1_000] {
        let folder = Folder::new();
        let log = open(folder.0.path()).await;
        for n in 2..2 + chats {
            open_direct(&log, UserId(n), n).await;
        }
        drop(log);
        // Opened anew, so that nothing is in a cache.
        let log = open(folder.0.path()).await;
        let all = ListPlace::BOTTOM..ListPlace::TOP;
        let before = (log.reads(), log.rows_read());
        assert_eq!(log.chats_of(UserId(1), all, 50).await.unwrap().len(), 50);
        costs.push((log.reads() - before.0, log.rows_read() - before.1));
    }
    assert_eq!(costs[0], costs[1]);
}

/// The file of the journal that is written now, and where its last byte is that is not zero: a file is made long before
/// it is filled.
fn newest_journal(folder: &Path) -> (PathBuf, u64) {
    let mut files: Vec<_> = fs::read_dir(folder.join("journal"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort_unstable();
    let mut files = files.into_iter().rev().filter_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let page = |page: &[u8]| page.iter().rposition(|byte| *byte != 0);
        let mut pages = bytes.chunks(4096).enumerate().rev();
        let last = pages.find(|(_, bytes)| **bytes != [0; 4096][..bytes.len()]);
        let end = last.and_then(|(n, bytes)| Some(4096 * n + page(bytes)?))?;
        Some((path, end as u64 + 1))
    });
    files.next().unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_folder(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

/// What is left of a store whose last bytes were lost: a beginning of every log, and a whole one.
async fn is_a_gapless_prefix(folder: &Path, written: i64) -> (i64, Position) {
    let log = open(folder).await;
    let position = log.position().await.unwrap();
    let chats = chats_of(&*log, UserId(1)).await;
    let own = log.user_events_after(UserId(1), 0, 100).await.unwrap();
    assert_eq!(own.head, chats.len() as i64);
    assert_eq!(own.events.len(), chats.len());
    let Some(chat) = chats.first() else {
        return (0, position);
    };
    let page = log.events_after(chat.id, 0, usize::MAX).await.unwrap();
    assert_eq!(page.head, chat.head);
    assert!(page.head <= written);
    for (n, event) in (1..).zip(&page.events) {
        assert_eq!((event.seq, event.at_ms), (n, BEGIN_MS + n));
    }
    // It goes on, and what was lost can be sent again while what is there is known.
    for n in 1..=written {
        let sent = send(&log, chat.id, n).await;
        assert_eq!((sent.seq, sent.repeat), (n, n <= page.head));
    }
    (page.head, position)
}

#[tokio::test]
async fn a_torn_journal_leaves_a_gapless_prefix() {
    const WRITTEN: i64 = 30;
    let folder = Folder::new();
    let log = open(folder.0.path()).await;
    let chat = direct_chat(&log).await;
    for n in 1..=WRITTEN {
        send(&log, chat, n).await;
    }
    let whole = log.position().await.unwrap();
    // While the store runs, as a crash would find it.
    let crashed = Folder::new();
    copy_folder(folder.0.path(), crashed.0.path());
    drop(log);

    let (_, end) = newest_journal(crashed.0.path());
    let mut heads = Vec::new();
    for lost in [0, 1, 9, 47, 151, 700, 4_000] {
        for zeros in [false, true] {
            let torn = Folder::new();
            copy_folder(crashed.0.path(), torn.0.path());
            let (journal, at) = newest_journal(torn.0.path());
            assert_eq!(at, end);
            let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(end - lost).unwrap();
            if zeros {
                file.set_len(length).unwrap();
            }
            drop(file);
            let (head, position) = is_a_gapless_prefix(torn.0.path(), WRITTEN).await;
            assert!(position <= whole);
            assert_eq!(position.0, whole.0 - (WRITTEN - head) as u64);
            assert!(
                if lost == 0 {
                    head == WRITTEN
                } else {
                    head < WRITTEN
                },
                "lost {lost}"
            );
            heads.push(head);
        }
    }
    assert!(heads.is_sorted_by(|a, b| a >= b), "{heads:?}");
    assert!(
        *heads.last().unwrap() > 0,
        "the cuts were meant to leave something"
    );

    // Pages reach a disk in any order: the end of the last batch is there, and something before it is not.
    let (journal, end) = newest_journal(crashed.0.path());
    let bytes = fs::read(journal).unwrap();
    let hole_at = |n: i64| {
        let text = text(n);
        bytes[..end as usize]
            .windows(text.len())
            .rposition(|window| window == text.as_bytes())
            .unwrap()
    };
    let with_hole = |at: usize| {
        let torn = Folder::new();
        copy_folder(crashed.0.path(), torn.0.path());
        let mut bytes = bytes.clone();
        bytes[at..at + 10].fill(0);
        fs::write(newest_journal(torn.0.path()).0, bytes).unwrap();
        torn
    };
    let torn = with_hole(hole_at(WRITTEN));
    assert_eq!(
        is_a_gapless_prefix(torn.0.path(), WRITTEN).await.0,
        WRITTEN - 1
    );
    // A hole in what was acknowledged is not mended by forgetting it.
    let damaged = with_hole(hole_at(WRITTEN - 3));
    let clock = ManualClock::at(BEGIN_MS);
    let opened = ChatLog::open(
        damaged.0.path(),
        Options::default(),
        Arc::new(Nobody),
        clock,
    )
    .await;
    assert_eq!(opened.err().unwrap().reason(), "STORE_UNAVAILABLE");
}

const CRASH_FOLDER: &str = "TERTULIA_TEST_CRASH_FOLDER";
const CRASH_AT: &str = "TERTULIA_TEST_CRASH_AT";
/// How many messages go well before the crash.
const BEFORE_CRASH: i64 = 4;
const POINTS: [CrashPoint; 3] = [
    CrashPoint::BeforeCommit,
    CrashPoint::AfterCommitBeforeAck,
    CrashPoint::AfterAckBeforePublish,
];

/// Says on the standard output what it hears.
struct Aloud;

impl Committed for Aloud {
    fn committed(&self, facts: Vec<Fact>) {
        for fact in facts {
            if let Fact::Event { event, .. } = fact {
                println!("told {}", event.seq);
            }
        }
    }
}

/// The process that crashes in the test below; alone it does nothing.
#[tokio::test]
#[ignore = "it is run by a_crash_loses_nothing_that_was_acknowledged"]
async fn the_process_that_crashes() {
    let Some(folder) = std::env::var_os(CRASH_FOLDER) else {
        return;
    };
    let point = std::env::var_os(CRASH_AT).unwrap().into_string().unwrap();
    let options = Options {
        crash_at: Some(POINTS[point.parse::<usize>().unwrap()]),
        crash_after: BEFORE_CRASH as u64,
        ..Options::default()
    };
    let clock = ManualClock::at(BEGIN_MS);
    let log = ChatLog::open(Path::new(&folder), options, Arc::new(Aloud), clock)
        .await
        .unwrap();
    let chat = direct_chat(&log).await;
    for n in 1.. {
        send(&log, chat, n).await;
        println!("acked {n}");
    }
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_acknowledged() {
    for (index, point) in POINTS.into_iter().enumerate() {
        let folder = Folder::new();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_process_that_crashes",
                "--ignored",
                "--nocapture",
            ])
            .env(CRASH_FOLDER, folder.0.path())
            .env(CRASH_AT, index.to_string())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            None,
            "it was to be aborted: {output:?}"
        );
        let output = String::from_utf8(output.stdout).unwrap();
        // The name of the test stands before the first line.
        let last = |word: &str| {
            let after = output.rsplit_once(word).unwrap().1;
            after
                .split_ascii_whitespace()
                .next()
                .unwrap()
                .parse::<i64>()
                .unwrap()
        };
        let (acked, told) = (last("acked "), last("told "));
        let (expect_acked, expect_head) = match point {
            CrashPoint::BeforeCommit => (BEFORE_CRASH, BEFORE_CRASH),
            CrashPoint::AfterCommitBeforeAck => (BEFORE_CRASH, BEFORE_CRASH + 1),
            CrashPoint::AfterAckBeforePublish => (BEFORE_CRASH + 1, BEFORE_CRASH + 1),
        };
        assert_eq!(acked, expect_acked, "{point:?}");
        assert!(told <= BEFORE_CRASH, "{point:?}");
        let (head, _) = is_a_gapless_prefix(folder.0.path(), BEFORE_CRASH + 3).await;
        assert_eq!(head, expect_head, "{point:?}");
    }
}
