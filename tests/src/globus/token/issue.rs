//! Issuing tokens: one for each resource server.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::globus::Realm;
use crate::globus::session::Session;
use crate::globus::store::{Grant, Principal};

/// What is to be issued, to whom.
#[derive(Clone, Debug)]
pub(crate) struct Issuance {
    pub(crate) client_id: String,
    pub(crate) principal: Principal,
    pub(crate) session: Option<Session>,
    pub(crate) scopes: Vec<String>,
    pub(crate) offline: bool,
    pub(crate) lifetime_seconds: u32,
    /// Whom tokens are minted for, beside their resource server.
    pub(crate) audience: Option<String>,
    /// Whether an earlier access token will do.
    pub(crate) reuse: bool,
}

/// One token, as sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IssuedToken {
    pub(crate) access_token: String,
    pub(crate) scope: String,
    pub(crate) expires_in: i64,
    pub(crate) token_type: &'static str,
    pub(crate) resource_server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
}

/// An answer for all grants but the dependent one: the first token, and the others within it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TokenAnswer {
    #[serde(flatten)]
    pub(crate) first: IssuedToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id_token: Option<String>,
    pub(crate) other_tokens: Vec<IssuedToken>,
}

impl Issuance {
    /// Issues a token for each resource server, Globus Auth's first.
    pub(crate) fn issue(&self, realm: &Realm) -> Vec<IssuedToken> {
        let groups = realm.catalog().by_resource_server(&self.scopes);
        groups
            .into_iter()
            .map(|(server, scopes)| self.issue_one(realm, server, scopes))
            .collect()
    }

    fn issue_one(&self, realm: &Realm, server: String, scopes: Vec<String>) -> IssuedToken {
        let grant = Grant {
            client_id: self.client_id.clone(),
            principal: self.principal.clone(),
            resource_server: server.clone(),
            scopes,
            session: self.session.clone(),
        };
        let scope = grant.scopes.join(" ");
        let now = realm.now();
        let lifetime = self.lifetime_seconds;
        let mut store = realm.store();
        let refresh_token = self
            .offline
            .then(|| store.add_refresh_token(grant.clone(), lifetime, now));
        let reusable = if self.reuse {
            store.reusable(&grant, now)
        } else {
            None
        };
        let earlier = reusable.map(|(value, token)| (value.clone(), token.expires_at - now));
        let (access_token, expires_in) = earlier.unwrap_or_else(|| {
            let audience = self.audience.clone();
            (
                store.add_access_token(grant, lifetime, audience, now),
                i64::from(lifetime),
            )
        });
        let token_type = "Bearer";
        IssuedToken {
            access_token,
            scope,
            expires_in,
            token_type,
            resource_server: server,
            refresh_token,
        }
    }
}

impl TokenAnswer {
    /// The answer with these tokens; `None` when there are none.
    pub(crate) fn of(tokens: Vec<IssuedToken>) -> Option<Self> {
        let mut tokens = tokens.into_iter();
        let first = tokens.next()?;
        Some(Self {
            first,
            state: None,
            id_token: None,
            other_tokens: tokens.collect(),
        })
    }

    /// All tokens.
    pub(crate) fn tokens_mut(&mut self) -> impl Iterator<Item = &mut IssuedToken> {
        std::iter::once(&mut self.first).chain(&mut self.other_tokens)
    }
}

impl IntoResponse for TokenAnswer {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
