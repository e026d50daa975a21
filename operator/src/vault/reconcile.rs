//! One reconciliation of one vault, from the top, whatever caused it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::vault_config::VaultConfig;
use globus_auth_core::vault_status::VaultStatus;
use globus_auth_crds::TokenVault;
use globus_auth_crds::conditions::reasons;
use globus_auth_crds::vault::DeletionPolicy;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource, ResourceExt};

use super::keyring::Held;
use super::observe::{Observed, nudge, observe};
use super::rotation::{self, Step};
use super::secrets::{self, CERTIFICATE, MakeError};
use super::status::{self, Availability, Outcome};
use super::validate::{self, keyring_lost};
use super::{apply, build, keyring, names};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::proxy::validate::Problem;
use crate::settings::SidecarSettings;

/// What every reconciliation needs.
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// What is counted.
    pub metrics: Metrics,
    /// What new pods get.
    pub settings: SidecarSettings,
    /// The time, for certificates.
    pub clock: Arc<dyn Clock>,
    /// Where events go.
    pub events: Events,
    /// Asks pods of vaults how they are.
    pub http: HttpClient,
}

/// Brings the cluster to what `vault` says, and says in its status what came of it.
///
/// # Errors
/// [`ReconcileError`] if the API server does not do its part; it is tried again.
pub async fn reconcile(
    vault: Arc<TokenVault>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let namespace = vault.namespace().unwrap_or_default();
    if vault.metadata.deletion_timestamp.is_some() {
        return finish(&context, &vault, &namespace).await;
    }
    if !apply::is_held(&vault) {
        // The write causes another reconciliation, with the newer object.
        apply::set_finalizer(&context.client, &vault, true)
            .await
            .map_err(ReconcileError::Apply)?;
        return Ok(Action::await_change());
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let mut problems = Vec::new();
    let ring = keyring(&context, &vault, &secrets, &mut problems).await?;
    let observed = observe(
        &context.client,
        &context.http,
        &namespace,
        &vault.name_any(),
    )
    .await
    .map_err(ReconcileError::Observe)?;
    let again = rotate(&context, &vault, ring.as_ref(), &observed).await?;
    let certificate = certificate(&context, &vault, &secrets).await?;
    problems.extend(validate::check_restored_at(&vault, context.clock.now()));
    let named = named(&vault, &secrets).await?;
    let config = match validate::validate(&vault, &named) {
        Ok(config) => Some(config),
        Err(more) => {
            problems.extend(more);
            None
        }
    };
    let availability = match &config {
        // Without its key the vault must not start: it would say that the database is of another key.
        Some(config) if problems.is_empty() => applied(&context, &vault, config).await?,
        Some(_) | None => Availability::Unavailable,
    };
    let outcome = Outcome {
        generation: vault.metadata.generation,
        problems: &problems,
        url: format!("https://{}", names::host(&namespace, &vault.name_any())),
        certificate,
        config: config.as_ref(),
        availability,
        keys: ring
            .as_ref()
            .map(|held| held.ring.ids())
            .unwrap_or_default(),
        replicas: &observed.replicas,
    };
    publish(&context, &vault, &outcome).await?;
    Ok(Action::requeue(if problems.is_empty() {
        again
    } else {
        SOON
    }))
}

/// Writes the status, and says what is new in it.
async fn publish(
    context: &Context,
    vault: &TokenVault,
    outcome: &Outcome<'_>,
) -> Result<(), ReconcileError> {
    let status = status::compute(vault.status.as_ref(), outcome, Timestamp::now());
    apply::status(&context.client, vault, &status)
        .await
        .map_err(ReconcileError::Apply)?;
    let before = vault.status.as_ref().map(|status| &*status.conditions);
    let object = vault.object_ref(&());
    for condition in status::news(before.unwrap_or_default(), &status.conditions) {
        context.events.condition(&object, condition).await;
    }
    Ok(())
}

async fn applied(
    context: &Context,
    vault: &TokenVault,
    config: &VaultConfig,
) -> Result<Availability, ReconcileError> {
    let resources =
        build::build(vault, config, &context.settings).map_err(ReconcileError::Build)?;
    let namespace = vault.namespace().unwrap_or_default();
    apply::apply(&context.client, &namespace, &resources)
        .await
        .map_err(ReconcileError::Apply)
}

/// Does what the policy says, and lets the resource go. An issuer that does not answer keeps it for a while, and not for
/// ever.
async fn finish(
    context: &Context,
    vault: &TokenVault,
    namespace: &str,
) -> Result<Action, ReconcileError> {
    if !apply::is_held(vault) {
        return Ok(Action::await_change());
    }
    let client = &context.client;
    let name = vault.name_any();
    let policy = vault.spec.deletion_policy;
    if policy == DeletionPolicy::Revoke && is_revoking(context, vault, namespace).await? {
        return Ok(Action::requeue(SOON));
    }
    apply::let_keyring(client, vault, policy != DeletionPolicy::Retain)
        .await
        .map_err(ReconcileError::Apply)?;
    apply::remove_reviewer(client, namespace, &name)
        .await
        .map_err(ReconcileError::Apply)?;
    apply::set_finalizer(client, vault, false)
        .await
        .map_err(ReconcileError::Apply)?;
    Ok(Action::await_change())
}

/// Lets the vault take back everything at the issuers. Whether there is something left to wait for.
async fn is_revoking(
    context: &Context,
    vault: &TokenVault,
    namespace: &str,
) -> Result<bool, ReconcileError> {
    let name = vault.name_any();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let named = named(vault, &secrets).await?;
    let keyring = get(&secrets, &names::keyring(&name)).await?;
    let config = validate::validate(vault, &named);
    let (Ok(config), Some(_), false) = (config, keyring, is_overdue(vault, &*context.clock)) else {
        let object = vault.object_ref(&());
        tracing::warn!(
            object.name = name,
            object.namespace = namespace,
            "a vault goes before it has taken back everything"
        );
        context
            .events
            .warning(&object, reasons::NOT_REVOKED, NOT_REVOKED)
            .await;
        return Ok(false);
    };
    // It reads the configuration, which says so, when it starts anew.
    applied(context, vault, &config).await?;
    let observed = observe(&context.client, &context.http, namespace, &name)
        .await
        .map_err(ReconcileError::Observe)?;
    let has_answered = !observed.pods.is_empty() && observed.replicas.len() == observed.pods.len();
    Ok(!(has_answered && observed.replicas.iter().all(VaultStatus::is_closed)))
}

fn is_overdue(vault: &TokenVault, clock: &dyn Clock) -> bool {
    let Some(Time(deleted_at)) = &vault.metadata.deletion_timestamp else {
        return false;
    };
    let deleted_at = u64::try_from(deleted_at.as_second()).unwrap_or_default();
    clock.now().since(UnixSeconds(deleted_at)) >= REVOKE_WITHIN
}

/// The key is made once. One that was there and is gone is not replaced: the tokens would be lost for good.
async fn keyring(
    context: &Context,
    vault: &TokenVault,
    secrets: &Api<Secret>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Held>, ReconcileError> {
    let name = names::keyring(&vault.name_any());
    if let Some(secret) = get(secrets, &name).await? {
        return Ok(match keyring::read(secret) {
            Ok(held) => Some(held),
            Err(problem) => {
                problems.push(problem);
                None
            }
        });
    }
    if vault.status.is_some() {
        problems.push(keyring_lost(&name));
        return Ok(None);
    }
    // The policy may change: what becomes of the key is decided when the vault goes.
    let secret = secrets::keyring(build::kept(vault, name)).map_err(ReconcileError::Make)?;
    let namespace = vault.namespace().unwrap_or_default();
    apply::create(&context.client, &namespace, &secret)
        .await
        .map_err(ReconcileError::Apply)?;
    Ok(None)
}

/// Takes the next step of a change of the key, if there is one. When to look again.
async fn rotate(
    context: &Context,
    vault: &TokenVault,
    held: Option<&Held>,
    observed: &Observed,
) -> Result<Duration, ReconcileError> {
    let Some(Held {
        secret,
        ring,
        changed,
    }) = held
    else {
        return Ok(SOON);
    };
    let now = now(&*context.clock);
    let wanted = usize::try_from(vault.spec.replicas).unwrap_or_default();
    let step = rotation::next(
        ring,
        *changed,
        &observed.replicas,
        observed.pods.len().max(wanted),
        &vault.spec.encryption,
        now,
    );
    let Some(newer) = keyring::after(&step, ring).map_err(ReconcileError::Make)? else {
        return Ok(if step == Step::Wait { SOON } else { RESYNC });
    };
    let namespace = vault.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let written = keyring::write(&secrets, secret, &newer, now)
        .await
        .map_err(ReconcileError::Apply)?;
    tracing::info!(
        object.name = vault.name_any(),
        object.namespace = namespace,
        ?step,
        "changed the key ring of a vault"
    );
    let version = written.resource_version().unwrap_or_default();
    nudge(&context.client, &namespace, &observed.pods, &version).await;
    Ok(SOON)
}

fn now(clock: &dyn Clock) -> Timestamp {
    let seconds = i64::try_from(clock.now().0).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

async fn certificate(
    context: &Context,
    vault: &TokenVault,
    secrets: &Api<Secret>,
) -> Result<Option<String>, ReconcileError> {
    let name = names::certificate(&vault.name_any());
    let namespace = vault.namespace().unwrap_or_default();
    let present = if let Some(present) = get(secrets, &name).await? {
        present
    } else {
        let metadata = build::owned(vault, name);
        let host = names::host(&namespace, &vault.name_any());
        let secret = secrets::certificate(metadata, &host, context.clock.now())
            .map_err(ReconcileError::Make)?;
        apply::create(&context.client, &namespace, &secret)
            .await
            .map_err(ReconcileError::Apply)?;
        secret
    };
    let data = present.data.unwrap_or_default();
    let certificate = data.get(CERTIFICATE);
    Ok(certificate.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()))
}

async fn named(
    vault: &TokenVault,
    secrets: &Api<Secret>,
) -> Result<BTreeMap<String, Secret>, ReconcileError> {
    let mut named = BTreeMap::new();
    for issuer in &vault.spec.issuers {
        let name = &issuer.client_secret_ref.name;
        if let Some(secret) = get(secrets, name).await? {
            named.insert(name.clone(), secret);
        }
    }
    Ok(named)
}

async fn get(secrets: &Api<Secret>, name: &str) -> Result<Option<Secret>, ReconcileError> {
    secrets.get_opt(name).await.map_err(ReconcileError::Fetch)
}

const RESYNC: Duration = Duration::from_mins(1);
const NOT_REVOKED: &str = "not every token could be taken back at its issuer within five minutes, or the vault could \
    not run; what is left ends by itself, or its users take it back there";
/// So long a deletion waits for issuers.
const REVOKE_WITHIN: Duration = Duration::from_mins(5);
const SOON: Duration = Duration::from_secs(5);

/// Why a reconciliation is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// An object was not taken.
    #[error("failed to apply an object of the vault")]
    Apply(#[source] kube::Error),
    /// An object cannot be written.
    #[error("failed to build an object; a bug")]
    Build(#[source] serde_json::Error),
    /// A Secret cannot be read.
    #[error("failed to read a Secret")]
    Fetch(#[source] kube::Error),
    /// The pods of the vault cannot be listed.
    #[error("failed to list the pods of the vault")]
    Observe(#[source] kube::Error),
    /// A key or a certificate cannot be made.
    #[error("failed to make what only the operator can make")]
    Make(#[source] MakeError),
}
