//! What administrators may do, and what nobody may.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::vault_config::Admins;
use http::Method;

use super::*;
use crate::openid::OpenId;

const AUDIENCE: &str = "vault-admin";
const GRANTS: &str = "/v1/admin/grants";

struct World {
    stage: Stage,
    login: OpenId,
}

impl World {
    async fn start() -> Self {
        let login = OpenId::start().await;
        let admins = Admins {
            issuer: login.issuer().parse().unwrap(),
            audience: AUDIENCE.to_owned(),
            email_verification: EmailVerification::Required,
            emails: vec![],
            groups: vec!["operators".to_owned()],
            groups_claim: "groups".to_owned(),
        };
        let stage = setup()
            .vault_config(move |config| config.admins = Some(admins))
            .start()
            .await;
        Self { stage, login }
    }

    /// A token of `sub`, with further claims.
    fn token(&self, sub: &str, more: &Value) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = json!({
            "iss": self.login.issuer(), "aud": AUDIENCE, "sub": sub, "iat": now, "exp": now + 300,
        });
        let members = claims.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        self.login.signer.sign(&claims)
    }

    fn admin(&self) -> String {
        self.token("root", &json!({"groups": ["operators"]}))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let token = self.admin();
        self.stage
            .vault()
            .administer(&token, method, path, body)
            .await
    }

    async fn grants(&self, query: &str) -> Vec<Value> {
        let (status, listed) = self
            .ask(Method::GET, &format!("{GRANTS}{query}"), None)
            .await;
        assert_eq!(status, StatusCode::OK, "{listed}");
        listed["grants"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn an_administrator_sees_what_there_is_and_takes_it_back() {
    let world = World::start().await;
    let session = log_in(&world.stage, POD, ALICE).await.unwrap();
    log_in(&world.stage, POD, CAROL).await.unwrap();
    assert_eq!(world.grants("").await.len(), 4);
    let query = format!("?workload=ml/app&resourceServer={FLOWS}");
    let flows = world.grants(&query).await;
    assert_eq!(flows.len(), 2);
    let handle = handle_of(&world.stage, POD, &session).await.unwrap();
    let token = token_for(&world.stage, POD, &handle, FLOWS).await.unwrap();
    assert!(matches!(token, TokenAnswer::Token(_)));
    for grant in &flows {
        assert_eq!(
            (&grant["state"], &grant["isConsented"], &grant["isRenewed"]),
            (&json!("active"), &json!(true), &json!(true))
        );
        let path = format!("{GRANTS}/{}", grant["id"].as_str().unwrap());
        let revoked = world.ask(Method::DELETE, &path, None).await;
        assert_eq!(revoked.0, StatusCode::NO_CONTENT);
        let again = world.ask(Method::DELETE, &path, None).await;
        assert_eq!(again.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(world.stage.globus().requests().count("revoke"), 4);
    let token = token_for(&world.stage, POD, &handle, FLOWS).await.unwrap();
    assert!(matches!(
        token,
        TokenAnswer::ReauthenticationRequired { .. }
    ));
    // Page by page.
    let (_, first) = world
        .ask(Method::GET, &format!("{GRANTS}?limit=3"), None)
        .await;
    let next = first["next"].as_str().unwrap();
    let rest = world.grants(&format!("?after={next}")).await;
    assert_eq!(
        (first["grants"].as_array().unwrap().len(), rest.len()),
        (3, 1)
    );
}

/// Whatever an administrator asks, no token comes out, and what they did is written down.
#[tokio::test]
async fn no_token_comes_out_and_all_is_written_down() {
    let world = World::start().await;
    log_in(&world.stage, POD, ALICE).await.unwrap();
    let mut seen = String::new();
    for path in [GRANTS, "/v1/admin/audit", "/v1/admin/audit/verify"] {
        let (status, answer) = world.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        seen.push_str(&answer.to_string());
    }
    let issued = world.stage.globus().issued();
    assert!(issued.iter().any(|one| one.is_refresh_token));
    for one in issued {
        assert!(!seen.contains(&one.token));
    }
    let (_, log) = world.ask(Method::GET, "/v1/admin/audit", None).await;
    let entries = log["entries"].as_array().unwrap();
    let listed = entries
        .iter()
        .find(|entry| entry["action"] == "list")
        .unwrap();
    assert_eq!(listed["actor"], "admin:root");
    let (_, verified) = world.ask(Method::GET, "/v1/admin/audit/verify", None).await;
    assert_eq!(verified["entries"], entries.last().unwrap()["seq"]);
}

#[tokio::test]
async fn who_is_no_administrator_hears_so_and_it_is_written_down() {
    let world = World::start().await;
    let vault = world.stage.vault();
    let mallory = world.token("mallory", &json!({"groups": ["users"]}));
    for (method, path) in [
        (Method::GET, GRANTS),
        (Method::POST, GRANTS),
        (Method::DELETE, "/v1/admin/grants/x"),
        (Method::GET, "/v1/admin/audit"),
        (Method::GET, "/v1/admin/audit/verify"),
    ] {
        let (status, _) = vault.administer(&mallory, method.clone(), path, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let (_, log) = world.ask(Method::GET, "/v1/admin/audit", None).await;
    let refused = log["entries"].as_array().unwrap().iter();
    let refused =
        refused.filter(|one| one["actor"] == "admin:mallory" && one["result"] == "refused");
    assert_eq!(refused.count(), 5);
}

/// A pod's identity, and a token that a proxy sees, are no administrator's.
#[tokio::test]
async fn a_token_for_anybody_else_is_no_administrators() {
    let world = World::start().await;
    let operators = |more: Value| {
        let mut claims = json!({"groups": ["operators"]});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        world.token("root", &claims)
    };
    let now = jsonwebtoken::get_current_timestamp();
    let stranger = crate::signer::Signer::new();
    for token in [
        String::new(),
        POD.token(),
        operators(json!({"aud": CLIENT_ID})),
        operators(json!({"iss": "https://elsewhere.test"})),
        operators(json!({"exp": now - 3600})),
        operators(json!({"iat": now - 7200, "exp": now + 300})),
        stranger.sign(
            &json!({"iss": world.login.issuer(), "aud": AUDIENCE, "sub": "root",
            "groups": ["operators"], "iat": now, "exp": now + 300}),
        ),
    ] {
        let (status, _) = world
            .stage
            .vault()
            .administer(&token, Method::GET, GRANTS, None)
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn without_administrators_there_are_none() {
    let stage = setup().start().await;
    let (status, _) = stage
        .vault()
        .administer("x", Method::GET, GRANTS, None)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

fn jwt(exp: u64) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.c2ln",
        part(json!({"alg": "RS256"})),
        part(json!({"exp": exp, "scope": FLOWS_SCOPE}))
    )
}

#[tokio::test]
async fn an_uploaded_token_is_given_out_until_it_ends_and_none_that_is_refreshed_is_lost() {
    let world = World::start().await;
    let now = jsonwebtoken::get_current_timestamp();
    // Alice is logged in, and has disconnected the service.
    let session = log_in(&world.stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&world.stage, POD, &session).await.unwrap();
    let grants = world.grants(&format!("?resourceServer={FLOWS}")).await;
    let upload = |token: &str| json!({"workload": "ml/app", "resourceServer": FLOWS, "user": grants[0]["user"], "token": token});
    let token = jwt(now + 600);
    let refused = world.ask(Method::POST, GRANTS, Some(&upload(&token))).await;
    assert_eq!(refused.0, StatusCode::CONFLICT, "{}", refused.1);
    let path = format!("{GRANTS}/{}", grants[0]["id"].as_str().unwrap());
    world.ask(Method::DELETE, &path, None).await;
    let (status, answer) = world.ask(Method::POST, GRANTS, Some(&upload(&token))).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let got = token_for(&world.stage, POD, &handle, FLOWS).await.unwrap();
    let TokenAnswer::Token(got) = got else {
        panic!("{got:?}")
    };
    assert_eq!(got.access_token.expose_secret(), token);
    assert_eq!(got.scopes, [FLOWS_SCOPE]);

    for (what, body) in [
        ("opaque", upload("Agx38")),
        ("over", upload(&jwt(now - 10))),
        (
            "of a workload that may not",
            json!({"workload": "ml/other", "resourceServer": FLOWS, "user": grants[0]["user"], "token": token}),
        ),
        (
            "no user",
            json!({"workload": "ml/app", "resourceServer": FLOWS, "token": "canary-token"}),
        ),
    ] {
        let (status, answer) = world.ask(Method::POST, GRANTS, Some(&body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}: {answer}");
        assert!(!answer.to_string().contains("canary"), "{answer}");
    }
}
