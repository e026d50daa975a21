//! How a secret is kept in the store: encrypted under a key of its own, and bound to where it lies.
//!
//! ```text
//! "TV1" | algorithm (1) | length of key id (1) | key id | salt (32) | commitment (16) | nonce (12) | ciphertext | tag (16)
//! ```
//!
//! Each write has a fresh key, HKDF-SHA-256 (RFC 5869 §2.3) of the seed that the key id names and of the
//! salt; so no key encrypts two messages, however many are written. The same expansion gives the
//! commitment: without it, one blob could be made to open under two seeds (AES-GCM does not commit to its
//! key). Additional data are the header and the [`Binding`]: a blob in another row, of another user, or
//! in another field does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use globus_auth_core::random;
use zeroize::Zeroizing;

use crate::keyring::{KeyId, KeyRing, Seed};

/// Where a secret lies: what must be the same when it is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding<'a> {
    /// For whom the vault keeps it: a workload.
    pub tenant: &'a str,
    /// The issuer of the user's identity.
    pub user_issuer: &'a str,
    /// `sub` of the user there.
    pub user_subject: &'a str,
    /// The issuer of the token.
    pub issuer: &'a str,
    /// The client to which it was issued.
    pub client_id: &'a str,
    /// The resource server for which it is good.
    pub resource: &'a str,
    /// The row.
    pub grant: &'a str,
    /// The column.
    pub field: Field,
}

/// Which secret of a grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// The access token.
    AccessToken,
    /// What it takes to end a flow.
    Flow,
    /// The refresh token.
    RefreshToken,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::Flow => "flow",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// Encrypts `secret` under the primary key of `ring`.
///
/// # Errors
/// [`SealError`] if the operating system gives no randomness.
pub fn seal(ring: &KeyRing, binding: &Binding<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
    let seed = ring.primary();
    let salt: [u8; SALT] = random::bytes().map_err(|_unavailable| SealError)?;
    let nonce: [u8; NONCE_LEN] = random::bytes().map_err(|_unavailable| SealError)?;
    let derived = Derived::new(seed, &salt).ok_or(SealError)?;
    let mut blob = header(&seed.id);
    let header_length = blob.len();
    blob.extend_from_slice(&salt);
    blob.extend_from_slice(&derived.commitment);
    blob.extend_from_slice(&nonce);
    let mut ciphertext = Zeroizing::new(Vec::with_capacity(secret.len() + TAG));
    ciphertext.extend_from_slice(secret);
    let aad = additional_data(blob.get(..header_length).ok_or(SealError)?, binding);
    derived
        .key
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut *ciphertext,
        )
        .map_err(|_unspecified| SealError)?;
    blob.extend_from_slice(&ciphertext);
    Ok(blob)
}

/// Decrypts what [`seal`] made for the same binding, under whichever key of `ring` the blob names.
///
/// # Errors
/// [`OpenError`], which tells a key that is not there from everything else.
pub fn open(
    ring: &KeyRing,
    binding: &Binding<'_>,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (id, rest) = split_header(blob)?;
    let seed = ring.find(id).ok_or_else(|| OpenError::UnknownKey {
        id: id.chars().take(MAX_KEY_ID).collect(),
    })?;
    let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(OpenError::Forged)?;
    let (commitment, rest) = rest
        .split_first_chunk::<COMMITMENT>()
        .ok_or(OpenError::Forged)?;
    let (nonce, ciphertext) = rest
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(OpenError::Forged)?;
    let derived = Derived::new(seed, salt).ok_or(OpenError::Forged)?;
    verify_slices_are_equal(commitment, &derived.commitment)
        .map_err(|_unspecified| OpenError::Forged)?;
    let aad = additional_data(&header(&seed.id), binding);
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = derived
        .key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(aad),
            &mut buffer,
        )
        .map_err(|_unspecified| OpenError::Forged)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

/// The id of the key under which `blob` is encrypted.
///
/// # Errors
/// [`OpenError::Forged`] if it is no blob of ours.
pub fn key_id(blob: &[u8]) -> Result<&str, OpenError> {
    split_header(blob).map(|(id, _)| id)
}

fn header(id: &KeyId) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    let mut header = Vec::with_capacity(512);
    header.extend_from_slice(MAGIC);
    header.push(AES_256_GCM_HKDF);
    // A key id has at most 32 characters.
    header.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
    header.extend_from_slice(id);
    header
}

fn split_header(blob: &[u8]) -> Result<(&str, &[u8]), OpenError> {
    let rest = blob.strip_prefix(MAGIC).ok_or(OpenError::Forged)?;
    let rest = rest
        .strip_prefix(&[AES_256_GCM_HKDF])
        .ok_or(OpenError::Forged)?;
    let (length, rest) = rest.split_first().ok_or(OpenError::Forged)?;
    let (id, rest) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(OpenError::Forged)?;
    let id = std::str::from_utf8(id).map_err(|_not_text| OpenError::Forged)?;
    Ok((id, rest))
}

/// Every part with its length before it, so that none can run into the next.
fn additional_data(header: &[u8], binding: &Binding<'_>) -> Vec<u8> {
    let Binding {
        tenant,
        user_issuer,
        user_subject,
        issuer,
        client_id,
        resource,
        grant,
        field,
    } = binding;
    let field = field.name();
    let texts = [
        tenant,
        user_issuer,
        user_subject,
        issuer,
        client_id,
        resource,
        grant,
        &field,
    ];
    let mut data = Vec::with_capacity(512);
    for part in std::iter::once(header).chain(texts.iter().map(|text| text.as_bytes())) {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

/// What a seed and a salt make.
struct Derived {
    key: LessSafeKey,
    commitment: [u8; COMMITMENT],
}

impl Derived {
    fn new(seed: &Seed, salt: &[u8; SALT]) -> Option<Self> {
        struct Length;
        impl KeyType for Length {
            fn len(&self) -> usize {
                KEY + COMMITMENT
            }
        }
        let prk = Prk::new_less_safe(HKDF_SHA256, seed.bytes.as_slice());
        let mut output = Zeroizing::new([0_u8; KEY + COMMITMENT]);
        prk.expand(&[MAGIC, salt], Length)
            .and_then(|okm| okm.fill(output.as_mut_slice()))
            .ok()?;
        let (key, commitment) = output.split_first_chunk::<KEY>()?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?),
            commitment: commitment.try_into().ok()?,
        })
    }
}

const MAGIC: &[u8] = b"TV1";
const AES_256_GCM_HKDF: u8 = 1;
const KEY: usize = 32;
const SALT: usize = 32;
const COMMITMENT: usize = 16;
const TAG: usize = 16;
/// Of a forged blob, no more than this is repeated.
const MAX_KEY_ID: usize = 32;

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("failed to encrypt a secret")]
pub struct SealError;

/// Why a blob does not open.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// It is not what was written there.
    #[error("a stored secret is not what was written there")]
    Forged,
    /// Its key is not in the ring.
    #[error("a stored secret is encrypted under the key {id:?}, which is not in the key ring")]
    UnknownKey {
        /// The id that it names.
        id: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keyring::tests::ring;

    const BINDING: Binding<'_> = Binding {
        tenant: "ml/mlflow",
        user_issuer: "https://auth.globus.org",
        user_subject: "alice",
        issuer: "https://auth.globus.org",
        client_id: "client",
        resource: "transfer.api.globus.org",
        grant: "g-1",
        field: Field::RefreshToken,
    };

    #[test]
    fn what_is_sealed_opens_and_does_not_show() {
        let ring = ring(&["k1"]);
        let blob = seal(&ring, &BINDING, b"refresh-token").unwrap();
        assert_eq!(&**open(&ring, &BINDING, &blob).unwrap(), b"refresh-token");
        assert!(!blob.windows(7).any(|window| window == b"refresh"));
        assert_eq!(key_id(&blob), Ok("k1"));
    }

    #[test]
    fn the_same_secret_is_never_the_same_blob() {
        let ring = ring(&["k1"]);
        assert_ne!(
            seal(&ring, &BINDING, b"token").unwrap(),
            seal(&ring, &BINDING, b"token").unwrap()
        );
    }

    #[test]
    fn no_blob_opens_in_another_place() {
        let other = "other";
        let places = [
            Binding {
                tenant: other,
                ..BINDING
            },
            Binding {
                user_issuer: other,
                ..BINDING
            },
            Binding {
                user_subject: other,
                ..BINDING
            },
            Binding {
                issuer: other,
                ..BINDING
            },
            Binding {
                client_id: other,
                ..BINDING
            },
            Binding {
                resource: other,
                ..BINDING
            },
            Binding {
                grant: other,
                ..BINDING
            },
            Binding {
                field: Field::AccessToken,
                ..BINDING
            },
            Binding {
                user_subject: "alic",
                issuer: "ehttps://auth.globus.org",
                ..BINDING
            },
        ];
        let ring = ring(&["k1"]);
        for from in std::iter::once(&BINDING).chain(&places) {
            let blob = seal(&ring, from, b"token").unwrap();
            for to in std::iter::once(&BINDING).chain(&places) {
                let opened = open(&ring, to, &blob);
                assert_eq!(opened.is_ok(), from == to, "{from:?} in {to:?}");
            }
        }
    }

    #[test]
    fn an_older_key_still_opens_and_the_first_seals() {
        let old = seal(&ring(&["k1"]), &BINDING, b"token").unwrap();
        let both = ring(&["k2", "k1"]);
        assert!(open(&both, &BINDING, &old).is_ok());
        let new = seal(&both, &BINDING, b"token").unwrap();
        assert_eq!(key_id(&new), Ok("k2"));
        assert_eq!(
            open(&ring(&["k1"]), &BINDING, &new),
            Err(OpenError::UnknownKey {
                id: "k2".to_owned()
            })
        );
    }

    #[test]
    fn another_seed_of_the_same_name_does_not_open() {
        let blob = seal(&ring(&["k1"]), &BINDING, b"token").unwrap();
        let impostor = crate::keyring::tests::ring_of(&[("k1", 99)]);
        assert_eq!(open(&impostor, &BINDING, &blob), Err(OpenError::Forged));
    }

    #[test]
    fn every_changed_bit_and_every_truncation_is_noticed() {
        let ring = ring(&["k1"]);
        let blob = seal(&ring, &BINDING, b"hi").unwrap();
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&ring, &BINDING, &changed).is_err(), "bit {bit}");
        }
        for length in 0..blob.len() {
            assert!(open(&ring, &BINDING, &blob[..length]).is_err(), "{length}");
        }
    }

    /// Fernet's tokens, which older stores hold, start like this.
    #[test]
    fn another_format_is_refused() {
        let fernet = b"gAAAAABkZm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6";
        assert_eq!(
            open(&ring(&["k1"]), &BINDING, fernet),
            Err(OpenError::Forged)
        );
    }

    proptest! {
        #[test]
        fn anything_else_is_refused_without_a_panic(blob in any::<Vec<u8>>()) {
            prop_assert!(open(&ring(&["k1"]), &BINDING, &blob).is_err());
        }
    }
}
