//! From what is stored to what can be carried out. Pure: everything that was fetched is a parameter.

use std::collections::BTreeMap;

use globus_auth_core::identity::EmailVerification;
use globus_auth_core::oauth::globus;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::oauth::jwt::SignatureAlgorithm;
use globus_auth_core::runtime::certificate;
use globus_auth_core::sidecar_config::{self as config, FILE_NAME};
use globus_auth_core::url::{BadUrl, ExternalUrl, Issuer};
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::proxy as spec;
use globus_auth_crds::{GlobusAuthProxy, GlobusAuthProxySpec, TokenVault};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::standalone::Standalone;
use super::{access, names, vault};
use crate::webhook::policy::Policy;

/// The objects that a proxy refers to, as they are now.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The Secret of `provider.clientSecretRef`.
    pub client_secret: Option<Secret>,
    /// The ConfigMap of `access.emailsFrom`.
    pub allowlist: Option<ConfigMap>,
    /// The Secret of `identityHeaders.sharedSecret`.
    pub shared_secret: Option<Secret>,
    /// The vault of `vaultRef`.
    pub vault: Option<TokenVault>,
    /// The Secret of `proxy.tlsSecretRef`.
    pub tls: Option<Secret>,
    /// The Secret that the operator has rendered before.
    pub rendered: Option<Secret>,
    /// With mode Standalone: what has a name that we need and was made by somebody else, such as
    /// `Service "mlflow-globus-auth"`.
    pub foreign: Vec<String>,
    /// Who signs the tokens of ServiceAccounts, if `access.serviceAccounts` names any.
    pub cluster: Option<ClusterIssuer>,
}

/// The issuer of the cluster's ServiceAccount tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterIssuer {
    /// `iss`.
    pub issuer: String,
    /// Its public keys, a JWK set (RFC 7517 §5).
    pub keys: serde_json::Value,
}

impl Fetched {
    /// `proxy` and what it refers to, with the credentials that are in force instead of those of the
    /// client's Secret, and the certificate that is in force, or none if none is. The credentials are for one
    /// provider; for another one there are none.
    pub fn with_secrets_in_force(
        &self,
        proxy: &GlobusAuthProxy,
    ) -> Option<(GlobusAuthProxy, Self)> {
        #[derive(Deserialize)]
        struct InForce {
            provider: config::Provider,
            tls: Option<config::Tls>,
        }
        let data = self.rendered.as_ref()?.data.as_ref()?;
        let InForce { provider, tls } = serde_json::from_slice(&data.get(FILE_NAME)?.0).ok()?;
        if issuer(&proxy.spec.provider).ok()? != provider.issuer {
            return None;
        }
        let secret = |texts: [(&str, &str); 2]| Secret {
            data: Some(BTreeMap::from(texts.map(|(key, text)| {
                (key.to_owned(), ByteString(text.as_bytes().to_vec()))
            }))),
            ..Secret::default()
        };
        let mut proxy = proxy.clone();
        if tls.is_none() {
            proxy.spec.proxy.tls_secret_ref = None;
        }
        let tls = tls.map(|tls| {
            secret([
                (TLS_CERTIFICATES, &tls.certificates),
                (TLS_KEY, tls.private_key.expose_secret()),
            ])
        });
        let fetched = Self {
            client_secret: Some(secret([
                (CLIENT_ID, &provider.client_id),
                (CLIENT_SECRET, provider.client_secret.expose_secret()),
            ])),
            tls,
            ..self.clone()
        };
        Some((proxy, fetched))
    }
}

/// A proxy that can be carried out.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Which it is.
    pub proxy: config::ProxyReference,
    /// The labels of the pods in which it runs.
    pub pod_labels: BTreeMap<String, String>,
    /// With mode Standalone, what its Deployment needs.
    pub standalone: Option<Standalone>,
    /// The port of the sidecar that a NetworkPolicy admits.
    pub admitted_port: u16,
    /// Whether a NetworkPolicy is wanted.
    pub network_policy: bool,
    /// The part of the sidecar's configuration that comes from the resource.
    pub external_url: ExternalUrl,
    /// See [`config::SidecarConfig`].
    pub provider: config::Provider,
    /// See [`config::SidecarConfig`].
    pub access: config::Access,
    /// See [`config::SidecarConfig`].
    pub session: config::Session,
    /// See [`config::SidecarConfig`].
    pub bearer: config::Bearer,
    /// See [`config::SidecarConfig`].
    pub upstream: config::Upstream,
    /// See [`config::SidecarConfig`].
    pub identity_headers: config::IdentityHeaders,
    /// See [`config::SidecarConfig`].
    pub tls: Option<config::Tls>,
    /// See [`config::SidecarConfig`].
    pub tracing: Option<config::Tracing>,
    /// See [`config::SidecarConfig`].
    pub vault: Option<config::Vault>,
    /// See [`config::SidecarConfig`].
    pub log_level: config::LogLevel,
}

/// Something that keeps a proxy from being carried out: the condition that becomes False, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The condition's type.
    pub condition: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// Its message: what is wrong, where, and what to do.
    pub message: String,
}

/// Checks `proxy` and what it refers to.
///
/// # Errors
/// Every problem at once, so that nobody mends one to meet the next.
pub fn validate(proxy: &GlobusAuthProxy, fetched: &Fetched) -> Result<Validated, Vec<Problem>> {
    let spec = &proxy.spec;
    let mut problems = Vec::new();
    keep(&mut problems, selector(spec));
    keep(&mut problems, no_foreign(&fetched.foreign));
    let external_url = keep(&mut problems, external_url(spec));
    let issuer = keep(&mut problems, issuer(&spec.provider));
    let credentials = keep(&mut problems, credentials(spec, fetched));
    let access = keep(&mut problems, access::access(spec, fetched));
    let identity_headers = keep(&mut problems, identity_headers(spec, fetched));
    let bearer = keep(&mut problems, bearer(spec));
    let tls = keep(&mut problems, tls(spec, fetched.tls.as_ref()));
    let tracing = keep(&mut problems, tracing(spec));
    let runs = keep(&mut problems, runs(proxy));
    let client = issuer.as_ref().zip(credentials.as_ref());
    let vault = keep(
        &mut problems,
        vault::vault(proxy, fetched.vault.as_ref(), client),
    );
    keep(&mut problems, own_secret(proxy, fetched.rendered.as_ref()));

    match (
        external_url,
        issuer,
        credentials,
        access,
        identity_headers,
        bearer,
        tls,
        tracing,
        (runs, vault),
    ) {
        (
            Some(external_url),
            Some(issuer),
            Some(credentials),
            Some(access),
            Some(identity_headers),
            Some(bearer),
            Some(tls),
            Some(tracing),
            (Some((admitted_port, standalone)), Some(vault)),
        ) if problems.is_empty() => Ok(Validated {
            proxy: reference(proxy),
            pod_labels: spec.pod_labels(&proxy.name_any()),
            standalone,
            admitted_port,
            network_policy: spec.network_policy == spec::Switch::Enabled,
            external_url,
            provider: provider(spec, issuer, credentials),
            access,
            session: session(spec.session),
            identity_headers,
            tls,
            tracing,
            vault,
            bearer,
            upstream: upstream(spec),
            log_level: log_level(spec.proxy.log_level),
        }),
        _ => Err(problems),
    }
}

fn provider(
    spec: &GlobusAuthProxySpec,
    issuer: Issuer,
    (client_id, client_secret): (String, SecretString),
) -> config::Provider {
    config::Provider {
        kind: provider_kind(spec.provider.kind),
        issuer,
        client_id,
        client_secret,
        scopes: scopes(spec),
        email_verification: email_verification(&spec.provider),
        groups_claim: groups_claim(spec),
        session_requirements: session_requirements(&spec.provider),
    }
}

fn keep<T>(problems: &mut Vec<Problem>, result: Result<T, Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// Which proxy it is.
pub fn reference(proxy: &GlobusAuthProxy) -> config::ProxyReference {
    config::ProxyReference {
        namespace: proxy.namespace().unwrap_or_default(),
        name: proxy.name_any(),
        uid: proxy.uid().unwrap_or_default(),
    }
}

pub(crate) fn invalid(message: String) -> Problem {
    Problem {
        condition: types::CONFIG_VALID,
        reason: reasons::INVALID,
        message,
    }
}

pub(crate) fn unresolved(reason: &'static str, message: String) -> Problem {
    Problem {
        condition: types::CREDENTIALS_RESOLVED,
        reason,
        message,
    }
}

fn bad_port() -> Problem {
    invalid(
        "spec.upstream.port must be a port's name or a number from 1 to 65535, and spec.proxy.port a number \
         from 1 to 65534"
            .to_owned(),
    )
}

/// Without labels, the NetworkPolicy would close every pod of the namespace.
fn selector(spec: &GlobusAuthProxySpec) -> Result<(), Problem> {
    let has_labels = |selector: &spec::Selector| !selector.match_labels.is_empty();
    match (spec.mode, &spec.selector) {
        (spec::Mode::Sidecar, selector) if !selector.as_ref().is_some_and(has_labels) => Err(
            invalid("spec.selector.matchLabels must have at least one label".to_owned()),
        ),
        (spec::Mode::Standalone, Some(_)) => Err(invalid(
            "spec.selector is for mode Sidecar; with mode Standalone the proxy runs in pods of its own"
                .to_owned(),
        )),
        (spec::Mode::Sidecar | spec::Mode::Standalone, _) => Ok(()),
    }
}

/// The port that users reach, and what a Deployment of our own needs.
fn runs(proxy: &GlobusAuthProxy) -> Result<(u16, Option<Standalone>), Problem> {
    let upstream = &proxy.spec.upstream;
    match proxy.spec.mode {
        spec::Mode::Sidecar => {
            let policy = Policy::of(proxy).ok_or_else(bad_port)?;
            Ok((policy.admitted_port(), None))
        }
        spec::Mode::Standalone => {
            let listen_port = Policy::own_port(proxy).ok_or_else(bad_port)?;
            let parse = |url: &String| {
                url.parse()
                    .map_err(|error: BadUrl| invalid(format!("spec.upstream.url {url:?} {error}")))
            };
            let standalone = Standalone {
                listen_port,
                upstream: upstream.url.as_ref().map(parse).transpose()?,
            };
            Ok((listen_port, Some(standalone)))
        }
    }
}

/// What somebody else made is not overwritten.
fn no_foreign(foreign: &[String]) -> Result<(), Problem> {
    if foreign.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "there is a {} that this GlobusAuthProxy did not make and needs the name of; delete it, or create a \
         GlobusAuthProxy of another name",
        foreign.join(" and a ")
    )))
}

fn external_url(spec: &GlobusAuthProxySpec) -> Result<ExternalUrl, Problem> {
    spec.external_url.parse().map_err(|error: BadUrl| {
        invalid(format!("spec.externalUrl {:?} {error}", spec.external_url))
    })
}

fn issuer(provider: &spec::Provider) -> Result<Issuer, Problem> {
    match (&provider.issuer, provider.kind) {
        (Some(issuer), _) => parse_issuer("spec.provider.issuer", issuer),
        (None, spec::ProviderType::Globus) => Ok(Issuer::globus()),
        (None, spec::ProviderType::OIDC) => Err(invalid(
            "spec.provider.issuer is required with type OIDC".to_owned(),
        )),
    }
}

fn parse_issuer(field: &str, issuer: &str) -> Result<Issuer, Problem> {
    issuer
        .parse()
        .map_err(|error: BadUrl| invalid(format!("{field} {issuer:?} {error}")))
}

fn credentials(
    spec: &GlobusAuthProxySpec,
    fetched: &Fetched,
) -> Result<(String, SecretString), Problem> {
    let secret = fetched.client_secret.as_ref();
    let name = &spec.provider.client_secret_ref.name;
    let Some(secret) = secret else {
        return Err(unresolved(
            reasons::SECRET_NOT_FOUND,
            format!(
                "there is no Secret {name:?}, which spec.provider.clientSecretRef names; create it with the \
                 keys {CLIENT_ID} and {CLIENT_SECRET}"
            ),
        ));
    };
    let read = |key: &str| {
        line(secret, key).ok_or_else(|| {
            unresolved(
                reasons::SECRET_MALFORMED,
                format!("Secret {name:?} needs the key {key} with one line of text"),
            )
        })
    };
    Ok((
        read(CLIENT_ID)?.to_owned(),
        SecretString::from(read(CLIENT_SECRET)?),
    ))
}

fn tls(
    spec: &GlobusAuthProxySpec,
    secret: Option<&Secret>,
) -> Result<Option<config::Tls>, Problem> {
    let Some(spec::SecretReference { name }) = &spec.proxy.tls_secret_ref else {
        return Ok(None);
    };
    let secret = secret.ok_or_else(|| {
        let message = format!(
            "there is no Secret {name:?}, which spec.proxy.tlsSecretRef names; create it with \
             `kubectl create secret tls`, or let cert-manager make it"
        );
        unresolved(reasons::SECRET_NOT_FOUND, message)
    })?;
    let malformed = |what: &dyn std::fmt::Display| {
        let message = format!(
            "Secret {name:?} of spec.proxy.tlsSecretRef needs the keys {TLS_CERTIFICATES} and {TLS_KEY}: {what}"
        );
        unresolved(reasons::SECRET_MALFORMED, message)
    };
    let read = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
            .ok_or_else(|| malformed(&format_args!("there is no text in {key}")))
    };
    let (certificates, key) = (read(TLS_CERTIFICATES)?, read(TLS_KEY)?);
    certificate::read(certificates, key).map_err(|error| malformed(&error))?;
    Ok(Some(config::Tls {
        certificates: certificates.to_owned(),
        private_key: SecretString::from(key),
    }))
}

/// The value of `key`, if it is one line of text.
pub(crate) fn line<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn identity_headers(
    spec: &GlobusAuthProxySpec,
    fetched: &Fetched,
) -> Result<config::IdentityHeaders, Problem> {
    let secret = fetched.shared_secret.as_ref();
    let Some(headers) = &spec.identity_headers else {
        return Ok(config::IdentityHeaders::default());
    };
    let shared = headers.shared_secret.iter().map(|shared| &shared.header);
    let lists = [
        &headers.user,
        &headers.email,
        &headers.preferred_username,
        &headers.groups,
    ];
    let mut names = lists.into_iter().flatten().chain(shared);
    if let Some(name) = names.find(|name| !config::IdentityHeaders::allows(name)) {
        return Err(invalid(format!(
            "spec.identityHeaders has {name:?}; a header about the user must start with X- or Remote-, have \
             letters, digits and - only, and not be X-Forwarded-For, -Host or -Proto"
        )));
    }
    let shared_secret = headers.shared_secret.as_ref().map(|shared| {
        let spec::SecretKeyReference { name, key } = &shared.secret_key_ref;
        let secret = secret.ok_or_else(|| {
            unresolved(
                reasons::SECRET_NOT_FOUND,
                format!(
                    "there is no Secret {name:?}, which spec.identityHeaders.sharedSecret names; create it with \
                     the key {key}"
                ),
            )
        })?;
        let value = line(secret, key).filter(|text| text.is_ascii()).ok_or_else(|| {
            unresolved(
                reasons::SECRET_MALFORMED,
                format!("Secret {name:?} needs the key {key} with one line of ASCII text"),
            )
        })?;
        Ok(config::SharedSecret {
            header: shared.header.clone(),
            value: SecretString::from(value),
        })
    });
    Ok(config::IdentityHeaders {
        user: headers.user.clone(),
        email: headers.email.clone(),
        preferred_username: headers.preferred_username.clone(),
        groups: headers.groups.clone(),
        shared_secret: shared_secret.transpose()?,
    })
}

fn bearer(spec: &GlobusAuthProxySpec) -> Result<config::Bearer, Problem> {
    let is_globus = spec.provider.kind == spec::ProviderType::Globus;
    let configured = spec.bearer.as_ref();
    let introspection = configured.and_then(|bearer| bearer.introspection);
    if introspection == Some(spec::Switch::Enabled) && !is_globus {
        return Err(invalid(
            "spec.bearer.introspection works with provider type Globus only".to_owned(),
        ));
    }
    let jwt = configured
        .into_iter()
        .flat_map(|bearer| &bearer.jwt)
        .map(|jwt| {
            Ok(config::JwtIssuer {
                issuer: parse_issuer("spec.bearer.jwt[].issuer", &jwt.issuer)?,
                audiences: jwt.audiences.clone(),
                algorithms: algorithms(&jwt.algorithms),
                email_verification: verification(jwt.email_verification),
                groups_claim: has_groups(spec).then(|| jwt.groups_claim.clone()),
            })
        });
    Ok(config::Bearer {
        introspection: is_globus && introspection != Some(spec::Switch::Disabled),
        jwt: jwt.collect::<Result<_, _>>()?,
    })
}

/// A Secret of the name that we need, made by somebody else, is not overwritten.
fn own_secret(proxy: &GlobusAuthProxy, rendered: Option<&Secret>) -> Result<(), Problem> {
    let Some(secret) = rendered else {
        return Ok(());
    };
    let uid = proxy.uid().unwrap_or_default();
    if secret
        .owner_references()
        .iter()
        .any(|owner| owner.uid == uid)
    {
        return Ok(());
    }
    Err(invalid(format!(
        "there is a Secret {:?} that this GlobusAuthProxy did not make and needs the name of; delete it",
        names::secret(&proxy.name_any())
    )))
}

/// Named only if a rule needs it, so that a sidecar of the version before goes on reading what has none.
fn groups_claim(spec: &GlobusAuthProxySpec) -> Option<String> {
    let provider = &spec.provider;
    let is_claimed = has_groups(spec) && provider.kind == spec::ProviderType::OIDC;
    is_claimed.then(|| {
        let default = || "groups".to_owned();
        provider.groups_claim.clone().unwrap_or_else(default)
    })
}

fn has_groups(spec: &GlobusAuthProxySpec) -> bool {
    !spec.access.groups.is_empty()
}

fn scopes(spec: &GlobusAuthProxySpec) -> Vec<String> {
    let provider = &spec.provider;
    let is_globus = provider.kind == spec::ProviderType::Globus;
    let groups = (is_globus && has_groups(spec)).then_some(globus::groups::SCOPE);
    let mut scopes = vec!["email".to_owned(), "profile".to_owned()];
    for scope in groups
        .into_iter()
        .chain(provider.scopes.iter().map(String::as_str))
    {
        if scope != "openid" && !scopes.iter().any(|one| one == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

fn session_requirements(provider: &spec::Provider) -> SessionRequirements {
    let required = provider.session_requirements.as_ref();
    required.map_or_else(SessionRequirements::default, |required| {
        SessionRequirements {
            session_required_single_domain: required.single_domain.clone(),
            session_required_policies: required.policies.clone(),
            session_required_mfa: required.mfa,
            ..SessionRequirements::default()
        }
    })
}

pub(crate) const fn provider_kind(kind: spec::ProviderType) -> config::ProviderKind {
    match kind {
        spec::ProviderType::Globus => config::ProviderKind::Globus,
        spec::ProviderType::OIDC => config::ProviderKind::OIDC,
    }
}

fn email_verification(provider: &spec::Provider) -> EmailVerification {
    match (provider.kind, provider.email_verification) {
        // Globus never sends email_verified.
        (spec::ProviderType::Globus, _) => EmailVerification::IfPresent,
        (spec::ProviderType::OIDC, None) => EmailVerification::Required,
        (spec::ProviderType::OIDC, Some(configured)) => verification(configured),
    }
}

const fn verification(configured: spec::EmailVerification) -> EmailVerification {
    match configured {
        spec::EmailVerification::IfPresent => EmailVerification::IfPresent,
        spec::EmailVerification::Required => EmailVerification::Required,
    }
}

fn algorithms(configured: &[spec::SignatureAlgorithm]) -> Vec<SignatureAlgorithm> {
    if configured.is_empty() {
        return SignatureAlgorithm::ALL.to_vec();
    }
    let algorithm = |algorithm: &spec::SignatureAlgorithm| match algorithm {
        spec::SignatureAlgorithm::EdDSA => SignatureAlgorithm::EdDSA,
        spec::SignatureAlgorithm::ES256 => SignatureAlgorithm::ES256,
        spec::SignatureAlgorithm::ES384 => SignatureAlgorithm::ES384,
        spec::SignatureAlgorithm::PS256 => SignatureAlgorithm::PS256,
        spec::SignatureAlgorithm::PS384 => SignatureAlgorithm::PS384,
        spec::SignatureAlgorithm::PS512 => SignatureAlgorithm::PS512,
        spec::SignatureAlgorithm::RS256 => SignatureAlgorithm::RS256,
        spec::SignatureAlgorithm::RS384 => SignatureAlgorithm::RS384,
        spec::SignatureAlgorithm::RS512 => SignatureAlgorithm::RS512,
    };
    configured.iter().map(algorithm).collect()
}

fn session(session: spec::Session) -> config::Session {
    let seconds = |seconds: i32| {
        u32::try_from(seconds)
            .unwrap_or(SHORTEST_SESSION)
            .max(SHORTEST_SESSION)
    };
    config::Session {
        idle_timeout_seconds: seconds(session.idle_timeout_seconds),
        absolute_timeout_seconds: seconds(session.absolute_timeout_seconds),
    }
}

fn upstream(spec: &GlobusAuthProxySpec) -> config::Upstream {
    let upstream = &spec.upstream;
    let max = upstream.max_request_body_bytes;
    let timeout = upstream.response_timeout_seconds;
    config::Upstream {
        protocol: match upstream.protocol {
            spec::UpstreamProtocol::HTTP1 => config::Protocol::HTTP1,
            spec::UpstreamProtocol::H2C => config::Protocol::H2C,
        },
        // The schema has no negative ones.
        max_request_body_bytes: max.map(|max| max.try_into().unwrap_or_default()),
        response_timeout_seconds: timeout.map(|seconds| seconds.try_into().unwrap_or_default()),
        host_header: match upstream.host_header {
            spec::HostHeader::External => config::HostHeader::External,
            spec::HostHeader::Localhost => config::HostHeader::Localhost,
        },
        exposure: match (spec.mode, upstream.exposure) {
            (spec::Mode::Sidecar, spec::Exposure::Refuse) => config::Exposure::Refuse,
            // From its own pod the proxy cannot see where the workload listens.
            (spec::Mode::Standalone, _) | (_, spec::Exposure::Report) => config::Exposure::Report,
        },
    }
}

fn tracing(spec: &GlobusAuthProxySpec) -> Result<Option<config::Tracing>, Problem> {
    let Some(tracing) = &spec.proxy.tracing else {
        return Ok(None);
    };
    let endpoint = tracing.endpoint.parse().map_err(|error: BadUrl| {
        let endpoint = &tracing.endpoint;
        invalid(format!("spec.proxy.tracing.endpoint {endpoint:?} {error}"))
    })?;
    let sampling_rate_per_million = u32::try_from(tracing.sampling_rate_per_million)
        .ok()
        .filter(|rate| *rate <= 1_000_000)
        .ok_or_else(|| {
            invalid(
                "spec.proxy.tracing.samplingRatePerMillion must be a number from 0 to 1000000"
                    .to_owned(),
            )
        })?;
    Ok(Some(config::Tracing {
        endpoint,
        sampling_rate_per_million,
    }))
}

const fn log_level(level: spec::LogLevel) -> config::LogLevel {
    match level {
        spec::LogLevel::Error => config::LogLevel::Error,
        spec::LogLevel::Warn => config::LogLevel::Warn,
        spec::LogLevel::Info => config::LogLevel::Info,
        spec::LogLevel::Debug => config::LogLevel::Debug,
    }
}

pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const CLIENT_SECRET: &str = "client-secret";
const TLS_CERTIFICATES: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";
/// The schema's minimum, in seconds.
const SHORTEST_SESSION: u32 = 60;

#[cfg(test)]
mod tests;
