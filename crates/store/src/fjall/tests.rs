//! What only this adapter promises, and what needs a look inside. Its word as a port is proved by the suite,
//! in `tests/fjall.rs`.

mod verify;

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use tempfile::TempDir;
use tertulia_kit::clock::ManualClock;
use tertulia_services::chats::{
    Act, Audience, ChatKind, ChatStore as _, Fact, Limits, Mentions, Moved, NewChat, NewMessage,
    Pair, Scheduled, SendKey, Sent,
};
use tertulia_services::ids::{ChatId, MessageId, ScheduledId, UserId};

use super::recent::Recent;
use super::*;

const BEGIN_MS: i64 = 1_780_000_000_000;

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

struct Bench {
    _folder: TempDir,
    clock: Arc<ManualClock>,
    log: Arc<ChatLog>,
}

/// Remembers how many facts it was told.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Committed for Counting {
    fn committed(&self, facts: Vec<Fact>) {
        self.0.fetch_add(facts.len(), Ordering::Release);
    }
}

impl Bench {
    async fn new(options: Options) -> Bench {
        Bench::telling(options, Arc::new(Nobody)).await
    }

    async fn telling(options: Options, committed: Arc<dyn Committed>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(BEGIN_MS);
        let log = ChatLog::open(folder.path(), options, committed, clock.clone());
        Bench {
            log: log.await.unwrap(),
            clock,
            _folder: folder,
        }
    }

    async fn chat(&self, other: i64) -> ChatId {
        let pair = Pair::new(UserId(1), UserId(other)).unwrap();
        let id = ChatId(other);
        match self
            .log
            .write(command(0, Act::OpenDirect { pair, id }))
            .await
        {
            Ok(Done::Chat(standing)) => standing.chat.id,
            other => panic!("{other:?}"),
        }
    }

    /// A chat of the user 1 with these.
    async fn group(&self, id: i64, kind: ChatKind, members: &[i64]) -> ChatId {
        let new = NewChat {
            id: ChatId(id),
            kind,
            title: "some".into(),
            topic: String::new(),
            avatar: String::new(),
            members: members.iter().copied().map(UserId).collect(),
            key: key(-id),
        };
        self.log.write(command(0, Act::Create(new))).await.unwrap();
        ChatId(id)
    }

    async fn say(&self, chat: ChatId, n: i64) -> Result<Sent> {
        match self.log.write(message(chat, n)).await? {
            Done::Sent(sent) if !sent.repeat => Ok(sent),
            other => panic!("{other:?}"),
        }
    }

    async fn head(&self, chat: ChatId) -> i64 {
        self.log.chat(chat).await.unwrap().unwrap().head
    }

    async fn count(&self, chat: ChatId) -> usize {
        let page = self.log.events_after(chat, 0, 1_000).await.unwrap();
        page.events.len()
    }

    /// Sends a message, after which others than the writer's thread may write.
    async fn calm(&self, chat: ChatId, n: i64) {
        self.log.desk.calm_down();
        self.say(chat, n).await.unwrap();
        self.log.desk.settle();
    }

    /// Stops the writer at its next commits; what comes back lets one commit go on for each thing sent,
    /// and all of them when dropped. The receiver says when a commit has been reached.
    fn hold_commits(&self) -> (mpsc::Sender<()>, tokio::sync::mpsc::UnboundedReceiver<()>) {
        let (go, wait) = mpsc::channel();
        let (reached, at) = tokio::sync::mpsc::unbounded_channel();
        self.log.shared.faults.set(move || {
            _ = reached.send(());
            _ = wait.recv();
            false
        });
        (go, at)
    }
}

fn command(n: i64, act: Act) -> Command {
    Command {
        actor: UserId(1),
        at_ms: BEGIN_MS + n,
        act,
        limits: Limits::default(),
    }
}

fn message(chat: ChatId, n: i64) -> Command {
    message_of(chat, n, format!("text {n}"))
}

fn message_of(chat: ChatId, n: i64, text: String) -> Command {
    let message = NewMessage {
        chat,
        id: MessageId(n),
        key: key(n),
        text,
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    };
    command(n, Act::Send(message))
}

fn key(n: i64) -> SendKey {
    SendKey {
        device: "d".into(),
        client_message_id: n.to_string(),
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().reason()
}

#[tokio::test]
async fn who_is_answered_was_told_before() {
    let told = Arc::new(Counting::default());
    let bench = Bench::telling(Options::default(), told.clone()).await;
    let chat = bench.chat(2).await;
    // One after the other, when the writer tells itself, and many at once, when the teller does.
    for n in 1..=20 {
        let before = told.0.load(Ordering::Acquire);
        bench.say(chat, n).await.unwrap();
        assert_eq!(told.0.load(Ordering::Acquire), before + 1);
    }
    let before = told.0.load(Ordering::Acquire);
    let many = (100..400).map(|n| bench.say(chat, n));
    futures::future::try_join_all(many).await.unwrap();
    assert_eq!(told.0.load(Ordering::Acquire), before + 300);
}

#[tokio::test]
async fn after_a_failed_commit_nothing_of_it_is_there_and_the_next_one_goes_on() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    bench.say(chat, 1).await.unwrap();
    let position = bench.log.position().await.unwrap();
    bench.log.health().unwrap();

    bench.log.shared.faults.set(|| true);
    assert_eq!(reason(bench.say(chat, 2).await), "STORE_UNAVAILABLE");
    let pair = Pair::new(UserId(1), UserId(3)).unwrap();
    let id = ChatId(3);
    let opened = bench.log.write(command(0, Act::OpenDirect { pair, id }));
    assert_eq!(reason(opened.await), "STORE_UNAVAILABLE");
    assert_eq!(reason(bench.log.health()), "STORE_UNAVAILABLE");
    // Reading goes on, and sees nothing of it.
    assert_eq!(bench.head(chat).await, 1);
    assert_eq!(bench.log.chat(ChatId(3)).await.unwrap(), None);
    assert_eq!(bench.log.position().await.unwrap(), position);

    bench.log.shared.faults.set(|| false);
    assert_eq!(bench.say(chat, 2).await.unwrap().seq, 2);
    bench.log.health().unwrap();
    let moved = bench
        .log
        .moved_since(UserId(1), position)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        moved
            .chats
            .iter()
            .map(|chat| (chat.id, chat.head))
            .collect::<Vec<_>>(),
        [(chat, 2)]
    );
}

#[tokio::test]
async fn whoever_shares_a_failed_commit_is_told_so() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let mut first = true;
    let (go, wait) = mpsc::channel::<()>();
    let (reached, mut at) = tokio::sync::mpsc::unbounded_channel();
    bench.log.shared.faults.set(move || {
        _ = reached.send(());
        _ = wait.recv();
        !std::mem::take(&mut first)
    });
    let one = bench.say(chat, 0);
    let others = async {
        at.recv().await.unwrap();
        // While the first commit is held, these come together, a repeat among them.
        let sends = [1, 2, 2].map(|n| bench.log.write(message(chat, n)));
        let letting_go = async { drop(go) };
        futures::future::join(futures::future::join_all(sends), letting_go)
            .await
            .0
    };
    let (one, others) = futures::future::join(one, others).await;
    assert_eq!(one.unwrap().seq, 1);
    assert!(
        others
            .into_iter()
            .all(|other| reason(other) == "STORE_UNAVAILABLE")
    );
    assert_eq!(bench.count(chat).await, 1);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let options = Options {
        commit_queue_max: 3,
        commit_batch_max: 1,
        ..Options::default()
    };
    let bench = Bench::new(options).await;
    let chat = bench.chat(2).await;
    let (go, mut at) = bench.hold_commits();
    let held = bench.say(chat, 0);
    let rest = async {
        at.recv().await.unwrap();
        // Polled in order: three wait, the fourth does not.
        let sends = (1..=4).map(|n| bench.log.write(message(chat, n)));
        let letting_go = async { drop(go) };
        futures::future::join(futures::future::join_all(sends), letting_go)
            .await
            .0
    };
    let (held, mut rest) = futures::future::join(held, rest).await;
    assert_eq!(held.unwrap().seq, 1);
    let refused = rest.pop().unwrap().unwrap_err();
    assert_eq!(refused.reason(), "OVERLOADED");
    let wait = refused.retry_after().unwrap().as_millis();
    assert!((50..=200).contains(&wait), "{wait}");
    assert!(
        rest.into_iter()
            .all(|sent| matches!(sent, Ok(Done::Sent(_))))
    );
    assert_eq!(bench.count(chat).await, 4);
    assert_eq!(bench.log.shared.queue.bytes(), 0);
}

#[tokio::test]
async fn too_many_waiting_bytes_are_refused_too() {
    let options = Options {
        commit_bytes_max: 1_000,
        ..Options::default()
    };
    let bench = Bench::new(options).await;
    let chat = bench.chat(2).await;
    let big = message_of(chat, 1, "x".repeat(20_000));
    assert_eq!(reason(bench.log.write(big).await), "OVERLOADED");
    bench.say(chat, 1).await.unwrap();
    assert_eq!(bench.log.shared.queue.bytes(), 0);
}

#[tokio::test]
async fn what_waits_goes_into_one_commit() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let before = bench.log.position().await.unwrap();
    let (go, mut at) = bench.hold_commits();
    let held = bench.say(chat, 0);
    let rest = async {
        at.recv().await.unwrap();
        let sends = (1..=100).map(|n| bench.log.write(message(chat, n)));
        let letting_go = async { drop(go) };
        futures::future::join(futures::future::join_all(sends), letting_go)
            .await
            .0
    };
    let (held, rest) = futures::future::join(held, rest).await;
    assert_eq!(held.unwrap().seq, 1);
    for (n, sent) in (2..).zip(rest) {
        assert!(matches!(sent, Ok(Done::Sent(sent)) if sent.seq == n));
    }
    assert_eq!(bench.log.position().await.unwrap().0, before.0 + 2);
}

#[tokio::test]
async fn what_is_not_committed_is_not_seen() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let position = bench.log.position().await.unwrap();
    let (go, mut at) = bench.hold_commits();
    let sending = bench.say(chat, 1);
    let looking = async {
        at.recv().await.unwrap();
        assert_eq!(bench.head(chat).await, 0);
        assert_eq!(bench.log.position().await.unwrap(), position);
        let moved = bench
            .log
            .moved_since(UserId(1), position)
            .await
            .unwrap()
            .unwrap();
        assert!(moved.chats.is_empty());
        drop(go);
    };
    let (sent, ()) = futures::future::join(sending, looking).await;
    assert_eq!(sent.unwrap().seq, 1);
}

#[tokio::test]
async fn a_commit_that_does_not_end_is_told() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let (go, mut at) = bench.hold_commits();
    let sending = bench.say(chat, 1);
    let looking = async {
        at.recv().await.unwrap();
        bench.log.health().unwrap();
        bench.clock.advance_ms(10_001);
        assert_eq!(reason(bench.log.health()), "STORE_UNAVAILABLE");
        drop(go);
    };
    futures::future::join(sending, looking).await.0.unwrap();
    bench.log.health().unwrap();
}

#[tokio::test]
async fn a_writer_that_panics_is_told_and_nobody_waits_for_it() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    bench.log.shared.faults.set(|| panic!("a test wants it"));
    assert_eq!(reason(bench.say(chat, 1).await), "STORE_UNAVAILABLE");
    bench.log.close().await;
    assert_eq!(reason(bench.log.health()), "STORE_UNAVAILABLE");
    assert_eq!(reason(bench.say(chat, 1).await), "STORE_UNAVAILABLE");
    assert_eq!(bench.head(chat).await, 0);
}

/// Threads for sessions, as a node has them.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A chat with one message, whose next one is written by whoever sends it.
async fn calm_bench() -> (Bench, ChatId) {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    bench.calm(chat, 1).await;
    (bench, chat)
}

/// Has each commit say which thread it is on.
fn commits_by(bench: &Bench) -> mpsc::Receiver<String> {
    let (by, threads) = mpsc::channel();
    bench.log.shared.faults.set(move || {
        let thread = std::thread::current();
        by.send(thread.name().unwrap_or_default().to_owned())
            .unwrap();
        false
    });
    threads
}

#[test]
fn who_comes_when_little_is_to_be_committed_writes_itself_and_else_the_writer_does() {
    runtime().block_on(async {
        let bench = Bench::new(Options::default()).await;
        let chat = bench.chat(2).await;
        let threads = commits_by(&bench);
        let here = std::thread::current().name().unwrap().to_owned();
        bench.calm(chat, 1).await;
        assert_eq!(threads.recv().unwrap(), "chats-writer");
        bench.say(chat, 2).await.unwrap();
        assert_eq!(threads.recv().unwrap(), here);
        let long = message_of(chat, 3, "x".repeat(20_000));
        bench.log.write(long).await.unwrap();
        assert_eq!(threads.recv().unwrap(), "chats-writer");
    });
}

#[test]
fn who_comes_while_another_writes_itself_comes_after_it() {
    let runtime = runtime();
    let (bench, chat) = runtime.block_on(calm_bench());
    let (go, mut at) = bench.hold_commits();
    let log = Arc::clone(&bench.log);
    let first = runtime.spawn(async move { log.write(message(chat, 2)).await });
    at.blocking_recv().unwrap();
    let seq = |done: Result<Done>| match done.unwrap() {
        Done::Sent(sent) => sent.seq,
        other => panic!("{other:?}"),
    };
    runtime.block_on(async {
        let go_on = async { drop(go) };
        let (second, ()) = futures::future::join(bench.log.write(message(chat, 3)), go_on).await;
        assert_eq!((seq(first.await.unwrap()), seq(second)), (2, 3));
        bench.log.close().await;
    });
}

#[test]
fn a_node_with_one_thread_for_sessions_leaves_writing_to_the_writer() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::new(Options::default()).await;
        let chat = bench.chat(2).await;
        let threads = commits_by(&bench);
        for n in 0..64 {
            bench.say(chat, n).await.unwrap();
        }
        assert!(threads.try_iter().all(|thread| thread == "chats-writer"));
    });
}

#[test]
fn who_writes_itself_and_is_held_up_by_the_disk_holds_up_nobody_else() {
    use std::io::Write as _;
    use tokio::io::AsyncReadExt as _;

    let runtime = runtime();
    let (bench, chat) = runtime.block_on(calm_bench());
    // What comes at a socket, and what is done about it.
    let socket = || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    };
    let ((mut to_sender, sender), (mut to_other, other)) = (socket(), socket());
    let log = Arc::clone(&bench.log);
    let sending = runtime.spawn(async move {
        let mut socket = tokio::net::UnixStream::from_std(sender).unwrap();
        socket.read_u8().await.unwrap();
        log.write(message(chat, 2)).await
    });
    let (answer, answered) = mpsc::channel();
    let answering = runtime.spawn(async move {
        let mut socket = tokio::net::UnixStream::from_std(other).unwrap();
        answer.send(socket.read_u8().await.unwrap()).unwrap();
        answer.send(socket.read_u8().await.unwrap()).unwrap();
    });
    to_other.write_all(&[1]).unwrap();
    assert_eq!(answered.recv(), Ok(1));
    let (go, mut at) = bench.hold_commits();
    to_sender.write_all(&[1]).unwrap();
    at.blocking_recv().unwrap();
    // The thread that was at the sockets waits for the disk now.
    to_other.write_all(&[2]).unwrap();
    assert_eq!(answered.recv(), Ok(2));
    drop(go);
    runtime.block_on(answering).unwrap();
    runtime.block_on(sending).unwrap().unwrap();
}

#[test]
fn a_writer_that_panics_where_somebody_writes_itself_is_told_too() {
    let runtime = runtime();
    runtime.block_on(async {
        let (bench, chat) = calm_bench().await;
        bench.log.shared.faults.set(|| panic!("a test wants it"));
        assert_eq!(reason(bench.say(chat, 2).await), "STORE_UNAVAILABLE");
        assert_eq!(reason(bench.say(chat, 3).await), "STORE_UNAVAILABLE");
        bench.log.close().await;
        assert_eq!(reason(bench.log.health()), "STORE_UNAVAILABLE");
        assert_eq!(bench.head(chat).await, 1);
    });
}

#[tokio::test]
async fn closing_finishes_what_waits_and_reading_goes_on() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let (go, mut at) = bench.hold_commits();
    let sends = futures::future::join_all((0..10).map(|n| bench.say(chat, n)));
    let closing = async {
        at.recv().await.unwrap();
        drop(go);
        bench.log.close().await;
    };
    let (sent, ()) = futures::future::join(sends, closing).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(bench.count(chat).await, 10);
    assert_eq!(reason(bench.say(chat, 11).await), "STORE_UNAVAILABLE");
}

/// The ids of what moved, in order: chats, and chats with receipts.
fn moved_ids(moved: &Moved) -> (Vec<(ChatId, i64)>, Vec<ChatId>) {
    let mut chats: Vec<_> = moved.chats.iter().map(|c| (c.id, c.head)).collect();
    chats.sort_unstable();
    let mut receipts = moved.receipts.clone();
    receipts.sort_unstable();
    (chats, receipts)
}

#[tokio::test]
async fn what_moved_is_the_same_with_and_without_the_memory_of_recent_moves() {
    let bench = Bench::new(Options::default()).await;
    let group = bench.group(100, ChatKind::Group, &[2, 5]).await;
    let channel = bench.group(101, ChatKind::Channel, &[5]).await;
    let mut marks = vec![bench.log.position().await.unwrap()];
    for round in 0..6 {
        for other in 2..20 {
            let chat = bench.chat(other).await;
            if (other + round) % 3 == 0 {
                bench.say(chat, round * 100 + other).await.unwrap();
            }
            if (other + round) % 5 == 0 {
                let mark = Act::Mark {
                    chat,
                    delivered: round,
                    seen: None,
                    shares_seen: true,
                };
                let mut mark = command(0, mark);
                mark.actor = UserId(other);
                bench.log.write(mark).await.unwrap();
            }
        }
        if round % 2 == 0 {
            bench.say(group, round * 1_000).await.unwrap();
        } else {
            bench.say(channel, round * 1_000).await.unwrap();
        }
        marks.push(bench.log.position().await.unwrap());
    }
    for since in marks {
        for user in [1, 2, 5, 99].map(UserId) {
            let quick = bench.log.moved_since(user, since).await.unwrap().unwrap();
            let forgotten = Recent::after(u64::MAX, 0);
            let recent = std::mem::replace(&mut *bench.log.shared.recent.lock(), forgotten);
            let slow = bench.log.moved_since(user, since).await.unwrap().unwrap();
            *bench.log.shared.recent.lock() = recent;
            assert_eq!(moved_ids(&quick), moved_ids(&slow));
            assert_eq!(quick.own_head, slow.own_head);
        }
    }
}

#[tokio::test]
async fn a_heartbeat_reads_the_rows_of_what_moved_and_of_nothing_else() {
    let bench = Bench::new(Options::default()).await;
    let mut chats = Vec::new();
    for other in 2..52 {
        chats.push(bench.chat(other).await);
    }
    let since = bench.log.position().await.unwrap();
    bench.say(chats[7], 1).await.unwrap();
    bench.log.shared.chats.clear();
    let moved = bench.log.moved_since(UserId(1), since).await;
    assert_eq!(moved_ids(&moved.unwrap().unwrap()).0, [(chats[7], 1)]);
    let read = chats
        .iter()
        .filter(|chat| bench.log.shared.chats.get(**chat).is_some());
    assert_eq!(read.collect::<Vec<_>>(), [&chats[7]]);
}

#[tokio::test]
async fn the_members_of_a_group_are_one_list_until_they_are_others() {
    let bench = Bench::new(Options::default()).await;
    let group = bench.group(100, ChatKind::Group, &[2, 3]).await;
    let audience = async || match bench.log.audience(group).await.unwrap() {
        Some(Audience::Members(members)) => members,
        other => panic!("{other:?}"),
    };
    let before = audience().await;
    assert_eq!(*before, [1, 2, 3].map(UserId));
    bench.say(group, 1).await.unwrap();
    assert!(Arc::ptr_eq(&before, &audience().await));
    let user = UserId(2);
    let remove = Act::Remove {
        chat: group,
        user,
        ban: false,
    };
    bench.log.write(command(2, remove)).await.unwrap();
    assert_eq!(*audience().await, [1, 3].map(UserId));
}

#[tokio::test]
async fn what_is_due_earlier_is_found_after_looking_later() {
    let bench = Bench::new(Options::default()).await;
    let chat = bench.chat(2).await;
    let schedule = async |n: i64, after_ms| {
        let scheduled = Scheduled {
            id: ScheduledId(n),
            user: UserId(1),
            chat,
            send_at_ms: BEGIN_MS + after_ms,
            key: key(n),
            text: "later".into(),
            reply_to: None,
            thread: None,
            mentions: Mentions::default(),
        };
        let schedule = command(0, Act::Schedule(scheduled));
        bench.log.write(schedule).await.unwrap();
    };
    let due = async |after_ms| {
        bench
            .log
            .due(BEGIN_MS + after_ms, 10)
            .await
            .unwrap()
            .scheduled
    };
    schedule(1, 100).await;
    assert_eq!(due(50).await, []);
    assert_eq!(bench.log.shared.sends.look().from_ms, BEGIN_MS + 50);
    schedule(2, 20).await;
    assert_eq!(due(50).await, [ScheduledId(2)]);
    let scheduled = ScheduledId(2);
    let id = MessageId(2);
    let send = command(60, Act::SendScheduled { scheduled, id });
    bench.log.write(send).await.unwrap();
    assert_eq!(due(60).await, []);
    assert_eq!(due(200).await, [ScheduledId(1)]);
    // What is left is where the next look begins.
    assert_eq!(due(300).await, [ScheduledId(1)]);
    assert_eq!(bench.log.shared.sends.look().from_ms, BEGIN_MS + 100);
    assert_eq!(bench.log.shared.ends.look().from_ms, BEGIN_MS + 300);
    assert_eq!(due(7).await, []);
}
