//! Everything that happens in a conversation, against a server that does what the test tells it.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod peer;

use std::sync::Arc;

use peer::*;
use tertulia_client::proto::chats::event::Body;
use tertulia_client::proto::chats::list_events_request::From as Start;
use tertulia_client::proto::chats::*;
use tertulia_client::proto::live::connect_request::Frame as Up;
use tertulia_client::proto::live::{Changed, Delta, Head, Notice, Typing, Warmed, Watched};
use tertulia_client::proto::presence::{PresenceState, UserPresence};
use tertulia_client::store::{file::Folder, memory::Memory};
use tertulia_client::{Change, Client, NewMessage, Presence, Verified};
use tokio::sync::broadcast::Receiver;

fn store() -> Arc<Memory> {
    Arc::default()
}

fn edited(seq: i64, message_seq: i64, text: &str) -> Event {
    let edited = MessageEdited {
        message_seq,
        text: text.into(),
        ..Default::default()
    };
    happened(seq, 9, edited)
}

fn text(client: &Client, seq: i64) -> Option<String> {
    match client.event(1, seq)?.body {
        Some(Body::Message(message)) => Some(message.text.clone()),
        _ => None,
    }
}

fn unread(client: &Client) -> i64 {
    client.chat(1, 0).map_or(-1, |view| view.unread)
}

fn read_moved(seen_seq: i64, unread: i32, as_of_seq: i64) -> ReadMoved {
    let read = ReadState {
        seen_seq,
        unread,
        as_of_seq,
        ..Default::default()
    };
    ReadMoved {
        chat_id: 1,
        read: read.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_happens_to_a_message_is_folded_into_it() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    session.send(frame(edited(2, 1, "better"))).await;
    let reaction = Reaction {
        message_seq: 1,
        emoji: "👍".into(),
        ..Default::default()
    };
    let added = Body::ReactionAdded(Box::new(reaction));
    session.send(frame(happened(3, ME, added))).await;
    let pinned = Body::Pinned(Box::new(Pin {
        message_seq: 1,
        ..Default::default()
    }));
    session.send(frame(happened(4, 9, pinned))).await;
    shows(&client, &[1, 2, 3, 4]).await;
    let row = client.event(1, 1).unwrap();
    let Some(Body::Message(message)) = &row.body else {
        panic!("not a message")
    };
    assert_eq!(
        (message.text.as_str(), message.edited_at_ms),
        ("better", 2_000)
    );
    let reaction = &message.reactions[0];
    assert!(reaction.count == 1 && reaction.mine && message.pinned);
    assert_eq!(client.chat(1, 0).unwrap().chat.pinned_seqs, [1]);

    let deleted = MessagesDeleted {
        message_seqs: vec![1],
        ..Default::default()
    };
    session.send(frame(happened(5, 9, deleted))).await;
    shows(&client, &[1, 2, 3, 4, 5]).await;
    assert_eq!(text(&client, 1).as_deref(), Some(""));
    assert!(client.chat(1, 0).unwrap().chat.pinned_seqs.is_empty());
}

#[tokio::test]
async fn after_a_long_absence_the_end_is_shown_and_the_old_part_is_brought_up_to_date() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for seq in 1..=3 {
        session.send(live(seq)).await;
    }
    shows(&client, &[1, 2, 3]).await;
    session.cut();

    // 2,000 events were missed: only where the log ends is told.
    let changed = Changed {
        chats: vec![chat(2_003, 0)],
        ..Default::default()
    };
    let (mut session, _) = peer.welcome(b"two", changed).await;
    let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(1_953)));
    let events = (1_954..=2_003).map(said).collect();
    let page = ListEventsResponse {
        events,
        head: 2_003,
        ..Default::default()
    };
    session.reply(call, page).await;
    let newest: Vec<i64> = (1_954..=2_003).collect();
    shows(&client, &newest).await;
    assert_eq!(
        unread(&client),
        2_003,
        "what is unread came with the answer"
    );

    // Somebody scrolls up to where the old part begins.
    let scroll = async {
        let mut before = 1_954;
        while before > 4 {
            client.older(1, 200).await.unwrap();
            before = *shown_all(&client).first().unwrap();
        }
        client.older(1, 200).await.unwrap()
    };
    let serve = async {
        let mut before = 1_954;
        while before > 4 {
            let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
            assert_eq!(request.from, Some(Start::BeforeSeq(before)));
            let from = (before - 200).max(4);
            let events = (from..before).map(said).collect();
            let page = ListEventsResponse {
                events,
                head: 2_003,
                ..Default::default()
            };
            session.reply(call, page).await;
            before = from;
        }
        let (call, request) = session.call::<ListChangesRequest>("ListChanges").await;
        let asked = (request.from_seq, request.to_seq, request.after_seq);
        assert_eq!(asked, (1, 3, 3));
        let mut second = said(2);
        if let Some(Body::Message(message)) = &mut second.body {
            message.text = "changed meanwhile".into();
            message.changed_seq = 900;
        }
        let answer = ListChangesResponse {
            events: vec![second],
            through_seq: 2_003,
            ..Default::default()
        };
        session.reply(call, answer).await;
    };
    let (came, ()) = tokio::join!(scroll, serve);
    assert_eq!(came, 3);
    assert_eq!(shown_all(&client), (1..=2_003).collect::<Vec<_>>());
    assert_eq!(text(&client, 2).as_deref(), Some("changed meanwhile"));
    assert!(!client.chat(1, usize::MAX).unwrap().older);
}

fn shown_all(client: &Client) -> Vec<i64> {
    let view = client.chat(1, usize::MAX).expect("it is known");
    view.events.iter().map(|event| event.seq).collect()
}

#[tokio::test]
async fn a_chat_that_was_left_is_frozen_until_the_user_comes_back() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    let left = ChatLeft {
        chat_id: 1,
        reason: LeftReason::LEFT_REASON_REMOVED.into(),
        by: 9,
        ..Default::default()
    };
    session.send(own(1, left)).await;
    // A head that is known does not make the client ask for what it may not read.
    session.send(heartbeat(3, b"two")).await;
    session.alive().await;
    eventually(&client, "left", |c| c.chat(1, 0).unwrap().left.is_some()).await;
    assert!(client.is_settled());

    let joined = ChatJoined {
        chat: chat(3, 3).into(),
        ..Default::default()
    };
    session.send(own(2, joined)).await;
    let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(1)));
    let page = ListEventsResponse {
        events: vec![said(2), said(3)],
        head: 3,
        ..Default::default()
    };
    session.reply(call, page).await;
    shows(&client, &[1, 2, 3]).await;
    assert!(client.chat(1, 0).unwrap().left.is_none());
}

#[tokio::test]
async fn what_is_read_on_one_device_is_read_on_the_other() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    for seq in 2..=4 {
        session.send(live(seq)).await;
    }
    eventually(&client, "three unread", |c| unread(c) == 3).await;
    // The other device has seen the third one; a fourth came while that was on its way.
    session.send(own(1, read_moved(3, 1, 4))).await;
    eventually(&client, "one unread", |c| unread(c) == 1).await;
    session.send(live(5)).await;
    eventually(&client, "two unread", |c| unread(c) == 2).await;
    // This one reads on, and an older word of the other changes nothing.
    let marked = async {
        let (call, request) = session.call::<MarkReadRequest>("MarkRead").await;
        assert_eq!((request.chat_id, request.seen_seq), (1, 5));
        let read = read_moved(5, 0, 5).read;
        let answer = MarkReadResponse {
            read,
            ..Default::default()
        };
        session.reply(call, answer).await;
    };
    let (done, ()) = tokio::join!(client.mark_read(1, 5), marked);
    done.unwrap();
    assert_eq!(unread(&client), 0);
    session.send(own(2, read_moved(4, 1, 5))).await;
    session.alive().await;
    assert_eq!((unread(&client), client.chat(1, 0).unwrap().seen), (0, 5));
}

#[tokio::test]
async fn a_message_that_was_hidden_elsewhere_is_hidden_here_and_still_counts() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    session.send(live(1)).await;
    let hidden = MessagesHidden {
        chat_id: 1,
        message_seqs: vec![1, 2],
        ..Default::default()
    };
    session.send(own(1, hidden)).await;
    session.send(live(2)).await;
    shows(&client, &[1, 2]).await;
    eventually(&client, "hidden", |c| text(c, 1).as_deref() == Some("")).await;
    assert_eq!(text(&client, 2).as_deref(), Some(""));
    assert_eq!(unread(&client), 2);
}

#[tokio::test]
async fn drafts_choices_and_scheduled_messages_are_those_of_all_devices() {
    let (mut peer, kept) = (Peer::start().await, store());
    let client = peer.client(Arc::clone(&kept)).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let draft = Draft {
        text: "begun elsewh".into(),
        ..Default::default()
    };
    let draft = DraftChanged {
        chat_id: 1,
        draft: draft.into(),
        ..Default::default()
    };
    session.send(own(1, draft)).await;
    let settings = ChatSettings {
        muted_until_ms: -1,
        ..Default::default()
    };
    let settings = SettingsChanged {
        chat_id: 1,
        settings: settings.into(),
        ..Default::default()
    };
    session.send(own(2, settings)).await;
    let later = |scheduled_id, send_at_ms| ScheduleChanged {
        scheduled_id,
        scheduled: ScheduledMessage {
            scheduled_id,
            chat_id: 1,
            send_at_ms,
            ..Default::default()
        }
        .into(),
        ..Default::default()
    };
    session.send(own(3, later(50, 2_000))).await;
    session.send(own(4, later(51, 1_000))).await;
    let sent = ScheduleChanged {
        scheduled_id: 50,
        ..Default::default()
    };
    session.send(own(5, sent)).await;
    session.alive().await;
    let check = |client: &Client| {
        let view = client.chat(1, 0).unwrap();
        assert_eq!(view.draft.map(|d| d.text).as_deref(), Some("begun elsewh"));
        assert_eq!(view.settings.muted_until_ms, -1);
        let scheduled = client.scheduled();
        assert_eq!(
            scheduled.iter().map(|s| s.scheduled_id).collect::<Vec<_>>(),
            [51]
        );
    };
    check(&client);
    client.stop().await;
    drop(client);
    check(&peer.builder(kept).build().unwrap());
}

#[tokio::test]
async fn a_lost_own_event_is_asked_for_and_taken_in_its_order() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(3)).await;
    let second = own(2, read_moved(3, 0, 3));
    session.send(second).await;
    let (call, request) = session
        .call::<ListUserEventsRequest>("ListUserEvents")
        .await;
    assert_eq!(request.after_seq, 0);
    let event = |seq, body| UserEvent {
        seq,
        body: Some(body),
        ..Default::default()
    };
    let unread = SettingsChanged {
        chat_id: 1,
        settings: ChatSettings {
            marked_unread: true,
            ..Default::default()
        }
        .into(),
        ..Default::default()
    };
    let events = vec![
        event(1, unread.into()),
        event(2, read_moved(3, 0, 3).into()),
    ];
    let page = ListUserEventsResponse {
        events,
        head: 2,
        ..Default::default()
    };
    session.reply(call, page).await;
    session.alive().await;
    let view = client.chat(1, 0).unwrap();
    assert!(!view.settings.marked_unread, "reading clears the mark");
}

#[tokio::test]
async fn receipts_move_forwards_however_they_come() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(5)).await;
    let receipts = |delivered_seq, seen_seq| ChatReceipts {
        chat_id: 1,
        receipts: vec![Receipt {
            user_id: 9,
            delivered_seq,
            seen_seq,
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut changes = client.changes();
    session.send(receipts(8, 7)).await;
    session.send(receipts(7, 6)).await;
    session.alive().await;
    let held = client.chat(1, 0).unwrap().receipts;
    let other = held.iter().find(|receipt| receipt.user_id == 9).unwrap();
    assert_eq!((other.delivered_seq, other.seen_seq), (8, 7));
    let mut told = 0;
    while let Ok(change) = changes.try_recv() {
        told += usize::from(change == Change::Receipts(1));
    }
    assert_eq!(told, 1, "what moves nothing is not told");
}

#[tokio::test]
async fn what_has_reached_the_device_is_told_gathered() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for seq in 1..=20 {
        session.send(live(seq)).await;
    }
    shows(&client, &(1..=20).collect::<Vec<_>>()).await;
    while session.delivered.last() != Some(&(1, 20)) {
        session.alive().await;
    }
    let told = session.delivered.len();
    assert!(told < 20, "told {told} times");
    assert!(session.delivered.is_sorted());
}

#[tokio::test]
async fn a_message_carries_what_it_answers_and_whom_it_mentions() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    let mentions = Mentions {
        user_ids: vec![9],
        ..Default::default()
    };
    let new = NewMessage {
        text: "yes".into(),
        reply_to_seq: 1,
        thread_seq: 1,
        mentions: Some(mentions.clone()),
    };
    client.send_message(1, new).await.unwrap();
    let (call, request) = session.message().await;
    assert_eq!((request.reply_to_seq, request.thread_seq), (1, 1));
    assert_eq!(request.mentions.as_option(), Some(&mentions));
    session.stored(call, 2).await;
    shows(&client, &[1, 2]).await;
    let root = client.event(1, 1).unwrap();
    let Some(Body::Message(root)) = &root.body else {
        panic!("not a message")
    };
    assert_eq!((root.reply_count, root.last_reply_seq), (1, 2));
}

#[tokio::test]
async fn an_answered_message_waits_for_its_event_and_is_not_sent_again() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let id = client.send(1, "hello").await.unwrap();
    let (call, _) = session.message().await;
    session.answered(call, 1).await;
    // The live frame is lost: the log has the event.
    let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(0)));
    let pending = client.chat(1, 10).unwrap().pending;
    assert_eq!(pending[0].client_message_id, id, "it is seen all the time");
    let message = Message {
        text: "hello".into(),
        client_message_id: id,
        device_id: "my-device".into(),
        changed_seq: 1,
        ..Default::default()
    };
    let page = ListEventsResponse {
        events: vec![happened(1, ME, message)],
        head: 1,
        ..Default::default()
    };
    session.reply(call, page).await;
    shows(&client, &[1]).await;
    let view = client.chat(1, 10).unwrap();
    assert!(view.pending.is_empty() && client.outbox().is_empty());
}

#[tokio::test]
async fn a_thousand_messages_written_offline_go_out_in_their_order_after_a_restart() {
    const COUNT: i64 = 1_000;
    let mut peer = Peer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let store = Arc::new(Folder::open(folder.path()).unwrap());
        Client::builder(&peer.url).store(store).build().unwrap()
    };
    let client = open();
    client
        .sign_in("ana", "a long enough password")
        .await
        .unwrap();
    // Begun in their order; the disk is waited for together.
    let writing = (1..=COUNT).map(|n| {
        let client = client.clone();
        async move { client.send(1, &format!("number {n}")).await }
    });
    let written = futures::future::try_join_all(writing).await.unwrap();
    assert_eq!(written.len() as i64, COUNT);
    drop(client);

    let client = open();
    assert_eq!(client.outbox().len() as i64, COUNT);
    client.start();
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for n in 1..=COUNT {
        let (call, request) = session.message().await;
        assert_eq!(request.text, format!("number {n}"));
        session.stored(call, n).await;
    }
    eventually(&client, "all are events", |c| c.outbox().is_empty()).await;
    assert_eq!(shown_all(&client), (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_types_is_told_and_kept_nowhere() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    let mut changes = client.changes();
    session
        .send(Typing {
            chat_id: 1,
            user_id: 9,
            ..Default::default()
        })
        .await;
    session.alive().await;
    let typing = Change::Typing { chat: 1, user: 9 };
    let mut told = std::iter::from_fn(|| changes.try_recv().ok());
    assert!(told.any(|change| change == typing));
}

#[tokio::test]
async fn what_is_told_from_outside_is_handed_on_and_kept_nowhere() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    let mut changes = client.changes();
    let notice = r#"{"kind": "weather", "text": "rain", "data": {"in": ["Lima"]}}"#;
    let notice: Notice = serde_json::from_str(notice).unwrap();
    session.send(notice).await;
    session.alive().await;
    let told = Change::Notice {
        kind: "weather".into(),
        text: "rain".into(),
        data: r#"{"in":["Lima"]}"#.into(),
    };
    let mut changes = std::iter::from_fn(|| changes.try_recv().ok());
    assert!(changes.any(|change| change == told));
}

#[tokio::test]
async fn warm_chats_are_named_again_on_every_connection_and_filled_up_to_their_heads() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    online(&client).await;
    client.warm(vec![1]).await;
    let Up::Warm(warm) = session.next().await else {
        panic!("not warm")
    };
    assert_eq!(warm.chat_ids, [1]);
    session.cut();
    let (mut session, _) = peer.welcome(b"two", Delta::default()).await;
    assert!(matches!(session.next().await, Up::Warm(warm) if warm.chat_ids == [1]));
    let heads = vec![Head {
        chat_id: 1,
        seq: 2,
        ..Default::default()
    }];
    session
        .send(Warmed {
            heads,
            ..Default::default()
        })
        .await;
    let (_, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(1)));
}

#[tokio::test]
async fn who_is_there_is_known_as_long_as_the_session_lasts() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    online(&client).await;
    client.watch(vec![1]).await;
    assert!(matches!(session.next().await, Up::Watch(watch) if watch.chat_ids == [1]));
    client.rest(true).await;
    assert!(matches!(session.next().await, Up::Rest(rest) if rest.idle));
    let is = |user_id, state: PresenceState| UserPresence {
        user_id,
        state: state.into(),
        ..Default::default()
    };
    let mut changes = client.changes();
    session
        .send(Watched {
            chat_ids: vec![1],
            presences: vec![is(9, PresenceState::PRESENCE_STATE_ONLINE)],
            ..Default::default()
        })
        .await;
    told(&mut changes, Change::Presence(None)).await;
    assert_eq!(client.presence(9), Some(Presence::Online));
    session
        .send(is(9, PresenceState::PRESENCE_STATE_AWAY))
        .await;
    told(&mut changes, Change::Presence(Some(9))).await;
    assert_eq!(client.presence(9), Some(Presence::Away));
    session
        .send(is(9, PresenceState::PRESENCE_STATE_UNSPECIFIED))
        .await;
    told(&mut changes, Change::Presence(Some(9))).await;
    assert_eq!(client.presence(9), None);
    session
        .send(is(9, PresenceState::PRESENCE_STATE_ONLINE))
        .await;
    told(&mut changes, Change::Presence(Some(9))).await;

    session.cut();
    told(&mut changes, Change::Presence(None)).await;
    assert_eq!(client.presence(9), None);
    let (mut session, _) = peer.welcome(b"two", Delta::default()).await;
    assert!(matches!(session.next().await, Up::Watch(watch) if watch.chat_ids == [1]));
    assert!(matches!(session.next().await, Up::Rest(rest) if rest.idle));
}

async fn told(changes: &mut Receiver<Change>, wanted: Change) {
    while changes.recv().await.expect("the client is there") != wanted {}
}

#[tokio::test]
async fn what_differs_from_the_server_is_read_again() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for seq in 1..=3 {
        session.send(live(seq)).await;
    }
    shows(&client, &[1, 2, 3]).await;
    let digests = vec![Digest {
        from_seq: 1,
        to_seq: 3,
        digest: vec![0; 16],
        ..Default::default()
    }];
    let serve = async {
        let (call, request) = session.call::<GetDigestsRequest>("GetDigests").await;
        assert_eq!((request.from_seq, request.to_seq), (1, 3));
        let answer = GetDigestsResponse {
            digests,
            head: 3,
            ..Default::default()
        };
        session.reply(call, answer).await;
        let (call, _) = session.call::<ListEventsRequest>("ListEvents").await;
        let mut second = said(2);
        if let Some(Body::Message(message)) = &mut second.body {
            message.text = "as the server has it".into();
        }
        let page = ListEventsResponse {
            events: vec![said(1), second, said(3)],
            head: 3,
            ..Default::default()
        };
        session.reply(call, page).await;
    };
    let (verified, ()) = tokio::join!(client.verify(1), serve);
    let expected = Verified {
        compared: 3,
        healed: 3,
    };
    assert_eq!(verified.unwrap(), expected);
    assert_eq!(text(&client, 2).as_deref(), Some("as the server has it"));
    // What is unread is asked for again, because what was counted was not true.
    let (call, _) = session.call::<GetChatRequest>("GetChat").await;
    let answer = GetChatResponse {
        chat: chat(3, 2).into(),
        ..Default::default()
    };
    session.reply(call, answer).await;
    eventually(&client, "one unread", |c| unread(c) == 1).await;
}

#[tokio::test]
async fn a_part_with_a_message_that_was_changed_after_the_digests_is_not_compared() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for seq in 1..=3 {
        session.send(live(seq)).await;
    }
    shows(&client, &[1, 2, 3]).await;
    let serve = async {
        let (call, _) = session.call::<GetDigestsRequest>("GetDigests").await;
        // Made before the second message was edited, and overtaken by that.
        session.send(frame(edited(4, 2, "edited"))).await;
        shows(&client, &[1, 2, 3, 4]).await;
        let digest = |from_seq, to_seq| Digest {
            from_seq,
            to_seq,
            digest: vec![0; 16],
            ..Default::default()
        };
        let answer = GetDigestsResponse {
            digests: vec![digest(1, 2), digest(3, 3)],
            head: 3,
            ..Default::default()
        };
        session.reply(call, answer).await;
        let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
        assert_eq!(request.from, Some(Start::AfterSeq(2)));
        let page = ListEventsResponse {
            events: vec![said(3)],
            head: 4,
            ..Default::default()
        };
        session.reply(call, page).await;
        let (call, request) = session.call::<GetDigestsRequest>("GetDigests").await;
        assert_eq!((request.from_seq, request.to_seq), (4, 4));
        let answer = GetDigestsResponse {
            head: 4,
            ..Default::default()
        };
        session.reply(call, answer).await;
    };
    let (verified, ()) = tokio::join!(client.verify(1), serve);
    let expected = Verified {
        compared: 1,
        healed: 1,
    };
    assert_eq!(verified.unwrap(), expected);
    assert_eq!(text(&client, 2).as_deref(), Some("edited"));
}
