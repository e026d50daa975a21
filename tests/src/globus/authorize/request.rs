//! The authorization request: which are answered at the redirect URI, and which on a page.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::{Host, Url, form_urlencoded};

use crate::globus::Realm;
use crate::globus::catalog::OFFLINE_ACCESS;
use crate::globus::config::Client;
use crate::globus::failure::OAuthError;
use crate::globus::form::Params;
use crate::globus::scope::{self, ScopeTree};
use crate::globus::session::Requirements;

/// A request whose client and redirect URI are known to belong together.
#[derive(Debug)]
pub(crate) struct AuthorizationRequest {
    pub(crate) client: Client,
    pub(crate) scopes: Vec<ScopeTree>,
    pub(crate) offline: bool,
    pub(super) prompt: Option<Prompt>,
    pub(super) requirements: Requirements,
    /// The S256 challenge (RFC 7636 §4.2).
    pub(super) challenge: Option<String>,
    pub(super) nonce: Option<String>,
    pub(crate) login_hint: Option<String>,
    pub(crate) message: Option<String>,
    pub(super) back: Back,
    /// The request itself, for the pages to carry.
    pub(crate) query: String,
}

/// `prompt`, as far as it is obeyed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Prompt {
    Consent,
    Login,
    None,
}

/// Where the answer goes.
#[derive(Clone, Debug)]
pub(super) struct Back {
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
}

/// Why there is no authorization request.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Without a redirect URI to trust, only the user can be told.
    Page(&'static str),
    /// The client is told.
    Redirect(Box<(Back, OAuthError)>),
}

impl AuthorizationRequest {
    pub(super) fn read(realm: &Realm, params: &Params) -> Result<Self, Refusal> {
        if params.duplicate().is_some() {
            return Err(Refusal::Page("A parameter was sent twice."));
        }
        let client = params
            .get("client_id")
            .and_then(|id| realm.catalog().client(id));
        let client = client.ok_or(Refusal::Page("Unknown client."))?;
        let redirect_uri = params
            .get("redirect_uri")
            .ok_or(Refusal::Page("Missing redirect URI."))?;
        if !may_redirect(realm, client, redirect_uri) {
            return Err(Refusal::Page("Mismatching redirect URI."));
        }
        let text = |name: &str| params.get(name).map(str::to_owned);
        let back = Back {
            redirect_uri: redirect_uri.to_owned(),
            state: text("state"),
        };
        let tell = |error| Refusal::Redirect(Box::new((back.clone(), error)));
        check_response_type(params).map_err(tell)?;
        let (scopes, offline_scope) = read_scopes(realm, params).map_err(tell)?;
        let challenge = read_challenge(client, params).map_err(tell)?;
        let prompt = read_prompt(params).map_err(tell)?;
        Ok(Self {
            client: client.clone(),
            scopes,
            offline: offline_scope || params.get("access_type") == Some("offline"),
            prompt,
            requirements: Requirements {
                identities: params.list("session_required_identities"),
                single_domain: params.list("session_required_single_domain"),
                policies: params.list("session_required_policies"),
                mfa: params.get("session_required_mfa").is_some_and(is_true),
            },
            challenge,
            nonce: text("nonce"),
            login_hint: text("login_hint"),
            message: text("session_message"),
            query: form_urlencoded::Serializer::new(String::new())
                .extend_pairs(params.pairs())
                .finish(),
            back,
        })
    }

    /// The scope strings that were asked for, without what they depend on.
    pub(super) fn scope_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for tree in &self.scopes {
            if !names.contains(&tree.scope) {
                names.push(tree.scope.clone());
            }
        }
        names
    }
}

impl Back {
    /// The redirect URI with a code.
    pub(super) fn with_code(&self, code: &str) -> String {
        self.with(&[("code", code)])
    }

    /// The redirect URI with an error.
    pub(super) fn with_error(&self, error: &OAuthError) -> String {
        let mut pairs = vec![("error", &*error.code)];
        pairs.extend(
            error
                .description
                .as_deref()
                .map(|text| ("error_description", text)),
        );
        self.with(&pairs)
    }

    fn with(&self, pairs: &[(&str, &str)]) -> String {
        let state = self.state.as_deref().map(|state| ("state", state));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs.iter().copied().chain(state))
            .finish();
        let separator = if self.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        format!("{}{separator}{query}", self.redirect_uri)
    }
}

/// Registered URIs are compared exactly. Native applications may use any loopback address, and the
/// page that shows the code.
fn may_redirect(realm: &Realm, client: &Client, redirect_uri: &str) -> bool {
    if client
        .redirect_uris
        .iter()
        .any(|registered| registered == redirect_uri)
    {
        return true;
    }
    let Ok(url) = Url::parse(redirect_uri) else {
        return false;
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let shows_code = [realm.issuer(), realm.browser_url()]
        .iter()
        .any(|base| redirect_uri == format!("{base}/v2/web/auth-code"));
    let plain = url.scheme() == "http" && url.fragment().is_none();
    client.client_secret.is_none() && ((loopback && plain) || shows_code)
}

fn check_response_type(params: &Params) -> Result<(), OAuthError> {
    match params.get("response_type") {
        Some("code") => Ok(()),
        Some(_) => Err(OAuthError::unsupported_response_type()),
        None => Err(OAuthError::invalid_request("Missing response_type.")),
    }
}

/// The scopes, and whether `offline_access` was among them.
fn read_scopes(realm: &Realm, params: &Params) -> Result<(Vec<ScopeTree>, bool), OAuthError> {
    let text = params.get("scope").unwrap_or_default();
    let mut trees =
        scope::parse(text).map_err(|error| OAuthError::invalid_scope(&error.to_string()))?;
    let asked = trees.len();
    trees.retain(|tree| tree.scope != OFFLINE_ACCESS);
    let offline = trees.len() < asked;
    if trees.is_empty() {
        return Err(OAuthError::invalid_scope("No scope was requested."));
    }
    match trees.iter().find_map(|tree| unknown(realm, tree)) {
        Some(scope) => Err(OAuthError::invalid_scope(&format!(
            "Unknown scope: {scope}"
        ))),
        None => Ok((trees, offline)),
    }
}

fn unknown<'a>(realm: &Realm, tree: &'a ScopeTree) -> Option<&'a str> {
    if realm.catalog().scope(&tree.scope).is_none() {
        return Some(&tree.scope);
    }
    tree.dependencies
        .iter()
        .find_map(|dependency| unknown(realm, dependency))
}

/// Only S256 is taken. A native application must send a challenge; others may.
fn read_challenge(client: &Client, params: &Params) -> Result<Option<String>, OAuthError> {
    let Some(challenge) = params.get("code_challenge") else {
        return match client.client_secret {
            Some(_) => Ok(None),
            None => Err(OAuthError::invalid_request(
                "A native client must use PKCE.",
            )),
        };
    };
    if params.get("code_challenge_method") != Some("S256") {
        return Err(OAuthError::invalid_request(
            "code_challenge_method must be S256.",
        ));
    }
    match URL_SAFE_NO_PAD.decode(challenge) {
        Ok(digest) if digest.len() == SHA256_BYTES => Ok(Some(challenge.to_owned())),
        _ => Err(OAuthError::invalid_request(
            "code_challenge is not a SHA-256 digest.",
        )),
    }
}

fn read_prompt(params: &Params) -> Result<Option<Prompt>, OAuthError> {
    match params.get("prompt") {
        None => Ok(None),
        Some("none") => Ok(Some(Prompt::None)),
        Some("login" | "select_account") => Ok(Some(Prompt::Login)),
        Some("consent") => Ok(Some(Prompt::Consent)),
        Some(_) => Err(OAuthError::invalid_request("prompt is not understood.")),
    }
}

fn is_true(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}

impl OAuthError {
    pub(super) fn access_denied() -> Self {
        Self::at_redirect("access_denied", "The user denied the request.")
    }

    pub(super) fn login_required() -> Self {
        Self::at_redirect("login_required", "The user must log in.")
    }

    pub(super) fn consent_required() -> Self {
        Self::at_redirect("consent_required", "The user must consent.")
    }

    fn unsupported_response_type() -> Self {
        Self::at_redirect("unsupported_response_type", "response_type must be code.")
    }

    /// The status is not used: the browser carries the error.
    fn at_redirect(code: &str, description: &str) -> Self {
        Self::ordered(
            StatusCode::BAD_REQUEST,
            code.to_owned(),
            Some(description.to_owned()),
        )
    }
}

const SHA256_BYTES: usize = 32;
