//! The decision about one request. Pure: everything it depends on is a parameter.

use globus_auth_core::identity::Identity;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::session::{Limits, Session};
use http::Method;

use crate::intent::Intent;
use crate::rules::{Rules, Verdict};
use globus_auth_core::clock::UnixSeconds;

/// What the credentials of a request are worth.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// None, or a session that is over.
    Absent,
    /// A bearer token that somebody vouches for, and when it ends.
    Bearer(Identity, UnixSeconds),
    /// A bearer token that is good, whose user must do more at the provider before it counts.
    InsufficientBearer(SessionRequirements),
    /// A bearer token that nobody vouches for.
    InvalidBearer,
    /// A session.
    Session(Session),
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
    /// Tell a program what its user must do at the provider first: 403.
    StepUp(SessionRequirements),
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
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    holder: Holder,
    has_token_for_us: bool,
}

/// Who is let through.
#[derive(Clone, Debug)]
enum Holder {
    /// Until then.
    Bearer(Identity, UnixSeconds),
    Nobody,
    Session(Session),
}

/// By what a request was admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PermittedBy {
    /// A bearer token, which is ours to consume and not for the workload.
    Bearer,
    /// A public route: nobody in particular.
    PublicRoute,
    /// A session cookie.
    Session,
}

impl Permit {
    /// Who it is; nobody on a public route.
    pub(crate) const fn identity(&self) -> Option<&Identity> {
        match &self.holder {
            Holder::Bearer(identity, _until) => Some(identity),
            Holder::Nobody => None,
            Holder::Session(session) => Some(&session.identity),
        }
    }

    pub(crate) fn into_identity(self) -> Option<Identity> {
        match self.holder {
            Holder::Bearer(identity, _until) => Some(identity),
            Holder::Nobody => None,
            Holder::Session(session) => Some(session.identity),
        }
    }

    /// The session by which it was admitted, if it was by one.
    pub(crate) const fn session(&self) -> Option<&Session> {
        match &self.holder {
            Holder::Session(session) => Some(session),
            Holder::Bearer(..) | Holder::Nobody => None,
        }
    }

    /// Whose bearer token it was admitted by, and until when that is good, if it was by one.
    pub(crate) const fn bearer(&self) -> Option<(&Identity, UnixSeconds)> {
        match &self.holder {
            Holder::Bearer(identity, until) => Some((identity, *until)),
            Holder::Nobody | Holder::Session(_) => None,
        }
    }

    /// When what it was admitted by ends, however much it is used; never on a public route.
    pub(crate) fn ends_at(&self, limits: Limits) -> Option<UnixSeconds> {
        match &self.holder {
            Holder::Bearer(_identity, until) => Some(*until),
            Holder::Nobody => None,
            Holder::Session(session) => Some(session.ends_at_last(limits)),
        }
    }

    /// Whether the request has a bearer token that is, or may be, a key to this proxy: the workload
    /// could use it against its user elsewhere.
    pub(crate) const fn has_token_for_us(&self) -> bool {
        self.has_token_for_us
    }

    pub(crate) const fn by(&self) -> PermittedBy {
        match &self.holder {
            Holder::Bearer(..) => PermittedBy::Bearer,
            Holder::Nobody => PermittedBy::PublicRoute,
            Holder::Session(_) => PermittedBy::Session,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) intent: Intent,
    /// Method and path of a request to the workload; public routes are compared with it.
    pub(crate) route: Option<(&'a Method, &'a str)>,
}

/// Decides about a request that came with `credentials` and `asked` for something.
///
/// On a public route nobody is turned away: who is known there and may enter is named to the workload,
/// everybody else is nobody.
pub(crate) fn decide(
    credentials: Credentials,
    asked: Asked<'_>,
    rules: &Rules,
    now: UnixSeconds,
) -> Decision {
    let has_token_for_us = matches!(
        credentials,
        Credentials::Bearer(..) | Credentials::InsufficientBearer(_) | Credentials::Undecided
    );
    let decision = decide_by_credentials(credentials, asked.intent, rules, now);
    let is_public = || {
        asked
            .route
            .is_some_and(|(method, path)| rules.is_public(method, path))
    };
    if matches!(decision, Decision::Forward(_)) || !is_public() {
        return decision;
    }
    Decision::Forward(Permit {
        holder: Holder::Nobody,
        has_token_for_us,
    })
}

fn decide_by_credentials(
    credentials: Credentials,
    intent: Intent,
    rules: &Rules,
    now: UnixSeconds,
) -> Decision {
    let holder = match credentials {
        Credentials::Absent => return without_session(intent),
        Credentials::InvalidBearer => return Decision::Challenge(Challenge::InvalidToken),
        Credentials::InsufficientBearer(requirements) => return Decision::StepUp(requirements),
        Credentials::Undecided => return Decision::Unavailable,
        Credentials::Bearer(identity, until) => Holder::Bearer(identity, until),
        Credentials::Session(session) => Holder::Session(session),
    };
    let permit = Permit {
        has_token_for_us: matches!(holder, Holder::Bearer(..)),
        holder,
    };
    let verdict = permit
        .identity()
        .map_or(Verdict::Refuse, |identity| rules.judge(identity, now));
    match (verdict, permit.holder, intent) {
        // What is known of the groups is getting old, and this is a chance to ask again: a login that the
        // provider answers without the user. Programs go on meanwhile.
        (Verdict::AllowForNow, Holder::Session(_), Intent::Navigation) => Decision::StartLogin,
        (Verdict::Allow | Verdict::AllowForNow, holder, _) => {
            Decision::Forward(Permit { holder, ..permit })
        }
        // Nobody has no credentials to be judged by.
        (Verdict::AskAgain, Holder::Session(_), _) | (_, Holder::Nobody, _) => {
            without_session(intent)
        }
        (_, Holder::Session(session), _) => Decision::Deny(session.identity),
        (_, Holder::Bearer(identity, _), _) => Decision::Deny(identity),
    }
}

const fn without_session(intent: Intent) -> Decision {
    match intent {
        Intent::Navigation => Decision::StartLogin,
        Intent::Program => Decision::Challenge(Challenge::Missing),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use globus_auth_core::identity::{Groups, NameDigest};
    use globus_auth_core::sidecar_config::{Access, GroupAccess, PathMatch, PublicRoute};
    use rstest::rstest;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn user(email: Option<&str>) -> Identity {
        Identity {
            subject: "s".to_owned(),
            email: email.map(|text| text.parse().unwrap()),
            username: "alice@example.org".to_owned(),
            ..Identity::default()
        }
    }

    fn bearer(email: Option<&str>) -> Credentials {
        Credentials::Bearer(user(email), NOW)
    }

    fn session(identity: Identity) -> Session {
        let limits = Limits {
            idle: Duration::from_hours(1),
            absolute: Duration::from_hours(1),
        };
        Session::start(identity, limits, NOW).unwrap()
    }

    fn access(emails: &[&str]) -> Access {
        Access {
            emails: emails.iter().map(|e| e.parse().unwrap()).collect(),
            ..Access::default()
        }
    }

    fn outcome(credentials: Credentials, intent: Intent, emails: &[&str]) -> String {
        let asked = Asked {
            intent,
            route: None,
        };
        outcome_of(credentials, asked, &access(emails))
    }

    fn outcome_of(credentials: Credentials, asked: Asked<'_>, access: &Access) -> String {
        match decide(credentials, asked, &Rules::new(access), NOW) {
            Decision::Challenge(challenge) => format!("challenge {challenge:?}"),
            Decision::Deny(_) => "deny".to_owned(),
            Decision::Forward(permit) => {
                let who = permit.identity().map_or("nobody", |one| &one.subject);
                format!("forward {who} by {:?}", permit.by())
            }
            Decision::StepUp(_) => "step up".to_owned(),
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
    #[case(
        Credentials::InsufficientBearer(SessionRequirements::default()),
        Intent::Program,
        "step up"
    )]
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
            Credentials::Session(session(user(email))),
            Intent::Navigation,
            emails,
        );
        assert_eq!(
            session,
            if enters {
                "forward s by Session"
            } else {
                "deny"
            }
        );
        let bearer = outcome(bearer(email), Intent::Program, emails);
        assert_eq!(
            bearer,
            if enters {
                "forward s by Bearer"
            } else {
                "deny"
            }
        );
    }

    fn permit(credentials: Credentials, emails: &[&str], route: Option<(&Method, &str)>) -> Permit {
        let access = Access {
            public: public().public,
            ..access(emails)
        };
        let asked = Asked {
            intent: Intent::Program,
            route,
        };
        let decision = decide(credentials, asked, &Rules::new(&access), NOW);
        let Decision::Forward(permit) = decision else {
            panic!("{decision:?}")
        };
        permit
    }

    #[test]
    fn a_permit_tells_by_what_and_for_whom_it_is() {
        let alice = ["alice@example.org"];
        let email = Some(alice[0]);
        let by_session = session(user(email));
        let permitted = permit(Credentials::Session(by_session.clone()), &alice, None);
        assert_eq!(permitted.session(), Some(&by_session));
        assert!(!permitted.has_token_for_us());
        assert_eq!(permitted.into_identity(), Some(user(email)));

        let permitted = permit(bearer(email), &alice, None);
        assert_eq!(permitted.session(), None);
        // It is a key to this proxy, and not for the workload.
        assert!(permitted.has_token_for_us());
        assert_eq!(permitted.into_identity(), Some(user(email)));

        let public = Some((&Method::GET, "/health"));
        for (credentials, has_token) in [
            (Credentials::Absent, false),
            (Credentials::InvalidBearer, false),
            (Credentials::Undecided, true),
            (bearer(Some("mallory@example.org")), true),
        ] {
            let permitted = permit(credentials, &alice, public);
            assert_eq!(permitted.has_token_for_us(), has_token);
            assert_eq!(permitted.into_identity(), None);
        }
    }

    fn public() -> Access {
        Access {
            public: vec![PublicRoute {
                path: "/health".to_owned(),
                path_match: PathMatch::Exact,
                methods: vec!["GET".to_owned()],
            }],
            ..access(&["alice@example.org"])
        }
    }

    #[rstest]
    #[case::nobody(Credentials::Absent, "forward nobody by PublicRoute")]
    #[case::bad_token(Credentials::InvalidBearer, "forward nobody by PublicRoute")]
    #[case::provider_down(Credentials::Undecided, "forward nobody by PublicRoute")]
    #[case::not_on_the_list(
        Credentials::Session(session(user(Some("mallory@example.org")))),
        "forward nobody by PublicRoute"
    )]
    #[case::on_the_list(
        Credentials::Session(session(user(Some("alice@example.org")))),
        "forward s by Session"
    )]
    #[case::by_token(bearer(Some("alice@example.org")), "forward s by Bearer")]
    fn a_public_route_names_only_those_who_may_enter(
        #[case] credentials: Credentials,
        #[case] expected: &str,
    ) {
        let asked = Asked {
            intent: Intent::Program,
            route: Some((&Method::GET, "/health")),
        };
        assert_eq!(outcome_of(credentials, asked, &public()), expected);
    }

    #[rstest]
    #[case::another_path(Some((Method::GET, "/healthz")))]
    #[case::another_method(Some((Method::POST, "/health")))]
    #[case::no_request_to_the_workload(None)]
    fn everything_else_needs_a_login(#[case] route: Option<(Method, &str)>) {
        let asked = Asked {
            intent: Intent::Program,
            route: route.as_ref().map(|(method, path)| (method, *path)),
        };
        let outcome = outcome_of(Credentials::Absent, asked, &public());
        assert_eq!(outcome, "challenge Missing");
    }

    /// Somebody who was in the group when the provider told, and when it was last asked, so many
    /// seconds ago.
    fn member(told: u64, asked: u64) -> Identity {
        Identity {
            groups: Groups {
                names: vec![NameDigest::of("physics")],
                as_of: UnixSeconds(NOW.0 - told),
                asked_at: UnixSeconds(NOW.0 - asked),
            },
            ..user(None)
        }
    }

    #[rstest]
    #[case::fresh(member(0, 0), "forward s by Session", "forward s by Session")]
    #[case::half_old(member(450, 450), "login", "forward s by Session")]
    #[case::half_old_and_asked_in_vain(
        member(899, 449),
        "forward s by Session",
        "forward s by Session"
    )]
    #[case::too_old(member(900, 0), "login", "challenge Missing")]
    fn a_membership_counts_for_a_bounded_time(
        #[case] identity: Identity,
        #[case] navigation: &str,
        #[case] program: &str,
    ) {
        let access = Access {
            groups: Some(GroupAccess {
                names: vec!["physics".to_owned()],
                max_age_seconds: 900,
            }),
            ..Access::default()
        };
        for (intent, expected) in [(Intent::Navigation, navigation), (Intent::Program, program)] {
            let asked = Asked {
                intent,
                route: None,
            };
            let credentials = Credentials::Session(session(identity.clone()));
            assert_eq!(outcome_of(credentials, asked, &access), expected);
        }
    }
}
