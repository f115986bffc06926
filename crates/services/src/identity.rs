//! Who somebody is: accounts, logins and tokens.
//!
//! An account is a name with a password. Signing in makes a login, which is one device; the login holds a
//! refresh token, good for one exchange, and an access token, good for minutes and verified without the
//! store. A login ends by its owner's wish, by age, or because a spent refresh token came back: then somebody
//! has a copy. An ended login is refused at once, also while its access token is still good; on other nodes, as soon as
//! they learn of it.

mod access_tokens;
mod ended;
mod mac;
pub mod memory;
pub mod model;
mod passwords;
pub mod ports;
mod refresh_tokens;
#[cfg(any(test, feature = "suites"))]
pub mod suite;
mod weak;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_kit::clock::SharedClock;
use tertulia_kit::error::Result;
use tertulia_kit::id::Ids;
use tertulia_kit::limit::{Budgets, Ledger, Rate};

use crate::access::{Caller, NodeCaller};
use crate::errors;
use crate::ids::{LoginId, UserId};
use crate::users::{Shown, rules};
use access_tokens::AccessTokens;
use ended::Ended;
use passwords::Hasher;
use refresh_tokens::{Chain, RefreshToken};

pub use access_tokens::SigningKeys;
pub use model::*;
pub use passwords::Peppers;
pub use ports::*;

/// How long a name may be.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 2..=32;
/// How long a password may be.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 10..=256;
/// How long a device's id and name may be.
const DEVICE_ID_CHARS_MAX: usize = 64;
const DEVICE_NAME_CHARS_MAX: usize = 100;
/// How many names are watched for guesses at their passwords. Each guess costs a hash, so that no more names
/// can be tried while one of them must wait.
const NAMES_WATCHED_MAX: usize = 100_000;
/// How long a login is kept after it is over, so that its tokens are still answered by what became of it.
const OVER_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many logins are forgotten in one commit.
const FORGOTTEN_AT_ONCE: usize = 500;

/// The service.
pub struct Identity {
    options: Options,
    store: Arc<dyn AccountStore>,
    ids: Arc<Ids>,
    clock: SharedClock,
    peppers: Arc<Peppers>,
    hasher: Hasher,
    access_tokens: AccessTokens,
    attempts: Budgets<String>,
    ended: Ended,
    /// Up to when the ends of logins were learnt of, in milliseconds since 1970.
    learnt_to_ms: AtomicI64,
    told: Arc<dyn LoginsEnded>,
}

impl Identity {
    /// Keeps its accounts in `store` and tells `told` of every login that ends here. The logins that ended
    /// lately are loaded first, so that a restart gives none of them back.
    ///
    /// # Errors
    /// The failure of the store, or `INTERNAL` when the parameters of the hash are none.
    pub async fn open(
        options: Options,
        store: Arc<dyn AccountStore>,
        keys: SigningKeys,
        peppers: Peppers,
        ids: Arc<Ids>,
        clock: SharedClock,
        told: Arc<dyn LoginsEnded>,
    ) -> Result<Self> {
        let peppers = Arc::new(peppers);
        let now = clock.now_ms();
        let ended = Ended::new();
        for (login, at_ms) in store.ended_since(Ended::since_ms(now)).await? {
            ended.add(login, at_ms, now);
        }
        Ok(Identity {
            hasher: Hasher::new(&options, Arc::clone(&peppers))?,
            access_tokens: AccessTokens::new(keys, options.verified_tokens_max),
            attempts: Budgets::new(
                Rate::per_minute(options.attempts_per_minute, options.attempts_per_minute),
                NAMES_WATCHED_MAX,
                Arc::clone(&clock),
            ),
            options,
            store,
            ids,
            clock,
            peppers,
            ended,
            learnt_to_ms: AtomicI64::new(now),
            told,
        })
    }

    /// Has the attempts at the password of a name counted with those on the other nodes. When the ledger does not
    /// answer, those on this node are counted.
    #[must_use]
    pub fn counting_with(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.attempts = self.attempts.tied("attempts", ledger);
        self
    }

    /// Makes an account with its user and signs it in.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with the fields that break a rule, `WEAK_PASSWORD`, `NAME_TAKEN`, `OVERLOADED` when
    /// too many passwords wait to be hashed, or the failure of the store.
    pub async fn create_account(&self, new: NewAccount) -> Result<Credentials> {
        let name = account_name(&new.name)?;
        let shown_name = if new.display_name.trim().is_empty() {
            &name
        } else {
            &new.display_name
        };
        let display_name = rules::display_name(shown_name)?;
        let device = device(new.device)?;
        check_new_password(&new.password, &name)?;
        // Asked before the work of the hash; the commit asks again.
        if self.store.by_name(&name).await?.is_some() {
            return Err(errors::name_taken());
        }
        let password = self.hasher.hash(new.password).await?;

        let user = UserId(self.new_id()?);
        let (login, refresh_token) = self.new_login(user, device)?;
        let shown = Shown {
            search_words: rules::search_words(&name, &display_name),
            display_name,
        };
        let record = login.clone().into_record();
        match self
            .store
            .create(CreateAccount {
                user,
                name,
                password,
                shown,
                login,
            })
            .await?
        {
            Created::Done => self.credentials(&record, &refresh_token),
            Created::NameTaken => Err(errors::name_taken()),
        }
    }

    /// Signs an account in on a device. A wrong password and an unknown name answer alike, also in time.
    ///
    /// # Errors
    /// `WRONG_CREDENTIALS`, `TOO_MANY_REQUESTS` after too many attempts at the name, `OVERLOADED` when
    /// too many passwords wait to be hashed, `INVALID_REQUEST` for a device that breaks a rule, or the failure
    /// of the store.
    pub async fn login(&self, sign_in: SignIn) -> Result<Credentials> {
        let device = device(sign_in.device)?;
        let name = sign_in.name.to_ascii_lowercase();
        if !NAME_CHARS.contains(&name.chars().count())
            || sign_in.password.chars().count() > *PASSWORD_CHARS.end()
        {
            // No account has such a name or password, and everybody can know that.
            return Err(errors::wrong_credentials());
        }
        // Taken before the password is looked at, so that many at once are counted too. A name is never
        // locked: who guesses makes the owner wait for seconds, not for an administrator.
        self.attempts
            .spend_everywhere(&name, 1)
            .await
            .map_err(errors::too_many_requests)?;
        let account = self.store.by_name(&name).await?;
        let kept = account.as_ref().map(|account| account.password.clone());
        let verified = self.hasher.verify(sign_in.password, kept).await?;
        let Some(account) = account.filter(|_| verified.right) else {
            return Err(errors::wrong_credentials());
        };
        if let Some(rehashed) = verified.rehashed {
            self.store
                .rehash(account.user, &account.password, &rehashed)
                .await?;
        }

        let (login, refresh_token) = self.new_login(account.user, device)?;
        let record = login.clone().into_record();
        let keep = Keep {
            open_max: self.options.logins_max.max(1),
            since_ms: record.created_at_ms - millis(OVER_KEPT),
        };
        for ended in self.store.add_login(login, keep).await? {
            self.mark_ended(account.user, ended);
        }
        self.credentials(&record, &refresh_token)
    }

    /// Exchanges a refresh token, which is spent by it. A token that was spent a moment ago gives the same
    /// successor again; one that was spent longer ago ends the login, because it shows that there is a copy.
    ///
    /// # Errors
    /// `BAD_REFRESH_TOKEN` when it is unknown or past its time, `REFRESH_TOKEN_REUSED`, `LOGIN_ENDED`, or the
    /// failure of the store.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Credentials> {
        let token = RefreshToken::parse(refresh_token).ok_or_else(errors::bad_refresh_token)?;
        // The second look is for those who lost the exchange to another with the same token: they find it
        // spent, or the login ended.
        for _ in 0..2 {
            let found = self.store.login(token.login()).await?;
            let record = found.ok_or_else(errors::bad_refresh_token)?;
            let chain = Chain::of(record.id, &record.family, &self.peppers)
                .filter(|chain| chain.made(&token))
                .ok_or_else(errors::bad_refresh_token)?;
            let now = self.clock.now_ms();
            if record.ended_at_ms.is_some() {
                return Err(errors::login_ended());
            }
            if record.expires_at_ms <= now {
                return Err(errors::bad_refresh_token());
            }

            let hash = token.hash();
            let next = chain.after(&token);
            if record.refresh == hash {
                let rotation = Rotation {
                    login: record.id,
                    from: hash,
                    to: next.hash(),
                    at_ms: now,
                    expires_at_ms: self.refresh_expires_at_ms(record.created_at_ms, now),
                };
                if self.store.rotate(rotation).await? {
                    let expires_at_ms = rotation.expires_at_ms;
                    return self.credentials(
                        &LoginRecord {
                            expires_at_ms,
                            ..record
                        },
                        &next,
                    );
                }
                continue;
            }
            let overlap_ms = millis(self.options.refresh_overlap);
            if record.spent == Some(hash) && now - record.refreshed_at_ms <= overlap_ms {
                return self.credentials(&record, &next);
            }
            self.end(record.user, record.id).await?;
            tracing::warn!(
                user.id = %record.user,
                login.id = %record.id,
                "a spent refresh token came back, so its login was ended"
            );
            return Err(errors::refresh_token_reused());
        }
        Err(errors::internal(
            "the store refused an exchange of its newest refresh token",
        ))
    }

    /// Ends the caller's login.
    ///
    /// # Errors
    /// The failure of the store; the login is refused by this process all the same.
    pub async fn logout(&self, caller: &Caller) -> Result<()> {
        self.end(caller.user, caller.login).await?;
        Ok(())
    }

    /// The caller's logins that are open, newest first.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn logins(&self, caller: &Caller) -> Result<Vec<Login>> {
        let logins = self.store.logins(caller.user, self.clock.now_ms()).await?;
        let logins = logins.into_iter().map(|login| Login {
            id: login.id,
            device_name: login.device_name,
            created_at_ms: login.created_at_ms,
            refreshed_at_ms: login.refreshed_at_ms,
        });
        Ok(logins.collect())
    }

    /// Ends a login of the caller. One that is not the caller's, or no longer there, changes nothing.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn end_login(&self, caller: &Caller, login: LoginId) -> Result<()> {
        match self.store.login(login).await? {
            Some(record) if record.user == caller.user => {
                self.end(caller.user, login).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends a login, whoever's it is; how many were open, which is 1 or 0.
    ///
    /// # Errors
    /// The failure of the store; the login is refused by this process all the same.
    pub async fn revoke_login(&self, _: &NodeCaller, login: LoginId) -> Result<usize> {
        match self.store.login(login).await? {
            Some(record) => {
                let ended = self.end(record.user, login).await?;
                Ok(usize::from(ended))
            }
            None => Ok(0),
        }
    }

    /// Ends all logins of a user; how many were open. A login that begins meanwhile may stay.
    ///
    /// # Errors
    /// The failure of the store; what was ended until then is.
    pub async fn revoke_logins(&self, _: &NodeCaller, user: UserId) -> Result<usize> {
        let mut revoked = 0;
        for login in self.store.logins(user, self.clock.now_ms()).await? {
            revoked += usize::from(self.end(user, login.id).await?);
        }
        Ok(revoked)
    }

    /// Who calls with this access token. It asks no store, and a token that it has seen costs a look into a
    /// table.
    ///
    /// # Errors
    /// `BAD_TOKEN`, `TOKEN_EXPIRED` or `LOGIN_ENDED`.
    pub fn verify(&self, access_token: &str) -> Result<Caller> {
        let caller = self.access_tokens.read(access_token)?;
        self.still_holds(&caller)?;
        Ok(caller)
    }

    /// Whether a caller that was verified before still is one: a session asks again and again, because the
    /// word that its login ended can be lost on the way.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED`, `LOGIN_ENDED`.
    pub fn still_holds(&self, caller: &Caller) -> Result<()> {
        if caller.expires_at_ms <= self.clock.now_ms() {
            return Err(errors::token_expired());
        }
        if self.ended.contains(caller.login) {
            return Err(errors::login_ended());
        }
        Ok(())
    }

    /// Learns which logins ended on other nodes that share the store, so that their access tokens are refused here as
    /// well, and gives those that were not known before, so that their sessions can be ended. `look_back` is how far the
    /// clocks of two nodes may be apart and the end still be learnt of. To be asked again and again; a round that fails is
    /// made up for by the next.
    ///
    /// # Errors
    /// The failure of the store.
    pub async fn learn_ended(&self, look_back: Duration) -> Result<Vec<LoginId>> {
        let now = self.clock.now_ms();
        let since = self.learnt_to_ms.load(Ordering::Relaxed) - millis(look_back);
        let mut learnt = Vec::new();
        for (login, at_ms) in self.store.ended_since(since).await? {
            if !self.ended.contains(login) {
                learnt.push(login);
            }
            self.ended.add(login, at_ms, now);
        }
        self.learnt_to_ms.store(now, Ordering::Relaxed);
        Ok(learnt)
    }

    /// Forgets the logins that are long over; how many that were. Who signs in has their own forgotten at once; this is
    /// for those who do not come back.
    ///
    /// # Errors
    /// The failure of the store; what was forgotten until then is.
    pub async fn forget_long_over(&self) -> Result<usize> {
        let before_ms = self.clock.now_ms() - millis(OVER_KEPT);
        let mut forgotten = 0;
        loop {
            let more = self
                .store
                .forget_logins(before_ms, FORGOTTEN_AT_ONCE)
                .await?;
            forgotten += more;
            if more < FORGOTTEN_AT_ONCE {
                return Ok(forgotten);
            }
        }
    }

    /// The public keys that may have signed a valid access token; the one that signs now is the first.
    pub fn jwks(&self) -> Vec<Jwk> {
        self.access_tokens.jwks()
    }

    fn new_id(&self) -> Result<i64> {
        // The store that leases node ids is away, or this process was.
        self.ids.next().map_err(errors::store_unavailable)
    }

    fn new_login(&self, user: UserId, device: Device) -> Result<(NewLogin, RefreshToken)> {
        let id = LoginId(self.new_id()?);
        let pepper_id = self.peppers.current_id().to_owned();
        let family = Family {
            seed: rand::random(),
            pepper_id,
        };
        let chain = Chain::of(id, &family, &self.peppers)
            .ok_or_else(|| errors::internal("the pepper for new logins is not there"))?;
        let token = chain.first();
        let now = self.clock.now_ms();
        let login = NewLogin {
            id,
            user,
            device_id: device.device_id,
            device_name: device.name,
            created_at_ms: now,
            expires_at_ms: self.refresh_expires_at_ms(now, now),
            family,
            refresh: token.hash(),
        };
        Ok((login, token))
    }

    fn refresh_expires_at_ms(&self, created_at_ms: i64, now_ms: i64) -> i64 {
        let sliding = now_ms.saturating_add(millis(self.options.refresh_lifetime));
        let absolute = created_at_ms.saturating_add(millis(self.options.login_lifetime));
        sliding.min(absolute)
    }

    fn credentials(&self, login: &LoginRecord, refresh: &RefreshToken) -> Result<Credentials> {
        let now = self.clock.now_ms();
        let lifetime = self.options.access_lifetime.min(ACCESS_LIFETIME_MAX);
        let ends = now
            .saturating_add(millis(lifetime))
            .min(login.expires_at_ms);
        let caller = Caller {
            user: login.user,
            login: login.id,
            device: login.device_id.as_str().into(),
            // A token says whole seconds.
            expires_at_ms: ends / 1_000 * 1_000,
        };
        Ok(Credentials {
            user: login.user,
            login: login.id,
            device_id: login.device_id.clone(),
            access_token: self.access_tokens.sign(&caller, now)?,
            access_expires_at_ms: caller.expires_at_ms,
            refresh_token: refresh.text(),
            refresh_expires_at_ms: login.expires_at_ms,
        })
    }

    /// Ends a login that is known to be the user's; whether it was open. Whatever becomes of the write, and also when
    /// nobody waits for it any more, the login is refused here from then on: it may have ended, and it was meant to.
    async fn end(&self, user: UserId, login: LoginId) -> Result<bool> {
        let _ending = Ending {
            identity: self,
            user,
            login,
        };
        self.store.end_login(user, login, self.clock.now_ms()).await
    }

    fn mark_ended(&self, user: UserId, login: LoginId) {
        let now = self.clock.now_ms();
        self.ended.add(login, now, now);
        self.told.login_ended(user, login);
    }
}

/// Marks a login as ended when the writing of its end is over, by whatever way.
struct Ending<'a> {
    identity: &'a Identity,
    user: UserId,
    login: LoginId,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.identity.mark_ended(self.user, self.login);
    }
}

/// A new account's name, in small letters.
fn account_name(name: &str) -> Result<String> {
    let name = name.to_ascii_lowercase();
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if !NAME_CHARS.contains(&name.len()) || !begins || !name.chars().all(allowed) {
        let problem =
            "must be 2 to 32 letters, digits, dots, dashes or underscores, beginning with a letter";
        return Err(errors::invalid_field("name", "string.pattern", problem));
    }
    Ok(name)
}

fn check_new_password(password: &str, name: &str) -> Result<()> {
    if !PASSWORD_CHARS.contains(&password.chars().count()) {
        let problem = "must have 10 to 256 characters";
        return Err(errors::invalid_field("password", "string.len", problem));
    }
    if weak::is_weak(password, name) {
        return Err(errors::weak_password());
    }
    Ok(())
}

fn device(device: Device) -> Result<Device> {
    let Device { device_id, name } = device;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if device_id.len() > DEVICE_ID_CHARS_MAX || !device_id.chars().all(allowed) {
        let problem = "must be at most 64 letters, digits, dashes or underscores";
        return Err(errors::invalid_field(
            "device.device_id",
            "string.pattern",
            problem,
        ));
    }
    let name = name.trim();
    if name.chars().count() > DEVICE_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let problem = "must have at most 100 characters and no control characters";
        return Err(errors::invalid_field(
            "device.name",
            "string.max_len",
            problem,
        ));
    }
    let device_id = match device_id.as_str() {
        "" => URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
        _ => device_id,
    };
    Ok(Device {
        device_id,
        name: name.to_owned(),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
