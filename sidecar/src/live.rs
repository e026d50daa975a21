//! The configuration in force: what the operator wrote, ready for use by every request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::Clock;
use globus_auth_core::runtime::http_client::{BadTrust, HttpClient};
use globus_auth_core::sealer::{BadKeys, Context, Sealer};
use globus_auth_core::session::Limits;
use globus_auth_core::sidecar_config::{self as config, SidecarConfig};
use globus_auth_core::url::ExternalUrl;
use http::header::{HeaderValue, InvalidHeaderValue};

use crate::bearer::{BadCluster, BearerVerifier};
use crate::identity_headers::{BadIdentityHeaders, IdentityHeaders};
use crate::metrics::Metrics;
use crate::provider::Provider;
use crate::rules::Rules;
use crate::tls::{BadTls, Tls};
use crate::trace::Tracing;
use crate::vault::{BadVault, Vault};

/// Everything that a request needs of the configuration. Immutable: a new configuration is a new
/// value, and each request sees one of them from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Live {
    /// Of the text that this was read from, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) proxy: config::ProxyReference,
    pub(crate) external: ExternalUrl,
    /// Host and port of `external`, for the workload.
    pub(crate) host: HeaderValue,
    /// The scheme of `external`, for the workload.
    pub(crate) scheme: HeaderValue,
    pub(crate) rules: Rules,
    pub(crate) limits: Limits,
    pub(crate) sessions: Sealer,
    pub(crate) transactions: Sealer,
    pub(crate) step_ups: Sealer,
    pub(crate) provider: Arc<Provider>,
    /// Without it, nothing is kept of what logins return.
    pub(crate) vault: Option<Arc<Vault>>,
    pub(crate) bearer: Arc<BearerVerifier>,
    pub(crate) upstream: config::Upstream,
    pub(crate) identity_headers: Arc<IdentityHeaders>,
    pub(crate) operator: Operator,
    /// Without it, the listener speaks plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Without it, `traceparent` passes as any other header.
    pub(crate) tracing: Option<Arc<Tracing>>,
    pub(crate) log_level: config::LogLevel,
}

/// Where reports go.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) url: String,
    pub(crate) http: HttpClient,
}

impl Live {
    /// Makes `config` ready. What `previous` has learnt about a provider that stays is kept, so that an
    /// edit of the allowlist costs no discovery and forgets no token.
    ///
    /// # Errors
    /// [`BadLive`].
    pub(crate) fn new(
        config: SidecarConfig,
        hash: String,
        previous: Option<&Self>,
        tools: &Tools,
    ) -> Result<Self, BadLive> {
        let keys: Vec<_> = config
            .session_keys
            .iter()
            .map(|key| (key.id, key.key.bytes().clone()))
            .collect();
        // A cookie belongs to one proxy, one provider, one client there and what a login had to have:
        // change any of them, and everybody logs in again.
        let requirements = &config.provider.session_requirements;
        let requirements = (!requirements.is_empty()).then(|| requirements.to_error().to_string());
        let mut binding = vec![
            config.proxy.uid.as_str(),
            config.provider.issuer.as_str(),
            config.provider.client_id.as_str(),
        ];
        binding.extend(requirements.as_deref());
        let sealer = |purpose| {
            Sealer::new(
                &keys,
                Context {
                    purpose,
                    binding: &binding,
                },
            )
        };
        let vault = vault(&config, previous, tools).map_err(BadLive::Vault)?;
        let provider = provider(&config, vault.as_ref(), previous, tools);
        let bearer = bearer(&config, &provider, previous, tools).map_err(BadLive::Cluster)?;
        let tracing = tracing(&config, previous, tools);
        let delivered = config.vault.iter().flat_map(|vault| &vault.tokens);
        let delivered_headers = delivered.filter_map(|token| token.header.as_ref());
        Ok(Self {
            hash,
            rules: Rules::new(&config.access),
            limits: Limits {
                idle: Duration::from_secs(config.session.idle_timeout_seconds.into()),
                absolute: Duration::from_secs(config.session.absolute_timeout_seconds.into()),
            },
            sessions: sealer("session").map_err(BadLive::Keys)?,
            transactions: sealer("login").map_err(BadLive::Keys)?,
            step_ups: sealer("step-up").map_err(BadLive::Keys)?,
            operator: Operator {
                http: HttpClient::with_authorities(&config.operator.certificate_authorities)
                    .map_err(BadLive::Operator)?,
                url: config.operator.url,
            },
            proxy: config.proxy,
            host: shared(config.external_url.authority()).map_err(BadLive::ExternalUrl)?,
            scheme: shared(config.external_url.scheme()).map_err(BadLive::ExternalUrl)?,
            external: config.external_url,
            provider,
            vault,
            bearer,
            upstream: config.upstream,
            identity_headers: IdentityHeaders::new(&config.identity_headers, delivered_headers)
                .map(Arc::new)
                .map_err(BadLive::IdentityHeaders)?,
            tls: tls(config.tls.as_ref(), previous).map_err(BadLive::Tls)?,
            tracing,
            log_level: config.log_level,
        })
    }
}

/// A header value whose copies share its bytes.
fn shared(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let value = HeaderValue::from_str(text)?;
    // The first copy of bytes of its own makes them shared.
    drop(value.clone());
    Ok(value)
}

fn provider(
    config: &SidecarConfig,
    vault: Option<&Arc<Vault>>,
    previous: Option<&Live>,
    tools: &Tools,
) -> Arc<Provider> {
    let SidecarConfig {
        provider,
        external_url,
        ..
    } = config;
    let kept = previous
        .map(|live| &live.provider)
        .filter(|p| p.is(provider, external_url, vault));
    let new = || {
        Arc::new(Provider::new(
            provider.clone(),
            external_url,
            tools.http.clone(),
            vault.cloned(),
        ))
    };
    kept.map_or_else(new, Arc::clone)
}

/// The one of before stays if it is the same, with the tokens that it has.
fn vault(
    config: &SidecarConfig,
    previous: Option<&Live>,
    tools: &Tools,
) -> Result<Option<Arc<Vault>>, BadVault> {
    let Some(wanted) = &config.vault else {
        return Ok(None);
    };
    let kept = previous
        .and_then(|live| live.vault.as_ref())
        .filter(|vault| vault.is(wanted));
    if let Some(kept) = kept {
        return Ok(Some(Arc::clone(kept)));
    }
    let token = tools.vault_token.clone().ok_or(BadVault::NoIdentity)?;
    Ok(Some(Arc::new(Vault::new(wanted.clone(), token)?)))
}

/// The one of before stays if it is for the same certificate: clients may resume what they began with it.
fn tls(config: Option<&config::Tls>, previous: Option<&Live>) -> Result<Option<Arc<Tls>>, BadTls> {
    let Some(config) = config else {
        return Ok(None);
    };
    let kept = previous
        .and_then(|live| live.tls.as_ref())
        .filter(|tls| tls.is(config));
    let tls = match kept {
        Some(kept) => Arc::clone(kept),
        None => Arc::new(Tls::new(config)?),
    };
    Ok(Some(tls))
}

/// The one of before stays if it goes to the same place, with what it has not sent yet.
fn tracing(config: &SidecarConfig, previous: Option<&Live>, tools: &Tools) -> Option<Arc<Tracing>> {
    let wanted = config.tracing.as_ref()?;
    let kept = previous
        .and_then(|live| live.tracing.as_ref())
        .filter(|tracing| tracing.is(wanted));
    let new = || {
        let (http, metrics) = (tools.http.clone(), tools.metrics.clone());
        Arc::new(Tracing::start(wanted.clone(), &config.proxy, http, metrics))
    };
    Some(kept.map_or_else(new, Arc::clone))
}

fn bearer(
    config: &SidecarConfig,
    provider: &Arc<Provider>,
    previous: Option<&Live>,
    tools: &Tools,
) -> Result<Arc<BearerVerifier>, BadCluster> {
    let cluster = config.access.service_accounts.as_ref();
    let is_same =
        |old: &&Arc<BearerVerifier>| old.is(&config.bearer, cluster) && old.asks(provider);
    if let Some(kept) = previous.map(|live| &live.bearer).filter(is_same) {
        return Ok(Arc::clone(kept));
    }
    let provider = Arc::clone(provider);
    BearerVerifier::new(config.bearer.clone(), cluster, provider, tools).map(Arc::new)
}

/// What outlives a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: HttpClient,
    pub(crate) metrics: Metrics,
    /// The file with the projected ServiceAccount token for the vault.
    pub(crate) vault_token: Option<PathBuf>,
}

/// Why a configuration that could be read cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadLive {
    #[error("access.serviceAccounts cannot be used")]
    Cluster(#[source] BadCluster),
    #[error("identityHeaders cannot be used")]
    IdentityHeaders(#[source] BadIdentityHeaders),
    #[error("externalUrl cannot be a header value")]
    ExternalUrl(#[source] InvalidHeaderValue),
    #[error("sessionKeys cannot be used")]
    Keys(#[source] BadKeys),
    #[error("operator.certificateAuthorities cannot be used")]
    Operator(#[source] BadTrust),
    #[error("tls cannot be used")]
    Tls(#[source] BadTls),
    #[error("vault cannot be used")]
    Vault(#[source] BadVault),
}
