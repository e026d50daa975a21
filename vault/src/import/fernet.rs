//! Fernet (<https://github.com/fernet/spec>), as far as reading what others have written: nothing of ours is
//! ever encrypted with it.

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

/// The key of a file: 16 bytes that sign, and 16 that encrypt.
pub(super) struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A key as Fernet writes it: 32 bytes in base64url.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        match URL_SAFE.decode_slice(text, bytes.as_mut_slice()) {
            Ok(32) => Some(Self(bytes)),
            _ => None,
        }
    }

    /// From a passphrase: PBKDF2 with HMAC-SHA-256.
    pub(super) fn derive(passphrase: &str, salt: &[u8], iterations: std::num::NonZeroU32) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            passphrase.as_bytes(),
            bytes.as_mut_slice(),
        );
        Self(bytes)
    }

    /// Opens `token`: version, time, initialization vector, ciphertext and MAC, in base64url. The MAC is
    /// verified before anything is decrypted. None if it is not a token of this key.
    pub(super) fn open(&self, token: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE.decode(token.trim_ascii()).ok()?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        let (signing, encryption) = self.0.split_at_checked(16)?;
        let signing = hmac::Key::new(hmac::HMAC_SHA256, signing);
        hmac::verify(&signing, signed, mac).ok()?;
        let (&version, rest) = signed.split_first()?;
        if version != VERSION {
            return None;
        }
        let (_time, rest) = rest.split_at_checked(8)?;
        let (iv, ciphertext) = rest.split_first_chunk::<16>()?;
        let key = UnboundCipherKey::new(&AES_128, encryption).ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(*iv));
        let length = key.decrypt(&mut plaintext, context).ok()?.len();
        plaintext.truncate(length);
        Some(plaintext)
    }
}

const VERSION: u8 = 0x80;
const MAC: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    /// `verify.json` of the specification.
    const TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    #[test]
    fn the_token_of_the_specification_opens() {
        let opened = Key::parse(KEY).unwrap().open(TOKEN.as_bytes()).unwrap();
        assert_eq!(&**opened, b"hello");
    }

    #[test]
    fn every_other_byte_and_length_is_refused() {
        let key = Key::parse(KEY).unwrap();
        let bytes = URL_SAFE.decode(TOKEN).unwrap();
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert!(key.open(URL_SAFE.encode(changed).as_bytes()).is_none());
            assert!(
                key.open(URL_SAFE.encode(&bytes[..position]).as_bytes())
                    .is_none()
            );
        }
        let other = Key::derive(KEY, b"salt", std::num::NonZeroU32::MIN);
        assert!(other.open(TOKEN.as_bytes()).is_none());
        assert!(Key::parse("short").is_none());
    }
}
