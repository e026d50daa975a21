//! The emulator through its router, as its clients see it.

mod apis;
mod authorize;
mod control;
mod dependent;
mod discovery;
mod faults;
mod introspect;
mod refresh;
mod token;

use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use serde_json::Value;

use super::config::{LinkedIdentity, Membership, Policy, ResourceServer, Scope};
use super::*;

const ISSUER: &str = "https://globus.test";
const CALLBACK: &str = "https://app.test/oauth2/callback";
const APP: (&str, &str) = ("app", "s3cret+/=");
const INFERENCE: (&str, &str) = ("inference-client", "other");
const NATIVE: &str = "native";
const RS: &str = "681c10cc-f684-4540-bcd7-0b4df3bc26ef";
const ACTION_ALL: &str =
    "https://auth.globus.org/scopes/681c10cc-f684-4540-bcd7-0b4df3bc26ef/action_all";
const GROUPS_SCOPE: &str =
    "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships";
const TRANSFER_SCOPE: &str = "urn:globus:auth:scope:transfer.api.globus.org:all";
const ALICE: &str = "alice@anl.gov";
const BOB: &str = "bob@example.org@accounts.google.com";

/// Two users, three clients, one resource server that depends on groups and, if asked, on transfer.
fn config() -> Config {
    let inference = Scope::new(ACTION_ALL)
        .depends_on(GROUPS_SCOPE, false)
        .depends_on(TRANSFER_SCOPE, true);
    let invited = Membership {
        status: "invited".to_owned(),
        ..Membership::active("g2")
    };
    let uni = LinkedIdentity {
        groups: vec![Membership::active("g1"), invited],
        ..LinkedIdentity::new("alice@uni.test")
    };
    let alice = User {
        policies: vec!["policy".to_owned()],
        ..User::new(ALICE).member_of("g0").member_of("g1").linked(uni)
    };
    let mut config = Config::default()
        .client(Client::confidential(APP.0, APP.1, CALLBACK))
        .client(Client::confidential(INFERENCE.0, INFERENCE.1, CALLBACK).for_resource_server(RS))
        .client(Client::native(NATIVE))
        .user(alice)
        .user(User::new(BOB))
        .resource_server(ResourceServer {
            name: RS.to_owned(),
            scopes: vec![inference],
        });
    config.issuer = Some(ISSUER.to_owned());
    config.policies = vec![Policy {
        id: "policy".to_owned(),
        max_age_seconds: Some(600),
    }];
    config.control = true;
    config
}

fn emulator() -> Emulator {
    Emulator::new(config()).unwrap()
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// A parameter of the redirect.
    fn sent_back(&self, name: &str) -> String {
        parameter(self.header("location"), name).unwrap_or_default()
    }

    /// The emulator's cookie.
    fn cookie(&self) -> String {
        self.headers
            .get(SET_COOKIE)
            .map(|cookie| {
                cookie
                    .to_str()
                    .unwrap()
                    .split(';')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .unwrap_or_default()
    }
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query_pairs()
        .find(|(candidate, _)| candidate == name)
        .map(|(_, value)| value.into_owned())
}

async fn call(emulator: &Emulator, request: Request) -> Answer {
    let response = emulator.app().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

async fn get(emulator: &Emulator, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    call(emulator, request.body(Body::empty()).unwrap()).await
}

async fn get_with_token(emulator: &Emulator, target: &str, token: &str) -> Answer {
    get(
        emulator,
        target,
        &[("authorization", &format!("Bearer {token}"))],
    )
    .await
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// Posts a form, with HTTP Basic unless the client is `None`.
async fn post(
    emulator: &Emulator,
    path: &str,
    client: Option<(&str, &str)>,
    form: &[(&str, &str)],
) -> Answer {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some((client_id, secret)) = client {
        let basic = STANDARD.encode(format!("{client_id}:{secret}"));
        request = request.header(AUTHORIZATION, format!("Basic {basic}"));
    }
    call(emulator, request.body(Body::from(encoded(form))).unwrap()).await
}

async fn post_token(
    emulator: &Emulator,
    client: Option<(&str, &str)>,
    form: &[(&str, &str)],
) -> Answer {
    post(emulator, "/v2/oauth2/token", client, form).await
}

async fn order(emulator: &Emulator, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/_emulator/{path}"));
    call(emulator, request.body(Body::from(body.to_owned())).unwrap()).await
}

/// An authorization URL of the confidential client, with changes.
fn authorization_url(changes: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("client_id", APP.0),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid profile email"),
        ("state", "the state"),
    ];
    for (name, value) in changes {
        pairs.retain(|(old, _)| old != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    format!("/v2/oauth2/authorize?{}", encoded(&pairs))
}

/// What the login button of a user does; with the cookie of an earlier login, if any.
async fn press(emulator: &Emulator, url: &str, button: (&str, &str), cookie: &str) -> Answer {
    let query = url.split_once('?').unwrap().1;
    let form = encoded(&[("request", query), button]);
    let request = Request::post("/v2/web/login")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(COOKIE, cookie)
        .body(Body::from(form))
        .unwrap();
    call(emulator, request).await
}

async fn log_in(emulator: &Emulator, changes: &[(&str, &str)], username: &str) -> Answer {
    press(
        emulator,
        &authorization_url(changes),
        ("identity", username),
        "",
    )
    .await
}

/// A code for the confidential client.
async fn code(emulator: &Emulator, changes: &[(&str, &str)], username: &str) -> String {
    let answer = log_in(emulator, changes, username).await;
    let code = answer.sent_back("code");
    assert!(!code.is_empty(), "{answer:?}");
    code
}

async fn redeem(emulator: &Emulator, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
    ];
    post_token(emulator, Some(APP), &form).await
}

/// Logs in and redeems: the token answer.
async fn tokens(emulator: &Emulator, changes: &[(&str, &str)], username: &str) -> Value {
    let code = code(emulator, changes, username).await;
    let answer = redeem(emulator, &code).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

async fn refresh(emulator: &Emulator, refresh_token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    post_token(emulator, Some(APP), &form).await
}

async fn introspect(
    emulator: &Emulator,
    client: (&str, &str),
    token: &str,
    more: &[(&str, &str)],
) -> Answer {
    let form: Vec<_> = [("token", token)].iter().chain(more).copied().collect();
    post(emulator, "/v2/oauth2/token/introspect", Some(client), &form).await
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// One of the parts of a JWT, unverified.
fn jwt_part(jwt: &str, part: usize) -> Value {
    let part = jwt.split('.').nth(part).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The claims of an ID token whose signature is right.
async fn verified(
    emulator: &Emulator,
    id_token: &str,
) -> Result<Value, jsonwebtoken::errors::Error> {
    let keys = get(emulator, "/jwk.json", &[]).await.json();
    let key = &keys["keys"][0];
    let key = jsonwebtoken::DecodingKey::from_rsa_components(text(key, "n"), text(key, "e"))?;
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS512);
    validation.set_audience(&[APP.0]);
    validation.set_issuer(&[ISSUER]);
    Ok(jsonwebtoken::decode::<Value>(id_token, &key, &validation)?.claims)
}
