//! Globus Groups: of which groups somebody is a member.

use http::{HeaderValue, Request, header};
use serde::Deserialize;
use url::Url;

use crate::url::Issuer;

/// The scope of a token that may ask.
pub const SCOPE: &str =
    "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships";
/// The resource server of such a token.
pub const RESOURCE_SERVER: &str = "groups.api.globus.org";
/// The grant by which a service that was given a token gets tokens for services that it depends on.
/// It is not that of RFC 8693.
pub const DEPENDENT_TOKEN_GRANT: &str = "urn:globus:auth:grant_type:dependent_token";

/// Where memberships are told: at `groups.api.` where the issuer is at `auth.`, as in production and in
/// Globus's other environments; any other issuer answers for both.
pub fn endpoint(issuer: &Issuer) -> Option<Url> {
    let mut url = Url::parse(issuer.as_str()).ok()?;
    let host = url
        .host_str()
        .and_then(|host| host.strip_prefix("auth."))
        .map(|rest| format!("groups.api.{rest}"));
    if let Some(host) = host {
        url.set_host(Some(&host)).ok()?;
    }
    url.set_path("/v2/groups/my_groups");
    url.set_query(Some("statuses=active"));
    Some(url)
}

/// The request for the memberships of whoever `access_token` is for.
///
/// # Errors
/// A token that HTTP cannot carry.
pub fn request(endpoint: &Url, access_token: &str) -> Result<Request<Vec<u8>>, http::Error> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {access_token}"))?;
    authorization.set_sensitive(true);
    Request::get(endpoint.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, authorization)
        .body(Vec::new())
}

/// The ids of the groups of which somebody is an active member, by any of their identities; if
/// `only_identity` is there, by that one.
///
/// # Errors
/// Not the answer of Globus Groups.
pub fn parse(
    response: &[u8],
    only_identity: Option<&str>,
) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Group {
        id: String,
        #[serde(default)]
        my_memberships: Vec<Membership>,
    }
    #[derive(Deserialize)]
    struct Membership {
        identity_id: String,
        status: String,
    }
    let groups: Vec<Group> = serde_json::from_slice(response)?;
    let counts = |membership: &Membership| {
        membership.status == "active"
            && only_identity.is_none_or(|identity| identity == membership.identity_id)
    };
    Ok(groups
        .into_iter()
        .filter(|group| group.my_memberships.iter().any(counts))
        .map(|group| group.id)
        .collect())
}

/// What came of asking for dependent tokens.
#[derive(Debug)]
pub enum Dependent {
    /// The access token for Globus Groups.
    Token(secrecy::SecretString),
    /// The user has not let our client ask about their groups.
    ConsentRequired,
}

/// Reads the answer of the token endpoint to [`DEPENDENT_TOKEN_GRANT`]: an array of tokens, or an error.
///
/// # Errors
/// [`BadDependentTokens`].
pub fn parse_dependent(is_success: bool, response: &[u8]) -> Result<Dependent, BadDependentTokens> {
    #[derive(Deserialize)]
    struct Token {
        access_token: secrecy::SecretString,
        resource_server: String,
    }
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    if is_success {
        let tokens: Vec<Token> =
            serde_json::from_slice(response).map_err(|_format| BadDependentTokens::Parse)?;
        return tokens
            .into_iter()
            .find(|token| token.resource_server == RESOURCE_SERVER)
            .map(|token| Dependent::Token(token.access_token))
            // The client's scope does not depend on Groups, or the user took the consent back.
            .ok_or(BadDependentTokens::NotForGroups);
    }
    match serde_json::from_slice::<Refusal>(response) {
        Ok(refusal) if refusal.error == "dependent_consent_required" => {
            Ok(Dependent::ConsentRequired)
        }
        _ => Err(BadDependentTokens::Refused),
    }
}

/// Why there is no token for Globus Groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadDependentTokens {
    /// None of the tokens is for Groups.
    #[error(
        "the provider gave no token for Globus Groups; add its scope as a dependency of your client's scope"
    )]
    NotForGroups,
    /// Not the answer of Globus Auth.
    #[error("the token endpoint answered with something that is not a list of tokens")]
    Parse,
    /// Any other error.
    #[error("the token endpoint refused a token for Globus Groups")]
    Refused,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(
        "https://auth.globus.org",
        "https://groups.api.globus.org/v2/groups/my_groups?statuses=active"
    )]
    #[case(
        "https://auth.sandbox.globuscs.info",
        "https://groups.api.sandbox.globuscs.info/v2/groups/my_groups?statuses=active"
    )]
    #[case(
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/v2/groups/my_groups?statuses=active"
    )]
    fn memberships_are_told_beside_the_issuer(#[case] issuer: &str, #[case] expected: &str) {
        let found = endpoint(&issuer.parse().unwrap()).unwrap();
        assert_eq!(found.as_str(), expected);
    }

    #[test]
    fn memberships_are_asked_for_with_the_users_token() {
        let endpoint = endpoint(&"https://auth.globus.org".parse().unwrap()).unwrap();
        let request = request(&endpoint, "Ag-token").unwrap();
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri(), endpoint.as_str());
        assert_eq!(request.headers()["accept"], "application/json");
        let authorization = &request.headers()["authorization"];
        assert_eq!(authorization, "Bearer Ag-token");
        assert!(authorization.is_sensitive());
        assert!(super::request(&endpoint, "Ag\r\nHost: evil").is_err());
    }

    fn memberships() -> Vec<u8> {
        json!([
            {"id": "g-1", "name": "one", "my_memberships": [
                {"group_id": "g-1", "identity_id": "i-1", "role": "member", "status": "active"}]},
            {"id": "g-2", "my_memberships": [
                {"group_id": "g-2", "identity_id": "i-1", "role": "member", "status": "invited"},
                {"group_id": "g-2", "identity_id": "i-2", "role": "admin", "status": "active"}]},
            {"id": "g-3", "my_memberships": [
                {"group_id": "g-3", "identity_id": "i-1", "role": "member", "status": "removed"}]},
            {"id": "g-4"},
        ])
        .to_string()
        .into_bytes()
    }

    #[rstest]
    #[case(None, &["g-1", "g-2"])]
    #[case(Some("i-1"), &["g-1"])]
    #[case(Some("i-2"), &["g-2"])]
    #[case(Some("i-3"), &[])]
    fn only_active_memberships_count(#[case] identity: Option<&str>, #[case] expected: &[&str]) {
        assert_eq!(parse(&memberships(), identity).unwrap(), expected);
    }

    #[test]
    fn what_is_no_list_of_groups_is_an_error_and_not_an_empty_list() {
        for response in ["{}", "[{}]", "null", "<html>", ""] {
            assert!(parse(response.as_bytes(), None).is_err(), "{response}");
        }
    }

    #[test]
    fn the_token_for_groups_is_found_among_the_others() {
        let tokens = json!([
            {"access_token": "a", "resource_server": "transfer.api.globus.org", "token_type": "bearer"},
            {"access_token": "b", "resource_server": "groups.api.globus.org", "token_type": "bearer"},
        ])
        .to_string();
        match parse_dependent(true, tokens.as_bytes()) {
            Ok(Dependent::Token(token)) => assert_eq!(token.expose_secret(), "b"),
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case(true, "[]", Err(BadDependentTokens::NotForGroups))]
    #[case(true, "{}", Err(BadDependentTokens::Parse))]
    #[case(false, r#"{"error":"dependent_consent_required","errors":[]}"#, Ok(()))]
    #[case(
        false,
        r#"{"error":"invalid_grant"}"#,
        Err(BadDependentTokens::Refused)
    )]
    #[case(false, "<html>", Err(BadDependentTokens::Refused))]
    fn a_missing_consent_is_told_from_every_other_failure(
        #[case] is_success: bool,
        #[case] response: &str,
        #[case] expected: Result<(), BadDependentTokens>,
    ) {
        match parse_dependent(is_success, response.as_bytes()) {
            Ok(Dependent::ConsentRequired) => assert_eq!(expected, Ok(())),
            Ok(Dependent::Token(_)) => panic!("a token"),
            Err(error) => assert_eq!(expected, Err(error)),
        }
    }
}
