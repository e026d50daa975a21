//! No token that was ever given out, no key and no client's secret is where people look: logs, metrics, Events,
//! conditions, resources, `kubectl describe`. Looked for at the end of every test, in all that it left.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_tests::globus::Issued;
use globus_auth_tests::harness::secrets::Secrets;
use http::Request;
use kube::Client;
use serde_json::Value;

use crate::cluster::{Namespace, SYSTEM, client};
use crate::workload::CLIENT_SECRET;

/// What came of a search.
#[must_use]
pub(crate) struct Searched {
    /// How many secrets were looked for.
    pub(crate) secrets: usize,
    /// What was looked at, by line.
    lines: Vec<String>,
    found: Option<String>,
}

impl Searched {
    /// # Panics
    /// Something was found, or nothing was looked at.
    pub(crate) fn assert_clean(&self) {
        assert!(
            self.secrets == 0 || !self.lines.is_empty(),
            "nothing was looked at"
        );
        assert_eq!(self.found, None);
    }

    /// Whether something with `text` in it was looked at.
    pub(crate) fn saw(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

/// Looks for everything that is secret in `namespace`, and in the operator's log.
pub(crate) fn search(namespace: &str) -> Searched {
    let (secrets, seen) = collect(namespace);
    if secrets.count() > 0 {
        secrets.add(CLIENT_SECRET);
    }
    let found = secrets.found_in(&seen);
    let found = found.map(|(secret, line)| format!("{secret} in {line}"));
    Searched {
        secrets: secrets.count(),
        lines: seen,
        found,
    }
}

/// The same, for what `kubectl describe` makes of it.
pub(crate) fn search_described(namespace: &Namespace) {
    let (secrets, _seen) = collect(&namespace.name);
    let described = [
        "pods",
        "globusauthproxies",
        "tokenvaults",
        "events",
        "statefulsets",
        "secrets",
    ];
    for kind in described {
        // The provider of the tests has its client in its configuration.
        let text = namespace.kubectl(&["describe", kind, "--selector=app!=provider"]);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(secrets.found_in(&lines), None);
    }
}

/// From a thread of its own, so that it can be done where a test ends.
fn collect(namespace: &str) -> (Secrets, Vec<String>) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let api = Api {
                    client: client().await,
                    namespace,
                };
                let secrets = api.secrets().await;
                let seen = if secrets.count() > 0 {
                    api.seen().await
                } else {
                    vec![]
                };
                (secrets, seen)
            })
        });
        thread.join().unwrap()
    })
}

struct Api<'n> {
    client: Client,
    namespace: &'n str,
}

impl Api<'_> {
    /// Every token that an emulated Globus gave out, if there is one, and the keys of vaults and proxies.
    async fn secrets(&self) -> Secrets {
        let secrets = Secrets::default();
        for pod in self
            .items("api/v1", "pods?labelSelector=app%3Dprovider")
            .await
        {
            let path = format!("pods/{}:8080/proxy/_emulator/tokens", name(&pod));
            let answer = self.get("api/v1", &path).await;
            let issued: Vec<Issued> = serde_json::from_str(&answer).unwrap_or_default();
            for one in &issued {
                secrets.add(&one.token);
            }
        }
        for secret in self.items("api/v1", "secrets").await {
            for (file, text) in secret["data"].as_object().into_iter().flatten() {
                let text = STANDARD.decode(text.as_str().unwrap_or_default()).unwrap();
                let json: Value = serde_json::from_slice(&text).unwrap_or_default();
                let list = if file == "keyring.json" {
                    "keys"
                } else {
                    "sessionKeys"
                };
                for key in json[list].as_array().into_iter().flatten() {
                    secrets.add(key["key"].as_str().unwrap_or_default());
                }
            }
        }
        secrets
    }

    /// What people may look at.
    async fn seen(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut look = |text: String| seen.extend(text.lines().map(str::to_owned));
        // What the operator makes; a test may have secrets in its own.
        let ours = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dglobus-auth";
        for (group, kind) in [
            (
                "apis/globus-auth.dev/v1alpha1",
                "globusauthproxies".to_owned(),
            ),
            ("apis/globus-auth.dev/v1alpha1", "tokenvaults".to_owned()),
            ("apis/events.k8s.io/v1", "events".to_owned()),
            ("apis/apps/v1", format!("statefulsets{ours}")),
            ("apis/apps/v1", format!("deployments{ours}")),
            ("api/v1", format!("configmaps{ours}")),
        ] {
            look(self.get(group, &kind).await);
        }
        for label in ["inject%3Denabled", "tokenvault", "standalone"] {
            let pods = format!("pods?labelSelector=globus-auth.dev%2F{label}");
            for pod in self.items("api/v1", &pods).await {
                look(serde_json::to_string_pretty(&pod).unwrap());
                let pod_name = name(&pod);
                for container in containers(&pod) {
                    look(
                        self.get(
                            "api/v1",
                            &format!("pods/{pod_name}/log?container={container}"),
                        )
                        .await,
                    );
                }
                // A pod that has ended has no address, and the API server would wait for its answer.
                if pod["status"]["phase"] == "Running" {
                    let metrics = format!("pods/{pod_name}:4181/proxy/metrics");
                    look(self.get("api/v1", &metrics).await);
                }
            }
        }
        let operator = Api {
            client: self.client.clone(),
            namespace: SYSTEM,
        };
        for pod in operator.items("api/v1", "pods").await {
            let log = format!("pods/{}/log?sinceSeconds=1800", name(&pod));
            look(operator.get("api/v1", &log).await);
        }
        seen
    }

    async fn items(&self, group: &str, path: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.get(group, path).await).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// What the API server answers; nothing, of what is not there any more.
    async fn get(&self, group: &str, path: &str) -> String {
        let uri = format!("/{group}/namespaces/{}/{path}", self.namespace);
        let request = Request::get(uri).body(Vec::new()).unwrap();
        self.client.request_text(request).await.unwrap_or_default()
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn containers(pod: &Value) -> Vec<String> {
    let lists = ["initContainers", "containers"].into_iter();
    let containers = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let names = containers.filter_map(|one| one["name"].as_str());
    names.map(str::to_owned).collect()
}
