//! Programs of users come with a bearer token, and their workload gets what a login would give it.

use globus_auth_core::vault_api::{BEARER_SESSIONS, BearerRequest};
use globus_auth_core::vault_config::{BearerTokens, Issuer};
use globus_auth_tests::globus::MintRequest;
use globus_auth_tests::harness::scripted::{self, Received, Scripted};
use globus_auth_tests::harness::sidecar::CLIENT_SECRET;

use super::*;

/// What the workload itself is called at Globus: there, a client's resource server has the client's name.
const OWN_SCOPE: &str = "https://auth.globus.org/scopes/mlflow/all";
/// A program on somebody's laptop.
const SCRIPT: &str = "script";

/// The workload is a service, which needs [`OTHER_SCOPE`] as its users.
fn setup(bearer_tokens: BearerTokens) -> Setup {
    super::setup()
        .globus(|mut globus| {
            for client in &mut globus.clients {
                if client.client_id == CLIENT_ID {
                    client.resource_server = Some(CLIENT_ID.to_owned());
                }
            }
            globus
                .resource_server(ResourceServer {
                    name: CLIENT_ID.to_owned(),
                    scopes: vec![Scope::new(OWN_SCOPE).depends_on(OTHER_SCOPE, false)],
                })
                .client(globus_auth_tests::globus::config::Client::native(SCRIPT))
        })
        .vault_config(move |config| config.issuers[0].bearer_tokens = bearer_tokens)
}

/// What a script of `username` has after its user consented to all that it asked for, or to nothing.
fn token_of_script(stage: &Stage, username: &str, consent: bool) -> String {
    stage.mint(&MintRequest {
        consent,
        ..MintRequest::new(username, SCRIPT).scope(OWN_SCOPE)
    })
}

/// What the workload gets with a request of a program.
async fn got_by(stage: &Stage, bearer: &str) -> Got {
    let page = stage.browser().get("/reflect").bearer(bearer).send().await;
    assert_eq!(page.status, 200, "{}", page.text());
    let reflection = page.reflection();
    assert_eq!(reflection.values("authorization").count(), 0);
    let one = |name| reflection.values(name).next().map(str::to_owned);
    Got {
        alcf: one("X-Token-Alcf"),
        flows: one("X-Token-Flows"),
        pass: one("X-Globus-Auth-Session"),
    }
}

async fn through_route_as(stage: &Stage, got: &Got) -> (u16, Value) {
    let pass = got.pass.as_deref().unwrap();
    through_route(stage, "/alcf/v1", &[("X-Globus-Auth-Session", pass)]).await
}

fn exchanges(stage: &Stage) -> u64 {
    stage.globus().requests().count("token/dependent_token")
}

#[tokio::test]
async fn a_program_of_a_user_gets_what_the_user_let_the_workload_use() {
    let stage = setup(BearerTokens::Accepted).start().await;
    let alice = stage.logged_in(ALICE).await;
    let in_browser = got(&alice).await;
    let by_program = got_by(&stage, &token_of_script(&stage, ALICE, true)).await;
    assert!(by_program.alcf.is_some() && by_program.flows.is_some());
    assert_eq!(by_program.alcf, in_browser.alcf);
    assert_eq!(through_route_as(&stage, &by_program).await.0, 200);
    assert_eq!(exchanges(&stage), 0);
    // However busy programs are, the sign-out of the last browser takes back what was consented to.
    alice.get("/oauth2/sign_out").send().await;
    eventually("every token to be taken back", async || {
        let revoked = stage.globus().requests().count("revoke");
        (revoked >= 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whose_user_has_connected_nothing_gets_nothing() {
    let stage = setup(BearerTokens::Accepted).start().await;
    stage.logged_in(ALICE).await;
    let got = got_by(&stage, &token_of_script(&stage, CAROL, true)).await;
    assert_eq!((&got.alcf, &got.flows), (&None, &None));
    let (status, answer) = through_route_as(&stage, &got).await;
    assert_eq!(
        (status, answer["error"].as_str()),
        (403, Some("reauthentication_required"))
    );
    let required = &answer["authorization_parameters"]["required_scopes"];
    assert_eq!(*required, json!([OTHER_SCOPE]));
    assert_eq!(exchanges(&stage), 0);
}

#[tokio::test]
async fn by_default_bearer_tokens_get_nothing_of_the_vault() {
    let stage = setup(BearerTokens::Ignored).start().await;
    stage.logged_in(ALICE).await;
    let token = token_of_script(&stage, ALICE, true);
    let got = got_by(&stage, &token).await;
    assert!(got.alcf.is_none() && got.flows.is_none() && got.pass.is_none());
    // A sidecar that thinks otherwise is refused.
    let opened = open(&stage, POD, &token).await;
    assert_eq!(opened.unwrap_err(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_is_exchanged_for_one_of_a_service_that_its_user_has_not_connected() {
    let stage = setup(BearerTokens::Exchanged).start().await;
    let token = token_of_script(&stage, ALICE, true);
    let first = got_by(&stage, &token).await;
    assert!(first.alcf.is_some(), "the dependent token");
    assert_eq!(first.flows, None, "nothing depends on it");
    let asked = exchanges(&stage);
    for _ in 0..3 {
        assert_eq!(got_by(&stage, &token).await.alcf, first.alcf);
    }
    let (status, reflection) = through_route_as(&stage, &first).await;
    assert_eq!(status, 200, "{reflection}");
    assert!(
        reflection
            .to_string()
            .contains(first.alcf.as_deref().unwrap()),
        "{reflection}"
    );
    // The service without consent is asked about again each time; the one with it was asked for once.
    let of_alcf = stage
        .globus()
        .issued()
        .iter()
        .filter(|one| one.resource_server == OTHER_SERVICE)
        .count();
    assert_eq!(of_alcf, 1);
    assert!(asked >= 1);
    let of_carol = got_by(&stage, &token_of_script(&stage, CAROL, true)).await;
    assert!(of_carol.alcf.is_some() && of_carol.alcf != first.alcf);
}

/// The program learns what to ask its user for.
#[tokio::test]
async fn without_consent_at_the_issuer_nothing_is_exchanged() {
    let stage = setup(BearerTokens::Exchanged).start().await;
    let got = got_by(&stage, &token_of_script(&stage, ALICE, false)).await;
    assert_eq!(got.alcf, None);
    let (status, answer) = through_route_as(&stage, &got).await;
    assert_eq!(
        (status, answer["error"].as_str()),
        (403, Some("reauthentication_required"))
    );
    let required = &answer["authorization_parameters"]["required_scopes"];
    assert_eq!(*required, json!([OTHER_SCOPE]));
}

#[tokio::test]
async fn a_rejected_token_is_exchanged_anew() {
    let stage = setup(BearerTokens::Exchanged).start().await;
    let token = token_of_script(&stage, ALICE, true);
    let handle = open(&stage, POD, &token).await.unwrap();
    let first = exchange(&stage, POD, &handle, &token, None).await.unwrap();
    let again = exchange(&stage, POD, &handle, &token, None).await.unwrap();
    assert_eq!(first, again);
    let rejected = Some(fingerprint(&first.as_str().into()));
    let other = exchange(&stage, POD, &handle, &token, rejected).await;
    assert_ne!(other.unwrap(), first);
}

async fn open(stage: &Stage, pod: Pod, token: &str) -> Result<String, StatusCode> {
    open_at(stage, stage.globus().issuer(), pod, token).await
}

async fn open_at(stage: &Stage, issuer: &str, pod: Pod, token: &str) -> Result<String, StatusCode> {
    let request = BearerRequest {
        issuer: issuer.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        token: token.into(),
    };
    let opened: Result<SessionResponse, _> =
        stage.vault().ask(pod, BEARER_SESSIONS, &request).await;
    opened
        .map(|opened| opened.handle.expose_secret().to_owned())
        .map_err(|(status, _)| status)
}

async fn exchange(
    stage: &Stage,
    pod: Pod,
    handle: &str,
    subject_token: &str,
    rejected: Option<String>,
) -> Result<String, StatusCode> {
    let request = TokenRequest {
        handle: handle.into(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![OTHER_SCOPE.to_owned()],
        rejected,
        subject_token: Some(subject_token.into()),
    };
    let answer: Result<TokenAnswer, _> = stage.vault().ask(pod, TOKENS, &request).await;
    let answer = answer.map_err(|(status, _)| status)?;
    let TokenAnswer::Token(token) = answer else {
        panic!("{answer:?}");
    };
    Ok(token.access_token.expose_secret().to_owned())
}

#[tokio::test]
async fn a_bearer_session_is_of_its_pod_and_its_token() {
    let stage = setup(BearerTokens::Exchanged).start().await;
    let (alices, carols) = (
        token_of_script(&stage, ALICE, true),
        token_of_script(&stage, CAROL, true),
    );
    let handle = open(&stage, POD, &alices).await.unwrap();
    assert!(exchange(&stage, POD, &handle, &alices, None).await.is_ok());
    for pod in [REPLICA, OTHER_WORKLOAD] {
        let refused = exchange(&stage, pod, &handle, &alices, None).await;
        assert_eq!(refused.unwrap_err(), StatusCode::FORBIDDEN, "{pod:?}");
    }
    let fresh = open(&stage, POD, &alices).await.unwrap();
    let refused = exchange(&stage, POD, &fresh, &carols, None).await;
    assert_eq!(refused.unwrap_err(), StatusCode::FORBIDDEN);
    // A workload that is no consumer has no bearer sessions either.
    let refused = open(&stage, OTHER_WORKLOAD, &alices).await;
    assert_eq!(refused.unwrap_err(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_token_for_somebody_else_and_one_that_was_revoked_stand_for_nobody() {
    let stage = setup(BearerTokens::Accepted).start().await;
    let for_other = stage.mint(&MintRequest::new(ALICE, "other-service").scope(OTHER_SCOPE));
    let good = token_of_script(&stage, ALICE, true);
    assert!(open(&stage, POD, &good).await.is_ok());
    let of_alice = Revocation {
        username: Some(ALICE.to_owned()),
        ..Revocation::default()
    };
    stage.globus().revoke(&of_alice).unwrap();
    for token in [&for_other, &good, "made up", ""] {
        let refused = open(&stage, POD, token).await;
        assert_eq!(refused.unwrap_err(), StatusCode::FORBIDDEN, "{token:?}");
    }
}

/// An issuer with introspection and RFC 8693, where everybody is Alice.
async fn exchanger(granted: &'static str) -> Scripted {
    Scripted::start(move |request: &Received, address| {
        let issuer = format!("http://{address}");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let form: std::collections::BTreeMap<_, _> = url::form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        let is = |name: &str, value: &str| form.get(name).is_some_and(|one| one == value);
        match request.target() {
            "/.well-known/openid-configuration" => scripted::json(
                200,
                &json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "introspection_endpoint": format!("{issuer}/asks"),
                    "jwks_uri": format!("{issuer}/jwks"),
                }),
            ),
            "/asks" => {
                let now = jsonwebtoken::get_current_timestamp();
                scripted::json(
                    200,
                    &json!({"active": is("token", "subject"), "sub": "alice", "aud": CLIENT_ID,
                        "iss": issuer, "exp": now + 300}),
                )
            }
            "/token"
                if is(
                    "grant_type",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ) && is("subject_token", "subject")
                    && is(
                        "subject_token_type",
                        "urn:ietf:params:oauth:token-type:access_token",
                    )
                    && is(
                        "requested_token_type",
                        "urn:ietf:params:oauth:token-type:access_token",
                    )
                    && is("audience", OTHER_SERVICE)
                    && is("scope", OTHER_SCOPE) =>
            {
                scripted::json(
                    200,
                    &json!({"access_token": "exchanged", "token_type": "Bearer", "expires_in": 60,
                        "issued_token_type": granted}),
                )
            }
            _ => scripted::json(400, &json!({"error": "invalid_request"})),
        }
    })
    .await
}

#[rstest]
#[case::access_token("urn:ietf:params:oauth:token-type:access_token", true)]
#[case::something_else("urn:ietf:params:oauth:token-type:saml2", false)]
#[tokio::test]
async fn elsewhere_tokens_are_exchanged_by_rfc_8693(
    #[case] issued: &'static str,
    #[case] works: bool,
) {
    let exchanger = exchanger(issued).await;
    let issuer = exchanger.origin();
    let other = issuer.clone();
    let stage = super::setup()
        .vault_config(move |config| {
            config.issuers.push(Issuer {
                name: "keycloak".to_owned(),
                kind: globus_auth_core::sidecar_config::ProviderKind::OIDC,
                issuer: other.parse().unwrap(),
                client_id: CLIENT_ID.to_owned(),
                client_secret: CLIENT_SECRET.into(),
                bearer_tokens: BearerTokens::Exchanged,
                ..config.issuers[0].clone()
            });
        })
        .start()
        .await;
    let handle = open_at(&stage, &issuer, POD, "subject").await.unwrap();
    let got = exchange(&stage, POD, &handle, "subject", None).await;
    let expected = if works {
        Ok("exchanged".to_owned())
    } else {
        Err(StatusCode::SERVICE_UNAVAILABLE)
    };
    assert_eq!(got, expected);
    let refused = open_at(&stage, &issuer, POD, "another").await;
    assert_eq!(refused.unwrap_err(), StatusCode::FORBIDDEN);
}
