//! Pages of the list of chats.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::bench::*;

const HOUR_MS: i64 = 3_600 * 1_000;

/// All pages of a user's list.
async fn walked(bench: &Bench, user: i64, limit: usize) -> Vec<Chat> {
    let (mut chats, mut token) = (Vec::new(), String::new());
    loop {
        let page = bench
            .chats
            .chats(&caller(user), limit, &token)
            .await
            .unwrap();
        assert!(
            page.chats.len() <= limit,
            "a page with more than was asked for"
        );
        chats.extend(page.chats.into_iter().map(|standing| standing.chat));
        token = page.next_page_token;
        if token.is_empty() {
            return chats;
        }
    }
}

#[tokio::test]
async fn whatever_was_said_when_pages_of_every_size_give_the_newest_first() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bench = Bench::new();
    let mut members = Vec::new();
    for other in 2..=60 {
        bench.clock.advance_ms(random.random_range(0..HOUR_MS / 4));
        members.push(match random.random_range(0..3) {
            0 => bench.direct(1, other).await,
            1 => bench.group(1, &[other]).await,
            _ => bench.channel(1, &[other]).await,
        });
    }
    for _ in 0..6 {
        for _ in 0..20 {
            bench.clock.advance_ms(random.random_range(0..HOUR_MS / 8));
            let member = &members[random.random_range(0..members.len())];
            bench.say(member, "hi").await;
        }
        let mut expected: Vec<_> = Vec::new();
        for member in &members {
            let chat = bench.store.chat(member.chat()).await.unwrap().unwrap();
            expected.push((chat.active_at_ms(), chat.id));
        }
        expected.sort_unstable();
        expected.reverse();
        for limit in [1, 2, 3, 7, 20, 58, 59, 60, 200] {
            let walked = walked(&bench, 1, limit).await;
            let walked: Vec<_> = walked
                .iter()
                .map(|chat| (chat.active_at_ms(), chat.id))
                .collect();
            assert_eq!(walked, expected, "in pages of {limit}");
        }
    }
}

#[tokio::test]
async fn of_an_hour_with_very_many_chats_each_is_told_once() {
    let bench = Bench::new();
    let mut all = HashSet::new();
    for other in 2..=10 {
        all.insert(bench.direct(1, other).await.chat());
    }
    bench.clock.advance_ms(2 * HOUR_MS);
    for other in 11..=300 {
        bench.clock.advance_ms(1);
        all.insert(bench.direct(1, other).await.chat());
    }
    bench.clock.advance_ms(HOUR_MS);
    let newest = bench.channel(1, &[2]).await.chat();
    all.insert(newest);
    for limit in [1, 7, 50, 120, 200] {
        let walked = walked(&bench, 1, limit).await;
        assert_eq!(walked.len(), all.len(), "in pages of {limit}");
        let ids: HashSet<ChatId> = walked.iter().map(|chat| chat.id).collect();
        assert_eq!(ids, all);
        assert_eq!(walked[0].id, newest);
        let hours = walked
            .iter()
            .map(|chat| ListPlace::hour_of(chat.active_at_ms()));
        assert!(hours.is_sorted_by(|a, b| a >= b));
    }
}

#[tokio::test]
async fn an_hour_that_fills_between_two_pages_is_told_whole() {
    let bench = Bench::new();
    let mut all = Vec::new();
    for other in 2..=90 {
        bench.clock.advance_ms(1);
        all.push(bench.direct(1, other).await.chat());
    }
    let first = bench.chats.chats(&caller(1), 50, "").await.unwrap();
    for other in 100..=300 {
        bench.direct(1, other).await;
    }
    let mut told: HashSet<ChatId> = first.chats.iter().map(|s| s.chat.id).collect();
    let mut token = first.next_page_token;
    while !token.is_empty() {
        let page = bench.chats.chats(&caller(1), 50, &token).await.unwrap();
        for standing in page.chats {
            assert!(told.insert(standing.chat.id), "told twice");
        }
        token = page.next_page_token;
    }
    assert!(all.iter().all(|chat| told.contains(chat)));
}
