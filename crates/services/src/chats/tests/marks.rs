//! How far chats have reached their members, settings, drafts.

use super::bench::*;
use crate::ids::{ChatId, UserId};

fn receipt(user: i64, delivered: Seq, seen: Seq) -> Receipt {
    Receipt {
        user: UserId(user),
        delivered,
        seen,
    }
}

#[tokio::test]
async fn who_keeps_to_themselves_what_they_have_seen_shows_that_it_arrived() {
    let bench = Bench::new();
    bench.town.private.lock().insert(UserId(2));
    let one = bench.direct(1, 2).await;
    let two = bench.also(2, &one).await;
    for _ in 0..3 {
        bench.say(&one, "hi").await;
    }
    let read = bench.chats.mark_read(&two, 2).await.unwrap();
    assert_eq!((read.seen, read.unread), (2, 1));
    let each = async |member: &Member| bench.chats.receipts(member, 0).await.unwrap().each;
    assert_eq!(each(&one).await, [receipt(2, 2, 0)]);
    // Who speaks has evidently read.
    let seq = bench.say(&two, "hi").await;
    assert_eq!(each(&one).await, [receipt(2, seq, seq)]);
    // From when they share it, it is shown how far they are.
    bench.say(&one, "again").await;
    bench.chats.mark_read(&two, seq + 1).await.unwrap();
    assert_eq!(each(&one).await, [receipt(2, seq + 1, seq)]);
    bench.town.private.lock().clear();
    bench.chats.mark_read(&two, seq + 1).await.unwrap();
    assert_eq!(each(&one).await, [receipt(2, seq + 1, seq + 1)]);
}

#[tokio::test]
async fn receipts_are_of_each_in_a_small_chat_and_counts_in_a_large_one() {
    let bench = Bench::new();
    let small = bench.group(1, &[2, 3, 4]).await;
    let large = bench.group(1, &[2, 3, 4, 5]).await;
    let channel = bench.channel(1, &[2, 3]).await;
    for owner in [&small, &large, &channel] {
        let seq = bench.say(owner, "hi").await;
        bench
            .chats
            .mark_read(&bench.also(2, owner).await, seq)
            .await
            .unwrap();
        let delivered = [(owner.chat(), seq)];
        bench
            .chats
            .mark_delivered(&caller(3), &delivered)
            .await
            .unwrap();
    }
    let receipts = async |member, seq| bench.chats.receipts(member, seq).await.unwrap();
    let of_small = receipts(&small, 0).await;
    assert_eq!(
        of_small.each,
        [receipt(2, 2, 2), receipt(3, 2, 1), receipt(4, 1, 1)]
    );
    assert_eq!((of_small.delivered, of_small.seen), (2, 1));
    let of_large = receipts(&large, 2).await;
    assert_eq!(
        (of_large.each.len(), of_large.delivered, of_large.seen),
        (0, 2, 1)
    );
    assert_eq!(receipts(&large, 1).await.seen, 4);
    assert_eq!(receipts(&channel, 0).await, Receipts::default());
}

#[tokio::test]
async fn deliveries_in_strange_chats_are_left_out() {
    let bench = Bench::new();
    let one = bench.direct(1, 2).await;
    let strange = bench.direct(3, 4).await.chat();
    bench.say(&one, "hi").await;
    let told = [(strange, 5), (ChatId(77), 1), (one.chat(), 1)];
    bench.chats.mark_delivered(&caller(2), &told).await.unwrap();
    let receipts = bench.chats.receipts(&one, 0).await.unwrap();
    assert_eq!(receipts.each, [receipt(2, 1, 0)]);
    let many = vec![(one.chat(), 1); 201];
    let refused = bench.chats.mark_delivered(&caller(2), &many).await;
    assert_eq!(reason(refused), "INVALID_REQUEST");
}

#[tokio::test]
async fn what_is_left_to_read_is_the_same_on_all_devices() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let two = bench.also(2, &owner).await;
    let mut seqs = Vec::new();
    for _ in 0..5 {
        seqs.push(bench.say(&owner, "hi").await);
    }
    let left = async || bench.chats.chat(&two).await.unwrap().read;
    assert_eq!(left().await.unread, 5);
    // One device reads two of them, another is behind, a message in between and one ahead are deleted.
    bench.chats.mark_read(&two, seqs[1]).await.unwrap();
    bench
        .chats
        .delete(&owner, vec![seqs[0], seqs[3]])
        .await
        .unwrap();
    let read = bench.chats.mark_read(&two, seqs[0]).await.unwrap();
    assert_eq!((read.seen, read.unread), (seqs[1], 2));
    assert_eq!(left().await, read);
    // Up to an event that is no message.
    let deletion = seqs[4] + 1;
    bench.say(&owner, "more").await;
    let read = bench.chats.mark_read(&two, deletion).await.unwrap();
    assert_eq!(
        (read.seen, read.unread, read.as_of),
        (deletion, 1, deletion + 1)
    );
}

#[tokio::test]
async fn more_unread_mentions_than_a_thousand_are_counted_as_a_thousand() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    for n in 0..MENTIONS_COUNTED_MAX + 5 {
        let mentioned = match n % 2 {
            0 => mentions(&[2]),
            _ => everyone(),
        };
        let sent = bench.send(&owner, "you", |out| out.mentions = mentioned);
        sent.await.unwrap();
    }
    let read = bench
        .chats
        .chat(&bench.also(2, &owner).await)
        .await
        .unwrap()
        .read;
    assert_eq!(read.unread, MENTIONS_COUNTED_MAX as i64 + 5);
    assert_eq!(read.unread_mentions, MENTIONS_COUNTED_MAX as i64);
}

#[tokio::test]
async fn calls_of_others_keep_none_of_ones_own_from_being_counted() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let two = bench.also(2, &owner).await;
    let to_owners = Mentions {
        role: Some(Role::Owner),
        ..Mentions::default()
    };
    for _ in 0..MENTIONS_COUNTED_MAX {
        let sent = bench.send(&owner, "owners", |out| out.mentions = to_owners.clone());
        sent.await.unwrap();
    }
    let sent = bench.send(&owner, "all", |out| out.mentions = everyone());
    let all = sent.await.unwrap().seq;
    let left = async || bench.chats.chat(&two).await.unwrap().read.unread_mentions;
    assert_eq!(left().await, 1);
    bench
        .chats
        .edit(&owner, all, "owners".into(), to_owners)
        .await
        .unwrap();
    assert_eq!(left().await, 0);
    bench
        .chats
        .edit(&owner, all, "you".into(), mentions(&[2]))
        .await
        .unwrap();
    assert_eq!(left().await, 1);
}

#[tokio::test]
async fn a_draft_is_kept_until_it_is_empty() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let keep =
        async |text: &str, reply_to| bench.chats.keep_draft(&member, text.into(), reply_to).await;
    let kept = async || bench.chats.chat(&member).await.unwrap().membership.draft;
    let draft = keep("hm", None).await.unwrap();
    assert!(draft.is_some());
    assert_eq!(kept().await, draft);
    // The same later is the same, with its first time.
    bench.clock.advance_ms(5);
    keep("hm", None).await.unwrap();
    assert_eq!(kept().await.unwrap().at_ms, BEGIN_MS);
    assert!(keep("", Some(1)).await.unwrap().is_some());
    assert_eq!(keep("", None).await.unwrap(), None);
    assert_eq!(kept().await, None);
    assert_eq!(reason(keep("\u{7}", None).await), "INVALID_REQUEST");
    assert_eq!(
        reason(keep(&"x".repeat(8_001), None).await),
        "INVALID_REQUEST"
    );
}

#[tokio::test]
async fn a_chat_is_muted_until_a_time_or_for_ever() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let mute = async |muted_until_ms| {
        let settings = Settings {
            muted_until_ms,
            ..Settings::default()
        };
        bench.chats.choose(&member, settings).await
    };
    for good in [-1, 0, BEGIN_MS] {
        mute(good).await.unwrap();
        let kept = bench.chats.chat(&member).await.unwrap().membership;
        assert_eq!(kept.settings.muted_until_ms, good);
    }
    assert_eq!(reason(mute(-2).await), "INVALID_REQUEST");
}
