//! A workload behind a proxy, and the provider that its users log in at.

use globus_auth_tests::forward::{Forward, Target};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::cluster::{Namespace, image_repository, image_tag};

pub(crate) const ALICE: &str = "alice@example.org";
pub(crate) const MALLORY: &str = "mallory@example.net";
/// The service that the demo's notebook asks.
pub(crate) const INFERENCE: &str = "inference.example.org";
pub(crate) const INFERENCE_SCOPE: &str = "urn:globus:auth:scope:inference.example.org:all";
pub(crate) const CLIENT_ID: &str = "the-client";
pub(crate) const CLIENT_SECRET: &str = "the-client+secret/=";

/// Two ports of the host: one leads to the workload's pods, the other to the provider's.
pub(crate) struct Scene {
    pub(crate) app: Forward,
    /// Leads to another workload, `other`.
    pub(crate) other: Forward,
    pub(crate) provider: Forward,
    pub(crate) kind: Provider,
    /// For how long access tokens of Globus are good.
    lifetime_seconds: u32,
}

/// As at Globus.
const TWO_DAYS: u32 = 2 * 86_400;

/// The provider that users log in at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Provider {
    Globus,
    Oidc,
}

impl Scene {
    /// Opens the ports, starts a provider, and stores the client's secret. The proxy and the workload are
    /// the test's own.
    pub(crate) async fn new(namespace: &Namespace, kind: Provider) -> Self {
        Self::reached_by(namespace, kind, "app=app").await
    }

    /// The same, with Globus, where access tokens end after `lifetime_seconds`.
    pub(crate) async fn with_lifetime(namespace: &Namespace, lifetime_seconds: u32) -> Self {
        Self::begin(namespace, Provider::Globus, "app=app", lifetime_seconds).await
    }

    /// The same, where users reach pods with `labels`.
    pub(crate) async fn reached_by(namespace: &Namespace, kind: Provider, labels: &str) -> Self {
        Self::begin(namespace, kind, labels, TWO_DAYS).await
    }

    /// The same, all of it to choose.
    pub(crate) async fn begin(
        namespace: &Namespace,
        kind: Provider,
        labels: &str,
        lifetime_seconds: u32,
    ) -> Self {
        let target = |labels: &str, port| Target {
            namespace: namespace.name.clone(),
            labels: labels.to_owned(),
            port,
        };
        let client = namespace.client.clone();
        let app = Forward::start(client.clone(), target(labels, 4180))
            .await
            .unwrap();
        let other = Forward::start(client.clone(), target("app=other", 4180))
            .await
            .unwrap();
        let provider = Forward::start(client, target("app=provider", 8080))
            .await
            .unwrap();
        let scene = Self {
            app,
            other,
            provider,
            kind,
            lifetime_seconds,
        };
        namespace.apply(&scene.provider_manifest(namespace));
        namespace.apply(&client_secret());
        namespace.await_available("provider");
        scene
    }

    pub(crate) fn issuer(namespace: &Namespace) -> String {
        format!("http://provider.{}.svc.cluster.local:8080", namespace.name)
    }

    /// The proxy, with `access` and more in YAML's flow style.
    pub(crate) fn proxy(&self, namespace: &Namespace, access: &str, more: &str) -> String {
        let kind = match self.kind {
            Provider::Globus => "Globus",
            Provider::Oidc => "OIDC",
        };
        proxy(
            &self.app.url(),
            kind,
            &Self::issuer(namespace),
            access,
            more,
        )
    }

    fn provider_manifest(&self, namespace: &Namespace) -> String {
        let config = match self.kind {
            Provider::Globus => self.globus_config(namespace),
            Provider::Oidc => self.oidc_config(namespace),
        };
        provider("provider", self.kind, &config)
    }

    fn globus_config(&self, namespace: &Namespace) -> Value {
        json!({
            "listen": "0.0.0.0:8080",
            "issuer": Self::issuer(namespace),
            "browser_url": self.provider.url(),
            "control": true,
            "access_token_lifetime_seconds": self.lifetime_seconds,
            "clients": [{
                "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "redirect_uris": [
                    format!("{}/oauth2/callback", self.app.url()),
                    format!("{}/oauth2/callback", self.other.url()),
                ],
            }, {
                "client_id": "inference", "client_secret": CLIENT_SECRET, "resource_server": INFERENCE,
            }],
            "resource_servers": [{"name": INFERENCE, "scopes": [{"scope": INFERENCE_SCOPE}]}],
            "users": [{"username": ALICE, "name": "Alice"}, {"username": MALLORY, "name": "Mallory"}],
        })
    }

    fn oidc_config(&self, namespace: &Namespace) -> Value {
        json!({
            "listen": {"host": "0.0.0.0", "port": 8080},
            "issuer": Self::issuer(namespace),
            "browser_url": self.provider.url(),
            "control": true,
            "clients": [{
                "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "redirect_uris": [format!("{}/oauth2/callback", self.app.url())],
            }],
            "users": [
                {"username": "alice", "email": ALICE, "email_verified": true, "name": "Alice"},
                {"username": "mallory", "email": MALLORY, "email_verified": true, "name": "Mallory"},
            ],
            "resources": [{"resource": "https://the-app.test", "scopes": ["use"]}],
        })
    }

    /// A bearer token of `user` for our client.
    pub(crate) async fn token(&self, user: &str) -> String {
        let order =
            json!({"username": user, "client_id": CLIENT_ID, "scope": "openid email profile"});
        let url = format!("{}/_emulator/tokens", self.provider.url());
        let response = send(
            Method::POST,
            &url,
            &[("content-type", "application/json")],
            order.to_string(),
        )
        .await;
        let minted: Value =
            serde_json::from_str(&response.body).unwrap_or_else(|_| panic!("{}", response.body));
        minted["access_token"].as_str().unwrap().to_owned()
    }

    /// What the workload saw of a request with this token.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(
            Method::GET,
            &format!("{}{path}", self.app.url()),
            headers,
            String::new(),
        )
        .await
    }
}

/// A provider called `name`, with its Service.
pub(crate) fn provider(name: &str, kind: Provider, config: &Value) -> String {
    let (image, command, health) = match kind {
        Provider::Globus => (
            "globus-auth-tests",
            "[/usr/bin/globus-emulator, --config, /etc/provider/config.json]",
            "/_emulator/health",
        ),
        Provider::Oidc => (
            "oidc-provider",
            "[/usr/bin/node, /app/server.js, /etc/provider/config.json]",
            "/_control/health",
        ),
    };
    let config = serde_json::to_string(&config.to_string()).unwrap();
    let image = format!("{}/{image}:{}", image_repository(), image_tag());
    format!(
        r"
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{config.json: {config}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: provider
        image: {image}
        command: {command}
        readinessProbe: {{httpGet: {{path: {health}, port: 8080}}, periodSeconds: 1}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}, readOnlyRootFilesystem: true}}
        volumeMounts: [{{name: config, mountPath: /etc/provider}}]
      volumes: [{{name: config, configMap: {{name: {name}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 8080}}]}}
"
    )
}

pub(crate) fn client_secret() -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: client}}, stringData: {{client-id: {CLIENT_ID}, client-secret: {CLIENT_SECRET:?}}}}}"
    )
}

/// A `GlobusAuthProxy` called `app` for pods with `app: app`.
pub(crate) fn proxy(url: &str, kind: &str, issuer: &str, access: &str, more: &str) -> String {
    proxy_of("app", url, kind, issuer, access, more)
}

/// A `GlobusAuthProxy` called `name` for pods with `app: name`.
pub(crate) fn proxy_of(
    name: &str,
    url: &str,
    kind: &str,
    issuer: &str,
    access: &str,
    more: &str,
) -> String {
    format!(
        r#"
apiVersion: globus-auth.dev/v1alpha1
kind: GlobusAuthProxy
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  upstream: {{port: http}}
  externalUrl: "{url}"
  provider: {{type: {kind}, issuer: "{issuer}", clientSecretRef: {{name: client}}}}
  access: {access}
{more}
"#
    )
}

/// A protected Deployment called `app` of the echo upstream, listening on `address`, with a Service.
pub(crate) fn echo(address: &str) -> String {
    deployment(
        "app",
        "{app: app, globus-auth.dev/inject: enabled}",
        &echo_pod(address),
    )
}

/// A Deployment of pods with `labels` and the port `http`, and a Service on port 80; both called `name`.
pub(crate) fn deployment(name: &str, labels: &str, pod: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {labels}}}
    spec:
{}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: http}}]}}
",
        indent(pod, 6)
    )
}

/// The pod of the echo upstream.
pub(crate) fn echo_pod(address: &str) -> String {
    let image = format!("{}/globus-auth-tests:{}", image_repository(), image_tag());
    format!(
        r"automountServiceAccountToken: false
terminationGracePeriodSeconds: 1
securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
containers:
- name: echo
  image: {image}
  command: [/usr/bin/echo-upstream, --listen, '{address}:5000']
  ports: [{{name: http, containerPort: 5000}}]
  readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1}}
  securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}, readOnlyRootFilesystem: true}}"
    )
}

pub(crate) fn indent(text: &str, spaces: usize) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            format!(
                "{}{line}
",
                " ".repeat(spaces)
            )
        })
        .collect();
    lines.concat()
}

/// A Python program run in a pod of the MLflow image, to its end; returns what it printed.
pub(crate) fn python(
    namespace: &Namespace,
    name: &str,
    program: &str,
    env: &[(&str, &str)],
) -> String {
    let image = format!("{}/mlflow:{}", image_repository(), image_tag());
    let always = [("HOME", "/data"), ("MLFLOW_DISABLE_TELEMETRY", "true")];
    let env: Vec<Value> = always
        .iter()
        .chain(env)
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "python", "image": image, "command": ["/opt/mlflow/bin/python", "-c", program],
                "env": env,
                "workingDir": "/data",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        },
    });
    namespace.apply(&pod.to_string());
    let wait = |condition: &str, timeout: &str| {
        namespace.try_kubectl(&["wait", &format!("pod/{name}"), condition, timeout])
    };
    let ended = wait(
        "--for=jsonpath={.status.containerStatuses[0].state.terminated}",
        "--timeout=300s",
    );
    let logs = namespace.kubectl(&["logs", name]);
    let exit = namespace.get(&format!("pod/{name}"))["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone();
    assert!(
        ended.status.success() && exit == 0,
        "{name} ended with {exit}:\n{logs}"
    );
    logs
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

/// Sends one request.
pub(crate) async fn send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Answer {
    try_send(method, url, headers, body)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub(crate) async fn try_send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> anyhow::Result<Answer> {
    let client: Client<_, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::from(body))?).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: parts.status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
