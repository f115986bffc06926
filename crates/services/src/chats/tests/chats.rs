//! Chats: opened, made, changed and listed.

use std::collections::HashSet;

use super::bench::*;
use crate::ids::{ChatId, UserId};

#[tokio::test]
async fn a_direct_chat_is_with_somebody_else_who_exists() {
    let bench = Bench::new();
    let open = async |a, b| bench.chats.open_direct(&caller(a), UserId(b)).await;
    assert_eq!(reason(open(1, 1).await), "CHAT_WITH_SELF");
    assert_eq!(reason(open(1, NOBODY).await), "USER_NOT_FOUND");
    let one = open(1, 2).await.unwrap();
    assert_eq!(open(2, 1).await.unwrap(), one);
}

#[tokio::test]
async fn to_a_stranger_a_chat_is_not_there() {
    let bench = Bench::new();
    for chat in [bench.direct(1, 2).await, bench.group(1, &[2]).await] {
        let permit = async |user, chat| bench.permit(user, chat, Right::Read).await;
        assert_eq!(reason(permit(3, chat.chat()).await), "CHAT_NOT_FOUND");
        assert_eq!(reason(permit(1, ChatId(77)).await), "CHAT_NOT_FOUND");
        let member = permit(2, chat.chat()).await.unwrap();
        assert_eq!(
            bench.chats.chat(&member).await.unwrap().chat.id,
            chat.chat()
        );
    }
}

/// A permit is as old as the call; what it allows is asked again in the commit.
#[tokio::test]
async fn who_has_left_does_nothing_by_an_old_permit() {
    let bench = Bench::new();
    let owner = bench.group(1, &[2]).await;
    let seq = bench.say(&owner, "hi").await;
    let left = bench.also(2, &owner).await;
    bench.chats.leave(&left).await.unwrap();
    let chats = &bench.chats;
    assert_eq!(
        reason(bench.send(&left, "hi", |_| {}).await),
        "CHAT_NOT_FOUND"
    );
    assert_eq!(
        reason(chats.react(&left, seq, "👍".into(), true).await),
        "CHAT_NOT_FOUND"
    );
    assert_eq!(reason(chats.mark_read(&left, seq).await), "CHAT_NOT_FOUND");
    assert_eq!(reason(chats.hide(&left, vec![seq]).await), "CHAT_NOT_FOUND");
    assert_eq!(reason(chats.chat(&left).await), "CHAT_NOT_FOUND");
    assert_eq!(reason(chats.leave(&left).await), "CHAT_NOT_FOUND");
}

#[tokio::test]
async fn a_group_has_a_title_and_members_who_exist() {
    let bench = Bench::new();
    let create = async |kind, details, members| {
        let members = users(members);
        let id = bench.client_id();
        bench
            .chats
            .create(&caller(1), kind, details, members, id)
            .await
    };
    let pair = ChatKind::Direct(Pair::new(UserId(1), UserId(2)).unwrap());
    let refused = create(pair, titled("a"), vec![2]).await;
    assert_eq!(reason(refused), "INVALID_REQUEST");
    for details in [
        titled(" \t "),
        ChatChange::default(),
        titled(&"é".repeat(101)),
    ] {
        let refused = create(ChatKind::Group, details, vec![2]).await;
        assert_eq!(reason(refused), "INVALID_REQUEST");
    }
    let refused = create(ChatKind::Group, titled("a"), vec![2, NOBODY]).await;
    assert_eq!(reason(refused), "USER_NOT_FOUND");
    // The maker counts, and is not counted twice.
    let full = create(
        ChatKind::Group,
        titled("  a tea  "),
        vec![2, 3, 2, 4, 5, 6, 1],
    )
    .await;
    let full = full.unwrap().chat.details;
    assert_eq!(
        (&*full.title, full.member_count),
        ("a tea", LIMITS.group_members_max)
    );
    let refused = create(ChatKind::Group, titled("a"), (2..=7).collect()).await;
    assert_eq!(reason(refused), "TOO_MANY");
}

#[tokio::test]
async fn an_event_names_the_first_hundred_of_many() {
    let bench = Bench::new();
    let readers: Vec<i64> = (2..=120).collect();
    let owner = bench.channel(1, &readers).await;
    let created = bench.event(&owner, 1).await;
    let EventBody::Created {
        members,
        member_count,
        ..
    } = &created.event.body
    else {
        panic!("not created")
    };
    assert_eq!((members.len(), *member_count), (NAMED_MAX, 120));
    let more = users(200..=229);
    let added = bench
        .chats
        .add_members(&owner, more.clone(), None)
        .await
        .unwrap();
    assert_eq!(added, (Some(2), more));
    let over = bench.chats.add_members(&owner, users([300]), None).await;
    assert_eq!(reason(over), "TOO_MANY");
}

#[tokio::test]
async fn what_is_set_is_checked_and_only_what_differs_is_told() {
    let bench = Bench::new();
    let group = bench.group(1, &[2]).await;
    let change = async |change| bench.chats.change(&group, change).await;
    let topic = |topic: &str| ChatChange {
        topic: Some(topic.into()),
        ..ChatChange::default()
    };
    let avatar = |avatar: &str| ChatChange {
        avatar: Some(avatar.into()),
        ..ChatChange::default()
    };
    let lives = |seconds| ChatChange {
        message_ttl_s: Some(seconds),
        ..ChatChange::default()
    };
    for bad in [
        titled(""),
        titled("two\nlines"),
        topic(&"x".repeat(501)),
        avatar("tea"),
        lives(-1),
        lives(365 * 24 * 3_600 + 1),
    ] {
        assert_eq!(reason(change(bad).await), "INVALID_REQUEST");
    }
    assert_eq!(change(ChatChange::default()).await.unwrap(), None);
    assert_eq!(change(titled("a chat")).await.unwrap(), None);
    assert_eq!(change(titled(" another ")).await.unwrap(), Some(2));
    assert_eq!(change(avatar("🫖")).await.unwrap(), Some(3));
    assert_eq!(change(avatar("")).await.unwrap(), Some(4));
    assert_eq!(change(lives(60)).await.unwrap(), Some(5));
    let member = bench.also(2, &group).await;
    let refused = bench.chats.change(&member, titled("mine")).await;
    assert_eq!(reason(refused), "NOT_ALLOWED");
}

#[tokio::test]
async fn of_a_direct_chat_both_choose_how_long_messages_stay_and_nothing_else() {
    let bench = Bench::new();
    let direct = bench.direct(1, 2).await;
    let lives = |seconds| ChatChange {
        message_ttl_s: Some(seconds),
        ..ChatChange::default()
    };
    assert_eq!(
        bench.chats.change(&direct, lives(5)).await.unwrap(),
        Some(1)
    );
    let other = bench.also(2, &direct).await;
    assert_eq!(bench.chats.change(&other, lives(7)).await.unwrap(), Some(2));
    let titled = bench.chats.change(&direct, titled("us")).await;
    assert_eq!(reason(titled), "DIRECT_CHAT");
}

#[tokio::test]
async fn the_list_has_the_newest_message_first_and_its_pages_are_whole() {
    let bench = Bench::new();
    let mut members = Vec::new();
    for other in 2..=30 {
        bench.clock.advance_ms(1);
        members.push(bench.direct(1, other).await);
    }
    let mut said = 0;
    for n in [3, 9, 4] {
        said = bench.say(&members[n], "hi").await;
    }
    // What is no message does not move a chat up.
    let react = bench.chats.react(&members[9], said, "👍".into(), true);
    react.await.unwrap();
    let list = async |limit, token: String| bench.chats.chats(&caller(1), limit, &token).await;
    let all = list(200, String::new()).await.unwrap();
    assert_eq!((all.chats.len(), all.next_page_token.as_str()), (29, ""));
    let first: Vec<ChatId> = all.chats.iter().take(4).map(|s| s.chat.id).collect();
    let expected = [4, 9, 3, 28].map(|n: usize| members[n].chat());
    assert_eq!(first, expected);

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(7, token).await.unwrap();
        assert!(page.chats.len() <= 7);
        paged.extend(page.chats);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.chats);
    assert_eq!(reason(list(7, "what".into()).await), "BAD_CURSOR");
}

#[tokio::test]
async fn a_chat_that_moves_between_two_pages_is_in_none_of_them_twice() {
    let bench = Bench::new();
    let mut members = Vec::new();
    for other in 2..=11 {
        bench.clock.advance_ms(1);
        members.push(bench.direct(1, other).await);
    }
    let list = async |token: &str| bench.chats.chats(&caller(1), 5, token).await.unwrap();
    let first = list("").await;
    bench
        .say(&members[0], "from the second page to the front")
        .await;
    let second = list(&first.next_page_token).await;
    let both = first.chats.iter().chain(&second.chats);
    let ids: Vec<ChatId> = both.map(|standing| standing.chat.id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(ids.len(), 9);
}
