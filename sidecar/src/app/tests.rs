//! Requests to the proxy as a handler: no sockets, no provider, a clock that a test moves.

use std::time::Duration;

use globus_auth_core::clock::{ManualClock, UnixSeconds};
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::session::Session;
use globus_auth_core::sidecar_config::{
    Access, Bearer, Exposure, HostHeader, IdentityHeaders, LogLevel, Operator, Protocol, Provider,
    ProviderKind, ProxyReference, SessionKey, SidecarConfig, Upstream as UpstreamConfig, VERSION,
};
use globus_auth_core::{
    email::Email,
    sealer::{KeyBytes, KeyId},
};
use rstest::rstest;

use super::*;
use crate::decide::Credentials;
use crate::origin::Origin;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const IDLE: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const ALICE: &str = "alice@example.org";
/// Nobody listens there, and no test may get so far.
const UPSTREAM_PORT: u16 = 9;

struct Stage {
    proxy: Proxy,
    clock: Arc<ManualClock>,
    tools: Tools,
}

fn config(emails: &[&str]) -> SidecarConfig {
    SidecarConfig {
        version: VERSION,
        proxy: ProxyReference {
            namespace: "ml".to_owned(),
            name: "mlflow".to_owned(),
            uid: "6d0f".to_owned(),
        },
        external_url: "https://app.test".parse().unwrap(),
        provider: Provider {
            kind: ProviderKind::Globus,
            issuer: "http://127.0.0.1:9".parse().unwrap(),
            client_id: "client".to_owned(),
            client_secret: "secret".into(),
            scopes: vec![],
            email_verification: EmailVerification::IfPresent,
            groups_claim: None,
            session_requirements: SessionRequirements::default(),
        },
        access: Access {
            emails: emails.iter().map(|email| email.parse().unwrap()).collect(),
            ..Access::default()
        },
        session: globus_auth_core::sidecar_config::Session {
            idle_timeout_seconds: u32::try_from(IDLE.as_secs()).unwrap(),
            absolute_timeout_seconds: 86_400,
        },
        bearer: Bearer {
            introspection: false,
            jwt: vec![],
        },
        upstream: UpstreamConfig {
            host_header: HostHeader::External,
            exposure: Exposure::Report,
            protocol: Protocol::HTTP1,
            max_request_body_bytes: None,
            response_timeout_seconds: None,
        },
        identity_headers: IdentityHeaders::default(),
        tls: None,
        tracing: None,
        vault: None,
        session_keys: vec![SessionKey {
            id: KeyId(1),
            key: KeyBytes::new([7; 32]).into(),
        }],
        operator: Operator {
            url: "https://127.0.0.1:9".to_owned(),
            certificate_authorities: include_str!("../../../tests/src/harness/authority.pem")
                .to_owned(),
        },
        log_level: LogLevel::Info,
    }
}

impl Stage {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let tools = Tools {
            http: HttpClient::with_system_roots().unwrap(),
            clock: Arc::<ManualClock>::clone(&clock),
            metrics: Metrics::default(),
            vault_token: None,
        };
        let live = live(&tools, &[ALICE]);
        let upstream = Upstream::new(Some(Origin::Loopback(UPSTREAM_PORT))).unwrap();
        let app = App::new(live, upstream, &tools);
        Self {
            proxy: Proxy::new(Arc::new(app)),
            clock,
            tools,
        }
    }

    /// The value of a session cookie for `email`.
    fn session(&self, email: &str) -> String {
        let email: Email = email.parse().unwrap();
        let identity = Identity {
            subject: "c2f5".to_owned(),
            email: Some(email),
            username: ALICE.to_owned(),
            name: None,
            ..Identity::default()
        };
        let session =
            Session::start(identity, self.proxy.app.live().limits, self.clock.now()).unwrap();
        session.seal(&self.proxy.app.live().sessions).unwrap()
    }

    fn allow(&self, emails: &[&str]) {
        self.proxy.app.set_live(live(&self.tools, emails));
    }

    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = Peer::new("192.0.2.1:1".parse().unwrap()).unwrap();
        let request = request.body(Body::empty()).unwrap();
        self.proxy.serve(request, &peer).await
    }

    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
        self.ask("GET", target, headers).await
    }
}

fn live(tools: &Tools, emails: &[&str]) -> Live {
    Live::new(config(emails), "hash".to_owned(), None, tools).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

fn cookie_of(value: &str) -> String {
    format!("{}={value}", cookie::SESSION)
}

#[rstest]
#[case::a_program("/api", &[])]
#[case::a_post_would_lose_its_body("/", &[("accept", "text/html")])]
#[case::a_script("/api", &[("sec-fetch-mode", "cors"), ("accept", "text/html")])]
#[case::a_cookie_that_is_none("/api", &[("cookie", "__Host-globus-auth=x")])]
#[case::another_scheme("/api", &[("authorization", "Basic YTpi")])]
#[tokio::test]
async fn whoever_has_no_credentials_is_told_how_to_come_by_them(
    #[case] target: &str,
    #[case] headers: &[(&str, &str)],
) {
    let stage = Stage::new();
    let response = stage.ask("POST", target, headers).await;
    assert_eq!(response.status(), 401);
    assert_eq!(
        header(&response, "www-authenticate"),
        "Bearer realm=\"mlflow\""
    );
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "location"), "");
}

#[tokio::test]
async fn a_token_that_counts_nowhere_is_answered_in_json_also_to_a_browser() {
    let stage = Stage::new();
    let headers = [("authorization", "Bearer x"), ("accept", "text/html")];
    let response = stage.get("/", &headers).await;
    assert_eq!(response.status(), 401);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(
        header(&response, "www-authenticate"),
        "Bearer realm=\"mlflow\", error=\"invalid_token\""
    );
}

#[rstest]
#[case("CONNECT", "app.test:443")]
#[case("CONNECT", "/")]
#[case("OPTIONS", "*")]
#[tokio::test]
async fn a_target_that_is_no_path_is_refused_also_with_a_session(
    #[case] method: &str,
    #[case] target: &str,
) {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    let response = stage.ask(method, target, &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), 400);
}

#[rstest]
#[case("/ping", 200)]
#[case("/ready", 200)]
#[case("/robots.txt", 200)]
#[case("/ping/", 401)]
#[case("/Ping", 401)]
#[case("//ping", 401)]
#[case("/x?/ping", 401)]
#[case("/%70ing", 401)]
#[tokio::test]
async fn three_paths_and_no_other_spelling_of_them_are_for_anybody(
    #[case] target: &str,
    #[case] status: u16,
) {
    let stage = Stage::new();
    assert_eq!(stage.get(target, &[]).await.status(), status);
    let with_token = stage.get(target, &[("authorization", "Bearer x")]).await;
    assert_eq!(with_token.status(), 401);
}

#[rstest]
#[case("/oauth2/auth", 401, 202)]
#[case("/oauth2/userinfo", 401, 200)]
#[case("/oauth2/sign_in", 200, 200)]
#[case("/oauth2/nothing", 404, 404)]
#[case("/oauth2/", 404, 404)]
#[tokio::test]
async fn our_own_endpoints_answer_for_themselves(
    #[case] target: &str,
    #[case] without: u16,
    #[case] with: u16,
) {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    assert_eq!(stage.get(target, &[]).await.status(), without);
    assert_eq!(
        stage.get(target, &[("cookie", &cookie)]).await.status(),
        with
    );
}

#[tokio::test]
async fn a_session_counts_until_it_is_idle_for_too_long() {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    stage.clock.advance(IDLE.saturating_sub(SECOND));
    let in_time = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
    assert_eq!(in_time.status(), 202);
    // It was seen, and the browser is given the newer one.
    assert!(header(&in_time, "set-cookie").starts_with("__Host-globus-auth="));
    stage.clock.advance(SECOND);
    let late = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
    assert_eq!(late.status(), 401);
}

/// What lets somebody through.
fn permit(credentials: Credentials, app: &App) -> Permit {
    let asked = Asked {
        intent: Intent::Program,
        route: None,
    };
    let decision = decide(credentials, asked, &app.live().rules, app.clock.now());
    let Decision::Forward(permit) = decision else {
        panic!("{decision:?}")
    };
    permit
}

#[rstest]
#[case::a_session(true, Duration::from_hours(24))]
#[case::a_token(false, Duration::from_mins(5))]
#[tokio::test(start_paused = true)]
async fn what_is_open_ends_with_the_credentials_at_the_latest(
    #[case] by_session: bool,
    #[case] life: Duration,
) {
    let stage = Stage::new();
    let app = Arc::clone(&stage.proxy.app);
    let identity = Identity {
        subject: "c2f5".to_owned(),
        email: Some(ALICE.parse().unwrap()),
        ..Identity::default()
    };
    let now = stage.clock.now();
    let credentials = if by_session {
        Credentials::Session(Session::start(identity, app.live().limits, now).unwrap())
    } else {
        Credentials::Bearer(identity, now.after(life))
    };
    let permit = permit(credentials, &app);
    let open = tokio::spawn(async move { app.no_longer_allowed(&permit).await });
    // A session in use is not idle, although no request with its cookie comes.
    stage.clock.advance(life.saturating_sub(SECOND));
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(!open.is_finished());
    stage.clock.advance(SECOND);
    tokio::time::timeout(Duration::from_secs(61), open)
        .await
        .expect("time ends what is open")
        .unwrap();
}

#[tokio::test]
async fn somebody_who_leaves_the_list_is_out_with_the_next_request() {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    stage.allow(&["bob@example.org"]);
    let response = stage.get("/", &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), 403);
    assert!(header(&response, "set-cookie").contains("Max-Age=0"));
    stage.allow(&["Alice@Example.ORG"]);
    let response = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_session_that_signed_out_is_dead_in_every_copy() {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    let other = cookie_of(&stage.session(ALICE));
    let response = stage.get("/oauth2/sign_out", &[("cookie", &cookie)]).await;
    assert!(header(&response, "set-cookie").contains("Max-Age=0"));
    for (cookie, status) in [(cookie, 401), (other, 202)] {
        let response = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
        assert_eq!(response.status(), status);
    }
}

#[rstest]
#[case("same-origin", 401)]
#[case("none", 401)]
#[case("same-site", 202)]
#[case("cross-site", 202)]
#[tokio::test]
async fn another_site_cannot_sign_anybody_out(#[case] site: &str, #[case] after: u16) {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    let headers = [("cookie", cookie.as_str()), ("sec-fetch-site", site)];
    stage.get("/oauth2/sign_out", &headers).await;
    let response = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), after);
}

#[rstest]
#[case("allowed_emails=bob@example.org", 403)]
#[case("allowed_emails=bob@example.org,ALICE@example.org", 202)]
#[case("allowed_email_domains=example.com", 403)]
#[case("allowed_email_domains=example.org", 202)]
#[case("allowed_groups=g", 403)]
#[case("allowed_emails=alice@example.org&allowed_groups=g", 403)]
#[tokio::test]
async fn a_query_can_only_narrow_who_may_pass(#[case] query: &str, #[case] status: u16) {
    let stage = Stage::new();
    let cookie = cookie_of(&stage.session(ALICE));
    let target = format!("/oauth2/auth?{query}");
    let response = stage.get(&target, &[("cookie", &cookie)]).await;
    assert_eq!(response.status(), status);
}

#[tokio::test]
async fn a_cookie_of_another_key_is_no_session() {
    let (stage, other) = (Stage::new(), Stage::new());
    let mut config = config(&[ALICE]);
    config.session_keys[0].key = KeyBytes::new([8; 32]).into();
    let live = Live::new(config, "other".to_owned(), None, &other.tools).unwrap();
    other.proxy.app.set_live(live);
    let cookie = cookie_of(&other.session(ALICE));
    for (stage, status) in [(&other, 202), (&stage, 401)] {
        let response = stage.get("/oauth2/auth", &[("cookie", &cookie)]).await;
        assert_eq!(response.status(), status);
    }
}
