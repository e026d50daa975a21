//! Users' tokens: from a login, through the vault, to the workload.

mod admin;
mod bearer;
mod connect;
mod consent;
mod crash;
mod delegation;
mod rejected;

use std::fmt::Write as _;

use globus_auth_core::sidecar_config::{DeliveredToken, GrantType, TokenRoute};
use globus_auth_core::vault_api::{
    CONNECTIONS, Connection, ConnectionsRequest, ConnectionsResponse, DISCONNECT,
    DisconnectRequest, LOGINS, LoginRequest, LoginResponse, OWN_TOKENS, OwnTokenRequest, Refusal,
    SESSIONS, SessionRequest, SessionResponse, TOKENS, TokenAnswer, TokenRequest, fingerprint,
};
use globus_auth_core::vault_config::{Consumer, Rotation};
use globus_auth_tests::echo::Reflection;
use globus_auth_tests::globus::Revocation;
use globus_auth_tests::globus::config::{ResourceServer, Scope};
use globus_auth_tests::harness::secrets::Secrets;
use globus_auth_tests::harness::sidecar::{CLIENT_ID, EXTERNAL_URL};
use globus_auth_tests::harness::stage::{ALICE, CAROL, MALLORY, OTHER_SCOPE, OTHER_SERVICE};
use globus_auth_tests::harness::vault::{POD, Pod, key, keyring};
use globus_auth_tests::harness::wire::Wire;
use globus_auth_tests::harness::{Browser, Page, Setup, Stage, eventually, postgresql};
use http::StatusCode;
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

const FLOWS: &str = "flows.globus.org";
const FLOWS_SCOPE: &str =
    "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_status";
/// Another replica of the same workload.
const REPLICA: Pod = Pod {
    uid: "pod-2",
    ..POD
};
/// Another workload.
const OTHER_WORKLOAD: Pod = Pod {
    namespace: "ml",
    service_account: "other",
    uid: "pod-3",
};

fn token(name: &str, resource_server: &str, scope: &str) -> DeliveredToken {
    DeliveredToken {
        name: name.to_owned(),
        resource_server: resource_server.to_owned(),
        scopes: vec![scope.to_owned()],
        issuer: None,
        grant_type: GrantType::AuthorizationCode,
        header: None,
        route: None,
        file: None,
        delegation: None,
    }
}

/// A vault from which the workload gets two tokens: one by header and by route, one by header.
fn setup() -> Setup {
    Stage::setup()
        .globus(|globus| {
            globus.resource_server(ResourceServer {
                name: FLOWS.to_owned(),
                scopes: vec![Scope::new(FLOWS_SCOPE)],
            })
        })
        .vault(|upstream| {
            vec![
                DeliveredToken {
                    header: Some("X-Token-Alcf".to_owned()),
                    route: Some(TokenRoute {
                        prefix: "/alcf".to_owned(),
                        upstream: format!("http://{upstream}").parse().unwrap(),
                    }),
                    ..token("alcf", OTHER_SERVICE, OTHER_SCOPE)
                },
                DeliveredToken {
                    header: Some("X-Token-Flows".to_owned()),
                    ..token("flows", FLOWS, FLOWS_SCOPE)
                },
            ]
        })
}

/// What the workload got with a request of a user.
struct Got {
    alcf: Option<String>,
    flows: Option<String>,
    pass: Option<String>,
}

async fn got(browser: &Browser) -> Got {
    let page = browser.get("/reflect").send().await;
    assert_eq!(page.status, 200, "{page:?}");
    let reflection = page.reflection();
    let one = |name| {
        let values: Vec<_> = reflection.values(name).collect();
        assert!(values.len() < 2, "{values:?}");
        values.first().map(|&value| value.to_owned())
    };
    Got {
        alcf: one("X-Token-Alcf"),
        flows: one("X-Token-Flows"),
        pass: one("X-Globus-Auth-Session"),
    }
}

/// Asks through the loopback route, as the workload does.
async fn through_route(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let address = stage.sidecar.outbound().await;
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        write!(request, "Host: {address}\r\n").unwrap();
    }
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    let answer = Wire::connect(address)
        .await
        .ask(&format!("{request}\r\n"))
        .await;
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or_default(),
    )
}

fn refreshes(stage: &Stage) -> u64 {
    stage.globus().requests().count("token/refresh_token")
}

/// Trades a login for a handle, and asks for the token of [`OTHER_SERVICE`] with it.
async fn handle_of(stage: &Stage, pod: Pod, session: &str) -> Result<String, StatusCode> {
    let request = SessionRequest {
        session: session.into(),
    };
    let opened: Result<SessionResponse, _> = stage.vault().ask(pod, SESSIONS, &request).await;
    opened
        .map(|opened| opened.handle.expose_secret().to_owned())
        .map_err(|(status, _)| status)
}

async fn token_for(
    stage: &Stage,
    pod: Pod,
    handle: &str,
    resource_server: &str,
) -> Result<TokenAnswer, (StatusCode, Refusal)> {
    let request = TokenRequest {
        handle: handle.into(),
        resource_server: resource_server.to_owned(),
        scopes: vec![],
        rejected: None,
        subject_token: None,
    };
    stage.vault().ask(pod, TOKENS, &request).await
}

/// Logs in at the vault as a sidecar does, without one, and lets the workload use what came: the session that a
/// browser would hold.
async fn log_in(stage: &Stage, pod: Pod, username: &str) -> Result<String, StatusCode> {
    let session = log_in_only(stage, pod, username).await?;
    stage.vault().allow_all(pod, &session).await;
    Ok(session)
}

async fn log_in_only(stage: &Stage, pod: Pod, username: &str) -> Result<String, StatusCode> {
    let scope = format!("openid email {OTHER_SCOPE} {FLOWS_SCOPE}");
    let vault = stage.vault();
    vault.log_in(stage.globus(), pod, username, &scope).await
}

/// Scenarios 2 and 3 of ALCF inference.
#[tokio::test]
async fn a_workload_gets_the_tokens_of_its_user_by_header_and_by_route() {
    let stage = setup().start().await;
    let alice = stage.logged_in(ALICE).await;
    let got = got(&alice).await;
    let (alcf, flows) = (got.alcf.unwrap(), got.flows.unwrap());
    assert_ne!(alcf, flows);
    let pass = got.pass.unwrap();
    let (status, reflection) = through_route(
        &stage,
        "/alcf/v1/models?x=%2F",
        &[
            ("X-Globus-Auth-Session", &pass),
            ("Authorization", "Bearer mine"),
        ],
    )
    .await;
    assert_eq!(status, 200, "{reflection}");
    let reflection: Reflection = serde_json::from_value(reflection).unwrap();
    assert_eq!(reflection.target, "/v1/models?x=%2F");
    let sent: Vec<_> = reflection.values("Authorization").collect();
    assert_eq!(sent, [format!("Bearer {alcf}")]);
    assert_eq!(reflection.values("X-Globus-Auth-Session").count(), 0);
}

#[tokio::test]
async fn each_user_has_their_own_tokens_and_nobody_else_has_any() {
    let stage = setup().start().await;
    let (alice, carol) = (stage.logged_in(ALICE).await, stage.logged_in(CAROL).await);
    let (hers, theirs) = (got(&alice).await, got(&carol).await);
    assert_ne!(hers.alcf, theirs.alcf);
    assert_ne!(hers.pass, theirs.pass);
    // A token that is told by a client is not one.
    let page = alice
        .get("/reflect")
        .header("X-Token-Alcf", "forged")
        .header("X_Token_Flows", "forged")
        .header("X-Globus-Auth-Session", "forged")
        .send()
        .await;
    assert!(!page.text().contains("forged"), "{}", page.text());
}

#[rstest]
#[case::no_pass("/alcf/v1", &[], 401, "login_required")]
#[case::no_pass_of_ours("/alcf/v1", &[("X-Globus-Auth-Session", "made up")], 401, "login_required")]
#[case::no_route("/other/v1", &[], 404, "no_route")]
#[case::a_prefix_of_a_name("/alcfx/v1", &[], 404, "no_route")]
#[case::out_of_the_route("/alcf/../other", &[], 404, "no_route")]
#[case::rebinding("/alcf/v1", &[("Host", "evil.example:80")], 403, "foreign_origin")]
#[case::a_page("/alcf/v1", &[("Origin", "https://evil.example")], 403, "foreign_origin")]
#[tokio::test]
async fn the_loopback_route_sends_nothing_for_nobody(
    #[case] path: &str,
    #[case] headers: &[(&str, &str)],
    #[case] status: u16,
    #[case] error: &str,
) {
    let stage = setup().start().await;
    stage.logged_in(ALICE).await;
    let before = stage.upstream().requests();
    let (answered, body) = through_route(&stage, path, headers).await;
    assert_eq!((answered, body["error"].as_str()), (status, Some(error)));
    assert_eq!(stage.upstream().requests(), before);
}

#[tokio::test]
async fn a_pass_is_of_no_use_after_the_sign_out_or_off_the_list() {
    let mut stage = setup().start().await;
    let (alice, carol) = (stage.logged_in(ALICE).await, stage.logged_in(CAROL).await);
    let passes = [
        got(&alice).await.pass.unwrap(),
        got(&carol).await.pass.unwrap(),
    ];
    alice.get("/oauth2/sign_out").send().await;
    stage
        .sidecar
        .reconfigure(|config| config.access.emails.clear())
        .await;
    for pass in &passes {
        let headers = [("X-Globus-Auth-Session", pass.as_str())];
        assert_eq!(through_route(&stage, "/alcf/v1", &headers).await.0, 401);
    }
}

/// Scenario 9: the tokens are taken back at the issuer, and the vault has nothing any more.
#[tokio::test]
async fn a_sign_out_takes_back_what_the_login_gave() {
    let stage = setup().start().await;
    let alice = stage.logged_in(ALICE).await;
    got(&alice).await;
    alice.get("/oauth2/sign_out").send().await;
    eventually("every token to be taken back", async || {
        let revoked = stage.globus().requests().count("revoke");
        (revoked >= 4).then_some(())
    })
    .await;
}

/// Scenario 4, on one replica; those on three are tests of the refresher.
#[tokio::test]
async fn fifty_requests_at_expiry_cause_one_refresh() {
    let stage = setup()
        .globus(|globus| globus_auth_tests::globus::Config {
            access_token_lifetime_seconds: 5,
            ..globus
        })
        .start()
        .await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let first = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    let TokenAnswer::Token(first) = first else {
        panic!("{first:?}");
    };
    let before = refreshes(&stage);
    let rejected = Some(fingerprint(&first.access_token));
    let requests = (0..50).map(|_| {
        let request = TokenRequest {
            handle: handle.as_str().into(),
            resource_server: OTHER_SERVICE.to_owned(),
            scopes: vec![],
            rejected: rejected.clone(),
            subject_token: None,
        };
        let stage = &stage;
        async move {
            let answer: Result<TokenAnswer, _> = stage.vault().ask(POD, TOKENS, &request).await;
            let Ok(TokenAnswer::Token(token)) = answer else {
                panic!("{answer:?}");
            };
            token.access_token.expose_secret().to_owned()
        }
    });
    let tokens = futures_util::future::join_all(requests).await;
    assert!(
        tokens
            .iter()
            .all(|token| token != first.access_token.expose_secret())
    );
    assert_eq!(refreshes(&stage) - before, 1);
}

#[tokio::test]
async fn a_handle_works_in_its_pod_only_and_a_session_in_its_workload_only() {
    let stage = setup()
        .vault_config(|config| {
            config.consumers.push(Consumer {
                namespace: "ml".to_owned(),
                service_account: "other".to_owned(),
                resource_servers: vec![OTHER_SERVICE.to_owned()],
                client_credentials: vec![],
                delegation_days: None,
            });
        })
        .start()
        .await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    assert!(token_for(&stage, POD, &handle, OTHER_SERVICE).await.is_ok());
    // Another replica has to trade the session itself.
    let stolen = token_for(&stage, REPLICA, &handle, OTHER_SERVICE)
        .await
        .unwrap_err();
    let unknown = token_for(&stage, REPLICA, "no handle", OTHER_SERVICE)
        .await
        .unwrap_err();
    assert_eq!(stolen, unknown);
    assert_eq!(stolen.0, StatusCode::FORBIDDEN);
    assert!(handle_of(&stage, REPLICA, &session).await.is_ok());
    // Another workload gets nothing for it, and hears what it would hear for a session that is none.
    assert_eq!(
        handle_of(&stage, OTHER_WORKLOAD, &session).await,
        Err(StatusCode::FORBIDDEN)
    );
    assert_eq!(
        handle_of(&stage, OTHER_WORKLOAD, "no session").await,
        Err(StatusCode::FORBIDDEN)
    );
    let foreign = token_for(&stage, OTHER_WORKLOAD, &handle, OTHER_SERVICE)
        .await
        .unwrap_err();
    assert_eq!(foreign, unknown);
}

#[tokio::test]
async fn what_the_policy_does_not_name_is_refused() {
    let stage = setup().start().await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let refused = token_for(&stage, POD, &handle, "auth.globus.org")
        .await
        .unwrap_err();
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    let stranger = Pod {
        namespace: "elsewhere",
        ..POD
    };
    assert_eq!(
        log_in(&stage, stranger, ALICE).await,
        Err(StatusCode::FORBIDDEN)
    );
}

#[tokio::test]
async fn a_token_of_another_audience_or_none_is_not_taken() {
    let stage = setup().start().await;
    let request = SessionRequest {
        session: "any".into(),
    };
    for token in ["", "nonsense", "ml/app/pod-1/tokenvault.other.auth"] {
        let (status, _) = stage.vault().send(token, SESSIONS, &request).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?}");
    }
}

#[tokio::test]
async fn a_connection_is_shown_and_taken_back() {
    let stage = setup().start().await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let connections = async || {
        let request = ConnectionsRequest {
            handle: handle.as_str().into(),
        };
        let shown: Result<ConnectionsResponse, _> =
            stage.vault().ask(POD, CONNECTIONS, &request).await;
        let shown: Vec<Connection> = shown.unwrap().connections;
        shown
            .into_iter()
            .map(|one| (one.resource_server, one.state))
            .collect::<Vec<_>>()
    };
    let active = |name: &str| (name.to_owned(), "active".to_owned());
    assert_eq!(connections().await, [active(OTHER_SERVICE), active(FLOWS)]);
    let request = DisconnectRequest {
        handle: handle.as_str().into(),
        resource_server: OTHER_SERVICE.to_owned(),
    };
    let done: Result<(), _> = stage.vault().ask(POD, DISCONNECT, &request).await;
    done.unwrap();
    assert_eq!(connections().await, [active(FLOWS)]);
    assert_eq!(stage.globus().requests().count("revoke"), 2);
    let again = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    assert!(matches!(
        again,
        TokenAnswer::ReauthenticationRequired { .. }
    ));
}

#[tokio::test]
async fn a_user_sees_and_takes_back_what_is_connected() {
    let stage = setup().start().await;
    let alice = stage.logged_in(ALICE).await;
    let page = alice.open("/oauth2/connections").send().await;
    assert_eq!(page.status, 200, "{page:?}");
    let text = page.text();
    assert!(
        text.contains("Connected services") && text.contains(ALICE),
        "{text}"
    );
    assert!(
        text.contains("<h2>alcf</h2>") && text.contains(OTHER_SCOPE),
        "{text}"
    );
    assert!(text.contains("Disconnect alcf"), "{text}");
    let form = format!("disconnect={OTHER_SERVICE}");
    // Another site cannot do it for the user.
    let foreign = alice
        .post("/oauth2/connections", form.clone())
        .header("Sec-Fetch-Site", "cross-site")
        .send()
        .await;
    assert_eq!(foreign.status, 403);
    let done = alice.post("/oauth2/connections", form).send().await;
    assert_eq!(
        (done.status.as_u16(), &done.headers["location"]),
        (303, &"/oauth2/connections".parse().unwrap())
    );
    let text = alice.open("/oauth2/connections").send().await.text();
    assert!(
        text.contains("Not connected") && !text.contains("Disconnect alcf"),
        "{text}"
    );
    assert!(got(&alice).await.alcf.is_none());
    // A stranger is asked to log in; without a vault there is no such page.
    assert_eq!(
        stage
            .browser()
            .open("/oauth2/connections")
            .send()
            .await
            .status,
        302
    );
    let without = Stage::start().await;
    let page = without
        .logged_in(ALICE)
        .await
        .get("/oauth2/connections")
        .send()
        .await;
    assert_eq!(page.status, 404);
}

#[tokio::test]
async fn a_code_is_redeemed_once() {
    let stage = setup().start().await;
    let code = "a code that somebody has seen";
    let request = LoginRequest {
        issuer: stage.globus().issuer().to_owned(),
        client_id: CLIENT_ID.to_owned(),
        redirect_uri: format!("{EXTERNAL_URL}/oauth2/callback"),
        code: code.into(),
        code_verifier: "v".repeat(43).into(),
        nonce: "n".into(),
        session_seconds: None,
    };
    for _ in 0..2 {
        let answer: Result<LoginResponse, _> = stage.vault().ask(POD, LOGINS, &request).await;
        assert_eq!(answer.unwrap_err().0, StatusCode::FORBIDDEN);
    }
    assert_eq!(
        stage.globus().requests().count("token/authorization_code"),
        1
    );
}

#[tokio::test]
async fn no_token_is_in_the_database_and_a_wrong_key_changes_nothing() {
    let mut stage = setup().start().await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let answer = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    let TokenAnswer::Token(token) = answer else {
        panic!("{answer:?}");
    };
    let issued = stage.globus().issued();
    let vault = stage.vault.as_mut().unwrap();
    let contains = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    let before = vault.database();
    assert!(contains(&before, OTHER_SERVICE));
    for secret in [token.access_token.expose_secret(), &session, &handle] {
        assert!(!contains(&before, secret));
    }
    assert!(issued.iter().any(|one| one.is_refresh_token));
    assert!(!issued.iter().any(|one| contains(&before, &one.token)));
    let said = vault
        .refuses_to_start_with(&keyring(&Secrets::default()))
        .await;
    assert!(
        said.contains("is not the one with which the database was written"),
        "{said}"
    );
    let said = vault.refuses_to_start_with(b"{}").await;
    assert!(
        said.contains("the key ring is not JSON of the form"),
        "{said}"
    );
    vault.restart(None).await;
    assert!(token_for(&stage, POD, &handle, OTHER_SERVICE).await.is_ok());
}

/// A stage at whose vault somebody has a token, of which the resource server will hear no more; and what
/// asks for another.
async fn rejected_token(setup: Setup, grace: Option<u32>) -> (Stage, TokenRequest, String) {
    let rotation = grace.map_or(Rotation::Never, |grace_seconds| Rotation::Rotates {
        grace_seconds,
    });
    let stage = setup
        .globus(|globus| globus_auth_tests::globus::Config {
            rotate_refresh_tokens: grace.is_some(),
            refresh_token_grace_seconds: grace.unwrap_or_default(),
            ..globus
        })
        .vault_config(move |config| config.issuers[0].rotation = rotation)
        .start()
        .await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let answer = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    let TokenAnswer::Token(first) = answer else {
        panic!("{answer:?}");
    };
    let request = TokenRequest {
        handle: handle.as_str().into(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![],
        rejected: Some(fingerprint(&first.access_token)),
        subject_token: None,
    };
    (
        stage,
        request,
        first.access_token.expose_secret().to_owned(),
    )
}

/// What must come after a process has died before `step`.
fn assert_outcome(
    stage: &Stage,
    answer: &TokenAnswer,
    first: &str,
    step: &str,
    grace: Option<u32>,
) {
    // The token is spent, and nobody knows, where the process died between sending it and storing what
    // came; where it died before sending, nobody knows that it was not sent.
    let is_lost = grace == Some(0) && matches!(step, "redeem" | "store");
    match answer {
        TokenAnswer::Token(token) => {
            assert!(!is_lost, "{step} {grace:?}");
            assert_ne!(token.access_token.expose_secret(), first);
        }
        TokenAnswer::ReauthenticationRequired { .. } => assert!(is_lost, "{step} {grace:?}"),
        TokenAnswer::ConsentRequired { .. } => panic!("the user has consented"),
    }
    // Nobody's blind second try has ended what came from the same login.
    let refused = stage
        .globus()
        .requests()
        .requests
        .into_iter()
        .filter(|record| {
            let reason = record.reason.as_deref().unwrap_or_default();
            reason.contains("used before")
        });
    assert_eq!(refused.count(), 0);
}

/// `kill -9` between every two steps of a refresh, for every way in which an issuer treats the token.
#[rstest]
#[tokio::test]
async fn dying_at_any_step_loses_no_token_that_the_issuer_would_still_take(
    #[values("claim", "redeem", "store", "stored")] step: &str,
    #[values(None, Some(0), Some(300))] grace: Option<u32>,
) {
    let (mut stage, request, first) = rejected_token(setup(), grace).await;
    stage.vault.as_mut().unwrap().restart(Some(step)).await;
    stage.vault().send_and_forget(POD, TOKENS, &request).await;
    stage.vault.as_mut().unwrap().died().await;
    stage.vault.as_mut().unwrap().restart(None).await;
    let answer: TokenAnswer = eventually("an answer after the death", async || {
        stage.vault().ask(POD, TOKENS, &request).await.ok()
    })
    .await;
    assert_outcome(&stage, &answer, &first, step, grace);
}

/// The same where two other replicas go on: they wait until the dead one's lease has ended.
#[rstest]
#[tokio::test]
async fn the_replicas_of_one_that_died_lose_no_token_that_the_issuer_would_still_take(
    #[values(None, Some(0), Some(300))] grace: Option<u32>,
) {
    let deaths = ["claim", "redeem", "store", "stored"].map(|step| async move {
        let setup = setup().vault_database(postgresql::database());
        let (mut stage, request, first) = rejected_token(setup, grace).await;
        let others = [stage.vault().replica().await, stage.vault().replica().await];
        stage.vault.as_mut().unwrap().restart(Some(step)).await;
        stage.vault().send_and_forget(POD, TOKENS, &request).await;
        stage.vault.as_mut().unwrap().died().await;
        let answers = others.each_ref().map(|replica| {
            eventually("an answer of another replica", async || {
                replica.ask::<TokenAnswer>(POD, TOKENS, &request).await.ok()
            })
        });
        let answers = futures_util::future::join_all(answers).await;
        for answer in &answers {
            assert_outcome(&stage, answer, &first, step, grace);
        }
        let tokens = answers.iter().filter_map(|answer| match answer {
            TokenAnswer::Token(token) => Some(token.access_token.expose_secret()),
            TokenAnswer::ConsentRequired { .. } | TokenAnswer::ReauthenticationRequired { .. } => {
                None
            }
        });
        let tokens: std::collections::BTreeSet<&str> = tokens.collect();
        assert!(
            tokens.len() < 2,
            "{step} {grace:?}: two replicas have two tokens"
        );
    });
    futures_util::future::join_all(deaths).await;
}

/// Scenario 40: add, promote, take out, while tokens are asked for all the time.
#[tokio::test]
async fn keys_change_under_load_and_no_request_fails() {
    let (stage, request, _) = rejected_token(setup(), None).await;
    let secrets = Secrets::default();
    let one = stage.vault().keys()["keys"][0].clone();
    let two = key("k2", &secrets);
    let rings = [
        json!({"primary": "k1", "keys": [&one, &two]}),
        json!({"primary": "k2", "keys": [&one, &two]}),
        json!({"primary": "k2", "keys": [&two]}),
    ];
    let steps = async {
        for (ring, said) in rings.iter().zip([
            "a new key ring is in force",
            "stored tokens are under the primary key",
            "a key was retired",
        ]) {
            stage.vault().set_keys(ring.to_string().as_bytes());
            stage.vault().logged(said).await;
        }
    };
    let mut asked = 0;
    let load = async {
        loop {
            let answer: Result<TokenAnswer, _> = stage.vault().ask(POD, TOKENS, &request).await;
            assert!(matches!(answer, Ok(TokenAnswer::Token(_))), "{answer:?}");
            asked += 1;
        }
    };
    tokio::select! {
        () = steps => {}
        () = load => {}
    }
    assert!(asked > 100, "{asked}");
    let database = String::from_utf8_lossy(&stage.vault().database()).into_owned();
    assert!(database.contains("k2"));
    let mut stage = stage;
    let old = json!({"primary": "k1", "keys": [&one]});
    let said = stage
        .vault
        .as_mut()
        .unwrap()
        .refuses_to_start_with(old.to_string().as_bytes())
        .await;
    assert!(said.contains("k2"), "{said}");
}

/// Scenario 11, with the program itself, beside a vault that serves.
#[tokio::test]
async fn an_import_tells_each_row_and_a_wrong_key_changes_nothing() {
    let stage = setup().start().await;
    let vault = stage.vault();
    for secret in [
        "canary-atlas-access",
        "canary-atlas-refresh",
        "canary-atlas-jwt",
    ] {
        stage.sidecar.secrets().add(secret);
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/imports/files");
    let file = format!("{folder}/atlas-passphrase.enc");
    let key = |name: &str| format!("--file-key={folder}/{name}.key");
    let users = std::env::temp_dir().join(format!("users-{}", std::process::id()));
    std::fs::write(&users, json!({ALICE: "sub-of-alice"}).to_string()).unwrap();
    let import = |key: &str, more: &[&str]| {
        let users = format!("--users={}", users.display());
        let service = format!("--service=transfer={OTHER_SERVICE}");
        let arguments = ["import", &file, "--workload=ml/app", &users, &service, key];
        let (is_done, said) = vault.command(&[&arguments, more].concat());
        assert!(!said.contains("canary"), "{said}");
        (is_done, said)
    };
    let before = vault.database();
    let (is_done, said) = import(&key("atlas-fernet"), &[]);
    assert!(
        !is_done && said.contains("does not open with this key"),
        "{said}"
    );
    let (is_done, said) = import(&key("atlas-passphrase"), &["--dry-run"]);
    assert!(is_done, "{said}");
    assert!(
        said.contains(&format!("imported {ALICE:?} {OTHER_SERVICE:?}")),
        "{said}"
    );
    assert!(
        said.contains("would be taken: 1 of 5; refused: 4"),
        "{said}"
    );
    assert!(before == vault.database(), "something was written");
    let (is_done, said) = import(&key("atlas-passphrase"), &[]);
    assert!(
        is_done && said.contains("these were taken: 1 of 5"),
        "{said}"
    );
    let (is_done, said) = vault.command(&["verify"]);
    assert!(is_done && said.contains("whole: 1 entries"), "{said}");
    std::fs::remove_file(&users).unwrap();
}

/// Scenario 39: an issuer at an address where only the machine or the cluster is.
#[tokio::test]
async fn an_issuer_at_an_internal_address_is_not_asked() {
    let stage = setup()
        .vault_config(|config| config.egress.allowed.clear())
        .start()
        .await;
    assert_eq!(
        log_in(&stage, POD, ALICE).await,
        Err(StatusCode::SERVICE_UNAVAILABLE)
    );
    let requests = stage.globus().requests();
    assert_eq!(requests.count("token/authorization_code"), 0);
    let said = stage.vault().logged("failed to discover an issuer").await;
    let said = said["error"].as_str().unwrap();
    assert!(said.contains("127.0.0.1 is an internal address"), "{said}");
}

/// Scenario 35: nobody is logged in, the client's token ends (lifetimes are shortened), and the run goes on.
#[tokio::test]
async fn a_job_goes_on_with_tokens_of_the_client_when_they_end() {
    let stage = Stage::setup()
        .globus(|globus| globus_auth_tests::globus::Config {
            access_token_lifetime_seconds: 2,
            ..globus
        })
        .vault(|upstream| {
            vec![DeliveredToken {
                grant_type: GrantType::ClientCredentials,
                route: Some(TokenRoute {
                    prefix: "/alcf".to_owned(),
                    upstream: format!("http://{upstream}").parse().unwrap(),
                }),
                ..token("alcf", OTHER_SERVICE, OTHER_SCOPE)
            }]
        })
        .vault_config(|config| {
            let consumer = &mut config.consumers[0];
            consumer.client_credentials = std::mem::take(&mut consumer.resource_servers);
        })
        .start()
        .await;
    let mut tokens = std::collections::BTreeSet::new();
    eventually("three tokens, one after the other", async || {
        let (status, reflection) = through_route(&stage, "/alcf/v1", &[]).await;
        assert_eq!(status, 200, "{reflection}");
        let reflection: Reflection = serde_json::from_value(reflection).unwrap();
        tokens.extend(reflection.values("Authorization").map(str::to_owned));
        (tokens.len() == 3).then_some(())
    })
    .await;
    let issued = stage.globus().issued();
    for issued in &issued {
        let bearer = format!("Bearer {}", issued.token);
        if tokens.contains(&bearer) {
            assert_eq!(
                (&*issued.client_id, &*issued.resource_server),
                (CLIENT_ID, OTHER_SERVICE)
            );
            assert_eq!(issued.username, None);
        }
    }
    assert!(issued.iter().all(|issued| !issued.is_refresh_token));
    // The workload of another ServiceAccount has no such right, nor this one for another service.
    for (pod, resource_server) in [(POD, FLOWS), (OTHER_WORKLOAD, OTHER_SERVICE)] {
        let request = OwnTokenRequest {
            resource_server: resource_server.to_owned(),
            scopes: vec![OTHER_SCOPE.to_owned()],
            rejected: None,
        };
        let refused: Result<TokenAnswer, _> = stage.vault().ask(pod, OWN_TOKENS, &request).await;
        assert_eq!(refused.unwrap_err().0, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn no_refresh_token_is_ever_in_the_memory_of_a_sidecar() {
    let stage = setup().start().await;
    let alice = stage.logged_in(ALICE).await;
    let token = got(&alice).await.alcf.unwrap();
    // The vault refreshes, and the sidecar gets what came.
    let pass = got(&alice).await.pass.unwrap();
    stage
        .globus()
        .revoke(&Revocation {
            token: Some(token.clone()),
            ..Revocation::default()
        })
        .unwrap();
    through_route(&stage, "/alcf/v1", &[("X-Globus-Auth-Session", &pass)]).await;
    let issued = stage.globus().issued();
    let refresh: Vec<&str> = issued
        .iter()
        .filter(|issued| issued.is_refresh_token)
        .map(|issued| &*issued.token)
        .collect();
    assert!(refresh.len() > 1);
    assert!(stage.sidecar.remembers(&refresh).iter().all(|found| !found));
    // The search finds what is there.
    assert_eq!(stage.sidecar.remembers(&[&token]), [true]);
}

/// Scenario 7, for the workload: by header, and at the route.
#[tokio::test]
async fn a_workload_is_told_when_its_user_must_soon_log_in_again() {
    let stage = setup()
        .vault_config(|config| config.issuers[0].session_seconds = Some(10))
        .start()
        .await;
    // No token is asked for yet: a sidecar keeps one for 30 seconds.
    let alice = stage.browser();
    alice.log_in("/oauth2/connections", ALICE).await;
    eventually("a warning", async || {
        let page = alice.open("/oauth2/connections").send().await.text();
        page.contains("sign in again to go on").then_some(())
    })
    .await;
    let reflection = alice.get("/reflect").send().await.reflection();
    let told: Vec<_> = reflection.values("X-Globus-Auth-Session-Ends-In").collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].parse::<u64>().unwrap() <= 1, "{told:?}");
    let pass = got(&alice).await.pass.unwrap();
    let address = stage.sidecar.outbound().await;
    let request = format!(
        "GET /alcf/v1 HTTP/1.1\r\nHost: {address}\r\nX-Globus-Auth-Session: {pass}\r\nConnection: close\r\n\r\n"
    );
    let answer = Wire::connect(address).await.ask(&request).await;
    assert_eq!(answer.status, 200);
    let told = answer.header("x-globus-auth-session-ends-in");
    assert!(told.parse::<u64>().is_ok(), "{told}");
}

/// Scenario 1: the first address is where the user is after the login, which asks for all at once.
#[tokio::test]
async fn a_login_asks_for_what_the_workload_needs_and_ends_where_it_began() {
    let stage = setup().start().await;
    let browser = stage.browser();
    let page = browser.open("/models/7?tab=runs").send().await;
    assert_eq!(page.status, 302);
    let location: Url = page.headers["location"].to_str().unwrap().parse().unwrap();
    let parameters: std::collections::BTreeMap<_, _> = location.query_pairs().collect();
    assert_eq!(parameters["code_challenge_method"], "S256");
    assert_eq!(parameters["access_type"], "offline");
    assert!(parameters["state"].len() >= 32);
    for scope in [OTHER_SCOPE, FLOWS_SCOPE, "openid"] {
        assert!(
            parameters["scope"].split(' ').any(|one| one == scope),
            "{scope}"
        );
    }
    let page = browser.log_in("/models/7?tab=runs", ALICE).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.reflection().target, "/models/7?tab=runs");
}

/// Scenario 6: while the token is good it is given out; then only the user can help, and no loop tries.
#[tokio::test]
async fn a_grant_that_the_issuer_has_ended_asks_its_user() {
    let stage = setup().start().await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let first = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    let TokenAnswer::Token(first) = first else {
        panic!("{first:?}");
    };
    for issued in stage.globus().issued() {
        if issued.is_refresh_token {
            let order = Revocation {
                token: Some(issued.token),
                ..Revocation::default()
            };
            stage.globus().revoke(&order).unwrap();
        }
    }
    let request = TokenRequest {
        handle: handle.as_str().into(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![],
        rejected: Some(fingerprint(&first.access_token)),
        subject_token: None,
    };
    let before = refreshes(&stage);
    for _ in 0..5 {
        let answer: TokenAnswer = stage.vault().ask(POD, TOKENS, &request).await.unwrap();
        let TokenAnswer::ReauthenticationRequired { scopes, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(scopes, [OTHER_SCOPE]);
    }
    assert_eq!(
        refreshes(&stage) - before,
        1,
        "it was tried again and again"
    );
    // Whoever has not heard that it is rejected gets what is good until it ends.
    let again = token_for(&stage, POD, &handle, OTHER_SERVICE)
        .await
        .unwrap();
    assert!(matches!(again, TokenAnswer::Token(_)), "{again:?}");
    let said = stage.vault().logged("a refresh failed").await;
    assert_eq!(said["reason"], "invalid_grant");
}

/// Scenario 8: what Atlas's page asks, field by field.
#[tokio::test]
async fn a_program_reads_what_is_connected() {
    let stage = setup().start().await;
    let stranger = stage.browser().get("/oauth2/connections").send().await;
    assert_eq!(stranger.status, 401, "{stranger:?}");
    let alice = stage.logged_in(ALICE).await;
    let status = alice.get("/oauth2/connections").send().await;
    assert_eq!(
        (status.status.as_u16(), &status.headers["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    assert_eq!(status["enabled"], true);
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user_email"], ALICE);
    let servers = status["resource_servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[0]["resource_server"], OTHER_SERVICE);
    assert_eq!(servers[0]["is_expired"], false);
    assert_eq!(servers[0]["scopes"], OTHER_SCOPE);
    assert!(servers[0]["expires_at"].as_f64().unwrap() > 1e9);
    assert_eq!(servers[0].as_object().unwrap().len(), 4);
    for server in [OTHER_SERVICE, FLOWS] {
        let form = format!("disconnect={server}");
        alice.post("/oauth2/connections", form).send().await;
    }
    let status = alice.get("/oauth2/connections").send().await.text();
    let status: Value = serde_json::from_str(&status).unwrap();
    let nothing = json!({"enabled": true, "authenticated": false, "resource_servers": [], "user_email": ALICE});
    assert_eq!(status, nothing);
}

/// Scenario 10: nothing of a callback that failed reaches the vault, or the page.
#[rstest]
#[case::denied("error=access_denied", 403, "access_denied")]
#[case::unknown("error=%3Cscript%3E", 403, "unknown_error")]
#[case::state("code=stolen&state=forged", 403, "invalid_state")]
#[tokio::test]
async fn a_callback_that_failed_asks_for_no_token(
    #[case] query: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let stage = setup().start().await;
    let browser = stage.browser();
    let begun = browser.open("/").send().await;
    let location: Url = begun.headers["location"].to_str().unwrap().parse().unwrap();
    let mut parameters = location.query_pairs();
    let state = parameters.find(|(name, _)| name == "state").unwrap().1;
    let query = if query.starts_with("error") {
        format!("{query}&state={state}")
    } else {
        query.to_owned()
    };
    let page = browser
        .get(&format!("/oauth2/callback?{query}"))
        .send()
        .await;
    assert_eq!(page.status, status, "{page:?}");
    let said: Value = serde_json::from_str(&page.text()).unwrap();
    assert_eq!(said["error"], code);
    assert!(!page.text().contains("script"), "{}", page.text());
    assert_eq!(
        stage.globus().requests().count("token/authorization_code"),
        0
    );
}
