//! The Secret with the key ring: made once, and changed step by step.

use globus_auth_crds::conditions::{reasons, types};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::rotation::{Key, Ring, Step};
use super::secrets::{self, KEYRING, MakeError};
use crate::proxy::validate::Problem;

/// The ring that a vault has.
#[derive(Debug)]
pub struct Held {
    /// Where it is.
    pub secret: Secret,
    /// What it says.
    pub ring: Ring,
    /// When it was last changed.
    pub changed: Timestamp,
}

/// Reads the ring of `secret`.
///
/// # Errors
/// It is not one; the vault does not start with it either, and says why in its log.
pub fn read(secret: Secret) -> Result<Held, Problem> {
    let json = secret.data.as_ref().and_then(|data| data.get(KEYRING));
    let ring = json.and_then(|json| serde_json::from_slice(&json.0).ok());
    let ring = ring.ok_or_else(|| Problem {
        condition: types::KEYRING_HEALTHY,
        reason: reasons::SECRET_MALFORMED,
        message: format!(
            "the key {KEYRING} of Secret {:?} is not {{\"primary\": …, \"keys\": [{{\"id\": …, \"key\": …}}]}}; restore \
             it from a backup",
            secret.name_any()
        ),
    })?;
    let noted = secret
        .annotations()
        .get(CHANGED)
        .and_then(|text| text.parse().ok());
    let created = secret.creation_timestamp().map(|time| time.0);
    Ok(Held {
        changed: noted.or(created).unwrap_or(Timestamp::UNIX_EPOCH),
        ring,
        secret,
    })
}

/// The ring after `step`; none if that changes nothing.
///
/// # Errors
/// No randomness.
pub fn after(step: &Step, ring: &Ring) -> Result<Option<Ring>, MakeError> {
    let keys = ring.keys.iter().cloned();
    Ok(match step {
        Step::Rest(_) | Step::Wait => None,
        Step::Add(id) => {
            let new = Key {
                id: id.clone(),
                key: secrets::key()?,
            };
            Some(Ring {
                primary: ring.primary.clone(),
                keys: keys.chain([new]).collect(),
            })
        }
        Step::Promote(id) => Some(Ring {
            primary: id.clone(),
            keys: keys.collect(),
        }),
        Step::Retire(id) => Some(Ring {
            primary: ring.primary.clone(),
            keys: keys.filter(|key| key.id != *id).collect(),
        }),
    })
}

/// Writes `ring` in place of what `present` has.
///
/// # Errors
/// The API server does not take it; also if somebody else has changed it meanwhile.
pub async fn write(
    secrets: &Api<Secret>,
    present: &Secret,
    ring: &Ring,
    now: Timestamp,
) -> Result<Secret, kube::Error> {
    let text = serde_json::to_string(ring).map_err(kube::Error::SerdeError)?;
    let patch = json!({
        "metadata": {
            "resourceVersion": present.metadata.resource_version,
            "annotations": {CHANGED: now.to_string()},
        },
        "stringData": {KEYRING: text},
    });
    let parameters = PatchParams::default();
    secrets
        .patch(&present.name_any(), &parameters, &Patch::Merge(&patch))
        .await
}

const CHANGED: &str = "globus-auth.dev/changed";

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use secrecy::ExposeSecret;
    use serde_json::Value;

    use super::*;

    fn secret(ring: &Value) -> Secret {
        let data = [(
            KEYRING.to_owned(),
            ByteString(ring.to_string().into_bytes()),
        )];
        Secret {
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    /// From one key to the next, and what was there stays as it was.
    #[test]
    fn steps_add_promote_and_retire() {
        let ring = json!({"primary": "k1", "keys": [{"id": "k1", "key": "AAAA"}]});
        let mut ring = read(secret(&ring)).unwrap().ring;
        for (step, primary, ids) in [
            (Step::Add("k2".to_owned()), "k1", &["k1", "k2"][..]),
            (Step::Promote("k2".to_owned()), "k2", &["k1", "k2"]),
            (Step::Retire("k1".to_owned()), "k2", &["k2"]),
        ] {
            ring = after(&step, &ring).unwrap().unwrap();
            assert_eq!(ring.primary, primary);
            let found: Vec<&str> = ring.keys.iter().map(|key| key.id.as_str()).collect();
            assert_eq!(found, ids);
            let old = ring.keys.iter().find(|key| key.id == "k1");
            assert!(old.is_none_or(|key| key.key.expose_secret() == "AAAA"));
        }
        assert_eq!(ring.keys[0].key.expose_secret().len(), 44);
        assert!(after(&Step::Wait, &ring).unwrap().is_none());
    }

    #[test]
    fn what_is_no_ring_is_told_without_its_content() {
        let problem = read(secret(&json!({"primary": "k1", "keys": "canary"}))).unwrap_err();
        assert!(problem.message.contains("backup") && !problem.message.contains("canary"));
        assert!(read(Secret::default()).is_err());
    }
}
