//! Keeps the authorities in a Secret, the webhook's registration in step with them, and every replica's
//! certificate fresh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::{Clock, UnixSeconds};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::runtime::tls_server::ServedCertificate;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::crypto::CryptoProvider;
use serde_json::json;
use tokio::sync::watch;

use super::authority::{Authorities, Lifetimes, Step};
use super::leaf::{self, IssueError, Issued};
use crate::metrics::Metrics;

/// What rotation works on.
#[derive(Clone)]
pub struct Rotation {
    /// The cluster.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The Secret with the authorities.
    pub secret: String,
    /// The registration of the webhook.
    pub webhook_configuration: String,
    /// The names under which the operator is reached.
    pub names: Vec<String>,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Rotation {
    /// Leads: makes, announces, promotes and forgets authorities, and writes their certificates into the
    /// webhook's registration; never returns.
    pub async fn lead(self) {
        let mut interval = tokio::time::interval(self.interval());
        loop {
            interval.tick().await;
            if let Err(error) = self.lead_once().await {
                tracing::warn!(error = %Chain(&error), "failed to look after the certificates");
            }
        }
    }

    /// Follows: issues this replica's certificate whenever the authority changes or half its life is over,
    /// and tells `bundle` whom to trust; never returns.
    pub async fn follow(
        self,
        served: Arc<ServedCertificate>,
        bundle: watch::Sender<String>,
        provider: Arc<CryptoProvider>,
    ) {
        let mut interval = tokio::time::interval(self.interval());
        let mut issued: Option<Issued> = None;
        loop {
            interval.tick().await;
            let authorities = match self.stored().await {
                Ok(Some((authorities, _version))) => authorities,
                // The leader has not made them yet.
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "failed to read the certificate authorities");
                    continue;
                }
            };
            bundle.send_if_modified(|known| {
                let new = authorities.bundle();
                let changed = *known != new;
                *known = new;
                changed
            });
            let now = self.clock.now();
            let (authority, names) = (&authorities.current, &self.names);
            self.metrics.authority_ends(authority.not_after);
            if issued
                .as_ref()
                .is_some_and(|issued| issued.is_fresh(authority, now, &self.lifetimes))
            {
                continue;
            }
            match leaf::issue(authority, names, now, &self.lifetimes, &provider) {
                Ok(certificate) => {
                    served.set(certificate);
                    issued = Some(Issued::by(authority, now));
                    tracing::info!("issued a new certificate for this replica");
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "failed to issue a certificate");
                }
            }
        }
    }

    /// Whether everybody who calls the webhook trusts the current authority.
    ///
    /// # Errors
    /// [`RotationError`] if the registration cannot be read.
    pub async fn is_registered(&self, bundle: &str) -> Result<bool, RotationError> {
        Ok(self
            .registered_bundle()
            .await?
            .is_some_and(|registered| registered == bundle))
    }

    async fn lead_once(&self) -> Result<(), RotationError> {
        let now = self.clock.now();
        let authorities = match self.stored().await? {
            None => self.create(now).await?,
            Some((authorities, version)) => self.advance(authorities, version, now).await?,
        };
        self.register(&authorities.bundle()).await
    }

    async fn create(&self, now: UnixSeconds) -> Result<Authorities, RotationError> {
        let authorities =
            Authorities::create(now, &self.lifetimes).map_err(RotationError::Generate)?;
        let secret = self.secret_of(&authorities, None)?;
        self.secrets()
            .create(&PostParams::default(), &secret)
            .await
            .map_err(RotationError::Write)?;
        tracing::info!("made the first certificate authority");
        Ok(authorities)
    }

    /// Takes the step that is due. The next authority signs only after the registration has named it: the
    /// step before wrote the registration, or failed and is tried again first.
    async fn advance(
        &self,
        authorities: Authorities,
        version: Option<String>,
        now: UnixSeconds,
    ) -> Result<Authorities, RotationError> {
        let step = authorities.due(now, &self.lifetimes);
        if step == Step::Promote && !self.is_registered(&authorities.bundle()).await? {
            return Ok(authorities);
        }
        let changed = authorities
            .take(step, now, &self.lifetimes)
            .map_err(RotationError::Generate)?;
        let Some(changed) = changed else {
            return Ok(authorities);
        };
        let secret = self.secret_of(&changed, version)?;
        self.secrets()
            .replace(&self.secret, &PostParams::default(), &secret)
            .await
            .map_err(RotationError::Write)?;
        tracing::info!(?step, "changed the certificate authorities");
        Ok(changed)
    }

    /// Writes the certificates to trust into the webhook's registration, and nothing else there.
    async fn register(&self, bundle: &str) -> Result<(), RotationError> {
        if self.is_registered(bundle).await? {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "webhooks": [{
                "name": WEBHOOK,
                "clientConfig": {"caBundle": STANDARD.encode(bundle)},
                // Required members; the chart sets the same.
                "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun",
            }],
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.registrations()
            .patch(
                &self.webhook_configuration,
                &parameters,
                &Patch::Apply(&patch),
            )
            .await
            .map_err(RotationError::Register)?;
        tracing::info!("the API server trusts the certificate authorities");
        Ok(())
    }

    async fn registered_bundle(&self) -> Result<Option<String>, RotationError> {
        let registration = self
            .registrations()
            .get(&self.webhook_configuration)
            .await
            .map_err(RotationError::Register)?;
        let webhook = registration
            .webhooks
            .into_iter()
            .flatten()
            .find(|one| one.name == WEBHOOK);
        let bundle = webhook.and_then(|webhook| webhook.client_config.ca_bundle);
        Ok(bundle.and_then(|ByteString(bytes)| String::from_utf8(bytes).ok()))
    }

    async fn stored(&self) -> Result<Option<(Authorities, Option<String>)>, RotationError> {
        let Some(secret) = self
            .secrets()
            .get_opt(&self.secret)
            .await
            .map_err(RotationError::Read)?
        else {
            return Ok(None);
        };
        let data = secret.data.as_ref().and_then(|data| data.get(KEY));
        let json = data.map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let authorities = serde_json::from_slice(json).map_err(RotationError::Parse)?;
        Ok(Some((authorities, secret.metadata.resource_version)))
    }

    fn secret_of(
        &self,
        authorities: &Authorities,
        resource_version: Option<String>,
    ) -> Result<Secret, RotationError> {
        let json = serde_json::to_vec(authorities).map_err(RotationError::Parse)?;
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version,
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(json))])),
            ..Secret::default()
        })
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn registrations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    fn interval(&self) -> Duration {
        interval(&self.lifetimes)
    }
}

/// How often to look: often enough for short lifetimes, and rarely enough for long ones.
fn interval(lifetimes: &Lifetimes) -> Duration {
    (lifetimes.announcement / 4).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// The webhook's name in its registration.
const WEBHOOK: &str = "inject.globus-auth.dev";
const FIELD_MANAGER: &str = "globus-auth-certificates";
const KEY: &str = "authorities.json";
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// Why the certificates could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// No authority could be made.
    #[error("failed to make a certificate authority")]
    Generate(#[source] rcgen::Error),
    /// This replica's certificate.
    #[error("failed to issue a certificate")]
    Issue(#[source] IssueError),
    /// The Secret is not what we wrote.
    #[error("the Secret with the certificate authorities cannot be read; delete it to start anew")]
    Parse(#[source] serde_json::Error),
    /// The Secret could not be read.
    #[error("failed to read the Secret with the certificate authorities")]
    Read(#[source] kube::Error),
    /// The webhook's registration.
    #[error("failed to read or write the MutatingWebhookConfiguration")]
    Register(#[source] kube::Error),
    /// The Secret could not be written.
    #[error("failed to write the Secret with the certificate authorities")]
    Write(#[source] kube::Error),
}

#[cfg(test)]
mod tests;
