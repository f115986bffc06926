//! How a request becomes a WebSocket (RFC 6455, section 4).

use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha1::{Digest as _, Sha1};
use tertulia_kit::transport::OnUpgrade;

/// What the protocol has both sides put behind the key.
const BEHIND_KEY: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The version of the protocol.
const VERSION: &str = "13";
/// How long a key is: 16 bytes in base64.
const KEY_BYTES: usize = 24;

/// A request that asks for a WebSocket.
pub struct Handshake {
    key: HeaderValue,
    /// The connection, when the answer is sent.
    pub connection: OnUpgrade,
}

impl Handshake {
    /// Takes it from a request; none when that asks for something else.
    pub fn of(request: &mut Request) -> Option<Handshake> {
        let headers = request.headers();
        let asks = has_word(headers, &header::CONNECTION, "upgrade")
            && has_word(headers, &header::UPGRADE, "websocket")
            && has_word(headers, &header::SEC_WEBSOCKET_VERSION, VERSION);
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.filter(|key| asks && key.len() == KEY_BYTES)?.clone();
        let connection = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Handshake { key, connection })
    }

    /// The answer that agrees to it.
    pub fn answer(&self) -> (StatusCode, [(HeaderName, String); 3]) {
        let headers = [
            (header::CONNECTION, "Upgrade".to_owned()),
            (header::UPGRADE, "websocket".to_owned()),
            (header::SEC_WEBSOCKET_ACCEPT, accept(self.key.as_bytes())),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    }
}

/// Whether a word is in a list of words, in any case.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).iter();
    let mut words = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    words.any(|one| one.trim().eq_ignore_ascii_case(word))
}

fn accept(key: &[u8]) -> String {
    let mut sha = Sha1::new();
    sha.update(key);
    sha.update(BEHIND_KEY);
    STANDARD.encode(sha.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_standard() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn words_are_found_in_any_case_and_any_line() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.append(
            header::CONNECTION,
            HeaderValue::from_static("close, UPgrade"),
        );
        assert!(has_word(&headers, &header::CONNECTION, "upgrade"));
        assert!(!has_word(&headers, &header::CONNECTION, "grade"));
        assert!(!has_word(&headers, &header::UPGRADE, "websocket"));
    }
}
