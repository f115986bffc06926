//! Digests of what is held, to be compared with the server's: docs/protocol/sync.md says what goes into them.

use sha2::{Digest as _, Sha256};
use tertulia_proto::chats::Event;
use tertulia_proto::chats::event::Body;

use crate::timeline::kind;

/// A part of a log in short.
pub(crate) fn digest<'a>(events: impl Iterator<Item = &'a Event>) -> [u8; 16] {
    let mut sha = Sha256::new();
    events.for_each(|event| sha.update(leaf(event)));
    let mut digest = [0; 16];
    digest.copy_from_slice(&sha.finalize()[..16]);
    digest
}

fn leaf(event: &Event) -> [u8; 32] {
    let mut sha = Sha256::new();
    match &event.body {
        Some(Body::Message(message)) => {
            let state = match (message.deletion.is_set(), message.hidden) {
                (true, _) => 1,
                (false, true) => 2,
                (false, false) => 0,
            };
            sha.update(b"m");
            sha.update(event.seq.to_be_bytes());
            sha.update(message.message_id.to_be_bytes());
            sha.update(message.changed_seq.to_be_bytes());
            sha.update([state]);
            if state == 0 {
                sha.update(message.text.as_bytes());
            }
        }
        _ => {
            sha.update(b"e");
            sha.update(event.seq.to_be_bytes());
            sha.update(i64::from(kind(event)).to_be_bytes());
            sha.update(event.actor_id.to_be_bytes());
        }
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use tertulia_proto::chats::{Deletion, Message, Pin};

    use super::*;

    fn said(text: &str) -> Message {
        Message {
            message_id: 9,
            text: text.into(),
            changed_seq: 3,
            ..Default::default()
        }
    }

    fn of(body: Body) -> [u8; 16] {
        let event = Event {
            seq: 3,
            actor_id: 7,
            body: Some(body),
            ..Default::default()
        };
        digest([event].iter())
    }

    #[test]
    fn a_digest_is_that_of_the_specification() {
        let number = |n: i64| n.to_be_bytes();
        let text: &[u8] = b"hello";
        let message = [b"m", &number(3)[..], &number(9), &number(3), &[0], text].concat();
        let pin = [b"e", &number(3)[..], &number(10), &number(7)].concat();
        for (body, bytes) in [
            (said("hello").into(), message),
            (Body::Pinned(Box::<Pin>::default()), pin),
        ] {
            let expected = Sha256::digest(Sha256::digest(bytes));
            assert_eq!(of(body), expected[..16]);
        }
    }

    #[test]
    fn what_is_deleted_or_hidden_differs_from_what_is_there() {
        let deleted = Message {
            deletion: Deletion::default().into(),
            ..said("")
        };
        let hidden = Message {
            hidden: true,
            ..said("")
        };
        let digests = [said(""), said("x"), deleted, hidden].map(|message| of(message.into()));
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[at + 1..].contains(digest));
        }
    }
}
