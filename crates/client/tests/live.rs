//! The live connection against a server that does what the test tells it.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod peer;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use peer::*;
use tertulia_client::proto::chats::list_events_request::From as Start;
use tertulia_client::proto::chats::{Event, ListEventsRequest, ListEventsResponse, Message};
use tertulia_client::proto::errors::Reason;
use tertulia_client::proto::live::connect_request::Frame as Up;
use tertulia_client::proto::live::{Behind, CaughtUp, ChatEvent, Goodbye, Renewed};
use tertulia_client::store::memory::Memory;
use tertulia_client::{Connection, Error, State};

fn store() -> Arc<Memory> {
    Arc::default()
}

#[tokio::test]
async fn a_restarted_client_resumes_with_the_cursor_of_what_it_shows() {
    let (mut peer, kept) = (Peer::start().await, store());
    let client = peer.client(Arc::clone(&kept)).await;
    let (mut session, hello) = peer.welcome(b"one", fresh(3)).await;
    assert!(hello.cursor.is_empty());
    session.send(live(4)).await;
    session.send(heartbeat(4, b"two")).await;
    session.alive().await;
    shows(&client, &[3, 4]).await;
    client.stop().await;
    drop(client);

    let client = peer.builder(kept).build().unwrap();
    assert_eq!(shown(&client), [3, 4], "what was shown is still there");
    client.start();
    let (_session, hello) = peer.welcome(b"three", delta(vec![said(5), said(6)])).await;
    assert_eq!(hello.cursor, b"two");
    shows(&client, &[3, 4, 5, 6]).await;
}

#[tokio::test]
async fn a_hole_is_asked_for_and_nothing_behind_it_is_shown_before() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    session.send(live(2)).await;
    session.send(live(5)).await;
    let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(2)));
    assert_eq!(shown(&client), [1, 2]);
    let events = vec![said(3), said(4), said(5)];
    session
        .reply(
            call,
            ListEventsResponse {
                events,
                head: 5,
                ..Default::default()
            },
        )
        .await;
    shows(&client, &[1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn a_lost_tail_shows_in_the_heads_and_the_cursor_waits_for_it() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    // Event 2 is lost on the way.
    session.send(heartbeat(2, b"two")).await;
    let (_call, request) = session.call::<ListEventsRequest>("ListEvents").await;
    assert_eq!(request.from, Some(Start::AfterSeq(1)));
    // The connection breaks before the answer: the cursor must still be the old one.
    session.cut();
    let (mut session, hello) = peer.hello().await;
    assert_eq!(hello.cursor, b"one");
    session
        .send(welcome(30_000, b"two", delta(vec![said(2)])))
        .await;
    shows(&client, &[1, 2]).await;
    session.cut();
    assert_eq!(peer.hello().await.1.cursor, b"two");
}

#[tokio::test]
async fn what_comes_twice_is_shown_once() {
    let mut peer = Peer::start().await;
    let (seen, observer) = recorder();
    let client = peer.builder(store()).observer(observer).build().unwrap();
    client
        .sign_in("ana", "a long enough password")
        .await
        .unwrap();
    client.start();
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    for seq in [1, 1, 2, 1, 2, 3] {
        session.send(live(seq)).await;
    }
    session.cut();
    let (mut session, _) = peer
        .welcome(b"two", delta(vec![said(1), said(2), said(3), said(4)]))
        .await;
    session.send(live(4)).await;
    session.send(live(5)).await;
    shows(&client, &[1, 2, 3, 4, 5]).await;
    assert_eq!(*seen.lock(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_client_that_is_behind_catches_up() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(1)).await;
    session
        .send(Behind {
            dropped: 3,
            ..Default::default()
        })
        .await;
    let Up::CatchUp(asked) = session.next().await else {
        panic!("not asked")
    };
    assert_eq!(asked.cursor, b"one");
    let missed = missed(b"four", delta(vec![said(2), said(3), said(4)])).into();
    session
        .send(CaughtUp {
            missed,
            ..Default::default()
        })
        .await;
    session.send(live(5)).await;
    shows(&client, &[1, 2, 3, 4, 5]).await;
    session.cut();
    assert_eq!(peer.hello().await.1.cursor, b"four");
}

#[tokio::test]
async fn a_cut_between_commit_and_answer_repeats_under_the_same_id() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    let id = client.send(1, "hello").await.unwrap();
    let (_, request) = session.message().await;
    assert_eq!(
        (request.client_message_id.as_str(), request.text.as_str()),
        (id.as_str(), "hello")
    );
    session.cut();

    let (mut session, _) = peer.welcome(b"two", delta(vec![])).await;
    let (call, again) = session.message().await;
    assert_eq!(again.client_message_id, id);
    // The server remembers the first time, and both the answer and the event say so.
    session.stored(call, 1).await;
    let event = own_event(1, &id);
    session
        .send(ChatEvent {
            prev: 0,
            event: event.into(),
            ..Default::default()
        })
        .await;
    session.send(live(2)).await;
    shows(&client, &[1, 2]).await;
    assert!(client.outbox().is_empty() && client.chat(1, 10).unwrap().pending.is_empty());
}

#[tokio::test]
async fn a_message_that_the_log_already_holds_is_not_sent_again() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let id = client.send(1, "hello").await.unwrap();
    session.message().await;
    session.cut();

    let (mut session, _) = peer.welcome(b"two", delta(vec![own_event(1, &id)])).await;
    eventually(&client, "confirmed", |c| c.outbox().is_empty()).await;
    // The next thing that the client sends is the next message.
    let next = client.send(1, "more").await.unwrap();
    assert_eq!(session.message().await.1.client_message_id, next);
    assert_eq!(shown(&client), [1]);
}

#[tokio::test]
async fn a_message_written_offline_survives_a_restart_and_goes_out() {
    let (mut peer, kept) = (Peer::start().await, store());
    let client = peer.builder(Arc::clone(&kept)).build().unwrap();
    client
        .sign_in("ana", "a long enough password")
        .await
        .unwrap();
    let id = client.send(1, "later").await.unwrap();
    drop(client);

    let client = peer.builder(kept).build().unwrap();
    assert_eq!(client.outbox()[0].state, State::Queued);
    client.start();
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let (call, request) = session.message().await;
    assert_eq!(request.client_message_id, id);
    session.stored(call, 1).await;
    shows(&client, &[1]).await;
}

#[tokio::test]
async fn messages_of_a_chat_go_out_in_the_order_in_which_they_were_written() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    for text in ["a", "b", "c"] {
        client.send(1, text).await.unwrap();
    }
    for (seq, text) in [(1, "a"), (2, "b"), (3, "c")] {
        let (call, request) = session.message().await;
        assert_eq!(request.text, text);
        // While this one is on its way, the next is not: the first sign is one of life.
        session.alive().await;
        session.stored(call, seq).await;
    }
    shows(&client, &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_refused_message_fails_and_the_next_one_goes_out() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let bad = client.send(1, "bad").await.unwrap();
    let (call, _) = session.message().await;
    session
        .refuse(call, "permission_denied", Reason::REASON_NOT_ALLOWED)
        .await;
    eventually(&client, "failed", |c| {
        matches!(c.outbox()[0].state, State::Failed(_))
    })
    .await;
    client.send(1, "good").await.unwrap();
    let (call, request) = session.message().await;
    assert_eq!(request.text, "good");
    session.stored(call, 1).await;
    shows(&client, &[1]).await;
    assert!(client.is_settled());
    // It goes out when the person says so.
    client.retry(1, &bad).unwrap();
    let (call, request) = session.message().await;
    assert_eq!(request.client_message_id, bad);
    session.stored(call, 2).await;
    shows(&client, &[1, 2]).await;
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let id = client.send(1, "hello").await.unwrap();
    for _ in 0..3 {
        let (call, request) = session.message().await;
        assert_eq!(request.client_message_id, id);
        session
            .refuse(call, "unavailable", Reason::REASON_OVERLOADED)
            .await;
    }
    let (call, _) = session.message().await;
    session.stored(call, 1).await;
    shows(&client, &[1]).await;
}

#[tokio::test]
async fn a_goodbye_that_says_stay_away_is_respected_until_somebody_asks() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let goodbye = Goodbye {
        code: 4008,
        reason: "too_many_sessions".into(),
        ..Default::default()
    };
    session.send(goodbye).await;
    let refused = Connection::Refused {
        code: 4008,
        reason: "too_many_sessions".into(),
    };
    eventually(&client, "refused", |c| *c.connection().borrow() == refused).await;
    client.start();
    let _session = peer.welcome(b"two", delta(vec![])).await;
    online(&client).await;
}

#[tokio::test]
async fn a_goodbye_tells_when_to_come_back() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let (reason, after_ms) = ("draining".to_owned(), 37);
    session
        .send(Goodbye {
            code: 4012,
            reason,
            come_back: true,
            after_ms,
            ..Default::default()
        })
        .await;
    let told = |c: &tertulia_client::Client| match &*c.connection().borrow() {
        Connection::Offline { retry_in, .. } => retry_in.as_millis() == 37,
        _ => false,
    };
    eventually(&client, "waits as told", told).await;
    let _session = peer.welcome(b"two", delta(vec![])).await;
    online(&client).await;
}

#[tokio::test]
async fn a_silent_server_is_left_for_a_new_connection() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut silent, _) = peer.hello().await;
    silent.send(welcome(50, b"one", fresh(1))).await;
    // Nothing more comes over the first connection.
    let (_session, hello) = peer.welcome(b"two", delta(vec![said(2)])).await;
    assert_eq!(hello.cursor, b"one");
    shows(&client, &[1, 2]).await;
}

#[tokio::test]
async fn an_expired_token_is_replaced_before_coming_back() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, hello) = peer.hello().await;
    assert!(hello.access_token.starts_with("token-0"));
    let reason = "token_expired".to_owned();
    session
        .send(Goodbye {
            code: 4004,
            reason,
            come_back: true,
            ..Default::default()
        })
        .await;
    let (_session, hello) = peer.welcome(b"one", fresh(0)).await;
    assert!(hello.access_token.starts_with("token-1"));
    online(&client).await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let mut peer = Peer::start().await;
    peer.state.lifetime_s.store(1, Ordering::SeqCst);
    let _client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    let Up::Renew(renew) = session.next().await else {
        panic!("not renewed")
    };
    assert!(renew.access_token.starts_with("token-1"));
    session.send(Renewed::default()).await;
    let Up::Renew(renew) = session.next().await else {
        panic!("not renewed again")
    };
    assert!(renew.access_token.starts_with("token-2"));
}

#[tokio::test]
async fn calls_that_find_the_token_expired_share_one_refresh() {
    let peer = Peer::start().await;
    let client = peer.builder(store()).build().unwrap();
    client
        .sign_in("ana", "a long enough password")
        .await
        .unwrap();
    let calls = futures::future::join_all((0..10).map(|_| client.me())).await;
    assert!(calls.iter().all(|me| me.as_ref().unwrap().name == "ana"));
    assert_eq!(peer.state.refreshes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_ended_login_signs_out_and_keeps_what_was_written() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    peer.state.login_ended.store(true, Ordering::SeqCst);
    session
        .send(Goodbye {
            code: 4005,
            reason: "login_ended".into(),
            ..Default::default()
        })
        .await;
    eventually(&client, "signed out", |c| {
        matches!(*c.connection().borrow(), Connection::SignedOut(Some(_)))
    })
    .await;
    assert!(matches!(client.me().await, Err(Error::SignedOut)));
    let id = client.send(1, "for later").await.unwrap();
    // The same user signs in again, and the message goes out.
    client
        .sign_in("ana", "a long enough password")
        .await
        .unwrap();
    let (mut session, hello) = peer.welcome(b"two", delta(vec![])).await;
    assert_eq!(hello.cursor, b"one");
    assert_eq!(session.message().await.1.client_message_id, id);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so_and_tried_again() {
    let (mut peer, kept) = (Peer::start().await, store());
    let client = peer.client(kept).await;
    let (session, _) = peer.welcome(b"one", fresh(0)).await;
    online(&client).await;
    session.cut();
    eventually(&client, "offline", |c| {
        !matches!(*c.connection().borrow(), Connection::Online)
    })
    .await;
    let nobody = tertulia_client::Client::builder("http://127.0.0.1:1")
        .build()
        .unwrap();
    let refused = nobody.sign_in("ana", "a long enough password").await;
    assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
}

#[tokio::test]
async fn history_is_read_backwards_and_joins_what_is_shown() {
    let mut peer = Peer::start().await;
    let client = peer.client(store()).await;
    let (mut session, _) = peer.welcome(b"one", fresh(10)).await;
    shows(&client, &[10]).await;
    online(&client).await;
    let (older, ()) = tokio::join!(client.older(1, 3), async {
        let (call, request) = session.call::<ListEventsRequest>("ListEvents").await;
        assert_eq!(
            (request.from, request.limit),
            (Some(Start::BeforeSeq(10)), 3)
        );
        let events = vec![said(7), said(8), said(9)];
        session
            .reply(
                call,
                ListEventsResponse {
                    events,
                    head: 10,
                    ..Default::default()
                },
            )
            .await;
    });
    assert_eq!(older.unwrap(), 3);
    assert_eq!(shown(&client), [7, 8, 9, 10]);
    assert!(client.chat(1, 100).unwrap().older);
}

/// An event of chat 1 that this client's device made.
fn own_event(seq: i64, id: &str) -> Event {
    let message = Message {
        text: "hello".into(),
        client_message_id: id.to_owned(),
        device_id: "my-device".into(),
        changed_seq: seq,
        ..Default::default()
    };
    happened(seq, ME, message)
}
