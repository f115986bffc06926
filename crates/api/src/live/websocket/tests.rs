use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;

use super::*;

/// How large a message may be here.
const MAX: usize = 300_000;

type Server = WebSocket<DuplexStream>;

/// A server, and the bytes to it and from it, of which so many fit between the two.
fn raw(fit: usize) -> (Server, DuplexStream) {
    let (server, client) = duplex(fit);
    (WebSocket::new(server, Vec::new(), MAX), client)
}

/// A server and a client of another make.
async fn pair(fit: usize) -> (Server, WebSocketStream<DuplexStream>) {
    let (server, client) = raw(fit);
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (server, client)
}

async fn next(server: &mut Server) -> Received<(Kind, Vec<u8>)> {
    let receiving = server.receive(|kind, bytes| (kind, bytes.to_vec()));
    let received = tokio::time::timeout(Duration::from_secs(20), receiving);
    received.await.expect("nothing came")
}

fn text(words: &str) -> Received<(Kind, Vec<u8>)> {
    Received::Message((Kind::Text, words.into()))
}

/// A frame of a client that begins like this.
fn frame(first: u8, payload: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = random.random::<u32>().to_ne_bytes();
    frame.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn seeded() -> StdRng {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[tokio::test]
async fn messages_of_any_size_come_as_they_were_sent_both_ways() {
    let mut random = seeded();
    let (mut server, mut client) = pair(3_000).await;
    let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000, 299_999];
    let mut messages: Vec<Vec<u8>> = sizes.map(|size| vec![7; size]).into();
    for _ in 0..200 {
        let mut message = vec![0; random.random_range(0..2_000)];
        random.fill_bytes(&mut message);
        messages.push(message);
    }
    let sent = messages.clone();
    let talking = async {
        for message in sent {
            let message = Message::Binary(message.into());
            client.send(message.clone()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), message);
        }
        for words in ["", "hello", "🫖"] {
            client.send(Message::Text(words.into())).await.unwrap();
        }
    };
    let answering = async {
        for message in &messages {
            let received = next(&mut server).await;
            assert_eq!(received, Received::Message((Kind::Binary, message.clone())));
            server.put(Kind::Binary, message);
            server.flush_much().await.unwrap();
            server.flush().await.unwrap();
        }
        for words in ["", "hello", "🫖"] {
            assert_eq!(next(&mut server).await, text(words));
        }
        // At rest it holds nothing.
        assert_eq!(server.receive(|_, _| ()).now_or_never(), None);
        assert_eq!((server.input.capacity(), server.output.capacity()), (0, 0));
    };
    tokio::join!(talking, answering);
}

#[tokio::test]
async fn however_the_bytes_are_cut_the_messages_are_the_same() {
    let mut random = seeded();
    for _ in 0..100 {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.random_range(1..20) {
            let mut message = vec![0; random.random_range(0..400)];
            random.fill_bytes(&mut message);
            let parts = random.random_range(1..4);
            for part in 0..parts {
                let at = |part: usize| message.len() * part / parts;
                let opcode = if part == 0 { 2 } else { 0 };
                let last = if part + 1 == parts { 0x80 } else { 0 };
                let payload = &message[at(part)..at(part + 1)];
                bytes.extend(frame(last | opcode, payload, &mut random));
                if random.random_bool(0.2) {
                    bytes.extend(frame(0x8A, b"pong", &mut random));
                }
            }
            expected.push(message);
        }
        let (mut server, mut client) = raw(1 << 20);
        let cuts = random.random_range(1..200);
        let mut told = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=cuts).min(rest.len()));
            client.write_all(now).await.unwrap();
            rest = later;
            while let Some(received) = server.receive(|_, bytes| bytes.to_vec()).now_or_never() {
                match received {
                    Received::Message(message) => told.push(message),
                    Received::Sign => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(told, expected);
        assert_eq!(server.input.capacity(), 0);
    }
}

#[tokio::test]
async fn what_the_protocol_forbids_ends_it() {
    let mut random = seeded();
    let whole = |first| frame(first, b"x", &mut StdRng::seed_from_u64(1));
    let mut unmasked = whole(0x81);
    unmasked[1] &= 0x7F;
    let in_between = [whole(0x01), whole(0x81)].concat();
    let long_ping = frame(0x89, &[0; 126], &mut random);
    for (what, bytes) in [
        ("not masked", unmasked),
        ("a reserved bit", whole(0xC1)),
        ("an unknown frame", whole(0x83)),
        ("an unknown control frame", whole(0x8B)),
        ("more of nothing", whole(0x80)),
        ("another message within one", in_between),
        ("a ping in parts", whole(0x09)),
        ("a long ping", long_ping),
        ("half a code", whole(0x88)),
    ] {
        let (mut server, mut client) = raw(1_000);
        client.write_all(&bytes).await.unwrap();
        assert_eq!(
            next(&mut server).await,
            Received::Bad(Bad::Protocol),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_known_by_its_head() {
    let (mut server, mut client) = raw(1 << 20);
    let mut head = vec![0x82, 0x80 | 127];
    head.extend_from_slice(&(MAX as u64 + 1).to_be_bytes());
    client.write_all(&head).await.unwrap();
    assert_eq!(next(&mut server).await, Received::Bad(Bad::TooLarge));

    // Also when its parts are not.
    let mut random = seeded();
    let (mut server, mut client) = raw(1 << 20);
    let part = vec![1; MAX - 10];
    client
        .write_all(&frame(0x02, &part, &mut random))
        .await
        .unwrap();
    client
        .write_all(&frame(0x80, &part[..10], &mut random))
        .await
        .unwrap();
    let Received::Message((Kind::Binary, whole)) = next(&mut server).await else {
        panic!("it is just small enough")
    };
    assert_eq!(whole.len(), MAX);
    client
        .write_all(&frame(0x02, &part, &mut random))
        .await
        .unwrap();
    client
        .write_all(&frame(0x80, &part[..11], &mut random))
        .await
        .unwrap();
    assert_eq!(next(&mut server).await, Received::Bad(Bad::TooLarge));
}

#[tokio::test]
async fn a_ping_is_answered_and_who_takes_no_answers_costs_no_memory() {
    let (mut server, mut client) = pair(1_000).await;
    client
        .send(Message::Ping("are you there?".into()))
        .await
        .unwrap();
    assert_eq!(next(&mut server).await, Received::Sign);
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("are you there?".into()));

    let mut random = seeded();
    let (mut server, mut client) = raw(200);
    let ping = frame(0x89, &[1; 100], &mut random);
    for _ in 0..2_000 {
        client.write_all(&ping).await.unwrap();
        assert_eq!(next(&mut server).await, Received::Sign);
    }
    assert!(server.output.len() < WRITE_BYTES + 200);
    // What is taken then comes from the beginning, whole.
    let mut answers = vec![0; 102 * 50];
    let sending = async {
        server.flush().await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        taken = client.read_exact(&mut answers) => assert_eq!(taken.unwrap(), 102 * 50),
        () = sending => {}
    }
    assert!(
        answers
            .chunks(102)
            .all(|answer| answer[..3] == [0x8A, 100, 1])
    );
}

#[tokio::test]
async fn both_sides_can_close_and_hear_why() {
    let (mut server, mut client) = pair(1_000).await;
    let closing = async {
        let Some(Ok(Message::Close(Some(why)))) = client.next().await else {
            panic!("not closed")
        };
        // Going on, the client answers.
        while client.next().await.is_some() {}
        why
    };
    let (why, ()) = tokio::join!(closing, server.close(4_001, "go away"));
    assert_eq!((u16::from(why.code), &*why.reason), (4_001, "go away"));

    let (mut server, mut client) = pair(1_000).await;
    let why = CloseFrame {
        code: 1_000.into(),
        reason: "bye".into(),
    };
    client.send(Message::Close(Some(why))).await.unwrap();
    assert_eq!(next(&mut server).await, Received::Gone);
    let Some(Ok(Message::Close(Some(answer)))) = client.next().await else {
        panic!("not answered")
    };
    assert_eq!(u16::from(answer.code), 1_000);

    let (mut server, client) = pair(1_000).await;
    drop(client);
    assert_eq!(next(&mut server).await, Received::Gone);
    server.put(Kind::Text, &[1; WRITE_BYTES]);
    assert!(server.flush_much().await.is_err());
}

#[tokio::test]
async fn what_came_with_the_handshake_is_not_lost() {
    let mut random = seeded();
    let came = frame(0x81, b"early", &mut random);
    let (stream, mut client) = duplex(100);
    let (first, rest) = came.split_at(4);
    let mut server = WebSocket::new(stream, first.to_vec(), MAX);
    client.write_all(rest).await.unwrap();
    assert_eq!(next(&mut server).await, text("early"));
}

#[tokio::test]
async fn no_bytes_make_it_panic() {
    let mut random = seeded();
    for _ in 0..2_000 {
        let (mut server, mut client) = raw(4_000);
        let mut bytes = vec![0; random.random_range(0..600)];
        random.fill_bytes(&mut bytes);
        if bytes.len() > 2 && random.random_bool(0.8) {
            // Often a head that is one.
            bytes[0] = [0x01, 0x81, 0x82, 0x89, 0x8A, 0x88, 0x00, 0x80][random.random_range(0..8)];
            bytes[1] |= 0x80;
        }
        client.write_all(&bytes).await.unwrap();
        drop(client);
        while let Received::Message(()) | Received::Sign = server.receive(|_, _| ()).await {}
    }
}
