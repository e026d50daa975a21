//! The keys that seal cookies, which must outlive every change of the configuration.

use globus_auth_core::random;
use globus_auth_core::sealer::{KeyBytes, KeyId};
use globus_auth_core::sidecar_config::{FILE_NAME, SessionKey};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

/// The keys in the Secret that was rendered before; none if it has none that can be read.
pub fn present(rendered: Option<&Secret>) -> Vec<SessionKey> {
    /// Only the keys are read, so that a Secret of another version of the operator keeps its keys.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Keys {
        session_keys: Vec<SessionKey>,
    }
    let data = rendered.and_then(|secret| secret.data.as_ref());
    let json = data.and_then(|data| data.get(FILE_NAME));
    json.and_then(|json| serde_json::from_slice::<Keys>(&json.0).ok())
        .map(|keys| keys.session_keys)
        .unwrap_or_default()
}

/// A new key.
///
/// # Errors
/// [`random::Unavailable`].
pub fn generate() -> Result<SessionKey, random::Unavailable> {
    let id = KeyId(u32::from_be_bytes(random::bytes()?));
    let key = KeyBytes::new(random::bytes()?);
    Ok(SessionKey {
        id,
        key: key.into(),
    })
}
