//! The logins that ended lately, so that their access tokens stop working before they are over.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::model::ACCESS_LIFETIME_MAX;
use crate::ids::LoginId;

/// Remembers an ended login until its last access token is over. Its bound is the number of logins that end
/// within that time; none may be forgotten sooner.
pub(super) struct Ended {
    /// Guards the table; held for a look or an insertion.
    table: RwLock<Table>,
}

struct Table {
    /// Until when a login is remembered, in milliseconds since 1970.
    until_ms: HashMap<LoginId, i64>,
    /// The size at which those are removed whose time is over.
    sweep_at: usize,
}

/// Below this nothing is removed.
const SWEEP_MIN: usize = 1_024;

impl Ended {
    pub(super) fn new() -> Self {
        let table = Table {
            until_ms: HashMap::new(),
            sweep_at: SWEEP_MIN,
        };
        Ended {
            table: RwLock::new(table),
        }
    }

    /// The earliest end that still matters.
    pub(super) fn since_ms(now_ms: i64) -> i64 {
        now_ms - lifetime_ms()
    }

    pub(super) fn add(&self, login: LoginId, at_ms: i64, now_ms: i64) {
        let mut table = self.table.write();
        table.until_ms.insert(login, at_ms + lifetime_ms());
        if table.until_ms.len() >= table.sweep_at {
            table.until_ms.retain(|_, until| *until > now_ms);
            table.sweep_at = (table.until_ms.len() * 2).max(SWEEP_MIN);
        }
    }

    pub(super) fn contains(&self, login: LoginId) -> bool {
        self.table.read().until_ms.contains_key(&login)
    }
}

fn lifetime_ms() -> i64 {
    i64::try_from(ACCESS_LIFETIME_MAX.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_login_is_remembered_until_its_tokens_are_over() {
        let ended = Ended::new();
        for id in 0..SWEEP_MIN as i64 - 1 {
            ended.add(LoginId(id), 0, 0);
        }
        let late = lifetime_ms();
        assert!(ended.contains(LoginId(5)));
        ended.add(LoginId(-1), late, late);
        assert!(!ended.contains(LoginId(5)));
        assert!(ended.contains(LoginId(-1)));
    }
}
