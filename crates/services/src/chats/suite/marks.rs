//! What a chat is to its members: how far it was read, what is left, receipts, choices, drafts.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Place;
use super::bench::*;
use super::recount::{read_state, recount};
use crate::chats::command::*;
use crate::chats::model::*;
use crate::ids::{ChatId, UserId};

/// Messages, deletions and marks at random, and after every step the read states of all are what a look at
/// every event finds.
pub async fn read_states_are_exact_on_every_step(place: &dyn Place) {
    let mut random = StdRng::seed_from_u64(seed());
    let bench = Bench::at(place).await;
    let users = [ANA, BEN, CLEO];
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    let direct = bench.open(ANA, BEN, 2).await.id;
    // What each has seen, by what they did. The first event was there when they came in.
    let mut seen = [(group, [1; 3]), (direct, [0; 3])];
    for step in 0..150 {
        let which = random.random_range(0..2);
        let (chat, seen) = &mut seen[which];
        let who = random.random_range(0..3 - which);
        let (chat, user) = (*chat, users[who]);
        let head = bench.chat(chat).await.head;
        match random.random_range(0..10) {
            0..4 => {
                let all = random.random_ratio(1, 4) && which == 0 && user == ANA;
                let new = NewMessage {
                    mentions: Mentions {
                        users: users.into_iter().filter(|_| random.random()).collect(),
                        everyone: all && random.random(),
                        role: all.then_some(Role::Admin),
                    },
                    ..message(chat, user, step)
                };
                seen[who] = sent(bench.act(user, Act::Send(new)).await).seq;
            }
            4..6 => {
                let seq = random.random_range(1..=head + 1);
                let messages = vec![seq];
                // Refused when it is somebody else's or no message; that changes nothing.
                let _ = bench.attempt(user, Act::Delete { chat, messages }).await;
            }
            6 if head > 0 => {
                let seq = random.random_range(1..=head);
                let _ = bench.attempt(user, react(chat, seq, "👍", true)).await;
            }
            7..10 => {
                let to = random.random_range(0..=head + 3);
                let read = bench.mark(chat, user, to).await;
                seen[who] = seen[who].max(to.min(head));
                assert_eq!(read, bench.standing(chat, user).await.read);
            }
            _ => {}
        }
        let log = bench.whole_log(chat).await;
        for (user, seen) in users.into_iter().zip(*seen).take(3 - which) {
            let standing = bench.standing(chat, user).await;
            let expected = read_state(&log, user, standing.membership.role, seen);
            assert_eq!(standing.read, expected, "{user} at step {step}");
        }
    }
    for chat in [group, direct] {
        recount(&**bench.store(), chat).await;
    }
}

pub async fn mentions_and_calls_are_counted(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    let act = Act::SetRole {
        chat: group,
        user: BEN,
        role: Role::Admin,
    };
    bench.made(ANA, act).await;
    bench.mark(group, BEN, 2).await;
    bench.mark(group, CLEO, 2).await;
    let call = |n, users: &[UserId], everyone, role| {
        Act::Send(NewMessage {
            mentions: Mentions {
                users: users.to_vec(),
                everyone,
                role,
            },
            ..message(group, ANA, n)
        })
    };
    // 3 to 7: Ben, both by name (one twice), admins, everybody (and Ben by name), a stranger.
    for (n, users, everyone, role) in [
        (1, &[BEN][..], false, None),
        (2, &[CLEO, BEN, CLEO], false, None),
        (3, &[], false, Some(Role::Admin)),
        (4, &[BEN], true, None),
        (5, &[DORA], false, None),
    ] {
        bench.act(ANA, call(n, users, everyone, role)).await;
    }
    let left = async |bench: &Bench<'_>| {
        let of = async |user| {
            let read = bench.standing(group, user).await.read;
            (read.unread, read.unread_mentions)
        };
        (of(BEN).await, of(CLEO).await)
    };
    assert_eq!(left(&bench).await, ((5, 4), (5, 2)));
    assert_eq!(said(&bench.event(group, 7).await).mentions.users, []);
    bench.reopen().await;
    assert_eq!(left(&bench).await, ((5, 4), (5, 2)));
    // An edit mentions others, a deletion nobody.
    let edit = |message, mentions| Act::Edit {
        chat: group,
        message,
        text: "edited".into(),
        mentions,
    };
    bench.made(ANA, edit(3, mentions(&[CLEO]))).await;
    assert_eq!(left(&bench).await, ((5, 3), (5, 3)));
    bench.made(ANA, edit(6, mentions(&[BEN]))).await;
    assert_eq!(left(&bench).await, ((5, 3), (5, 2)));
    bench.delete(group, ANA, &[4, 5]).await;
    assert_eq!(left(&bench).await, ((3, 1), (3, 1)));
    bench.mark(group, CLEO, 3).await;
    assert_eq!(left(&bench).await, ((3, 1), (2, 0)));
    // A mention of what was read long ago is no unread one.
    bench.made(ANA, edit(3, mentions(&[CLEO, BEN]))).await;
    assert_eq!(left(&bench).await, ((3, 2), (2, 0)));
    recount(&**bench.store(), group).await;
}

pub async fn a_mark_never_goes_back(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    for n in 1..=6 {
        bench.say(chat, ANA, n).await;
    }
    assert_eq!(bench.mark(chat, BEN, 4).await.unread, 2);
    let own = bench.own_log(BEN).await.len();
    // What is behind, and what is ahead of the log, on another device.
    assert_eq!(bench.mark(chat, BEN, 2).await.seen, 4);
    assert_eq!(bench.mark(chat, BEN, -7).await.seen, 4);
    assert_eq!(bench.own_log(BEN).await.len(), own, "nothing moved");
    assert_eq!(bench.mark(chat, BEN, 99).await.seen, 6);
    let moved = UserEventBody::ReadMoved {
        chat,
        read: bench.standing(chat, BEN).await.read,
    };
    assert_eq!(bench.last_own(BEN).await, moved);
    // Who speaks has read; saying it again moves nothing.
    bench.say(chat, ANA, 7).await;
    bench.say(chat, BEN, 8).await;
    let own = bench.own_log(BEN).await.len();
    assert_eq!(bench.mark(chat, BEN, 8).await.unread, 0);
    assert_eq!(bench.own_log(BEN).await.len(), own);
    bench.reopen().await;
    let standing = bench.standing(chat, BEN).await;
    assert_eq!((standing.read.seen, standing.read.unread), (8, 0));
}

pub async fn receipts_are_told_in_small_chats_only(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    for n in 1..=3 {
        bench.say(group, ANA, n).await;
    }
    let told = bench.listener.wait_for(7).await.len();
    let limited = async |receipts_members_max, act| {
        let command = Command {
            limits: Limits {
                receipts_members_max,
                ..Limits::default()
            },
            ..command(BEN, BEGIN_MS, act)
        };
        bench.store().write(command).await.unwrap();
    };
    limited(3, mark(group, 2, None, true)).await;
    limited(3, mark(group, 2, None, true)).await;
    limited(3, mark(group, 3, Some(3), true)).await;
    limited(3, mark(group, 4, Some(4), false)).await;
    // Too many members: it is counted and not told.
    bench.say(group, ANA, 4).await;
    limited(2, mark(group, 5, Some(5), true)).await;
    bench.say(group, ANA, 5).await;
    let facts = bench.listener.wait_for(told + 8).await;
    let receipts: Vec<_> = facts[told..]
        .iter()
        .filter_map(|fact| match fact {
            Fact::Receipt {
                chat,
                receipt,
                audience,
            } => Some((
                *chat,
                receipt.delivered,
                receipt.seen,
                receipt.user,
                audience,
            )),
            _ => None,
        })
        .collect();
    let members = Audience::Members([ANA, BEN, CLEO].into());
    let expected = [(2, 1), (3, 3), (4, 3)].map(|(d, s)| (group, d, s, BEN, &members));
    assert_eq!(receipts, expected);
    let kept = bench.standing(group, BEN).await.membership;
    assert_eq!((kept.delivered, kept.seen, kept.shown_seen), (5, 5, 5));
}

pub async fn settings_and_drafts_are_kept_and_told_to_the_own_devices(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(ANA, BEN, 1).await.id;
    bench.say(chat, BEN, 1).await;
    let settings = Settings {
        muted_until_ms: -1,
        notify: Notify::Mentions,
        archived: true,
        favorite: true,
        marked_unread: true,
    };
    let draft = Some(Arc::new(Draft {
        text: "ñ🫖".into(),
        reply_to: Some(1),
        at_ms: BEGIN_MS,
    }));
    let choose = Act::Choose { chat, settings };
    let keep = |draft: &Option<Arc<Draft>>| Act::Draft {
        chat,
        draft: draft.clone(),
    };
    bench.act(ANA, choose.clone()).await;
    bench.act(ANA, choose).await;
    let changed = UserEventBody::SettingsChanged { chat, settings };
    assert_eq!(bench.last_own(ANA).await, changed);
    bench.act(ANA, keep(&draft)).await;
    bench.act(ANA, keep(&draft)).await;
    let changed = UserEventBody::DraftChanged {
        chat,
        draft: draft.clone(),
    };
    assert_eq!(bench.last_own(ANA).await, changed);
    assert_eq!(bench.own_log(ANA).await.len(), 3, "repeats tell nothing");
    bench.reopen().await;
    let kept = bench.standing(chat, ANA).await.membership;
    assert_eq!((kept.settings, kept.draft), (settings, draft));
    // The other has their own.
    let other = bench.standing(chat, BEN).await.membership;
    assert_eq!((other.settings, other.draft), (Settings::default(), None));
    assert_eq!(bench.own_log(BEN).await.len(), 1);
    // To have read takes the mark away that says to read again.
    bench.mark(chat, ANA, 1).await;
    assert!(matches!(
        bench.last_own(ANA).await,
        UserEventBody::ReadMoved { .. }
    ));
    bench.act(ANA, keep(&None)).await;
    let kept = bench.standing(chat, ANA).await.membership;
    assert!(!kept.settings.marked_unread && kept.settings.archived && kept.draft.is_none());
    bench.act(ANA, keep(&None)).await;
    assert_eq!(bench.own_log(ANA).await.len(), 5);
}

pub async fn standings_are_those_of_the_members_in_the_order_asked(place: &dyn Place) {
    let bench = Bench::at(place).await;
    for n in 1..=5 {
        bench.group(n, ANA, &[BEN]).await;
    }
    bench.made(BEN, Act::Leave { chat: ChatId(3) }).await;
    bench.say(ChatId(4), ANA, 1).await;
    let asked = [4, 99, 1, 3, 5].map(ChatId);
    let standings = async |user| {
        let found = bench.store().standings(user, &asked).await.unwrap();
        let found = found
            .iter()
            .map(|s| (s.chat.id.0, s.read.unread, s.membership.role));
        found.collect::<Vec<_>>()
    };
    let of_ben = [(4, 1), (1, 0), (5, 0)].map(|(chat, unread)| (chat, unread, Role::Member));
    assert_eq!(standings(BEN).await, of_ben);
    let of_ana = [4, 1, 3, 5].map(|chat| (chat, 0, Role::Owner));
    assert_eq!(standings(ANA).await, of_ana);
    assert_eq!(standings(CLEO).await, []);
    assert_eq!(bench.store().standings(ANA, &[]).await.unwrap(), vec![]);
}
