//! Faults to order: what the next answers shall get wrong.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

/// An order for a fault, as posted to `/_emulator/faults`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// Where; every endpoint when absent.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Only for requests with this `grant_type`.
    #[serde(default)]
    pub grant_type: Option<String>,
    /// What goes wrong.
    pub fault: Fault,
    /// For how many requests; until cleared when absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u32,
}

impl FaultOrder {
    /// A fault of one endpoint, until cleared.
    pub fn new(endpoint: Endpoint, fault: Fault) -> Self {
        Self {
            endpoint: Some(endpoint),
            grant_type: None,
            fault,
            times: None,
            skip: 0,
        }
    }

    /// Ends the fault after this many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Lets this many requests pass first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Only for requests with this `grant_type`.
    #[must_use]
    pub fn grant_type(self, grant_type: &str) -> Self {
        Self {
            grant_type: Some(grant_type.to_owned()),
            ..self
        }
    }

    fn matches(&self, endpoint: Endpoint, grant_type: Option<&str>) -> bool {
        self.endpoint.is_none_or(|wanted| wanted == endpoint)
            && self
                .grant_type
                .as_deref()
                .is_none_or(|wanted| grant_type == Some(wanted))
    }
}

/// The endpoints that faults and counters tell apart.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/v2/oauth2/authorize`
    Authorize,
    /// `/v2/api/identities/{id}/consents`
    Consents,
    /// `/.well-known/openid-configuration`
    Discovery,
    /// `/v2/groups/my_groups`
    Groups,
    /// `/v2/api/identities`
    Identities,
    /// `/v2/oauth2/token/introspect`
    Introspect,
    /// `/jwk.json`
    Jwks,
    /// `/v2/web/login`
    Login,
    /// `/v2/web/logout`
    Logout,
    /// Any other path.
    Other,
    /// `/v2/oauth2/token/revoke`
    Revoke,
    /// `/v2/oauth2/token`
    Token,
    /// `/v2/oauth2/userinfo`
    Userinfo,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/jwk.json" => Self::Jwks,
            "/v2/oauth2/authorize" => Self::Authorize,
            "/v2/web/login" => Self::Login,
            "/v2/web/logout" => Self::Logout,
            "/v2/oauth2/token" => Self::Token,
            "/v2/oauth2/token/introspect" => Self::Introspect,
            "/v2/oauth2/token/revoke" => Self::Revoke,
            "/v2/oauth2/userinfo" => Self::Userinfo,
            "/v2/groups/my_groups" => Self::Groups,
            path if path.starts_with("/v2/api/identities") => {
                if path.ends_with("/consents") {
                    Self::Consents
                } else {
                    Self::Identities
                }
            }
            _ => Self::Other,
        }
    }

    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Consents => "consents",
            Self::Discovery => "discovery",
            Self::Groups => "groups",
            Self::Identities => "identities",
            Self::Introspect => "introspect",
            Self::Jwks => "jwks",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Other => "other",
            Self::Revoke => "revoke",
            Self::Token => "token",
            Self::Userinfo => "userinfo",
        }
    }
}

/// What goes wrong. A fault that has no meaning at an endpoint does nothing there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The ID token is signed with HS256 and the public key as its secret.
    AlgHs256,
    /// The ID token says `alg: none` and has no signature.
    AlgNone,
    /// The ID token's signature is of something else.
    BadSignature,
    /// The ID token ended an hour ago.
    ExpiredIdToken,
    /// 200 and a JSON string of this many bytes.
    HugeBody {
        /// The length of the body.
        bytes: u64,
    },
    /// Introspection says `{"active": false}`.
    Inactive,
    /// Any grant is refused as 401 `invalid_grant`.
    InvalidGrant,
    /// 200, and HTML where JSON is expected.
    Malformed,
    /// The ID token has no nonce.
    MissingNonce,
    /// An OAuth error; at the authorization endpoint it goes to the redirect URI.
    OauthError {
        /// The code.
        error: String,
        /// The description.
        #[serde(default)]
        error_description: Option<String>,
        /// Default: 400.
        #[serde(default)]
        status: Option<u16>,
    },
    /// The token answer has no `id_token`.
    OmitIdToken,
    /// The token answer has no `refresh_token`.
    OmitRefreshToken,
    /// A connection reset instead of an answer.
    Reset {
        /// Whether the request is carried out first.
        #[serde(default)]
        when: When,
    },
    /// No policy is satisfied any more: neither at login nor at introspection.
    SessionPolicyNotMet,
    /// The answer comes late.
    Slow {
        /// How late.
        delay_ms: u64,
        /// Whether the request is carried out before the delay.
        #[serde(default)]
        when: When,
    },
    /// An HTTP status with a Globus error body.
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
        /// Whether the request is carried out first.
        #[serde(default)]
        when: When,
    },
    /// The ID token is for another client.
    WrongAudience,
    /// The ID token, or the discovery document, is by another issuer.
    WrongIssuer,
    /// The ID token has another nonce.
    WrongNonce,
    /// Userinfo is about somebody else.
    WrongSubject,
}

/// When a fault of the transport strikes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After the request was carried out: codes and tokens are used up, and the answer is lost.
    After,
    /// Before the request is looked at.
    #[default]
    Before,
}

/// The orders that are not used up.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FaultOrder>);

impl Faults {
    pub(crate) fn order(&mut self, order: FaultOrder) {
        // The bound holds a test that forgets to clear; the oldest orders are dropped.
        if self.0.len() >= ORDERS_MAX {
            self.0.remove(0);
        }
        self.0.push(order);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn orders(&self) -> &[FaultOrder] {
        &self.0
    }

    /// The fault of one request: of the oldest matching order, which is used up by it.
    pub(crate) fn take(&mut self, endpoint: Endpoint, grant_type: Option<&str>) -> Option<Fault> {
        let order = self
            .0
            .iter_mut()
            .find(|order| order.matches(endpoint, grant_type))?;
        if order.skip > 0 {
            order.skip -= 1;
            return None;
        }
        let fault = order.fault.clone();
        order.times = order.times.map(|times| times.saturating_sub(1));
        self.0.retain(|order| order.times != Some(0));
        Some(fault)
    }
}

/// The fault of the request at hand, for handlers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveFault(pub(crate) Option<Fault>);

impl ActiveFault {
    pub(crate) fn is(&self, fault: &Fault) -> bool {
        self.0.as_ref() == Some(fault)
    }
}

impl<S: Sync> FromRequestParts<S> for ActiveFault {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

const ORDERS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_used_up_by_matching_requests_only() {
        let mut faults = Faults::default();
        let order = FaultOrder::new(Endpoint::Token, Fault::InvalidGrant);
        faults.order(order.grant_type("refresh_token").times(2).after(1));
        let mut take = |endpoint, grant_type| faults.take(endpoint, grant_type).is_some();
        assert!(!take(Endpoint::Token, Some("authorization_code")));
        assert!(!take(Endpoint::Userinfo, None));
        let refreshes = [(); 4].map(|()| take(Endpoint::Token, Some("refresh_token")));
        assert_eq!(refreshes, [false, true, true, false]);
        assert_eq!(faults.orders(), []);
    }

    #[test]
    fn orders_are_read_from_json_strictly() {
        let read = |text| serde_json::from_str::<FaultOrder>(text).map_err(|e| e.to_string());
        let order = r#"{"endpoint": "token", "times": 1,
                        "fault": {"kind": "status", "status": 503, "retry_after_seconds": 2}}"#;
        let fault = Fault::Status {
            status: 503,
            retry_after_seconds: Some(2),
            when: When::Before,
        };
        assert_eq!(
            read(order),
            Ok(FaultOrder::new(Endpoint::Token, fault).times(1))
        );
        for (text, part) in [
            (r#"{"fault": {"kind": "slow"}}"#, "missing field `delay_ms`"),
            (
                r#"{"fault": {"kind": "slow", "delay_ms": 1, "ms": 2}}"#,
                "unknown field `ms`",
            ),
            (
                r#"{"fault": {"kind": "nonsense"}}"#,
                "unknown variant `nonsense`",
            ),
            (
                r#"{"fault": {"kind": "inactive"}, "time": 1}"#,
                "unknown field `time`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_names_in_json_and_in_counters_agree() {
        for path in [
            "/jwk.json",
            "/v2/oauth2/token",
            "/v2/api/identities/x/consents",
            "/x",
        ] {
            let endpoint = Endpoint::of(path);
            assert_eq!(serde_json::to_value(endpoint).unwrap(), endpoint.name());
        }
    }
}
