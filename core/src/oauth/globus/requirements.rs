//! What a login session at Globus must have, as the administrator demands it, as a service demands it
//! in a Globus Auth Requirements Error (GARE), and as an authorization request asks for it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::oauth::claims::Claims;

/// Requirements of a login session, by the names that Globus has for them. Empty: none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionRequirements {
    /// One identity of one of these domains must be logged in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub session_required_single_domain: Vec<String>,
    /// All of these authentication policies must be met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub session_required_policies: Vec<String>,
    /// All of these identities must be logged in. Only a service demands it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub session_required_identities: Vec<String>,
    /// There must have been a second factor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub session_required_mfa: bool,
    /// The user must have consented to these scopes. Only a service demands it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_scopes: Vec<String>,
}

impl SessionRequirements {
    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both: what `self` requires and what `other` does.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        // Of two lists of domains one must be met; the narrower demand is that of whoever asks last.
        if !other.session_required_single_domain.is_empty() {
            self.session_required_single_domain
                .clone_from(&other.session_required_single_domain);
        }
        for (mine, others) in [
            (
                &mut self.session_required_policies,
                &other.session_required_policies,
            ),
            (
                &mut self.session_required_identities,
                &other.session_required_identities,
            ),
            (&mut self.required_scopes, &other.required_scopes),
        ] {
            for one in others {
                if !mine.contains(one) {
                    mine.push(one.clone());
                }
            }
        }
        self.session_required_mfa |= other.session_required_mfa;
        self
    }

    /// The parameters of an authorization request that ask for it; scopes are asked for as such.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let lists = [
            (
                "session_required_single_domain",
                &self.session_required_single_domain,
            ),
            ("session_required_policies", &self.session_required_policies),
            (
                "session_required_identities",
                &self.session_required_identities,
            ),
        ];
        let mut parameters: Vec<_> = lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name, list.join(",")))
            .collect();
        if self.session_required_mfa {
            parameters.push(("session_required_mfa", "True".to_owned()));
        }
        parameters
    }

    /// Whether an introspection response, which was asked to `include` session and identities and to
    /// evaluate the policies, shows that all of it is met. What the response does not say is not met.
    pub fn are_met(&self, introspected: &Claims) -> bool {
        let authentications = introspected
            .get("session_info")
            .and_then(|info| info.get("authentications")?.as_object());
        let session = Session {
            authentications,
            identities: introspected
                .get("identity_set_detail")
                .and_then(Value::as_array),
        };
        let policies = introspected
            .get("policy_evaluations")
            .and_then(Value::as_object);
        let is_met = |policy: &String| {
            policies.and_then(|all| all.get(policy)?.get("evaluation")) == Some(&Value::Bool(true))
        };
        let domains = &self.session_required_single_domain;
        (domains.is_empty() || session.has_domain(domains))
            && self.session_required_policies.iter().all(is_met)
            && (!self.session_required_mfa || session.has_second_factor())
            && self
                .session_required_identities
                .iter()
                .all(|wanted| session.has_identity(wanted))
    }

    /// The Globus Auth Requirements Error that asks a program for it.
    pub fn to_error(&self) -> Value {
        let code = if self.required_scopes.is_empty() {
            "AuthorizationRequired"
        } else {
            "ConsentRequired"
        };
        json!({"code": code, "authorization_parameters": self})
    }

    /// Reads a Globus Auth Requirements Error, in its own form or in those of Globus Transfer
    /// (`required_scopes` beside `code`) and of action providers (`required_scope`, and lists as text
    /// with commas). `None` if it is none, or one that asks for nothing.
    pub fn from_error(body: &[u8]) -> Option<Self> {
        let error: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let code = error.get("code")?.as_str()?;
        let empty = Map::new();
        let parameters = error
            .get("authorization_parameters")
            .map_or(Some(&empty), Value::as_object)?;
        let list = |name: &str| bounded_list(parameters.get(name));
        let mut required_scopes = list("required_scopes");
        if code == "ConsentRequired" || code == "MissingRequiredScope" {
            for name in ["required_scopes", "required_scope"] {
                required_scopes.extend(bounded_list(error.get(name)));
            }
        }
        let requirements = Self {
            session_required_single_domain: list("session_required_single_domain"),
            session_required_policies: list("session_required_policies"),
            session_required_identities: list("session_required_identities"),
            session_required_mfa: match parameters.get("session_required_mfa") {
                Some(Value::Bool(required)) => *required,
                Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
                _ => false,
            },
            required_scopes,
        };
        (!requirements.is_empty()).then_some(requirements)
    }
}

/// Who is logged in at Globus, and how.
struct Session<'a> {
    authentications: Option<&'a Map<String, Value>>,
    identities: Option<&'a Vec<Value>>,
}

impl Session<'_> {
    /// The user names of the identities that are logged in.
    fn authenticated(&self) -> impl Iterator<Item = (&str, &str)> {
        self.identities
            .into_iter()
            .flatten()
            .filter_map(|identity| {
                let id = identity
                    .get("sub")
                    .or_else(|| identity.get("id"))?
                    .as_str()?;
                let username = identity.get("username")?.as_str()?;
                Some((id, username))
            })
            .filter(|(id, _)| {
                self.authentications
                    .is_some_and(|all| all.contains_key(*id))
            })
    }

    fn has_domain(&self, domains: &[String]) -> bool {
        self.authenticated().any(|(_, username)| {
            let domain = username.rsplit_once('@').map_or("", |(_, domain)| domain);
            domains.iter().any(|one| one.eq_ignore_ascii_case(domain))
        })
    }

    fn has_identity(&self, wanted: &str) -> bool {
        self.authenticated()
            .any(|(id, username)| id == wanted || username.eq_ignore_ascii_case(wanted))
    }

    /// RFC 8176 §2 names `mfa`; the profile is that of the research federations.
    fn has_second_factor(&self) -> bool {
        let is_second = |authentication: &Value| {
            let methods = authentication.get("amr").and_then(Value::as_array);
            methods.is_some_and(|all| all.iter().any(|one| one == "mfa"))
                || authentication.get("acr").and_then(Value::as_str) == Some(REFEDS_MFA)
        };
        self.authentications
            .is_some_and(|all| all.values().any(is_second))
    }
}

/// A list of strings, or text with commas between them; at most [`MAX_ENTRIES`] of at most
/// [`MAX_LENGTH`] bytes, without what could not stand in a parameter.
fn bounded_list(value: Option<&Value>) -> Vec<String> {
    let entries: Vec<&str> = match value {
        Some(Value::Array(entries)) => entries.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
        _ => Vec::new(),
    };
    entries
        .into_iter()
        .filter(|one| {
            let plain = |c: char| c.is_ascii_graphic() && c != ',';
            !one.is_empty() && one.len() <= MAX_LENGTH && one.chars().all(plain)
        })
        .take(MAX_ENTRIES)
        .map(str::to_owned)
        .collect()
}

const REFEDS_MFA: &str = "https://refeds.org/profile/mfa";
const MAX_ENTRIES: usize = 16;
const MAX_LENGTH: usize = 256;

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn introspected() -> Claims {
        let claims = json!({
            "active": true,
            "identity_set_detail": [
                {"sub": "i-1", "username": "alice@anl.gov"},
                {"id": "i-2", "username": "alice@gmail.com@accounts.google.com"},
                {"sub": "i-3", "username": "alice@uni.test"},
            ],
            "session_info": {"session_id": "s", "authentications": {
                "i-1": {"idp": "p", "auth_time": 1, "acr": null, "amr": ["mfa"]},
                "i-2": {"idp": "q", "auth_time": 1, "acr": null, "amr": null},
            }},
            "policy_evaluations": {"p-1": {"evaluation": true}, "p-2": {"evaluation": false}},
        });
        serde_json::from_value(claims).unwrap()
    }

    fn domains(domains: &[&str]) -> SessionRequirements {
        SessionRequirements {
            session_required_single_domain: owned(domains),
            ..SessionRequirements::default()
        }
    }

    fn policies(policies: &[&str]) -> SessionRequirements {
        SessionRequirements {
            session_required_policies: owned(policies),
            ..SessionRequirements::default()
        }
    }

    fn identities(identities: &[&str]) -> SessionRequirements {
        SessionRequirements {
            session_required_identities: owned(identities),
            ..SessionRequirements::default()
        }
    }

    fn second_factor() -> SessionRequirements {
        SessionRequirements {
            session_required_mfa: true,
            ..SessionRequirements::default()
        }
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|one| (*one).to_owned()).collect()
    }

    #[rstest]
    #[case::nothing(SessionRequirements::default(), true)]
    #[case::domain(domains(&["ANL.gov"]), true)]
    #[case::one_of_two(domains(&["x.test", "anl.gov"]), true)]
    #[case::linked_but_not_logged_in(domains(&["uni.test"]), false)]
    #[case::a_part_of_the_domain(domains(&["gov"]), false)]
    #[case::after_the_last_at(domains(&["accounts.google.com"]), true)]
    #[case::between_two_ats(domains(&["gmail.com@accounts.google.com", "gmail.com"]), false)]
    #[case::policy(policies(&["p-1"]), true)]
    #[case::policy_that_is_not_met(policies(&["p-1", "p-2"]), false)]
    #[case::policy_that_was_not_evaluated(policies(&["p-3"]), false)]
    #[case::second_factor(second_factor(), true)]
    #[case::identity(identities(&["i-1", "alice@gmail.com@accounts.google.com"]), true)]
    #[case::identity_that_is_not_logged_in(identities(&["i-3"]), false)]
    fn a_requirement_is_met_if_globus_says_so(
        #[case] requirements: SessionRequirements,
        #[case] met: bool,
    ) {
        assert_eq!(requirements.are_met(&introspected()), met);
        // What is not told is not met.
        let silent = Claims::default();
        assert_eq!(requirements.are_met(&silent), requirements.is_empty());
    }

    #[test]
    fn without_a_second_factor_there_is_none() {
        let one =
            json!({"session_info": {"authentications": {"i": {"acr": null, "amr": ["pwd"]}}}});
        let one: Claims = serde_json::from_value(one).unwrap();
        assert!(!second_factor().are_met(&one));
        let profile = json!({"session_info": {"authentications": {"i": {"acr": REFEDS_MFA}}}});
        let profile: Claims = serde_json::from_value(profile).unwrap();
        assert!(second_factor().are_met(&profile));
    }

    #[test]
    fn an_authorization_request_asks_for_all_of_it() {
        let requirements = domains(&["anl.gov", "x.test"])
            .and(&policies(&["p-1"]))
            .and(&second_factor())
            .and(&policies(&["p-1", "p-2"]));
        assert_eq!(
            requirements.parameters(),
            [
                (
                    "session_required_single_domain",
                    "anl.gov,x.test".to_owned()
                ),
                ("session_required_policies", "p-1,p-2".to_owned()),
                ("session_required_mfa", "True".to_owned()),
            ]
        );
        assert_eq!(SessionRequirements::default().parameters(), []);
    }

    #[test]
    fn what_is_asked_of_a_program_is_what_globus_services_ask() {
        let requirements = policies(&["p-1"]);
        let error = requirements.to_error();
        assert_eq!(
            error,
            json!({
                "code": "AuthorizationRequired",
                "authorization_parameters": {"session_required_policies": ["p-1"]},
            })
        );
        let text = error.to_string();
        assert_eq!(
            SessionRequirements::from_error(text.as_bytes()),
            Some(requirements)
        );
    }

    #[rstest]
    #[case::own_form(
        json!({"code": "X", "authorization_parameters": {"session_required_policies": ["p-1"], "session_message": "m"}}),
        Some(policies(&["p-1"]))
    )]
    #[case::text_with_commas(
        json!({"code": "X", "authorization_parameters": {"session_required_single_domain": "a.test, b.test"}}),
        Some(domains(&["a.test", "b.test"]))
    )]
    #[case::second_factor(
        json!({"code": "X", "authorization_parameters": {"session_required_mfa": true}}),
        Some(second_factor())
    )]
    #[case::second_factor_as_text(
        json!({"code": "X", "authorization_parameters": {"session_required_mfa": "True"}}),
        Some(second_factor())
    )]
    #[case::no_second_factor(
        json!({"code": "X", "authorization_parameters": {"session_required_mfa": "False"}}),
        None
    )]
    #[case::transfer(json!({"code": "ConsentRequired", "required_scopes": ["s"]}), Some(scopes(&["s"])))]
    #[case::action_provider(
        json!({"code": "ConsentRequired", "required_scope": "s"}),
        Some(scopes(&["s"]))
    )]
    #[case::any_other_error(json!({"code": "Forbidden", "required_scopes": ["s"]}), None)]
    #[case::no_code(json!({"authorization_parameters": {"session_required_mfa": true}}), None)]
    #[case::asks_for_nothing(json!({"code": "X", "authorization_parameters": {}}), None)]
    #[case::parameters_that_are_none(json!({"code": "X", "authorization_parameters": [1]}), None)]
    #[case::not_parameters_for_a_url(
        json!({"code": "X", "authorization_parameters": {"session_required_policies": ["a b", "x\r\ny", 7]}}),
        None
    )]
    fn an_error_of_a_service_is_read(
        #[case] error: Value,
        #[case] expected: Option<SessionRequirements>,
    ) {
        let text = error.to_string();
        assert_eq!(SessionRequirements::from_error(text.as_bytes()), expected);
    }

    fn scopes(scopes: &[&str]) -> SessionRequirements {
        SessionRequirements {
            required_scopes: owned(scopes),
            ..SessionRequirements::default()
        }
    }

    #[test]
    fn an_error_asks_for_a_bounded_amount() {
        let many: Vec<String> = (0..1000).map(|n| format!("p-{n}")).collect();
        let error =
            json!({"code": "X", "authorization_parameters": {"session_required_policies": many}});
        let read = SessionRequirements::from_error(error.to_string().as_bytes()).unwrap();
        assert_eq!(read.session_required_policies.len(), MAX_ENTRIES);
        let long = "x".repeat(MAX_LENGTH + 1);
        let error =
            json!({"code": "X", "authorization_parameters": {"session_required_policies": [long]}});
        assert_eq!(
            SessionRequirements::from_error(error.to_string().as_bytes()),
            None
        );
    }
}
