//! Where a browser goes to let the vault have tokens (RFC 6749 §4.1.1, RFC 7636 §4.3). Pure.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::oauth::metadata::ProviderMetadata;
use globus_auth_core::sidecar_config::ProviderKind;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// The secrets of one authorization request.
#[derive(Debug, Deserialize, Serialize)]
pub struct Secrets {
    /// Binds the code to the request (RFC 7636 §4.1).
    #[serde(serialize_with = "expose")]
    pub code_verifier: SecretString,
    /// Binds an ID token to it (OpenID Connect Core §3.1.2.1).
    #[serde(serialize_with = "expose")]
    pub nonce: SecretString,
}

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// Our client.
    pub client_id: &'a str,
    /// Which provider's ways to follow.
    pub kind: ProviderKind,
    /// Where the browser comes back to.
    pub redirect_uri: &'a str,
    /// What the tokens shall allow.
    pub scopes: &'a [String],
    /// For whom they shall be good, where that is a URL (RFC 8707 §2.1).
    pub resource: Option<&'a str>,
    /// Binds the response to the session that waits for it.
    pub state: &'a SecretString,
}

/// The address to which the browser goes. PKCE with `S256` is always sent: a provider that does not know it must
/// ignore it (RFC 6749 §3.1).
pub fn address(provider: &ProviderMetadata, request: &Request<'_>, secrets: &Secrets) -> Url {
    let challenge = digest(&SHA256, secrets.code_verifier.expose_secret().as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(challenge.as_ref());
    let scopes = scopes(provider, request.kind, request.scopes);
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    let mut url = provider.authorization_endpoint.clone();
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", request.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", request.state.expose_secret())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if has("openid") {
            query.append_pair("nonce", secrets.nonce.expose_secret());
        }
        if has("offline_access") {
            // Without it, providers may give no refresh token (OpenID Connect Core §11).
            query.append_pair("prompt", "consent");
        }
        if request.kind == ProviderKind::Globus {
            query.append_pair("access_type", "offline");
        }
        if let Some(resource) = request.resource {
            query.append_pair("resource", resource);
        }
    }
    url
}

/// What is asked for beside `wanted`, so that the tokens can be renewed, where the provider has a scope for that.
pub fn scopes(provider: &ProviderMetadata, kind: ProviderKind, wanted: &[String]) -> Vec<String> {
    let mut scopes = wanted.to_vec();
    let is_there = scopes.iter().any(|scope| scope == OFFLINE_ACCESS);
    if kind == ProviderKind::OIDC && provider.has_offline_access && !is_there {
        scopes.push(OFFLINE_ACCESS.to_owned());
    }
    scopes
}

/// Writes a secret: for what is sealed then.
///
/// # Errors
/// Those of `serializer`.
pub(crate) fn expose<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// OpenID Connect Core §11.
pub const OFFLINE_ACCESS: &str = "offline_access";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn provider(scopes: &[&str]) -> ProviderMetadata {
        let document = json!({
            "issuer": "https://as.test", "authorization_endpoint": "https://as.test/authorize?tenant=a",
            "token_endpoint": "https://as.test/token", "scopes_supported": scopes,
        });
        let issuer = "https://as.test".parse().unwrap();
        ProviderMetadata::parse(document.to_string().as_bytes(), &issuer).unwrap()
    }

    fn query(
        provider: &ProviderMetadata,
        kind: ProviderKind,
        scopes: &[&str],
        resource: Option<&str>,
    ) -> BTreeMap<String, String> {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        // The example of RFC 7636 appendix B.
        let secrets = Secrets {
            code_verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(),
            nonce: "n".into(),
        };
        let request = Request {
            client_id: "client",
            kind,
            redirect_uri: "https://app.test/oauth2/connections/callback/as",
            scopes: &scopes,
            resource,
            state: &"s".into(),
        };
        let url = address(provider, &request, &secrets);
        assert_eq!(url.path(), "/authorize");
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn a_request_is_bound_to_what_began_it() {
        let query = query(
            &provider(&[]),
            ProviderKind::OIDC,
            &["storage.read:/"],
            None,
        );
        let expected = [
            ("client_id", "client"),
            (
                "code_challenge",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
            ("code_challenge_method", "S256"),
            (
                "redirect_uri",
                "https://app.test/oauth2/connections/callback/as",
            ),
            ("response_type", "code"),
            ("scope", "storage.read:/"),
            ("state", "s"),
            ("tenant", "a"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query, BTreeMap::from(expected));
    }

    #[test]
    fn what_the_provider_has_is_asked_for() {
        let oidc = query(
            &provider(&["openid", "offline_access"]),
            ProviderKind::OIDC,
            &["openid"],
            Some("https://mcp.test/"),
        );
        assert_eq!(oidc["scope"], "openid offline_access");
        assert_eq!(
            (oidc["nonce"].as_str(), oidc["prompt"].as_str()),
            ("n", "consent")
        );
        assert_eq!(oidc["resource"], "https://mcp.test/");
        let globus = query(&provider(&[]), ProviderKind::Globus, &["x"], None);
        assert_eq!(globus["access_type"], "offline");
        assert!(!globus.contains_key("prompt") && !globus.contains_key("nonce"));
    }
}
