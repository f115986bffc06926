//! Refresh tokens: a chain for each login, of which the store has only the hash of the newest link and of the
//! one before.
//!
//! ```text
//! key     = HMAC(pepper, seed of the login)
//! token   = login id (8) | secret (32) | tag (16)
//! secret  = at first random, then HMAC(key, "next" | the token before)
//! tag     = HMAC(key, "tag" | login id | secret)
//! ```
//! A successor can be made again from the spent token, so that two who refresh at once get the same answer;
//! and nobody can make it without the pepper. The tag tells a spent token of this login, however old, from
//! one that was never given out; so nothing has to be kept of the old ones, and a guess ends no login.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::mac::hmac;
use super::passwords::Peppers;
use super::ports::{Family, TokenHash};
use crate::ids::LoginId;

const TOKEN_BYTES: usize = 8 + 32 + 16;

/// A refresh token, not yet proved to be ours.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    login: LoginId,
    secret: [u8; 32],
    tag: [u8; 16],
}

impl RefreshToken {
    /// Reads what a client shows.
    pub(super) fn parse(text: &str) -> Option<RefreshToken> {
        // Decoding into a fixed buffer would refuse longer input too; this refuses it before any work.
        if text.len() != TOKEN_BYTES.div_ceil(3) * 4 - 1 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (login, rest) = bytes.split_first_chunk::<8>()?;
        let (secret, rest) = rest.split_first_chunk::<32>()?;
        let tag = rest.try_into().ok()?;
        Some(RefreshToken {
            login: LoginId(i64::from_be_bytes(*login)),
            secret: *secret,
            tag,
        })
    }

    /// Which login it says that it is of.
    pub(super) fn login(&self) -> LoginId {
        self.login
    }

    /// What a client keeps.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes())
    }

    /// What the store keeps.
    pub(super) fn hash(&self) -> TokenHash {
        Sha256::digest(self.bytes()).into()
    }

    fn bytes(&self) -> [u8; TOKEN_BYTES] {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..8].copy_from_slice(&self.login.0.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.secret);
        bytes[40..].copy_from_slice(&self.tag);
        bytes
    }
}

/// Makes and knows the tokens of one login.
pub(super) struct Chain {
    login: LoginId,
    key: [u8; 32],
}

impl Chain {
    /// The chain of a login; none when its pepper is no longer configured.
    pub(super) fn of(login: LoginId, family: &Family, peppers: &Peppers) -> Option<Chain> {
        let key = hmac(
            peppers.secret(&family.pepper_id)?,
            b"tertulia refresh\0",
            &family.seed,
        );
        Some(Chain { login, key })
    }

    /// A first token.
    pub(super) fn first(&self) -> RefreshToken {
        self.token(rand::random())
    }

    /// The token that follows a spent one; always the same.
    pub(super) fn after(&self, spent: &RefreshToken) -> RefreshToken {
        self.token(hmac(&self.key, b"next\0", &spent.bytes()))
    }

    /// Whether this chain made the token.
    pub(super) fn made(&self, token: &RefreshToken) -> bool {
        let real = self.token(token.secret);
        // Every byte is looked at, so that the time tells nothing.
        let difference = real
            .tag
            .iter()
            .zip(token.tag)
            .fold(0, |all, (a, b)| all | (a ^ b));
        token.login == self.login && difference == 0
    }

    fn token(&self, secret: [u8; 32]) -> RefreshToken {
        let mut tagged = [0; 40];
        tagged[..8].copy_from_slice(&self.login.0.to_be_bytes());
        tagged[8..].copy_from_slice(&secret);
        let full = hmac(&self.key, b"tag\0", &tagged);
        let mut tag = [0; 16];
        tag.copy_from_slice(&full[..16]);
        RefreshToken {
            login: self.login,
            secret,
            tag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(login: i64, seed: u8, pepper: &str) -> Chain {
        let peppers = Peppers::new(pepper);
        let pepper_id = peppers.current_id().to_owned();
        Chain::of(
            LoginId(login),
            &Family {
                seed: [seed; 32],
                pepper_id,
            },
            &peppers,
        )
        .unwrap()
    }

    #[test]
    fn a_token_comes_back_from_its_text() {
        let token = chain(42, 1, "p").first();
        let text = token.text();
        assert!(text.len() <= 200);
        assert!(RefreshToken::parse(&text) == Some(token));
        for bad in [
            "",
            "x",
            &text[1..],
            &format!("{text}A"),
            &text.replace(&text[..1], "*"),
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_successor_is_always_the_same_and_never_its_parent() {
        let chain = chain(42, 1, "p");
        let first = chain.first();
        assert!(chain.after(&first) == chain.after(&first));
        assert!(chain.after(&first) != first);
        assert!(chain.first() != first);
    }

    #[test]
    fn a_chain_knows_its_own_tokens_and_no_others() {
        let ours = chain(42, 1, "p");
        let token = ours.after(&ours.first());
        assert!(ours.made(&token));
        for other in [chain(43, 1, "p"), chain(42, 2, "p"), chain(42, 1, "q")] {
            assert!(!other.made(&token));
        }
        let mut forged = token;
        forged.secret[0] ^= 1;
        assert!(!ours.made(&forged));
    }

    #[test]
    fn a_chain_needs_its_pepper() {
        let family = Family {
            seed: [1; 32],
            pepper_id: "gone".into(),
        };
        assert!(Chain::of(LoginId(1), &family, &Peppers::new("p")).is_none());
    }
}
