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
