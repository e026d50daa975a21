//! Who may enter: by domain, group, provider, session and ServiceAccount, and what everybody may fetch.

use globus_auth_core::identity::ServiceAccount;
use globus_auth_core::oauth::globus::groups;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::sidecar_config::{
    Access, GroupAccess, IdentityHeaders, PathMatch, PublicRoute, ServiceAccountAccess,
    SharedSecret, SidecarConfig,
};
use globus_auth_tests::globus::config::{
    IdentityProvider, LinkedIdentity, Membership, ResourceServer, Scope,
};
use globus_auth_tests::globus::{
    Client, Config, Endpoint, Fault, FaultOrder, MintRequest, User, When,
};
use globus_auth_tests::harness::scripted::{self, Scripted};
use globus_auth_tests::harness::sidecar::{CLIENT_ID, EXTERNAL_URL, SESSION_COOKIE};
use globus_auth_tests::harness::stage::{ALICE, CAROL, MALLORY, Setup};
use globus_auth_tests::harness::{Browser, Stage, eventually};
use rstest::rstest;
use serde_json::{Value, json};

use crate::openid::OpenId;
use crate::signer::Signer;

/// A group of Globus.
const PHYSICS: &str = "0e8f1b7a-5c1d-11ef-9a3c-0a58a9feac02";
/// A scope of our own, whose tokens may be exchanged for tokens of Globus Groups.
const OUR_SCOPE: &str = "https://auth.globus.org/scopes/11111111-2222-4333-8444-555555555555/use";

fn only(change: impl FnOnce(&mut Access) + Send + 'static) -> Setup {
    Stage::setup().config(move |config| {
        config.access = Access::default();
        change(&mut config.access);
    })
}

/// Members of [`PHYSICS`] may enter; alice is one, by a linked identity.
fn physics(max_age_seconds: u32) -> Setup {
    let admit = move |config: &mut SidecarConfig| {
        config.access = Access {
            groups: Some(GroupAccess {
                names: vec![PHYSICS.to_owned()],
                max_age_seconds,
            }),
            ..Access::default()
        };
        config.provider.scopes.push(groups::SCOPE.to_owned());
    };
    Stage::setup().config(admit).globus(|mut globus| {
        globus.users.retain(|user| user.username != ALICE);
        globus.user(alice_in_physics())
    })
}

fn alice_in_physics() -> User {
    User::new(ALICE).linked(LinkedIdentity {
        groups: vec![Membership::active(PHYSICS)],
        ..LinkedIdentity::new("alice@uni.test")
    })
}

/// Makes our client a service that tokens are issued for, and that may ask Globus Groups about their users.
fn as_service(mut globus: Config) -> Config {
    let ours = |client: &Client| client.client_id == CLIENT_ID;
    if let Some(client) = globus.clients.iter_mut().find(|client| ours(client)) {
        client.resource_server = Some(CLIENT_ID.to_owned());
    }
    globus.resource_server(ResourceServer {
        name: CLIENT_ID.to_owned(),
        scopes: vec![Scope::new(OUR_SCOPE).depends_on(groups::SCOPE, false)],
    })
}

fn down() -> Fault {
    Fault::Status {
        status: 500,
        retry_after_seconds: None,
        when: When::Before,
    }
}

#[tokio::test]
async fn a_domain_admits_its_users_and_no_others() {
    let stage = only(|access| access.email_domains.push("example.org".parse().unwrap()))
        .start()
        .await;
    for username in [ALICE, CAROL] {
        stage.logged_in(username).await;
    }
    let refused = stage.browser().log_in_until_callback("/", MALLORY).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.set_cookie(SESSION_COOKIE), None);
}

#[tokio::test]
async fn anybody_authenticated_is_anybody_with_an_account() {
    let stage = only(|access| access.any_authenticated = true).start().await;
    stage.logged_in(MALLORY).await;
    assert_eq!(stage.browser().get("/").send().await.status, 401);
}

#[tokio::test]
async fn a_public_route_is_for_everybody_and_says_who_only_of_those_who_may_enter() {
    let route = PublicRoute {
        path: "/public".to_owned(),
        path_match: PathMatch::Prefix,
        methods: vec!["GET".to_owned(), "HEAD".to_owned()],
    };
    let stage = Stage::setup()
        .config(|config| config.access.public.push(route))
        .start()
        .await;
    let browser = stage.browser();
    let nobody = browser.get("/public/logo.svg");
    let nobody = nobody.header("x-forwarded-email", ALICE).send().await;
    assert_eq!(nobody.status, 200);
    let seen = nobody.reflection();
    assert_eq!(seen.target, "/public/logo.svg");
    assert_eq!(seen.values("x-forwarded-email").count(), 0);
    assert_eq!(seen.values("x-forwarded-user").count(), 0);

    let alice = stage.logged_in(ALICE).await.get("/public/x").send().await;
    let seen = alice.reflection();
    assert_eq!(
        seen.values("x-forwarded-email").collect::<Vec<_>>(),
        [ALICE]
    );

    // Somebody who may not enter is nobody here, and their token stays ours.
    let token = stage.token_of(MALLORY);
    let mallory = stage.browser().get("/public/x").bearer(&token).send().await;
    assert_eq!(mallory.status, 200);
    let seen = mallory.reflection();
    assert_eq!(seen.values("x-forwarded-email").count(), 0);
    assert_eq!(seen.values("authorization").count(), 0);

    for path in ["/private", "/public/../private", "/public%2f..%2fprivate"] {
        assert_eq!(stage.browser().get(path).send().await.status, 401, "{path}");
    }
    let post = stage.browser().post("/public/x", "body").send().await;
    assert_eq!(post.status, 401);
}

#[tokio::test]
async fn members_of_a_group_enter_also_by_a_linked_identity() {
    let stage = physics(900).start().await;
    let page = stage.browser().log_in("/", ALICE).await;
    let seen = page.reflection();
    assert_eq!(
        seen.values("x-forwarded-groups").collect::<Vec<_>>(),
        [PHYSICS]
    );
    let refused = stage.browser().log_in_until_callback("/", MALLORY).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.set_cookie(SESSION_COOKIE), None);
}

#[tokio::test]
async fn an_invitation_is_no_membership() {
    let stage = physics(900).start().await;
    let invited = Membership {
        status: "invited".to_owned(),
        ..Membership::active(PHYSICS)
    };
    stage
        .globus()
        .put_user(User {
            groups: vec![invited],
            ..User::new(MALLORY)
        })
        .unwrap();
    let refused = stage.browser().log_in_until_callback("/", MALLORY).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn whoever_leaves_the_group_is_out_when_the_membership_is_too_old() {
    let stage = physics(2).start().await;
    let alice = stage.logged_in(ALICE).await;
    stage.globus().put_user(User::new(ALICE)).unwrap();
    eventually("the membership to end", async || {
        let page = alice.get("/").send().await;
        (page.status == 401).then_some(())
    })
    .await;
    // A page goes to ask again, and comes back without a place.
    let page = alice.log_in_until_callback("/", ALICE).await;
    assert_eq!(page.status, 403, "{}", page.text());
}

#[tokio::test]
async fn while_groups_cannot_be_asked_about_nobody_new_enters_and_what_was_known_counts() {
    let stage = physics(900).start().await;
    stage.logged_in(ALICE).await;
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Groups, down()));
    let again = stage.browser().log_in("/", ALICE).await;
    assert_eq!(again.status, 200);
    let unknown = stage.browser().log_in_until_callback("/x", CAROL).await;
    assert_eq!(unknown.status, 503);
    assert_eq!(unknown.set_cookie(SESSION_COOKIE), None);
    assert!(
        unknown.text().contains("/oauth2/start?rd=%2Fx"),
        "{}",
        unknown.text()
    );
}

#[tokio::test]
async fn what_a_session_knew_of_groups_counts_after_a_restart_too() {
    let mut stage = physics(900).start().await;
    let alice = stage.logged_in(ALICE).await;
    stage.sidecar.restart().await;
    let alice = alice.at(stage.sidecar.address());
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Groups, down()));
    let page = alice
        .log_in_until_callback("/oauth2/start?rd=/deep", ALICE)
        .await;
    assert_eq!(page.status, 302, "{}", page.text());
    assert_eq!(alice.follow(&page).await.reflection().target, "/deep");
}

fn our_token(stage: &Stage, username: &str, consent: bool) -> String {
    stage.mint(&MintRequest {
        consent,
        ..MintRequest::new(username, CLIENT_ID).scope(OUR_SCOPE)
    })
}

#[tokio::test]
async fn tokens_of_members_are_accepted_once_they_let_us_ask_about_their_groups() {
    let stage = physics(900).globus(as_service).start().await;
    let ask = async |token: &str| stage.browser().get("/").bearer(token).send().await;

    let refused = ask(&our_token(&stage, ALICE, false)).await;
    assert_eq!(refused.status, 403);
    let error: Value = refused.json();
    assert_eq!(error["code"], "ConsentRequired");
    let scopes = &error["authorization_parameters"]["required_scopes"];
    assert_eq!(*scopes, json!([groups::SCOPE]));

    let admitted = ask(&our_token(&stage, ALICE, true)).await;
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let seen = admitted.reflection();
    assert_eq!(
        seen.values("x-forwarded-groups").collect::<Vec<_>>(),
        [PHYSICS]
    );

    assert_eq!(ask(&our_token(&stage, MALLORY, true)).await.status, 403);

    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Groups, down()));
    // Known of lately, and unknown.
    let fresh = our_token(&stage, ALICE, true);
    assert_eq!(ask(&fresh).await.status, 200);
    assert_eq!(ask(&our_token(&stage, CAROL, true)).await.status, 503);
}

#[tokio::test]
async fn only_identities_of_a_pinned_provider_count() {
    let lab = IdentityProvider {
        id: "idp-lab".to_owned(),
        display_name: "Laboratory".to_owned(),
    };
    let linked = LinkedIdentity {
        identity_provider: Some(lab),
        ..LinkedIdentity::new("alice@lab.test")
    };
    let stage = only(|access| {
        access.email_domains.push("lab.test".parse().unwrap());
        access.email_domains.push("example.org".parse().unwrap());
        access.identity_providers.push("idp-lab".to_owned());
    })
    .globus(|mut globus| {
        globus.users.retain(|user| user.username != ALICE);
        globus.user(User::new(ALICE).linked(linked))
    })
    .start()
    .await;
    let page = stage.browser().log_in("/", ALICE).await;
    let seen = page.reflection();
    assert_eq!(
        seen.values("x-forwarded-email").collect::<Vec<_>>(),
        ["alice@lab.test"]
    );
    // An address of a listed domain that another provider vouches for.
    let refused = stage.browser().log_in_until_callback("/", CAROL).await;
    assert_eq!(refused.status, 403);
}

fn require(requirements: SessionRequirements) -> Setup {
    Stage::setup().config(|config| config.provider.session_requirements = requirements)
}

fn second_factor() -> SessionRequirements {
    SessionRequirements {
        session_required_mfa: true,
        ..SessionRequirements::default()
    }
}

#[tokio::test]
async fn a_login_asks_for_the_required_session_and_counts_only_if_globus_confirms_it() {
    let requirements = SessionRequirements {
        session_required_single_domain: vec!["example.org".to_owned()],
        session_required_policies: vec!["policy-1".to_owned()],
        ..second_factor()
    };
    let stage = require(requirements)
        .globus(|mut globus| {
            globus.users.retain(|user| user.username != ALICE);
            globus.user(User {
                mfa: true,
                policies: vec!["policy-1".to_owned()],
                ..User::new(ALICE)
            })
        })
        .start()
        .await;
    let started = stage.browser().open("/").send().await;
    for parameter in [
        "session_required_single_domain=example.org",
        "session_required_policies=policy-1",
        "session_required_mfa=True",
    ] {
        assert!(started.location().contains(parameter), "{parameter}");
    }
    stage.logged_in(ALICE).await;

    let unmet = FaultOrder::new(Endpoint::Introspect, Fault::SessionPolicyNotMet);
    stage.globus().order_fault(unmet);
    let page = stage.browser().log_in_until_callback("/x", ALICE).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert_eq!(page.set_cookie(SESSION_COOKIE), None);
    stage.globus().clear_faults();

    // Nobody could be asked: nobody is logged in.
    stage
        .globus()
        .order_fault(FaultOrder::new(Endpoint::Introspect, down()));
    let page = stage.browser().log_in_until_callback("/x", ALICE).await;
    assert_eq!(page.status, 503, "{}", page.text());
    assert_eq!(page.set_cookie(SESSION_COOKIE), None);
}

#[tokio::test]
async fn a_token_of_a_lesser_session_hears_what_its_user_must_do() {
    let stage = require(second_factor()).start().await;
    let token = stage.token_of(ALICE);
    let refused = stage.browser().get("/").bearer(&token).send().await;
    assert_eq!(refused.status, 403);
    let error: Value = refused.json();
    assert_eq!(error["code"], "AuthorizationRequired");
    let parameters = &error["authorization_parameters"];
    assert_eq!(*parameters, json!({"session_required_mfa": true}));
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn a_new_requirement_ends_the_sessions_that_were_without_it() {
    let mut stage = Stage::start().await;
    let alice = stage.logged_in(ALICE).await;
    let require = |config: &mut SidecarConfig| {
        config.provider.session_requirements = second_factor();
    };
    stage.sidecar.reconfigure(require).await;
    assert_eq!(alice.get("/").send().await.status, 401);
}

/// A workload whose service at Globus asks for a policy.
async fn demanding() -> Scripted {
    Scripted::start(|_, _| {
        let error = json!({
            "code": "AuthorizationRequired",
            "authorization_parameters": {"session_required_policies": ["policy-1"], "session_message": "hello"},
        });
        scripted::json(403, &error)
    })
    .await
}

#[tokio::test]
async fn what_a_workload_demands_of_the_session_becomes_a_login_that_asks_for_it() {
    let workload = demanding().await;
    let stage = Stage::setup()
        .in_front_of(workload.address().port())
        .start()
        .await;
    let alice = stage.browser();
    alice.log_in_until_callback("/", ALICE).await;

    let page = alice.open("/deep?x=1").send().await;
    assert_eq!(page.status, 302);
    let sent_to = page.location();
    assert!(sent_to.starts_with(stage.globus().issuer()), "{sent_to}");
    assert!(sent_to.contains("session_required_policies=policy-1"));
    assert!(!sent_to.contains("hello"), "{sent_to}");

    // A page's script gets the error itself, and an address to show to its user.
    let script = alice.get("/api").send().await;
    assert_eq!(script.status, 403);
    let error: Value = script.json();
    assert_eq!(error["code"], "AuthorizationRequired");
    let login = script.header("x-globus-auth-login-url").to_owned();
    let login = login.strip_prefix(EXTERNAL_URL).unwrap();
    let started = alice.open(login).send().await;
    assert!(
        started
            .location()
            .contains("session_required_policies=policy-1")
    );

    // Nobody else can make up such an address.
    let made_up = format!("{}x", login.trim_end_matches(char::is_alphanumeric));
    for address in [&made_up, "/oauth2/start?rd=/&session_required_policies=x"] {
        let started = alice.open(address).send().await;
        assert!(
            !started.location().contains("session_required"),
            "{address}"
        );
    }
}

#[tokio::test]
async fn a_token_that_the_workload_refuses_or_whose_user_signs_out_is_asked_about_anew() {
    let workload = Scripted::start(|_, _| scripted::json(401, &json!({}))).await;
    let stage = Stage::setup()
        .in_front_of(workload.address().port())
        .start()
        .await;
    let token = stage.token_of(ALICE);
    let asked = || stage.globus().requests().count("introspect");
    for expected in 1..=3 {
        let refused = stage.browser().get("/").bearer(&token).send().await;
        assert_eq!(refused.status, 401);
        assert_eq!(asked(), expected);
    }
    // `/oauth2/auth` asks, and then knows; a sign-out forgets.
    let known = async || {
        stage
            .browser()
            .get("/oauth2/auth")
            .bearer(&token)
            .send()
            .await
    };
    assert_eq!((known().await.status.as_u16(), asked()), (202, 4));
    assert_eq!((known().await.status.as_u16(), asked()), (202, 4));
    stage
        .browser()
        .post("/oauth2/sign_out", "")
        .bearer(&token)
        .send()
        .await;
    assert_eq!((known().await.status.as_u16(), asked()), (202, 5));
}

/// A cluster's signing key.
struct Cluster(Signer);

const CLUSTER_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

impl Cluster {
    fn new() -> Self {
        Self(Signer::new())
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = json!({
            "iss": CLUSTER_ISSUER, "aud": [EXTERNAL_URL], "sub": "system:serviceaccount:train:trainer",
            "iat": now, "nbf": now, "exp": now + 3600,
            "kubernetes.io": {"namespace": "train", "serviceaccount": {"name": "trainer", "uid": "u"}},
        });
        change(&mut claims);
        self.0.sign(&claims)
    }
}

async fn with_service_account(cluster: &Cluster) -> Stage {
    let keys = cluster.0.key_set();
    only(move |access| {
        access.service_accounts = Some(ServiceAccountAccess {
            accounts: vec![ServiceAccount {
                namespace: "train".to_owned(),
                name: "trainer".to_owned(),
            }],
            issuer: CLUSTER_ISSUER.to_owned(),
            audience: EXTERNAL_URL.to_owned(),
            keys,
        });
    })
    .start()
    .await
}

#[tokio::test]
async fn a_listed_service_account_enters_with_a_token_for_this_proxy() {
    let cluster = Cluster::new();
    let stage = with_service_account(&cluster).await;
    let token = cluster.token(|_| {});
    let page = stage.browser().get("/").bearer(&token).send().await;
    assert_eq!(page.status, 200, "{}", page.text());
    let seen = page.reflection();
    assert_eq!(
        seen.values("x-forwarded-user").collect::<Vec<_>>(),
        ["system:serviceaccount:train:trainer"]
    );
    assert_eq!(seen.values("x-forwarded-email").count(), 0);
    assert_eq!(seen.values("authorization").count(), 0);
}

#[rstest]
#[case::for_the_api_server("aud", json!([CLUSTER_ISSUER]), 401)]
#[case::for_another_proxy("aud", json!(["https://other.test"]), 401)]
#[case::another_account("sub", json!("system:serviceaccount:train:default"), 403)]
#[case::another_namespace("sub", json!("system:serviceaccount:ml:trainer"), 403)]
#[case::a_user("sub", json!("trainer"), 401)]
#[case::too_many_parts("sub", json!("system:serviceaccount:x:train:trainer"), 401)]
#[case::no_name("sub", json!("system:serviceaccount:train:"), 401)]
#[case::expired("exp", json!(1), 401)]
#[case::not_yet("nbf", json!(9_999_999_999_u64), 401)]
#[case::another_issuer("iss", json!("https://evil.test"), 401)]
#[tokio::test]
async fn any_other_token_of_the_cluster_does_not(
    #[case] claim: &str,
    #[case] value: Value,
    #[case] status: u16,
) {
    let cluster = Cluster::new();
    let stage = with_service_account(&cluster).await;
    let token = cluster.token(|claims| claims[claim] = value);
    let page = stage.browser().get("/").bearer(&token).send().await;
    assert_eq!(page.status, status, "{}", page.text());
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn a_token_signed_by_somebody_else_does_not_either() {
    let stage = with_service_account(&Cluster::new()).await;
    let token = Cluster::new().token(|_| {});
    let page = stage.browser().get("/").bearer(&token).send().await;
    assert_eq!(page.status, 401);
}

async fn enters_with_a_small_cookie(browser: &Browser) {
    let cookie = browser.cookie(SESSION_COOKIE).unwrap();
    assert!(
        cookie.len() + SESSION_COOKIE.len() < 1024,
        "{}",
        cookie.len()
    );
    assert_eq!(browser.get("/").send().await.status, 200);
}

#[tokio::test]
async fn a_user_with_sixty_linked_identities_and_two_hundred_groups_has_a_small_cookie() {
    let names: Vec<String> = (0..200).map(|n| format!("group-{n:03}")).collect();
    let mut user = User::new(ALICE);
    for n in 0..60 {
        user = user.linked(LinkedIdentity::new(&format!("alice{n}@institute-{n}.test")));
    }
    for name in &names {
        user = user.member_of(name);
    }
    let stage = only(move |access| {
        access.groups = Some(GroupAccess {
            names,
            max_age_seconds: 900,
        });
    })
    .config(|config| config.provider.scopes.push(groups::SCOPE.to_owned()))
    .globus(|mut globus| {
        globus.users.retain(|user| user.username != ALICE);
        globus.user(user)
    })
    .start()
    .await;
    let alice = stage.logged_in(ALICE).await;
    enters_with_a_small_cookie(&alice).await;
}

#[rstest]
#[case::keycloak("/realm/department/project-")]
#[case::dex("organization:team-")]
#[tokio::test]
async fn a_token_with_very_many_groups_makes_a_small_cookie(#[case] prefix: &str) {
    let names: Vec<String> = (0..200).map(|n| format!("{prefix}{n:03}")).collect();
    let roles: Vec<String> = (0..400)
        .map(|n| format!("a-role-with-a-long-name-{n:03}"))
        .collect();
    let provider = OpenId::start_with(json!({
        "groups": names, "preferred_username": "alice", "name": "Alice Example",
        "realm_access": {"roles": roles},
    }))
    .await;
    let [first, last] = [names[0].clone(), names[199].clone()];
    let mut stage = only(move |access| {
        access.groups = Some(GroupAccess {
            names,
            max_age_seconds: 900,
        });
    })
    .config(provider.of())
    .config(|config| config.provider.groups_claim = Some("groups".to_owned()))
    .start()
    .await;
    let alice = provider.log_in(&stage).await;
    enters_with_a_small_cookie(&alice).await;
    // It is the membership that counts, wherever in the token it stands.
    set_group(&mut stage, format!("{prefix}200")).await;
    assert_eq!(alice.get("/").send().await.status, 403);
    for name in [first, last] {
        set_group(&mut stage, name).await;
        let alice = provider.log_in(&stage).await;
        assert_eq!(alice.get("/").send().await.status, 200);
    }
}

async fn set_group(stage: &mut Stage, name: String) {
    let names = |config: &mut SidecarConfig| {
        config.access.groups.as_mut().unwrap().names = vec![name];
    };
    stage.sidecar.reconfigure(names).await;
}

#[tokio::test]
async fn a_workload_with_headers_of_its_own_gets_them_from_the_proxy_only() {
    // As the MLflow bridge and Atlas have them.
    let stage = Stage::setup()
        .config(|config| {
            config.identity_headers = IdentityHeaders {
                email: vec!["X-Email".to_owned(), "X-User-Email".to_owned()],
                shared_secret: Some(SharedSecret {
                    header: "X-Proxy-Secret".to_owned(),
                    value: "canary shared secret".into(),
                }),
                ..IdentityHeaders::default()
            };
        })
        .start()
        .await;
    stage.sidecar.secrets().add("canary shared secret");
    let alice = stage.logged_in(ALICE).await;
    let mut request = alice.get("/");
    for name in ["X-User-Email", "X_User_Email", "x-email", "X-PROXY-SECRET"] {
        request = request.header(name, MALLORY);
    }
    let seen = request.send().await.reflection();
    for (name, value) in [
        ("x-email", ALICE),
        ("x-user-email", ALICE),
        ("x-proxy-secret", "canary shared secret"),
    ] {
        assert_eq!(seen.values(name).collect::<Vec<_>>(), [value], "{name}");
    }
    assert!(!seen.headers.iter().any(|(_, value)| value == MALLORY));
}
