//! A provider of OpenID Connect whose every word a test chooses.

use std::sync::Arc;

use globus_auth_core::sidecar_config::{ProviderKind, SidecarConfig};
use globus_auth_tests::harness::scripted::{self, Received, Scripted};
use globus_auth_tests::harness::sidecar::{CLIENT_ID, SESSION_COOKIE};
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::{Browser, Stage};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::signer::Signer;

/// An OpenID Connect provider at which everybody is Alice.
pub(crate) struct OpenId {
    scripted: Scripted,
    pub(crate) signer: Arc<Signer>,
    nonce: Arc<Mutex<String>>,
}

impl OpenId {
    pub(crate) async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// Starts one with further claims in its ID tokens.
    pub(crate) async fn start_with(claims: Value) -> Self {
        let signer = Arc::new(Signer::new());
        let nonce = Arc::new(Mutex::new(String::new()));
        let (keys, asked) = (Arc::clone(&signer), Arc::clone(&nonce));
        let scripted = Scripted::start(move |request: &Received, address| {
            let issuer = format!("http://{address}");
            match request.target() {
                "/.well-known/openid-configuration" => scripted::json(
                    200,
                    &json!({
                        "issuer": issuer,
                        "authorization_endpoint": format!("{issuer}/authorize"),
                        "token_endpoint": format!("{issuer}/token"),
                        "jwks_uri": format!("{issuer}/jwks"),
                        "end_session_endpoint": format!("{issuer}/logout"),
                    }),
                ),
                "/jwks" => scripted::json(200, &keys.key_set()),
                "/token" => {
                    let now = jsonwebtoken::get_current_timestamp();
                    let mut told = json!({
                        "iss": issuer, "aud": CLIENT_ID, "sub": "alice", "sid": "session-1",
                        "email": ALICE, "email_verified": true, "nonce": *asked.lock(),
                        "iat": now, "exp": now + 300,
                    });
                    let further = claims.as_object().unwrap().clone();
                    told.as_object_mut().unwrap().extend(further);
                    let id_token = keys.sign(&told);
                    scripted::json(
                        200,
                        &json!({"access_token": "a", "token_type": "Bearer", "id_token": id_token}),
                    )
                }
                _ => scripted::json(404, &json!({})),
            }
        })
        .await;
        Self {
            scripted,
            signer,
            nonce,
        }
    }

    pub(crate) fn issuer(&self) -> String {
        self.scripted.origin()
    }

    /// Makes it the provider of a sidecar.
    pub(crate) fn of(&self) -> impl FnOnce(&mut SidecarConfig) + Send + 'static {
        let issuer = self.scripted.origin();
        move |config| {
            config.provider.kind = ProviderKind::OIDC;
            config.provider.issuer = issuer.parse().unwrap();
            config.bearer.introspection = false;
        }
    }

    /// Logs in, in a new browser.
    pub(crate) async fn log_in(&self, stage: &Stage) -> Browser {
        let browser = stage.browser();
        let started = browser.open("/").send().await;
        *self.nonce.lock() = started.sent_on("nonce").unwrap();
        let state = started.sent_on("state").unwrap();
        let callback = browser
            .open(&format!("/oauth2/callback?code=c&state={state}"))
            .send()
            .await;
        assert!(
            callback.set_cookie(SESSION_COOKIE).is_some(),
            "{}",
            callback.text()
        );
        browser
    }
}
