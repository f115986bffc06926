//! Passwords as hashes: Argon2id with a pepper, on a pool with a bound, and in the same time for a name that
//! nobody has.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};
use tertulia_kit::error::Result;
use tertulia_kit::secret::Secret;
use tokio::sync::Semaphore;

use super::mac::hmac;
use super::model::Options;
use super::ports::PasswordHash;
use crate::errors;

/// What somebody does who is told that too many wait to be hashed.
const WAIT_WHEN_FULL: Duration = Duration::from_secs(2);

/// Secrets that go into every password hash and every refresh token, and are not in the database. Each hash
/// says which of them it was made with, so that a new one can be brought in while the old ones still verify.
#[derive(Debug, Clone)]
pub struct Peppers {
    current: Pepper,
    older: Vec<Pepper>,
}

#[derive(Debug, Clone)]
struct Pepper {
    id: String,
    secret: Secret,
}

impl Peppers {
    /// Makes new hashes with `secret`.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Peppers {
            current: Pepper::new(secret.into()),
            older: Vec::new(),
        }
    }

    /// Also verifies what was made with an older secret; a password that is verified so is hashed again.
    #[must_use]
    pub fn and_older(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.older.push(Pepper::new(secret.into()));
        self
    }

    /// The name of the pepper for new hashes. It does not tell the pepper.
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    /// What grows from the current pepper for a purpose.
    pub(super) fn seed(&self, purpose: &[u8]) -> [u8; 32] {
        hmac(self.current.secret.expose(), b"tertulia seed\0", purpose)
    }

    /// The pepper of a name.
    pub(super) fn secret(&self, id: &str) -> Option<&[u8]> {
        let all = std::iter::once(&self.current).chain(&self.older);
        all.into_iter()
            .find(|pepper| pepper.id == id)
            .map(|pepper| pepper.secret.expose())
    }
}

impl Pepper {
    fn new(secret: Vec<u8>) -> Self {
        // The name tells no more about the secret than a hash made with it does.
        let mut digest = Sha256::new();
        digest.update(b"tertulia pepper id\0");
        digest.update(&secret);
        let id = STANDARD_NO_PAD.encode(&digest.finalize()[..6]);
        Pepper {
            id,
            secret: Secret::new(secret),
        }
    }
}

/// Hashes and verifies. At most `hashes_at_once` run, at most `hash_queue_max` wait.
pub(super) struct Hasher {
    peppers: Arc<Peppers>,
    params: Params,
    /// A place for each that runs or waits.
    places: Arc<Semaphore>,
    /// A place for each that runs.
    running: Arc<Semaphore>,
    /// Verified in place of the password of an account that is not there.
    nobody: PasswordHash,
}

/// What a verification found.
pub(super) struct Verified {
    /// It is the password.
    pub right: bool,
    /// The same password with the parameters and the pepper of today, when it was hashed with others.
    pub rehashed: Option<PasswordHash>,
}

impl Hasher {
    pub(super) fn new(options: &Options, peppers: Arc<Peppers>) -> Result<Self> {
        let (memory_kib, passes) = (options.argon2_memory_kib, options.argon2_passes);
        let params = Params::new(memory_kib, passes, 1, None).map_err(argon2_failure)?;
        let at_once = options.hashes_at_once.clamp(1, Semaphore::MAX_PERMITS / 2);
        let places = at_once
            .saturating_add(options.hash_queue_max)
            .min(Semaphore::MAX_PERMITS);
        let nobody = PasswordHash {
            phc: format!(
                "$argon2id$v=19$m={memory_kib},t={passes},p=1${}${}",
                STANDARD_NO_PAD.encode(rand::random::<[u8; 16]>()),
                STANDARD_NO_PAD.encode(rand::random::<[u8; 32]>()),
            ),
            pepper_id: peppers.current_id().to_owned(),
        };
        Ok(Hasher {
            peppers,
            params,
            places: Arc::new(Semaphore::new(places)),
            running: Arc::new(Semaphore::new(at_once)),
            nobody,
        })
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: String) -> Result<PasswordHash> {
        let (peppers, params) = (Arc::clone(&self.peppers), self.params.clone());
        self.run(move || hash(&peppers, &params, &password)).await
    }

    /// Whether it is the password of the account, which takes as long when there is none.
    pub(super) async fn verify(
        &self,
        password: String,
        account: Option<PasswordHash>,
    ) -> Result<Verified> {
        let (peppers, params) = (Arc::clone(&self.peppers), self.params.clone());
        let is_account = account.is_some();
        let kept = account.unwrap_or_else(|| self.nobody.clone());
        self.run(move || {
            let right = verify(&peppers, &params, &password, &kept)? && is_account;
            let rehashed = (right && !is_of_today(&peppers, &params, &kept))
                .then(|| hash(&peppers, &params, &password))
                .transpose()?;
            Ok(Verified { right, rehashed })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let full = |_| errors::overloaded(WAIT_WHEN_FULL);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(errors::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            // The work can not be stopped, so the places go with it and not with who waits for it.
            let _held = (place, running);
            work()
        });
        done.await.map_err(errors::internal)?
    }
}

fn hash(peppers: &Peppers, params: &Params, password: &str) -> Result<PasswordHash> {
    let pepper_id = peppers.current_id().to_owned();
    let argon2 = argon2(peppers, params, &pepper_id)?;
    let phc = argon2
        .hash_password(password.as_bytes())
        .map_err(argon2_failure)?
        .to_string();
    Ok(PasswordHash { phc, pepper_id })
}

fn verify(peppers: &Peppers, params: &Params, password: &str, kept: &PasswordHash) -> Result<bool> {
    let argon2 = argon2(peppers, params, &kept.pepper_id)?;
    let phc = Phc::new(&kept.phc).map_err(argon2_failure)?;
    match argon2.verify_password(password.as_bytes(), &phc) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(e) => Err(argon2_failure(e)),
    }
}

fn argon2<'a>(peppers: &'a Peppers, params: &Params, pepper_id: &str) -> Result<Argon2<'a>> {
    let secret = peppers.secret(pepper_id).ok_or_else(|| {
        errors::internal(format!(
            "the pepper {pepper_id} of a stored password is not configured"
        ))
    })?;
    Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params.clone())
        .map_err(argon2_failure)
}

fn is_of_today(peppers: &Peppers, params: &Params, kept: &PasswordHash) -> bool {
    let parsed = Phc::new(&kept.phc)
        .ok()
        .and_then(|phc| Params::try_from(&phc).ok());
    kept.pepper_id == peppers.current_id()
        && parsed.is_some_and(|kept| {
            kept.m_cost() == params.m_cost()
                && kept.t_cost() == params.t_cost()
                && kept.p_cost() == params.p_cost()
        })
}

fn argon2_failure(e: impl std::fmt::Display) -> tertulia_kit::error::Failure {
    errors::internal(format!("argon2: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(memory_kib: u32, peppers: Peppers) -> Hasher {
        let options = Options {
            argon2_memory_kib: memory_kib,
            argon2_passes: 1,
            hashes_at_once: 1,
            hash_queue_max: 0,
            ..Options::default()
        };
        Hasher::new(&options, Arc::new(peppers)).unwrap()
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_and_no_other() {
        let hasher = hasher(64, Peppers::new("pepper"));
        let kept = hasher.hash("correct horse".into()).await.unwrap();
        assert!(
            kept.phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
            "{}",
            kept.phc
        );
        assert!(
            hasher
                .verify("correct horse".into(), Some(kept.clone()))
                .await
                .unwrap()
                .right
        );
        assert!(
            !hasher
                .verify("correct horse ".into(), Some(kept))
                .await
                .unwrap()
                .right
        );
        assert!(
            !hasher
                .verify("correct horse".into(), None)
                .await
                .unwrap()
                .right
        );
    }

    #[tokio::test]
    async fn a_hash_is_worth_nothing_without_its_pepper() {
        let kept = hasher(64, Peppers::new("one"))
            .hash("correct horse".into())
            .await
            .unwrap();
        let forged = PasswordHash {
            pepper_id: Peppers::new("two").current.id,
            ..kept.clone()
        };
        let other = hasher(64, Peppers::new("two"));
        assert!(
            !other
                .verify("correct horse".into(), Some(forged))
                .await
                .unwrap()
                .right
        );
        let failure = other
            .verify("correct horse".into(), Some(kept))
            .await
            .err()
            .unwrap();
        assert_eq!(failure.reason(), "INTERNAL");
    }

    #[tokio::test]
    async fn old_parameters_and_old_peppers_are_replaced() {
        let old = hasher(64, Peppers::new("old"))
            .hash("correct horse".into())
            .await
            .unwrap();
        for new in [
            hasher(128, Peppers::new("old")),
            hasher(64, Peppers::new("new").and_older("old")),
        ] {
            let verified = new
                .verify("correct horse".into(), Some(old.clone()))
                .await
                .unwrap();
            let rehashed = verified.rehashed.unwrap();
            let verified = new
                .verify("correct horse".into(), Some(rehashed))
                .await
                .unwrap();
            assert!(verified.right && verified.rehashed.is_none());
            let wrong = new
                .verify("wrong horse".into(), Some(old.clone()))
                .await
                .unwrap();
            assert!(!wrong.right && wrong.rehashed.is_none());
        }
    }

    #[tokio::test]
    async fn a_full_queue_says_overloaded() {
        let hasher = hasher(64, Peppers::new("pepper"));
        let taken = hasher.places.try_acquire().unwrap();
        let failure = hasher.hash("correct horse".into()).await.unwrap_err();
        assert_eq!(failure.reason(), "OVERLOADED");
        assert!(failure.retry_after().is_some());
        drop(taken);
        assert!(hasher.hash("correct horse".into()).await.is_ok());
    }
}
