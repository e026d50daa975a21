//! The token endpoint of an issuer, as the vault's client asks it (RFC 6749 §3.2).

use std::pin::Pin;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::introspection::ActiveToken;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::answer::{self, Problem, TokenResponse};

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
    },
    /// RFC 6749 §4.4.2.
    ClientCredentials {
        /// What is asked for.
        scopes: &'a [String],
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
    },
}

impl<'a> TokenRequest<'a> {
    /// The parameters of the body, without `scope`.
    pub(crate) fn parameters(self) -> Vec<(&'static str, &'a str)> {
        match self {
            Self::AuthorizationCode {
                code,
                code_verifier,
                redirect_uri,
            } => vec![
                ("grant_type", "authorization_code"),
                ("code", code.expose_secret()),
                ("code_verifier", code_verifier.expose_secret()),
                ("redirect_uri", redirect_uri),
            ],
            Self::ClientCredentials { .. } => vec![("grant_type", "client_credentials")],
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
        }
    }

    /// The parameter `scope`; empty, none.
    pub(crate) fn scopes(self) -> String {
        match self {
            Self::AuthorizationCode { .. } => String::new(),
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
    let is_uri = Url::parse(resource_server)
        .is_ok_and(|url| url.fragment().is_none() && matches!(url.scheme(), "http" | "https"));
    if is_uri { "resource" } else { "audience" }
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

    /// Takes a token back (RFC 7009 §2.1). Whether the issuer said that it did.
    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Asks what a token is (RFC 7662 §2.1), at `now`. Not every issuer tells.
    fn introspect<'a>(
        &'a self,
        _token: &'a SecretString,
        _now: UnixSeconds,
    ) -> Pin<Box<dyn Future<Output = Introspection> + Send + 'a>> {
        Box::pin(std::future::ready(Introspection::Unavailable))
    }
}

/// Of Globus; not RFC 8693.
const DEPENDENT_TOKEN_GRANT: &str = "urn:globus:auth:grant_type:dependent_token";
/// RFC 8693 §2.1.
const TOKEN_EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

#[cfg(test)]
mod tests {
    use super::*;

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
