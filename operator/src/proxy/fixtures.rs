//! A proxy that can be carried out, and what it refers to: where tests start from.

use std::collections::BTreeMap;

use globus_auth_core::sealer::{KeyBytes, KeyId};
use globus_auth_core::sidecar_config::{Operator, SessionKey};
use globus_auth_crds::GlobusAuthProxy;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::validate::Fetched;

/// The proxy `mlflow` of the namespace `ml`, for Globus, with one user.
pub(crate) fn proxy() -> GlobusAuthProxy {
    proxy_with(&json!({}))
}

/// [`proxy`] with `patch` merged in (RFC 7396: null removes).
pub(crate) fn proxy_with(patch: &Value) -> GlobusAuthProxy {
    let mut proxy = json!({
        "apiVersion": "globus-auth.dev/v1alpha1",
        "kind": "GlobusAuthProxy",
        "metadata": {
            "namespace": "ml", "name": "mlflow", "uid": "u-1", "generation": 3,
            "creationTimestamp": "2026-03-01T00:00:00Z",
        },
        "spec": {
            "selector": {"matchLabels": {"app": "mlflow"}},
            "upstream": {"port": "http"},
            "externalUrl": "https://mlflow.example.org",
            "provider": {"type": "Globus", "clientSecretRef": {"name": "mlflow-globus"}},
            "access": {"emails": ["alice@example.org"]},
        },
    });
    json_patch::merge(&mut proxy, patch);
    serde_json::from_value(proxy).unwrap()
}

/// [`proxy`] with `patch` merged into its spec.
pub(crate) fn proxy_with_spec(patch: &Value) -> GlobusAuthProxy {
    proxy_with(&json!({"spec": patch}))
}

/// [`proxy`] with mode Standalone, with `patch` merged into its spec.
pub(crate) fn standalone_with(patch: &Value) -> GlobusAuthProxy {
    let mut spec = json!({"mode": "Standalone", "selector": null, "upstream": {"port": null}});
    json_patch::merge(&mut spec, patch);
    proxy_with_spec(&spec)
}

/// What [`proxy`] refers to.
pub(crate) fn fetched() -> Fetched {
    Fetched {
        client_secret: Some(secret(&[
            ("client-id", b"our-id"),
            ("client-secret", b"hunter2"),
        ])),
        allowlist: None,
        rendered: None,
        shared_secret: None,
        vault: None,
        tls: None,
        cluster: None,
        foreign: vec![],
    }
}

/// A Secret with these keys.
pub(crate) fn secret(data: &[(&str, &[u8])]) -> Secret {
    let bytes = |(key, bytes): &(&str, &[u8])| ((*key).to_owned(), ByteString(bytes.to_vec()));
    Secret {
        data: Some(data.iter().map(bytes).collect()),
        ..Secret::default()
    }
}

/// A ConfigMap with one key.
pub(crate) fn config_map(key: &str, text: &str) -> ConfigMap {
    ConfigMap {
        data: Some(BTreeMap::from([(key.to_owned(), text.to_owned())])),
        ..ConfigMap::default()
    }
}

/// A session key that is easily told from others.
pub(crate) fn session_key(id: u32, byte: u8) -> SessionKey {
    SessionKey {
        id: KeyId(id),
        key: KeyBytes::new([byte; 32]).into(),
    }
}

/// Where sidecars find the operator.
pub(crate) fn operator() -> Operator {
    Operator {
        url: "https://globus-auth.system.svc".to_owned(),
        certificate_authorities: "PEM".to_owned(),
    }
}

/// A store that has seen these proxies.
pub(crate) fn store_of(proxies: Vec<GlobusAuthProxy>) -> Store<GlobusAuthProxy> {
    let (store, mut writer) = reflector::store();
    for proxy in proxies {
        writer.apply_watcher_event(&Event::Apply(proxy));
    }
    store
}
