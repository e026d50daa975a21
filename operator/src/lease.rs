//! Leader election by a `Lease` that fences itself: a replica that cannot renew stops leading before
//! another one can start.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

/// Who wants to lead what.
#[derive(Clone, Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
}

/// A record of the lease as it was seen, and when we saw it change. The age of a record is measured by
/// our own clock since we saw it: clocks of two nodes may differ by any amount.
#[derive(Debug)]
struct Observed {
    lease: Lease,
    at: Instant,
}

impl Candidate {
    /// A candidate called `identity` for the lease `name`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Waits until this candidate leads.
    pub async fn elected(&self) {
        let mut observed: Option<Observed> = None;
        loop {
            match self.try_acquire(&mut observed).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "failed to ask for the lease"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews until that fails for so long that somebody else may lead soon. Returns then: the caller must
    /// stop leading at once.
    pub async fn deposed(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY).await;
            // The lease counts from when it was written, which is after we asked and before we know.
            let asked = Instant::now();
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.renew()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => {
                    tracing::error!("another replica holds the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "failed to renew the lease"),
                Err(_elapsed) => tracing::warn!("the API server does not answer about the lease"),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Gives the lease up, so that the next replica need not wait.
    pub async fn resign(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else {
            return;
        };
        if holder(&lease) == Some(&self.identity) {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            if let Err(error) = self
                .api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
            {
                tracing::debug!(%error, "failed to give up the lease");
            }
        }
    }

    async fn try_acquire(&self, observed: &mut Option<Observed>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            return won(self
                .api
                .create(&PostParams::default(), &self.lease(None))
                .await);
        };
        let is_known = observed.as_ref().is_some_and(|seen| seen.lease == lease);
        if !is_known {
            *observed = Some(Observed {
                lease: lease.clone(),
                at: Instant::now(),
            });
        }
        let is_expired = observed
            .as_ref()
            .is_some_and(|seen| seen.at.elapsed() >= DURATION);
        let is_free = holder(&lease).is_none_or(|holder| *holder == self.identity);
        if !is_free && !is_expired {
            return Ok(false);
        }
        won(self
            .api
            .replace(
                &self.name,
                &PostParams::default(),
                &self.lease(Some(&lease)),
            )
            .await)
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let lease = self.api.get(&self.name).await?;
        if holder(&lease) != Some(&self.identity) {
            return Ok(false);
        }
        won(self
            .api
            .replace(
                &self.name,
                &PostParams::default(),
                &self.lease(Some(&lease)),
            )
            .await)
    }

    /// The lease as we want it. The version of `present` makes the API server refuse it if somebody else
    /// was faster.
    fn lease(&self, present: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = present.and_then(|lease| lease.spec.as_ref());
        let is_ours = spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity);
        let transitions = spec
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default();
        let acquired = spec
            .and_then(|spec| spec.acquire_time.clone())
            .filter(|_| is_ours);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: present.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if is_ours {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .as_ref()
        .filter(|holder| !holder.is_empty())
}

/// Whether a write won, or somebody else's came first.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Another replica takes over when a record has not changed for this time.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this time stops: before [`DURATION`], so that two never lead.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
