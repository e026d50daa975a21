//! What a provider says of itself (OpenID Connect Discovery §3, RFC 8414).

use serde::Deserialize;
use url::Url;

use crate::url::Issuer;

/// The members of a discovery document that a login needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderMetadata {
    /// The issuer, equal to the configured one.
    pub issuer: Issuer,
    /// Where the browser goes to log in.
    pub authorization_endpoint: Url,
    /// Where the code is redeemed.
    pub token_endpoint: Url,
    /// Where claims are that the ID token lacks.
    pub userinfo_endpoint: Option<Url>,
    /// Where a browser goes to log out (OpenID Connect RP-Initiated Logout §2.1).
    pub end_session_endpoint: Option<Url>,
    /// Where a token is taken back (RFC 7009 §2).
    pub revocation_endpoint: Option<Url>,
    /// Where one asks what a token is (RFC 7662 §2).
    pub introspection_endpoint: Option<Url>,
    /// Where a login begins that ends in another browser (RFC 8628 §4).
    pub device_authorization_endpoint: Option<Url>,
    /// Whether `offline_access` is among its scopes (OpenID Connect Core §11).
    pub has_offline_access: bool,
    /// How the client shows its secret at the token endpoint.
    pub client_authentication: ClientAuthentication,
    /// Whether the authorization response carries `iss` (RFC 9207 §3); then it must.
    pub response_has_issuer: bool,
}

/// How a client shows its secret (OpenID Connect Core §9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl ProviderMetadata {
    /// Reads the document found at `issuer`'s discovery address.
    ///
    /// # Errors
    /// [`BadMetadata`]: no document of this issuer, or one whose endpoints are less safe than it.
    pub fn parse(document: &[u8], issuer: &Issuer) -> Result<Self, BadMetadata> {
        let document: Document = serde_json::from_slice(document).map_err(BadMetadata::Parse)?;
        // The comparison is of exact strings (OpenID Connect Discovery §4.3): a document of another
        // issuer, even one that differs by a slash, could swap the keys that we trust.
        if document.issuer != issuer.as_str() {
            return Err(BadMetadata::OtherIssuer {
                found: document.issuer,
            });
        }
        let endpoint = |name, text: &str| parse_endpoint(name, text, issuer);
        Ok(Self {
            issuer: issuer.clone(),
            authorization_endpoint: endpoint(
                "authorization_endpoint",
                &document.authorization_endpoint,
            )?,
            token_endpoint: endpoint("token_endpoint", &document.token_endpoint)?,
            userinfo_endpoint: document
                .userinfo_endpoint
                .map(|text| endpoint("userinfo_endpoint", &text))
                .transpose()?,
            end_session_endpoint: document
                .end_session_endpoint
                .map(|text| endpoint("end_session_endpoint", &text))
                .transpose()?,
            revocation_endpoint: document
                .revocation_endpoint
                .map(|text| endpoint("revocation_endpoint", &text))
                .transpose()?,
            introspection_endpoint: document
                .introspection_endpoint
                .map(|text| endpoint("introspection_endpoint", &text))
                .transpose()?,
            device_authorization_endpoint: document
                .device_authorization_endpoint
                .map(|text| endpoint("device_authorization_endpoint", &text))
                .transpose()?,
            has_offline_access: document
                .scopes_supported
                .iter()
                .any(|scope| scope == "offline_access"),
            client_authentication: client_authentication(
                document.token_endpoint_auth_methods_supported.as_deref(),
            ),
            response_has_issuer: document.authorization_response_iss_parameter_supported,
        })
    }
}

/// Where the signing keys of `issuer` are, from its discovery document. Issuers that only sign, such as
/// a Kubernetes cluster or a CI service, publish little more than that.
///
/// # Errors
/// [`BadMetadata`].
pub fn jwks_uri(document: &[u8], issuer: &Issuer) -> Result<Url, BadMetadata> {
    #[derive(Deserialize)]
    struct Keys {
        issuer: String,
        jwks_uri: String,
    }
    let document: Keys = serde_json::from_slice(document).map_err(BadMetadata::Parse)?;
    if document.issuer != issuer.as_str() {
        return Err(BadMetadata::OtherIssuer {
            found: document.issuer,
        });
    }
    parse_endpoint("jwks_uri", &document.jwks_uri, issuer)
}

/// `client_secret_basic` is the default when the list is absent (OpenID Connect Discovery §3).
fn client_authentication(methods: Option<&[String]>) -> ClientAuthentication {
    let offers = |method| methods.is_none_or(|all| all.iter().any(|one| one == method));
    if !offers("client_secret_basic") && offers("client_secret_post") {
        ClientAuthentication::Post
    } else {
        ClientAuthentication::Basic
    }
}

fn parse_endpoint(name: &'static str, text: &str, issuer: &Issuer) -> Result<Url, BadMetadata> {
    let url = Url::parse(text).map_err(|_syntax| BadMetadata::Endpoint { name })?;
    let scheme_is_safe = match url.scheme() {
        "https" => true,
        "http" => !issuer.is_https(),
        _ => false,
    };
    // A URL of these schemes has a host.
    if !scheme_is_safe || url.fragment().is_some() {
        return Err(BadMetadata::Endpoint { name });
    }
    Ok(url)
}

/// Why a discovery document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadMetadata {
    /// An endpoint is not a URL, or not `https` although the issuer is.
    #[error("the discovery document has no usable {name}")]
    Endpoint {
        /// The member of the document.
        name: &'static str,
    },
    /// The document speaks for another issuer.
    #[error(
        "the discovery document is of issuer {found:?}, not of the configured one; copy the issuer exactly"
    )]
    OtherIssuer {
        /// The issuer in the document.
        found: String,
    },
    /// Not the JSON that it must be.
    #[error("failed to parse the discovery document")]
    Parse(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn globus() -> Value {
        json!({
            "issuer": "https://auth.globus.org",
            "authorization_endpoint": "https://auth.globus.org/v2/oauth2/authorize",
            "token_endpoint": "https://auth.globus.org/v2/oauth2/token",
            "userinfo_endpoint": "https://auth.globus.org/v2/oauth2/userinfo",
            "revocation_endpoint": "https://auth.globus.org/v2/oauth2/token/revoke",
            "jwks_uri": "https://auth.globus.org/jwk.json",
            "response_types_supported": ["code", "token", "token id_token", "id_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        })
    }

    fn parse(document: &Value) -> Result<ProviderMetadata, BadMetadata> {
        ProviderMetadata::parse(document.to_string().as_bytes(), &Issuer::globus())
    }

    #[test]
    fn the_document_of_globus_is_enough() {
        let metadata = parse(&globus()).unwrap();
        assert_eq!(
            metadata.token_endpoint.as_str(),
            "https://auth.globus.org/v2/oauth2/token"
        );
        assert_eq!(metadata.client_authentication, ClientAuthentication::Basic);
        assert!(!metadata.response_has_issuer);
    }

    #[rstest]
    #[case("https://auth.globus.org/")]
    #[case("https://evil.test")]
    fn a_document_of_another_issuer_is_refused(#[case] issuer: &str) {
        let mut document = globus();
        document["issuer"] = json!(issuer);
        assert!(matches!(
            parse(&document),
            Err(BadMetadata::OtherIssuer { .. })
        ));
    }

    #[rstest]
    #[case("token_endpoint", "http://auth.globus.org/token")]
    #[case("authorization_endpoint", "javascript:alert(1)")]
    #[case("userinfo_endpoint", "/v2/userinfo")]
    #[case("userinfo_endpoint", "https:///")]
    #[case("token_endpoint", "https://auth.globus.org/token#fragment")]
    #[case("end_session_endpoint", "http://auth.globus.org/logout")]
    fn an_unsafe_endpoint_is_refused(#[case] member: &str, #[case] endpoint: &str) {
        let mut document = globus();
        document[member] = json!(endpoint);
        let error = parse(&document).unwrap_err();
        assert!(error.to_string().contains(member), "{error}");
    }

    #[test]
    fn the_endpoints_of_an_issuer_on_this_machine_need_no_tls() {
        let issuer: Issuer = "http://127.0.0.1:8080".parse().unwrap();
        for (endpoint, is_safe) in [
            ("http://127.0.0.1:8080/token", true),
            ("https://op.test/token", true),
            ("file:///token", false),
        ] {
            let read = parse_endpoint("token_endpoint", endpoint, &issuer);
            assert_eq!(read.is_ok(), is_safe, "{endpoint}");
        }
    }

    #[rstest]
    #[case("jwks_uri", json!("http://auth.globus.org/jwk.json"))]
    #[case("issuer", json!("https://evil.test"))]
    fn keys_of_another_issuer_or_over_plain_http_are_refused(
        #[case] member: &str,
        #[case] value: Value,
    ) {
        let mut document = globus();
        let read = |document: &Value| jwks_uri(document.to_string().as_bytes(), &Issuer::globus());
        assert_eq!(
            read(&document).unwrap().as_str(),
            "https://auth.globus.org/jwk.json"
        );
        document[member] = value;
        assert!(read(&document).is_err());
    }

    #[rstest]
    #[case(json!(["client_secret_post"]), ClientAuthentication::Post)]
    #[case(json!(["client_secret_post", "client_secret_basic"]), ClientAuthentication::Basic)]
    #[case(json!(null), ClientAuthentication::Basic)]
    fn the_client_authenticates_as_the_provider_offers(
        #[case] methods: Value,
        #[case] expected: ClientAuthentication,
    ) {
        let mut document = globus();
        document["token_endpoint_auth_methods_supported"] = methods;
        assert_eq!(parse(&document).unwrap().client_authentication, expected);
    }
}
