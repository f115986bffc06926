//! What shows over HTTP that a caller is a node, or a service that holds the node key: a token made for one call of one
//! method. It says when it was made and has a number that is used once, so that whoever reads it on the way can do
//! little with it: it is good for half a minute, once on each node, and for no other method.

use rand::Rng as _;

use super::nats::NodeKey;
use super::nats::seal::{Seal, Seen, bytes_of, hex_of};

/// What the code of a token begins with: no seal of a call is one.
const PURPOSE: &[u8] = b"node token";

impl NodeKey {
    /// A token for one call of a method, such as `shop.v1.Till/Sell`, made now.
    pub fn token(&self, method: &str, now_ms: i64) -> String {
        let nonce = format!("{:032x}", rand::rng().random::<u128>());
        let mac = hex_of(&self.code_of(&parts(method, now_ms, &nonce)));
        format!("{now_ms}.{nonce}.{mac}")
    }
}

fn parts<'a>(method: &'a str, sent_ms: i64, nonce: &'a str) -> [Vec<u8>; 4] {
    [
        PURPOSE.to_vec(),
        method.as_bytes().to_vec(),
        sent_ms.to_be_bytes().to_vec(),
        nonce.as_bytes().to_vec(),
    ]
}

/// Knows good tokens.
pub struct NodeTokens {
    key: NodeKey,
    seen: Seen,
}

/// It is no good token: malformed, of another key, for another method, too old, or used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no good token of a node")]
pub struct BadNodeToken;

impl NodeTokens {
    /// Those that are made with `key`.
    pub fn new(key: NodeKey) -> NodeTokens {
        NodeTokens {
            key,
            seen: Seen::default(),
        }
    }

    /// Takes a token for a call of `method`; it is not good a second time.
    ///
    /// # Errors
    /// When it is not good. Why is not told.
    pub fn take(&self, token: &str, method: &str, now_ms: i64) -> Result<(), BadNodeToken> {
        let seal = read(token).ok_or(BadNodeToken)?;
        let mac = bytes_of(&seal.mac).ok_or(BadNodeToken)?;
        let parts = parts(method, seal.sent_ms, &seal.nonce);
        let is_good = self.key.is_code_of(&parts, &mac) && self.seen.is_first(&seal, now_ms);
        is_good.then_some(()).ok_or(BadNodeToken)
    }
}

fn read(token: &str) -> Option<Seal> {
    let (sent_ms, rest) = token.split_once('.')?;
    let (nonce, mac) = rest.split_once('.')?;
    Some(Seal {
        sent_ms: sent_ms.parse().ok()?,
        nonce: nonce.to_owned(),
        mac: mac.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NOW_MS: i64 = 1_800_000_000_000;
    const SELL: &str = "shop.v1.Till/Sell";

    fn key(first: u8) -> NodeKey {
        NodeKey::new(Secret::new(vec![first; 32])).unwrap()
    }

    #[test]
    fn a_token_is_good_once_for_one_method_and_not_for_long() {
        let tokens = NodeTokens::new(key(1));
        let made = || key(1).token(SELL, NOW_MS);
        let token = made();
        assert_eq!(tokens.take(&token, SELL, NOW_MS), Ok(()));
        assert_eq!(tokens.take(&token, SELL, NOW_MS), Err(BadNodeToken));
        assert_eq!(tokens.take(&made(), SELL, NOW_MS + 30_000), Ok(()));
        for (method, now_ms) in [
            ("shop.v1.Till/Give", NOW_MS),
            (SELL, NOW_MS + 30_001),
            (SELL, NOW_MS - 30_001),
        ] {
            let taken = tokens.take(&made(), method, now_ms);
            assert_eq!(taken, Err(BadNodeToken), "{method} at {now_ms}");
        }
    }

    #[test]
    fn what_was_changed_or_made_with_another_key_is_no_token() {
        let tokens = NodeTokens::new(key(1));
        let token = key(1).token(SELL, NOW_MS);
        let later = token.replacen(&NOW_MS.to_string(), &(NOW_MS + 1).to_string(), 1);
        let cut = &token[..token.len() - 2];
        let foreign = key(2).token(SELL, NOW_MS);
        for bad in [later.as_str(), cut, &foreign, "", ".", "..", "a.b.c", "1.2"] {
            let taken = tokens.take(bad, SELL, NOW_MS);
            assert_eq!(taken, Err(BadNodeToken), "{bad}");
        }
        assert_eq!(tokens.take(&token, SELL, NOW_MS), Ok(()));
    }
}
