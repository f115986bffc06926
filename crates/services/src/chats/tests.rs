use std::collections::HashSet;

use parking_lot::Mutex;
use tertulia_kit::clock::ManualClock;
use tertulia_kit::id::Node;

use super::cursor::Cursor;
use super::memory::Memory;
use super::*;
use crate::access::{Authorizer, Permit, Rule};
use crate::ids::LoginId;

const BEGIN_MS: i64 = 1_780_000_000_000;
const EPOCH: Epoch = Epoch(42);

struct Nobody;

impl Committed for Nobody {
    fn committed(&self, _: Vec<Fact>) {}
}

/// Everybody is known but user 404.
struct Town;

#[async_trait]
impl People for Town {
    async fn exists(&self, user: UserId) -> Result<bool> {
        Ok(user.0 != 404)
    }
}

struct Bench {
    chats: Arc<Chats>,
    clock: Arc<ManualClock>,
    store: Arc<Memory>,
    sent: Mutex<u64>,
}

impl Bench {
    fn new() -> Bench {
        let clock = ManualClock::at(BEGIN_MS);
        let store = Memory::new(EPOCH, Arc::new(Nobody), clock.clone());
        let ids = Arc::new(Ids::new(clock.clone(), Node::FIRST));
        let chats = Arc::new(Chats::new(
            store.clone(),
            Arc::new(Town),
            ids,
            clock.clone(),
        ));
        Bench {
            chats,
            clock,
            store,
            sent: Mutex::new(0),
        }
    }

    /// The chat of two people, as its first member sees it.
    async fn between(&self, a: i64, b: i64) -> Member {
        let chat = self.chats.open_direct(&caller(a), UserId(b)).await.unwrap();
        self.member(a, chat.id).await.unwrap()
    }

    async fn member(&self, user: i64, chat: ChatId) -> Result<Member> {
        let authorizer = Authorizer::new(self.chats.clone());
        match authorizer
            .authorize(Rule::ChatMember(chat), Some(caller(user)))
            .await?
        {
            Permit::Member(member) => Ok(member),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, member: &Member, text: &str) -> Receipt {
        let n = {
            let mut sent = self.sent.lock();
            *sent += 1;
            *sent
        };
        self.clock.advance_ms(1);
        self.chats
            .send(member, format!("message-{n}"), text.into())
            .await
            .unwrap()
    }

    async fn missed(&self, user: i64, cursor: &[u8]) -> Missed {
        self.chats.missed(&caller(user), cursor).await.unwrap()
    }
}

fn caller(user: i64) -> Caller {
    Caller {
        user: UserId(user),
        login: LoginId(user * 10),
        device: format!("device-{user}").into(),
        expires_at_ms: i64::MAX,
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().reason()
}

#[tokio::test]
async fn a_direct_chat_is_with_somebody_else_who_exists() {
    let bench = Bench::new();
    let chats = &bench.chats;
    assert_eq!(
        reason(chats.open_direct(&caller(1), UserId(1)).await),
        "CHAT_WITH_SELF"
    );
    assert_eq!(
        reason(chats.open_direct(&caller(1), UserId(404)).await),
        "USER_NOT_FOUND"
    );
    let one = chats.open_direct(&caller(1), UserId(2)).await.unwrap();
    assert_eq!(chats.open_direct(&caller(2), UserId(1)).await.unwrap(), one);
}

#[tokio::test]
async fn to_a_stranger_a_chat_is_not_there() {
    let bench = Bench::new();
    let chat = bench.between(1, 2).await.chat();
    assert_eq!(reason(bench.member(3, chat).await), "CHAT_NOT_FOUND");
    assert_eq!(reason(bench.member(1, ChatId(77)).await), "CHAT_NOT_FOUND");
    let member = bench.member(2, chat).await.unwrap();
    assert_eq!(bench.chats.chat(&member).await.unwrap().id, chat);
}

#[tokio::test]
async fn a_text_is_short_and_has_no_control_characters() {
    let bench = Bench::new();
    let member = bench.between(1, 2).await;
    for bad in [
        "",
        "\0",
        "a\u{7}b",
        "line\r\n",
        "\u{85}",
        &"é".repeat(8_001),
    ] {
        let sent = bench
            .chats
            .send(&member, "message-x".into(), bad.into())
            .await;
        assert_eq!(reason(sent), "INVALID_REQUEST", "{bad:?}");
    }
    for good in ["a", " ", "a\n\tb", "🫖", &"🫖".repeat(8_000)] {
        bench.say(&member, good).await;
    }
    for id in ["", "short", "with a space", "ünicode-id", &"x".repeat(65)] {
        let sent = bench.chats.send(&member, id.into(), "a".into()).await;
        assert_eq!(reason(sent), "INVALID_REQUEST", "{id:?}");
    }
}

#[tokio::test]
async fn a_sending_again_gives_the_first_receipt_and_another_text_is_refused() {
    let bench = Bench::new();
    let member = bench.between(1, 2).await;
    let send = async |text: &str| {
        bench
            .chats
            .send(&member, "message-1".into(), text.into())
            .await
    };
    let first = send("hello").await.unwrap();
    bench.clock.advance_ms(50);
    assert_eq!(send("hello").await.unwrap(), first);
    assert_eq!(reason(send("other").await), "CLIENT_MESSAGE_ID_REUSED");
    // The other side's device has its own ids.
    let other = bench.member(2, member.chat()).await.unwrap();
    let second = bench
        .chats
        .send(&other, "message-1".into(), "hello".into())
        .await
        .unwrap();
    assert_eq!(second.seq, 2);
}

#[tokio::test]
async fn the_list_has_the_newest_event_first_and_its_pages_are_whole() {
    let bench = Bench::new();
    let mut members = Vec::new();
    for other in 2..=30 {
        bench.clock.advance_ms(1);
        members.push(bench.between(1, other).await);
    }
    for n in [3, 9, 4] {
        bench.say(&members[n], "hi").await;
    }
    let list = async |limit, token: String| bench.chats.chats(&caller(1), limit, &token).await;
    let all = list(200, String::new()).await.unwrap();
    assert_eq!((all.chats.len(), all.next_page_token.as_str()), (29, ""));
    let first: Vec<ChatId> = all.chats.iter().take(4).map(|chat| chat.id).collect();
    let expected = [4, 9, 3, 28].map(|n: usize| members[n].chat());
    assert_eq!(first, expected);

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(7, token).await.unwrap();
        assert!(page.chats.len() <= 7);
        paged.extend(page.chats);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.chats);
    assert_eq!(reason(list(7, "what".into()).await), "BAD_CURSOR");
}

#[tokio::test]
async fn a_chat_that_moves_between_two_pages_is_in_none_of_them_twice() {
    let bench = Bench::new();
    let mut members = Vec::new();
    for other in 2..=11 {
        bench.clock.advance_ms(1);
        members.push(bench.between(1, other).await);
    }
    let first = bench.chats.chats(&caller(1), 5, "").await.unwrap();
    bench
        .say(&members[0], "from the second page to the front")
        .await;
    let second = bench
        .chats
        .chats(&caller(1), 5, &first.next_page_token)
        .await
        .unwrap();
    let ids: Vec<ChatId> = first
        .chats
        .iter()
        .chain(&second.chats)
        .map(|chat| chat.id)
        .collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids.len(), 9);
}

#[tokio::test]
async fn the_first_time_a_device_begins_with_its_newest_chats() {
    let bench = Bench::new();
    for other in 2..=60 {
        bench.clock.advance_ms(1);
        let member = bench.between(1, other).await;
        bench.say(&member, "hi").await;
    }
    let missed = bench.missed(1, b"").await;
    let Answer::Reset {
        reason,
        chats,
        more,
        epoch,
    } = missed.answer
    else {
        panic!("no reset")
    };
    assert_eq!(
        (reason, chats.len(), more, epoch),
        (ResetReason::First, 50, true, EPOCH)
    );
    assert_eq!(chats[0].members(), [UserId(1), UserId(60)]);
    assert_eq!(missed.heads.len(), 50);
    assert_eq!(missed.own_head, 59);
    // And the cursor goes on from there.
    let then = bench.missed(1, &missed.cursor).await;
    assert_eq!(
        then.answer,
        Answer::Delta {
            own_events: vec![],
            events: vec![]
        }
    );
}

#[tokio::test]
async fn a_cursor_that_can_not_be_continued_is_a_reset_that_says_why() {
    let bench = Bench::new();
    let member = bench.between(1, 2).await;
    bench.say(&member, "hi").await;
    let good = bench.missed(1, b"").await.cursor;
    let why = async |user, cursor: &[u8]| match bench.missed(user, cursor).await.answer {
        Answer::Reset { reason, chats, .. } => {
            assert_eq!(chats.len(), 1);
            Some(reason)
        }
        _ => None,
    };
    assert_eq!(why(1, &good).await, None);
    assert_eq!(why(2, &good).await, Some(ResetReason::UnknownCursor));
    assert_eq!(why(1, b"nonsense").await, Some(ResetReason::UnknownCursor));
    assert_eq!(why(1, &good[1..]).await, Some(ResetReason::UnknownCursor));
    let cursor = Cursor::decode(&good).unwrap();
    let restored = Cursor {
        epoch: Epoch(7),
        ..cursor
    };
    assert_eq!(why(1, &restored.encode()).await, Some(ResetReason::Epoch));
    let lost = Cursor {
        position: Position(cursor.position.0 + 1),
        ..cursor
    };
    assert_eq!(why(1, &lost.encode()).await, Some(ResetReason::Epoch));
    let own_lost = Cursor {
        own_seq: cursor.own_seq + 1,
        ..cursor
    };
    assert_eq!(why(1, &own_lost.encode()).await, Some(ResetReason::Epoch));
}

#[tokio::test]
async fn a_device_that_was_away_gets_every_event_and_its_cursor_covers_them() {
    let bench = Bench::new();
    let (with_2, with_3) = (bench.between(1, 2).await, bench.between(1, 3).await);
    bench.say(&with_2, "seen").await;
    let cursor = bench.missed(1, b"").await.cursor;
    bench.say(&with_2, "one").await;
    bench.say(&with_3, "two").await;
    bench.say(&with_2, "three").await;
    let with_4 = bench.between(4, 1).await;
    bench.say(&with_4, "four").await;
    let strangers = bench.between(5, 6).await;
    bench.say(&strangers, "not yours").await;

    let missed = bench.missed(1, &cursor).await;
    let Answer::Delta { own_events, events } = &missed.answer else {
        panic!("no delta")
    };
    let mut told: Vec<(ChatId, Seq)> = events.iter().map(|e| (e.chat, e.seq)).collect();
    told.sort_unstable();
    let (two, three, four) = (with_2.chat(), with_3.chat(), with_4.chat());
    assert_eq!(told, [(two, 2), (two, 3), (three, 1), (four, 1)]);
    assert_eq!(own_events.iter().map(|e| e.seq).collect::<Vec<_>>(), [3]);
    let mut heads = missed.heads.clone();
    heads.sort_unstable();
    assert_eq!(heads, [(two, 3), (three, 1), (four, 1)]);
    assert_eq!(missed.own_head, 3);

    let then = bench.missed(1, &missed.cursor).await;
    assert_eq!(
        then.answer,
        Answer::Delta {
            own_events: vec![],
            events: vec![]
        }
    );
    assert_eq!((then.heads, then.own_head), (vec![], 3));
    // The old cursor still tells the same: nothing is used up by asking.
    assert_eq!(bench.missed(1, &cursor).await.answer, missed.answer);
}

#[tokio::test]
async fn too_much_to_list_is_told_as_what_changed() {
    let bench = Bench::new();
    let (busy, quiet) = (bench.between(1, 2).await, bench.between(1, 3).await);
    let start = bench.missed(1, b"").await.cursor;
    for n in 0..1_000 {
        bench.say(&busy, &n.to_string()).await;
    }
    let Answer::Delta { events, .. } = bench.missed(1, &start).await.answer else {
        panic!("a thousand can be listed")
    };
    assert_eq!(events.len(), 1_000);
    bench.say(&busy, "one more").await;
    let missed = bench.missed(1, &start).await;
    let Answer::Changed { chats } = &missed.answer else {
        panic!("too many for a delta")
    };
    assert_eq!(chats.len(), 1);
    assert_eq!((chats[0].id, chats[0].head), (busy.chat(), 1_001));
    assert_eq!(missed.heads, [(busy.chat(), 1_001)]);
    bench.say(&quiet, "and on").await;
    let then = bench.missed(1, &missed.cursor).await;
    assert!(matches!(then.answer, Answer::Delta { events, .. } if events.len() == 1));
}

#[tokio::test]
async fn long_texts_are_told_as_what_changed_too() {
    let bench = Bench::new();
    let member = bench.between(1, 2).await;
    let start = bench.missed(1, b"").await.cursor;
    for _ in 0..70 {
        bench.say(&member, &"🫖".repeat(8_000)).await;
    }
    let missed = bench.missed(1, &start).await;
    assert!(matches!(missed.answer, Answer::Changed { .. }));
}

#[tokio::test]
async fn many_new_chats_are_told_as_what_changed_too() {
    let bench = Bench::new();
    let start = bench.missed(1, b"").await.cursor;
    for other in 1_000..2_001 {
        bench.between(1, other).await;
    }
    let missed = bench.missed(1, &start).await;
    assert!(matches!(&missed.answer, Answer::Changed { chats } if chats.len() == 1_001));
    assert_eq!(missed.own_head, 1_001);
    assert_eq!(
        bench.missed(1, &missed.cursor).await.answer,
        Answer::Delta {
            own_events: vec![],
            events: vec![]
        }
    );
}

#[tokio::test]
async fn a_heartbeat_tells_what_moved_since_the_one_before() {
    let bench = Bench::new();
    let member = bench.between(1, 2).await;
    bench.between(1, 3).await;
    let begin = bench.missed(1, b"").await;
    let quiet = bench.chats.beat(&caller(1), begin.position).await.unwrap();
    assert_eq!((quiet.heads.len(), quiet.own_head), (0, 2));
    assert_eq!(quiet.cursor, begin.cursor);
    bench.say(&member, "hi").await;
    let beat = bench.chats.beat(&caller(1), quiet.position).await.unwrap();
    assert_eq!(beat.heads, [(member.chat(), 1)]);
    let next = bench.chats.beat(&caller(1), beat.position).await.unwrap();
    assert!(next.heads.is_empty());
    // A device that holds all heads of a beat continues from its cursor.
    let missed = bench.missed(1, &beat.cursor).await;
    assert_eq!(
        missed.answer,
        Answer::Delta {
            own_events: vec![],
            events: vec![]
        }
    );
    let future = Position(bench.store.position().await.unwrap().0 + 1);
    assert_eq!(
        reason(bench.chats.beat(&caller(1), future).await),
        "INTERNAL"
    );
}
