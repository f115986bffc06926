//! The state machine against a model of the server, and single rules by example.

mod model;
mod whatever_happens;

use tertulia_proto::chats::*;

use super::*;
use model::{ME, OTHER};

/// What somebody says.
fn said(seq: i64, actor_id: i64, text: &str) -> Event {
    let message = Message {
        message_id: 1_000 + seq,
        text: text.into(),
        changed_seq: seq,
        ..Default::default()
    };
    event(seq, actor_id, message.into())
}

fn event(seq: i64, actor_id: i64, body: Body) -> Event {
    Event {
        chat_id: 1,
        seq,
        actor_id,
        at_ms: 10 * seq,
        body: Some(body),
        ..Default::default()
    }
}

fn edited(seq: i64, message_seq: i64, text: &str) -> Event {
    let edited = MessageEdited {
        message_seq,
        text: text.into(),
        ..Default::default()
    };
    event(seq, OTHER, edited.into())
}

fn deleted(seq: i64, message_seq: i64) -> Event {
    let deleted = MessagesDeleted {
        message_seqs: vec![message_seq],
        reason: DeletionReason::DELETION_REASON_SENDER.into(),
        ..Default::default()
    };
    event(seq, OTHER, deleted.into())
}

fn live(timeline: &mut Timeline, event: Event) {
    let seq = event.seq;
    timeline.hear(event, seq - 1);
}

fn seqs(timeline: &Timeline) -> Vec<i64> {
    timeline.shown().map(|event| event.seq).collect()
}

fn text(timeline: &Timeline, seq: i64) -> String {
    let row = timeline.event(seq).and_then(fold::message);
    row.expect("it is there").text.clone()
}

fn empty() -> Timeline {
    Timeline::after(1, ME, 0)
}

#[test]
fn what_is_behind_a_hole_waits_until_it_is_filled() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    live(&mut timeline, edited(4, 1, "four"));
    assert_eq!(timeline.hole(), Some(Hole { after: 1, up_to: 3 }));
    assert_eq!(
        (seqs(&timeline), text(&timeline, 1)),
        (vec![1], "one".into())
    );
    timeline.take(
        2,
        3,
        4,
        vec![said(2, OTHER, "two"), said(3, OTHER, "three")],
    );
    assert_eq!(seqs(&timeline), [1, 2, 3, 4]);
    assert_eq!(text(&timeline, 1), "four");
    assert_eq!(timeline.hole(), None);
}

#[test]
fn a_known_head_shows_that_the_tail_was_lost() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    timeline.know_head(3);
    assert_eq!(timeline.hole(), Some(Hole { after: 1, up_to: 3 }));
}

#[test]
fn seqs_that_are_not_for_this_client_are_no_hole() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    timeline.hear(said(5, OTHER, "five"), 1);
    assert_eq!(seqs(&timeline), [1, 5]);
}

#[test]
fn what_came_with_an_answer_is_not_changed_twice() {
    let mut timeline = empty();
    let mut row = said(1, OTHER, "later");
    if let Some(Body::Message(message)) = &mut row.body {
        message.changed_seq = 3;
        message.edited_at_ms = 30;
    }
    // The page ends at 2; the log went to 3 when it was made.
    timeline.take(1, 2, 3, vec![row, edited(2, 1, "earlier")]);
    assert_eq!(text(&timeline, 1), "later");
    live(&mut timeline, edited(3, 1, "later"));
    assert_eq!(text(&timeline, 1), "later");
    live(&mut timeline, edited(4, 1, "last"));
    assert_eq!(text(&timeline, 1), "last");
}

#[test]
fn a_jump_keeps_the_old_part_and_shows_it_again_when_it_is_up_to_date() {
    let mut timeline = empty();
    timeline.take(
        1,
        3,
        3,
        (1..=3).map(|seq| said(seq, OTHER, "old")).collect(),
    );
    timeline.know_head(20);
    timeline.jump(10);
    assert_eq!(seqs(&timeline), [0i64; 0]);
    timeline.take(
        11,
        20,
        20,
        (11..=20).map(|seq| said(seq, OTHER, "new")).collect(),
    );
    assert_eq!(timeline.older(), Some(Older::Before(11)));
    let mut page: Vec<Event> = (4..=9).map(|seq| said(seq, OTHER, "between")).collect();
    page.push(edited(10, 2, "changed"));
    timeline.take(4, 10, 20, page);
    let stale = Stale {
        from: 1,
        to: 3,
        after: 3,
    };
    assert_eq!((seqs(&timeline)[0], timeline.stale()), (4, Some(stale)));
    let mut row = said(2, OTHER, "changed");
    if let Some(Body::Message(message)) = &mut row.body {
        message.changed_seq = 10;
    }
    timeline.changed(stale, 20, false, vec![row]);
    assert_eq!(seqs(&timeline), (1..=20).collect::<Vec<_>>());
    assert_eq!(text(&timeline, 2), "changed");
    assert_eq!(timeline.older(), None);
}

#[test]
fn what_happened_since_an_old_part_was_brought_up_is_folded_into_it() {
    let mut timeline = Timeline::after(1, ME, 10);
    timeline.take(11, 12, 12, vec![said(11, OTHER, "x"), said(12, OTHER, "y")]);
    // The page was made before the edit, and comes after it.
    live(&mut timeline, edited(13, 10, "edited"));
    timeline.take(10, 10, 12, vec![said(10, OTHER, "sent")]);
    assert_eq!(text(&timeline, 10), "edited");
}

#[test]
fn a_deletion_takes_the_text_from_everything_that_is_held() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "secret"));
    live(&mut timeline, edited(2, 1, "secret too"));
    live(&mut timeline, deleted(3, 1));
    let kept = serde_json::to_string(&timeline).expect("it can be written");
    assert!(!kept.contains("secret"), "{kept}");
}

#[test]
fn hidden_messages_stay_hidden_whatever_comes_when() {
    let hidden = OwnBody::MessagesHidden(Box::new(MessagesHidden {
        chat_id: 1,
        message_seqs: vec![1, 2],
        ..Default::default()
    }));
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    timeline.own(&hidden);
    live(&mut timeline, said(2, OTHER, "two"));
    live(&mut timeline, edited(3, 1, "three"));
    assert_eq!(
        (text(&timeline, 1), text(&timeline, 2)),
        ("".into(), "".into())
    );
    assert_eq!(timeline.reading().unread, 2, "they still count");
    let kept = serde_json::to_string(&timeline).expect("it can be written");
    assert!(!kept.contains("three"), "{kept}");
}

/// The mark of the user for these messages.
fn hidden(message_seqs: Vec<i64>) -> OwnBody {
    OwnBody::MessagesHidden(Box::new(MessagesHidden {
        chat_id: 1,
        message_seqs,
        ..Default::default()
    }))
}

#[test]
fn a_mark_that_comes_before_its_message_is_remembered_over_holes_jumps_and_restarts() {
    let mut timeline = empty();
    timeline.own(&hidden(vec![2, 50]));
    let kept = serde_json::to_string(&timeline).expect("it can be written");
    timeline = serde_json::from_str(&kept).expect("it can be read");
    // Behind a hole, and in an answer that was made before the mark.
    timeline.hear(said(2, OTHER, "two"), 1);
    live(&mut timeline, said(1, OTHER, "one"));
    timeline.jump(60);
    timeline.take(
        41,
        60,
        60,
        (41..=60).map(|seq| said(seq, OTHER, "x")).collect(),
    );
    let is_hidden = |seq| {
        let row = timeline.log.row(seq).and_then(fold::message);
        row.map(|message| (message.hidden, message.text.clone()))
    };
    assert_eq!(is_hidden(1), Some((false, "one".into())));
    assert_eq!(is_hidden(2), Some((true, String::new())));
    assert_eq!(is_hidden(49), Some((false, "x".into())));
    assert_eq!(is_hidden(50), Some((true, String::new())));
}

#[test]
fn at_least_two_hundred_marks_are_remembered_and_the_newest_longest() {
    let mut timeline = empty();
    timeline.own(&hidden((1..=2_000).collect()));
    let all: Vec<Event> = (1..=2_000).map(|seq| said(seq, OTHER, "x")).collect();
    timeline.take(1, 2_000, 2_000, all);
    let hidden = timeline.shown().filter_map(fold::message);
    let hidden: Vec<bool> = hidden.map(|message| message.hidden).collect();
    assert!(hidden[1_800..].iter().all(|is_hidden| *is_hidden));
    assert!(!hidden[0], "what is remembered has a bound");
}

#[test]
fn a_deletion_for_everybody_is_more_than_one_for_the_user() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    timeline.own(&hidden(vec![1, 2]));
    live(&mut timeline, said(2, OTHER, "two"));
    live(&mut timeline, deleted(3, 1));
    timeline.own(&hidden(vec![1]));
    let state = |seq| {
        let row = timeline.event(seq).and_then(fold::message);
        row.map(|message| (message.hidden, message.deletion.is_set()))
    };
    assert_eq!(
        (state(1), state(2)),
        (Some((false, true)), Some((true, false)))
    );
}

#[test]
fn who_gives_ownership_away_is_an_admin_from_then_on() {
    let role = |user_id, role: Role| RoleChanged {
        user_id,
        role: role.into(),
        ..Default::default()
    };
    let mut timeline = empty();
    timeline.meet(Chat {
        chat_id: 1,
        membership: Membership {
            role: Role::ROLE_OWNER.into(),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    });
    live(
        &mut timeline,
        event(1, ME, role(99, Role::ROLE_ADMIN).into()),
    );
    assert_eq!(
        timeline.role(),
        Role::ROLE_OWNER,
        "another admin takes nothing"
    );
    live(
        &mut timeline,
        event(2, ME, role(OTHER, Role::ROLE_OWNER).into()),
    );
    assert_eq!(timeline.role(), Role::ROLE_ADMIN);
    live(
        &mut timeline,
        event(3, OTHER, role(ME, Role::ROLE_READER).into()),
    );
    assert_eq!(
        (timeline.role(), timeline.chat().members_seq),
        (Role::ROLE_READER, 3)
    );
}

#[test]
fn an_edit_of_an_unread_message_changes_whom_it_mentions() {
    let mentions = |user_ids: Vec<i64>| Mentions {
        user_ids,
        ..Default::default()
    };
    let edit = |seq, to| {
        let edited = MessageEdited {
            message_seq: 1,
            text: "edited".into(),
            mentions: mentions(to).into(),
            ..Default::default()
        };
        event(seq, OTHER, edited.into())
    };
    let counts = |timeline: &Timeline| {
        let reading = timeline.reading();
        (reading.unread, reading.mentions, reading.is_certain)
    };
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    live(&mut timeline, edit(2, vec![ME]));
    assert_eq!(counts(&timeline), (1, 1, true));
    live(&mut timeline, edit(3, vec![99]));
    assert_eq!(counts(&timeline), (1, 0, true));
}

#[test]
fn from_the_bound_of_counted_mentions_nothing_is_counted_down() {
    let mut timeline = empty();
    (timeline.reading.unread, timeline.reading.mentions) = (1_500, 1_000);
    let to_me = |seq| {
        let mut event = said(seq, OTHER, "you");
        if let Some(Body::Message(message)) = &mut event.body {
            message.mentions = Mentions {
                user_ids: vec![ME],
                ..Default::default()
            }
            .into();
        }
        event
    };
    live(&mut timeline, to_me(1));
    let reading = timeline.reading();
    assert_eq!(
        (reading.unread, reading.mentions, reading.is_certain),
        (1_501, 1_000, true)
    );
    live(&mut timeline, deleted(2, 1));
    assert!(!timeline.reading().is_certain, "there may be more of them");
}

#[test]
fn receipts_are_merged_by_the_maximum() {
    let receipt = |delivered_seq, seen_seq| Receipt {
        user_id: OTHER,
        delivered_seq,
        seen_seq,
        ..Default::default()
    };
    let mut timeline = empty();
    assert!(timeline.would_move(&[receipt(4, 2)]));
    timeline.receive(&[receipt(4, 2)]);
    assert!(!timeline.would_move(&[receipt(3, 1)]));
    timeline.receive(&[receipt(3, 1)]);
    live(&mut timeline, said(1, OTHER, "one"));
    let kept: Vec<_> = timeline.receipts().cloned().collect();
    assert_eq!(kept, [receipt(4, 2)]);
}

#[test]
fn speaking_is_having_read() {
    let mut timeline = empty();
    live(&mut timeline, said(1, OTHER, "one"));
    assert_eq!(timeline.reading().unread, 1);
    live(&mut timeline, said(2, ME, "two"));
    assert_eq!((timeline.reading().seen, timeline.reading().unread), (2, 0));
    live(&mut timeline, said(3, OTHER, "three"));
    live(&mut timeline, deleted(4, 3));
    assert_eq!(timeline.reading().unread, 0);
}

#[test]
fn only_messages_of_others_are_to_be_told_as_delivered() {
    let mut timeline = empty();
    live(&mut timeline, said(1, ME, "one"));
    assert_eq!(timeline.undelivered(), None);
    live(&mut timeline, said(2, OTHER, "two"));
    live(&mut timeline, edited(3, 2, "three"));
    assert_eq!(timeline.undelivered(), Some(3));
    timeline.told(3);
    assert_eq!(timeline.undelivered(), None);
}

#[test]
fn trimming_keeps_the_newest() {
    let mut timeline = empty();
    timeline.take(
        1,
        10,
        10,
        (1..=10).map(|seq| said(seq, OTHER, "x")).collect(),
    );
    timeline.trim(3);
    assert_eq!(seqs(&timeline), [8, 9, 10]);
    assert_eq!(timeline.older(), Some(Older::Before(8)));
    assert_eq!(timeline.reading().unread, 10);
}
