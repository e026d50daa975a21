//! Authenticated encryption for cookies: AES-256-GCM under a ring of keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Seals and opens values of one purpose. The first key seals, all of them open: to rotate, put a new
/// key in front, and drop the old one when everything that it sealed has expired.
#[derive(Debug)]
pub struct Sealer {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    id: KeyId,
    cipher: RandomizedNonceKey,
    context: [u8; 32],
}

/// Names a key in what it sealed: 32 random bits.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct KeyId(pub u32);

/// A key as it is stored: 32 bytes, erased from memory after use.
pub type KeyBytes = zeroize::Zeroizing<[u8; 32]>;

/// What sealed values are for. Two sealers that differ in anything never open each other's values.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The kind of value, such as `session`.
    pub purpose: &'static str,
    /// Whom the values belong to, such as the proxy, the issuer and the client.
    pub binding: &'a [&'a str],
}

impl Sealer {
    /// A sealer with `keys`, bound to `context`.
    ///
    /// # Errors
    /// [`BadKeys`] if there is none, or two have the same id.
    pub fn new(keys: &[(KeyId, KeyBytes)], context: Context<'_>) -> Result<Self, BadKeys> {
        let mut ring: Vec<Key> = Vec::with_capacity(keys.len());
        for (id, bytes) in keys {
            if ring.iter().any(|key| key.id == *id) {
                return Err(BadKeys::DuplicateId);
            }
            let cipher = RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice())
                .map_err(|_unspecified| BadKeys::WeakKey)?;
            ring.push(Key {
                id: *id,
                cipher,
                context: context.bytes(*id),
            });
        }
        if ring.is_empty() {
            Err(BadKeys::Empty)
        } else {
            Ok(Self { keys: ring })
        }
    }

    /// Encrypts `plaintext` into text for a cookie: base64url of key id (4 bytes) ‖ nonce (12) ‖
    /// ciphertext ‖ tag (16).
    ///
    /// # Errors
    /// [`SealError`] if the operating system gives no randomness.
    pub fn seal(&self, plaintext: &[u8]) -> Result<String, SealError> {
        let key = self.keys.first().ok_or(SealError)?;
        let mut sealed = plaintext.to_vec();
        let nonce = key
            .cipher
            .seal_in_place_append_tag(Aad::from(key.context), &mut sealed)
            .map_err(|_unspecified| SealError)?;
        let mut framed = Vec::with_capacity(FRAME + sealed.len());
        framed.extend_from_slice(&key.id.0.to_be_bytes());
        framed.extend_from_slice(nonce.as_ref());
        framed.extend_from_slice(&sealed);
        Ok(URL_SAFE_NO_PAD.encode(framed))
    }

    /// Decrypts, into `buffer`, what [`seal`](Self::seal) of a sealer with the same context returned.
    ///
    /// # Errors
    /// [`OpenError`] for anything else, without telling what differs.
    pub fn open<'b>(&self, sealed: &[u8], buffer: &'b mut [u8]) -> Result<&'b [u8], OpenError> {
        let length = URL_SAFE_NO_PAD
            .decode_slice(sealed, buffer)
            .map_err(|_encoding| OpenError)?;
        let framed = buffer.get_mut(..length).ok_or(OpenError)?;
        let (frame, ciphertext) = framed.split_at_mut_checked(FRAME).ok_or(OpenError)?;
        let (id, nonce) = frame.split_at_checked(KEY_ID_LENGTH).ok_or(OpenError)?;
        let id = KeyId(u32::from_be_bytes(
            id.try_into().map_err(|_length| OpenError)?,
        ));
        let key = self.keys.iter().find(|key| key.id == id).ok_or(OpenError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_length| OpenError)?;
        let plaintext = key
            .cipher
            .open_in_place(nonce, Aad::from(key.context), ciphertext)
            .map_err(|_unspecified| OpenError)?;
        Ok(plaintext)
    }
}

impl Context<'_> {
    /// The additional authenticated data: a hash of every field with its length, so that no field can
    /// run into the next.
    fn bytes(&self, id: KeyId) -> [u8; 32] {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let id = id.0.to_be_bytes();
        let fields = [self.purpose.as_bytes(), &id];
        for field in fields
            .into_iter()
            .chain(self.binding.iter().map(|text| text.as_bytes()))
        {
            hash.update(&(field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        bytes
    }
}

const KEY_ID_LENGTH: usize = 4;
const FRAME: usize = KEY_ID_LENGTH + NONCE_LEN;

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadKeys {
    /// Two keys with one id.
    #[error("two session keys have the same id")]
    DuplicateId,
    /// No key.
    #[error("there is no session key")]
    Empty,
    /// Not 32 bytes.
    #[error("a session key is not 32 bytes")]
    WeakKey,
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("failed to seal a cookie")]
pub struct SealError;

/// Not sealed by one of these keys for this context.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to open a sealed value")]
pub struct OpenError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn key(id: u32) -> (KeyId, KeyBytes) {
        (KeyId(id), KeyBytes::new([u8::try_from(id).unwrap(); 32]))
    }

    const CONTEXT: Context<'_> = Context {
        purpose: "session",
        binding: &["proxy", "client"],
    };

    fn sealer(ids: &[u32], context: Context<'_>) -> Sealer {
        Sealer::new(&ids.iter().copied().map(key).collect::<Vec<_>>(), context).unwrap()
    }

    fn open(sealer: &Sealer, sealed: &str) -> Result<Vec<u8>, OpenError> {
        sealer
            .open(sealed.as_bytes(), &mut [0; 4096])
            .map(<[u8]>::to_vec)
    }

    #[test]
    fn an_old_key_still_opens_and_a_dropped_one_does_not() {
        let sealed = sealer(&[1], CONTEXT).seal(b"hello").unwrap();
        assert_eq!(
            open(&sealer(&[2, 1], CONTEXT), &sealed),
            Ok(b"hello".to_vec())
        );
        assert_eq!(open(&sealer(&[2], CONTEXT), &sealed), Err(OpenError));
    }

    #[test]
    fn the_first_key_seals() {
        let sealed = sealer(&[2, 1], CONTEXT).seal(b"hello").unwrap();
        assert_eq!(open(&sealer(&[2], CONTEXT), &sealed), Ok(b"hello".to_vec()));
    }

    #[rstest]
    #[case("login", &["proxy", "client"])]
    #[case("session", &["proxy", "clien"])]
    #[case("session", &["proxyclient"])]
    #[case("session", &["proxyc", "lient"])]
    #[case("session", &["proxy", "client", ""])]
    #[case("sessionproxy", &["client"])]
    fn another_context_does_not_open(#[case] purpose: &'static str, #[case] binding: &[&str]) {
        let sealed = sealer(&[1], CONTEXT).seal(b"hello").unwrap();
        assert_eq!(
            open(&sealer(&[1], Context { purpose, binding }), &sealed),
            Err(OpenError)
        );
    }

    #[test]
    fn keys_must_be_there_and_distinct() {
        assert_eq!(Sealer::new(&[], CONTEXT).unwrap_err(), BadKeys::Empty);
        assert_eq!(
            Sealer::new(&[key(1), key(1)], CONTEXT).unwrap_err(),
            BadKeys::DuplicateId
        );
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let sealer = sealer(&[1], CONTEXT);
        let sealed = URL_SAFE_NO_PAD.decode(sealer.seal(b"hi").unwrap()).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&sealer, &URL_SAFE_NO_PAD.encode(changed)),
                Err(OpenError)
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..900)) {
            let sealer = sealer(&[7], CONTEXT);
            let sealed = sealer.seal(&plaintext).unwrap();
            prop_assert_eq!(open(&sealer, &sealed), Ok(plaintext));
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(sealed in any::<Vec<u8>>(), size in 0_usize..200) {
            let mut buffer = vec![0; size];
            prop_assert_eq!(sealer(&[1], CONTEXT).open(&sealed, &mut buffer), Err(OpenError));
        }
    }
}
