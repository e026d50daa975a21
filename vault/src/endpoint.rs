//! The token endpoint of an issuer, as the vault's client asks it (RFC 6749 §3.2).

use std::pin::Pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::introspection::{self, ActiveToken, NotActive};
use globus_auth_core::oauth::metadata::{ClientAuthentication, ProviderMetadata};
use globus_auth_core::runtime::http_client::{HttpClient, SendError};
use globus_auth_core::runtime::key_source::{self, FetchError, MAX_AGE};
use globus_auth_core::runtime::refreshed::Refreshed;
use globus_auth_core::url::Issuer;
use http::{Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

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
    fn parameters(self) -> Vec<(&'static str, &'a str)> {
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
    fn scopes(self) -> String {
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

/// Our client at an issuer.
#[derive(Debug)]
pub struct Client {
    issuer: Issuer,
    id: String,
    secret: SecretString,
    http: HttpClient,
    metadata: Refreshed<Metadata, FetchError>,
}

/// What the discovery document says.
#[derive(Debug)]
struct Metadata {
    provider: ProviderMetadata,
}

impl Client {
    /// Our client at `issuer`. Nothing is asked yet.
    pub fn new(
        issuer: Issuer,
        client_id: String,
        client_secret: SecretString,
        http: HttpClient,
    ) -> Self {
        Self {
            issuer,
            id: client_id,
            secret: client_secret,
            http,
            metadata: Refreshed::default(),
        }
    }

    async fn metadata(&self) -> Result<std::sync::Arc<Metadata>, std::sync::Arc<FetchError>> {
        let fetch = async || {
            let document = key_source::get(&self.http, &self.issuer.discovery_url()).await?;
            let provider = ProviderMetadata::parse(&document, &self.issuer)
                .map_err(FetchError::BadMetadata)?;
            Ok(Metadata { provider })
        };
        self.metadata.get(MAX_AGE, fetch).await
    }

    /// A request with our credentials: in the header, or, for issuers that take nothing else, in the body.
    fn request(
        &self,
        endpoint: &Url,
        authentication: ClientAuthentication,
        parameters: &[(&str, &str)],
    ) -> Result<Request<Vec<u8>>, http::Error> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        let secret = self.secret.expose_secret();
        let mut request = Request::post(endpoint.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        match authentication {
            ClientAuthentication::Basic => {
                let mut value = header::HeaderValue::try_from(basic(&self.id, secret))?;
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
            }
            ClientAuthentication::Post => {
                form.append_pair("client_id", &self.id);
                form.append_pair("client_secret", secret);
            }
        }
        request.body(form.finish().into_bytes())
    }

    async fn exchange(&self, request: TokenRequest<'_>) -> Exchange {
        let metadata = match self.metadata().await {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(
                    issuer = self.issuer.as_str(),
                    error = %globus_auth_core::runtime::telemetry::Chain(&*error),
                    "failed to discover an issuer"
                );
                return Exchange::NotSent;
            }
        };
        let provider = &metadata.provider;
        let scopes = request.scopes();
        let mut parameters = request.parameters();
        if !scopes.is_empty() {
            parameters.push(("scope", &scopes));
        }
        let Ok(request) = self.request(
            &provider.token_endpoint,
            provider.client_authentication,
            &parameters,
        ) else {
            return Exchange::NotSent;
        };
        match self.http.send(request).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let body = Zeroizing::new(body);
                let retry_after = parts.headers.get(header::RETRY_AFTER);
                Exchange::Answered(answer::read(
                    parts.status.as_u16(),
                    retry_after.and_then(|value| value.to_str().ok()),
                    &body,
                ))
            }
            Err(error) if never_left(&error) => Exchange::NotSent,
            Err(_no_answer) => Exchange::Unanswered,
        }
    }

    /// Issuers that do not advertise where tokens are taken back have it beside the token endpoint, as
    /// Globus does.
    async fn take_back(&self, token: &SecretString) -> bool {
        let Ok(metadata) = self.metadata().await else {
            return false;
        };
        let Some(endpoint) = &metadata.provider.revocation_endpoint else {
            return false;
        };
        let request = self.request(
            endpoint,
            metadata.provider.client_authentication,
            &[("token", token.expose_secret())],
        );
        let Ok(request) = request else {
            return false;
        };
        let answered = self.http.send(request).await;
        answered.is_ok_and(|response| response.status().is_success())
    }
}

impl Client {
    /// Issuers that do not advertise where have it below the token endpoint, as Globus does.
    async fn ask_about(&self, token: &SecretString, now: UnixSeconds) -> Introspection {
        let Ok(metadata) = self.metadata().await else {
            return Introspection::Unavailable;
        };
        let provider = &metadata.provider;
        let unadvertised = || introspection::globus_endpoint(&provider.token_endpoint);
        let endpoint = provider.introspection_endpoint.clone();
        let request = self.request(
            &endpoint.unwrap_or_else(unadvertised),
            provider.client_authentication,
            &[("token", token.expose_secret())],
        );
        let Ok(request) = request else {
            return Introspection::Unavailable;
        };
        let Ok(response) = self.http.send(request).await else {
            return Introspection::Unavailable;
        };
        match response.status() {
            StatusCode::OK => {}
            // Globus says so to a client that the token is not for.
            StatusCode::UNAUTHORIZED => return Introspection::Refused,
            status => {
                let (issuer, status) = (self.issuer.as_str(), status.as_u16());
                tracing::warn!(issuer, status, "an issuer does not tell about a token");
                return Introspection::Unavailable;
            }
        }
        match introspection::parse(response.body(), &self.issuer, &self.id, now) {
            Ok(active) => Introspection::Active(active),
            Err(NotActive::Parse(_quotes_values)) => Introspection::Unavailable,
            Err(reason) => {
                tracing::debug!(%reason, "refused a token");
                Introspection::Refused
            }
        }
    }
}

impl TokenEndpoint for Client {
    fn ask<'a>(
        &'a self,
        request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        Box::pin(self.exchange(request))
    }

    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(self.take_back(token))
    }

    fn introspect<'a>(
        &'a self,
        token: &'a SecretString,
        now: UnixSeconds,
    ) -> Pin<Box<dyn Future<Output = Introspection> + Send + 'a>> {
        Box::pin(self.ask_about(token, now))
    }
}

/// Whether the request surely did not reach the issuer.
fn never_left(error: &SendError) -> bool {
    match error {
        SendError::Request(error) => error.is_connect(),
        SendError::Internal(_) => true,
        SendError::ReadBody(_) | SendError::Timeout | SendError::Unavailable { .. } => false,
    }
}

/// `client_secret_basic`: both parts are encoded as in a form before they are joined (RFC 6749 §2.3.1).
fn basic(client_id: &str, secret: &str) -> String {
    let encode =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret)));
    format!("Basic {}", STANDARD.encode(pair.as_bytes()))
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

    #[test]
    fn credentials_are_encoded_as_in_a_form() {
        let header = basic("id", "a+/=&%: é");
        let encoded = header.strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "id:a%2B%2F%3D%26%25%3A+%C3%A9");
    }
}
