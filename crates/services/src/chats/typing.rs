//! Who is typing: told to those who are there, kept nowhere, and not more often than anybody needs.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::ids::{ChatId, UserId};

/// How often one member's typing in one chat is told, in milliseconds. A client shows it for twice as long.
const EVERY_MS: i64 = 3_000;
/// How many are remembered. Full: those that may be told again are forgotten, and if there are none, typing
/// is dropped.
const REMEMBERED_MAX: usize = 65_536;

/// When whose typing was told last.
#[derive(Default)]
pub struct Typing {
    /// Guards the times, for a look and an insertion; a sweep when it is full.
    told_at_ms: Mutex<HashMap<(ChatId, UserId), i64>>,
}

impl Typing {
    /// Whether it is to be told now.
    pub fn is_news(&self, chat: ChatId, user: UserId, now_ms: i64) -> bool {
        let mut told = self.told_at_ms.lock();
        let is_old = |at_ms: i64| now_ms - at_ms >= EVERY_MS;
        if told.get(&(chat, user)).is_some_and(|at_ms| !is_old(*at_ms)) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX {
            told.retain(|_, at_ms| !is_old(*at_ms));
            if told.len() >= REMEMBERED_MAX {
                return false;
            }
        }
        told.insert((chat, user), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_told_once_in_three_seconds() {
        let typing = Typing::default();
        assert!(typing.is_news(ChatId(1), UserId(1), 0));
        assert!(!typing.is_news(ChatId(1), UserId(1), EVERY_MS - 1));
        assert!(typing.is_news(ChatId(1), UserId(2), 1));
        assert!(typing.is_news(ChatId(1), UserId(1), EVERY_MS));
    }

    #[test]
    fn a_full_table_forgets_what_is_old_and_drops_the_rest() {
        let typing = Typing::default();
        for user in 0..REMEMBERED_MAX as i64 {
            assert!(typing.is_news(ChatId(1), UserId(user), 0));
        }
        assert!(!typing.is_news(ChatId(2), UserId(1), 1));
        assert!(typing.is_news(ChatId(2), UserId(1), EVERY_MS));
    }
}
