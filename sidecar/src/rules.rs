//! Who may enter, and what everybody may fetch: the access rules in force. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::email::{Email, EmailDomain};
use globus_auth_core::identity::{
    EmailVerification, Groups, Identity, NameDigest, Reading, ServiceAccount,
};
use globus_auth_core::sidecar_config::{Access, PathMatch, PublicRoute};
use http::Method;

/// The access rules. Empty means nobody.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    emails: HashSet<Email>,
    email_domains: Vec<EmailDomain>,
    groups: HashMap<NameDigest, String>,
    group_names: HashSet<String>,
    groups_max_age: Duration,
    identity_providers: HashSet<NameDigest>,
    identity_provider_names: Vec<String>,
    service_accounts: HashSet<ServiceAccount>,
    any_authenticated: bool,
    public: Vec<PublicRoute>,
}

/// What the rules say about somebody, now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Allow,
    /// Admitted by a group only, and it is time to ask the provider about it again.
    AllowForNow,
    /// Not admitted by what is known of their groups, which is so old that it may have changed.
    AskAgain,
    Refuse,
}

impl Rules {
    pub(crate) fn new(access: &Access) -> Self {
        let groups = access.groups.as_ref();
        let names = groups.into_iter().flat_map(|groups| &groups.names);
        let providers = access.identity_providers.iter();
        let accounts = access.service_accounts.as_ref();
        Self {
            emails: access.emails.iter().cloned().collect(),
            email_domains: access.email_domains.clone(),
            groups: names
                .map(|name| (NameDigest::of(name), name.clone()))
                .collect(),
            group_names: groups
                .map(|groups| groups.names.iter().cloned().collect())
                .unwrap_or_default(),
            groups_max_age: groups.map_or(Duration::ZERO, |groups| {
                Duration::from_secs(groups.max_age_seconds.into())
            }),
            identity_providers: providers.map(|name| NameDigest::of(name)).collect(),
            identity_provider_names: access.identity_providers.clone(),
            service_accounts: accounts
                .into_iter()
                .flat_map(|access| access.accounts.iter().cloned())
                .collect(),
            any_authenticated: access.any_authenticated,
            public: access.public.clone(),
        }
    }

    /// Whether `identity` may enter, `now`.
    pub(crate) fn judge(&self, identity: &Identity, now: UnixSeconds) -> Verdict {
        if let Some(account) = &identity.service_account {
            return if self.service_accounts.contains(account) {
                Verdict::Allow
            } else {
                Verdict::Refuse
            };
        }
        if !self.counts_provider_of(identity) {
            return Verdict::Refuse;
        }
        if self.any_authenticated || self.allows_address_of(identity) {
            return Verdict::Allow;
        }
        self.judge_groups(identity, now)
    }

    /// Whether `identity` may enter, `now`, whether or not more should be asked about it.
    pub(crate) fn allow(&self, identity: &Identity, now: UnixSeconds) -> bool {
        match self.judge(identity, now) {
            Verdict::Allow | Verdict::AllowForNow => true,
            Verdict::AskAgain | Verdict::Refuse => false,
        }
    }

    fn counts_provider_of(&self, identity: &Identity) -> bool {
        self.identity_providers.is_empty()
            || identity
                .identity_provider
                .is_some_and(|provider| self.identity_providers.contains(&provider))
    }

    /// An identity without an address never enters by a rule about addresses.
    fn allows_address_of(&self, identity: &Identity) -> bool {
        identity.email.as_ref().is_some_and(|email| {
            self.emails.contains(email)
                || self
                    .email_domains
                    .iter()
                    .any(|domain| domain.matches(email))
        })
    }

    fn judge_groups(&self, identity: &Identity, now: UnixSeconds) -> Verdict {
        if self.groups.is_empty() {
            return Verdict::Refuse;
        }
        let groups = &identity.groups;
        let is_member = groups
            .names
            .iter()
            .any(|name| self.groups.contains_key(name));
        let counts = now.since(groups.as_of) < self.groups_max_age;
        let asked_lately = |bound| now.since(groups.asked_at) < bound;
        match (is_member, counts) {
            (true, true) if asked_lately(self.groups_max_age / 2) => Verdict::Allow,
            (true, true) => Verdict::AllowForNow,
            (false, _) if asked_lately(ASK_AGAIN_AFTER) => Verdict::Refuse,
            (true, false) | (false, _) => Verdict::AskAgain,
        }
    }

    /// What these rules want to know of the identities of a provider with `groups_claim`.
    pub(crate) fn reading<'a>(
        &'a self,
        email_verification: EmailVerification,
        groups_claim: Option<&'a str>,
    ) -> Reading<'a> {
        Reading {
            email_verification,
            groups_claim,
            groups: &self.group_names,
            identity_providers: &self.identity_provider_names,
        }
    }

    /// Those of the groups `names` that a rule has, as they are `now`.
    pub(crate) fn groups_among<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        now: UnixSeconds,
    ) -> Groups {
        Groups::of(names, &self.group_names, now)
    }

    /// Whether any rule is about groups.
    pub(crate) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether only identities of certain providers count.
    pub(crate) fn pins_providers(&self) -> bool {
        !self.identity_providers.is_empty()
    }

    /// The names of those of the identity's groups that a rule names, sorted.
    pub(crate) fn group_names(&self, identity: &Identity) -> Vec<&str> {
        let digests = identity.groups.names.iter();
        let mut names: Vec<&str> = digests
            .filter_map(|digest| self.groups.get(digest).map(String::as_str))
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether everybody may fetch `path`, as it stands in the request line, by `method`.
    ///
    /// A path that two parsers may read differently is never public: the workload could find something
    /// else under it than the rule means.
    pub(crate) fn is_public(&self, method: &Method, path: &str) -> bool {
        let covers = |route: &PublicRoute| {
            route.methods.iter().any(|one| one == method.as_str())
                && match route.path_match {
                    PathMatch::Exact => route.path == path,
                    PathMatch::Prefix => is_at_or_below(path, &route.path),
                }
        };
        !self.public.is_empty() && is_unambiguous(path) && self.public.iter().any(covers)
    }
}

fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether every server reads `path` alike: no dot segments, no empty segments, no path parameters, no
/// backslashes, and nothing encoded that could become one of them. Of encoded bytes only those are
/// harmless that are no separators in any reading: letters, digits and what lies beyond ASCII stay out,
/// too, because a second decoding may follow; a public path has no need of them.
fn is_unambiguous(path: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b'@')
    };
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // A slash at the end makes an empty last segment, which is one like any other.
        if (segment.is_empty() && !is_last)
            || segment.trim_matches('.').is_empty() && !segment.is_empty()
        {
            return false;
        }
        // Some file systems drop dots at the end of a name.
        if segment.ends_with('.') || !segment.bytes().all(plain) {
            return false;
        }
    }
    true
}

/// Somebody whom no group admits may have joined one; the provider is asked at most this often.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use globus_auth_core::sidecar_config::{GroupAccess, ServiceAccountAccess};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn user(email: Option<&str>) -> Identity {
        Identity {
            subject: "s".to_owned(),
            email: email.map(|text| text.parse().unwrap()),
            ..Identity::default()
        }
    }

    fn judge(access: &Access, identity: &Identity) -> Verdict {
        Rules::new(access).judge(identity, NOW)
    }

    #[test]
    fn without_rules_nobody_enters() {
        let nobody = Access::default();
        let account = ServiceAccount {
            namespace: "ml".to_owned(),
            name: "trainer".to_owned(),
        };
        for identity in [
            user(Some("alice@example.org")),
            user(None),
            Identity::of_service_account(account),
        ] {
            assert_eq!(judge(&nobody, &identity), Verdict::Refuse);
        }
    }

    #[rstest]
    #[case("alice@example.org", Verdict::Allow)]
    #[case("alice@x.example.org", Verdict::Refuse)]
    #[case("alice@badexample.org", Verdict::Refuse)]
    fn a_domain_admits_its_addresses(#[case] email: &str, #[case] verdict: Verdict) {
        let access = Access {
            email_domains: vec!["example.org".parse().unwrap()],
            ..Access::default()
        };
        assert_eq!(judge(&access, &user(Some(email))), verdict);
        assert_eq!(judge(&access, &user(None)), Verdict::Refuse);
    }

    #[test]
    fn anybody_authenticated_is_anybody_whom_the_provider_vouches_for() {
        let access = Access {
            any_authenticated: true,
            ..Access::default()
        };
        assert_eq!(judge(&access, &user(None)), Verdict::Allow);
        let account = ServiceAccount {
            namespace: "ml".to_owned(),
            name: "trainer".to_owned(),
        };
        let account = Identity::of_service_account(account);
        assert_eq!(judge(&access, &account), Verdict::Refuse);
    }

    #[rstest]
    #[case::pinned(Some("idp-lab"), Verdict::Allow)]
    #[case::another(Some("idp-google"), Verdict::Refuse)]
    #[case::unknown(None, Verdict::Refuse)]
    fn a_pinned_provider_narrows_every_rule(
        #[case] provider: Option<&str>,
        #[case] verdict: Verdict,
    ) {
        let identity = Identity {
            identity_provider: provider.map(NameDigest::of),
            ..user(Some("alice@example.org"))
        };
        let pinned = Access {
            identity_providers: vec!["idp-lab".to_owned()],
            ..Access::default()
        };
        let by_address = Access {
            emails: vec!["alice@example.org".parse().unwrap()],
            ..pinned.clone()
        };
        let anybody = Access {
            any_authenticated: true,
            ..pinned.clone()
        };
        assert_eq!(judge(&by_address, &identity), verdict);
        assert_eq!(judge(&anybody, &identity), verdict);
        assert_eq!(judge(&pinned, &identity), Verdict::Refuse);
    }

    #[rstest]
    #[case::the_one("train", "trainer", Verdict::Allow)]
    #[case::another_namespace("ml", "trainer", Verdict::Refuse)]
    #[case::another_name("train", "default", Verdict::Refuse)]
    fn a_service_account_enters_by_its_own_rule_only(
        #[case] namespace: &str,
        #[case] name: &str,
        #[case] verdict: Verdict,
    ) {
        let account = |namespace: &str, name: &str| ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let access = Access {
            service_accounts: Some(ServiceAccountAccess {
                accounts: vec![account("train", "trainer")],
                issuer: "https://kubernetes.default.svc".to_owned(),
                audience: "https://app.test".to_owned(),
                keys: json!({"keys": []}),
            }),
            ..Access::default()
        };
        let identity = Identity::of_service_account(account(namespace, name));
        assert_eq!(judge(&access, &identity), verdict);
        // A user whose provider gives them that name is still a user.
        let user = Identity {
            service_account: None,
            ..identity
        };
        assert_eq!(judge(&access, &user), Verdict::Refuse);
    }

    #[rstest]
    #[case::member("physics", 0, 0, Verdict::Allow)]
    #[case::half_time("physics", 449, 449, Verdict::Allow)]
    #[case::past_half_time("physics", 450, 450, Verdict::AllowForNow)]
    #[case::asked_in_vain("physics", 800, 400, Verdict::Allow)]
    #[case::just_before_the_end("physics", 899, 899, Verdict::AllowForNow)]
    #[case::too_old("physics", 900, 900, Verdict::AskAgain)]
    #[case::too_old_and_asked_in_vain("physics", 900, 0, Verdict::AskAgain)]
    #[case::no_member("chemistry", 0, 0, Verdict::Refuse)]
    #[case::no_member_then("chemistry", 60, 60, Verdict::AskAgain)]
    fn a_membership_is_asked_about_again_and_ends(
        #[case] group: &str,
        #[case] told: u64,
        #[case] asked: u64,
        #[case] verdict: Verdict,
    ) {
        let access = Access {
            groups: Some(GroupAccess {
                names: vec!["physics".to_owned()],
                max_age_seconds: 900,
            }),
            ..Access::default()
        };
        let identity = Identity {
            groups: Groups {
                names: vec![NameDigest::of(group)],
                as_of: UnixSeconds(NOW.0 - told),
                asked_at: UnixSeconds(NOW.0 - asked),
            },
            ..user(None)
        };
        assert_eq!(judge(&access, &identity), verdict);
        let admitted = matches!(verdict, Verdict::Allow | Verdict::AllowForNow);
        assert_eq!(Rules::new(&access).allow(&identity, NOW), admitted);
        // Who enters by another rule is not asked about groups.
        let listed = Access {
            emails: vec!["alice@example.org".parse().unwrap()],
            ..access
        };
        let identity = Identity {
            email: Some("alice@example.org".parse().unwrap()),
            ..identity
        };
        assert_eq!(judge(&listed, &identity), Verdict::Allow);
    }

    #[test]
    fn what_a_rule_is_about_is_known() {
        let none = Rules::new(&Access::default());
        assert!(!none.has_groups() && !none.pins_providers());
        let some = Rules::new(&Access {
            groups: Some(GroupAccess {
                names: vec!["physics".to_owned()],
                max_age_seconds: 900,
            }),
            identity_providers: vec!["idp-lab".to_owned()],
            ..Access::default()
        });
        assert!(some.has_groups() && some.pins_providers());
        let groups = some.groups_among(["chemistry", "physics"].into_iter(), NOW);
        assert_eq!(groups.names, [NameDigest::of("physics")]);
        assert_eq!((groups.as_of, groups.asked_at), (NOW, NOW));
    }

    #[test]
    fn headers_name_the_groups_that_rules_name() {
        let access = Access {
            groups: Some(GroupAccess {
                names: vec!["physics".to_owned(), "art".to_owned()],
                max_age_seconds: 900,
            }),
            ..Access::default()
        };
        let identity = Identity {
            groups: Groups {
                names: ["physics", "chemistry", "art"].map(NameDigest::of).to_vec(),
                ..Groups::default()
            },
            ..user(None)
        };
        assert_eq!(
            Rules::new(&access).group_names(&identity),
            ["art", "physics"]
        );
    }

    fn route(path: &str, path_match: PathMatch) -> Rules {
        Rules::new(&Access {
            public: vec![PublicRoute {
                path: path.to_owned(),
                path_match,
                methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            }],
            ..Access::default()
        })
    }

    #[rstest]
    #[case("/public", true)]
    #[case("/public/", true)]
    #[case("/public/a.css", true)]
    #[case("/public/a/b", true)]
    #[case("/publicity", false)]
    #[case("/Public", false)]
    #[case("/secret", false)]
    #[case("/secret/public", false)]
    #[case("/", false)]
    #[case("", false)]
    #[case("*", false)]
    #[case("//public", false)]
    #[case("/public//a", false)]
    #[case("/public/../secret", false)]
    #[case("/public/./a", false)]
    #[case("/public/..", false)]
    #[case("/public/.../a", false)]
    #[case("/public/%2e%2e/secret", false)]
    #[case("/public/%2E./secret", false)]
    #[case("/public/..%2fsecret", false)]
    #[case("/public/%2Fsecret", false)]
    #[case("/public/%5c..%5csecret", false)]
    #[case("/public/\\..\\secret", false)]
    #[case("/public/..;/secret", false)]
    #[case("/public;x=1", false)]
    #[case("/public/%00", false)]
    #[case("/public/%252e%252e/secret", false)]
    #[case("/public/a%23b", false)]
    #[case("/public/a%3fb", false)]
    #[case("/public/name.", false)]
    #[case("/public/\u{ff0e}\u{ff0e}/secret", false)]
    fn a_prefix_covers_what_lies_below_it_and_nothing_ambiguous(
        #[case] path: &str,
        #[case] public: bool,
    ) {
        for prefix in ["/public", "/public/"] {
            let rules = route(prefix, PathMatch::Prefix);
            assert_eq!(rules.is_public(&Method::GET, path), public);
            assert_eq!(rules.is_public(&Method::HEAD, path), public);
            assert!(!rules.is_public(&Method::POST, path));
            assert!(!rules.is_public(&Method::OPTIONS, path));
        }
    }

    #[rstest]
    #[case("/health", true)]
    #[case("/health/", false)]
    #[case("/health/x", false)]
    #[case("/healthz", false)]
    #[case("/%68ealth", false)]
    fn an_exact_path_is_that_path(#[case] path: &str, #[case] public: bool) {
        let rules = route("/health", PathMatch::Exact);
        assert_eq!(rules.is_public(&Method::GET, path), public);
    }

    #[test]
    fn the_root_as_prefix_is_everything_that_is_not_ambiguous() {
        let rules = route("/", PathMatch::Prefix);
        assert!(rules.is_public(&Method::GET, "/"));
        assert!(rules.is_public(&Method::GET, "/a/b"));
        assert!(!rules.is_public(&Method::GET, "/a/../b"));
    }
}
