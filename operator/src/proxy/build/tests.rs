use globus_auth_core::clock::UnixSeconds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::proxy::fixtures::{
    config_map, fetched, operator, proxy, proxy_with, proxy_with_spec, secret, session_key,
};
use crate::proxy::keys::KeyRing;
use crate::proxy::validate::{Fetched, validate};

fn built(proxy: &GlobusAuthProxy) -> Resources<Prepared> {
    built_from(proxy, &fetched())
}

fn built_from(proxy: &GlobusAuthProxy, fetched: &Fetched) -> Resources<Prepared> {
    let validated = validate(proxy, fetched).unwrap();
    build(proxy, validated, vec![session_key(7, 9)], operator()).unwrap()
}

fn file(resources: &Resources<Prepared>) -> &[u8] {
    &resources.secret.data.as_ref().unwrap()[config::FILE_NAME].0
}

#[test]
fn the_secret_has_the_whole_configuration_and_nothing_else() {
    let resources = built(&proxy());
    let files: Vec<&String> = resources.secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(files, ["config.json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(file(&resources)).unwrap(),
        json!({
            "version": 1,
            "proxy": {"namespace": "ml", "name": "mlflow", "uid": "u-1"},
            "externalUrl": "https://mlflow.example.org",
            "provider": {
                "kind": "Globus",
                "issuer": "https://auth.globus.org",
                "clientId": "our-id",
                "clientSecret": "hunter2",
                "scopes": ["email", "profile"],
                "emailVerification": "IfPresent",
            },
            "access": {"emails": ["alice@example.org"]},
            "session": {"idleTimeoutSeconds": 43_200, "absoluteTimeoutSeconds": 604_800},
            "bearer": {"introspection": true, "jwt": []},
            "upstream": {"hostHeader": "External", "exposure": "Report"},
            "sessionKeys": [{"id": 7, "key": "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="}],
            "operator": {"url": "https://globus-auth.system.svc", "certificateAuthorities": "PEM"},
            "logLevel": "info",
        })
    );
}

#[test]
fn a_sidecar_reads_what_the_operator_writes() {
    let spec = json!({
        "provider": {"type": "OIDC", "issuer": "https://idp.test/", "scopes": ["groups"]},
        "access": {"emails": null, "emailsFrom": {"configMapKeyRef": {"name": "users", "key": "emails"}}},
        "bearer": {"jwt": [{"issuer": "https://idp.test/", "audiences": ["mlflow"]}]},
        "upstream": {"port": 5000, "exposure": "Refuse", "hostHeader": "Localhost"},
        "proxy": {"logLevel": "debug"},
    });
    let fetched = Fetched {
        allowlist: Some(config_map("emails", "Bob@example.org")),
        ..fetched()
    };
    let resources = built_from(&proxy_with_spec(&spec), &fetched);
    let read = SidecarConfig::parse(file(&resources)).unwrap();
    assert_eq!(read.access.emails, ["bob@example.org".parse().unwrap()]);
    assert_eq!(serde_json::to_vec_pretty(&read).unwrap(), file(&resources));
}

#[test]
fn the_configuration_is_named_as_the_sidecar_names_it() {
    let resources = built(&proxy());
    assert_eq!(resources.config_hash, config::hash(file(&resources)));
}

#[rstest]
#[case::uid(json!({"metadata": {"uid": "u-2"}}))]
#[case::external_url(json!({"spec": {"externalUrl": "https://ml.example.org"}}))]
#[case::provider(json!({"spec": {"provider": {"type": "OIDC", "issuer": "https://auth.globus.org"}}}))]
#[case::issuer(json!({"spec": {"provider": {"issuer": "https://auth.globus.test"}}}))]
#[case::scopes(json!({"spec": {"provider": {"scopes": ["groups"]}}}))]
#[case::access(json!({"spec": {"access": {"emails": []}}}))]
#[case::session(json!({"spec": {"session": {"idleTimeoutSeconds": 60}}}))]
#[case::bearer(json!({"spec": {"bearer": {"introspection": "Disabled"}}}))]
#[case::exposure(json!({"spec": {"upstream": {"exposure": "Refuse"}}}))]
#[case::host_header(json!({"spec": {"upstream": {"hostHeader": "Localhost"}}}))]
#[case::log_level(json!({"spec": {"proxy": {"logLevel": "debug"}}}))]
fn what_the_sidecar_acts_on_renames_the_configuration(#[case] patch: Value) {
    assert_ne!(
        built(&proxy_with(&patch)).config_hash,
        built(&proxy()).config_hash
    );
}

#[rstest]
#[case::generation(json!({"metadata": {"generation": 4, "resourceVersion": "8"}}))]
#[case::labels(json!({"metadata": {"labels": {"team": "ml"}}}))]
#[case::selector(json!({"spec": {"selector": {"matchLabels": {"tier": "web"}}}}))]
#[case::upstream_port(json!({"spec": {"upstream": {"port": 5000}}}))]
#[case::own_port(json!({"spec": {"proxy": {"port": 4999}}}))]
#[case::resources(json!({"spec": {"proxy": {"resources": {"limits": {"memory": "1Gi"}}}}}))]
#[case::network_policy(json!({"spec": {"networkPolicy": "Disabled"}}))]
#[case::an_address_in_capitals(json!({"spec": {"access": {"emails": ["ALICE@example.org"]}}}))]
#[case::a_default_that_is_said(json!({"spec": {"proxy": {"logLevel": "info"}}}))]
fn what_the_sidecar_does_not_act_on_leaves_the_configuration_its_name(#[case] patch: Value) {
    assert_eq!(
        built(&proxy_with(&patch)).config_hash,
        built(&proxy()).config_hash
    );
}

#[test]
fn the_status_of_the_proxy_leaves_the_configuration_its_name() {
    let mut with_status = proxy();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-03-01T00:00:00Z",
    });
    let ready: Condition = serde_json::from_value(ready).unwrap();
    with_status.status.get_or_insert_default().conditions = vec![ready];
    assert_eq!(built(&with_status).config_hash, built(&proxy()).config_hash);
}

#[test]
fn new_credentials_keys_and_authorities_rename_the_configuration() {
    let before = built(&proxy()).config_hash;
    let rotated = Fetched {
        client_secret: Some(secret(&[
            ("client-id", b"our-id"),
            ("client-secret", b"hunter3"),
        ])),
        ..fetched()
    };
    assert_ne!(built_from(&proxy(), &rotated).config_hash, before);
    let hash = |keys, operator| {
        let validated = validate(&proxy(), &fetched()).unwrap();
        build(&proxy(), validated, keys, operator)
            .unwrap()
            .config_hash
    };
    assert_eq!(hash(vec![session_key(7, 9)], operator()), before);
    assert_ne!(hash(vec![session_key(7, 8)], operator()), before);
    let trusting_another = Operator {
        certificate_authorities: "another PEM".to_owned(),
        ..operator()
    };
    assert_ne!(hash(vec![session_key(7, 9)], trusting_another), before);
}

#[test]
fn the_order_and_the_source_of_the_allowlist_do_not_rename_the_configuration() {
    let inline = json!({"access": {"emails": ["b@example.org", "a@example.org"]}});
    let reference = json!({"configMapKeyRef": {"name": "users", "key": "emails"}});
    let both = json!({"access": {"emails": ["b@example.org"], "emailsFrom": reference}});
    let fetched = Fetched {
        allowlist: Some(config_map("emails", "# us\na@example.org, b@example.org")),
        ..fetched()
    };
    assert_eq!(
        built(&proxy_with_spec(&inline)).config_hash,
        built_from(&proxy_with_spec(&both), &fetched).config_hash
    );
}

#[test]
fn the_keys_are_found_again_in_the_secret() {
    let keys = vec![session_key(7, 9), session_key(3, 4)];
    let validated = validate(&proxy(), &fetched()).unwrap();
    let resources = build(&proxy(), validated, keys.clone(), operator()).unwrap();
    let ring = KeyRing::read(Some(&resources.secret), UnixSeconds(0)).unwrap();
    assert_eq!(ring.session_keys(), keys);
}

#[test]
fn what_is_built_goes_with_the_proxy() {
    let resources = built(&proxy());
    let metadata = json!({
        "name": "mlflow-globus-auth",
        "namespace": "ml",
        "labels": {"app.kubernetes.io/managed-by": "globus-auth", "globus-auth.dev/proxy": "mlflow"},
        "ownerReferences": [{
            "apiVersion": "globus-auth.dev/v1alpha1", "kind": "GlobusAuthProxy", "name": "mlflow", "uid": "u-1",
            "controller": true,
        }],
    });
    assert_eq!(
        serde_json::to_value(&resources.secret.metadata).unwrap(),
        metadata
    );
    assert_eq!(
        serde_json::to_value(&resources.network_policy.unwrap().metadata).unwrap(),
        metadata
    );
}

#[rstest]
#[case::by_name(json!("http"), 4180)]
#[case::by_number(json!(5000), 5000)]
fn the_network_policy_admits_the_port_of_the_sidecar_only(
    #[case] port: Value,
    #[case] admitted: u16,
) {
    let spec = json!({"upstream": {"port": port}, "selector": {"matchLabels": {"tier": "web"}}});
    let policy = built(&proxy_with_spec(&spec)).network_policy.unwrap();
    assert_eq!(
        serde_json::to_value(policy.spec).unwrap(),
        json!({
            "podSelector": {"matchLabels": {"app": "mlflow", "tier": "web"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": admitted, "protocol": "TCP"}]}],
        })
    );
}

#[test]
fn a_network_policy_that_is_disabled_is_not_built() {
    let resources = built(&proxy_with_spec(&json!({"networkPolicy": "Disabled"})));
    assert_eq!(resources.network_policy, None);
}

#[test]
fn what_was_applied_is_what_was_built() {
    let prepared = built(&proxy());
    let applied = prepared.clone().applied();
    assert_eq!(
        (applied.secret, applied.config_hash, applied.network_policy),
        (
            prepared.secret,
            prepared.config_hash,
            prepared.network_policy
        )
    );
}
