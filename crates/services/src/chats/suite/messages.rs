//! Messages: sent once, and as they are now.

use std::collections::HashMap;
use std::sync::Arc;

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::ids::MessageId;

pub async fn seqs_rise_by_one_from_one(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    for n in 1..=20 {
        bench.clock.advance_ms(1);
        let expected = Sent {
            seq: n,
            id: message(one, ANA, n).id,
            at_ms: BEGIN_MS + n,
            repeat: false,
        };
        assert_eq!(bench.say(one, ANA, n).await, expected);
        // Its own log has its own numbers.
        assert_eq!(bench.say(two, CLEO, n).await.seq, n);
        let chat = bench.chat(one).await;
        assert_eq!((chat.head, chat.messages), (n, n));
        let new = message(one, ANA, n);
        let event = Event {
            chat: one,
            seq: n,
            at_ms: BEGIN_MS + n,
            actor: ANA,
            messages: n,
            body: EventBody::Message(Message::plain(new.id, new.key, new.text, n)),
        };
        assert_eq!(chat.last_message.as_deref(), Some(&event));
        assert_eq!(*bench.event(one, n).await, event);
    }
}

pub async fn a_repeat_gives_the_first_answer_and_writes_nothing(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let first = bench.say(chat, ANA, 1).await;
    bench.say(chat, BEN, 2).await;
    bench.clock.advance_ms(99);
    let again = Act::Send(NewMessage {
        id: MessageId(77),
        ..message(chat, ANA, 1)
    });
    let expected = Sent {
        repeat: true,
        ..first
    };
    let position = bench.position().await;
    assert_eq!(sent(bench.act(ANA, again.clone()).await), expected);
    bench.reopen().await;
    assert_eq!(sent(bench.act(ANA, again.clone()).await), expected);
    assert_eq!(bench.whole_log(chat).await.len(), 2);
    assert_eq!(bench.position().await, position);
    // Whatever became of the message since.
    bench.edit(chat, ANA, 1, "another").await;
    assert_eq!(sent(bench.act(ANA, again.clone()).await), expected);
    bench.delete(chat, ANA, &[1]).await;
    assert_eq!(sent(bench.act(ANA, again).await), expected);
}

pub async fn a_repeat_is_known_for_seven_days(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let again = async |bench: &Bench<'_>, n| {
        let done = bench.act(ANA, Act::Send(message(chat, ANA, n))).await;
        let sent = sent(done);
        assert!(sent.repeat);
        sent.seq
    };
    // Beginning on each day of a week, wherever the store's weeks begin.
    for day in 0..8 {
        let first = bench.say(chat, ANA, day).await.seq;
        for hours in [13, 100, 7 * 24 - 113] {
            bench.clock.advance_ms(hours * HOUR_MS);
            assert_eq!(again(&bench, day).await, first);
            // Others are written meanwhile, which is when a store may forget.
            bench.say(chat, BEN, day * 1_000 + hours).await;
            assert_eq!(again(&bench, day).await, first);
        }
        bench.reopen().await;
        assert_eq!(again(&bench, day).await, first);
        bench.clock.advance_ms(DAY_MS * 3 / 2);
    }
}

pub async fn a_key_used_for_something_else_is_a_conflict(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let one = bench.open(ANA, BEN, 1).await.id;
    let two = bench.open(ANA, CLEO, 2).await.id;
    bench.say(one, ANA, 1).await;
    bench.say(one, ANA, 2).await;
    bench.edit(one, ANA, 2, "edited").await;
    let other_text = |n, text: &str| {
        Act::Send(NewMessage {
            text: text.into(),
            ..message(one, ANA, n)
        })
    };
    let create = Act::Create(NewChat {
        key: message(one, ANA, 1).key,
        ..new_chat(9, ChatKind::Group, ANA, &[])
    });
    let forward = Act::Forward {
        chat: one,
        key: message(one, ANA, 1).key,
        copies: vec![ForwardedCopy {
            id: MessageId(5),
            text: message(one, ANA, 1).text,
            from: Forward {
                user: BEN,
                at_ms: 1,
            },
        }],
    };
    for act in [
        other_text(1, "something else"),
        // What was sent first is known of an edited message too.
        other_text(2, "edited"),
        Act::Send(message(two, ANA, 1)),
        create,
        forward,
    ] {
        assert_eq!(bench.refused(ANA, act).await, "CLIENT_MESSAGE_ID_REUSED");
    }
    assert_eq!(bench.whole_log(one).await.len(), 3);
    assert_eq!(bench.whole_log(two).await.len(), 0);
    // What conflicted has not taken the place of the first.
    assert!(sent(bench.act(ANA, Act::Send(message(one, ANA, 1))).await).repeat);
}

pub async fn keys_of_other_senders_and_devices_are_other_keys(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let mut n = 0;
    for sender in [ANA, BEN] {
        for device in ["a", "aa", ""] {
            for client_message_id in ["b", "ab", ""] {
                n += 1;
                let key = SendKey {
                    device: device.into(),
                    client_message_id: client_message_id.into(),
                };
                let new = NewMessage {
                    key,
                    text: "same".into(),
                    ..message(chat, sender, n)
                };
                let sent = sent(bench.act(sender, Act::Send(new)).await);
                assert_eq!((sent.seq, sent.repeat), (n, false));
            }
        }
    }
}

pub async fn one_sending_repeated_at_once_is_written_once(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        for repeat in 0..4 {
            let store = Arc::clone(bench.store());
            let send = Act::Send(NewMessage {
                id: MessageId(1_000 * n + repeat),
                ..message(chat, ANA, n)
            });
            tasks.spawn(async move {
                let done = store.write(command(ANA, BEGIN_MS, send)).await.unwrap();
                (n, sent(done))
            });
        }
    }
    let mut answers: HashMap<i64, Vec<Sent>> = HashMap::new();
    for (n, sent) in tasks.join_all().await {
        answers.entry(n).or_default().push(sent);
    }
    assert_eq!(answers.len(), 50);
    for answers in answers.values() {
        assert_eq!(answers.iter().filter(|sent| !sent.repeat).count(), 1);
        let is_first = |sent: &Sent| (sent.seq, sent.id) == (answers[0].seq, answers[0].id);
        assert!(
            answers.len() == 4 && answers.iter().all(is_first),
            "{answers:?}"
        );
    }
    assert_eq!(bench.whole_log(chat).await.len(), 50);
}

pub async fn many_tasks_append_without_holes_and_in_the_order_of_each(place: &dyn Place) {
    const TASKS: i64 = 24;
    const EACH: i64 = 40;
    let bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    let mut chats = vec![group];
    for (n, other) in [(2, BEN), (3, CLEO), (4, DORA)] {
        chats.push(bench.open(ANA, other, n).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(bench.store());
        let chats = chats.clone();
        tasks.spawn(async move {
            for n in 0..EACH {
                let chat = chats[(task + n) as usize % chats.len()];
                let mut new = message(chat, ANA, task * EACH + n);
                new.key.device = format!("device {task}");
                let send = command(ANA, BEGIN_MS, Act::Send(new));
                let sent = sent(store.write(send).await.unwrap());
                assert!(!sent.repeat);
                // When it is answered it is there.
                let page = store.events_after(chat, sent.seq - 1, 1).await.unwrap();
                assert_eq!(page.events[0].seq, sent.seq);
                assert!(page.head >= sent.seq);
            }
        });
    }
    tasks.join_all().await;
    let mut count = 0;
    for chat in chats {
        let log = bench.whole_log(chat).await;
        let mut last: HashMap<String, i64> = HashMap::new();
        for message in log.iter().filter_map(|event| event.message()) {
            let n = &message.key.client_message_id["message-".len()..];
            let n: i64 = n.parse().unwrap();
            let before = last.insert(message.key.device.clone(), n);
            let in_order = before.is_none_or(|before| before < n);
            assert!(in_order, "the order of a task was not kept");
            count += 1;
        }
        recount(&**bench.store(), chat).await;
    }
    assert_eq!(count, TASKS * EACH);
}

pub async fn texts_of_any_kind_come_back_as_they_were(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let long = "ñ🫖\n\t".repeat(4_000);
    let texts = ["", " ", "\0", "a\u{301}", "你好", "🇪🇸", long.as_str()];
    for (n, text) in (0..).zip(texts) {
        let at_ms = [0, -1, i64::MIN, i64::MAX, BEGIN_MS][n as usize % 5];
        let new = NewMessage {
            text: text.into(),
            ..message(chat, ANA, n)
        };
        let send = command(ANA, at_ms, Act::Send(new));
        sent(bench.store().write(send).await.unwrap());
    }
    bench.reopen().await;
    let log = bench.whole_log(chat).await;
    let found: Vec<&str> = log.iter().map(|event| said(event).text.as_str()).collect();
    assert_eq!(found, texts);
    assert_eq!(log[2].at_ms, i64::MIN);
}

pub async fn an_edit_rewrites_the_message_and_keeps_what_was_sent_first(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    bench.say(chat, ANA, 1).await;
    let first = message(chat, ANA, 1).text;
    for (seq, text) in [(2, "second"), (3, "third")] {
        bench.clock.advance_ms(10);
        assert_eq!(bench.edit(chat, ANA, 1, text).await, seq);
    }
    let again = Act::Edit {
        chat,
        message: 1,
        text: "third".into(),
        mentions: Mentions::default(),
    };
    assert_eq!(bench.act(ANA, again).await, Done::Changed(None));
    bench.reopen().await;
    let event = bench.event(chat, 1).await;
    let now = said(&event);
    assert_eq!(
        (&*now.text, now.changed, &*now.edits),
        ("third", 3, &[2, 3][..])
    );
    assert_eq!((event.at_ms, now.edited_at_ms), (BEGIN_MS, BEGIN_MS + 20));
    assert_eq!(bench.chat(chat).await.last_message, Some(event));
    for (seq, said, first) in [(2, "second", Some(first)), (3, "third", None)] {
        let EventBody::Edited { text, before, .. } = &bench.event(chat, seq).await.body else {
            panic!("no edit")
        };
        assert_eq!((text.as_str(), before), (said, &first));
    }
}

pub async fn a_deleted_message_has_its_text_nowhere(place: &dyn Place) {
    const SECRET: &str = "nobody shall find this";
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    let secret = |n| NewMessage {
        text: SECRET.into(),
        mentions: mentions(&[ANA]),
        ..message(group, BEN, n)
    };
    for n in 1..=2 {
        bench.act(BEN, Act::Send(secret(n))).await;
        bench
            .edit(group, BEN, 2 * n, &format!("{SECRET} either"))
            .await;
    }
    bench.react(group, ANA, 4, "👍").await;
    let deletion = bench.delete(group, ANA, &[2, 4]).await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let store = bench.store();
        let chat = bench.chat(group).await;
        let log = bench.whole_log(group).await;
        let changes = store.changes(group, 1..=99, 0, 99).await.unwrap();
        let since = store
            .events_since(std::slice::from_ref(&chat), Position(0), 99)
            .await;
        let standings = store.standings(ANA, &[group]).await.unwrap();
        let moved = store.moved_since(ANA, Position(0)).await.unwrap();
        let all = format!("{chat:?} {log:?} {changes:?} {since:?} {standings:?} {moved:?}");
        assert!(!all.contains(SECRET));
        let by = Deletion {
            reason: DeletionReason::Moderator,
            by: ANA,
        };
        assert_eq!(said(&bench.event(group, 4).await).deletion, Some(by));
        assert_eq!(said(&bench.event(group, 4).await).changed, deletion);
        assert_eq!(store.reactions(group, 4, 9).await.unwrap(), vec![]);
        recount(&**store, group).await;
    }
    let again = Act::Delete {
        chat: group,
        messages: vec![2, 4],
    };
    assert_eq!(bench.act(ANA, again).await, Done::Changed(None));
}

pub async fn reactions_are_counted_by_kind_and_named_by_user(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    bench.say(group, ANA, 1).await;
    bench.say(group, ANA, 2).await;
    for (user, emoji) in [(BEN, "🎉"), (CLEO, "👍"), (ANA, "🎉"), (ANA, "❤️")] {
        bench.react(group, user, 2, emoji).await;
    }
    bench.react(group, BEN, 3, "🎉").await;
    let twice = bench.act(BEN, react(group, 2, "🎉", true)).await;
    assert_eq!(twice, Done::Changed(None));
    bench.made(CLEO, react(group, 2, "👍", false)).await;
    let absent = bench.act(CLEO, react(group, 2, "👍", false)).await;
    assert_eq!(absent, Done::Changed(None));
    // Gone at 0, so that it comes back at the end.
    bench.react(group, CLEO, 2, "👍").await;
    bench.reopen().await;
    let event = bench.event(group, 2).await;
    let counts = said(&event).reactions.iter();
    let counts: Vec<_> = counts.map(|c| (c.emoji.as_str(), c.count)).collect();
    assert_eq!(counts, [("🎉", 2), ("❤️", 1), ("👍", 1)]);
    let mut given = [("🎉", ANA), ("🎉", BEN), ("❤️", ANA), ("👍", CLEO)];
    given.sort_unstable();
    for limit in [1, 3, 4, 9] {
        let found = bench.store().reactions(group, 2, limit).await.unwrap();
        let found: Vec<_> = found.iter().map(|(e, user)| (e.as_str(), *user)).collect();
        assert_eq!(found, given[..limit.min(4)]);
    }
    recount(&**bench.store(), group).await;
}

pub async fn what_is_mine_is_of_one_user(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    let other = bench.group(2, ANA, &[BEN]).await;
    for n in 1..=4 {
        bench.say(group, ANA, n).await;
        bench.say(other, ANA, 100 + n).await;
    }
    for (user, seq, emoji) in [
        (BEN, 3, "🎉"),
        (BEN, 3, "👍"),
        (ANA, 3, "👍"),
        (BEN, 5, "👍"),
    ] {
        bench.react(group, user, seq, emoji).await;
    }
    bench.react(other, BEN, 2, "❤️").await;
    let hide = |chat, messages| Act::Hide { chat, messages };
    assert_eq!(bench.act(BEN, hide(group, vec![2, 4])).await, Done::Nothing);
    let head = bench.own_log(BEN).await.len();
    bench.act(BEN, hide(group, vec![2, 5])).await;
    bench.act(BEN, hide(group, vec![2, 5])).await;
    bench.act(ANA, hide(other, vec![2])).await;
    // Only what is new is told, and nothing when nothing is.
    let own = bench.own_log(BEN).await;
    let hidden = UserEventBody::MessagesHidden {
        chat: group,
        messages: vec![5],
    };
    assert_eq!((own.len(), &own[head].body), (head + 1, &hidden));
    bench.reopen().await;
    let mine = async |user, chat, messages: &[Seq]| {
        let mine = bench.store().mine(user, chat, messages).await.unwrap();
        let reactions: Vec<(Seq, String)> = mine.reactions;
        (reactions, mine.hidden)
    };
    let of = |seq: Seq, emoji: &str| (seq, emoji.to_owned());
    let mut three = vec![of(3, "🎉"), of(3, "👍")];
    three.sort_unstable();
    assert_eq!(
        mine(BEN, group, &[1, 2, 3, 4]).await,
        (three.clone(), vec![2, 4])
    );
    three.push(of(5, "👍"));
    assert_eq!(mine(BEN, group, &[3, 5]).await, (three, vec![5]));
    assert_eq!(
        mine(ANA, group, &[2, 3, 4, 5]).await,
        (vec![of(3, "👍")], vec![])
    );
    assert_eq!(mine(ANA, other, &[2]).await, (vec![], vec![2]));
    assert_eq!(mine(BEN, other, &[2]).await, (vec![of(2, "❤️")], vec![]));
    assert_eq!(mine(BEN, group, &[]).await, (vec![], vec![]));
    // What one hides is there for everybody else, and no event of the chat.
    assert_eq!(said(&bench.event(group, 2).await).changed, 2);
}

pub async fn what_was_hidden_stays_hidden_after_coming_back(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    bench.say(group, ANA, 1).await;
    bench.react(group, BEN, 2, "👍").await;
    let hide = Act::Hide {
        chat: group,
        messages: vec![2],
    };
    bench.act(BEN, hide).await;
    bench.made(BEN, Act::Leave { chat: group }).await;
    let add = Act::Add {
        chat: group,
        users: vec![BEN],
        role: None,
    };
    bench.made(ANA, add).await;
    bench.reopen().await;
    let standing = bench.standing(group, BEN).await;
    assert_eq!(
        (standing.last_hidden, standing.last_mine),
        (true, vec!["👍".to_owned()])
    );
    assert!(!bench.standing(group, ANA).await.last_hidden);
    let mine = bench.store().mine(BEN, group, &[2]).await.unwrap();
    assert_eq!(mine.hidden, [2]);
    assert_eq!(mine.reactions, [(2, "👍".to_owned())]);
}

pub async fn pins_are_listed_with_the_newest_first(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    for n in 1..=4 {
        bench.say(chat, ANA, n).await;
    }
    let pin = |message, on| Act::Pin { chat, message, on };
    for (user, message) in [(ANA, 2), (BEN, 4), (ANA, 1)] {
        bench.made(user, pin(message, true)).await;
    }
    assert_eq!(bench.act(BEN, pin(1, true)).await, Done::Changed(None));
    assert_eq!(bench.act(BEN, pin(3, false)).await, Done::Changed(None));
    assert_eq!(bench.chat(chat).await.details.pinned, [1, 4, 2]);
    bench.made(BEN, pin(4, false)).await;
    bench.delete(chat, ANA, &[2]).await;
    bench.reopen().await;
    assert_eq!(bench.chat(chat).await.details.pinned, [1]);
    assert!(said(&bench.event(chat, 1).await).pinned);
    recount(&**bench.store(), chat).await;
}

pub async fn a_thread_has_its_messages_and_its_root_counts_them(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    let other = bench.group(2, ANA, &[BEN]).await;
    for n in 1..=2 {
        bench.say(group, ANA, n).await;
        bench.say(other, ANA, 100 + n).await;
    }
    let reply = |chat, n, thread| {
        Act::Send(NewMessage {
            thread: Some(thread),
            ..message(chat, BEN, n)
        })
    };
    for (n, thread) in [(11, 2), (12, 3), (13, 2), (14, 2)] {
        bench.act(BEN, reply(group, n, thread)).await;
    }
    bench.act(BEN, reply(other, 21, 2)).await;
    // A thread has no threads, and hangs on a message.
    assert_eq!(
        bench.refused(BEN, reply(group, 15, 4)).await,
        "MESSAGE_NOT_FOUND"
    );
    assert_eq!(
        bench.refused(BEN, reply(group, 15, 1)).await,
        "MESSAGE_NOT_FOUND"
    );
    // Deleted ones keep their place, and so does the thread of a deleted one.
    bench.delete(group, BEN, &[6]).await;
    bench.delete(group, ANA, &[2]).await;
    bench.act(BEN, reply(group, 16, 2)).await;
    bench.reopen().await;
    let store = bench.store();
    let replies = [4, 6, 7, 10];
    for after in [-1, 0, 3, 4, 5, 7, 10, 99, Seq::MAX] {
        for limit in [0, 1, 2, 9] {
            let page = store.thread(group, 2, after, limit).await.unwrap();
            let expected = replies.iter().filter(|seq| **seq > after).take(limit);
            let expected: Vec<Seq> = expected.copied().collect();
            assert_eq!(
                (seqs(&page.events), page.head),
                (expected, 10),
                "{after}, {limit}"
            );
        }
    }
    let root = bench.event(group, 2).await;
    assert_eq!((said(&root).replies, said(&root).last_reply), (4, 10));
    assert_eq!(said(&root).changed, 10);
    assert_eq!(
        seqs(&store.thread(group, 3, 0, 9).await.unwrap().events),
        [5]
    );
    let none = store.thread(group, 4, 0, 9).await.unwrap();
    assert!(none.events.is_empty());
    recount(&**store, group).await;
}

pub async fn copies_are_sent_together(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    bench.say(chat, BEN, 1).await;
    let from = |n| Forward {
        user: CLEO,
        at_ms: n,
    };
    let copy = |n| ForwardedCopy {
        id: MessageId(n),
        text: format!("copy {n}"),
        from: from(n),
    };
    let forward = |copies| Act::Forward {
        chat,
        key: key(&device(ANA), 5),
        copies,
    };
    let all = |done| match done {
        Done::Forwarded(all) => all
            .iter()
            .map(|s| (s.seq, s.id, s.repeat))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let first = all(bench.act(ANA, forward(vec![copy(7), copy(8)])).await);
    assert_eq!(first, [(2, MessageId(7), false), (3, MessageId(8), false)]);
    assert_eq!(said(&bench.event(chat, 3).await).forward, Some(from(8)));
    assert_eq!(bench.standing(chat, ANA).await.read.seen, 3);
    // Other texts, because they were edited where they come from: the copies are those of then.
    let edited = |n| ForwardedCopy {
        id: MessageId(n + 10),
        text: "edited since".into(),
        ..copy(n)
    };
    let again = all(bench.act(ANA, forward(vec![edited(7), edited(8)])).await);
    assert_eq!(again, [(2, MessageId(7), true), (3, MessageId(8), true)]);
    for other in [vec![copy(7)], vec![copy(8), copy(7)]] {
        let reason = bench.refused(ANA, forward(other)).await;
        assert_eq!(reason, "CLIENT_MESSAGE_ID_REUSED");
    }
    recount(&**bench.store(), chat).await;
}
