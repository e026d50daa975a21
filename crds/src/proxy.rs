//! `GlobusAuthProxy`: login in front of one workload.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts a login in front of one workload of the same namespace. Nobody reaches the workload without a
/// login at the identity provider and a place in `access`.
///
/// Label the workload's pods with `globus-auth.dev/inject: enabled`; the proxy is added to each of them
/// when it is created. Register `externalUrl` plus `/oauth2/callback` as redirect address at the provider.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "globus-auth.dev",
    version = "v1alpha1",
    kind = "GlobusAuthProxy",
    plural = "globusauthproxies",
    shortname = "gap",
    category = "globus-auth",
    namespaced,
    status = "GlobusAuthProxyStatus",
    derive = "PartialEq",
    doc = "Puts a login in front of one workload of the same namespace.",
    selectable = ".spec.provider.type",
    selectable = ".spec.provider.clientSecretRef.name",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.externalUrl"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.injected"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.provider.type",
        priority = "1"
    ),
    printcolumn(name = "Stale", type_ = "integer", json_path = ".status.pods.stale", priority = "1"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name must not be longer than 63 characters"),
    validation = Rule::new("!has(self.spec) || self.spec.mode != 'Standalone' || self.metadata.name.matches('^[a-z]([a-z0-9-]{0,49}[a-z0-9])?$')")
        .message("with mode Standalone, metadata.name must have at most 51 letters, digits and - and begin with a letter, because a Service is named after it")
)]
#[x_kube(
    validation = Rule::new("self.mode != 'Sidecar' || has(self.selector)")
        .message("selector is required with mode Sidecar: name the labels of the pods to protect in selector.matchLabels"),
    validation = Rule::new("self.mode != 'Standalone' || !has(self.selector)")
        .message("selector is for mode Sidecar; with mode Standalone the proxy runs in pods of its own, so remove selector"),
    validation = Rule::new("self.mode != 'Sidecar' || has(self.upstream.port)")
        .message("upstream.port is required with mode Sidecar: the name or number of the workload's container port"),
    validation = Rule::new("self.mode != 'Standalone' || !has(self.upstream.port)")
        .message("upstream.port is for mode Sidecar; with mode Standalone set upstream.url, such as http://mlflow.ml.svc:5000, or neither"),
    validation = Rule::new("self.mode != 'Sidecar' || !has(self.upstream.url)")
        .message("upstream.url is for mode Standalone; with mode Sidecar set upstream.port"),
    validation = Rule::new("self.mode != 'Standalone' || self.upstream.exposure == 'Report'")
        .message("upstream.exposure: Refuse is for mode Sidecar; with mode Standalone the proxy cannot see where the workload listens, so protect it with a NetworkPolicy"),
    validation = Rule::new("!has(self.tokens) || has(self.vaultRef)")
        .message("tokens need a vault that keeps them: set vaultRef"),
    validation = Rule::new("!has(self.vaultRef) || self.mode == 'Sidecar'")
        .message("vaultRef is for mode Sidecar"),
    validation = Rule::new("self.mode == 'Standalone' || !has(self.standalone)")
        .message("standalone is for mode Standalone; remove it"),
    validation = Rule::new("self.provider.type == 'Globus' || !has(self.bearer) || !has(self.bearer.introspection) || self.bearer.introspection == 'Disabled'")
        .message("bearer.introspection works with provider type Globus only; set it to Disabled and name an issuer in bearer.jwt instead")
)]
#[serde(rename_all = "camelCase")]
pub struct GlobusAuthProxySpec {
    /// Where the proxy runs. `Sidecar` (default): as a container in each pod of the workload. `Standalone`:
    /// in a Deployment of its own with a Service in front, for an ingress that asks it about each request,
    /// or for a workload that is not in this cluster. It cannot be changed.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("mode cannot be changed; create another GlobusAuthProxy and delete this one")
    )]
    pub mode: Mode,

    /// The pods that this proxy protects, by their labels. If two proxies select the same pod, the older
    /// one protects it and the other one gets the condition `Injected=False`, reason `Conflict`. Required
    /// with mode `Sidecar`, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,

    /// The workload behind the proxy.
    #[serde(default)]
    pub upstream: Upstream,

    /// The proxy's own Deployment, with mode `Standalone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standalone: Option<Standalone>,

    /// The address that users type, such as `https://mlflow.example.org`: scheme, host and port, no path.
    /// It must be https; http is accepted only for localhost and other loopback addresses, for trying
    /// things out. The identity provider sends users back to this address plus `/oauth2/callback`, which
    /// must be registered there.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[^/?#@\\s]+/?$') || self.matches('^http://(localhost|[a-z0-9.-]+\\.localhost|127\\.[0-9.]+|\\[::1\\])(:[0-9]+)?/?$')")
            .message("externalUrl must be https://host[:port] without a path (http:// only for localhost), such as https://mlflow.example.org")
    )]
    pub external_url: String,

    /// Who vouches for users.
    pub provider: Provider,

    /// Who may enter. Without entries nobody may. Changes act on running pods within seconds, also on users
    /// who are logged in, in both directions.
    #[serde(default)]
    pub access: Access,

    /// How long users stay logged in.
    #[serde(default)]
    pub session: Session,

    /// Bearer tokens with which programs, such as the MLflow client, come instead of a login. They meet the
    /// same `access` rules. Default: opaque Globus tokens with provider type Globus, none with OIDC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,

    /// Further headers by which the workload learns who the user is, for workloads that know others than
    /// `X-Forwarded-User`, `-Email`, `-Preferred-Username`, `-Groups` and the same with `X-Auth-Request-`,
    /// which are always set. Copies that clients send are removed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_headers: Option<IdentityHeaders>,

    /// The vault that keeps what logins return, and refreshes it. Its policy (`consumers`) must name the
    /// workload's ServiceAccount. Pods that run already get its tokens when they are restarted. Default: none;
    /// nothing of a login is kept but a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_ref: Option<VaultReference>,

    /// What the workload gets, on behalf of whoever it serves. Logins ask for these scopes, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tokens: Vec<Token>,

    /// `Enabled` (default): a NetworkPolicy admits traffic to the selected pods on the proxy's port only.
    /// It needs a network plugin that enforces NetworkPolicies. `Disabled`: none is written, and one that
    /// this proxy wrote before is removed.
    #[serde(default)]
    pub network_policy: Switch,

    /// The proxy's container.
    #[serde(default)]
    pub proxy: ProxyContainer,
}

/// A `TokenVault`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VaultReference {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its namespace. Default: that of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// An access token that the workload gets for the user of a request.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("has(self.header) || has(self.route) || has(self.file) || has(self.delegation)")
        .message("a token needs a way to a workload: set header, route, file or delegation"),
    validation = Rule::new("!has(self.delegation) || !has(self.grantType) || self.grantType == 'AuthorizationCode'")
        .message("tokens[].delegation is for grantType AuthorizationCode: a token that acts for no user cannot be delegated"),
    validation = Rule::new("!has(self.issuer) || !has(self.grantType) || self.grantType == 'AuthorizationCode'")
        .message("tokens[].issuer is for grantType AuthorizationCode: tokens of the vault's client come from its first issuer")
)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// What it is called here.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// For whom it is good, as the issuer calls them. Example: `transfer.api.globus.org`.
    #[schemars(length(min = 1, max = 255))]
    pub resource_server: String,
    /// Which of the vault's `issuers` gives it, by its name there, if it is not the one at which users log in: an MCP
    /// server's, or that of a storage service. Users connect it at `/oauth2/connections`, once. Default: that of the
    /// login; it comes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub issuer: Option<String>,
    /// What it must allow; asked for at each login, or when it is connected.
    #[schemars(
        length(min = 1, max = 16),
        inner(
            length(min = 1, max = 512),
            regex(pattern = r"^[\x21\x23-\x5b\x5d-\x7e]+$")
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<String>,
    /// On whose behalf the token acts. `AuthorizationCode` (default): the user whose request is served.
    /// `ClientCredentials`: the vault's client itself, for jobs that serve nobody; the vault must allow it in
    /// `spec.consumers[].clientCredentials`, and a route then needs no `X-Globus-Auth-Session`.
    #[serde(default, skip_serializing_if = "GrantType::is_authorization_code")]
    pub grant_type: GrantType,
    /// The header of forwarded requests that has the token, as it is. Copies that clients send are removed.
    /// A workload that logs its headers logs the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 64),
        regex(pattern = "^([Xx]-|[Rr]emote-)[A-Za-z0-9-]+$")
    )]
    pub header: Option<String>,
    /// An address on loopback that stands for a service. Requests of the workload to
    /// `http://127.0.0.1:4182<prefix>` are sent there with the token of the user whose
    /// `X-Globus-Auth-Session` they carry: the header that came with that user's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<TokenRoute>,
    /// A file in which the containers of the pod find the token, always fresh, for jobs that serve nobody. With
    /// `grantType: AuthorizationCode` it acts for the user whom the pod's annotation
    /// `globus-auth.dev/on-behalf-of` names by their subject, and who has let the pod's ServiceAccount act for them
    /// (see `delegation`). The pod's containers start when the file is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<TokenFile>,
    /// Users may let another ServiceAccount of this namespace use the token while they are away; they are asked at
    /// `/oauth2/connections`. The vault must allow it in `spec.consumers[].delegationDays`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
}

/// A file with a token, on a volume in memory that only the sidecar can write.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenFile {
    /// Its name, in `/var/run/globus-auth/tokens`. The environment variable `BEARER_TOKEN_FILE` of the containers
    /// names the first token's, unless they set it themselves.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    )]
    pub name: String,
}

/// Who may act for users who are away, if they agree.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delegation {
    /// A ServiceAccount of this namespace. Whoever may run pods with it can act for the users who agree.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub service_account: String,
    /// For how many days; at most as many as the vault allows. Default: 7.
    #[serde(default = "seven")]
    #[schemars(range(min = 1, max = 365))]
    pub days: i32,
}

const fn seven() -> i32 {
    7
}

/// On whose behalf a token acts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum GrantType {
    #[default]
    AuthorizationCode,
    ClientCredentials,
}

impl GrantType {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_authorization_code(&self) -> bool {
        *self == Self::AuthorizationCode
    }
}

/// An address on loopback that stands for a service.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct TokenRoute {
    /// The path below which requests are sent on, without it. Example: `/alcf`.
    #[schemars(
        length(min = 2, max = 128),
        regex(pattern = "^/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")
    )]
    pub prefix: String,
    /// The only origin that the token is sent to: scheme, host and port. It must be https; http is accepted
    /// only for localhost and for Services of the cluster. Example: `https://inference.example.org`.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[^/?#@\\s]+/?$') || self.matches('^http://(localhost|127\\.[0-9.]+|[a-z0-9.-]+\\.svc(\\.cluster\\.local)?)(:[0-9]+)?/?$')")
            .message("tokens[].route.upstream must be https://host[:port] without a path (http:// only for localhost and for Services of the cluster)")
    )]
    pub upstream: String,
}

/// Where the proxy runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum Mode {
    #[default]
    Sidecar,
    Standalone,
}

/// The proxy's own Deployment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Standalone {
    /// How many pods run the proxy. Any of them can complete a login that another one began. Default: not
    /// set by the operator, so that an autoscaler can; without one, there is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<i32>,
}

/// Pods by their labels.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that a pod must have, all of them. Example: `{app: mlflow}`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    #[schemars(schema_with = "label_values")]
    pub match_labels: BTreeMap<String, String>,
}

/// The workload behind the proxy.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.url) || !self.url.startsWith('https://') || self.protocol != 'H2C'")
        .message("upstream.protocol H2C is HTTP/2 without TLS; use it with an upstream.url of http://")
)]
pub struct Upstream {
    /// The container port that users were meant to reach: its name or its number.
    ///
    /// With a name, the proxy takes the name over, so that a Service whose `targetPort` is that name
    /// reaches the proxy, and the workload keeps its number. With a number, the proxy listens on that
    /// number of the pod's address, so that a Service with this `targetPort` reaches it, and the workload
    /// must listen on 127.0.0.1. In both cases, let the workload listen on 127.0.0.1: then nothing but the
    /// proxy can reach it. Required with mode `Sidecar`, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$') && self.matches('[a-z]')")
            .message("upstream.port must be a port number from 1 to 65535 or the name of a container port (at most 15 lower-case letters, digits and -)")
    )]
    pub port: Option<IntOrString>,

    /// With mode `Standalone`, the workload's address: scheme, host and port, no path. With https, its
    /// certificate must be one that the system's authorities vouch for. Without an address the proxy
    /// answers `/oauth2/` only, for an ingress that asks it about each request. Nothing but the proxy or
    /// that ingress should be able to reach the workload; see to it with a NetworkPolicy. Example:
    /// `http://mlflow.ml.svc:5000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https?://([A-Za-z0-9.-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]+)?/?$')")
            .message("upstream.url must be http(s)://host[:port] without a path, such as http://mlflow.ml.svc:5000")
    )]
    pub url: Option<String>,

    /// What to do when the workload listens on an address that other pods can reach, beside the proxy.
    /// `Report` (default): the condition `UpstreamProtected` says so. `Refuse`: moreover, the pod does not
    /// become ready.
    #[serde(default)]
    pub exposure: Exposure,

    /// The `Host` header that the workload sees. `External` (default): the host of `externalUrl`.
    /// `Localhost`: `localhost` and the workload's port, for servers that accept nothing else, such as
    /// MLflow without `--allowed-hosts`; an `Origin` of `externalUrl` is changed likewise.
    #[serde(default)]
    pub host_header: HostHeader,

    /// What is spoken with the workload. `HTTP1` (default): HTTP/1.1. `H2C`: HTTP/2 without TLS, as gRPC
    /// servers want it; WebSockets need a workload that speaks HTTP/1.1 as well. What users speak does not
    /// depend on it.
    #[serde(default)]
    pub protocol: UpstreamProtocol,

    /// Refuse requests with a longer body, in bytes, with status 413. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_request_body_bytes: Option<i64>,

    /// Answer 504 if the workload has not begun its answer so many seconds after the last byte of the
    /// request. Neither uploads nor answers that have begun are cut. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub response_timeout_seconds: Option<i32>,
}

/// What is spoken with a workload.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum UpstreamProtocol {
    #[default]
    HTTP1,
    H2C,
}

/// What to do when the workload can be reached beside the proxy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum Exposure {
    Refuse,
    #[default]
    Report,
}

/// The `Host` header that the workload sees.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum HostHeader {
    #[default]
    External,
    Localhost,
}

/// Who vouches for users.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'OIDC' || has(self.issuer)")
        .message("provider.issuer is required with type OIDC, such as https://idp.example.org/realms/lab"),
    validation = Rule::new("self.type == 'OIDC' || !has(self.emailVerification)")
        .message("provider.emailVerification is for type OIDC; Globus never says whether an address is verified"),
    validation = Rule::new("self.type == 'OIDC' || !has(self.groupsClaim)")
        .message("provider.groupsClaim is for type OIDC; Globus is asked for a user's groups"),
    validation = Rule::new("self.type == 'Globus' || !has(self.sessionRequirements)")
        .message("provider.sessionRequirements is for type Globus; configure such a policy at your OpenID Connect provider")
)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// `Globus`: Globus Auth. `OIDC`: any OpenID Connect provider.
    #[serde(rename = "type")]
    pub kind: ProviderType,

    /// The issuer, exactly as in its discovery document, also as to a slash at the end. Required with type
    /// OIDC; with Globus it is `https://auth.globus.org`. It must be https; http is accepted only for
    /// localhost and for Services of the cluster, for tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[^?#@\\s]+$') || self.matches('^http://(localhost|127\\.[0-9.]+|[a-z0-9.-]+\\.svc(\\.cluster\\.local)?)(:[0-9]+)?(/[^?#@\\s]*)?$')")
            .message("provider.issuer must be an https URL without query (http:// only for localhost and for Services of the cluster)")
    )]
    pub issuer: Option<String>,

    /// The Secret of this namespace with our client at the provider: keys `client-id` and `client-secret`.
    pub client_secret_ref: SecretReference,

    /// Scopes to ask for beside `openid email profile`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 256),
            regex(pattern = r"^[\x21\x23-\x5b\x5d-\x7e]+$")
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<String>,

    /// Whether an address counts only if the provider says that it verified it. `Required` (default):
    /// `email_verified` must be true. `IfPresent`: it may be missing, but not be false; choose this only if
    /// users cannot choose their address at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verification: Option<EmailVerification>,

    /// The claim of the ID token or of userinfo that lists a user's groups, for `access.groups`. With type
    /// OIDC only; Globus is asked for its groups. Default: `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub groups_claim: Option<String>,

    /// How users must log in at Globus, with type Globus only. Asked for at each login and checked after
    /// it; tokens of programs must come from such a login, too. A change logs everybody out. Default:
    /// nothing is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_requirements: Option<SessionRequirements>,
}

/// How users must log in at Globus. What is empty or false is not required.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("has(self.singleDomain) || has(self.policies) || (has(self.mfa) && self.mfa)")
        .message("provider.sessionRequirements must require something: name a domain in singleDomain or an id in policies, set mfa to true, or leave it out")
)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequirements {
    /// An identity of one of these domains must be logged in. Example: `[anl.gov]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.-]+$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub single_domain: Vec<String>,

    /// Ids of Globus authentication policies, all of which must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub policies: Vec<String>,

    /// Whether there must be a second factor. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mfa: bool,
}

/// The kind of an identity provider.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum ProviderType {
    Globus,
    OIDC,
}

/// Whether an address counts only if it is verified.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum EmailVerification {
    IfPresent,
    Required,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Who may enter: whoever is named by any of `emails`, `emailsFrom`, `emailDomains`, `groups` and
/// `serviceAccounts`, or everybody with `anyAuthenticated`. `identityProviders` narrows all of them.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("!has(self.anyAuthenticated) || self.anyAuthenticated == 'Disabled' || !(has(self.emails) || has(self.emailsFrom) || has(self.emailDomains) || has(self.groups))")
        .message("access.anyAuthenticated: Enabled admits everybody whom the provider knows, so a list beside it would say nothing; remove emails, emailsFrom, emailDomains and groups, or set anyAuthenticated to Disabled")
)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// E-mail addresses that may enter. Upper and lower case do not matter. Default: none. Example:
    /// `[alice@example.org]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        inner(
            length(min = 3, max = 254),
            regex(
                pattern = r#"^[^@\s\pZ\p{Cc},;:<>()"\\*]+@[^@\s\pZ\p{Cc},;:<>()"\\*.]+(\.[^@\s\pZ\p{Cc},;:<>()"\\*.]+)*$"#
            )
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub emails: Vec<String>,

    /// More addresses, from a ConfigMap, for lists that change often or that somebody else keeps. If it is
    /// missing or has a line that is no address, the last good list stays in force and the condition
    /// `ConfigValid` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emails_from: Option<EmailsFrom>,

    /// Domains whose addresses may enter: `example.org` for `a@example.org`, `*.example.org` for every
    /// domain below it. Every address that the provider vouches for counts, so name domains only that
    /// the provider lets nobody else use. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r#"^(\*\.)?[^@\s\pZ\p{Cc},;:<>()"\\*.]+(\.[^@\s\pZ\p{Cc},;:<>()"\\*.]+)*$"#
            )
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub email_domains: Vec<String>,

    /// Groups whose members may enter. With provider type Globus: ids of Globus groups, of which any
    /// identity of the user is an active member; with OIDC: values of the claim `provider.groupsClaim`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 256)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,

    /// Seconds after which a membership that the provider told of no longer counts. From half of it, a
    /// page that the user opens makes the provider tell again, by a login that needs nothing of the user
    /// who is logged in there. Default 900, at least 60.
    #[serde(default = "default_groups_max_age")]
    #[schemars(range(min = 60, max = 86_400))]
    pub groups_max_age_seconds: i32,

    /// If not empty, only identities of these providers count, for every rule about users. With Globus:
    /// ids of identity providers; a linked identity of one of them stands for the user. With OIDC: values
    /// of the claim `identity_provider` or `idp`. Default: all count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub identity_providers: Vec<String>,

    /// ServiceAccounts of this cluster whose pods may enter. They bring, as bearer token, a projected
    /// token whose audience is `externalUrl` without a slash at its end. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "name"]))]
    pub service_accounts: Vec<ServiceAccountReference>,

    /// `Enabled`: everybody may enter whom the provider vouches for; with Globus, that is everybody with
    /// any account of the world's universities, Google or GitHub. `Disabled` (default): who is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_authenticated: Option<Switch>,

    /// What everybody may fetch without a login. The workload learns who somebody is only if they are
    /// logged in and may enter. A path with dot segments, empty segments, backslashes, `;` or anything
    /// percent-encoded is never public. Default: none. Example: `[{path: /health}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub public: Vec<PublicRoute>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            emails: Vec::new(),
            emails_from: None,
            email_domains: Vec::new(),
            groups: Vec::new(),
            groups_max_age_seconds: default_groups_max_age(),
            identity_providers: Vec::new(),
            service_accounts: Vec::new(),
            any_authenticated: None,
            public: Vec::new(),
        }
    }
}

const fn default_groups_max_age() -> i32 {
    900
}

/// A ServiceAccount.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ServiceAccountReference {
    /// Its namespace.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: String,
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,
}

/// Requests that everybody may make without a login.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicRoute {
    /// The path, as it stands in the request line. Example: `/health`.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^/([A-Za-z0-9_~+@-]([A-Za-z0-9._~+@-]*[A-Za-z0-9_~+@-])?(/[A-Za-z0-9._~+@-]*[A-Za-z0-9_~+@-])*/?)?$') && self != '/oauth2' && !self.startsWith('/oauth2/')")
            .message("access.public[].path must start with / and have plain segments (letters, digits, - . _ ~ + @), none that ends with a dot, and none below /oauth2")
    )]
    pub path: String,

    /// `Exact` (default): this path. `Prefix`: this path and everything below it, so `/a` covers `/a/b`
    /// and not `/ab`.
    #[serde(default, rename = "match")]
    pub path_match: PathMatch,

    /// The methods. Default: GET and HEAD.
    #[serde(default = "default_public_methods")]
    #[schemars(length(min = 1, max = 9))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<Method>,
}

fn default_public_methods() -> Vec<Method> {
    vec![Method::GET, Method::HEAD]
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field says what they mean")]
pub enum PathMatch {
    #[default]
    Exact,
    Prefix,
}

/// A request method (RFC 9110 §9.3, RFC 5789).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Method {
    DELETE,
    GET,
    HEAD,
    OPTIONS,
    PATCH,
    POST,
    PUT,
}

impl Method {
    /// The method as it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DELETE => "DELETE",
            Self::GET => "GET",
            Self::HEAD => "HEAD",
            Self::OPTIONS => "OPTIONS",
            Self::PATCH => "PATCH",
            Self::POST => "POST",
            Self::PUT => "PUT",
        }
    }
}

/// Where more addresses come from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailsFrom {
    /// A key of a ConfigMap of this namespace. One address per line or separated by commas; `#` starts a
    /// comment.
    pub config_map_key_ref: ConfigMapKeyReference,
}

/// A key of a ConfigMap of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConfigMapKeyReference {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How long users stay logged in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.idleTimeoutSeconds <= self.absoluteTimeoutSeconds")
        .message("session.idleTimeoutSeconds must not be more than session.absoluteTimeoutSeconds")
)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Seconds without a request after which a user must log in again. Default 43200 (12 hours), at most
    /// 30 days.
    #[serde(default = "default_idle_timeout")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub idle_timeout_seconds: i32,

    /// Seconds after a login when a user must log in again, however busy. Default 604800 (7 days), at most
    /// 30 days.
    #[serde(default = "default_absolute_timeout")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub absolute_timeout_seconds: i32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            idle_timeout_seconds: default_idle_timeout(),
            absolute_timeout_seconds: default_absolute_timeout(),
        }
    }
}

const fn default_idle_timeout() -> i32 {
    12 * 60 * 60
}

const fn default_absolute_timeout() -> i32 {
    7 * 24 * 60 * 60
}

/// Further headers by which the workload learns who the user is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityHeaders {
    /// Names for the subject, which never changes and is nobody else's. Example: `[Remote-User]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "header_names")]
    pub user: Vec<String>,

    /// Names for the e-mail address. Example: `[X-Email]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "header_names")]
    pub email: Vec<String>,

    /// Names for the user name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "header_names")]
    pub preferred_username: Vec<String>,

    /// Names for those of the user's groups that `access.groups` names, separated by commas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "header_names")]
    pub groups: Vec<String>,

    /// A header with a secret that shows the workload that a request came through the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_secret: Option<SharedSecret>,
}

/// A header whose value only proxy and workload know.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedSecret {
    /// Its name. Example: `X-Proxy-Secret`.
    #[schemars(
        length(min = 3, max = 64),
        regex(pattern = r"^([Xx]-|[Rr]emote-)[A-Za-z0-9-]+$")
    )]
    pub header: String,

    /// A key of a Secret of this namespace, with one line of text.
    pub secret_key_ref: SecretKeyReference,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Bearer tokens that are accepted.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// Ask the provider about opaque tokens. Default: `Enabled` with provider type Globus. A Globus token is
    /// accepted if it was issued for our client (it is in the token's audience).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Switch>,

    /// Issuers whose JWTs are accepted. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["issuer"]))]
    pub jwt: Vec<JwtIssuer>,
}

/// An issuer whose JWTs are accepted.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtIssuer {
    /// The issuer, exactly as in its tokens and in its discovery document.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^https://[^?#@\\s]+$') || self.matches('^http://(localhost|127\\.[0-9.]+|[a-z0-9.-]+\\.svc(\\.cluster\\.local)?)(:[0-9]+)?(/[^?#@\\s]*)?$')")
            .message("bearer.jwt[].issuer must be an https URL without query (http:// only for localhost and for Services of the cluster)")
    )]
    pub issuer: String,

    /// A token must be issued for one of these. Example: `[mlflow]`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,

    /// The signature algorithms that a token may have. Default: those that are asymmetric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<SignatureAlgorithm>,

    /// As `provider.emailVerification`. Default: `Required`.
    #[serde(default = "required")]
    pub email_verification: EmailVerification,

    /// The claim that lists a user's groups, for `access.groups`. Default: `groups`.
    #[serde(default = "default_groups_claim")]
    #[schemars(length(min = 1, max = 128))]
    pub groups_claim: String,
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}

const fn required() -> EmailVerification {
    EmailVerification::Required
}

/// The signature algorithms that a token may have (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum SignatureAlgorithm {
    EdDSA,
    ES256,
    ES384,
    PS256,
    PS384,
    PS512,
    RS256,
    RS384,
    RS512,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields say what they mean")]
pub enum Switch {
    Disabled,
    #[default]
    Enabled,
}

/// The proxy's container.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyContainer {
    /// The port on which the proxy serves users when `upstream.port` is a name. Default 4180. Choose
    /// another one if a container of the pod uses it, or the port after it, which is for probes and metrics.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1024, max = 65534))]
    pub port: i32,

    /// What the container asks for and may use. Default: requests of 10m CPU and 24Mi of memory, a limit of
    /// 64Mi of memory and none of CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Which log lines to write. `info` (default) has a line for every request.
    #[serde(default)]
    pub log_level: LogLevel,

    /// A Secret of type `kubernetes.io/tls` in this namespace, such as cert-manager makes, with `tls.crt` and
    /// `tls.key`: the proxy then serves users over TLS 1.2 and 1.3, with HTTP/2 for those who offer it, and
    /// no longer over plain HTTP. Probes and metrics stay on their plain port. A renewed certificate is shown
    /// by running pods within minutes, without a restart; while the Secret is missing or broken, the
    /// certificate of before is shown on, and `CredentialsResolved` says so. Default: plain HTTP, for
    /// clusters whose network is trusted or encrypted by a mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretReference>,

    /// Where spans of requests go, for whoever follows a request through several programs. Default: nowhere;
    /// the headers `traceparent` and `tracestate` pass to the workload unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

/// Where spans of requests go (W3C Trace Context, OpenTelemetry).
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// The base address of a collector that takes OTLP over HTTP with JSON, such as
    /// `http://otel-collector.observability:4318`; spans go to `/v1/traces` below it. A span has the method, the
    /// path without the query, the status and what was decided; no user and no address.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(
        validation = Rule::new("isURL(self) && self.matches('^https?://[^/?#@]+[^?#@]*$')")
            .message("proxy.tracing.endpoint must be http(s)://host[:port], such as http://otel-collector.observability:4318")
    )]
    pub endpoint: String,

    /// Of a million requests that come without a trace, so many start one. Default 0: only requests whose
    /// `traceparent` says that their trace is recorded have a span. Users can send that header, too.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sampling_rate_per_million: i32,
}

impl GlobusAuthProxySpec {
    /// The labels of the pods in which the proxy `name` of this specification runs. Those of a proxy
    /// without selector are the operator's own.
    pub fn pod_labels(&self, name: &str) -> BTreeMap<String, String> {
        match (self.mode, &self.selector) {
            (Mode::Sidecar, Some(selector)) => selector.match_labels.clone(),
            (Mode::Sidecar, None) => BTreeMap::new(),
            (Mode::Standalone, _) => {
                BTreeMap::from([(crate::STANDALONE_LABEL.to_owned(), name.to_owned())])
            }
        }
    }
}

impl Default for ProxyContainer {
    fn default() -> Self {
        Self {
            port: default_port(),
            resources: None,
            log_level: LogLevel::default(),
            tls_secret_ref: None,
            tracing: None,
        }
    }
}

const fn default_port() -> i32 {
    4180
}

/// What a container asks for and may use.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Resources {
    /// What the container asks for.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    pub requests: ResourceList,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    pub limits: ResourceList,
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ResourceList {
    /// CPU, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?m?$"))]
    pub cpu: Option<String>,
    /// Memory, such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?([KMGT]i?|k)?$")
    )]
    pub memory: Option<String>,
}

impl ResourceList {
    const fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none()
    }
}

/// Which log lines to write.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

/// What the operator saw and did.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GlobusAuthProxyStatus {
    /// The generation of the resource that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The redirect address to register at the identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Names the configuration that the sidecars were given last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The pods that the selector matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,
    /// Ready, ConfigValid, CredentialsResolved, Injected and UpstreamProtected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Pods, counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PodCounts {
    /// Those with the sidecar.
    pub injected: i32,
    /// Those without.
    pub uninjected: i32,
    /// Those whose sidecar has another image than new pods get. They change when they are restarted.
    pub stale: i32,
}

fn header_names(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = Vec::<String>::json_schema(generator);
    schema.insert("maxItems".to_owned(), 8.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "set".into());
    schema.insert(
        "items".to_owned(),
        serde_json::json!({
            "type": "string", "minLength": 3, "maxLength": 64, "pattern": "^([Xx]-|[Rr]emote-)[A-Za-z0-9-]+$",
        }),
    );
    schema
}

fn label_values(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = BTreeMap::<String, String>::json_schema(generator);
    schema.insert(
        "additionalProperties".to_owned(),
        serde_json::json!({"type": "string", "maxLength": 63}),
    );
    schema
}
