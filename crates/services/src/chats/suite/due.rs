//! What comes due: messages whose time is over, and messages to be sent.

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::chats::ports::*;
use crate::ids::{ChatId, MessageId, ScheduledId, UserId};

pub async fn a_message_is_due_when_its_time_is_over(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let one = bench.group(2, ANA, &[BEN]).await;
    let two = bench.group(1, ANA, &[BEN]).await;
    let lives = |chat, seconds| Act::Change {
        chat,
        title: None,
        topic: None,
        avatar: None,
        message_ttl_s: Some(seconds),
    };
    bench.say(one, ANA, 1).await;
    bench.made(ANA, lives(one, 60)).await;
    bench.made(ANA, lives(two, 30)).await;
    bench.say(one, ANA, 2).await;
    bench.say(one, ANA, 3).await;
    bench.say(two, ANA, 4).await;
    bench.made(ANA, lives(one, 0)).await;
    bench.say(one, ANA, 5).await;
    // Deleted before its time, so not due.
    bench.delete(one, ANA, &[5]).await;
    bench.reopen().await;
    let expired = async |bench: &Bench<'_>, at_ms, limit| {
        let due = bench.store().due(at_ms, limit).await.unwrap();
        assert_eq!(due.scheduled, vec![]);
        due.expired
    };
    let [half, whole] = [BEGIN_MS + 30_000, BEGIN_MS + 60_000];
    assert_eq!(expired(&bench, half - 1, 9).await, []);
    assert_eq!(expired(&bench, half, 9).await, [(two, 3)]);
    assert_eq!(expired(&bench, whole - 1, 9).await, [(two, 3)]);
    assert_eq!(expired(&bench, whole, 9).await, [(two, 3), (one, 4)]);
    assert_eq!(expired(&bench, i64::MAX, 9).await, [(two, 3), (one, 4)]);
    assert_eq!(expired(&bench, whole, 1).await, [(two, 3)]);
    // What is not over stays, whoever says so; what is not there holds nothing up.
    let expire = |messages: &[Seq]| Act::Expire {
        chat: one,
        messages: messages.to_vec(),
    };
    let early = bench.act(UserId::SERVER, expire(&[4])).await;
    assert_eq!(early, Done::Changed(None));
    bench.clock.advance_ms(60_000);
    // Over is over, even before it is deleted.
    let late = bench.refused(BEN, react(one, 4, "👍", true)).await;
    assert_eq!(late, "MESSAGE_NOT_FOUND");
    let seq = bench.made(UserId::SERVER, expire(&[1, 2, 4, 77])).await;
    let event = bench.event(one, seq).await;
    let body = EventBody::Deleted {
        messages: vec![4],
        reason: DeletionReason::Expired,
    };
    assert_eq!((event.actor, &event.body), (UserId::SERVER, &body));
    assert_eq!(expired(&bench, whole, 9).await, [(two, 3)]);
    recount(&**bench.store(), one).await;
}

fn scheduled(chat: ChatId, user: UserId, n: i64) -> Scheduled {
    Scheduled {
        id: ScheduledId(n),
        user,
        chat,
        send_at_ms: BEGIN_MS + n * 1_000,
        key: key(&device(user), n),
        text: format!("at {n}"),
        reply_to: None,
        thread: None,
        mentions: mentions(&[BEN]),
    }
}

pub async fn a_scheduled_message_is_due_until_it_is_sent_or_called_off(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    let group = bench.group(2, BEN, &[ANA]).await;
    let schedule = |chat, n| Act::Schedule(scheduled(chat, ANA, n));
    for (chat, n) in [(chat, 30), (chat, 10), (group, 20), (chat, 40)] {
        let done = bench.act(ANA, schedule(chat, n)).await;
        assert_eq!(done, Done::Scheduled(Box::new(scheduled(chat, ANA, n))));
    }
    let again = Scheduled {
        id: ScheduledId(99),
        ..scheduled(chat, ANA, 10)
    };
    let again = bench.act(ANA, Act::Schedule(again)).await;
    assert_eq!(again, Done::Scheduled(Box::new(scheduled(chat, ANA, 10))));
    bench.reopen().await;
    let due = async |bench: &Bench<'_>, n: i64, limit| {
        let due = bench
            .store()
            .due(BEGIN_MS + n * 1_000, limit)
            .await
            .unwrap();
        due.scheduled.iter().map(|id| id.0).collect::<Vec<_>>()
    };
    assert!(due(&bench, 9, 9).await.is_empty());
    assert_eq!(due(&bench, 30, 9).await, [10, 20, 30]);
    assert_eq!(due(&bench, 99, 2).await, [10, 20]);
    let call_off = |n| Act::CallOff {
        scheduled: ScheduledId(n),
    };
    assert_eq!(
        bench.refused(BEN, call_off(40)).await,
        "SCHEDULED_NOT_FOUND"
    );
    bench.act(ANA, call_off(40)).await;
    assert_eq!(
        bench.refused(ANA, call_off(40)).await,
        "SCHEDULED_NOT_FOUND"
    );
    bench.clock.advance_ms(30_000);
    let send = |n| Act::SendScheduled {
        scheduled: ScheduledId(n),
        id: MessageId(n),
    };
    let sent = sent(bench.act(UserId::SERVER, send(10)).await);
    assert_eq!((sent.seq, sent.id), (1, MessageId(10)));
    let event = bench.event(chat, 1).await;
    assert_eq!((event.actor, event.at_ms), (ANA, BEGIN_MS + 30_000));
    assert_eq!(
        (&*said(&event).text, &said(&event).key),
        ("at 10", &key(&device(ANA), 10))
    );
    assert_eq!(bench.standing(chat, BEN).await.read.unread_mentions, 1);
    // Who schedules it again is answered as before, though it is sent, and its time is over; or called off.
    for n in [10, 40] {
        let again = Scheduled {
            id: ScheduledId(98),
            ..scheduled(chat, ANA, n)
        };
        let again = bench.act(ANA, Act::Schedule(again)).await;
        assert_eq!(again, Done::Scheduled(Box::new(scheduled(chat, ANA, n))));
    }
    let late = Act::Schedule(Scheduled {
        send_at_ms: BEGIN_MS + 30_000,
        ..scheduled(chat, ANA, 97)
    });
    assert_eq!(bench.refused(ANA, late).await, "BAD_TIME");
    // Sent once, whoever else tries.
    assert_eq!(bench.act(UserId::SERVER, send(10)).await, Done::Nothing);
    // Who may not write there any more has nothing to wait for.
    bench.made(ANA, Act::Leave { chat: group }).await;
    assert_eq!(bench.act(UserId::SERVER, send(20)).await, Done::Nothing);
    let gone = UserEventBody::ScheduleChanged {
        id: ScheduledId(20),
        scheduled: None,
    };
    assert_eq!(bench.last_own(ANA).await, gone);
    assert_eq!(due(&bench, 99, 9).await, [30]);
    let left = bench.store().scheduled(ANA).await.unwrap();
    assert_eq!(left, [scheduled(chat, ANA, 30)]);
    assert_eq!(bench.store().scheduled(BEN).await.unwrap(), []);
    recount(&**bench.store(), group).await;
    let whole: Due = bench.store().due(i64::MAX, 9).await.unwrap();
    assert_eq!(whole.expired, vec![]);
}
