//! Which chats of whom moved lately. Most devices ask again after seconds, and most did not miss a thing:
//! they get their answer here, without a look at each of their chats.

use std::collections::{HashMap, VecDeque};

use tertulia_services::ids::{ChatId, UserId};

/// The newest moves, back to a floor.
pub struct Recent {
    /// Moves at or below this position may be forgotten.
    floor: u64,
    moves_max: usize,
    /// Who moved in which commit, oldest first.
    order: VecDeque<(u64, UserId)>,
    /// The chats of each of them, by the commit, oldest first.
    moved: HashMap<UserId, VecDeque<(u64, ChatId)>>,
}

impl Recent {
    /// Knows everything after `position`, of which there is nothing yet.
    pub fn after(position: u64, moves_max: usize) -> Recent {
        Recent {
            floor: position,
            moves_max,
            order: VecDeque::new(),
            moved: HashMap::new(),
        }
    }

    /// Takes in a commit, which is not older than the ones before.
    pub fn push(&mut self, position: u64, chat: ChatId, members: [UserId; 2]) {
        for user in members {
            self.order.push_back((position, user));
            let moves = self.moved.entry(user).or_default();
            match moves.back_mut() {
                Some(last) if last.1 == chat => last.0 = position,
                _ => moves.push_back((position, chat)),
            }
        }
        while self.order.len() > self.moves_max {
            self.forget_oldest();
        }
    }

    /// The chats of a user that moved after a position; none when that is too long ago to know.
    pub fn since(&self, user: UserId, since: u64) -> Option<Vec<ChatId>> {
        if since < self.floor {
            return None;
        }
        let Some(moves) = self.moved.get(&user) else {
            return Some(Vec::new());
        };
        let news = moves
            .iter()
            .rev()
            .take_while(|(position, _)| *position > since);
        let mut chats: Vec<ChatId> = news.map(|(_, chat)| *chat).collect();
        chats.sort_unstable();
        chats.dedup();
        Some(chats)
    }

    fn forget_oldest(&mut self) {
        let Some((position, user)) = self.order.pop_front() else {
            return;
        };
        self.floor = self.floor.max(position);
        if let Some(moves) = self.moved.get_mut(&user) {
            while moves
                .front()
                .is_some_and(|(moved_at, _)| *moved_at <= position)
            {
                moves.pop_front();
            }
            if moves.is_empty() {
                self.moved.remove(&user);
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
        let mut all = Vec::new();
        let mut position = 10;
        for _ in 0..2_000 {
            position += random.random_range(0..2);
            let (a, b) = (random.random_range(0..8), random.random_range(8..12));
            let chat = ChatId(a * 100 + b);
            recent.push(position, chat, [UserId(a), UserId(b)]);
            all.push((position, chat, [UserId(a), UserId(b)]));

            let user = UserId(random.random_range(0..13));
            let since = random.random_range(position.saturating_sub(60).max(10)..=position);
            if let Some(chats) = recent.since(user, since) {
                let moves = all
                    .iter()
                    .filter(|(p, _, members)| *p > since && members.contains(&user));
                let mut expected: Vec<ChatId> = moves.map(|(_, chat, _)| *chat).collect();
                expected.sort_unstable();
                expected.dedup();
                assert_eq!(chats, expected);
            } else {
                assert!(all.len() > 20, "it forgets too early");
            }
            assert!(recent.order.len() <= 60);
        }
        assert!(recent.since(UserId(1), 9).is_none());
        assert!(recent.since(UserId(1), position).is_some());
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut recent = Recent::after(0, 100);
        for position in 1..10_000 {
            let user = UserId(position as i64);
            recent.push(position, ChatId(1), [user, UserId(-1)]);
        }
        assert!(recent.moved.len() <= 101);
        assert!(recent.moved[&UserId(-1)].len() <= 100);
    }
}
