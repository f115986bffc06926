//! What shows that a call comes from a node: a code over all that it says (HMAC-SHA-256), with a key that the nodes share,
//! the time when it was sent, and a number that is used once.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use rand::Rng as _;
use sha2::Sha256;

use super::Call;
use crate::secret::Secret;

/// How long a call is good, and how far the clocks of two nodes may be apart, in milliseconds.
const GOOD_FOR_MS: i64 = 30_000;
/// How many seals are remembered. Full: calls are refused until the oldest are over.
const SEEN_MAX: usize = 200_000;
/// How short a key may be, in bytes.
const KEY_BYTES_MIN: usize = 32;

/// The way that a call goes. A seal for one is none for the other, so that a call is not good once on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum Way {
    /// Over NATS.
    Nats,
    /// Over HTTP.
    Http,
}

/// The key that the nodes of a deployment share.
#[derive(Clone)]
pub struct NodeKey(Arc<Secret>);

/// It is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is shorter than {KEY_BYTES_MIN} characters")]
pub struct BadKey;

/// What a call brings along.
#[derive(Debug, Clone)]
pub struct Seal {
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: i64,
    /// Used once.
    pub nonce: String,
    /// The code, in hex digits.
    pub mac: String,
}

impl Seal {
    /// Whether it was made at about this time.
    pub(in crate::transport) fn is_of(&self, now_ms: i64) -> bool {
        (now_ms - GOOD_FOR_MS..=now_ms + GOOD_FOR_MS).contains(&self.sent_ms)
    }
}

impl NodeKey {
    /// A key.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(secret: Secret) -> Result<NodeKey, BadKey> {
        match secret.expose().len() >= KEY_BYTES_MIN {
            true => Ok(NodeKey(Arc::new(secret))),
            false => Err(BadKey),
        }
    }

    /// Seals a call that is sent now.
    pub(in crate::transport) fn seal(&self, way: Way, call: &Call, now_ms: i64) -> Seal {
        let nonce = format!("{:032x}", rand::rng().random::<u128>());
        let code = self.code(way, call, now_ms, &nonce).finalize().into_bytes();
        Seal {
            sent_ms: now_ms,
            nonce,
            mac: hex_of(&code),
        }
    }

    /// Whether a node has sealed the call. In the same time whatever is wrong with it.
    pub(in crate::transport) fn holds(&self, way: Way, call: &Call, seal: &Seal) -> bool {
        let Some(mac) = bytes_of(&seal.mac) else {
            return false;
        };
        let code = self.code(way, call, seal.sent_ms, &seal.nonce);
        code.verify_slice(&mac).is_ok()
    }

    fn code(&self, way: Way, call: &Call, sent_ms: i64, nonce: &str) -> Hmac<Sha256> {
        let timeout_ms = call.timeout.as_millis().to_be_bytes();
        let way: Option<&[u8]> = match way {
            Way::Nats => None,
            Way::Http => Some(b"http"),
        };
        let parts = [
            call.path.as_bytes(),
            call.content_type.as_bytes(),
            call.identity.as_bytes(),
            call.request_id.as_bytes(),
            call.traceparent.as_bytes(),
            &timeout_ms,
            &sent_ms.to_be_bytes(),
            nonce.as_bytes(),
            &call.body,
        ];
        self.code_over(parts.into_iter().chain(way))
    }

    /// The code over these parts.
    pub(in crate::transport) fn code_of(&self, parts: &[Vec<u8>]) -> Vec<u8> {
        let code = self.code_over(parts.iter().map(Vec::as_slice));
        code.finalize().into_bytes().to_vec()
    }

    /// Whether it is the code over these parts. In the same time wherever it differs.
    pub(in crate::transport) fn is_code_of(&self, parts: &[Vec<u8>], mac: &[u8]) -> bool {
        let code = self.code_over(parts.iter().map(Vec::as_slice));
        code.verify_slice(mac).is_ok()
    }

    fn code_over<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
        let mut code =
            Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("a key of any length is taken");
        for part in parts {
            // With its length, so that nothing can move from one part to the next.
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        code
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(hidden)")
    }
}

/// Bytes in hex digits.
pub(in crate::transport) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that these hex digits are.
pub(in crate::transport) fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    match rest {
        [] => pairs.iter().map(byte).collect(),
        _ => None,
    }
}

/// The seals that came lately: none is good twice.
#[derive(Default)]
pub struct Seen(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    nonces: HashSet<String>,
    /// With the time from which each is too old to be good.
    order: VecDeque<(i64, String)>,
}

impl Seen {
    /// Whether a seal that holds is new and of about now.
    pub fn is_first(&self, seal: &Seal, now_ms: i64) -> bool {
        let mut lately = self.0.lock();
        while let Some((until_ms, _)) = lately.order.front()
            && *until_ms < now_ms
        {
            if let Some((_, nonce)) = lately.order.pop_front() {
                lately.nonces.remove(&nonce);
            }
        }
        if !seal.is_of(now_ms)
            || lately.order.len() >= SEEN_MAX
            || !lately.nonces.insert(seal.nonce.clone())
        {
            return false;
        }
        // Sent by a clock that is ahead, it is good for twice as long.
        let until_ms = now_ms + 2 * GOOD_FOR_MS;
        lately.order.push_back((until_ms, seal.nonce.clone()));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn key(first: u8) -> NodeKey {
        NodeKey::new(Secret::new(vec![first; KEY_BYTES_MIN])).unwrap()
    }

    fn call() -> Call {
        Call {
            path: "shop.v1.Till/Sell".into(),
            body: Bytes::from_static(b"a loaf"),
            content_type: "text/plain".into(),
            identity: "7".into(),
            request_id: "r".into(),
            traceparent: String::new(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_seal_holds_for_what_was_sealed_and_nothing_else() {
        let seal = key(1).seal(Way::Nats, &call(), NOW_MS);
        assert!(key(1).holds(Way::Nats, &call(), &seal));
        assert!(!key(2).holds(Way::Nats, &call(), &seal));
        assert!(!key(1).holds(Way::Http, &call(), &seal));
        let changes: [fn(&mut Call, &mut Seal); 8] = [
            |call, _| call.path = "shop.v1.Till/Give".into(),
            |call, _| call.body = Bytes::from_static(b"two loaves"),
            |call, _| call.identity = "8".into(),
            // What moves from one part to the next.
            |call, _| (call.identity, call.request_id) = ("7r".into(), String::new()),
            |call, _| call.timeout = Duration::from_secs(2),
            |_, seal| seal.sent_ms += 1,
            |_, seal| seal.nonce += "0",
            |_, seal| seal.mac.truncate(62),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let (mut call, mut seal) = (call(), seal.clone());
            change(&mut call, &mut seal);
            assert!(!key(1).holds(Way::Nats, &call, &seal), "change {at}");
        }
    }

    #[test]
    fn a_seal_is_good_once_and_not_for_long() {
        let seen = Seen::default();
        let seal = key(1).seal(Way::Nats, &call(), NOW_MS);
        assert!(seen.is_first(&seal, NOW_MS));
        for later_ms in [0, 1, GOOD_FOR_MS, 2 * GOOD_FOR_MS, 1_000 * GOOD_FOR_MS] {
            assert!(!seen.is_first(&seal, NOW_MS + later_ms));
        }
        let early = key(1).seal(Way::Nats, &call(), NOW_MS + GOOD_FOR_MS + 1);
        assert!(!seen.is_first(&early, NOW_MS));
        assert!(seen.0.lock().nonces.is_empty());
    }

    #[test]
    fn a_short_key_is_none() {
        let short = Secret::new(vec![1; KEY_BYTES_MIN - 1]);
        assert_eq!(NodeKey::new(short).err(), Some(BadKey));
    }
}
