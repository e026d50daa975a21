//! The authorization response: what the browser brings back from the provider (RFC 6749 §4.1.2).

use url::form_urlencoded;

/// An authorization response whose parameters are each present once. Nothing in it is trusted yet.
#[derive(Eq, PartialEq)]
pub enum AuthorizationResponse {
    /// A code, to be redeemed once the state is known to be ours.
    Code {
        /// `state`, which names the login that this response claims to belong to.
        state: String,
        /// `code`.
        code: String,
        /// `iss` (RFC 9207 §2), if the provider sent it.
        issuer: Option<String>,
    },
    /// `error` (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
    Error {
        /// `state`, which broken providers leave out.
        state: Option<String>,
        /// What went wrong.
        error: AuthorizationError,
    },
}

impl std::fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code { .. } => f.write_str("Code([redacted])"),
            Self::Error { error, .. } => write!(f, "Error({error:?})"),
        }
    }
}

/// The errors that a user can do something about, and the rest. The provider's own text is never
/// shown: whoever makes somebody open a link chooses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorizationError {
    /// The user, or the provider, said no.
    AccessDenied,
    /// The provider wants the user to consent.
    ConsentRequired,
    /// The provider wants the user to log in.
    LoginRequired,
    /// The provider is overloaded or down.
    TemporarilyUnavailable,
    /// Any other code: the client is registered wrongly, or the provider is broken.
    Other,
}

impl AuthorizationError {
    fn parse(code: &str) -> Self {
        match code {
            "access_denied" => Self::AccessDenied,
            "consent_required" | "interaction_required" => Self::ConsentRequired,
            "login_required" => Self::LoginRequired,
            "temporarily_unavailable" | "server_error" => Self::TemporarilyUnavailable,
            _ => Self::Other,
        }
    }

    /// The code for logs and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::ConsentRequired => "consent_required",
            Self::LoginRequired => "login_required",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::Other => "unknown_error",
        }
    }
}

impl AuthorizationResponse {
    /// Reads the query of the callback.
    ///
    /// # Errors
    /// [`BadResponse`]: a parameter is missing or given twice (RFC 6749 §3.1 forbids it, and two parsers
    /// that choose differently are a way to mix up logins).
    pub fn parse(query: &str) -> Result<Self, BadResponse> {
        let mut found: [Option<String>; 4] = [const { None }; 4];
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(slot) = NAMES
                .iter()
                .position(|known| *known == name)
                .and_then(|i| found.get_mut(i))
            else {
                continue;
            };
            if value.len() > MAX_LENGTH || slot.replace(value.into_owned()).is_some() {
                return Err(BadResponse);
            }
        }
        let [state, issuer, code, error] = found.map(|value| value.filter(|text| !text.is_empty()));
        match (state, code, error) {
            (state, _, Some(error)) => Ok(Self::Error {
                state,
                error: AuthorizationError::parse(&error),
            }),
            (Some(state), Some(code), None) => Ok(Self::Code {
                state,
                code,
                issuer,
            }),
            (None, _, None) | (_, None, None) => Err(BadResponse),
        }
    }
}

const NAMES: [&str; 4] = ["state", "iss", "code", "error"];
/// Codes are at most a few hundred bytes with every provider known; a URL of more is an attack.
const MAX_LENGTH: usize = 4096;

/// Not an authorization response.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an authorization response: a parameter is missing, empty, too long or given twice")]
pub struct BadResponse;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_code_with_state_and_issuer_is_read() {
        let query = "code=a%2Bb&state=s&iss=https%3A%2F%2Fop.test&session_state=x";
        assert_eq!(
            AuthorizationResponse::parse(query),
            Ok(AuthorizationResponse::Code {
                state: "s".to_owned(),
                code: "a+b".to_owned(),
                issuer: Some("https://op.test".to_owned()),
            })
        );
    }

    #[rstest]
    #[case(
        "error=access_denied&state=s",
        Some("s"),
        AuthorizationError::AccessDenied
    )]
    #[case("error=login_required", None, AuthorizationError::LoginRequired)]
    #[case(
        "error=consent_required&state=s",
        Some("s"),
        AuthorizationError::ConsentRequired
    )]
    #[case(
        "error=interaction_required&state=s",
        Some("s"),
        AuthorizationError::ConsentRequired
    )]
    #[case(
        "error=server_error&state=",
        None,
        AuthorizationError::TemporarilyUnavailable
    )]
    #[case("error=%3Cscript%3E&state=s", Some("s"), AuthorizationError::Other)]
    #[case(
        "error=access_denied&code=c&state=s",
        Some("s"),
        AuthorizationError::AccessDenied
    )]
    fn an_error_is_one_of_ours(
        #[case] query: &str,
        #[case] state: Option<&str>,
        #[case] error: AuthorizationError,
    ) {
        assert_eq!(
            AuthorizationResponse::parse(query),
            Ok(AuthorizationResponse::Error {
                state: state.map(str::to_owned),
                error
            })
        );
    }

    #[rstest]
    #[case("")]
    #[case("code=c")]
    #[case("state=s")]
    #[case("code=&state=s")]
    #[case("code=c&state=")]
    #[case("code=c&state=s&state=t")]
    #[case("code=c&code=d&state=s")]
    #[case("code=c&state=s&iss=a&iss=b")]
    #[case("error=a&error=b")]
    fn what_is_missing_or_ambiguous_is_refused(#[case] query: &str) {
        assert_eq!(AuthorizationResponse::parse(query), Err(BadResponse));
    }

    #[test]
    fn an_endless_parameter_is_refused() {
        let query = |length| format!("code={}&state=s", "c".repeat(length));
        assert!(AuthorizationResponse::parse(&query(4096)).is_ok());
        assert_eq!(AuthorizationResponse::parse(&query(4097)), Err(BadResponse));
    }

    #[test]
    fn what_is_said_of_an_error_is_its_registered_name() {
        for name in [
            "access_denied",
            "consent_required",
            "login_required",
            "temporarily_unavailable",
        ] {
            assert_eq!(AuthorizationError::parse(name).as_str(), name);
        }
        let other = AuthorizationError::parse("<script>");
        assert_eq!(other.as_str(), "unknown_error");
    }

    #[test]
    fn debug_output_hides_the_code() {
        let response = AuthorizationResponse::parse("code=hunter2&state=s").unwrap();
        assert!(!format!("{response:?}").contains("hunter2"));
    }
}
