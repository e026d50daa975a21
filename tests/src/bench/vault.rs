//! Reads of tokens from a vault as one sidecar makes them: through HTTP and TLS, on kept connections.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::sidecar_config::{DeliveredToken, GrantType, LogLevel};
use globus_auth_core::vault_api::{
    SESSIONS, SessionRequest, SessionResponse, TOKENS, TokenAnswer, TokenRequest,
};
use http::header;
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::process;
use crate::harness::Stage;
use crate::harness::stage::{ALICE, OTHER_SCOPE, OTHER_SERVICE};
use crate::harness::vault::POD;

/// Asks for a token, again and again, and says how often the vault answers for each second of its processor
/// time.
///
/// # Errors
/// A program does not start, or does not answer.
pub async fn reads() -> anyhow::Result<String> {
    let token = DeliveredToken {
        name: "other".to_owned(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![OTHER_SCOPE.to_owned()],
        issuer: None,
        grant_type: GrantType::AuthorizationCode,
        header: Some("X-Token-Other".to_owned()),
        route: None,
        file: None,
        delegation: None,
    };
    let stage = Stage::setup()
        .vault(|_| vec![token])
        .vault_config(|config| config.log_level = LogLevel::Info)
        .start()
        .await;
    let vault = stage.vault();
    let scope = format!("openid email {OTHER_SCOPE}");
    let wanted = wanted(&stage, &scope).await?;
    let body: Arc<[u8]> = serde_json::to_vec(&wanted)?.into();
    let url = format!("{}{TOKENS}", vault.url());
    let used = || process::usage_of(vault.process()).map(|usage| usage.cpu);
    let (before, begin) = (used()?, Instant::now());
    let clients = (0..CONNECTIONS).map(|_| {
        let http = HttpClient::with_authorities(vault.authority());
        let (body, url) = (Arc::clone(&body), url.clone());
        tokio::spawn(async move {
            let http = http?;
            let mut asked = 0_u32;
            while begin.elapsed() < DURATION {
                let request = http::Request::post(&url)
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::AUTHORIZATION, format!("Bearer {}", POD.token()))
                    .body(body.to_vec())?;
                let response = http.send(request).await?;
                anyhow::ensure!(response.status().is_success(), "got {}", response.status());
                let answer = serde_json::from_slice(response.body())?;
                anyhow::ensure!(matches!(answer, TokenAnswer::Token(_)), "got no token");
                asked += 1;
            }
            anyhow::Ok(asked)
        })
    });
    let mut asked = 0;
    for client in clients.collect::<Vec<_>>() {
        asked += client.await??;
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let used = used()?.saturating_sub(before).as_secs_f64();
    Ok(format!(
        "token reads through HTTP and TLS, {CONNECTIONS} connections of one sidecar: {:.0} for each second of the \
         vault's processor time; {:.0}/s beside the load generator",
        f64::from(asked) / used,
        f64::from(asked) / elapsed
    ))
}

/// What a sidecar asks for a user who has just logged in.
async fn wanted(stage: &Stage, scope: &str) -> anyhow::Result<TokenRequest> {
    let vault = stage.vault();
    let session = vault.log_in(stage.globus(), POD, ALICE, scope).await;
    let session = session.map_err(|status| anyhow::anyhow!("the login got {status}"))?;
    vault.allow_all(POD, &session).await;
    let session = SessionRequest {
        session: session.into(),
    };
    let opened: Result<SessionResponse, _> = vault.ask(POD, SESSIONS, &session).await;
    let opened = opened.map_err(|(status, _)| anyhow::anyhow!("the session got {status}"))?;
    Ok(TokenRequest {
        handle: opened.handle.expose_secret().into(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![],
        rejected: None,
        subject_token: None,
    })
}

const CONNECTIONS: usize = 16;
const DURATION: Duration = Duration::from_secs(5);
