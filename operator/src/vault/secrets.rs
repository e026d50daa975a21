//! What the operator makes once for a vault and never again: its encryption key and its certificate.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::random;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use zeroize::Zeroizing;

use crate::certificates::authority::date;

/// The key of the Secret with the key ring.
pub const KEYRING: &str = "keyring.json";
/// The key of the Secret with the certificate.
pub const CERTIFICATE: &str = "tls.crt";

/// A key ring with one new key.
///
/// # Errors
/// [`MakeError`].
pub fn keyring(metadata: ObjectMeta) -> Result<Secret, MakeError> {
    let key = key()?;
    let ring = json!({"primary": "k1", "keys": [{"id": "k1", "key": key.expose_secret()}]});
    Ok(secret(metadata, [(KEYRING, ring.to_string())]))
}

/// A new key: 32 bytes in base64.
///
/// # Errors
/// [`MakeError`].
pub fn key() -> Result<SecretString, MakeError> {
    let key = Zeroizing::new(random::bytes::<32>().map_err(MakeError::Random)?);
    Ok(STANDARD.encode(key.as_slice()).into())
}

/// A certificate for `host`, which vouches for itself: whoever asks the vault trusts exactly this one.
///
/// # Errors
/// [`MakeError`].
pub fn certificate(
    metadata: ObjectMeta,
    host: &str,
    now: UnixSeconds,
) -> Result<Secret, MakeError> {
    let key = KeyPair::generate().map_err(MakeError::Certificate)?;
    let mut parameters =
        CertificateParams::new(vec![host.to_owned()]).map_err(MakeError::Certificate)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.not_before = date(UnixSeconds(now.0.saturating_sub(3600)));
    parameters.not_after = date(UnixSeconds(now.0.saturating_add(LIFETIME)));
    let certificate = parameters
        .self_signed(&key)
        .map_err(MakeError::Certificate)?;
    let pair = [
        (CERTIFICATE, certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ];
    Ok(Secret {
        type_: Some("kubernetes.io/tls".to_owned()),
        ..secret(metadata, pair)
    })
}

fn secret<const N: usize>(metadata: ObjectMeta, texts: [(&str, String); N]) -> Secret {
    let data = texts.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    }
}

/// Ten years: it is replaced by deleting its Secret.
const LIFETIME: u64 = 10 * 365 * 86_400;

/// Why nothing could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No certificate.
    #[error("failed to make a certificate for the vault")]
    Certificate(#[source] rcgen::Error),
    /// No randomness.
    #[error("failed to make an encryption key")]
    Random(#[source] random::Unavailable),
}
