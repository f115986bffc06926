//! A check finds nothing in what was written, and finds what was done to it since.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tertulia_services::chats::{Draft, Forward, ForwardedCopy, Invite, ListPlace, Role};

use super::*;
use crate::fjall::disk::{Batch, Table};
use crate::rows::codec;

/// A store with something in every table.
async fn full() -> Bench {
    let bench = Bench::new(Options::default()).await;
    let direct = bench.chat(2).await;
    let group = bench.group(100, ChatKind::Group, &[2, 3]).await;
    let channel = bench.group(101, ChatKind::Channel, &[3]).await;
    for n in 1..=3 {
        bench.say(direct, n).await.unwrap();
        bench.say(group, 10 + n).await.unwrap();
    }
    let say = |chat, n, change: &dyn Fn(&mut NewMessage)| {
        let mut command = message(chat, n);
        if let Act::Send(new) = &mut command.act {
            change(new);
        }
        bench.log.write(command)
    };
    // In the group: 2 to 4 are messages, then 5 and 6, which say more.
    say(group, 20, &|new| new.thread = Some(2)).await.unwrap();
    let everyone = Mentions {
        users: vec![UserId(2)],
        everyone: true,
        role: None,
    };
    let mentions = say(group, 21, &|new| new.mentions = everyone.clone());
    mentions.await.unwrap();
    let acts = [
        Act::React {
            chat: group,
            message: 2,
            emoji: "👍".into(),
            on: true,
        },
        Act::Pin {
            chat: group,
            message: 3,
            on: true,
        },
        Act::Edit {
            chat: group,
            message: 3,
            text: "another".into(),
            mentions: Mentions::default(),
        },
        Act::Delete {
            chat: group,
            messages: vec![4],
        },
        Act::Hide {
            chat: group,
            messages: vec![2],
        },
        Act::Change {
            chat: channel,
            title: None,
            topic: None,
            avatar: None,
            message_ttl_s: Some(60),
        },
        Act::Remove {
            chat: channel,
            user: UserId(3),
            ban: true,
        },
        Act::Draft {
            chat: direct,
            draft: Some(Arc::new(Draft {
                text: "not yet".into(),
                reply_to: None,
                at_ms: 1,
            })),
        },
        Act::MakeInvite {
            invite: Invite {
                code: "code".into(),
                chat: group,
                created_by: UserId(1),
                created_at_ms: 1,
                expires_at_ms: 0,
                uses_max: 0,
                uses: 0,
                role: Role::Member,
            },
            role_chosen: true,
            key: key(40),
        },
        Act::Schedule(Scheduled {
            id: ScheduledId(9),
            user: UserId(1),
            chat: direct,
            send_at_ms: BEGIN_MS + 1_000_000,
            key: key(41),
            text: "later".into(),
            reply_to: None,
            thread: None,
            mentions: Mentions::default(),
        }),
        Act::Forward {
            chat: direct,
            key: key(42),
            copies: vec![ForwardedCopy {
                id: MessageId(43),
                text: "a copy".into(),
                from: Forward {
                    user: UserId(3),
                    at_ms: 1,
                },
            }],
        },
    ];
    for act in acts {
        bench.log.write(command(50, act)).await.unwrap();
    }
    bench.say(channel, 44).await.unwrap();
    bench
}

async fn check(bench: &Bench) -> Report {
    bench.log.verify(|_| {}).await.unwrap()
}

#[tokio::test]
async fn a_store_that_was_only_written_has_no_problem() {
    let bench = full().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let progress = move |progress| listener.lock().push(progress);
    let report = bench.log.verify(progress).await.unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.problem_count, 0);
    assert_eq!((report.chats, report.users), (3, 3));
    assert_eq!(report.position, bench.log.position().await.unwrap());
    let told = told.lock();
    let chats: Vec<ChatDigest> = told
        .iter()
        .filter_map(|progress| match progress {
            Progress::Chat(digest) => Some(*digest),
            _ => None,
        })
        .collect();
    assert_eq!(
        chats.iter().map(|c| c.chat.0).collect::<Vec<_>>(),
        [2, 100, 101]
    );
    let heads: i64 = chats.iter().map(|chat| chat.head).sum();
    assert_eq!(report.events, heads as u64);
    assert!(matches!(told.last(), Some(Progress::SendKeys(n)) if *n == report.send_keys));
}

#[tokio::test]
async fn the_digest_changes_with_a_log_and_with_nothing_else() {
    let bench = full().await;
    let before = check(&bench).await.digest;
    assert_eq!(check(&bench).await.digest, before);
    let settings = Act::Choose {
        chat: ChatId(100),
        settings: tertulia_services::chats::Settings {
            favorite: true,
            ..Default::default()
        },
    };
    bench.log.write(command(60, settings)).await.unwrap();
    assert_eq!(check(&bench).await.digest, before);
    bench.say(ChatId(100), 61).await.unwrap();
    assert_ne!(check(&bench).await.digest, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_checked_at_one_commit() {
    let bench = full().await;
    let (done, checked) = tokio::sync::watch::channel(false);
    let writing = async {
        let mut n = 1_000;
        while !*checked.borrow() {
            n += 1;
            bench.say(ChatId(100), n).await.unwrap();
            let react = Act::React {
                chat: ChatId(100),
                message: 3,
                emoji: "🎉".into(),
                on: n % 2 == 1,
            };
            bench.log.write(command(n, react)).await.unwrap();
        }
        n
    };
    let checking = async {
        for _ in 0..20 {
            assert_eq!(check(&bench).await.problems, []);
        }
        done.send(true).unwrap();
    };
    let (written, ()) = futures::future::join(writing, checking).await;
    assert!(written > 1_001, "nothing was written meanwhile");
}

/// What a check says of a store to which something was done.
async fn after(damage: impl FnOnce(&Shared)) -> String {
    let bench = full().await;
    damage(&bench.log.shared);
    let report = check(&bench).await;
    assert_eq!(report.problem_count, report.problems.len() as u64);
    let words: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    words.join("\n")
}

fn event_key(seq: i64) -> [u8; 16] {
    codec::two_key(100, seq)
}

#[track_caller]
fn says(words: &str, expected: &str) {
    assert!(words.lines().any(|line| line == expected), "{words}");
}

#[tokio::test]
async fn a_lost_event_is_found() {
    let words = after(|shared| put(shared, Table::Events, &event_key(3), None)).await;
    says(&words, "chat 100, seq 4, the event before it is 2");
    says(
        &words,
        "chat 100, seq 3, a send key that it was not sent with",
    );
    let words = after(|shared| put(shared, Table::Events, &codec::two_key(2, 4), None)).await;
    says(&words, "chat 2, the head is 3, and the chat says 4");
}

#[tokio::test]
async fn a_changed_event_is_found() {
    let words = after(|shared| put(shared, Table::Events, &event_key(3), Some(&[2, 7]))).await;
    says(
        &words,
        "chat 100, seq 3, a stored row can not be read: too short",
    );
}

#[tokio::test]
async fn a_lost_member_is_found() {
    let words = after(|shared| {
        let key = codec::two_key(100, 2);
        put(shared, Table::Memberships, &key, None);
    })
    .await;
    says(
        &words,
        "chat 100, the number of members is 2, and the chat says 3",
    );
    says(
        &words,
        "chat 100, user 2, the user's list has a chat that the user is not in",
    );
}

#[tokio::test]
async fn a_chat_that_can_not_be_read_is_found_and_the_others_are_checked() {
    let words = after(|shared| {
        put(shared, Table::Chats, &codec::id_key(2), Some(&[9]));
        put(shared, Table::Chats, &codec::id_key(101), None);
        put(shared, Table::Events, &event_key(3), None);
    })
    .await;
    says(
        &words,
        "chat 2, a stored row can not be read: an unknown version",
    );
    says(&words, "chat 101, seq 1, an event of no chat");
    says(&words, "chat 101, user 1, a member of no chat");
    says(&words, "chat 100, seq 4, the event before it is 2");
}

#[tokio::test]
async fn a_lost_own_event_is_found() {
    let words = after(|shared| {
        let key = codec::two_key(1, 2);
        put(shared, Table::UserEvents, &key, None);
        put(shared, Table::UserHeads, &codec::id_key(3), None);
    })
    .await;
    says(&words, "user 1, seq 3, the event before it is 1");
    assert!(words.contains("and its head is 0"), "{words}");
}

#[tokio::test]
async fn every_row_of_the_small_tables_is_missed_when_it_is_gone() {
    let bench = full().await;
    let shared = &bench.log.shared;
    let rows: Vec<_> = rows(shared, Table::Index);
    let tables: std::collections::BTreeSet<u8> = rows.iter().map(|(key, _)| key[0]).collect();
    assert_eq!(tables.len(), 17, "a table has no row in this test");
    for (key, value) in rows {
        // A ban says only what it says itself.
        if key[0] == 3 {
            continue;
        }
        put(shared, Table::Index, &key, None);
        let report = check(&bench).await;
        assert!(report.problem_count > 0, "{key:?}");
        put(shared, Table::Index, &key, Some(&value));
    }
    assert_eq!(check(&bench).await.problem_count, 0);
}

#[tokio::test]
async fn no_damage_makes_a_reader_panic() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bench = full().await;
    let shared = &bench.log.shared;
    let tables = [
        Table::Chats,
        Table::Events,
        Table::Memberships,
        Table::UserEvents,
        Table::Index,
    ];
    for _ in 0..150 {
        let table = *tables.choose(&mut random).unwrap();
        let (key, value) = damaged(table, shared, &mut random);
        let whole = shared.disk.moment().get(table, &key).unwrap().unwrap();
        put(shared, table, &key, Some(&value));
        shared.forget(0);
        check(&bench).await;
        read_everything(&bench).await;
        put(shared, table, &key, Some(&whole));
    }
    shared.forget(0);
    assert_eq!(check(&bench).await.problem_count, 0);
}

fn rows(shared: &Shared, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let moment = shared.disk.moment();
    let rows = moment.iter(table).map(Result::unwrap);
    rows.map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// Makes a row another one than was committed, or takes it away.
fn put(shared: &Shared, table: Table, key: &[u8], value: Option<&[u8]>) {
    let mut batch = Batch::new();
    match value {
        None => batch.remove(table, key),
        Some(value) => batch.insert(table, key, value),
    }
    shared.disk.commit(&mut batch).unwrap();
}

/// A row of a table with another value.
fn damaged(table: Table, shared: &Shared, random: &mut StdRng) -> (Vec<u8>, Vec<u8>) {
    let rows = rows(shared, table);
    let (key, value) = rows.choose(random).unwrap();
    let mut value = value.to_vec();
    if value.is_empty() || random.random_bool(0.3) {
        value.truncate(random.random_range(0..=value.len()));
        value.push(random.random());
    } else {
        let place = random.random_range(0..value.len());
        value[place] = random.random();
    }
    (key.to_vec(), value)
}

/// Reads in every way. What comes is not looked at: a failure is as good as an answer.
async fn read_everything(bench: &Bench) {
    let log = &bench.log;
    for user in [1, 2, 3].map(UserId) {
        let chats = [2, 100, 101].map(ChatId);
        _ = log.standings(user, &chats).await;
        _ = log
            .chats_of(user, ListPlace::BOTTOM..ListPlace::TOP, 100)
            .await;
        _ = log
            .moved_since(user, tertulia_services::chats::Position(0))
            .await;
        _ = log.user_events_after(user, 0, 100).await;
        _ = log.scheduled(user).await;
        for chat in chats {
            _ = log.role(chat, user).await;
            _ = log.mine(user, chat, &[1, 2, 3]).await;
        }
    }
    for chat in [2, 100, 101].map(ChatId) {
        _ = log.chat(chat).await;
        _ = log.audience(chat).await;
        _ = log.events_after(chat, 0, 100).await;
        _ = log.events_at(chat, &[1, 2, 3]).await;
        _ = log.changes(chat, 1..=100, 0, 100).await;
        _ = log.thread(chat, 2, 0, 100).await;
        _ = log.reactions(chat, 2, 100).await;
        _ = log.members(chat, UserId(0), 100).await;
        _ = log.invites(chat).await;
        _ = log.banned(chat, UserId(0), 100).await;
    }
    _ = log.due(i64::MAX, 100).await;
}
