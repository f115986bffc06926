//! The plain store of accounts, logins and profiles. The halves share one lock, as they share one commit.

use std::cmp::Reverse;
use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use tertulia_kit::error::Result;

use super::ports::*;
use crate::ids::{LoginId, UserId};
use crate::users::User;

/// Forgets everything when it is dropped.
#[derive(Default)]
pub struct Memory {
    /// Guards everything; each call of a port is one commit.
    pub(crate) kept: Mutex<Kept>,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) users: HashMap<UserId, KeptUser>,
    logins: HashMap<LoginId, LoginRecord>,
}

pub(crate) struct KeptUser {
    pub(crate) user: User,
    pub(crate) search_words: Vec<String>,
    password: PasswordHash,
}

impl Kept {
    /// The open logins of a user, newest first.
    fn open(&self, user: UserId) -> Vec<&LoginRecord> {
        let mut open: Vec<&LoginRecord> = self
            .logins
            .values()
            .filter(|login| login.user == user && login.ended_at_ms.is_none())
            .collect();
        open.sort_by_key(|login| Reverse((login.created_at_ms, login.id)));
        open
    }
}

#[async_trait]
impl AccountStore for Memory {
    async fn create(&self, new: CreateAccount) -> Result<Created> {
        let mut kept = self.kept.lock();
        if kept.users.values().any(|kept| kept.user.name == new.name) {
            return Ok(Created::NameTaken);
        }
        let user = User {
            id: new.user,
            name: new.name,
            display_name: new.shown.display_name,
            about: String::new(),
            shares_seen: true,
            shares_presence: true,
        };
        let search_words = new.shown.search_words;
        kept.users.insert(
            new.user,
            KeptUser {
                user,
                search_words,
                password: new.password,
            },
        );
        kept.logins.insert(new.login.id, new.login.into_record());
        Ok(Created::Done)
    }

    async fn by_name(&self, name: &str) -> Result<Option<Account>> {
        let kept = self.kept.lock();
        let found = kept.users.values().find(|kept| kept.user.name == name);
        Ok(found.map(|kept| Account {
            user: kept.user.id,
            password: kept.password.clone(),
        }))
    }

    async fn rehash(&self, user: UserId, from: &PasswordHash, to: &PasswordHash) -> Result<()> {
        let mut kept = self.kept.lock();
        if let Some(kept) = kept.users.get_mut(&user)
            && kept.password == *from
        {
            kept.password = to.clone();
        }
        Ok(())
    }

    async fn add_login(&self, new: NewLogin, keep: Keep) -> Result<Vec<LoginId>> {
        let mut kept = self.kept.lock();
        let (user, now_ms) = (new.user, new.created_at_ms);
        kept.logins.retain(|_, login| {
            let over = login
                .ended_at_ms
                .unwrap_or(i64::MAX)
                .min(login.expires_at_ms);
            login.user != user || over >= keep.since_ms
        });
        kept.logins.insert(new.id, new.into_record());
        let ended: Vec<LoginId> = kept
            .open(user)
            .iter()
            .skip(keep.open_max)
            .map(|login| login.id)
            .collect();
        for id in &ended {
            if let Some(login) = kept.logins.get_mut(id) {
                login.ended_at_ms = Some(now_ms);
            }
        }
        Ok(ended)
    }

    async fn login(&self, login: LoginId) -> Result<Option<LoginRecord>> {
        Ok(self.kept.lock().logins.get(&login).cloned())
    }

    async fn rotate(&self, rotation: Rotation) -> Result<bool> {
        let mut kept = self.kept.lock();
        let Some(login) = kept.logins.get_mut(&rotation.login) else {
            return Ok(false);
        };
        if login.ended_at_ms.is_some() || login.refresh != rotation.from {
            return Ok(false);
        }
        login.spent = Some(rotation.from);
        login.refresh = rotation.to;
        login.refreshed_at_ms = rotation.at_ms;
        login.expires_at_ms = rotation.expires_at_ms;
        Ok(true)
    }

    async fn logins(&self, user: UserId, now_ms: i64) -> Result<Vec<LoginRecord>> {
        let kept = self.kept.lock();
        let open = kept
            .open(user)
            .into_iter()
            .filter(|login| login.expires_at_ms > now_ms);
        Ok(open.cloned().collect())
    }

    async fn end_login(&self, user: UserId, login: LoginId, at_ms: i64) -> Result<bool> {
        let mut kept = self.kept.lock();
        let Some(login) = kept.logins.get_mut(&login) else {
            return Ok(false);
        };
        if login.user != user || login.ended_at_ms.is_some() {
            return Ok(false);
        }
        login.ended_at_ms = Some(at_ms);
        Ok(true)
    }

    async fn ended_since(&self, since_ms: i64) -> Result<Vec<(LoginId, i64)>> {
        let kept = self.kept.lock();
        let ended = kept
            .logins
            .values()
            .filter_map(|login| Some((login.id, login.ended_at_ms?)));
        Ok(ended.filter(|(_, at_ms)| *at_ms >= since_ms).collect())
    }

    async fn forget_logins(&self, before_ms: i64, limit: usize) -> Result<usize> {
        let mut kept = self.kept.lock();
        let over = kept.logins.values().filter(|login| {
            let ended_ms = login.ended_at_ms.unwrap_or(i64::MAX);
            ended_ms.min(login.expires_at_ms) < before_ms
        });
        let over: Vec<LoginId> = over.map(|login| login.id).take(limit).collect();
        for login in &over {
            kept.logins.remove(login);
        }
        Ok(over.len())
    }
}
