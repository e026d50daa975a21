//! The authorization code grant with PKCE: the address where a login starts, and the exchange that
//! ends it (RFC 6749 §4.1, RFC 7636, OpenID Connect Core §3.1).

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointNotSet, EndpointSet, ExtraTokenFields, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::globus::requirements::SessionRequirements;
use super::metadata::{ClientAuthentication, ProviderMetadata};
use crate::transaction::LoginTransaction;

/// Our client at one provider.
#[derive(Debug)]
pub struct AuthorizationCodeClient {
    client: OAuthClient,
    scopes: Vec<Scope>,
    offline: &'static [(&'static str, &'static str)],
}

/// What the configuration says of our client.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// The client id at the provider.
    pub client_id: &'a str,
    /// The client secret.
    pub client_secret: &'a SecretString,
    /// Where the provider sends the browser back to; registered with it.
    pub redirect_uri: &'a str,
    /// Scopes to ask for, beside `openid`.
    pub scopes: &'a [String],
    /// The parameters by which the provider is asked for refresh tokens, where it has some beside the
    /// scope `offline_access` (OpenID Connect Core §11).
    pub offline: &'static [(&'static str, &'static str)],
}

/// `prompt` (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prompt {
    /// The provider decides: one that knows the user does not ask again.
    Default,
    /// Ask who it is, also if the provider knows somebody: for "use another account".
    Login,
    /// Ask nothing that needs the user: they are logged in, and only what is known of them is renewed. What was given for
    /// when they are away stays.
    Renew,
}

/// What a login needs of a token response. A refresh token, if one came, is dropped.
#[derive(Debug)]
pub struct Tokens {
    /// For the userinfo endpoint.
    pub access_token: SecretString,
    /// Unverified.
    pub id_token: SecretString,
    /// Tokens for further resource servers, as Globus returns them beside the first.
    pub other_tokens: Vec<OtherToken>,
}

/// An access token for a further resource server. What else came with it is dropped.
#[derive(Clone, Deserialize)]
pub struct OtherToken {
    /// Whom it is for.
    pub resource_server: String,
    /// The token.
    pub access_token: SecretString,
}

impl std::fmt::Debug for OtherToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OtherToken({:?})", self.resource_server)
    }
}

impl AuthorizationCodeClient {
    /// Our client at `provider`.
    ///
    /// # Errors
    /// [`BadRegistration`] if the redirect address is not a URL.
    pub fn new(
        provider: &ProviderMetadata,
        registration: Registration<'_>,
    ) -> Result<Self, BadRegistration> {
        let client = OAuthClient::new(ClientId::new(registration.client_id.to_owned()))
            .set_client_secret(ClientSecret::new(
                registration.client_secret.expose_secret().to_owned(),
            ))
            .set_auth_uri(AuthUrl::from_url(provider.authorization_endpoint.clone()))
            .set_token_uri(TokenUrl::from_url(provider.token_endpoint.clone()))
            .set_auth_type(match provider.client_authentication {
                ClientAuthentication::Basic => AuthType::BasicAuth,
                ClientAuthentication::Post => AuthType::RequestBody,
            })
            .set_redirect_uri(
                RedirectUrl::new(registration.redirect_uri.to_owned())
                    .map_err(|_syntax| BadRegistration)?,
            );
        let scopes = std::iter::once("openid")
            .chain(registration.scopes.iter().map(String::as_str))
            .map(|scope| Scope::new(scope.to_owned()))
            .collect();
        Ok(Self {
            client,
            scopes,
            offline: registration.offline,
        })
    }

    /// The address to which the browser goes to log in.
    ///
    /// PKCE with `S256` is always sent, also to providers that do not advertise it, such as Globus: a
    /// provider that does not know the parameters must ignore them (RFC 6749 §3.1).
    pub fn authorization_url(
        &self,
        transaction: &LoginTransaction,
        prompt: Prompt,
        requirements: &SessionRequirements,
    ) -> Url {
        let further = requirements.required_scopes.iter();
        let further = further.filter(|scope| !self.scopes.iter().any(|one| one.as_ref() == *scope));
        let mut request = self
            .client
            .authorize_url(|| CsrfToken::new(transaction.state()))
            .add_scopes(self.scopes.iter().cloned())
            .add_scopes(further.map(|scope| Scope::new(scope.clone())))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(
                &transaction.code_verifier(),
            ))
            .add_extra_param("nonce", transaction.nonce());
        // A parameter may be there once (RFC 6749 §3.1).
        let mut prompts = Vec::from_iter((prompt == Prompt::Login).then_some("login"));
        for (name, value) in self.offline {
            match (*name, prompt) {
                ("prompt", Prompt::Renew) => {}
                ("prompt", Prompt::Default | Prompt::Login) => prompts.push(value),
                _ => request = request.add_extra_param(*name, *value),
            }
        }
        if !prompts.is_empty() {
            request = request.add_extra_param("prompt", prompts.join(" "));
        }
        for (name, value) in requirements.parameters() {
            request = request.add_extra_param(name, value);
        }
        let (url, _state) = request.url();
        url
    }

    /// Redeems `code` at the token endpoint, with the verifier of the login's transaction.
    ///
    /// The caller must have compared the state first.
    ///
    /// # Errors
    /// [`RedeemError`], without any part of the request or of the response.
    pub async fn redeem<'c, C>(
        &'c self,
        code: String,
        code_verifier: PkceCodeVerifier,
        http: &'c C,
    ) -> Result<Tokens, RedeemError<C::Error>>
    where
        C: AsyncHttpClient<'c>,
    {
        let response = self
            .client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(code_verifier)
            .request_async(http)
            .await
            .map_err(redeem_error)?;
        let id_token = response
            .extra_fields()
            .id_token
            .clone()
            .ok_or(RedeemError::NoIdToken)?;
        Ok(Tokens {
            access_token: SecretString::from(response.access_token().secret().clone()),
            id_token: SecretString::from(id_token),
            other_tokens: response.extra_fields().other_tokens.clone(),
        })
    }
}

/// Keeps what names the failure and drops what can hold a token: the library's error carries the body.
fn redeem_error<E: std::error::Error + 'static>(
    error: RequestTokenError<E, BasicErrorResponse>,
) -> RedeemError<E> {
    match error {
        RequestTokenError::ServerResponse(response) => RedeemError::Refused {
            error: response.error().clone(),
        },
        RequestTokenError::Request(source) => RedeemError::Send(source),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => RedeemError::Parse,
    }
}

/// The member of the token response that OpenID Connect adds (Core §3.1.3.3), and the one of Globus.
#[derive(Deserialize, Serialize)]
struct IdTokenField {
    id_token: Option<String>,
    #[serde(default, skip_serializing)]
    other_tokens: Vec<OtherToken>,
}

impl std::fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenField([redacted])")
    }
}

impl ExtraTokenFields for IdTokenField {}

type OAuthClient<Auth = EndpointSet, Token = EndpointSet> = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<IdTokenField, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    Auth,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    Token,
>;

/// The redirect address is not a URL.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the redirect address is not a URL")]
pub struct BadRegistration;

/// Why a code could not be redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError<E: std::error::Error + 'static> {
    /// No `id_token` in the response.
    #[error("the token response has no ID token; the client must be allowed the scope openid")]
    NoIdToken,
    /// Not a token response.
    #[error("the token endpoint answered with something that is not a token response")]
    Parse,
    /// An `error` of RFC 6749 §5.2: a wrong client secret, a code used before, another redirect address.
    #[error("the token endpoint refused the code: {error}")]
    Refused {
        /// The `error` member.
        error: BasicErrorResponseType,
    },
    /// The endpoint could not be reached, or broke off.
    #[error("failed to reach the token endpoint")]
    Send(#[source] E),
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::clock::UnixSeconds;
    use crate::url::Issuer;

    fn client(scopes: &[&str]) -> AuthorizationCodeClient {
        let document = json!({
            "issuer": "https://auth.globus.org",
            "authorization_endpoint": "https://auth.globus.org/v2/oauth2/authorize",
            "token_endpoint": "https://auth.globus.org/v2/oauth2/token",
            "jwks_uri": "https://auth.globus.org/jwk.json",
        });
        let text = document.to_string();
        let provider = ProviderMetadata::parse(text.as_bytes(), &Issuer::globus()).unwrap();
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let registration = Registration {
            client_id: "our-client",
            client_secret: &"hunter2".into(),
            redirect_uri: "https://app.test/oauth2/callback",
            scopes: &scopes,
            offline: &[],
        };
        AuthorizationCodeClient::new(&provider, registration).unwrap()
    }

    fn parameters(url: &Url) -> Vec<(String, String)> {
        let mut parameters: Vec<_> = url.query_pairs().into_owned().collect();
        parameters.sort_unstable();
        parameters
    }

    fn attempt() -> LoginTransaction {
        LoginTransaction::start("/".to_owned(), UnixSeconds(0)).unwrap()
    }

    #[test]
    fn a_login_asks_for_what_it_needs_and_for_nothing_else() {
        let attempt = attempt();
        let nothing = SessionRequirements::default();
        let url =
            client(&["email", "profile"]).authorization_url(&attempt, Prompt::Default, &nothing);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&attempt.code_verifier());
        let expected = [
            ("client_id", "our-client"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("nonce", &attempt.nonce()),
            ("redirect_uri", "https://app.test/oauth2/callback"),
            ("response_type", "code"),
            ("scope", "openid email profile"),
            ("state", &attempt.state()),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(parameters(&url), expected.map(owned));
    }

    #[rstest]
    #[case::asked_for_anyway(&["email"], "openid email")]
    #[case::further(&["email", "urn:x"], "openid email urn:x")]
    fn a_scope_that_is_required_is_asked_for_once(#[case] required: &[&str], #[case] scope: &str) {
        let requirements = SessionRequirements {
            required_scopes: required.iter().map(|scope| (*scope).to_owned()).collect(),
            ..SessionRequirements::default()
        };
        let url = client(&["email"]).authorization_url(&attempt(), Prompt::Default, &requirements);
        let found = url.query_pairs().find(|(name, _)| name == "scope");
        assert_eq!(found.unwrap().1, scope);
    }

    #[test]
    fn another_account_is_asked_for_if_it_is_wanted() {
        let nothing = SessionRequirements::default();
        let url = client(&[]).authorization_url(&attempt(), Prompt::Login, &nothing);
        let prompt = ("prompt".to_owned(), "login".to_owned());
        assert!(parameters(&url).contains(&prompt));
    }

    #[rstest]
    #[case(Prompt::Default, &["consent"])]
    #[case(Prompt::Login, &["login consent"])]
    #[case(Prompt::Renew, &[])]
    fn a_prompt_is_there_once(#[case] prompt: Prompt, #[case] expected: &[&str]) {
        let client = AuthorizationCodeClient {
            offline: &[("prompt", "consent"), ("access_type", "offline")],
            ..client(&[])
        };
        let url = client.authorization_url(&attempt(), prompt, &SessionRequirements::default());
        let of = |wanted: &str| {
            let all = parameters(&url).into_iter();
            let found = all.filter(|(name, _)| name == wanted);
            found.map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(of("prompt"), expected);
        assert_eq!(of("access_type"), ["offline"]);
    }
}
