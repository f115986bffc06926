//! What a device is told that was away, and what a heartbeat tells.

use super::bench::*;
use crate::chats::cursor::Cursor;
use crate::ids::{ChatId, UserId};

#[tokio::test]
async fn the_first_time_a_device_begins_with_its_newest_chats() {
    let bench = Bench::new();
    for other in 2..=60 {
        bench.clock.advance_ms(1);
        let member = bench.direct(1, other).await;
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
    assert_eq!(chats[0].chat.pair(), Pair::new(UserId(1), UserId(60)));
    assert_eq!((missed.heads.len(), missed.receipts.len()), (50, 50));
    assert_eq!(missed.own_head, 59);
    // And the cursor goes on from there.
    let then = bench.missed(1, &missed.cursor).await;
    assert_eq!(then.answer, nothing_missed());
}

#[tokio::test]
async fn a_cursor_that_can_not_be_continued_is_a_reset_that_says_why() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
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
    for (user, unknown) in [(2, &good[..]), (1, b"nonsense"), (1, &good[1..])] {
        assert_eq!(why(user, unknown).await, Some(ResetReason::UnknownCursor));
    }
    let cursor = Cursor::decode(&good).unwrap();
    let restored = Cursor {
        epoch: Epoch(7),
        ..cursor
    };
    let lost = Cursor {
        position: Position(cursor.position.0 + 1),
        ..cursor
    };
    let own_lost = Cursor {
        own_seq: cursor.own_seq + 1,
        ..cursor
    };
    for other in [restored, lost, own_lost] {
        assert_eq!(why(1, &other.encode()).await, Some(ResetReason::Epoch));
    }
}

#[tokio::test]
async fn a_device_that_was_away_gets_every_event_and_its_cursor_covers_them() {
    let bench = Bench::new();
    let (with_2, with_3) = (bench.direct(1, 2).await, bench.direct(1, 3).await);
    bench.say(&with_2, "seen").await;
    let cursor = bench.missed(1, b"").await.cursor;
    bench.say(&with_2, "one").await;
    bench.say(&with_3, "two").await;
    bench.say(&with_2, "three").await;
    let with_4 = bench.direct(4, 1).await;
    bench.say(&with_4, "four").await;
    let strangers = bench.direct(5, 6).await;
    bench.say(&strangers, "not yours").await;

    let missed = bench.missed(1, &cursor).await;
    let Answer::Delta { own_events, events } = &missed.answer else {
        panic!("no delta")
    };
    let mut told: Vec<(ChatId, Seq)> = events.iter().map(|s| (s.event.chat, s.event.seq)).collect();
    told.sort_unstable();
    let (two, three, four) = (with_2.chat(), with_3.chat(), with_4.chat());
    assert_eq!(told, [(two, 2), (two, 3), (three, 1), (four, 1)]);
    assert_eq!(own_events.iter().map(|e| e.seq).collect::<Vec<_>>(), [3]);
    let mut heads = missed.heads.clone();
    heads.sort_unstable();
    assert_eq!(heads, [(two, 3), (three, 1), (four, 1)]);
    assert_eq!(missed.own_head, 3);

    let then = bench.missed(1, &missed.cursor).await;
    assert_eq!(then.answer, nothing_missed());
    assert_eq!((then.heads, then.own_head), (vec![], 3));
    // The old cursor still tells the same: nothing is used up by asking.
    assert_eq!(bench.missed(1, &cursor).await.answer, missed.answer);
}

#[tokio::test]
async fn what_is_told_late_is_as_it_is_now_and_as_its_reader_may_see_it() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let two = bench.also(2, &owner).await;
    let old = bench.say(&owner, "old").await;
    let cursor = bench.missed(2, b"").await.cursor;
    let [hidden, deleted, edited] = [
        bench.say(&owner, "hidden").await,
        bench.say(&owner, "deleted").await,
        bench.say(&owner, "typo").await,
    ];
    bench.chats.hide(&two, vec![hidden]).await.unwrap();
    bench.chats.delete(&owner, vec![deleted]).await.unwrap();
    let edit = bench
        .chats
        .edit(&owner, edited, "right".into(), Mentions::default());
    let edit = edit.await.unwrap().unwrap();
    let react = bench.chats.react(&two, edited, "👍".into(), true);
    let react = react.await.unwrap().unwrap();
    bench
        .chats
        .react(&two, old, "👍".into(), true)
        .await
        .unwrap();
    let Answer::Delta { own_events, events } = bench.missed(2, &cursor).await.answer else {
        panic!("no delta")
    };
    let seqs: Vec<Seq> = events.iter().map(|shown| shown.event.seq).collect();
    // Of the old one the reaction is told, and not the message again.
    assert_eq!(seqs, (hidden..=react + 1).collect::<Vec<_>>());
    let shown = |seq: Seq| &events[(seq - hidden) as usize];
    let message = |seq: Seq| shown(seq).event.message().unwrap();
    assert!(shown(hidden).hidden && !shown(edited).hidden);
    assert!(message(deleted).deletion.is_some() && message(deleted).text.is_empty());
    assert_eq!(
        (&*message(edited).text, message(edited).changed),
        ("right", react)
    );
    assert_eq!(shown(edited).mine, ["👍"]);
    assert!(matches!(&shown(edit).event.body, EventBody::Edited { text, .. } if text == "right"));
    assert!(matches!(
        own_events[0].body,
        UserEventBody::MessagesHidden { .. }
    ));
}

#[tokio::test]
async fn who_was_removed_meanwhile_is_told_that_and_nothing_of_the_chat() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let cursor = bench.missed(2, b"").await.cursor;
    bench.say(&owner, "before").await;
    bench
        .chats
        .remove_member(&owner, UserId(2), false)
        .await
        .unwrap();
    bench.say(&owner, "after").await;
    let missed = bench.missed(2, &cursor).await;
    let Answer::Delta { own_events, events } = missed.answer else {
        panic!("no delta")
    };
    assert_eq!(
        (events.len(), missed.heads.len(), own_events.len()),
        (0, 0, 1)
    );
    assert!(matches!(own_events[0].body, UserEventBody::ChatLeft { .. }));
}

#[tokio::test]
async fn too_much_to_list_is_told_as_what_changed() {
    let bench = Bench::new();
    let (busy, quiet) = (bench.direct(1, 2).await, bench.direct(1, 3).await);
    let start = bench.missed(1, b"").await.cursor;
    for n in 0..1_000 {
        bench.say(&busy, &n.to_string()).await;
    }
    let Answer::Delta { events, .. } = bench.missed(1, &start).await.answer else {
        panic!("a thousand can be listed")
    };
    assert_eq!(events.len(), 1_000);
    bench.say(&bench.also(2, &busy).await, "one more").await;
    let missed = bench.missed(1, &start).await;
    let Answer::Changed { chats } = &missed.answer else {
        panic!("too many for a delta")
    };
    assert_eq!(chats.len(), 1);
    assert_eq!((chats[0].chat.id, chats[0].chat.head), (busy.chat(), 1_001));
    assert_eq!((chats[0].read.seen, chats[0].read.unread), (1_000, 1));
    assert_eq!(missed.heads, [(busy.chat(), 1_001)]);
    bench.say(&quiet, "and on").await;
    let then = bench.missed(1, &missed.cursor).await;
    assert!(matches!(then.answer, Answer::Delta { events, .. } if events.len() == 1));
}

#[tokio::test]
async fn long_texts_are_told_as_what_changed_too() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
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
        bench.direct(1, other).await;
    }
    let missed = bench.missed(1, &start).await;
    assert!(matches!(&missed.answer, Answer::Changed { chats } if chats.len() == 1_001));
    assert_eq!(missed.own_head, 1_001);
    let then = bench.missed(1, &missed.cursor).await;
    assert_eq!(then.answer, nothing_missed());
}

#[tokio::test]
async fn receipts_that_moved_are_told_whole_and_only_of_small_chats() {
    let bench = Bench::new();
    let small = bench.group(1, &[2, 3]).await;
    let large = bench.group(1, &[2, 3, 4, 5]).await;
    for owner in [&small, &large] {
        bench.say(owner, "hi").await;
    }
    let start = bench.missed(1, b"").await;
    // The first time, of every small chat.
    let chats = |receipts: &[ChatReceipts]| receipts.iter().map(|r| r.chat).collect::<Vec<_>>();
    assert_eq!(chats(&start.receipts), [small.chat()]);
    for owner in [&small, &large] {
        bench
            .chats
            .mark_read(&bench.also(2, owner).await, 2)
            .await
            .unwrap();
    }
    let missed = bench.missed(1, &start.cursor).await;
    assert_eq!(missed.answer, nothing_missed());
    let all = [(1, 2, 2), (2, 2, 2), (3, 1, 1)].map(|(user, delivered, seen)| Receipt {
        user: UserId(user),
        delivered,
        seen,
    });
    let expected = ChatReceipts {
        chat: small.chat(),
        receipts: all.to_vec(),
    };
    let expected = vec![expected];
    assert_eq!(missed.receipts, expected);
    let beat = bench.chats.beat(&caller(3), start.position).await.unwrap();
    assert_eq!((beat.heads, beat.receipts), (vec![], expected));
    let next = bench.chats.beat(&caller(3), beat.position).await.unwrap();
    assert_eq!(next.receipts, []);
}

#[tokio::test]
async fn a_heartbeat_tells_what_moved_since_the_one_before() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    bench.direct(1, 3).await;
    let begin = bench.missed(1, b"").await;
    let beat = async |since| bench.chats.beat(&caller(1), since).await;
    let quiet = beat(begin.position).await.unwrap();
    assert_eq!((quiet.heads.len(), quiet.own_head), (0, 2));
    assert_eq!(quiet.cursor, begin.cursor);
    bench.say(&member, "hi").await;
    let loud = beat(quiet.position).await.unwrap();
    assert_eq!(loud.heads, [(member.chat(), 1)]);
    assert!(beat(loud.position).await.unwrap().heads.is_empty());
    // A device that holds all heads of a beat continues from its cursor.
    let missed = bench.missed(1, &loud.cursor).await;
    assert_eq!(missed.answer, nothing_missed());
    let future = Position(bench.store.position().await.unwrap().0 + 1);
    assert_eq!(reason(beat(future).await), "INTERNAL");
}

#[tokio::test]
async fn heads_are_told_of_chats_that_one_is_in() {
    let bench = Bench::new();
    let channel = bench.channel(1, &[2]).await;
    let strange = bench.direct(3, 4).await;
    bench.say(&channel, "hi").await;
    let asked = [strange.chat(), channel.chat(), ChatId(77)];
    let heads = bench.chats.heads(&caller(2), &asked).await.unwrap();
    assert_eq!(heads, [(channel.chat(), 2)]);
}
