//! The vault's client at an issuer, over HTTP.

use std::pin::Pin;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::oauth::introspection::{self, NotActive};
use globus_auth_core::oauth::metadata::{ClientAuthentication, ProviderMetadata};
use globus_auth_core::runtime::http_client::{HttpClient, SendError};
use globus_auth_core::runtime::key_source::{self, FetchError, MAX_AGE};
use globus_auth_core::runtime::refreshed::Refreshed;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::url::Issuer;
use http::{Request, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::answer;
use crate::device::{self, DeviceAuthorization};
use crate::endpoint::{Exchange, Introspection, Revoked, TokenEndpoint, TokenRequest};

/// Our client at an issuer.
#[derive(Debug)]
pub struct Client {
    issuer: Issuer,
    id: String,
    secret: SecretString,
    http: HttpClient,
    metadata: Refreshed<ProviderMetadata, FetchError>,
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

    async fn metadata(&self) -> Result<Arc<ProviderMetadata>, Arc<FetchError>> {
        let fetch = async || {
            let document = self.document().await?;
            ProviderMetadata::parse(&document, &self.issuer).map_err(FetchError::BadMetadata)
        };
        self.metadata.get(MAX_AGE, fetch).await
    }

    /// That of an OpenID provider, or of an authorization server that is none (RFC 8414).
    async fn document(&self) -> Result<Vec<u8>, FetchError> {
        match key_source::get(&self.http, &self.issuer.discovery_url()).await {
            Err(FetchError::Status {
                status: StatusCode::NOT_FOUND,
            }) => {
                let address = self.issuer.authorization_server_metadata_url();
                key_source::get(&self.http, &address).await
            }
            found => found,
        }
    }

    async fn known(&self) -> Option<Arc<ProviderMetadata>> {
        let metadata = self.metadata().await;
        let told = |error: Arc<FetchError>| {
            let issuer = self.issuer.as_str();
            tracing::warn!(issuer, error = %Chain(&*error), "failed to discover an issuer");
        };
        metadata.map_err(told).ok()
    }

    async fn ask_for_codes(
        &self,
        scopes: &[String],
        resource: Option<&str>,
    ) -> Option<DeviceAuthorization> {
        let provider = self.known().await?;
        let issuer = self.issuer.as_str();
        let Some(endpoint) = &provider.device_authorization_endpoint else {
            tracing::warn!(
                issuer,
                "an issuer has no device_authorization_endpoint; choose userGrant AuthorizationCode"
            );
            return None;
        };
        let scopes = scopes.join(" ");
        let mut parameters = vec![("scope", scopes.as_str())];
        if provider.client_authentication == ClientAuthentication::Basic {
            // RFC 8628 §3.1 has it also beside the header; in the body it is with the secret.
            parameters.push(("client_id", self.id.as_str()));
        }
        parameters.extend(resource.map(|resource| ("resource", resource)));
        let request = self.request(endpoint, provider.client_authentication, &parameters);
        let response = self.http.send(request.ok()?).await;
        let told = |error: SendError| {
            tracing::warn!(issuer, error = %Chain(&error), "an issuer gave no codes for a device");
        };
        let response = response.map_err(told).ok()?;
        if response.status() != StatusCode::OK {
            let (status, problem) = (
                response.status().as_u16(),
                answer::read(400, None, response.body()).err(),
            );
            tracing::warn!(
                issuer,
                status,
                ?problem,
                "an issuer gave no codes for a device"
            );
            return None;
        }
        let told = |error| tracing::warn!(issuer, %error, "the codes of an issuer cannot be used");
        device::parse(response.body(), &self.issuer)
            .map_err(told)
            .ok()
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
        let Some(provider) = self.known().await else {
            return Exchange::NotSent;
        };
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

    /// A refresh token, and most issuers end its access tokens with it (RFC 7009 §2.1).
    async fn take_back(&self, token: &SecretString) -> Revoked {
        let Some(metadata) = self.known().await else {
            return Revoked::NotNow;
        };
        let Some(endpoint) = &metadata.revocation_endpoint else {
            return Revoked::Never;
        };
        let request = self.request(
            endpoint,
            metadata.client_authentication,
            &[("token", token.expose_secret())],
        );
        let Ok(request) = request else {
            return Revoked::Never;
        };
        let answered = self.http.send(request).await;
        match answered.map(|response| response.status()) {
            Ok(status) if status.is_success() => Revoked::Yes,
            // `unsupported_token_type`, or a token that cannot be one (RFC 7009 §2.2.1): another try says the same.
            Ok(StatusCode::BAD_REQUEST) => Revoked::Never,
            Ok(_) | Err(_) => Revoked::NotNow,
        }
    }

    /// Issuers that do not advertise where have it below the token endpoint, as Globus does.
    async fn ask_about(&self, token: &SecretString, now: UnixSeconds) -> Introspection {
        let Ok(metadata) = self.metadata().await else {
            return Introspection::Unavailable;
        };
        let provider = &metadata;
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

    fn prepare<'a>(&'a self) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async { self.known().await.is_some() })
    }

    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>> {
        Box::pin(self.take_back(token))
    }

    fn introspect<'a>(
        &'a self,
        token: &'a SecretString,
        now: UnixSeconds,
    ) -> Pin<Box<dyn Future<Output = Introspection> + Send + 'a>> {
        Box::pin(self.ask_about(token, now))
    }

    fn discover<'a>(
        &'a self,
    ) -> Pin<Box<dyn Future<Output = Option<Arc<ProviderMetadata>>> + Send + 'a>> {
        Box::pin(self.known())
    }

    fn authorize_device<'a>(
        &'a self,
        scopes: &'a [String],
        resource: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Option<DeviceAuthorization>> + Send + 'a>> {
        Box::pin(self.ask_for_codes(scopes, resource))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_as_in_a_form() {
        let header = basic("id", "a+/=&%: é");
        let encoded = header.strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "id:a%2B%2F%3D%26%25%3A+%C3%A9");
    }
}
