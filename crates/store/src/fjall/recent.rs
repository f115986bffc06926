//! Which chats of whom moved lately. Most devices ask again after seconds, and most did not miss a thing:
//! they get their answer here, without a look at each of their chats.
//!
//! A move of a direct chat is remembered for each of the two, who may have hundreds of such chats. A move of
//! any other is remembered once for the chat, however many members it has; who asks says in which of those
//! they are.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tertulia_services::ids::{ChatId, UserId};

/// The newest moves, back to a floor.
pub struct Recent {
    /// Moves at or below this position may be forgotten.
    floor: u64,
    moves_max: usize,
    /// What moved in which commit, oldest first.
    order: VecDeque<(u64, Of)>,
    /// The direct chats of users, by the commit, oldest first.
    users: FxHashMap<UserId, VecDeque<(u64, ChatId)>>,
    /// The commit that moved a chat that is not direct.
    chats: FxHashMap<ChatId, u64>,
}

/// Where a move is remembered.
enum Of {
    User(UserId),
    Chat(ChatId),
}

impl Recent {
    /// Knows everything after `position`, of which there is nothing yet.
    pub fn after(position: u64, moves_max: usize) -> Recent {
        Recent {
            floor: position,
            moves_max,
            order: VecDeque::new(),
            users: FxHashMap::default(),
            chats: FxHashMap::default(),
        }
    }

    /// Takes in that a direct chat moved in a commit, which is not older than the ones before.
    pub fn push_direct(&mut self, position: u64, chat: ChatId, pair: [UserId; 2]) {
        for user in pair {
            self.order.push_back((position, Of::User(user)));
            let moves = self.users.entry(user).or_default();
            match moves.back_mut() {
                Some(last) if last.1 == chat => last.0 = position,
                _ => moves.push_back((position, chat)),
            }
        }
        self.forget_old();
    }

    /// Takes in that a chat of another kind moved in a commit, which is not older than the ones before.
    pub fn push(&mut self, position: u64, chat: ChatId) {
        self.order.push_back((position, Of::Chat(chat)));
        self.chats.insert(chat, position);
        self.forget_old();
    }

    /// The chats of a user that moved after a position, where `others` are those that are not direct; none
    /// when that is too long ago to know.
    pub fn since(&self, user: UserId, since: u64, others: &[ChatId]) -> Option<Vec<ChatId>> {
        if since < self.floor {
            return None;
        }
        let mut chats = Vec::new();
        if let Some(moves) = self.users.get(&user) {
            let news = moves
                .iter()
                .rev()
                .take_while(|(position, _)| *position > since);
            chats.extend(news.map(|(_, chat)| *chat));
            chats.sort_unstable();
            chats.dedup();
        }
        let moved = |chat: &&ChatId| self.chats.get(chat).is_some_and(|at| *at > since);
        chats.extend(others.iter().filter(moved));
        Some(chats)
    }

    fn forget_old(&mut self) {
        while self.order.len() > self.moves_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((position, of)) = self.order.pop_front() else {
            return;
        };
        self.floor = self.floor.max(position);
        match of {
            Of::Chat(chat) => {
                if self.chats.get(&chat).is_some_and(|at| *at <= position) {
                    self.chats.remove(&chat);
                }
            }
            Of::User(user) => {
                let Some(moves) = self.users.get_mut(&user) else {
                    return;
                };
                while moves.front().is_some_and(|(at, _)| *at <= position) {
                    moves.pop_front();
                }
                if moves.is_empty() {
                    self.users.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn whatever_is_not_too_long_ago_is_known_exactly() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut recent = Recent::after(10, 60);
        // All moves, each with those whom it concerns; users 0 to 3 are in the group 1, 2 to 5 in 2.
        let mut all: Vec<(u64, ChatId, Vec<i64>)> = Vec::new();
        let groups = [(ChatId(1), 0..4), (ChatId(2), 2..6)];
        let mut position = 10;
        for _ in 0..4_000 {
            position += random.random_range(0..2);
            if random.random_bool(0.3) {
                let (chat, members) = groups[random.random_range(0..2)].clone();
                recent.push(position, chat);
                all.push((position, chat, members.collect()));
            } else {
                let (a, b) = (random.random_range(0..8), random.random_range(8..12));
                let chat = ChatId(a * 100 + b + 1_000);
                recent.push_direct(position, chat, [UserId(a), UserId(b)]);
                all.push((position, chat, vec![a, b]));
            }

            let user = random.random_range(0..13);
            let of_user = groups.iter().filter(|(_, members)| members.contains(&user));
            let others: Vec<ChatId> = of_user.map(|(chat, _)| *chat).collect();
            let since = random.random_range(position.saturating_sub(60).max(10)..=position);
            if let Some(mut chats) = recent.since(UserId(user), since, &others) {
                let moves = all
                    .iter()
                    .filter(|(p, _, members)| *p > since && members.contains(&user));
                let mut expected: Vec<ChatId> = moves.map(|(_, chat, _)| *chat).collect();
                expected.sort_unstable();
                expected.dedup();
                chats.sort_unstable();
                assert_eq!(chats, expected);
            } else {
                assert!(all.len() > 20, "it forgets too early");
            }
            assert!(recent.order.len() <= 60);
        }
        assert!(recent.since(UserId(1), 9, &[]).is_none());
        assert!(recent.since(UserId(1), position, &[]).is_some());
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut recent = Recent::after(0, 100);
        for position in 1..10_000 {
            let user = UserId(position as i64);
            recent.push_direct(position, ChatId(1), [user, UserId(-1)]);
            recent.push(position, ChatId(position as i64));
        }
        assert!(recent.users.len() <= 101);
        assert!(recent.users[&UserId(-1)].len() <= 100);
        assert!(recent.chats.len() <= 100);
    }

    #[test]
    fn a_large_group_costs_one_move_however_many_are_in_it() {
        let mut recent = Recent::after(0, 100);
        recent.push_direct(1, ChatId(1), [UserId(1), UserId(2)]);
        for position in 2..100 {
            recent.push(position, ChatId(2));
        }
        let chats = recent.since(UserId(1), 0, &[ChatId(2)]);
        assert_eq!(chats, Some(vec![ChatId(1), ChatId(2)]));
    }
}
