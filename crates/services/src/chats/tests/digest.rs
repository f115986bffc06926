//! Digests: what two must agree on who hold the same.

use sha2::{Digest as _, Sha256};

use super::bench::*;
use crate::chats::digest::{self, Digest};
use crate::ids::{ChatId, MessageId, UserId};

fn key() -> SendKey {
    SendKey {
        device: "device".into(),
        client_message_id: "message-1".into(),
    }
}

fn shown(seq: Seq, body: EventBody) -> Shown {
    let event = Event {
        chat: ChatId(9),
        seq,
        at_ms: BEGIN_MS,
        actor: UserId(258),
        messages: 1,
        body,
    };
    Shown {
        event: Arc::new(event),
        hidden: false,
        mine: vec![],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that are hashed, written down by hand from docs/protocol/sync.md.
#[test]
fn leaves_are_those_that_the_protocol_says() {
    let mut message = Message::plain(MessageId(0x0102_0304_0506_0708), key(), "té".into(), 5);
    message.changed = 7;
    let there = shown(5, EventBody::Message(message.clone()));
    let hidden = Shown {
        hidden: true,
        ..there.clone()
    };
    message.deletion = Some(Deletion {
        reason: DeletionReason::Sender,
        by: UserId(258),
    });
    message.text = String::new();
    let deleted = shown(5, EventBody::Message(message));
    let head = b"m\0\0\0\0\0\0\0\x05\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x07";
    let pinned = shown(6, EventBody::Pinned(5));
    for (shown, bytes) in [
        (&there, [&head[..], b"\0t\xc3\xa9"].concat()),
        (&hidden, [&head[..], b"\x02"].concat()),
        (&deleted, [&head[..], b"\x01"].concat()),
        (
            &pinned,
            b"e\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\x01\x02".to_vec(),
        ),
    ] {
        assert_eq!(hex(&digest::leaf(shown)), hex(&Sha256::digest(bytes)));
    }
    // The same as numbers, for who writes a client.
    assert_eq!(
        hex(&digest::leaf(&there)),
        "0903017e9f513a5709a1d5f297b8e345ca129be24d054903a8f7335688319575"
    );
    assert_eq!(
        hex(&digest::leaf(&pinned)),
        "3a09e662df425d3c78c24140014d5f2409c4276bca23673e88634cac16f50d87"
    );
}

#[tokio::test]
async fn a_part_is_digested_in_blocks_as_its_reader_sees_it() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    for n in 0..11 {
        bench.say(&owner, &n.to_string()).await;
    }
    let two = bench.also(2, &owner).await;
    let digests = async |member: &Member, from, to, block| {
        let (digests, head) = bench.chats.digests(member, from, to, block).await.unwrap();
        assert_eq!(head, bench.chats.chat(member).await.unwrap().chat.head);
        digests
    };
    let ends = |digests: &[Digest]| digests.iter().map(|d| (d.from, d.to)).collect::<Vec<_>>();
    let all = digests(&owner, 1, 12, 5).await;
    assert_eq!(ends(&all), [(1, 5), (6, 10), (11, 12)]);
    assert_eq!(ends(&digests(&owner, 3, 99, 0).await), [(3, 12)]);
    assert_eq!(ends(&digests(&owner, 6, 10, 5).await), [(6, 10)]);
    assert_eq!(digests(&owner, 6, 10, 5).await, all[1..2]);
    assert_eq!(digests(&owner, 13, 99, 5).await, []);
    assert_eq!(digests(&two, 1, 12, 5).await, all);
    // A digest is the first half of SHA-256 over the leaves.
    let mut sha = Sha256::new();
    for seq in 11..=12 {
        sha.update(digest::leaf(&bench.event(&owner, seq).await));
    }
    assert_eq!(all[2].digest, sha.finalize()[..16]);
    // What is hidden differs for one, what is deleted for both.
    bench.chats.hide(&two, vec![3]).await.unwrap();
    let of_two = digests(&two, 1, 12, 5).await;
    assert_ne!(of_two[0], all[0]);
    assert_eq!(of_two[1..], all[1..]);
    assert_eq!(digests(&owner, 1, 12, 5).await, all);
    bench.chats.delete(&owner, vec![8]).await.unwrap();
    let after = digests(&owner, 1, 12, 5).await;
    assert_eq!((after[0], after[2]), (all[0], all[2]));
    assert_ne!(after[1], all[1]);
}

#[tokio::test]
async fn a_part_has_at_most_ten_thousand_events() {
    let bench = Bench::new();
    let member = bench.direct(1, 2).await;
    let digests = async |from, to| bench.chats.digests(&member, from, to, 1).await;
    assert_eq!(digests(1, 10_000).await.unwrap(), (vec![], 0));
    for (from, to) in [(1, 10_001), (0, 5), (6, 5), (1, Seq::MAX)] {
        assert_eq!(reason(digests(from, to).await), "INVALID_REQUEST");
    }
}
