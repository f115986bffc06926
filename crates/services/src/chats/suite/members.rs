//! Members: who is in, who hears what, and how they come and go.

use std::sync::Arc;

use super::Place;
use super::bench::*;
use super::recount::recount;
use crate::chats::command::*;
use crate::chats::model::*;
use crate::ids::{ChatId, UserId};

fn add(chat: ChatId, users: &[UserId]) -> Act {
    Act::Add {
        chat,
        users: users.to_vec(),
        role: None,
    }
}

fn remove(chat: ChatId, user: UserId, ban: bool) -> Act {
    Act::Remove { chat, user, ban }
}

fn set_role(chat: ChatId, user: UserId, role: Role) -> Act {
    Act::SetRole { chat, user, role }
}

fn members_of(users: &[UserId]) -> Audience {
    Audience::Members(users.into())
}

/// Who heard of each event of a chat, by its seq.
fn heard(facts: &[Fact], chat: ChatId) -> Vec<(Seq, Audience)> {
    let events = facts.iter().filter_map(|fact| match fact {
        Fact::Event { event, audience } if event.chat == chat => {
            Some((event.seq, audience.clone()))
        }
        _ => None,
    });
    events.collect()
}

pub async fn a_group_is_heard_by_who_is_in_it_after_the_commit(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, BEN, &[ANA]).await;
    bench.made(BEN, add(group, &[DORA, CLEO])).await;
    bench.say(group, CLEO, 1).await;
    bench.made(BEN, remove(group, CLEO, false)).await;
    bench.made(ANA, Act::Leave { chat: group }).await;
    bench.reopen().await;
    bench.say(group, DORA, 2).await;
    let everybody = members_of(&[ANA, BEN, CLEO, DORA]);
    let expected = [
        (1, members_of(&[ANA, BEN])),
        (2, everybody.clone()),
        (3, everybody),
        (4, members_of(&[ANA, BEN, DORA])),
        (5, members_of(&[BEN, DORA])),
        (6, members_of(&[BEN, DORA])),
    ];
    // Three logs of those who came, of two who went, and the two who were there from the start.
    let facts = bench.listener.wait_for(6 + 6).await;
    assert_eq!(facts.len(), 6 + 6);
    // What a command came to is told in its order.
    let own = facts[1..3].iter().map(|fact| match fact {
        Fact::UserEvent(event) => event.user,
        other => panic!("{other:?}"),
    });
    assert_eq!(own.collect::<Vec<_>>(), [BEN, ANA]);
    assert_eq!(heard(&facts, group), expected);
    let audience = bench.store().audience(group).await.unwrap();
    assert_eq!(audience, Some(members_of(&[BEN, DORA])));
}

pub async fn a_channel_is_heard_by_whoever_has_it_warm(place: &dyn Place) {
    let bench = Bench::at(place).await;
    let channel = bench.channel(1, ANA, &[BEN]).await;
    assert_eq!(
        bench
            .refused(BEN, Act::Send(message(channel, BEN, 1)))
            .await,
        "NOT_ALLOWED"
    );
    bench.made(ANA, set_role(channel, BEN, Role::Member)).await;
    bench.say(channel, BEN, 1).await;
    let facts = bench.listener.wait_for(5).await;
    let expected = [1, 2, 3].map(|seq| (seq, Audience::Warm));
    assert_eq!(heard(&facts, channel), expected);
    let audience = bench.store().audience(channel).await.unwrap();
    assert_eq!(audience, Some(Audience::Warm));
}

pub async fn a_direct_chat_is_heard_by_the_two(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let chat = bench.open(BEN, ANA, 1).await.id;
    bench.say(chat, ANA, 1).await;
    bench.reopen().await;
    bench.say(chat, BEN, 2).await;
    let facts = bench.listener.wait_for(4).await;
    let expected = [1, 2].map(|seq| (seq, Audience::Pair([ANA, BEN])));
    assert_eq!(heard(&facts, chat), expected);
    let audience = bench.store().audience(chat).await.unwrap();
    assert_eq!(audience, Some(Audience::Pair([ANA, BEN])));
    assert_eq!(bench.refused(ANA, Act::Leave { chat }).await, "DIRECT_CHAT");
    assert_eq!(bench.refused(ANA, add(chat, &[CLEO])).await, "DIRECT_CHAT");
}

pub async fn who_comes_and_goes_is_told_in_their_own_log(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    bench.say(group, ANA, 1).await;
    bench.made(ANA, add(group, &[CLEO])).await;
    let left = |reason, by| UserEventBody::ChatLeft {
        chat: group,
        reason,
        by,
    };
    // What was before one came is read, and the chat is told as it was then.
    let UserEventBody::ChatJoined { chat, membership } = bench.last_own(CLEO).await else {
        panic!("not joined")
    };
    assert_eq!(
        (chat.head, chat.last_message, chat.details.member_count),
        (3, None, 3)
    );
    assert_eq!((membership.role, membership.seen), (Role::Member, 3));
    bench.made(CLEO, Act::Leave { chat: group }).await;
    assert_eq!(bench.last_own(CLEO).await, left(LeftReason::Left, CLEO));
    bench.made(ANA, remove(group, BEN, false)).await;
    assert_eq!(bench.last_own(BEN).await, left(LeftReason::Removed, ANA));
    bench.made(ANA, add(group, &[BEN])).await;
    bench.made(ANA, remove(group, BEN, true)).await;
    assert_eq!(bench.last_own(BEN).await, left(LeftReason::Banned, ANA));
    bench.reopen().await;
    let kinds = async |user| {
        let own = bench.own_log(user).await;
        let is_joined =
            |event: &Arc<UserEvent>| matches!(event.body, UserEventBody::ChatJoined { .. });
        own.iter().map(is_joined).collect::<Vec<_>>()
    };
    assert_eq!(kinds(BEN).await, [true, false, true, false]);
    assert_eq!(kinds(CLEO).await, [true, false]);
    for user in [BEN, CLEO] {
        let store = bench.store();
        assert_eq!(store.role(group, user).await.unwrap(), None);
        assert_eq!(store.standings(user, &[group]).await.unwrap(), vec![]);
        assert!(chats_of(&**store, user).await.is_empty());
        let moved = store.moved_since(user, Position(0)).await.unwrap();
        assert!(moved.unwrap().chats.is_empty());
    }
    recount(&**bench.store(), group).await;
}

pub async fn roles_are_as_they_were_given(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN, CLEO]).await;
    bench.say(group, CLEO, 1).await;
    assert_eq!(bench.made(ANA, set_role(group, BEN, Role::Admin)).await, 3);
    let again = bench.act(ANA, set_role(group, BEN, Role::Admin)).await;
    assert_eq!(again, Done::Changed(None));
    bench.made(BEN, set_role(group, CLEO, Role::Reader)).await;
    assert_eq!(
        bench
            .refused(CLEO, Act::Send(message(group, CLEO, 2)))
            .await,
        "NOT_ALLOWED"
    );
    // Ownership is given away, and there is one owner.
    bench.made(ANA, set_role(group, BEN, Role::Owner)).await;
    for again in [false, true] {
        if again {
            bench.reopen().await;
        }
        let store = bench.store();
        for (user, role) in [(ANA, Role::Admin), (BEN, Role::Owner), (CLEO, Role::Reader)] {
            let found = store.role(group, user).await.unwrap();
            assert_eq!(found, Some((ChatKind::Group, role)));
            assert_eq!(bench.standing(group, user).await.membership.role, role);
        }
        assert_eq!(store.role(group, DORA).await.unwrap(), None);
    }
    bench.made(ANA, Act::Leave { chat: group }).await;
    recount(&**bench.store(), group).await;
}

pub async fn members_and_banned_are_listed_in_pages_by_id(place: &dyn Place) {
    const COUNT: i64 = 25;
    let mut bench = Bench::at(place).await;
    let users: Vec<UserId> = (1..COUNT).map(|n| UserId(n * 3)).collect();
    let group = bench.group(5, UserId(COUNT * 3), &users).await;
    let owner = UserId(COUNT * 3);
    // Neighbours, who must not be in it.
    bench.group(4, ANA, &[BEN]).await;
    bench.group(6, ANA, &[BEN]).await;
    let gone: Vec<UserId> = users
        .iter()
        .copied()
        .filter(|user| user.0 % 2 == 0)
        .collect();
    for user in &gone {
        bench.made(owner, remove(group, *user, true)).await;
    }
    bench.reopen().await;
    let store = bench.store();
    let there: Vec<UserId> = users
        .iter()
        .copied()
        .filter(|user| user.0 % 2 == 1)
        .chain([owner])
        .collect();
    for after in [
        i64::MIN,
        -1,
        0,
        1,
        3,
        40,
        COUNT * 3 - 1,
        COUNT * 3,
        i64::MAX,
    ] {
        for limit in [0, 1, 5, 99] {
            let page = |all: &[UserId]| {
                let rest = all.iter().copied().filter(|user| user.0 > after);
                rest.take(limit).collect::<Vec<_>>()
            };
            let members = store.members(group, UserId(after), limit).await.unwrap();
            let members: Vec<UserId> = members.iter().map(|(user, _)| *user).collect();
            assert_eq!(members, page(&there), "members after {after}, {limit}");
            let banned = store.banned(group, UserId(after), limit).await.unwrap();
            assert_eq!(banned, page(&gone), "banned after {after}, {limit}");
        }
    }
}

pub async fn a_banned_user_stays_out_until_the_ban_is_lifted(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[BEN]).await;
    let made = bench.act(ANA, invite(group, "open", 0, 0)).await;
    assert!(matches!(made, Done::Invite(_)));
    // Somebody who was never in can be kept out as well.
    bench.made(ANA, remove(group, BEN, true)).await;
    assert_eq!(bench.made(ANA, remove(group, CLEO, true)).await, 3);
    let again = bench.act(ANA, remove(group, CLEO, true)).await;
    assert_eq!(again, Done::Changed(None));
    bench.reopen().await;
    for user in [BEN, CLEO] {
        assert_eq!(bench.refused(user, join("open")).await, "BANNED");
    }
    let added = bench.act(ANA, add(group, &[BEN, CLEO])).await;
    assert_eq!(added, Done::Added(None, vec![]));
    let unban = |user| Act::Unban { chat: group, user };
    assert_eq!(bench.made(ANA, unban(BEN)).await, 4);
    assert_eq!(bench.act(ANA, unban(BEN)).await, Done::Changed(None));
    assert_eq!(standing(bench.act(BEN, join("open")).await).chat.head, 5);
    assert_eq!(
        bench.store().banned(group, UserId(0), 9).await.unwrap(),
        [CLEO]
    );
    recount(&**bench.store(), group).await;
}

fn invite(chat: ChatId, code: &str, uses_max: u32, expires_at_ms: i64) -> Act {
    Act::MakeInvite {
        invite: Invite {
            code: code.into(),
            chat,
            created_by: ANA,
            created_at_ms: BEGIN_MS,
            expires_at_ms,
            uses_max,
            uses: 0,
            role: Role::Reader,
        },
        role_chosen: false,
        key: SendKey {
            device: device(ANA),
            client_message_id: format!("invite {code}"),
        },
    }
}

fn join(code: &str) -> Act {
    Act::Join { code: code.into() }
}

pub async fn an_invite_lets_in_as_many_as_it_says(place: &dyn Place) {
    let mut bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[]).await;
    let other = bench.group(2, ANA, &[]).await;
    bench.act(ANA, invite(group, "for two", 2, 0)).await;
    bench
        .act(ANA, invite(group, "for an hour", 0, BEGIN_MS + HOUR_MS))
        .await;
    bench.act(ANA, invite(other, "elsewhere", 0, 0)).await;
    // Made again it is the same, and who is in already uses nothing up.
    let again = bench.act(ANA, invite(group, "for two", 2, 0)).await;
    assert!(matches!(again, Done::Invite(invite) if invite.role == Role::Member));
    assert_eq!(standing(bench.act(ANA, join("for two")).await).chat.head, 1);
    let first = standing(bench.act(BEN, join("for two")).await);
    assert_eq!((first.chat.head, first.membership.role), (2, Role::Member));
    assert_eq!(standing(bench.act(BEN, join("for two")).await).chat.head, 2);
    bench.reopen().await;
    let codes = async |chat| {
        let invites = bench.store().invites(chat).await.unwrap();
        let mut codes: Vec<_> = invites.iter().map(|i| (i.code.clone(), i.uses)).collect();
        codes.sort_unstable();
        codes
    };
    let of = |code: &str, uses| (code.to_owned(), uses);
    assert_eq!(codes(group).await, [of("for an hour", 0), of("for two", 1)]);
    assert_eq!(codes(other).await, [of("elsewhere", 0)]);
    bench.act(CLEO, join("for two")).await;
    assert_eq!(
        bench.refused(DORA, join("for two")).await,
        "INVITE_NOT_FOUND"
    );
    assert_eq!(bench.store().invite("for two").await.unwrap(), None);
    bench.clock.advance_ms(HOUR_MS);
    assert_eq!(
        bench.refused(DORA, join("for an hour")).await,
        "INVITE_NOT_FOUND"
    );
    assert_eq!(
        bench.refused(DORA, join("unknown")).await,
        "INVITE_NOT_FOUND"
    );
    let revoke = |chat, code: &str| Act::RevokeInvite {
        chat,
        code: code.into(),
    };
    let wrong_chat = bench.refused(ANA, revoke(group, "elsewhere")).await;
    assert_eq!(wrong_chat, "INVITE_NOT_FOUND");
    bench.act(ANA, revoke(other, "elsewhere")).await;
    assert_eq!(
        bench.refused(DORA, join("elsewhere")).await,
        "INVITE_NOT_FOUND"
    );
    recount(&**bench.store(), group).await;
}

pub async fn the_limit_of_members_holds_when_many_come_at_once(place: &dyn Place) {
    const MAX: u32 = 10;
    let bench = Bench::at(place).await;
    let group = bench.group(1, ANA, &[]).await;
    bench.act(ANA, invite(group, "open", 0, 0)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = Arc::clone(bench.store());
        let command = Command {
            limits: Limits {
                group_members_max: MAX,
                ..Limits::default()
            },
            ..command(UserId(100 + n), BEGIN_MS, join("open"))
        };
        tasks.spawn(async move {
            match store.write(command).await {
                Ok(_) => 1,
                Err(failure) => {
                    assert_eq!(failure.reason(), "TOO_MANY");
                    0
                }
            }
        });
    }
    let came: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(came, MAX - 1);
    assert_eq!(bench.chat(group).await.details.member_count, MAX);
    recount(&**bench.store(), group).await;
}
