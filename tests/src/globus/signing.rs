//! The key that ID tokens are signed with, and the ways in which a signature can be wrong.
//!
//! Neither the key set nor a token's header names a key (`kid`), as at Globus.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA512};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::faults::Fault;

/// An RSA key for RS512.
pub(crate) struct SigningKey(KeyPair);

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the crypto library cannot.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        KeyPair::generate(KeySize::Rsa2048).map(Self)
    }

    /// The key set at `jwks_uri`.
    pub(crate) fn key_set(&self) -> Value {
        let public = self.0.public_key();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "alg": "RS512",
            "e": text(public.exponent().big_endian_without_leading_zero()),
            "kty": "RSA",
            "n": text(public.modulus().big_endian_without_leading_zero()),
            "use": "sig",
        }]})
    }

    /// A compact JWS of `claims`, wrong in the way that `fault` says, if any.
    ///
    /// # Errors
    /// When the crypto library cannot sign.
    pub(crate) fn sign(
        &self,
        claims: &Value,
        fault: Option<&Fault>,
    ) -> Result<String, Unspecified> {
        let is = |wanted: &Fault| fault == Some(wanted);
        let algorithm = match () {
            () if is(&Fault::AlgNone) => "none",
            () if is(&Fault::AlgHs256) => "HS256",
            () => "RS512",
        };
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"typ": "JWT", "alg": algorithm});
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = match () {
            () if is(&Fault::AlgNone) => Vec::new(),
            // The classic confusion: the public key, which everybody has, used as a shared secret.
            () if is(&Fault::AlgHs256) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.public_der());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            () if is(&Fault::BadSignature) => self.rs512(b"something else")?,
            () => self.rs512(message.as_bytes())?,
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The DER of the public key.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    fn rs512(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(
            &RSA_PKCS1_SHA512,
            &SystemRandom::new(),
            message,
            &mut signature,
        )?;
        Ok(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

/// `at_hash` for RS512: the left half of the access token's SHA-512 (OpenID Connect Core §3.1.3.6).
pub(crate) fn at_hash(access_token: &str) -> String {
    let digest = digest::digest(&digest::SHA512, access_token.as_bytes());
    let half = digest.as_ref().first_chunk::<32>();
    half.map(|half| URL_SAFE_NO_PAD.encode(half))
        .unwrap_or_default()
}
