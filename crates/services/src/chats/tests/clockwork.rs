//! What happens by itself: messages that disappear and messages that were scheduled.

use super::bench::*;
use crate::ids::{ScheduledId, UserId};

#[tokio::test]
async fn messages_disappear_when_their_time_is_over_however_many() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let stays = bench.say(&member, "stays").await;
    let lives = ChatChange {
        message_ttl_s: Some(60),
        ..ChatChange::default()
    };
    bench.chats.change(&member, lives).await.unwrap();
    let mut seqs = Vec::new();
    for _ in 0..230 {
        seqs.push(bench.say(&member, "gone soon").await);
    }
    let last = bench.message(&member, seqs[229]).await;
    assert_eq!(bench.chats.do_due().await.unwrap(), 0);
    bench.clock.advance_ms(60_000);
    assert_eq!(bench.chats.do_due().await.unwrap(), 230);
    assert_eq!(bench.chats.do_due().await.unwrap(), 0);
    assert!(last.expires_at_ms > 0);
    for seq in seqs {
        let message = bench.message(&member, seq).await;
        let how = message
            .deletion
            .map(|deletion| (deletion.reason, deletion.by));
        assert_eq!(how, Some((DeletionReason::Expired, UserId::SERVER)));
    }
    assert_eq!(bench.message(&member, stays).await.deletion, None);
    // In as few events as a deletion may name messages.
    let head = bench.chats.chat(&member).await.unwrap().chat.head;
    assert_eq!(head, 1 + 1 + 230 + 3);
}

#[tokio::test]
async fn a_scheduled_message_is_sent_when_its_time_comes() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let schedule = async |text: &str, at_ms| {
        let out = bench.outgoing(text);
        bench.chats.schedule(&member, out, at_ms).await
    };
    let year_ms = 365 * 24 * 3_600 * 1_000;
    for bad in [0, BEGIN_MS, BEGIN_MS + year_ms + 1] {
        assert_eq!(reason(schedule("never", bad).await), "BAD_TIME");
    }
    assert_eq!(reason(schedule("", BEGIN_MS + 1).await), "INVALID_REQUEST");
    let late = schedule("late", BEGIN_MS + 90).await.unwrap();
    let soon = schedule("soon", BEGIN_MS + 50).await.unwrap();
    let never = schedule("never", BEGIN_MS + 60).await.unwrap();
    let listed = bench.chats.scheduled(&caller(1)).await.unwrap();
    assert_eq!(listed, [soon, never.clone(), late.clone()]);
    let of_others = bench.chats.call_off(&caller(2), never.id).await;
    assert_eq!(reason(of_others), "SCHEDULED_NOT_FOUND");
    bench.chats.call_off(&caller(1), never.id).await.unwrap();
    bench.clock.advance_ms(50);
    assert_eq!(bench.chats.do_due().await.unwrap(), 1);
    assert_eq!(bench.message(&member, 1).await.text, "soon");
    assert_eq!(bench.chats.scheduled(&caller(1)).await.unwrap(), [late]);
    bench.clock.advance_ms(1_000);
    assert_eq!(bench.chats.do_due().await.unwrap(), 1);
    assert_eq!(bench.message(&member, 2).await.text, "late");
    assert_eq!(bench.chats.do_due().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_scheduled_where_one_may_not_write_any_more_is_dropped() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2, 3]).await;
    let [two, three] = [bench.also(2, &owner).await, bench.also(3, &owner).await];
    let root = bench.say(&two, "root").await;
    let head = async || bench.chats.chat(&owner).await.unwrap().chat.head;
    for member in [&two, &three] {
        let out = bench.outgoing("later");
        bench
            .chats
            .schedule(member, out, BEGIN_MS + 90)
            .await
            .unwrap();
    }
    // And one that calls everybody, by an admin who is one no longer.
    bench.set_role(&owner, 3, Role::Admin).await;
    let mut out = bench.outgoing("all!");
    (out.mentions, out.thread) = (everyone(), Some(root));
    bench
        .chats
        .schedule(&three, out, BEGIN_MS + 80)
        .await
        .unwrap();
    bench.set_role(&owner, 3, Role::Member).await;
    bench.chats.leave(&two).await.unwrap();
    let before = head().await;
    bench.clock.advance_ms(90);
    assert_eq!(bench.chats.do_due().await.unwrap(), 3);
    assert_eq!(bench.chats.do_due().await.unwrap(), 0);
    assert_eq!(head().await, before + 1);
    assert_eq!(bench.message(&owner, before + 1).await.text, "later");
    assert_eq!(bench.message(&owner, root).await.replies, 0);
    for user in [2, 3] {
        assert_eq!(bench.chats.scheduled(&caller(user)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_user_schedules_a_hundred_messages() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let schedule = async |out| bench.chats.schedule(&member, out, BEGIN_MS + 9).await;
    let first = bench.outgoing("first");
    let scheduled = schedule(first.clone()).await.unwrap();
    for _ in 1..SCHEDULED_MAX {
        schedule(bench.outgoing("hi")).await.unwrap();
    }
    assert_eq!(reason(schedule(bench.outgoing("hi")).await), "TOO_MANY");
    // The call made again is no other message.
    assert_eq!(schedule(first.clone()).await.unwrap(), scheduled);
    let sent = bench.chats.send(&member, first).await;
    assert_eq!(reason(sent), "CLIENT_MESSAGE_ID_REUSED");
    let unknown = bench.chats.call_off(&caller(1), ScheduledId(1)).await;
    assert_eq!(reason(unknown), "SCHEDULED_NOT_FOUND");
}
