//! A provider's signing keys (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The public keys with which a provider signs.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

/// One public key.
#[derive(Clone, Debug)]
pub(super) struct VerificationKey {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a key set. Keys that cannot verify a signature (encryption keys, symmetric keys, unknown
    /// types) are left out, as RFC 7517 §5 asks; one such key must not make the others useless.
    ///
    /// # Errors
    /// [`BadKeySet`] if it is not a key set, has no usable key, or has more than 64.
    pub fn parse(document: &[u8]) -> Result<Self, BadKeySet> {
        let document: Document<'_> = serde_json::from_slice(document).map_err(BadKeySet::Parse)?;
        if document.keys.len() > MAX_KEYS {
            return Err(BadKeySet::TooManyKeys);
        }
        let keys: Vec<VerificationKey> = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_str(key.get()).ok())
            .filter_map(|key: Jwk| VerificationKey::new(&key))
            .collect();
        if keys.is_empty() {
            Err(BadKeySet::NoUsableKey)
        } else {
            Ok(Self { keys })
        }
    }

    /// The keys that may have signed a token whose header names `id` and `algorithm`.
    ///
    /// Globus names no `kid`, neither in its key set nor in its tokens. A token without `kid` may be
    /// signed with the only key that fits its algorithm, or with any that has no name either: while such
    /// an issuer rotates its keys, it publishes two that cannot be told apart. Between keys with names
    /// none is chosen.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&VerificationKey> {
        let mut fitting: Vec<_> = self.keys.iter().filter(|key| key.fits(algorithm)).collect();
        if id.is_some() || fitting.len() > 1 {
            fitting.retain(|key| key.id.as_deref() == id);
        }
        fitting
    }
}

impl VerificationKey {
    fn new(key: &Jwk) -> Option<Self> {
        if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
            || matches!(key.algorithm, AlgorithmParameters::OctetKey(_))
        {
            return None;
        }
        let algorithm = match key.common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        Some(Self {
            id: key.common.key_id.clone(),
            algorithm,
            key: DecodingKey::from_jwk(key).ok()?,
        })
    }

    /// A key with an `alg` of its own serves no other (RFC 7517 §4.4).
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.key.family() == algorithm.family() && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// A provider needs two keys to rotate; 64 bounds the work that a hostile document can cause.
const MAX_KEYS: usize = 64;

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKeySet {
    /// No key that can verify a signature.
    #[error("the key set has no key that can verify a signature")]
    NoUsableKey,
    /// Not a JSON object with `keys`.
    #[error("failed to parse the key set")]
    Parse(#[source] serde_json::Error),
    /// More than 64 keys.
    #[error("the key set has more than 64 keys")]
    TooManyKeys,
}
