//! Chats: opened, made, changed, listed, and kept.

use std::collections::HashSet;
use std::sync::Arc;

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::{ChatId, UserId};

pub async fn a_pair_has_one_chat_whoever_opens_it(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let first = bench.open(ANA, BEN, 1).await;
    assert_eq!(
        first,
        Chat::direct(ChatId(1), Pair::new(ANA, BEN).unwrap(), BEGIN_MS)
    );
    assert_eq!(bench.open(BEN, ANA, 2).await, first);
    assert_eq!(bench.chat(ChatId(1)).await, first);
    assert_eq!(bench.store().chat(ChatId(2)).await.unwrap(), None);

    let mut tasks = tokio::task::JoinSet::new();
    for id in 100..120 {
        let store = Arc::clone(bench.store());
        tasks.spawn(async move {
            let act = open_direct(ANA, CLEO, id);
            let done = store.write(command(ANA, BEGIN_MS, act)).await.unwrap();
            standing(done).chat.id
        });
    }
    let ids: HashSet<ChatId> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(bench.own_log(CLEO).await.len(), 1);
    assert_eq!(chats_of(&**bench.store(), CLEO).await.len(), 1);
}

pub async fn opening_is_told_in_the_log_of_each_member(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let one = bench.open(ANA, BEN, 1).await;
    bench.say(one.id, ANA, 1).await;
    bench.clock.advance_ms(5);
    let two = bench.open(CLEO, BEN, 2).await;
    let page = bench.store().user_events_after(BEN, 0, 10).await.unwrap();
    assert_eq!(page.head, 2);
    for (event, chat) in page.events.iter().zip([&one, &two]) {
        // As it was then, without what was said since.
        let body = UserEventBody::ChatJoined {
            chat: Box::new(chat.clone()),
            membership: Box::new(Membership::new(Role::Member, chat.created_at_ms, 0)),
        };
        assert_eq!(event.body, body);
        assert_eq!((event.user, event.at_ms), (BEN, chat.created_at_ms));
    }
    let seqs = |page: &Page<UserEvent>| page.events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&page), [1, 2]);
    for (after, limit, expected) in [(1, 10, &[2][..]), (0, 1, &[1]), (2, 10, &[])] {
        let page = bench.store().user_events_after(BEN, after, limit).await;
        let page = page.unwrap();
        assert_eq!((seqs(&page).as_slice(), page.head), (expected, 2));
    }
    let nobody = bench.store().user_events_after(UserId(99), 0, 10).await;
    assert_eq!(nobody.unwrap(), Page::default());
}

pub async fn an_unknown_chat_has_an_empty_log_and_takes_nothing(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let store = bench.store();
    let before = bench.position().await;
    let nowhere = ChatId(5);
    assert_eq!(store.chat(nowhere).await.unwrap(), None);
    assert_eq!(store.role(nowhere, ANA).await.unwrap(), None);
    assert_eq!(store.audience(nowhere).await.unwrap(), None);
    assert_eq!(store.standings(ANA, &[nowhere]).await.unwrap(), vec![]);
    let sent = Act::Send(message(nowhere, ANA, 1));
    assert_eq!(bench.refused(ANA, sent).await, "CHAT_NOT_FOUND");
    assert_eq!(
        store.events_after(nowhere, 0, 10).await.unwrap(),
        Page::default()
    );
    assert_eq!(
        store.events_before(nowhere, 0, 10).await.unwrap(),
        Page::default()
    );
    assert_eq!(
        store.events_at(nowhere, &[1]).await.unwrap(),
        Page::default()
    );
    assert_eq!(
        store.thread(nowhere, 1, 0, 10).await.unwrap(),
        Page::default()
    );
    assert_eq!(
        store.changes(nowhere, 1..=9, 0, 10).await.unwrap(),
        Changes::default()
    );
    assert_eq!(store.members(nowhere, UserId(0), 10).await.unwrap(), vec![]);
    assert!(chats_of(&**store, ANA).await.is_empty());
    assert_eq!(bench.position().await, before);
    // The key of what was refused is free.
    let chat = bench.open(ANA, BEN, 5).await;
    bench.say(chat.id, ANA, 1).await;
}

pub async fn a_refused_command_writes_and_tells_nothing(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    bench.say(group, ANA, 1).await;
    let before = (bench.position().await, bench.whole_log(group).await);
    let facts = bench.listener.wait_for(4).await.len();
    // Refused at once, and refused after something was decided already.
    let reply = NewMessage {
        reply_to: Some(77),
        ..message(group, BEN, 2)
    };
    let delete = Act::Delete {
        chat: group,
        messages: vec![2, 77],
    };
    let change = Act::Change {
        chat: group,
        title: Some("mine".into()),
        topic: None,
        avatar: None,
        message_ttl_s: None,
    };
    for (actor, act, reason) in [
        (BEN, change, "NOT_ALLOWED"),
        (CLEO, Act::Leave { chat: group }, "CHAT_NOT_FOUND"),
        (BEN, Act::Send(reply), "MESSAGE_NOT_FOUND"),
        (ANA, delete, "MESSAGE_NOT_FOUND"),
        (ANA, Act::Leave { chat: group }, "OWNER_MUST_STAY"),
    ] {
        assert_eq!(bench.refused(actor, act).await, reason);
    }
    assert_eq!(
        (bench.position().await, bench.whole_log(group).await),
        before
    );
    // What comes next is told next.
    bench.say(group, BEN, 2).await;
    assert_eq!(bench.listener.wait_for(facts + 1).await.len(), facts + 1);
    recount(&**bench.store(), group).await;
}

pub async fn the_list_of_chats_is_whole_and_has_the_last_messages(place: &dyn Place) {
    let bench = Bench::at(place).await;
    for n in 1..=30 {
        let chat = match n % 2 {
            0 => bench.open(ANA, UserId(100 + n), n).await.id,
            _ => bench.group(n, UserId(100 + n), &[ANA]).await,
        };
        for m in 0..n % 3 {
            bench.say(chat, ANA, n * 10 + m).await;
        }
    }
    bench.open(BEN, CLEO, 999).await;
    let chats = chats_of(&**bench.store(), ANA).await;
    assert_eq!(chats.len(), 30);
    for (n, chat) in (1..).zip(&chats) {
        assert_eq!(
            (chat.id, chat.head, chat.messages),
            (ChatId(n), n % 2 + n % 3, n % 3)
        );
        let last = chat.last_message.as_ref().map_or(0, |event| event.seq);
        assert_eq!(last, if n % 3 == 0 { 0 } else { chat.head });
        assert_eq!(bench.chat(chat.id).await, *chat);
    }
}

pub async fn a_list_is_walked_hour_by_hour(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let channel = bench.channel(1, ANA, &[BEN]).await;
    let early = bench.group(2, ANA, &[BEN, CLEO]).await;
    let direct = bench.open(ANA, BEN, 3).await.id;
    bench.clock.advance_ms(HOUR_MS);
    let late = bench.group(4, BEN, &[ANA]).await;
    let first = ListPlace::hour_of(BEGIN_MS);
    assert_eq!(
        bench.places(ANA).await,
        [
            (ListPlace::ALWAYS, channel),
            (first + 1, late),
            (first, direct),
            (first, early)
        ]
    );
    // Who is spoken in rises for everybody who is in it, and only in another hour.
    bench.say(early, CLEO, 1).await;
    bench.say(channel, ANA, 2).await;
    bench.clock.advance_ms(1);
    bench.say(early, ANA, 3).await;
    for (user, places) in [
        (
            ANA,
            vec![
                (ListPlace::ALWAYS, channel),
                (first + 1, late),
                (first + 1, early),
                (first, direct),
            ],
        ),
        (CLEO, vec![(first + 1, early)]),
    ] {
        assert_eq!(bench.places(user).await, places);
    }
    // What is no message moves nothing; who comes late finds the chat where it is for everybody.
    bench.clock.advance_ms(30 * HOUR_MS);
    let add = Act::Add {
        chat: early,
        users: vec![DORA],
        role: None,
    };
    bench.act(ANA, add).await;
    bench.act(CLEO, Act::Leave { chat: early }).await;
    assert_eq!(bench.places(DORA).await, [(first + 1, early)]);
    assert_eq!(bench.places(CLEO).await, []);
    bench.say(direct, BEN, 4).await;
    bench.say(early, ANA, 5).await;
    let everything = [
        (ListPlace::ALWAYS, channel),
        (first + 31, direct),
        (first + 31, early),
        (first + 1, late),
    ];
    for is_reopened in [false, true] {
        if is_reopened {
            bench.reopen().await;
        }
        assert_eq!(bench.places(ANA).await, everything);
        assert_eq!(bench.places(DORA).await, [(first + 31, early)]);
        assert_eq!(bench.places(CLEO).await, []);
        // The start of a part is in it, its end is not.
        let place = |at: usize| ListPlace {
            hour: everything[at].0,
            chat: everything[at].1,
        };
        for (from, to) in [(0, 3), (1, 1), (2, 3), (1, 2)] {
            let part = bench
                .store()
                .chats_of(ANA, place(to)..place(from), 10)
                .await
                .unwrap();
            let part: Vec<_> = part
                .iter()
                .map(|(place, chat)| (place.hour, chat.id))
                .collect();
            assert_eq!(
                part,
                everything[(from + 1).min(to + 1)..=to].to_vec(),
                "{from} to {to}"
            );
        }
        let some = bench
            .store()
            .chats_of(ANA, ListPlace::BOTTOM..ListPlace::TOP, 2)
            .await;
        assert_eq!(some.unwrap().len(), 2);
    }
}

pub async fn what_changes_of_a_chat_is_kept(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    let change = |title: Option<&str>, topic: Option<&str>, ttl_s| Act::Change {
        chat: group,
        title: title.map(Into::into),
        topic: topic.map(Into::into),
        avatar: Some("🫖".into()),
        message_ttl_s: ttl_s,
    };
    assert_eq!(
        bench.made(ANA, change(Some("tea"), None, Some(60))).await,
        2
    );
    assert_eq!(
        bench
            .made(ANA, change(Some("tea"), Some("leaves"), Some(60)))
            .await,
        3
    );
    let again = change(Some("tea"), Some("leaves"), Some(60));
    assert_eq!(bench.act(ANA, again).await, Done::Changed(None));
    bench.reopen().await;
    let details = bench.chat(group).await.details;
    assert_eq!(
        (
            &*details.title,
            &*details.topic,
            &*details.avatar,
            details.message_ttl_s
        ),
        ("tea", "leaves", "🫖", 60)
    );
    assert_eq!((details.created_by, details.member_count), (Some(ANA), 2));
    // An event says only what it changed.
    let EventBody::Changed { title, topic, .. } = &bench.event(group, 3).await.body.clone() else {
        panic!("not the change")
    };
    assert_eq!((title, topic), (&None, &Some("leaves".into())));
}

pub async fn a_chat_made_again_is_the_same_chat(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let new = new_chat(1, ChatKind::Group, ANA, &[BEN, CLEO]);
    let first = standing(bench.act(ANA, Act::Create(new.clone())).await);
    assert_eq!((first.chat.head, first.chat.details.member_count), (1, 3));
    assert_eq!(first.membership.role, Role::Owner);
    bench.say(first.chat.id, BEN, 1).await;
    bench.reopen().await;
    let again = NewChat {
        id: ChatId(2),
        ..new
    };
    let again = standing(bench.act(ANA, Act::Create(again)).await);
    assert_eq!((again.chat.id, again.read.unread), (ChatId(1), 1));
    assert_eq!(bench.store().chat(ChatId(2)).await.unwrap(), None);
    assert_eq!(chats_of(&**bench.store(), CLEO).await.len(), 1);
}

pub async fn everything_is_there_after_reopening(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let mut chats = Vec::new();
    for n in 1..=5 {
        let chat = bench.open(ANA, UserId(100 + n), n).await.id;
        for m in 1..=n * 20 {
            bench.say(chat, ANA, n * 1_000 + m).await;
        }
        chats.push(chat);
    }
    let group = bench.group(6, BEN, &[ANA]).await;
    bench.say(group, BEN, 1).await;
    bench.edit(group, BEN, 2, "another").await;
    chats.push(group);
    let store = bench.store();
    let (epoch, position) = (store.epoch(), bench.position().await);
    let list = chats_of(&**store, ANA).await;
    let own = store.user_events_after(ANA, 0, 100).await.unwrap();
    let mut logs = Vec::new();
    for chat in &chats {
        logs.push(bench.whole_log(*chat).await);
    }
    bench.reopen().await;
    let store = bench.store();
    assert_eq!((store.epoch(), bench.position().await), (epoch, position));
    assert_eq!(chats_of(&**store, ANA).await, list);
    assert_eq!(store.user_events_after(ANA, 0, 100).await.unwrap(), own);
    for (chat, log) in chats.iter().zip(logs) {
        assert_eq!(bench.whole_log(*chat).await, log);
        recount(&**store, *chat).await;
    }
    // And it goes on where it was.
    assert_eq!(bench.open(UserId(101), ANA, 77).await.id, ChatId(1));
    assert_eq!(bench.say(chats[0], ANA, 99_999).await.seq, 21);
    assert!(bench.position().await > position);
}
