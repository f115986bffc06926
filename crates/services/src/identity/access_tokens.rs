//! Access tokens: a JWT that says who calls. It is verified without the store, and once: what was verified
//! is remembered, because a signature costs fifty times a look into a table.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tertulia_kit::error::Result;

use super::model::Jwk;
use super::passwords::Peppers;
use crate::access::Caller;
use crate::errors;
use crate::ids::{LoginId, UserId};

const ISSUER: &str = "tertulia";
const AUDIENCE: &str = "tertulia";
/// Says that it is an access token (RFC 9068), so that no other JWT of ours is ever taken for one.
const TYPE: &str = "at+jwt";
/// Our tokens have about 350 bytes.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The keys that sign and verify access tokens.
pub struct SigningKeys {
    signing: EncodingKey,
    /// The signing key's own, then those that only verify.
    verifying: Vec<VerifyingKey>,
}

struct VerifyingKey {
    jwk: Jwk,
    key: DecodingKey,
}

impl SigningKeys {
    /// Signs with the Ed25519 key that grows from `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // What stands before the seed in a PKCS #8 key of Ed25519 (RFC 8410).
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend_from_slice(seed);
        let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
        SigningKeys {
            signing: EncodingKey::from_ed_der(&der),
            verifying: vec![VerifyingKey::new(&public)],
        }
    }

    /// Signs with a key that all who have the same pepper make of it, so that nodes believe each other's tokens.
    pub fn of_pepper(peppers: &Peppers) -> Self {
        Self::from_seed(&peppers.seed(b"access tokens"))
    }

    /// Also verifies with a public key: the one that signed before, until its last token is over, or one
    /// that will sign soon.
    #[must_use]
    pub fn and_verify(mut self, public: &[u8; 32]) -> Self {
        self.verifying.push(VerifyingKey::new(public));
        self
    }

    /// The public keys; the one that signs is the first.
    pub fn jwks(&self) -> Vec<Jwk> {
        self.verifying.iter().map(|key| key.jwk.clone()).collect()
    }
}

impl VerifyingKey {
    fn new(public: &[u8; 32]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public);
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        VerifyingKey {
            jwk: Jwk { kid, x },
            key: DecodingKey::from_ed_der(public),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    lid: String,
    did: String,
    iat: i64,
    exp: i64,
    aud: String,
}

/// Makes and verifies access tokens.
pub struct AccessTokens {
    keys: SigningKeys,
    validation: Validation,
    verified: Remembered,
}

impl AccessTokens {
    /// Signs and verifies with `keys`, and remembers so many tokens that it has verified.
    pub fn new(keys: SigningKeys, verified_max: usize) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        // The time is asked of our clock, by the caller, at every use of a token.
        validation.validate_exp = false;
        AccessTokens {
            keys,
            validation,
            verified: Remembered::new(verified_max),
        }
    }

    /// The public keys; the one that signs is the first.
    pub fn jwks(&self) -> Vec<Jwk> {
        self.keys.jwks()
    }

    /// The token of a caller. A token says whole seconds: it ends where the second of `caller.expires_at_ms`
    /// begins.
    ///
    /// # Errors
    /// `INTERNAL` when the key is none.
    pub fn sign(&self, caller: &Caller, now_ms: i64) -> Result<String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.into());
        header.kid = Some(self.keys.verifying[0].jwk.kid.clone());
        let claims = Claims {
            iss: ISSUER.into(),
            sub: caller.user.to_string(),
            lid: caller.login.to_string(),
            did: caller.device.as_ref().to_owned(),
            iat: now_ms / 1_000,
            exp: caller.expires_at_ms / 1_000,
            aud: AUDIENCE.into(),
        };
        jsonwebtoken::encode(&header, &claims, &self.keys.signing).map_err(errors::internal)
    }

    /// Who the token says that calls, whether or not it is expired.
    ///
    /// # Errors
    /// `BAD_TOKEN`.
    pub fn read(&self, token: &str) -> Result<Caller> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(errors::bad_token());
        }
        let key: TokenKey = Sha256::digest(token).into();
        if let Some(caller) = self.verified.get(&key) {
            return Ok(caller);
        }
        let caller = self.decode(token).ok_or_else(errors::bad_token)?;
        self.verified.put(key, caller.clone());
        Ok(caller)
    }

    fn decode(&self, token: &str) -> Option<Caller> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYPE) {
            return None;
        }
        let kid = header.kid?;
        let key = self.keys.verifying.iter().find(|key| key.jwk.kid == kid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation)
            .ok()?
            .claims;
        Some(Caller {
            user: UserId(claims.sub.parse().ok()?),
            login: LoginId(claims.lid.parse().ok()?),
            device: claims.did.into(),
            expires_at_ms: claims.exp.checked_mul(1_000)?,
        })
    }
}

type TokenKey = [u8; 32];

/// What was verified lately. Two halves: when the young one is full, it becomes the old one and the old one
/// is forgotten; so it has a bound, and keeping it costs nothing.
struct Remembered {
    half_max: usize,
    /// Guards both halves; held for a look or an insertion.
    halves: RwLock<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<TokenKey, Arc<Caller>>,
    old: HashMap<TokenKey, Arc<Caller>>,
}

impl Remembered {
    fn new(max: usize) -> Self {
        Remembered {
            half_max: (max / 2).max(1),
            halves: RwLock::default(),
        }
    }

    fn get(&self, key: &TokenKey) -> Option<Caller> {
        let halves = self.halves.read();
        halves
            .young
            .get(key)
            .or_else(|| halves.old.get(key))
            .map(|caller| Caller::clone(caller))
    }

    fn put(&self, key: TokenKey, caller: Caller) {
        let mut halves = self.halves.write();
        if halves.young.len() >= self.half_max {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(key, Arc::new(caller));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn tokens(keys: SigningKeys) -> AccessTokens {
        AccessTokens::new(keys, 4)
    }

    fn caller() -> Caller {
        Caller {
            user: UserId(1),
            login: LoginId(2),
            device: "device-a".into(),
            expires_at_ms: 1_800_000_600_000,
        }
    }

    fn forged(header: &str, claims: &str) -> String {
        let body = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let key = SigningKeys::from_seed(&SEED).signing;
        let signature =
            jsonwebtoken::crypto::sign(body.as_bytes(), &key, Algorithm::EdDSA).unwrap();
        format!("{body}.{signature}")
    }

    fn kid() -> String {
        SigningKeys::from_seed(&SEED).jwks().remove(0).kid
    }

    const CLAIMS: &str = r#"{"iss":"tertulia","sub":"1","lid":"2","did":"d","iat":1,"exp":1800000600,"aud":"tertulia"}"#;

    #[test]
    fn a_token_says_who_calls() {
        let tokens = tokens(SigningKeys::from_seed(&SEED));
        let token = tokens.sign(&caller(), 1_800_000_000_000).unwrap();
        assert!(token.len() < 512, "{}", token.len());
        assert_eq!(tokens.read(&token).unwrap(), caller());
        assert_eq!(tokens.read(&token).unwrap(), caller(), "also from memory");
    }

    #[test]
    fn a_changed_token_is_bad() {
        let tokens = tokens(SigningKeys::from_seed(&SEED));
        let token = tokens.sign(&caller(), 1_800_000_000_000).unwrap();
        tokens.read(&token).unwrap();
        for at in [3, token.len() / 2, token.len() - 4] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read(&changed).unwrap_err().reason(), "BAD_TOKEN");
        }
        for text in ["", ".", "..", "a.b.c", &"a".repeat(5_000)] {
            assert_eq!(tokens.read(text).unwrap_err().reason(), "BAD_TOKEN");
        }
    }

    #[test]
    fn only_our_kind_of_token_is_taken() {
        let tokens = tokens(SigningKeys::from_seed(&SEED));
        let kid = kid();
        let good = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
        assert!(tokens.read(&forged(&good, CLAIMS)).is_ok());
        for header in [
            format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":"other"}"#.to_owned(),
        ] {
            assert!(tokens.read(&forged(&header, CLAIMS)).is_err(), "{header}");
        }
        for claims in [
            CLAIMS.replace(r#""aud":"tertulia""#, r#""aud":"other""#),
            CLAIMS.replace(r#""iss":"tertulia""#, r#""iss":"other""#),
            CLAIMS.replace(r#""iss":"tertulia","#, ""),
            CLAIMS.replace(r#","aud":"tertulia""#, ""),
            CLAIMS.replace(r#","exp":1800000600"#, ""),
            CLAIMS.replace(r#""sub":"1""#, r#""sub":"x""#),
        ] {
            assert!(tokens.read(&forged(&good, &claims)).is_err(), "{claims}");
        }
    }

    #[test]
    fn the_public_key_as_a_secret_signs_nothing() {
        let tokens = tokens(SigningKeys::from_seed(&SEED));
        let public = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.into());
        header.kid = Some(kid());
        let claims = Claims {
            iss: ISSUER.into(),
            sub: "1".into(),
            lid: "2".into(),
            did: "d".into(),
            iat: 1,
            exp: 1_800_000_600,
            aud: AUDIENCE.into(),
        };
        let token =
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&public)).unwrap();
        assert_eq!(tokens.read(&token).unwrap_err().reason(), "BAD_TOKEN");
    }

    #[test]
    fn tokens_outlive_a_change_of_keys() {
        let old = tokens(SigningKeys::from_seed(&SEED));
        let token = old.sign(&caller(), 1_800_000_000_000).unwrap();
        let public = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
        let new = tokens(SigningKeys::from_seed(&[8; 32]).and_verify(&public));
        assert_eq!(new.read(&token).unwrap(), caller());
        assert_eq!(new.jwks().len(), 2);
        assert_ne!(new.jwks()[0].kid, old.jwks()[0].kid);
        assert!(
            tokens(SigningKeys::from_seed(&[8; 32]))
                .read(&token)
                .is_err()
        );
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let remembered = Remembered::new(10);
        for n in 0..100_u8 {
            remembered.put([n; 32], caller());
            assert!(remembered.get(&[n; 32]).is_some());
        }
        let halves = remembered.halves.read();
        assert!(halves.young.len() + halves.old.len() <= 10);
    }
}
