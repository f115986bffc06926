//! The clock and chance of this crate. They only decide when to try; never what is true.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tertulia_proto::identity::Credentials;
use tokio::time::Instant;

/// The clock and the chance of the machine that a client runs on.
pub trait Machine: Send + Sync + 'static {
    /// Milliseconds since 1970 by the local clock, which may be wrong.
    fn now_ms(&self) -> i64;

    /// Fills with random bytes that nobody can guess.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine as it is.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Machine for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the client stands alone, without the kit"
    )]
    fn now_ms(&self) -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| d.as_millis() as i64)
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has a source of randomness");
    }
}

/// 128 random bits, as ids of devices and messages are written.
pub(crate) fn random_id(machine: &dyn Machine) -> String {
    let mut bytes = [0; 16];
    machine.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A random number from 0 to 1.
pub(crate) fn random_share(machine: &dyn Machine) -> f64 {
    let mut bytes = [0; 4];
    machine.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// How long an access token lives, counted on a clock that no one sets. A token that was just issued says
/// itself how long it lives, so that a wrong local clock does no harm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    born: Instant,
    lifetime: Duration,
}

impl Life {
    /// Of credentials that the server just gave.
    pub(crate) fn issued(credentials: &Credentials, now_ms: i64) -> Self {
        let lifetime = lifetime(&credentials.access_token).unwrap_or_else(|| {
            let left = credentials.access_expires_at_ms - now_ms;
            Duration::from_millis(if left > 0 { left as u64 } else { 60_000 })
        });
        Life {
            born: Instant::now(),
            lifetime,
        }
    }

    /// Of credentials that were stored some time ago.
    pub(crate) fn stored(credentials: &Credentials, now_ms: i64) -> Self {
        let left = (credentials.access_expires_at_ms - now_ms).max(0) as u64;
        Life {
            born: Instant::now(),
            lifetime: Duration::from_millis(left),
        }
    }

    /// It has ended, or almost.
    pub(crate) fn is_over(&self) -> bool {
        self.born.elapsed() >= self.lifetime.mul_f64(0.95)
    }

    /// When to replace it: after three quarters, or a minute before its end when it lives long.
    pub(crate) fn renew_in(&self) -> Duration {
        let wait = self
            .lifetime
            .mul_f64(0.75)
            .max(self.lifetime.saturating_sub(Duration::from_secs(60)));
        wait.saturating_sub(self.born.elapsed())
    }
}

/// What a JWT says of its own length of life. The signature is the server's business.
fn lifetime(token: &str) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iat: u64,
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Some(Duration::from_secs(
        claims.exp.checked_sub(claims.iat).filter(|s| *s > 0)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_lives_as_long_as_it_says_whatever_the_local_clock() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":1400}"#);
        let access_token = format!("head.{claims}.signature");
        let credentials = Credentials {
            access_token,
            access_expires_at_ms: 1,
            ..Default::default()
        };
        let life = Life::issued(&credentials, 2_000);
        assert!(!life.is_over());
        assert!(
            life.renew_in() > Duration::from_secs(330)
                && life.renew_in() < Duration::from_secs(341)
        );
        assert!(Life::stored(&credentials, 2_000).is_over());
    }
}
