use globus_auth_core::clock::{ManualClock, UnixSeconds};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::fake_api::{self, Call, Calls, failure};
use crate::proxy::fixtures::{
    fetched, proxy, proxy_with, proxy_with_spec, standalone_with, store_of,
};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const CREDENTIALS: &str = "GET /api/v1/namespaces/ml/secrets/mlflow-globus";
const RENDERED: &str = "GET /api/v1/namespaces/ml/secrets/mlflow-globus-auth";
const PODS: &str = "GET /api/v1/namespaces/ml/pods";
const POLICY: &str =
    "PATCH /apis/networking.k8s.io/v1/namespaces/ml/networkpolicies/mlflow-globus-auth";
const READ_POLICY: &str =
    "GET /apis/networking.k8s.io/v1/namespaces/ml/networkpolicies/mlflow-globus-auth";
const DELETE_POLICY: &str =
    "DELETE /apis/networking.k8s.io/v1/namespaces/ml/networkpolicies/mlflow-globus-auth";
const SECRET: &str = "PATCH /api/v1/namespaces/ml/secrets/mlflow-globus-auth";
const POD: &str = "PATCH /api/v1/namespaces/ml/pods/mlflow-0";
const STATUS: &str =
    "PATCH /apis/globus-auth.dev/v1alpha1/namespaces/ml/globusauthproxies/mlflow/status";
const EVENT: &str = "POST /apis/events.k8s.io/v1/namespaces/ml/events";

fn pod() -> Value {
    json!({
        "metadata": {"name": "mlflow-0", "namespace": "ml", "labels": {"app": "mlflow"}},
        "spec": {
            "containers": [],
            "initContainers": [{"name": "globus-auth-proxy", "image": "sidecar:1", "restartPolicy": "Always"}],
            "volumes": [{"name": "globus-auth-config", "secret": {"secretName": "mlflow-globus-auth"}}],
        },
    })
}

/// A cluster with the client's Secret and one pod with the sidecar.
fn answer(call: &Call) -> (u16, Value) {
    match call.line.as_str() {
        CREDENTIALS => (200, serde_json::to_value(fetched().client_secret).unwrap()),
        RENDERED => failure(404, "NotFound"),
        PODS => (200, json!({"metadata": {}, "items": [pod()]})),
        STATUS => (200, serde_json::to_value(proxy()).unwrap()),
        _ => (200, call.body.clone()),
    }
}

/// Reconciles `proxy` in a cluster where the store has `stored`.
async fn reconciled(
    proxy: GlobusAuthProxy,
    stored: Vec<GlobusAuthProxy>,
    authorities: &str,
    answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (Result<Action, ReconcileError>, Calls) {
    reconciled_at(NOW, proxy, stored, authorities, answer).await
}

async fn reconciled_at(
    now: UnixSeconds,
    proxy: GlobusAuthProxy,
    stored: Vec<GlobusAuthProxy>,
    authorities: &str,
    answer: impl Fn(&Call) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (Result<Action, ReconcileError>, Calls) {
    let (client, calls) = fake_api::client(move |call: Call| std::future::ready(answer(&call)));
    let context = Context {
        client: client.clone(),
        proxies: store_of(stored),
        events: Events::new(client, "operator-0".to_owned()),
        metrics: Metrics::default(),
        sidecar: SidecarSettings {
            vault_image: String::new(),
            image: "sidecar:1".to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            run_as_user: None,
        },
        operator: OperatorAddress {
            service: "globus-auth".to_owned(),
            namespace: "system".to_owned(),
        },
        clock: Arc::new(ManualClock::at(now)),
        authorities: watch::channel(authorities.to_owned()).1,
    };
    let result = Box::pin(reconcile(Arc::new(proxy), Arc::new(context))).await;
    (result, calls)
}

/// What was asked. Both Secrets are asked for at once, in any order.
fn asked(calls: &Calls) -> Vec<String> {
    let mut lines = calls.lines();
    lines[..2].sort_unstable();
    lines
}

fn condition(calls: &Calls, type_: &str) -> Value {
    let body = calls.body(STATUS);
    let conditions = body["status"]["conditions"].as_array().unwrap();
    let mut found = conditions.iter().filter(|one| one["type"] == type_);
    found.next().unwrap().clone()
}

#[tokio::test]
async fn a_new_proxy_is_carried_out_and_says_so() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", answer).await;
    result.unwrap();
    assert_eq!(
        asked(&calls),
        [
            CREDENTIALS,
            RENDERED,
            PODS,
            POLICY,
            SECRET,
            POD,
            STATUS,
            EVENT
        ]
    );
    let hash = &calls.body(STATUS)["status"]["configHash"];
    assert!(hash.is_string());
    assert_eq!(
        calls.body(POD)["metadata"]["annotations"]["globus-auth.dev/config"],
        *hash
    );
}

#[tokio::test]
async fn a_proxy_that_cannot_be_carried_out_changes_nothing_but_its_status() {
    let broken = proxy_with_spec(&json!({"externalUrl": "mlflow"}));
    let (result, calls) = reconciled(broken, vec![proxy()], "PEM", answer).await;
    result.unwrap();
    assert_eq!(asked(&calls), [CREDENTIALS, RENDERED, PODS, STATUS, EVENT]);
    assert_eq!(condition(&calls, "Ready")["status"], "False");
}

#[tokio::test]
async fn a_pod_that_cannot_be_told_does_not_hold_up_the_status() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", |call| {
        if call.line == POD {
            failure(403, "Forbidden")
        } else {
            answer(call)
        }
    })
    .await;
    assert!(matches!(
        result,
        Err(ReconcileError::Apply(ApplyError::Pod(_)))
    ));
    assert_eq!(condition(&calls, "Ready")["status"], "True");
}

#[tokio::test]
async fn a_status_never_tells_of_what_could_not_be_applied() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", |call| {
        if call.line == POLICY {
            failure(403, "Forbidden")
        } else {
            answer(call)
        }
    })
    .await;
    assert!(matches!(
        result,
        Err(ReconcileError::Apply(ApplyError::NetworkPolicy(_)))
    ));
    assert_eq!(asked(&calls), [CREDENTIALS, RENDERED, PODS, POLICY]);
}

#[tokio::test]
async fn the_pods_of_a_proxy_that_the_store_has_not_seen_are_its_own() {
    let older = proxy_with_spec(&json!({"selector": {"matchLabels": {"app": "other"}}}));
    for stored in [vec![], vec![older]] {
        let (_result, calls) = reconciled(proxy(), stored, "PEM", answer).await;
        assert_eq!(condition(&calls, "Injected")["reason"], "Injected");
    }
}

#[tokio::test]
async fn a_proxy_of_another_namespace_protects_nothing_here() {
    let elsewhere = proxy_with(&json!({
        "metadata": {"namespace": "dev", "name": "older", "creationTimestamp": "2026-01-01T00:00:00Z"},
    }));
    let (_result, calls) = reconciled(proxy(), vec![proxy(), elsewhere], "PEM", answer).await;
    assert_eq!(condition(&calls, "Injected")["reason"], "Injected");
}

#[tokio::test]
async fn a_pod_that_an_older_proxy_protects_is_told_nothing() {
    let older = proxy_with(&json!({
        "metadata": {"name": "older", "creationTimestamp": "2026-01-01T00:00:00Z"},
    }));
    let (result, calls) = reconciled(proxy(), vec![proxy(), older], "PEM", |call| {
        let mut pod = pod();
        pod["spec"]["volumes"][0]["secret"]["secretName"] = json!("older-globus-auth");
        match call.line.as_str() {
            PODS => (200, json!({"metadata": {}, "items": [pod]})),
            _ => answer(call),
        }
    })
    .await;
    result.unwrap();
    assert_eq!(condition(&calls, "Injected")["reason"], "Conflict");
    assert!(!calls.lines().contains(&POD.to_owned()));
}

#[tokio::test]
async fn a_pod_without_sidecar_is_told_nothing() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", |call| {
        let mut pod = pod();
        pod["spec"]["initContainers"] = json!([]);
        match call.line.as_str() {
            PODS => (200, json!({"metadata": {}, "items": [pod]})),
            _ => answer(call),
        }
    })
    .await;
    result.unwrap();
    assert_eq!(condition(&calls, "Injected")["reason"], "PodsNotInjected");
    assert!(!calls.lines().contains(&POD.to_owned()));
}

#[rstest]
#[case::ours("u-1", true)]
#[case::of_somebody_else("u-2", false)]
#[tokio::test]
async fn a_network_policy_that_is_disabled_is_removed_if_it_is_ours(
    #[case] owner: &'static str,
    #[case] is_removed: bool,
) {
    let disabled = proxy_with_spec(&json!({"networkPolicy": "Disabled"}));
    let (result, calls) = reconciled(disabled, vec![proxy()], "PEM", move |call| {
        let owners = json!([{"apiVersion": "v1", "kind": "x", "name": "x", "uid": owner}]);
        let metadata = json!({"name": "x", "uid": "n-1", "ownerReferences": owners});
        match call.line.as_str() {
            READ_POLICY => (200, json!({"metadata": metadata})),
            _ => answer(call),
        }
    })
    .await;
    result.unwrap();
    assert!(calls.lines().contains(&READ_POLICY.to_owned()));
    assert_eq!(
        calls.lines().contains(&DELETE_POLICY.to_owned()),
        is_removed
    );
    if is_removed {
        let body = calls.body(DELETE_POLICY);
        assert_eq!(body["preconditions"], json!({"uid": "n-1"}));
    }
}

#[tokio::test]
async fn a_proxy_that_is_in_force_is_not_written_again() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", answer).await;
    result.unwrap();
    let rendered = calls.body(SECRET);
    let mut pod = pod();
    pod["metadata"]["annotations"] = calls.body(POD)["metadata"]["annotations"].clone();
    let again = proxy_with(&json!({"status": calls.body(STATUS)["status"]}));

    let in_force = move |call: &Call| match call.line.as_str() {
        RENDERED => (200, rendered.clone()),
        PODS => (200, json!({"metadata": {}, "items": [pod.clone()]})),
        _ => answer(call),
    };
    let (result, calls) = reconciled(again, vec![proxy()], "PEM", in_force).await;
    result.unwrap();
    assert_eq!(asked(&calls), [CREDENTIALS, RENDERED, PODS, POLICY]);
}

#[tokio::test]
async fn nothing_is_done_before_the_authorities_are_known() {
    let (result, calls) = reconciled(proxy(), vec![proxy()], "", answer).await;
    assert_eq!(result.unwrap(), Action::requeue(SOON));
    assert_eq!(calls.lines(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_done_for_a_proxy_on_its_way_out() {
    let deleted = proxy_with(&json!({"metadata": {"deletionTimestamp": "2026-03-02T00:00:00Z"}}));
    let (result, calls) = reconciled(deleted, vec![], "PEM", answer).await;
    assert_eq!(result.unwrap(), Action::await_change());
    assert_eq!(calls.lines(), [""; 0]);
}

/// Reconciles `proxy` after it was in force and the client's Secret was lost; what was rendered before, and
/// the calls.
async fn reconciled_without_credentials(proxy: GlobusAuthProxy) -> (Value, Calls) {
    let before = crate::proxy::fixtures::proxy();
    let (result, calls) = reconciled(before.clone(), vec![before], "PEM", answer).await;
    result.unwrap();
    let rendered = calls.body(SECRET);
    let in_force = rendered.clone();
    let (result, calls) = reconciled(proxy.clone(), vec![proxy], "PEM", move |call| {
        match call.line.as_str() {
            CREDENTIALS => failure(404, "NotFound"),
            RENDERED => (200, in_force.clone()),
            _ => answer(call),
        }
    })
    .await;
    result.unwrap();
    let resolved = condition(&calls, "CredentialsResolved");
    assert_eq!(
        (&resolved["status"], &resolved["reason"]),
        (&json!("False"), &json!("SecretNotFound"))
    );
    assert_eq!(condition(&calls, "Ready")["status"], "False");
    (rendered, calls)
}

fn config_in(secret: &Value) -> Value {
    use base64::Engine;
    let text = secret["data"]["config.json"].as_str().unwrap();
    let json = base64::engine::general_purpose::STANDARD.decode(text);
    serde_json::from_slice(&json.unwrap()).unwrap()
}

#[tokio::test]
async fn somebody_who_leaves_the_list_is_out_also_while_the_clients_secret_is_gone() {
    let edited = proxy_with_spec(&json!({"access": {"emails": ["bob@example.org"]}}));
    let (rendered, calls) = reconciled_without_credentials(edited).await;
    let (before, after) = (config_in(&rendered), config_in(&calls.body(SECRET)));
    assert_eq!(after["access"]["emails"], json!(["bob@example.org"]));
    assert_eq!(after["provider"], before["provider"]);
    assert_eq!(after["sessionKeys"], before["sessionKeys"]);
    assert!(calls.lines().contains(&POD.to_owned()));
}

#[rstest]
#[case::that_is_in_force(true)]
#[case::that_is_new(false)]
#[tokio::test]
async fn somebody_who_leaves_the_list_is_out_also_while_the_certificate_is_broken(
    #[case] was_there: bool,
) {
    const TLS: &str = "GET /api/v1/namespaces/ml/secrets/mlflow-tls";
    let tls = json!({"proxy": {"tlsSecretRef": {"name": "mlflow-tls"}}});
    let made = rcgen::generate_simple_self_signed(["mlflow.example.org".to_owned()]).unwrap();
    let pair: [(&str, &[u8]); 2] = [
        ("tls.crt", made.cert.pem().leak().as_bytes()),
        (
            "tls.key",
            made.signing_key.serialize_pem().leak().as_bytes(),
        ),
    ];
    let pair = serde_json::to_value(crate::proxy::fixtures::secret(&pair)).unwrap();
    let before = if was_there {
        proxy_with_spec(&tls)
    } else {
        proxy()
    };
    let (result, calls) = reconciled(before.clone(), vec![before], "PEM", move |call| match call
        .line
        .as_str()
    {
        TLS => (200, pair.clone()),
        _ => answer(call),
    })
    .await;
    result.unwrap();
    let rendered = calls.body(SECRET);
    assert_eq!(config_in(&rendered)["tls"].is_object(), was_there);

    let mut edit = tls;
    json_patch::merge(
        &mut edit,
        &json!({"access": {"emails": ["bob@example.org"]}}),
    );
    let edited = proxy_with_spec(&edit);
    let in_force = rendered.clone();
    let (result, calls) = reconciled(edited.clone(), vec![edited], "PEM", move |call| match call
        .line
        .as_str()
    {
        TLS => failure(404, "NotFound"),
        RENDERED => (200, in_force.clone()),
        _ => answer(call),
    })
    .await;
    result.unwrap();
    assert_eq!(
        condition(&calls, "CredentialsResolved")["reason"],
        "SecretNotFound"
    );
    let (before, after) = (config_in(&rendered), config_in(&calls.body(SECRET)));
    assert_eq!(after["access"]["emails"], json!(["bob@example.org"]));
    assert_eq!(after["tls"], before["tls"]);
}

#[tokio::test]
async fn credentials_of_one_provider_are_never_given_to_another() {
    let provider = json!({"type": "OIDC", "issuer": "https://other.example.org"});
    let edited = proxy_with_spec(&json!({"provider": provider}));
    let (_rendered, calls) = reconciled_without_credentials(edited).await;
    assert!(!calls.lines().contains(&SECRET.to_owned()));
}

/// What is in the cluster after a proxy was carried out: its Secret, its pod, and the proxy itself.
#[derive(Clone)]
struct InForce {
    secret: Value,
    pod: Value,
    proxy: GlobusAuthProxy,
}

impl InForce {
    async fn new() -> Self {
        let (result, calls) = reconciled(proxy(), vec![proxy()], "PEM", answer).await;
        result.unwrap();
        let mut in_force = Self {
            secret: calls.body(SECRET),
            pod: pod(),
            proxy: proxy_with(&json!({"status": calls.body(STATUS)["status"]})),
        };
        in_force.confirm(&calls);
        in_force
    }

    /// The pod's sidecar says that what was written last is in force.
    fn confirm(&mut self, calls: &Calls) {
        let annotations = calls.body(POD)["metadata"]["annotations"].clone();
        let hash = annotations["globus-auth.dev/config"].as_str().unwrap();
        let condition = json!({
            "type": "globus-auth.dev/ConfigApplied",
            "status": "True",
            "message": crate::proxy::pods::in_force(hash),
        });
        self.pod["status"] = json!({"conditions": [condition]});
        self.pod["metadata"]["annotations"] = annotations;
    }

    /// Reconciles at a time that lies this far ahead.
    async fn after(&mut self, later: Duration) -> Calls {
        let (secret, pod) = (self.secret.clone(), self.pod.clone());
        let answer = move |call: &Call| match call.line.as_str() {
            RENDERED => (200, secret.clone()),
            PODS => (200, json!({"metadata": {}, "items": [pod.clone()]})),
            _ => answer(call),
        };
        let proxy = self.proxy.clone();
        let now = NOW.after(later);
        let (result, calls) = reconciled_at(now, proxy.clone(), vec![proxy], "PEM", answer).await;
        result.unwrap();
        if calls.lines().contains(&SECRET.to_owned()) {
            self.secret = calls.body(SECRET);
        }
        calls
    }

    fn keys(&self) -> Vec<u64> {
        let config = config_in(&self.secret);
        let keys = config["sessionKeys"].as_array().unwrap();
        keys.iter().map(|key| key["id"].as_u64().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_new_key_seals_when_the_sidecar_has_said_that_it_has_it() {
    const MONTH: Duration = Duration::from_hours(30 * 24);
    let mut in_force = InForce::new().await;
    let old = in_force.keys();

    let calls = in_force.after(MONTH).await;
    assert_eq!(calls.body(EVENT)["reason"], "SessionKeyAnnounced");
    let [first, second] = in_force.keys()[..] else {
        panic!("{:?}", in_force.keys())
    };
    assert_eq!([first], old[..]);

    // The sidecar has the configuration before still.
    in_force.after(MONTH).await;
    assert_eq!(in_force.keys(), [first, second]);

    in_force.confirm(&calls);
    let calls = in_force.after(MONTH).await;
    assert_eq!(calls.body(EVENT)["reason"], "SessionKeyPromoted");
    assert_eq!(in_force.keys(), [second, first]);

    let calls = in_force.after(MONTH + Duration::from_hours(8 * 24)).await;
    assert_eq!(calls.body(EVENT)["reason"], "SessionKeyRemoved");
    assert_eq!(in_force.keys(), [second]);
}

#[tokio::test]
async fn a_new_value_of_the_annotation_asks_for_a_new_key() {
    let mut in_force = InForce::new().await;
    in_force
        .proxy
        .annotations_mut()
        .insert(keys::ROTATE_ANNOTATION.to_owned(), "1".to_owned());
    let calls = in_force.after(Duration::ZERO).await;
    assert_eq!(calls.body(EVENT)["reason"], "SessionKeyAnnounced");
    assert_eq!(in_force.keys().len(), 2);
}

#[rstest]
#[case::the_secret_is_gone(None)]
#[case::they_cannot_be_read(Some(json!({"config.json": "e30="})))]
#[case::there_is_no_configuration(Some(json!({})))]
#[tokio::test]
async fn keys_that_are_lost_are_replaced_and_an_event_says_so(#[case] data: Option<Value>) {
    let in_force = InForce::new().await;
    let rendered = data.map(|data| {
        let mut secret = in_force.secret.clone();
        secret["data"] = data;
        secret
    });
    let answer = move |call: &Call| match (call.line.as_str(), &rendered) {
        (RENDERED, Some(secret)) => (200, secret.clone()),
        _ => answer(call),
    };
    let proxy = in_force.proxy.clone();
    let (result, calls) = reconciled(proxy.clone(), vec![proxy], "PEM", answer).await;
    result.unwrap();
    assert_ne!(config_in(&calls.body(SECRET)), config_in(&in_force.secret));
    assert_eq!(calls.body(EVENT)["reason"], "SessionKeysLost");
    assert_eq!(calls.body(EVENT)["type"], "Warning");
}

const DEPLOYMENT: &str = "PATCH /apis/apps/v1/namespaces/ml/deployments/mlflow-globus-auth";
const SERVICE: &str = "PATCH /api/v1/namespaces/ml/services/mlflow-globus-auth";
const READ_SERVICE: &str = "GET /api/v1/namespaces/ml/services/mlflow-globus-auth";

/// [`answer`], in a namespace where nothing of the proxy is there yet.
fn answer_empty(call: &Call) -> (u16, Value) {
    let is_one = call.line.starts_with("GET ") && call.line.contains("mlflow-globus-auth");
    match call.line.as_str() {
        PODS => (200, json!({"metadata": {}, "items": []})),
        _ if is_one => failure(404, "NotFound"),
        _ => answer(call),
    }
}

#[tokio::test]
async fn a_standalone_proxy_gets_its_deployment_after_its_configuration() {
    let proxy = standalone_with(&json!({"upstream": {"url": "http://mlflow:5000"}}));
    let (result, calls) = reconciled(proxy, vec![], "PEM", answer_empty).await;
    result.unwrap();
    let lines = calls.lines();
    let position = |line: &str| lines.iter().position(|one| one == line).unwrap();
    assert!(position(POLICY) < position(SECRET), "{lines:?}");
    assert!(position(SECRET) < position(SERVICE), "{lines:?}");
    assert!(position(SERVICE) < position(DEPLOYMENT), "{lines:?}");
    let deployment = calls.body(DEPLOYMENT);
    assert_eq!(deployment["spec"].get("replicas"), None);
    let policy = calls.body(POLICY);
    assert_eq!(
        policy["spec"]["podSelector"]["matchLabels"],
        json!({"globus-auth.dev/standalone": "mlflow"})
    );
    assert_eq!(condition(&calls, "Available")["status"], "False");
    assert_eq!(condition(&calls, "Ready")["status"], "False");
}

#[tokio::test]
async fn a_standalone_proxy_is_ready_when_its_deployment_is() {
    let (result, calls) = reconciled(standalone_with(&json!({})), vec![], "PEM", |call| {
        if call.line == DEPLOYMENT {
            let mut deployment = call.body.clone();
            let conditions = json!([{"type": "Available", "status": "True"}]);
            deployment["status"] = json!({"conditions": conditions});
            return (200, deployment);
        }
        answer_empty(call)
    })
    .await;
    result.unwrap();
    assert_eq!(condition(&calls, "Available")["status"], "True");
    assert_eq!(condition(&calls, "Ready")["status"], "True");
}

#[tokio::test]
async fn a_service_of_somebody_else_keeps_a_standalone_proxy_from_being_made() {
    let (result, calls) = reconciled(standalone_with(&json!({})), vec![], "PEM", |call| {
        if call.line == READ_SERVICE {
            let metadata = json!({"name": "mlflow-globus-auth", "namespace": "ml"});
            return (200, json!({"metadata": metadata}));
        }
        answer_empty(call)
    })
    .await;
    result.unwrap();
    let lines = calls.lines();
    assert!(!lines.iter().any(|line| line == SERVICE), "{lines:?}");
    assert!(!lines.iter().any(|line| line == DEPLOYMENT), "{lines:?}");
    assert_eq!(condition(&calls, "ConfigValid")["status"], "False");
}
