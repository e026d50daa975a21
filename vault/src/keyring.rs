//! The keys under which secrets are stored.
//!
//! A key has an id and two halves. The *key encryption key* is outside of the database, behind a
//! [`KeyEncryption`]: in a Secret today, in a KMS tomorrow. It wraps the *seed*, which lies wrapped in the
//! database and from which the key of every write is derived. So a copy of the database opens nothing.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::random;
use globus_auth_core::sealer::{Context, KeyBytes, KeyId as SealerKey, Sealer};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Names a key: 1 to 32 letters, digits and hyphens.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = BadKeys;

    fn try_from(text: String) -> Result<Self, BadKeys> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text))
        } else {
            Err(BadKeys::Id)
        }
    }
}

/// What encrypts seeds, outside of the database.
pub trait KeyEncryption: Send + Sync {
    /// The ids of the keys that there are, the primary first.
    fn ids(&self) -> &[KeyId];

    /// Encrypts a seed.
    ///
    /// # Errors
    /// [`BadKeys`].
    fn wrap(&self, id: &KeyId, seed: &[u8; 32]) -> Result<Vec<u8>, BadKeys>;

    /// Decrypts what [`wrap`](Self::wrap) returned for the same id.
    ///
    /// # Errors
    /// [`BadKeys::Wrong`] if the key is not the one that wrapped it.
    fn unwrap(&self, id: &KeyId, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, BadKeys>;
}

/// Key encryption keys as a Secret holds them.
pub struct SecretKeys {
    ids: Vec<KeyId>,
    sealers: Vec<Sealer>,
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKeys({:?})", self.ids)
    }
}

/// The file in the Secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    /// The id of the key under which new secrets are stored.
    primary: KeyId,
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    id: KeyId,
    /// 32 bytes in base64.
    key: SecretString,
}

impl SecretKeys {
    /// Reads `{"primary": "k2", "keys": [{"id": "k1", "key": "<32 bytes in base64>"}, …]}`.
    ///
    /// # Errors
    /// [`BadKeys`]; nothing of a key is in it.
    pub fn parse(json: &[u8]) -> Result<Self, BadKeys> {
        let File { primary, mut keys } =
            serde_json::from_slice(json).map_err(|_quotes_values| BadKeys::Format)?;
        // Stable: the others stay in the order of the file.
        keys.sort_by_key(|key| key.id != primary);
        if keys.first().is_none_or(|key| key.id != primary) {
            return Err(BadKeys::NoPrimary);
        }
        let mut ids: Vec<KeyId> = Vec::with_capacity(keys.len());
        let mut sealers = Vec::with_capacity(keys.len());
        for FileKey { id, key } in keys {
            if ids.contains(&id) {
                return Err(BadKeys::Duplicate { id });
            }
            sealers.push(key_encryption(&id, key.expose_secret())?);
            ids.push(id);
        }
        Ok(Self { ids, sealers })
    }

    fn sealer(&self, id: &KeyId) -> Result<&Sealer, BadKeys> {
        let position = self.ids.iter().position(|known| known == id);
        position
            .and_then(|position| self.sealers.get(position))
            .ok_or_else(|| BadKeys::Missing { id: id.clone() })
    }
}

fn key_encryption(id: &KeyId, text: &str) -> Result<Sealer, BadKeys> {
    let weak = || BadKeys::Weak { id: id.clone() };
    let mut bytes = KeyBytes::new([0; 32]);
    match STANDARD.decode_slice(text, bytes.as_mut_slice()) {
        Ok(32) => {}
        _ => return Err(weak()),
    }
    if !is_random_looking(&bytes) {
        return Err(weak());
    }
    let context = Context {
        purpose: "token-vault-seed",
        binding: &[id.as_str()],
    };
    Sealer::new(&[(SealerKey(0), bytes)], context).map_err(|_bad_keys| weak())
}

/// Whether these could be random bytes: a placeholder repeats itself or is text. Of 10^14 random keys, one
/// is refused.
fn is_random_looking(bytes: &[u8; 32]) -> bool {
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let is_text = bytes
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let counts_up = bytes
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == 1));
    distinct.len() >= 16 && !is_text && !counts_up
}

impl KeyEncryption for SecretKeys {
    fn ids(&self) -> &[KeyId] {
        &self.ids
    }

    fn wrap(&self, id: &KeyId, seed: &[u8; 32]) -> Result<Vec<u8>, BadKeys> {
        let sealed = self.sealer(id)?.seal(seed);
        Ok(sealed.map_err(|_seal| BadKeys::Random)?.into_bytes())
    }

    fn unwrap(&self, id: &KeyId, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, BadKeys> {
        let mut buffer = Zeroizing::new([0_u8; 128]);
        let opened = self.sealer(id)?.open(wrapped, buffer.as_mut_slice());
        let seed = opened.ok().and_then(|seed| seed.try_into().ok());
        seed.map(|seed: [u8; 32]| Zeroizing::new(seed))
            .ok_or_else(|| BadKeys::Wrong { id: id.clone() })
    }
}

/// A seed, unwrapped.
#[derive(Clone)]
pub struct Seed {
    /// Its name.
    pub id: KeyId,
    /// 32 random bytes.
    pub bytes: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seed({:?})", self.id)
    }
}

impl Seed {
    /// A new one, and its wrapped form for the database.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn random(keys: &dyn KeyEncryption, id: &KeyId) -> Result<Vec<u8>, BadKeys> {
        let bytes = Zeroizing::new(random::bytes().map_err(|_unavailable| BadKeys::Random)?);
        keys.wrap(id, &bytes)
    }
}

/// The seeds that are in use. The first one seals, all of them open.
#[derive(Clone, Debug)]
pub struct KeyRing {
    primary: Seed,
    others: Arc<[Seed]>,
}

impl KeyRing {
    /// Unwraps the seeds of a database: every one of them must open, or secrets would be lost that are
    /// there.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn unwrap(keys: &dyn KeyEncryption, wrapped: &[(KeyId, Vec<u8>)]) -> Result<Self, BadKeys> {
        let mut seeds = Vec::with_capacity(wrapped.len());
        for (id, wrapped) in wrapped {
            let bytes = keys.unwrap(id, wrapped)?;
            seeds.push(Seed {
                id: id.clone(),
                bytes,
            });
        }
        let primary = keys.ids().first().ok_or(BadKeys::NoPrimary)?;
        let position = seeds.iter().position(|seed| seed.id == *primary);
        let position = position.ok_or_else(|| BadKeys::Missing {
            id: primary.clone(),
        })?;
        let primary = seeds.remove(position);
        Ok(Self {
            primary,
            others: seeds.into(),
        })
    }

    /// The seed under which new secrets are stored.
    pub fn primary(&self) -> &Seed {
        &self.primary
    }

    /// The seed of this id.
    pub fn find(&self, id: &str) -> Option<&Seed> {
        std::iter::once(&self.primary)
            .chain(self.others.iter())
            .find(|seed| seed.id.as_str() == id)
    }

    /// The ids of all of them, the primary first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        std::iter::once(&self.primary)
            .chain(self.others.iter())
            .map(|seed| &seed.id)
    }
}

/// Why keys cannot be used. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadKeys {
    /// Two keys have one id.
    #[error("the key ring names the key {:?} twice", id.as_str())]
    Duplicate {
        /// The id.
        id: KeyId,
    },
    /// Not the JSON that it must be.
    #[error(
        "the key ring is not JSON of the form {{\"primary\": …, \"keys\": [{{\"id\": …, \"key\": …}}]}}"
    )]
    Format,
    /// Not an id.
    #[error("a key id must be 1 to 32 letters, digits and hyphens")]
    Id,
    /// The database was written with a key that the ring lacks.
    #[error(
        "the database has secrets under the key {:?}, which is not in the key ring; put the key back, nothing was changed",
        id.as_str()
    )]
    Missing {
        /// The id.
        id: KeyId,
    },
    /// The primary is not among the keys.
    #[error("the primary key is not in the key ring")]
    NoPrimary,
    /// The operating system gives no randomness.
    #[error("failed to make a random key")]
    Random,
    /// Not 32 random bytes.
    #[error("the key {:?} is not 32 random bytes in base64; make one with: head -c 32 /dev/urandom | base64", id.as_str())]
    Weak {
        /// The id.
        id: KeyId,
    },
    /// Another key of the same name.
    #[error(
        "the key {:?} is not the one with which the database was written; put that one back, nothing was changed",
        id.as_str()
    )]
    Wrong {
        /// The id.
        id: KeyId,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn key(salt: u8) -> String {
        let bytes: Vec<u8> = (0..32_u8)
            .map(|n| n.wrapping_mul(167).wrapping_add(salt))
            .collect();
        STANDARD.encode(bytes)
    }

    pub(crate) fn keys_json(primary: &str, keys: &[(&str, u8)]) -> Vec<u8> {
        let keys: Vec<_> = keys
            .iter()
            .map(|(id, salt)| json!({"id": id, "key": key(*salt)}))
            .collect();
        json!({"primary": primary, "keys": keys})
            .to_string()
            .into_bytes()
    }

    pub(crate) fn ring_of(keys: &[(&str, u8)]) -> KeyRing {
        let secret = SecretKeys::parse(&keys_json(keys[0].0, keys)).unwrap();
        // The seed of a test is that of its salt, so that two rings with one key open each other's.
        let wrapped: Vec<_> = keys
            .iter()
            .map(|(id, salt)| {
                let id = KeyId::try_from((*id).to_owned()).unwrap();
                let wrapped = secret.wrap(&id, &[*salt; 32]).unwrap();
                (id, wrapped)
            })
            .collect();
        KeyRing::unwrap(&secret, &wrapped).unwrap()
    }

    pub(crate) fn ring(ids: &[&str]) -> KeyRing {
        let keys: Vec<_> = ids.iter().map(|id| (*id, id.as_bytes()[1])).collect();
        ring_of(&keys)
    }

    #[test]
    fn a_seed_survives_its_wrapping_and_is_bound_to_its_id() {
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1), ("k2", 2)])).unwrap();
        let [k1, k2] = [0, 1].map(|index: usize| keys.ids()[index].clone());
        let wrapped = keys.wrap(&k1, &[7; 32]).unwrap();
        assert_eq!(*keys.unwrap(&k1, &wrapped).unwrap(), [7; 32]);
        assert_eq!(
            keys.unwrap(&k2, &wrapped).unwrap_err(),
            BadKeys::Wrong { id: k2 }
        );
    }

    #[test]
    fn a_wrong_key_is_not_taken_for_an_empty_store() {
        let right = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        let wrong = SecretKeys::parse(&keys_json("k1", &[("k1", 2)])).unwrap();
        let id = right.ids()[0].clone();
        let wrapped = vec![(id.clone(), Seed::random(&right, &id).unwrap())];
        assert!(KeyRing::unwrap(&right, &wrapped).is_ok());
        assert_eq!(
            KeyRing::unwrap(&wrong, &wrapped).unwrap_err(),
            BadKeys::Wrong { id }
        );
    }

    #[test]
    fn a_key_that_the_database_needs_must_be_there() {
        let both = SecretKeys::parse(&keys_json("k2", &[("k1", 1), ("k2", 2)])).unwrap();
        let wrapped: Vec<_> = both
            .ids()
            .iter()
            .map(|id| (id.clone(), Seed::random(&both, id).unwrap()))
            .collect();
        let one = SecretKeys::parse(&keys_json("k2", &[("k2", 2)])).unwrap();
        assert_eq!(
            KeyRing::unwrap(&one, &wrapped).unwrap_err(),
            BadKeys::Missing {
                id: KeyId("k1".to_owned())
            }
        );
    }

    #[rstest]
    #[case::empty(b"")]
    #[case::zeros(&[0; 32])]
    #[case::repeated(&[0xAB; 32])]
    #[case::text(b"your-random-string-at-least-32-c")]
    #[case::short(&[7, 1, 200, 13])]
    fn a_weak_key_is_refused(#[case] bytes: &[u8]) {
        let file = json!({"primary": "k1", "keys": [{"id": "k1", "key": STANDARD.encode(bytes)}]});
        let id = KeyId("k1".to_owned());
        assert_eq!(
            SecretKeys::parse(file.to_string().as_bytes()).unwrap_err(),
            BadKeys::Weak { id }
        );
    }

    #[test]
    fn counting_is_not_random() {
        let bytes: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        assert!(!is_random_looking(&bytes));
    }

    #[rstest]
    #[case(b"{}", BadKeys::Format)]
    #[case(b"nonsense", BadKeys::Format)]
    #[case(br#"{"primary":"k1","keys":[]}"#, BadKeys::NoPrimary)]
    fn what_is_no_key_ring_is_refused(#[case] json: &[u8], #[case] expected: BadKeys) {
        assert_eq!(SecretKeys::parse(json).unwrap_err(), expected);
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let twice = keys_json("k1", &[("k1", 1), ("k1", 2)]);
        assert!(matches!(
            SecretKeys::parse(&twice),
            Err(BadKeys::Duplicate { .. })
        ));
    }
}
