//! The decision about one request. Pure: everything it depends on is a parameter.

use std::collections::HashSet;

use globus_auth_core::email::Email;
use globus_auth_core::identity::Identity;
use globus_auth_core::sidecar_config::Access;

use crate::intent::Intent;

/// Who may enter. Empty means nobody.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    emails: HashSet<Email>,
}

impl Rules {
    pub(crate) fn new(access: &Access) -> Self {
        Self {
            emails: access.emails.iter().cloned().collect(),
        }
    }

    /// Whether this user may enter, now. An identity without an address never may.
    pub(crate) fn allow(&self, identity: &Identity) -> bool {
        identity
            .email
            .as_ref()
            .is_some_and(|email| self.emails.contains(email))
    }
}

/// What the credentials of a request are worth.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// None, or a session that is over.
    Absent,
    /// A bearer token that somebody vouches for.
    Bearer(Identity),
    /// A bearer token that nobody vouches for.
    InvalidBearer,
    /// A session.
    Session(Identity),
    /// A bearer token about which nobody could be asked just now.
    Undecided,
}

/// What happens to a request.
#[derive(Debug)]
#[must_use]
pub(crate) enum Decision {
    /// Tell the client how to authenticate: 401.
    Challenge(Challenge),
    /// This user may not enter: 403.
    Deny(Identity),
    /// Hand it to the workload.
    Forward(Permit),
    /// Send the browser to log in.
    StartLogin,
    /// Nobody could be asked: 503. Never let in what could not be decided.
    Unavailable,
}

/// Why a 401 is answered (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// There were no credentials.
    Missing,
    /// The bearer token is no good: `invalid_token`.
    InvalidToken,
}

/// Proof that a request was decided on. Only [`decide`] makes one, and [`crate::forward`] takes nothing
/// without it.
#[derive(Debug)]
pub(crate) struct Permit {
    identity: Identity,
    by: PermittedBy,
}

/// By what a request was admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PermittedBy {
    /// A bearer token, which is ours to consume and not for the workload.
    Bearer,
    /// A session cookie.
    Session,
}

impl Permit {
    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) const fn by(&self) -> PermittedBy {
        self.by
    }
}

/// Decides about a request that came with `credentials`, from somebody who has `intent`.
pub(crate) fn decide(credentials: Credentials, intent: Intent, rules: &Rules) -> Decision {
    let (identity, by) = match credentials {
        Credentials::Absent => {
            return match intent {
                Intent::Navigation => Decision::StartLogin,
                Intent::Program => Decision::Challenge(Challenge::Missing),
            };
        }
        Credentials::InvalidBearer => return Decision::Challenge(Challenge::InvalidToken),
        Credentials::Undecided => return Decision::Unavailable,
        Credentials::Bearer(identity) => (identity, PermittedBy::Bearer),
        Credentials::Session(identity) => (identity, PermittedBy::Session),
    };
    if rules.allow(&identity) {
        Decision::Forward(Permit { identity, by })
    } else {
        Decision::Deny(identity)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn user(email: Option<&str>) -> Identity {
        Identity {
            subject: "s".to_owned(),
            email: email.map(|text| text.parse().unwrap()),
            username: "alice@example.org".to_owned(),
            name: None,
        }
    }

    fn rules(emails: &[&str]) -> Rules {
        Rules::new(&Access {
            emails: emails.iter().map(|e| e.parse().unwrap()).collect(),
        })
    }

    fn outcome(credentials: Credentials, intent: Intent, emails: &[&str]) -> String {
        match decide(credentials, intent, &rules(emails)) {
            Decision::Challenge(challenge) => format!("challenge {challenge:?}"),
            Decision::Deny(_) => "deny".to_owned(),
            Decision::Forward(permit) => format!("forward by {:?}", permit.by()),
            Decision::StartLogin => "login".to_owned(),
            Decision::Unavailable => "unavailable".to_owned(),
        }
    }

    #[rstest]
    #[case(Credentials::Absent, Intent::Navigation, "login")]
    #[case(Credentials::Absent, Intent::Program, "challenge Missing")]
    #[case(
        Credentials::InvalidBearer,
        Intent::Navigation,
        "challenge InvalidToken"
    )]
    #[case(Credentials::InvalidBearer, Intent::Program, "challenge InvalidToken")]
    #[case(Credentials::Undecided, Intent::Program, "unavailable")]
    #[case(Credentials::Undecided, Intent::Navigation, "unavailable")]
    fn without_an_identity_nothing_is_forwarded(
        #[case] credentials: Credentials,
        #[case] intent: Intent,
        #[case] expected: &str,
    ) {
        assert_eq!(
            outcome(credentials, intent, &["alice@example.org"]),
            expected
        );
    }

    #[rstest]
    #[case::listed(&["alice@example.org"], Some("alice@example.org"), true)]
    #[case::listed_in_capitals(&["Alice@Example.ORG"], Some("alice@example.org"), true)]
    #[case::capitals(&["alice@example.org"], Some("ALICE@example.org"), true)]
    #[case::other(&["alice@example.org"], Some("mallory@example.org"), false)]
    #[case::suffix(&["alice@example.org"], Some("malice@example.org"), false)]
    #[case::subdomain(&["alice@example.org"], Some("alice@x.example.org"), false)]
    #[case::kelvin(&["kim@example.org"], Some("\u{212a}im@example.org"), false)]
    #[case::no_list(&[], Some("alice@example.org"), false)]
    #[case::no_address(&["alice@example.org"], None, false)]
    fn only_listed_addresses_enter(
        #[case] emails: &[&str],
        #[case] email: Option<&str>,
        #[case] enters: bool,
    ) {
        let session = outcome(
            Credentials::Session(user(email)),
            Intent::Navigation,
            emails,
        );
        assert_eq!(session, if enters { "forward by Session" } else { "deny" });
        let bearer = outcome(Credentials::Bearer(user(email)), Intent::Program, emails);
        assert_eq!(bearer, if enters { "forward by Bearer" } else { "deny" });
    }
}
