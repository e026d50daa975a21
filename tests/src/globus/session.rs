//! Who is logged in at the emulator, in which browser, and what a login has to satisfy.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::accounts::{Account, Identity, new_id};
use super::config::Policy;

/// The authentications of one browser, as tokens remember them.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The id that resource servers see; not the cookie.
    pub(crate) id: String,
    /// The primary identity of the account.
    pub(crate) account: String,
    authentications: BTreeMap<String, Authentication>,
}

/// One identity of the account was authenticated.
#[derive(Clone, Debug)]
struct Authentication {
    identity_provider: String,
    at: i64,
    mfa: bool,
}

impl Session {
    /// Starts a session of `account`.
    pub(crate) fn start(account: &Account, identity: &Identity, now: i64) -> Self {
        let account_sub = account.primary.sub.clone();
        let mut session = Self {
            id: new_id(),
            account: account_sub,
            authentications: BTreeMap::new(),
        };
        session.authenticate(account, identity, now);
        session
    }

    /// Adds an identity of the same account.
    pub(crate) fn authenticate(&mut self, account: &Account, identity: &Identity, now: i64) {
        let identity_provider = identity.provider.id.clone();
        let authentication = Authentication {
            identity_provider,
            at: now,
            mfa: account.mfa,
        };
        self.authentications
            .insert(identity.sub.clone(), authentication);
    }

    /// When this identity was authenticated, if it was.
    pub(crate) fn last_authentication(&self, sub: &str) -> Option<i64> {
        self.authentications
            .get(sub)
            .map(|authentication| authentication.at)
    }

    /// `session_info` of an introspection.
    pub(crate) fn info(&self) -> Value {
        let authentications = self.authentications.iter().map(|(sub, authentication)| {
            let mfa = authentication.mfa;
            let value = json!({
                "idp": authentication.identity_provider,
                "auth_time": authentication.at,
                "acr": mfa.then_some("https://refeds.org/profile/mfa"),
                "amr": mfa.then_some(["mfa"]),
                "custom_claims": {},
            });
            (sub.clone(), value)
        });
        json!({
            "session_id": self.id,
            "authentications": authentications.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Whether the account can satisfy a policy, and its last authentication is recent enough.
    pub(crate) fn satisfies(
        &self,
        policy: &str,
        account: &Account,
        policies: &[Policy],
        now: i64,
    ) -> bool {
        let known = policies.iter().find(|known| known.id == policy);
        let max_age = known.and_then(|known| known.max_age_seconds);
        let newest = self
            .authentications
            .values()
            .map(|authentication| authentication.at)
            .max();
        let recent = |max_age: u32| newest.is_some_and(|at| now - at <= i64::from(max_age));
        account.policies.iter().any(|id| id == policy) && max_age.is_none_or(recent)
    }
}

/// What an authorization request demands of the session (`session_required_…`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Requirements {
    /// User names or ids; every one of them must be authenticated.
    pub(crate) identities: Vec<String>,
    /// One authenticated identity must be of one of these domains.
    pub(crate) single_domain: Vec<String>,
    /// Every one of them must be satisfied.
    pub(crate) policies: Vec<String>,
    pub(crate) mfa: bool,
}

impl Requirements {
    /// The first requirement that the session does not meet, in words for its user.
    pub(crate) fn unmet(
        &self,
        session: &Session,
        account: &Account,
        policies: &[Policy],
        now: i64,
    ) -> Option<String> {
        let authenticated: Vec<&Identity> = account
            .identities()
            .filter(|identity| session.authentications.contains_key(&identity.sub))
            .collect();
        let missing = self
            .identities
            .iter()
            .find(|wanted| !authenticated.iter().any(|identity| identity.is(wanted)));
        if let Some(wanted) = missing {
            return Some(format!("You must authenticate as {wanted}."));
        }
        let of_domain = |identity: &&Identity| {
            self.single_domain
                .iter()
                .any(|domain| identity.domain().eq_ignore_ascii_case(domain))
        };
        if !self.single_domain.is_empty() && !authenticated.iter().any(of_domain) {
            return Some(format!(
                "You must authenticate with an identity of {}.",
                self.single_domain.join(" or ")
            ));
        }
        let lapsed = self
            .policies
            .iter()
            .find(|id| !session.satisfies(id, account, policies, now));
        if let Some(policy) = lapsed {
            return Some(format!("You must authenticate as policy {policy} demands."));
        }
        let mfa = session
            .authentications
            .values()
            .any(|authentication| authentication.mfa);
        (self.mfa && !mfa).then(|| "You must authenticate with a second factor.".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::globus::config::{LinkedIdentity, User};

    fn unmet(requirements: &Requirements, user: User, as_identity: &str, age: i64) -> bool {
        let account = Account::of(user);
        let identity = account.identity(as_identity).unwrap();
        let session = Session::start(&account, identity, 1000);
        let policies = [Policy {
            id: "aged".to_owned(),
            max_age_seconds: Some(60),
        }];
        requirements
            .unmet(&session, &account, &policies, 1000 + age)
            .is_some()
    }

    fn alice() -> User {
        User {
            policies: vec!["aged".to_owned(), "plain".to_owned()],
            ..User::new("alice@anl.gov").linked(LinkedIdentity::new("alice@uni.test"))
        }
    }

    #[test]
    fn each_requirement_is_enforced() {
        let list = |text: &str| vec![text.to_owned()];
        let identity = |name| Requirements {
            identities: list(name),
            ..Requirements::default()
        };
        let domain = |name| Requirements {
            single_domain: list(name),
            ..Requirements::default()
        };
        let policy = |id| Requirements {
            policies: list(id),
            ..Requirements::default()
        };
        let mfa = Requirements {
            mfa: true,
            ..Requirements::default()
        };
        let with_mfa = || User {
            mfa: true,
            ..alice()
        };
        for (requirements, user, as_identity, age, expected) in [
            (&Requirements::default(), alice(), "alice@anl.gov", 0, false),
            (
                &identity("alice@uni.test"),
                alice(),
                "alice@anl.gov",
                0,
                true,
            ),
            (
                &identity("alice@uni.test"),
                alice(),
                "alice@uni.test",
                0,
                false,
            ),
            (&domain("uni.test"), alice(), "alice@anl.gov", 0, true),
            (&domain("UNI.test"), alice(), "alice@uni.test", 0, false),
            (&domain("test"), alice(), "alice@uni.test", 0, true),
            (&policy("plain"), alice(), "alice@anl.gov", 10_000, false),
            (&policy("aged"), alice(), "alice@anl.gov", 60, false),
            (&policy("aged"), alice(), "alice@anl.gov", 61, true),
            (&policy("unknown"), alice(), "alice@anl.gov", 0, true),
            (&mfa, alice(), "alice@anl.gov", 0, true),
            (&mfa, with_mfa(), "alice@anl.gov", 0, false),
        ] {
            let actual = unmet(requirements, user, as_identity, age);
            assert_eq!(
                actual, expected,
                "{requirements:?} as {as_identity} after {age} s"
            );
        }
    }
}
