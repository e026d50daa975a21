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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::proxy::fixtures::{secret, session_key};

    fn rendered(json: &str) -> Secret {
        secret(&[(FILE_NAME, json.as_bytes())])
    }

    #[test]
    fn the_keys_of_the_secret_are_kept_in_their_order() {
        let keys = vec![session_key(9, 1), session_key(2, 2)];
        let json = serde_json::json!({"version": 1, "sessionKeys": keys}).to_string();
        assert_eq!(present(Some(&rendered(&json))), keys);
    }

    #[test]
    fn the_keys_of_another_version_are_kept() {
        let keys = vec![session_key(9, 1)];
        let json = serde_json::json!({"version": 2, "new": {}, "sessionKeys": keys}).to_string();
        assert_eq!(present(Some(&rendered(&json))), keys);
    }

    #[rstest]
    #[case::no_secret(None)]
    #[case::no_data(Some(Secret::default()))]
    #[case::another_file(Some(secret(&[("config.yaml", b"{}")])))]
    #[case::not_json(Some(rendered("sessionKeys:")))]
    #[case::without_keys(Some(rendered("{}")))]
    #[case::a_key_that_is_too_short(Some(rendered(
        r#"{"sessionKeys": [{"id": 1, "key": "c2hvcnQ="}]}"#
    )))]
    fn where_no_key_can_be_read_there_is_none(#[case] rendered: Option<Secret>) {
        assert_eq!(present(rendered.as_ref()), []);
    }

    #[test]
    fn every_key_is_another() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one.id, other.id);
        assert_ne!(one.key, other.key);
    }
}
