//! Messages: sent, forwarded, edited, deleted, hidden, reacted to, pinned.

use super::bench::*;
use crate::ids::UserId;

#[tokio::test]
async fn a_text_is_short_and_has_no_control_characters() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let long = "é".repeat(8_001);
    for bad in ["", "\0", "a\u{7}b", "line\r\n", "\u{85}", &long] {
        let sent = bench.send(&member, bad, |_| {}).await;
        assert_eq!(reason(sent), "INVALID_REQUEST", "{bad:?}");
    }
    for good in ["a", " ", "a\n\tb", "🫖", &"🫖".repeat(8_000)] {
        bench.say(&member, good).await;
    }
    for id in ["", "short", "with a space", "ünicode-id", &"x".repeat(65)] {
        let named = |out: &mut Outgoing| out.client_message_id = id.into();
        let sent = bench.send(&member, "a", named).await;
        assert_eq!(reason(sent), "INVALID_REQUEST", "{id:?}");
    }
}

#[tokio::test]
async fn a_sending_again_gives_the_first_answer_and_another_text_is_refused() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let named = |out: &mut Outgoing| out.client_message_id = "message-1".into();
    let send = async |text: &str| bench.send(&member, text, named).await;
    let first = send("hello").await.unwrap();
    bench.clock.advance_ms(50);
    let again = send("hello").await.unwrap();
    assert_eq!(
        (again.seq, again.at_ms, again.repeat),
        (1, first.at_ms, true)
    );
    assert_eq!(reason(send("other").await), "CLIENT_MESSAGE_ID_REUSED");
    // The other side's device has its own ids.
    let other = bench.also(2, &member).await;
    let second = bench.send(&other, "hello", named).await.unwrap();
    assert_eq!((second.seq, second.repeat), (2, false));
}

#[tokio::test]
async fn a_repeat_from_somebody_who_has_left_gives_the_first_answer() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let member = bench.also(2, &owner).await;
    let named = |out: &mut Outgoing| out.client_message_id = "message-1".into();
    let first = bench.send(&member, "bye", named).await.unwrap();
    bench.chats.leave(&member).await.unwrap();
    let again = bench.send(&member, "bye", named).await.unwrap();
    assert_eq!((again.seq, again.repeat), (first.seq, true));
}

#[tokio::test]
async fn readers_read_and_react_in_a_channel_and_only_read_in_a_group() {
    let bench = Bench::new();
    let channel = bench.channel(1, &[2]).await;
    let group = bench.group(1, &[2]).await;
    bench.set_role(&group, 2, Role::Reader).await;
    for (owner, may_react) in [(&channel, true), (&group, false)] {
        let seq = bench.say(owner, "hi").await;
        let reader = bench.also(2, owner).await;
        assert_eq!(
            reason(bench.send(&reader, "me", |_| {}).await),
            "NOT_ALLOWED"
        );
        let reacted = bench.chats.react(&reader, seq, "👍".into(), true).await;
        match may_react {
            true => assert_eq!(reacted.unwrap(), Some(seq + 1)),
            false => assert_eq!(reason(reacted), "NOT_ALLOWED"),
        }
        assert_eq!(bench.message(&reader, seq).await.text, "hi");
    }
}

#[tokio::test]
async fn an_answer_is_to_a_message() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let seq = bench.say(&owner, "hi").await;
    let answer = async |to| {
        let sent = bench
            .send(&owner, "yes", |out| out.reply_to = Some(to))
            .await;
        sent.map(|sent| sent.seq)
    };
    for none in [1, 0, -1, seq + 1, Seq::MAX] {
        assert_eq!(reason(answer(none).await), "MESSAGE_NOT_FOUND", "{none}");
    }
    let answered = answer(seq).await.unwrap();
    assert_eq!(bench.message(&owner, answered).await.reply_to, Some(seq));
    // A deleted message was answered too, perhaps just before it was deleted.
    bench.chats.delete(&owner, vec![seq]).await.unwrap();
    answer(seq).await.unwrap();
}

#[tokio::test]
async fn a_mention_of_a_stranger_is_left_out() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2, 3]).await;
    let mentioned = mentions(&[3, 9, 2, 3, NOBODY]);
    let sent = bench.send(&owner, "you", |out| out.mentions = mentioned);
    let seq = sent.await.unwrap().seq;
    assert_eq!(bench.message(&owner, seq).await.mentions, mentions(&[3, 2]));
}

#[tokio::test]
async fn only_who_keeps_order_mentions_everybody() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let member = bench.also(2, &owner).await;
    let direct = bench.direct(1, 2).await;
    let admins = Mentions {
        role: Some(Role::Admin),
        ..Mentions::default()
    };
    for all in [everyone(), admins] {
        for may_not in [&member, &direct] {
            let sent = bench.send(may_not, "all!", |out| out.mentions = all.clone());
            assert_eq!(reason(sent.await), "NOT_ALLOWED");
        }
        let sent = bench.send(&owner, "all!", |out| out.mentions = all.clone());
        sent.await.unwrap();
    }
    // Nor does an edit bring it in.
    let seq = bench.say(&member, "hi").await;
    let edited = bench.chats.edit(&member, seq, "hi all".into(), everyone());
    assert_eq!(reason(edited.await), "NOT_ALLOWED");
}

#[tokio::test]
async fn everybody_edits_their_own_messages_only() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let member = bench.also(2, &owner).await;
    let seq = bench.say(&member, "first").await;
    let edit = async |who: &Member, seq, text: &str| {
        let mentions = Mentions::default();
        bench.chats.edit(who, seq, text.into(), mentions).await
    };
    assert_eq!(reason(edit(&owner, seq, "mine").await), "NOT_YOUR_MESSAGE");
    assert_eq!(
        reason(edit(&member, 1, "a chat").await),
        "MESSAGE_NOT_FOUND"
    );
    assert_eq!(reason(edit(&member, seq, "").await), "INVALID_REQUEST");
    assert_eq!(edit(&member, seq, "first").await.unwrap(), None);
    bench.clock.advance_ms(5);
    assert_eq!(edit(&member, seq, "second").await.unwrap(), Some(3));
    // Who may write no more edits no more.
    bench.set_role(&owner, 2, Role::Reader).await;
    assert_eq!(reason(edit(&member, seq, "third").await), "NOT_ALLOWED");
    bench.set_role(&owner, 2, Role::Member).await;
    bench.chats.delete(&member, vec![seq]).await.unwrap();
    assert_eq!(
        reason(edit(&member, seq, "third").await),
        "MESSAGE_NOT_FOUND"
    );
}

#[tokio::test]
async fn a_message_is_edited_a_hundred_times_and_every_text_can_be_read() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let seq = bench.say(&member, "text 0").await;
    let edit = async |n: usize| {
        bench.clock.advance_ms(1);
        let text = format!("text {n}");
        bench
            .chats
            .edit(&member, seq, text, Mentions::default())
            .await
    };
    let versions = async || bench.chats.edits(&member, seq).await;
    assert_eq!(versions().await.unwrap().len(), 1);
    for n in 1..=EDITS_MAX {
        edit(n).await.unwrap();
    }
    assert_eq!(reason(edit(EDITS_MAX + 1).await), "TOO_MANY");
    let all = versions().await.unwrap();
    let expected = (0..=EDITS_MAX as i64).map(|n| TextVersion {
        text: format!("text {n}"),
        at_ms: BEGIN_MS + 1 + n,
    });
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert_eq!(
        reason(bench.chats.edits(&member, seq + 1).await),
        "MESSAGE_NOT_FOUND"
    );
    bench.chats.delete(&member, vec![seq]).await.unwrap();
    assert_eq!(versions().await.unwrap(), []);
}

#[tokio::test]
async fn messages_of_others_are_deleted_by_those_who_keep_order() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2, 3]).await;
    let (two, three) = (bench.also(2, &owner).await, bench.also(3, &owner).await);
    let of_two = [bench.say(&two, "one").await, bench.say(&two, "two").await];
    let of_three = bench.say(&three, "three").await;
    let delete = async |who: &Member, seqs: &[Seq]| bench.chats.delete(who, seqs.to_vec()).await;
    assert_eq!(
        reason(delete(&two, &[of_two[0], of_three]).await),
        "NOT_ALLOWED"
    );
    assert_eq!(reason(delete(&two, &[1]).await), "MESSAGE_NOT_FOUND");
    assert_eq!(reason(delete(&two, &[]).await), "INVALID_REQUEST");
    let many: Vec<Seq> = (1..=101).collect();
    assert_eq!(reason(delete(&two, &many).await), "INVALID_REQUEST");
    assert!(delete(&two, &of_two[..1]).await.unwrap().is_some());
    assert!(
        delete(&owner, &[of_two[1], of_three])
            .await
            .unwrap()
            .is_some()
    );
    let how = async |seq| bench.message(&owner, seq).await.deletion.unwrap();
    let by = |reason, user| Deletion {
        reason,
        by: UserId(user),
    };
    assert_eq!(how(of_two[0]).await, by(DeletionReason::Sender, 2));
    assert_eq!(how(of_two[1]).await, by(DeletionReason::Moderator, 1));
    assert_eq!(how(of_three).await, by(DeletionReason::Moderator, 1));
    // Again changes nothing.
    assert_eq!(delete(&owner, &of_two).await.unwrap(), None);
}

#[tokio::test]
async fn in_a_direct_chat_nobody_deletes_what_the_other_said() {
    let bench = Bench::new();
    let one = bench.direct(1, 2).await;
    let two = bench.also(2, &one).await;
    let seq = bench.say(&two, "hi").await;
    assert_eq!(
        reason(bench.chats.delete(&one, vec![seq]).await),
        "NOT_ALLOWED"
    );
    // But for themselves.
    bench.chats.hide(&one, vec![seq]).await.unwrap();
    assert!(bench.event(&one, seq).await.hidden);
    assert!(!bench.event(&two, seq).await.hidden);
    // In the list of chats as well.
    let list = async |user| bench.chats.chats(&caller(user), 9, "").await.unwrap().chats;
    assert!(list(1).await[0].last_hidden && !list(2).await[0].last_hidden);
    assert_eq!(
        reason(bench.chats.hide(&one, vec![seq + 1]).await),
        "MESSAGE_NOT_FOUND"
    );
}

#[tokio::test]
async fn a_message_has_up_to_twenty_kinds_of_reaction() {
    let bench = Bench::new();
    let one = bench.direct(1, 2).await;
    let two = bench.also(2, &one).await;
    let seq = bench.say(&one, "hi").await;
    let react =
        async |who: &Member, emoji: &str| bench.chats.react(who, seq, emoji.into(), true).await;
    let emojis: Vec<String> = ('😀'..)
        .take(REACTION_KINDS_MAX + 1)
        .map(String::from)
        .collect();
    for emoji in &emojis[..REACTION_KINDS_MAX] {
        react(&one, emoji).await.unwrap();
    }
    let one_more = &emojis[REACTION_KINDS_MAX];
    assert_eq!(reason(react(&two, one_more).await), "TOO_MANY");
    // A kind that is there takes more, and one that is gone makes room.
    react(&two, &emojis[3]).await.unwrap();
    let back = bench.chats.react(&one, seq, emojis[0].clone(), false);
    back.await.unwrap();
    react(&two, one_more).await.unwrap();
    assert_eq!(reason(react(&one, "no emoji").await), "INVALID_REQUEST");

    // Named in the order of first use; and everybody is told which are their own.
    let given = bench.chats.reactions(&one, seq, 99).await.unwrap();
    let first: Vec<_> = given
        .iter()
        .take(4)
        .map(|(e, user)| (&**e, user.0))
        .collect();
    let [b, c, d] = [&*emojis[1], &*emojis[2], &*emojis[3]];
    assert_eq!(first, [(b, 1), (c, 1), (d, 1), (d, 2)]);
    assert_eq!(given.last(), Some(&(one_more.clone(), UserId(2))));
    assert_eq!(bench.event(&two, seq).await.mine, [d, one_more]);
    bench.chats.delete(&one, vec![seq]).await.unwrap();
    assert_eq!(reason(react(&one, "👍").await), "MESSAGE_NOT_FOUND");
    assert_eq!(bench.chats.reactions(&one, seq, 99).await.unwrap(), []);
}

#[tokio::test]
async fn up_to_fifty_messages_are_pinned_by_those_who_keep_order() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let member = bench.also(2, &owner).await;
    let mut seqs = Vec::new();
    for _ in 0..=PINNED_MAX {
        seqs.push(bench.say(&owner, "hi").await);
    }
    let pin = async |who: &Member, seq, on| bench.chats.pin(who, seq, on).await;
    assert_eq!(reason(pin(&member, seqs[0], true).await), "NOT_ALLOWED");
    for seq in &seqs[..PINNED_MAX] {
        pin(&owner, *seq, true).await.unwrap();
    }
    assert_eq!(
        reason(pin(&owner, seqs[PINNED_MAX], true).await),
        "TOO_MANY"
    );
    pin(&owner, seqs[0], false).await.unwrap();
    pin(&owner, seqs[PINNED_MAX], true).await.unwrap();
    assert_eq!(reason(pin(&owner, 1, true).await), "MESSAGE_NOT_FOUND");
    // The two of a direct chat are equals.
    let one = bench.direct(1, 2).await;
    let seq = bench.say(&one, "hi").await;
    let two = bench.also(2, &one).await;
    pin(&two, seq, true).await.unwrap();
    pin(&one, seq, false).await.unwrap();
}

#[tokio::test]
async fn a_copy_says_who_said_it_first_and_mentions_nobody() {
    let bench = Bench::new();
    let from = bench.group(1, &[2, 3]).await;
    let two = bench.also(2, &from).await;
    let sent = bench.send(&two, "first", |out| out.mentions = mentions(&[3]));
    let first = sent.await.unwrap();
    let second = bench.say(&from, "second").await;
    let to = bench.direct(1, 4).await;
    let forward = async |to: &Member, from: &Member, seqs: &[Seq]| {
        let (id, seqs) = (bench.client_id(), seqs.to_vec());
        bench.chats.forward(to, id, from.chat(), seqs).await
    };
    let copies = forward(&to, &from, &[second, first.seq]).await.unwrap();
    assert_eq!(copies.len(), 2);
    let copy = bench.message(&to, copies[0].seq).await;
    let said_first = Some(Forward {
        user: UserId(2),
        at_ms: first.at_ms,
    });
    assert_eq!((&*copy.text, copy.forward), ("first", said_first));
    assert!(copy.mentions.is_empty());
    // The copy of a copy too.
    let other = bench.group(1, &[]).await;
    let again = forward(&other, &to, &[copies[0].seq]).await.unwrap();
    assert_eq!(
        bench.message(&other, again[0].seq).await.forward,
        said_first
    );
}

#[tokio::test]
async fn a_repeated_forward_is_answered_as_before_when_its_source_is_gone() {
    let bench = Bench::new();
    let from = bench.group(2, &[1]).await;
    let one = bench.also(1, &from).await;
    let seqs = [bench.say(&from, "a").await, bench.say(&from, "b").await];
    let to = bench.direct(1, 3).await;
    let forward = async |id: &str, seqs: &[Seq]| {
        let (id, seqs) = (id.to_owned(), seqs.to_vec());
        bench.chats.forward(&to, id, one.chat(), seqs).await
    };
    let first = forward("forwarded-once", &seqs).await.unwrap();
    let as_before = |again: Vec<Sent>| {
        let is_same = |(a, b): (&Sent, &Sent)| (a.seq, a.id, a.at_ms) == (b.seq, b.id, b.at_ms);
        again.len() == first.len() && again.iter().zip(&first).all(is_same)
    };
    bench.chats.delete(&from, vec![seqs[0]]).await.unwrap();
    assert!(as_before(forward("forwarded-once", &seqs).await.unwrap()));
    // What was not forwarded before can not be forwarded now, and another number of messages is another sending.
    let never = forward("forwarded-never", &seqs).await;
    assert_eq!(reason(never), "MESSAGE_NOT_FOUND");
    let other = forward("forwarded-once", &seqs[..1]).await;
    assert_eq!(reason(other), "CLIENT_MESSAGE_ID_REUSED");
    bench.chats.leave(&one).await.unwrap();
    assert!(as_before(forward("forwarded-once", &seqs).await.unwrap()));
    let never = forward("forwarded-never", &seqs).await;
    assert_eq!(reason(never), "CHAT_NOT_FOUND");
    // The key of a plain message is no forward's.
    let plain = bench.send(&to, "plain", |out| {
        out.client_message_id = "plain-message".into()
    });
    plain.await.unwrap();
    let other = forward("plain-message", &seqs[..1]).await;
    assert_eq!(reason(other), "CLIENT_MESSAGE_ID_REUSED");
}

#[tokio::test]
async fn only_what_its_forwarder_can_read_is_forwarded() {
    let bench = Bench::new();
    let from = bench.group(1, &[2]).await;
    let [there, hidden, deleted, over] = [
        bench.say(&from, "there").await,
        bench.say(&from, "hidden").await,
        bench.say(&from, "deleted").await,
        bench.say(&from, "over").await,
    ];
    bench.chats.hide(&from, vec![hidden]).await.unwrap();
    bench.chats.delete(&from, vec![deleted]).await.unwrap();
    let lives = ChatChange {
        message_ttl_s: Some(1),
        ..ChatChange::default()
    };
    bench.chats.change(&from, lives).await.unwrap();
    let short = bench.say(&from, "short").await;
    let to = bench.direct(1, 3).await;
    let forward = async |to: &Member, seqs: &[Seq]| {
        let id = bench.client_id();
        bench
            .chats
            .forward(to, id, from.chat(), seqs.to_vec())
            .await
    };
    forward(&to, &[short, over]).await.unwrap();
    bench.clock.advance_ms(1_000);
    for seq in [1, hidden, deleted, short, short + 1] {
        let copied = forward(&to, &[there, seq]).await;
        assert_eq!(reason(copied), "MESSAGE_NOT_FOUND", "{seq}");
    }
    let stranger = bench.direct(3, 4).await;
    assert_eq!(reason(forward(&stranger, &[there]).await), "CHAT_NOT_FOUND");
    // To where one may not write nothing is forwarded.
    let channel = bench.channel(5, &[1]).await;
    let reader = bench.also(1, &channel).await;
    assert_eq!(reason(forward(&reader, &[there]).await), "NOT_ALLOWED");
}

#[tokio::test]
async fn messages_are_found_by_their_seqs_and_events_are_not() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let seqs = [bench.say(&owner, "a").await, bench.say(&owner, "b").await];
    let page = bench
        .chats
        .messages(&owner, vec![9, seqs[1], 1, seqs[0]])
        .await
        .unwrap();
    let found: Vec<Seq> = page.events.iter().map(|shown| shown.event.seq).collect();
    assert_eq!((found, page.head), (seqs.to_vec(), 3));
}

#[tokio::test]
async fn a_thread_is_read_in_pages() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let root = bench.say(&member, "root").await;
    for _ in 0..5 {
        let sent = bench.send(&member, "reply", |out| out.thread = Some(root));
        sent.await.unwrap();
    }
    let page = async |after, limit| {
        let (page, more) = bench
            .chats
            .thread(&member, root, after, limit)
            .await
            .unwrap();
        let seqs: Vec<Seq> = page.events.iter().map(|shown| shown.event.seq).collect();
        (seqs, more)
    };
    assert_eq!(page(0, 3).await, (vec![2, 3, 4], true));
    assert_eq!(page(4, 2).await, (vec![5, 6], false));
    assert_eq!(page(6, 2).await, (vec![], false));
}

#[tokio::test]
async fn typing_is_told_now_and_then_and_never_in_a_channel() {
    let bench = Bench::new();
    let group = bench.group(1, &[2]).await;
    let channel = bench.channel(1, &[2]).await;
    for member in [&group, &group, &channel] {
        bench.chats.typing(member).await.unwrap();
    }
    let audience = Audience::Members(users([1, 2]).into());
    let once = (group.chat(), UserId(1), audience);
    let told = || bench.typists.0.lock().clone();
    assert_eq!(told(), vec![once.clone()]);
    bench.clock.advance_ms(3_000);
    bench.chats.typing(&group).await.unwrap();
    assert_eq!(told(), vec![once.clone(), once]);
}
