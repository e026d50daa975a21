//! The token endpoint of an issuer, as the vault's client asks it (RFC 6749 §3.2).

use std::pin::Pin;
use std::sync::Arc;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::introspection::ActiveToken;
use globus_auth_core::oauth::metadata::ProviderMetadata;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::answer::{self, Problem, TokenResponse};
use crate::device::DeviceAuthorization;

/// What is asked of a token endpoint.
#[derive(Clone, Copy, Debug)]
pub enum TokenRequest<'a> {
    /// RFC 6749 §4.1.3, RFC 7636 §4.5.
    AuthorizationCode {
        /// The code.
        code: &'a SecretString,
        /// The verifier of its challenge.
        code_verifier: &'a SecretString,
        /// As in the authorization request.
        redirect_uri: &'a str,
        /// As in the authorization request, if it was there (RFC 8707 §2.2).
        resource: Option<&'a str>,
    },
    /// RFC 6749 §4.4.2.
    ClientCredentials {
        /// What is asked for.
        scopes: &'a [String],
    },
    /// RFC 8628 §3.4.
    DeviceCode {
        /// The code.
        device_code: &'a SecretString,
        /// As in the device authorization request.
        resource: Option<&'a str>,
    },
    /// Globus: tokens for the services that the one depends on for which a token is.
    DependentTokens {
        /// The token, of our client.
        token: &'a SecretString,
        /// What is asked for.
        scopes: &'a [String],
    },
    /// RFC 8693 §2.1.
    TokenExchange {
        /// The user's token.
        subject_token: &'a SecretString,
        /// For whom the other one must be good.
        resource_server: &'a str,
        /// What is asked for; empty, what the issuer gives.
        scopes: &'a [String],
    },
    /// RFC 6749 §6.
    RefreshToken {
        /// The token.
        refresh_token: &'a SecretString,
        /// What is asked for; empty, what was granted before.
        scopes: &'a [String],
        /// As in the authorization request, if it was there (RFC 8707 §2.2).
        resource: Option<&'a str>,
    },
}

impl<'a> TokenRequest<'a> {
    /// The parameters of the body, without `scope`.
    pub(crate) fn parameters(self) -> Vec<(&'static str, &'a str)> {
        let resource = self.resource().map(|resource| ("resource", resource));
        let mut parameters = match self {
            Self::AuthorizationCode {
                code,
                code_verifier,
                redirect_uri,
                ..
            } => vec![
                ("grant_type", "authorization_code"),
                ("code", code.expose_secret()),
                ("code_verifier", code_verifier.expose_secret()),
                ("redirect_uri", redirect_uri),
            ],
            Self::ClientCredentials { .. } => vec![("grant_type", "client_credentials")],
            Self::DeviceCode { device_code, .. } => vec![
                ("grant_type", DEVICE_CODE_GRANT),
                ("device_code", device_code.expose_secret()),
            ],
            Self::DependentTokens { token, .. } => vec![
                ("grant_type", DEPENDENT_TOKEN_GRANT),
                ("token", token.expose_secret()),
            ],
            Self::TokenExchange {
                subject_token,
                resource_server,
                ..
            } => vec![
                ("grant_type", TOKEN_EXCHANGE_GRANT),
                ("subject_token", subject_token.expose_secret()),
                ("subject_token_type", answer::ACCESS_TOKEN_TYPE),
                ("requested_token_type", answer::ACCESS_TOKEN_TYPE),
                (target(resource_server), resource_server),
            ],
            Self::RefreshToken { refresh_token, .. } => vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token.expose_secret()),
            ],
        };
        parameters.extend(resource);
        parameters
    }

    const fn resource(self) -> Option<&'a str> {
        match self {
            Self::AuthorizationCode { resource, .. }
            | Self::DeviceCode { resource, .. }
            | Self::RefreshToken { resource, .. } => resource,
            Self::ClientCredentials { .. }
            | Self::DependentTokens { .. }
            | Self::TokenExchange { .. } => None,
        }
    }

    /// The parameter `scope`; empty, none.
    pub(crate) fn scopes(self) -> String {
        match self {
            Self::AuthorizationCode { .. } | Self::DeviceCode { .. } => String::new(),
            Self::ClientCredentials { scopes }
            | Self::DependentTokens { scopes, .. }
            | Self::RefreshToken { scopes, .. }
            | Self::TokenExchange { scopes, .. } => scopes.join(" "),
        }
    }
}

/// The parameter that names whom a token must be good for: `resource` is an absolute URI without fragment,
/// `audience` anything else (RFC 8693 §2.1).
fn target(resource_server: &str) -> &'static str {
    if is_resource(resource_server) {
        "resource"
    } else {
        "audience"
    }
}

/// The resource indicator (RFC 8707 §2) of a grant at `issuer` for `resource_server`, if it is one. A grant of which the
/// issuer did not say for whom it is, is called after the issuer, and has none.
pub fn resource_indicator<'a>(issuer: &str, resource_server: &'a str) -> Option<&'a str> {
    (resource_server != issuer && is_resource(resource_server)).then_some(resource_server)
}

fn is_resource(resource_server: &str) -> bool {
    Url::parse(resource_server)
        .is_ok_and(|url| url.fragment().is_none() && matches!(url.scheme(), "http" | "https"))
}

/// What became of a request.
#[derive(Debug)]
pub enum Exchange {
    /// The issuer answered.
    Answered(Result<TokenResponse, Problem>),
    /// It never left: the issuer did nothing with it.
    NotSent,
    /// It left, and no answer came: the issuer may have done what it was asked.
    Unanswered,
}

/// What became of a wish to take a token back (RFC 7009 §2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// It is good for nothing any more.
    Yes,
    /// The issuer does not take tokens back, or not of this kind: it ends by itself.
    Never,
    /// Not now.
    NotNow,
}

/// What an issuer says of a token (RFC 7662 §2.2).
#[derive(Debug)]
pub enum Introspection {
    /// It is good, and for our client.
    Active(ActiveToken),
    /// It is not.
    Refused,
    /// The issuer did not answer.
    Unavailable,
}

/// Where tokens come from. In tests of the engine, a simulation.
pub trait TokenEndpoint: Send + Sync {
    /// Asks once. Nothing is tried again here: a refresh token may be good for one try only.
    fn ask<'a>(
        &'a self,
        request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>>;

    /// Finds out what a request needs to know of the issuer, so that the next one goes straight to it. Whether it could
    /// be had.
    fn prepare<'a>(&'a self) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(true))
    }

    /// Takes a token back (RFC 7009 §2.1). Whether the issuer said that it did.
    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>>;

    /// Asks what a token is (RFC 7662 §2.1), at `now`. Not every issuer tells.
    fn introspect<'a>(
        &'a self,
        _token: &'a SecretString,
        _now: UnixSeconds,
    ) -> Pin<Box<dyn Future<Output = Introspection> + Send + 'a>> {
        Box::pin(std::future::ready(Introspection::Unavailable))
    }

    /// What the issuer says of itself, if it can be had.
    fn discover<'a>(
        &'a self,
    ) -> Pin<Box<dyn Future<Output = Option<Arc<ProviderMetadata>>> + Send + 'a>> {
        Box::pin(std::future::ready(None))
    }

    /// Asks for codes with which a user lets us have tokens in another browser (RFC 8628 §3.1); why there are none is in
    /// the log.
    fn authorize_device<'a>(
        &'a self,
        _scopes: &'a [String],
        _resource: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Option<DeviceAuthorization>> + Send + 'a>> {
        Box::pin(std::future::ready(None))
    }
}

/// RFC 8628 §3.4.
const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Of Globus; not RFC 8693.
const DEPENDENT_TOKEN_GRANT: &str = "urn:globus:auth:grant_type:dependent_token";
/// RFC 8693 §2.1.
const TOKEN_EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_is_a_url_is_named_in_every_request() {
        let indicator = |resource| resource_indicator("https://as.test", resource);
        assert_eq!(indicator("https://mcp.test/a"), Some("https://mcp.test/a"));
        for none in [
            "https://as.test",
            "transfer.api.globus.org",
            "https://mcp.test/#a",
        ] {
            assert_eq!(indicator(none), None, "{none}");
        }
        let (secret, resource) = (SecretString::from("x"), Some("https://mcp.test/a"));
        let requests = [
            TokenRequest::AuthorizationCode {
                code: &secret,
                code_verifier: &secret,
                redirect_uri: "https://app.test/",
                resource,
            },
            TokenRequest::DeviceCode {
                device_code: &secret,
                resource,
            },
            TokenRequest::RefreshToken {
                refresh_token: &secret,
                scopes: &[],
                resource,
            },
        ];
        for request in requests {
            let named = request.parameters();
            assert!(
                named.contains(&("resource", "https://mcp.test/a")),
                "{request:?}"
            );
        }
    }

    #[test]
    fn an_exchange_names_resources_and_audiences_apart() {
        let pairs = [
            ("https://api.example.org/v1", "resource"),
            ("https://api.example.org/#a", "audience"),
            ("transfer.api.globus.org", "audience"),
            ("urn:x:y", "audience"),
        ];
        for (name, parameter) in pairs {
            assert_eq!(target(name), parameter, "{name}");
        }
    }
}
