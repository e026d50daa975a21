//! Services of issuers at which users do not log in: each is connected once, by a browser that goes there and comes
//! back, or by a code that the user enters there.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::oauth::claims::Claims;
use globus_auth_core::random;
use globus_auth_core::vault_api::{
    ConnectAnswer, ConnectRequest, ConnectedRequest, PendingConnection,
};
use globus_auth_core::vault_config::{self, UserGrant};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::revocations::forget;
use super::{Vault, VaultError};
use crate::answer::{Problem, TokenResponse, TokenSet};
use crate::authorize::{self, Secrets, expose};
use crate::bulkhead::Permit;
use crate::caller::Caller;
use crate::device::{LONGEST, SLOW_DOWN};
use crate::endpoint::{Exchange, TokenRequest, resource_indicator};
use crate::grant::{Digest, Grant, Owner, digest};
use crate::issuer::Issuer;
use crate::progress::Moment;
use crate::refresher::own_set;
use crate::store::audit::Entry;
use crate::store::flows::Flow;

/// What it takes to end a flow; sealed in its row.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Sealed {
    /// Until the browser comes back.
    Browser {
        redirect_uri: String,
        secrets: Secrets,
    },
    /// Until the user has entered the code.
    Device(Codes),
}

/// What an issuer gave for another browser. Only written sealed.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Codes {
    #[serde(serialize_with = "expose")]
    device_code: SecretString,
    #[serde(serialize_with = "expose")]
    user_code: SecretString,
    verification_uri: String,
    verification_uri_complete: Option<String>,
}

impl Vault {
    /// Begins to connect a service. Only the session that begins it can end it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn connect(
        &self,
        caller: &Caller,
        request: &ConnectRequest,
    ) -> Result<ConnectAnswer, VaultError> {
        let session = self.session(caller, &request.handle, "connect").await?;
        let now = self.refresher.now();
        // Programs that come with a bearer token connect nothing: nobody would see for what they ask.
        let login = self.store().session(&session.login, now).await?;
        let resource = request.resource_server.as_str();
        let is_allowed = self
            .config
            .allows(&caller.namespace, &caller.service_account, resource);
        if login.is_none() || !is_allowed {
            self.refuse(caller, "connect", Some(&session.user)).await;
            return Err(VaultError::Forbidden);
        }
        let (config, issuer) = self.named(&request.issuer)?;
        let owner = Owner {
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            resource: resource.to_owned(),
        };
        let begun = match config.user_grant {
            UserGrant::AuthorizationCode => authorization(config, issuer, request).await?,
            UserGrant::DeviceCode => device(config, issuer, request).await?,
        };
        let digest = digest(begun.name.expose_secret().as_bytes());
        let flow = Flow {
            sealed: self.seal(&digest, &owner, &begun.sealed)?,
            digest,
            login: session.login,
            owner,
            scopes: request.scopes.clone(),
            ends_at: now.saturating_add(begun.lifetime),
            poll_at: begun.interval.map(|interval| now.saturating_add(interval)),
            poll_interval: begun.interval.unwrap_or_default(),
            is_refused: false,
        };
        self.store().begin_flow(&flow).await?;
        let user = Some(&session.user);
        self.note(caller, "begin to connect", user, Some(resource), "ok")
            .await?;
        Ok(begun.answer)
    }

    /// Redeems the code that a browser brought back, and keeps what comes.
    ///
    /// # Errors
    /// [`VaultError`]. A state is good once.
    pub async fn connected(
        &self,
        caller: &Caller,
        request: &ConnectedRequest,
    ) -> Result<(), VaultError> {
        let session = self.session(caller, &request.handle, "connect").await?;
        let now = self.refresher.now();
        let state = digest(request.state.expose_secret().as_bytes());
        let flow = self.store().take_flow(&state, now).await?;
        let (config, issuer) = self.named(&request.issuer)?;
        let is_theirs = |flow: &Flow| {
            flow.login == session.login
                && flow.owner.issuer == issuer.issuer
                && flow.owner.client_id == issuer.client_id
        };
        let Some(flow) = flow.filter(is_theirs) else {
            self.refuse(caller, "connect", Some(&session.user)).await;
            return Err(VaultError::Forbidden);
        };
        let metadata = issuer.endpoint.discover().await;
        let metadata = metadata.ok_or(VaultError::Unavailable("the issuer does not answer"))?;
        let is_from_issuer = match &request.response_issuer {
            Some(named) => *named == issuer.issuer,
            None => !metadata.response_has_issuer,
        };
        let Sealed::Browser {
            redirect_uri,
            secrets,
        } = self.open_flow(&flow)?
        else {
            return Err(VaultError::Forbidden);
        };
        if !is_from_issuer {
            // RFC 9207 §2.4: it may be the code of another issuer.
            self.refuse(caller, "connect", Some(&session.user)).await;
            return Err(VaultError::Forbidden);
        }
        let code = TokenRequest::AuthorizationCode {
            code: &request.code,
            code_verifier: &secrets.code_verifier,
            redirect_uri: &redirect_uri,
            resource: resource_indicator(&issuer.issuer, &flow.owner.resource),
        };
        let response = match issuer.ask_anyway(code, now).await {
            Exchange::Answered(Ok(response)) => response,
            Exchange::Answered(Err(Problem::Grant)) => return Err(VaultError::Forbidden),
            Exchange::Answered(Err(_)) | Exchange::NotSent | Exchange::Unanswered => {
                return Err(VaultError::Unavailable("the issuer did not give tokens"));
            }
        };
        let account = self.account(config, &secrets.nonce, &response, now).await;
        let account = match account {
            Ok(account) => account,
            Err(error) => {
                forget(issuer, &response).await;
                return Err(error);
            }
        };
        let resource = flow.owner.resource.clone();
        self.arrived(issuer, flow, response, account, now).await?;
        let user = Some(&session.user);
        self.note(caller, "connect", user, Some(&resource), "ok")
            .await
    }

    /// As whom the user connected it, if the issuer says so.
    async fn account(
        &self,
        issuer: &vault_config::Issuer,
        nonce: &SecretString,
        response: &TokenResponse,
        now: Moment,
    ) -> Result<Option<String>, VaultError> {
        let Some(id_token) = &response.id_token else {
            return Ok(None);
        };
        let client = (issuer.issuer.as_str(), issuer.client_id.as_str());
        let claims = self.claims(client, nonce, id_token, now).await?;
        Ok(account(&claims))
    }

    /// What the login that `login` names has begun, and waits for a code to be entered.
    pub(super) async fn pending(
        &self,
        login: &Digest,
        now: Moment,
    ) -> Result<Vec<PendingConnection>, VaultError> {
        let flows = self.store().flows_of(login, now).await?;
        let mut pending = Vec::new();
        for flow in flows {
            let Ok(Sealed::Device(codes)) = self.open_flow(&flow) else {
                continue;
            };
            pending.push(PendingConnection {
                user_code: codes.user_code.expose_secret().to_owned(),
                verification_uri: codes.verification_uri,
                verification_uri_complete: codes.verification_uri_complete,
                ends_at: flow.ends_at.as_secs(),
                is_refused: flow.is_refused,
                resource_server: flow.owner.resource,
            });
        }
        Ok(pending)
    }

    /// Asks issuers whether users have entered their codes, as often as the issuers allow.
    pub async fn poll_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.refresher.now();
            match self.store().flows_to_poll(now, AT_ONCE).await {
                Ok(flows) => {
                    let polls = flows.into_iter().map(|flow| self.poll(flow, now));
                    futures_util::future::join_all(polls).await;
                }
                Err(error) => tracing::warn!(%error, "failed to look for codes that users enter"),
            }
        }
    }

    async fn poll(&self, flow: Flow, now: Moment) {
        let grant = flow.owner.resource.clone();
        if let Err(error) = self.ask_about(flow, now).await {
            tracing::warn!(resource = grant, %error, "failed to ask about a code that a user enters");
        }
    }

    /// Asks once (RFC 8628 §3.4), if no other replica does.
    async fn ask_about(&self, mut flow: Flow, now: Moment) -> Result<(), VaultError> {
        let next = now.saturating_add(flow.poll_interval);
        if !self.store().poll_flow(&flow, Some(next)).await? {
            return Ok(());
        }
        flow.poll_at = Some(next);
        let issuer = self
            .refresher
            .issuer(&flow.owner.issuer, &flow.owner.client_id)
            .ok_or(VaultError::Invalid("no such issuer and client"))?;
        let Sealed::Device(codes) = self.open_flow(&flow)? else {
            return Err(VaultError::Forbidden);
        };
        if let Permit::NotBefore(_) = issuer.permit(now) {
            return Ok(());
        }
        let request = TokenRequest::DeviceCode {
            device_code: &codes.device_code,
            resource: resource_indicator(&issuer.issuer, &flow.owner.resource),
        };
        match issuer.ask_anyway(request, now).await {
            Exchange::Answered(Ok(response)) => {
                // The user may have signed out meanwhile, or begun anew: then it is not wanted any more.
                if let Some(flow) = self.store().take_flow(&flow.digest, now).await? {
                    self.connected_device(issuer, flow, response, now).await?;
                } else {
                    forget(issuer, &response).await;
                }
                Ok(())
            }
            Exchange::Answered(Err(Problem::Throttled { .. })) => {
                flow.poll_interval = flow.poll_interval.saturating_add(SLOW_DOWN);
                let next = now.saturating_add(flow.poll_interval);
                self.store().poll_flow(&flow, Some(next)).await?;
                Ok(())
            }
            Exchange::Answered(Err(problem)) if is_final(&problem) => {
                flow.is_refused = true;
                self.store().poll_flow(&flow, None).await?;
                Ok(())
            }
            Exchange::Answered(Err(_)) | Exchange::NotSent | Exchange::Unanswered => Ok(()),
        }
    }

    async fn connected_device(
        &self,
        issuer: &Issuer,
        flow: Flow,
        response: TokenResponse,
        now: Moment,
    ) -> Result<(), VaultError> {
        let whose = (
            Some(flow.owner.user.subject.clone()),
            Some(flow.owner.resource.clone()),
        );
        self.arrived(issuer, flow, response, None, now).await?;
        let entry = Entry::of_vault(now, "connect", whose, "ok");
        Ok(self.store().append(&entry).await?)
    }

    /// Keeps what came. The user has let the workload use what they saw when they began; more than that, they are
    /// asked about.
    async fn arrived(
        &self,
        issuer: &Issuer,
        flow: Flow,
        response: TokenResponse,
        account: Option<String>,
        now: Moment,
    ) -> Result<(), VaultError> {
        let Flow {
            login,
            owner,
            scopes,
            ..
        } = flow;
        let set = own_set(response.sets, &owner.resource);
        let set = set.ok_or(VaultError::Unavailable(
            "the issuer gave no token for the service",
        ))?;
        let set = TokenSet {
            // What is not said is what was asked for (RFC 6749 §5.1).
            scopes: Some(set.scopes.unwrap_or_else(|| scopes.clone())),
            ..set
        };
        let change = |grant: &mut Grant| {
            grant.consented.clone_from(&scopes);
            grant.account.clone_from(&account);
        };
        let grant = self.replace(issuer, &owner, &set, now, change).await?;
        // The user may have signed out while the issuer was asked.
        if self.store().session(&login, now).await?.is_none() {
            self.take_back((owner.tenant, None), grant).await?;
            return Err(VaultError::Forbidden);
        }
        Ok(())
    }

    /// The issuer that the configuration calls `name`.
    fn named(&self, name: &str) -> Result<(&vault_config::Issuer, &Issuer), VaultError> {
        let mut configured = self.config.issuers.iter();
        let config = configured.find(|one| one.name == name);
        config
            .and_then(|config| {
                let issuer = self
                    .refresher
                    .issuer(config.issuer.as_str(), &config.client_id)?;
                Some((config, issuer))
            })
            .ok_or(VaultError::Invalid("no issuer of this name"))
    }

    fn seal(&self, digest: &Digest, owner: &Owner, sealed: &Sealed) -> Result<Vec<u8>, VaultError> {
        let unavailable = VaultError::Unavailable("a flow could not be encrypted");
        let Ok(json) = serde_json::to_vec(sealed).map(Zeroizing::new) else {
            return Err(unavailable);
        };
        let sealed = self.refresher.secrets().seal_flow((digest, owner), &json);
        sealed.map_err(|_seal| unavailable)
    }

    fn open_flow(&self, flow: &Flow) -> Result<Sealed, VaultError> {
        let opened = self.refresher.secrets().open_flow(flow).map_err(|error| {
            tracing::error!(%error, "a flow does not open");
            VaultError::Unavailable("a flow does not open; begin anew")
        })?;
        serde_json::from_slice(&opened)
            .map_err(|_quotes_values| VaultError::Unavailable("a flow does not open; begin anew"))
    }
}

/// A flow that begins.
struct Begun {
    /// The state, or a name that nobody is told.
    name: SecretString,
    sealed: Sealed,
    lifetime: Duration,
    interval: Option<Duration>,
    answer: ConnectAnswer,
}

async fn authorization(
    config: &vault_config::Issuer,
    issuer: &Issuer,
    request: &ConnectRequest,
) -> Result<Begun, VaultError> {
    let metadata = issuer.endpoint.discover().await;
    let metadata = metadata.ok_or(VaultError::Unavailable("the issuer does not answer"))?;
    let secrets = Secrets {
        code_verifier: secret()?,
        nonce: secret()?,
    };
    let state = secret()?;
    let wanted = authorize::Request {
        client_id: &issuer.client_id,
        kind: config.kind,
        redirect_uri: &request.redirect_uri,
        scopes: &request.scopes,
        resource: resource_indicator(&issuer.issuer, &request.resource_server),
        state: &state,
    };
    let address = authorize::address(&metadata, &wanted, &secrets);
    Ok(Begun {
        name: state,
        sealed: Sealed::Browser {
            redirect_uri: request.redirect_uri.clone(),
            secrets,
        },
        lifetime: LONGEST,
        interval: None,
        answer: ConnectAnswer::Go {
            address: address.into(),
        },
    })
}

async fn device(
    config: &vault_config::Issuer,
    issuer: &Issuer,
    request: &ConnectRequest,
) -> Result<Begun, VaultError> {
    let unavailable = || VaultError::Unavailable("the issuer gave no code");
    let metadata = issuer.endpoint.discover().await.ok_or_else(unavailable)?;
    let scopes = authorize::scopes(&metadata, config.kind, &request.scopes);
    let resource = resource_indicator(&issuer.issuer, &request.resource_server);
    let codes = issuer.endpoint.authorize_device(&scopes, resource).await;
    let codes = codes.ok_or_else(unavailable)?;
    Ok(Begun {
        name: secret()?,
        sealed: Sealed::Device(Codes {
            device_code: codes.device_code,
            user_code: codes.user_code,
            verification_uri: codes.verification_uri.into(),
            verification_uri_complete: codes.verification_uri_complete.map(String::from),
        }),
        lifetime: codes.lifetime,
        interval: Some(codes.interval),
        answer: ConnectAnswer::EnterCode,
    })
}

/// Whether the user must begin anew (RFC 8628 §3.5).
const fn is_final(problem: &Problem) -> bool {
    match problem {
        Problem::Client
        | Problem::Denied
        | Problem::Grant
        | Problem::GrantType
        | Problem::Interaction { .. }
        | Problem::Scope
        | Problem::Unclassified => true,
        Problem::Pending | Problem::Throttled { .. } | Problem::Transient | Problem::Unclear => {
            false
        }
    }
}

/// What the user is called there, as people would say it.
fn account(claims: &Claims) -> Option<String> {
    let said = ["preferred_username", "email", "sub"].into_iter();
    let mut said = said.filter_map(|name| claims.text(name));
    said.next()
        .map(|name| name.chars().take(MAX_ACCOUNT).collect())
}

fn secret() -> Result<SecretString, VaultError> {
    let bytes =
        random::bytes::<32>().map_err(|_unavailable| VaultError::Unavailable("no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// How often it is looked whether an issuer is to be asked.
const POLL: Duration = Duration::from_secs(1);
/// So many issuers' answers are waited for at a time.
const AT_ONCE: u32 = 32;
const MAX_ACCOUNT: usize = 254;
