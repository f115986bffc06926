//! How many messages a second are on disk and answered, by how many are sent at once:
//! `cargo run --release -p tertulia-store --example commit_rate [seconds for each]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tertulia_kit::clock::SystemClock;
use tertulia_services::chats::{
    Act, ChatStore, Command, Committed, Done, Fact, Limits, Mentions, NewMessage, Pair, SendKey,
};
use tertulia_services::ids::{ChatId, MessageId, UserId};
use tertulia_store::fjall::{ChatLog, Options};

const CHATS: i64 = 1_000;

#[derive(Default)]
struct Told(AtomicU64);

impl Committed for Told {
    fn committed(&self, facts: Vec<Fact>) {
        self.0.fetch_add(facts.len() as u64, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(5);
    // Beside the build, which is on a disk; a folder for temporary files may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    let told = Arc::new(Told::default());
    let clock = Arc::new(SystemClock::default());
    let log = ChatLog::open(folder.path(), Options::default(), told.clone(), clock);
    let log = log.await.expect("the logs open");
    let mut chats = Vec::new();
    for n in 0..CHATS {
        let pair = Pair::new(UserId(n), UserId(n + 1_000_000)).expect("two people");
        let id = ChatId(n + 1);
        let open = command(UserId(n), 0, Act::OpenDirect { pair, id });
        log.write(open).await.expect("a chat");
        chats.push(id);
    }
    let chats: Arc<[ChatId]> = chats.into();
    let sent = Arc::new(AtomicI64::new(0));
    println!(
        "{:>8} {:>10} {:>10} {:>12} {:>10} {:>10}",
        "at once", "rows/s", "µs each", "per commit", "p50 ms", "p99 ms"
    );
    for at_once in [1, 16, 128, 1_024, 4_096] {
        let before = log.position().await.expect("a position").0;
        let times = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let end = began + Duration::from_secs(seconds);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (log, sent) = (Arc::clone(&log), Arc::clone(&sent));
            let (chats, times) = (Arc::clone(&chats), Arc::clone(&times));
            tasks.spawn(async move {
                let mut mine = Vec::new();
                while Instant::now() < end {
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    let began = Instant::now();
                    let sent = log.write(message(&chats, n)).await;
                    assert!(matches!(sent, Ok(Done::Sent(s)) if !s.repeat), "{sent:?}");
                    mine.push(began.elapsed());
                }
                times.lock().extend(mine);
            });
        }
        while tasks.join_next().await.is_some() {}
        let took = began.elapsed().as_secs_f64();
        let commits = log.position().await.expect("a position").0 - before;
        let mut times = times.lock();
        times.sort_unstable();
        let ms = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1_000.0;
        println!(
            "{at_once:>8} {:>10.0} {:>10.2} {:>12.1} {:>10.2} {:>10.2}",
            times.len() as f64 / took,
            took * 1_000_000.0 / times.len() as f64,
            times.len() as f64 / commits as f64,
            ms(0.5),
            ms(0.99),
        );
    }
    log.close().await;
    println!(
        "{} messages sent, {} facts told",
        sent.load(Ordering::Relaxed),
        told.0.load(Ordering::Relaxed)
    );
}

fn message(chats: &[ChatId], n: i64) -> Command {
    // Spread over the chats, so that neighbours in a batch are not neighbours on disk.
    let chat = chats[(n.wrapping_mul(2_654_435_761) >> 8).rem_euclid(chats.len() as i64) as usize];
    let message = NewMessage {
        chat,
        id: MessageId(n),
        key: SendKey {
            device: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
            client_message_id: format!("message-{n:016x}"),
        },
        text: "A message as long as messages mostly are: a sentence or two, not more.".into(),
        reply_to: None,
        thread: None,
        mentions: Mentions::default(),
    };
    command(
        UserId(chat.0 - 1),
        1_780_000_000_000 + n,
        Act::Send(message),
    )
}

fn command(actor: UserId, at_ms: i64, act: Act) -> Command {
    Command {
        actor,
        at_ms,
        act,
        limits: Limits::default(),
    }
}
