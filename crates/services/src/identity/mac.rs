//! What grows from a secret for one purpose and tells nothing of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

/// HMAC-SHA256, as the JWT library has it.
pub(super) fn hmac(key: &[u8], domain: &[u8], data: &[u8]) -> [u8; 32] {
    let message = [domain, data].concat();
    let signed =
        jsonwebtoken::crypto::sign(&message, &EncodingKey::from_secret(key), Algorithm::HS256);
    signed
        .ok()
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .expect("HMAC-SHA256 takes any key and any text and gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_is_the_one_of_the_rfc() {
        // RFC 4231, test case 2.
        let mac = hmac(b"Jefe", b"what do ya want ", b"for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
