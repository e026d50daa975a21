//! One reconciliation of one proxy, from the top, whatever caused it.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::Clock;
use globus_auth_core::random;
use globus_auth_core::sidecar_config::Operator;
use globus_auth_core::url::ExternalUrl;
use globus_auth_crds::GlobusAuthProxy;
use globus_auth_crds::proxy::Mode;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;

use super::apply::{self, ApplyError};
use super::build::{Applied, Resources};
use super::fetch::{self, FetchError};
use super::keys::{self, Facts, KeyRing, Step};
use super::pods::PodFacts;
use super::status::{self, Availability, Outcome};
use super::validate::{self, Fetched, Problem, Validated};
use super::{build, names, standalone};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::settings::{OperatorAddress, SidecarSettings};

/// What every reconciliation needs.
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// The proxies, for the question which of several protects a pod.
    pub proxies: Store<GlobusAuthProxy>,
    /// Where events go.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// What new pods get.
    pub sidecar: SidecarSettings,
    /// Where sidecars find the operator.
    pub operator: OperatorAddress,
    /// The time, for the age of keys.
    pub clock: Arc<dyn Clock>,
    /// The certificate authorities that vouch for the operator, in PEM; empty until they are known.
    pub authorities: watch::Receiver<String>,
}

/// Brings the cluster to what `proxy` says, and says in its status what came of it.
///
/// # Errors
/// [`ReconcileError`] if the API server does not do its part; it is tried again. A proxy that cannot be
/// carried out is no error: its conditions say so, and the last good configuration stays in force.
pub async fn reconcile(
    proxy: Arc<GlobusAuthProxy>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if proxy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let authorities = context.authorities.borrow().clone();
    if authorities.is_empty() {
        return Ok(Action::requeue(SOON));
    }
    let fetched = Box::pin(fetch::references(&context.client, &proxy))
        .await
        .map_err(ReconcileError::Fetch)?;
    let pods = pods(&context, &proxy).await?;
    let own: Vec<PodFacts> = pods
        .iter()
        .filter(|pod| pod.protector.as_deref() == Some(&proxy.name_any()))
        .cloned()
        .collect();
    let carried_out = carry_out(&context, &proxy, &fetched, &own, authorities).await?;
    let told = match &carried_out.resources {
        Some(resources) => {
            let namespace = proxy.namespace().unwrap_or_default();
            apply::tell_pods(&context.client, &namespace, &own, resources).await
        }
        None => Ok(()),
    };
    // Somebody may forbid us to touch a pod. Its kubelet fetches the configuration all the same, within a
    // minute, and the status does not wait for it.
    report(&context, &proxy, &pods, &carried_out).await?;
    told.map_err(ReconcileError::Apply)?;
    Ok(Action::requeue(jittered(
        if carried_out.problems.is_empty() {
            RESYNC
        } else {
            SOON
        },
    )))
}

async fn pods(
    context: &Context,
    proxy: &Arc<GlobusAuthProxy>,
) -> Result<Vec<PodFacts>, ReconcileError> {
    let siblings = siblings(&context.proxies, proxy);
    let pods = fetch::pods(&context.client, proxy)
        .await
        .map_err(ReconcileError::Fetch)?;
    Ok(pods
        .iter()
        .filter_map(|pod| PodFacts::of(pod, &siblings))
        .collect())
}

/// The proxies of the namespace, also `proxy` as it is here: the store may have an older one, or none yet.
fn siblings(
    proxies: &Store<GlobusAuthProxy>,
    proxy: &Arc<GlobusAuthProxy>,
) -> Vec<Arc<GlobusAuthProxy>> {
    let mut siblings = proxies.state_filter(|other| other.namespace() == proxy.namespace());
    siblings.push(Arc::clone(proxy));
    siblings
}

/// What came of a proxy.
struct CarriedOut {
    problems: Vec<Problem>,
    /// What was applied, if anything could be.
    resources: Option<Resources<Applied>>,
    /// With mode Standalone.
    standalone: Option<Availability>,
}

async fn carry_out(
    context: &Context,
    proxy: &GlobusAuthProxy,
    fetched: &Fetched,
    pods: &[PodFacts],
    authorities: String,
) -> Result<CarriedOut, ReconcileError> {
    let (validated, problems) = match validate::validate(proxy, fetched) {
        Ok(validated) => (Some(validated), Vec::new()),
        // Whoever leaves the list must be out, also while the client's Secret is broken.
        Err(problems) => {
            let in_force = fetched.with_secrets_in_force(proxy);
            let validated =
                in_force.and_then(|(proxy, fetched)| validate::validate(&proxy, &fetched).ok());
            (validated, problems)
        }
    };
    let is_standalone = proxy.spec.mode == Mode::Standalone;
    let Some(validated) = validated else {
        return Ok(CarriedOut {
            problems,
            resources: None,
            standalone: is_standalone.then_some(Availability::Unknown),
        });
    };
    let keys = next_keys(context, proxy, fetched, pods, &validated)?;
    let operator = Operator {
        url: context.operator.url(),
        certificate_authorities: authorities,
    };
    let objects = validated
        .standalone
        .as_ref()
        .map(|standalone| standalone::build(proxy, standalone, &context.sidecar))
        .transpose()
        .map_err(ReconcileError::Build)?;
    let mut resources = build::build(proxy, validated, keys.ring.session_keys(), operator)
        .map_err(ReconcileError::Build)?;
    keys.ring
        .record(&mut resources.secret)
        .map_err(ReconcileError::Build)?;
    let applied = apply::apply(&context.client, proxy, fetched.rendered.as_ref(), resources)
        .await
        .map_err(ReconcileError::Apply)?;
    keys.tell(context, proxy).await;
    let standalone = match &objects {
        Some(objects) => {
            let namespace = proxy.namespace().unwrap_or_default();
            let deployment = apply::standalone(&context.client, &namespace, objects)
                .await
                .map_err(ReconcileError::Apply)?;
            Some(Availability::of(&deployment))
        }
        None => None,
    };
    Ok(CarriedOut {
        problems,
        resources: Some(applied),
        standalone,
    })
}

/// The keys of a proxy from now on, and what there is to say about them when they are in the cluster.
struct NextKeys {
    ring: KeyRing,
    steps: Vec<Step>,
    /// Whether there were keys, which are gone.
    are_lost: bool,
}

fn next_keys(
    context: &Context,
    proxy: &GlobusAuthProxy,
    fetched: &Fetched,
    pods: &[PodFacts],
    validated: &Validated,
) -> Result<NextKeys, ReconcileError> {
    let now = context.clock.now();
    let rendered = fetched.rendered.as_ref();
    let was_rendered = proxy
        .status
        .as_ref()
        .is_some_and(|status| status.config_hash.is_some());
    let (ring, are_lost) = match KeyRing::read(rendered, now) {
        Ok(ring) => {
            let are_lost = ring.is_empty() && was_rendered;
            (ring, are_lost)
        }
        Err(keys::Unreadable) => (KeyRing::default(), true),
    };
    let hash = rendered.and_then(keys::hash_of);
    let mut sidecars = pods
        .iter()
        .filter(|pod| pod.sidecar_image.is_some())
        .peekable();
    let facts = Facts {
        request: proxy
            .annotations()
            .get(keys::ROTATE_ANNOTATION)
            .map(String::as_str),
        is_everywhere: hash.is_some()
            && sidecars.peek().is_some()
            && sidecars.all(|pod| pod.config_in_force == hash),
        longest_session: Duration::from_secs(validated.session.absolute_timeout_seconds.into()),
    };
    let (ring, steps) =
        keys::rotate(ring, &facts, now, keys::generate).map_err(ReconcileError::Key)?;
    Ok(NextKeys {
        ring,
        steps,
        are_lost,
    })
}

impl NextKeys {
    async fn tell(&self, context: &Context, proxy: &GlobusAuthProxy) {
        let object = proxy.object_ref(&());
        if self.are_lost {
            let message = format!(
                "the session keys in Secret {:?} were gone or could not be read, so new ones were made; every \
                 user must log in again",
                names::secret(&proxy.name_any())
            );
            tracing::warn!(
                object.name = proxy.name_any(),
                object.namespace = proxy.namespace(),
                "{message}"
            );
            context
                .events
                .warning(&object, "SessionKeysLost", &message)
                .await;
        }
        for step in &self.steps {
            let Some((reason, message)) = step.event() else {
                continue;
            };
            if *step == Step::Postponed {
                context.events.warning(&object, reason, message).await;
            } else {
                context.events.normal(&object, reason, message).await;
            }
        }
    }
}

async fn report(
    context: &Context,
    proxy: &GlobusAuthProxy,
    pods: &[PodFacts],
    carried_out: &CarriedOut,
) -> Result<(), ReconcileError> {
    let resources = carried_out.resources.as_ref();
    let old = proxy.status.as_ref();
    let kept_hash = old.and_then(|status| status.config_hash.as_deref());
    let callback_url = proxy
        .spec
        .external_url
        .parse::<ExternalUrl>()
        .ok()
        .map(|url| url.join(CALLBACK_PATH));
    let outcome = Outcome {
        proxy: &proxy.name_any(),
        generation: proxy.metadata.generation,
        problems: &carried_out.problems,
        config_hash: resources.map_or(kept_hash, |resources| Some(&resources.config_hash)),
        callback_url: callback_url.as_deref(),
        pods,
        sidecar_image: &context.sidecar.image,
        standalone: carried_out.standalone,
        has_vault: proxy.spec.vault_ref.is_some(),
        exposure: proxy.spec.upstream.exposure,
    };
    let new = status::compute(old, &outcome, Timestamp::now());
    apply::status(&context.client, proxy, &new)
        .await
        .map_err(ReconcileError::Apply)?;
    let conditions = old
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    for condition in status::news(conditions, &new.conditions) {
        context
            .events
            .condition(&proxy.object_ref(&()), condition)
            .await;
    }
    Ok(())
}

/// Spread over a fifth, so that a thousand proxies do not come back at the same moment.
fn jittered(duration: Duration) -> Duration {
    let random = random::bytes::<1>().map_or(0, |[byte]| u32::from(byte));
    duration.saturating_add(duration / 5 * random / 255)
}

/// Secrets are not watched, because that takes the right to read all of them. A new client secret is
/// seen after this time, and one that was missing after [`SOON`].
const RESYNC: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_secs(3);
const CALLBACK_PATH: &str = "/oauth2/callback";

/// What the API server did not do.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It could not be written to.
    #[error("failed to apply")]
    Apply(#[source] ApplyError),
    /// The configuration could not be written.
    #[error("failed to build the configuration")]
    Build(#[source] serde_json::Error),
    /// It could not be read from.
    #[error("failed to fetch")]
    Fetch(#[source] FetchError),
    /// There was no randomness for a key.
    #[error("failed to make a session key")]
    Key(#[source] random::Unavailable),
}

impl ReconcileError {
    /// The metric label.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Build(_) => "build",
            Self::Fetch(_) => "fetch",
            Self::Key(_) => "key",
        }
    }
}

#[cfg(test)]
mod tests;
