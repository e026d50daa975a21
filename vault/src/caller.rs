//! Which pod asks, as its ServiceAccount token says.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::telemetry::Chain;
use http::{HeaderMap, Request, header};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::grant::{Digest, digest};

/// A pod.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Its uid.
    pub pod: String,
}

impl Caller {
    /// For whom the vault keeps what this pod's users consent to.
    pub fn tenant(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}

/// Why nobody knows who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotACaller {
    /// No token of a pod for this vault.
    #[error("no token of a pod for this vault")]
    Unauthenticated,
    /// The API server does not answer.
    #[error("the API server does not review tokens now")]
    Unavailable,
}

/// Asks the API server about tokens (`authentication.k8s.io/v1`), and remembers for a moment what it said.
pub struct Reviewer {
    http: HttpClient,
    /// `https://kubernetes.default.svc`.
    api_server: String,
    /// Where our own token is, which the kubelet rotates.
    own_token: std::path::PathBuf,
    audience: String,
    known: Cache<Digest, (Arc<Caller>, Instant)>,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer")
            .field("api_server", &self.api_server)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Reviews tokens for `audience`.
    pub fn new(
        http: HttpClient,
        api_server: String,
        own_token: std::path::PathBuf,
        audience: String,
    ) -> Self {
        Self {
            http,
            api_server,
            own_token,
            audience,
            known: Cache::new(MAX_KNOWN),
        }
    }

    /// The pod whose token `headers` have.
    ///
    /// # Errors
    /// [`NotACaller`].
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, NotACaller> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .filter(|token| !token.is_empty())
            .ok_or(NotACaller::Unauthenticated)?;
        let name = digest(token.as_bytes());
        if let Some((caller, at)) = self.known.get(&name)
            && at.elapsed() < REMEMBERED
        {
            return Ok(caller);
        }
        let caller = Arc::new(self.review(token).await?);
        self.known
            .insert(name, (Arc::clone(&caller), Instant::now()));
        Ok(caller)
    }

    async fn review(&self, token: &str) -> Result<Caller, NotACaller> {
        let unavailable = |error: &(dyn std::error::Error + 'static)| {
            tracing::error!(error = %Chain(error), "failed to have a token reviewed");
            NotACaller::Unavailable
        };
        let own = tokio::fs::read_to_string(&self.own_token)
            .await
            .map_err(|error| unavailable(&error))?;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [&self.audience]},
        });
        let request = Request::post(format!("{}{REVIEWS}", self.api_server))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", own.trim()))
            .body(review.to_string().into_bytes())
            .map_err(|error| unavailable(&error))?;
        let response = self
            .http
            .send(request)
            .await
            .map_err(|error| unavailable(&error))?;
        if !response.status().is_success() {
            tracing::error!(status = %response.status(), "the API server does not review tokens for us");
            return Err(NotACaller::Unavailable);
        }
        read(response.body(), &self.audience).ok_or(NotACaller::Unauthenticated)
    }
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    audiences: Vec<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    username: String,
    #[serde(default)]
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// The pod that a review names. A token that is bound to no pod names none.
fn read(review: &[u8], audience: &str) -> Option<Caller> {
    let Status {
        authenticated,
        audiences,
        user,
    } = serde_json::from_slice::<Review>(review).ok()?.status;
    if !authenticated || !audiences.iter().any(|one| one == audience) {
        return None;
    }
    let user = user?;
    let account = user.username.strip_prefix("system:serviceaccount:")?;
    let (namespace, service_account) = account.split_once(':')?;
    let pod = user.extra.get(POD_UID)?.first()?;
    Some(Caller {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: pod.clone(),
    })
}

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// For so long, a pod that was deleted is believed to be there.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Two for each pod of a large cluster.
const MAX_KNOWN: usize = 16_384;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn review() -> Value {
        json!({"status": {"authenticated": true, "audiences": ["vault"], "user": {
            "username": "system:serviceaccount:ml:app", "extra": {POD_UID: ["p-1"]}}}})
    }

    #[test]
    fn a_review_names_a_pod() {
        let caller = read(review().to_string().as_bytes(), "vault").unwrap();
        assert_eq!(caller.tenant(), "ml/app");
        assert_eq!(caller.pod, "p-1");
    }

    #[rstest]
    #[case::not_authenticated("/status/authenticated", json!(false))]
    #[case::another_audience("/status/audiences", json!(["other"]))]
    #[case::no_audience("/status/audiences", json!([]))]
    #[case::a_person("/status/user/username", json!("ml:app"))]
    #[case::no_pod("/status/user/extra", json!({}))]
    #[case::nobody("/status/user", Value::Null)]
    fn any_other_review_names_none(#[case] pointer: &str, #[case] value: Value) {
        let mut review = review();
        *review.pointer_mut(pointer).unwrap() = value;
        assert_eq!(read(review.to_string().as_bytes(), "vault"), None);
    }
}
