//! Bearer tokens that are nearly one (line 9).

use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::oauth::jwt::SignatureAlgorithm;
use globus_auth_core::sidecar_config::JwtIssuer;
use globus_auth_tests::globus::{Endpoint, Fault, FaultOrder, Revocation};
use globus_auth_tests::harness::scripted::{self, Scripted};
use globus_auth_tests::harness::stage::ALICE;
use globus_auth_tests::harness::wait::eventually_within;
use globus_auth_tests::harness::{Page, Stage};
use serde_json::{Value, json};

const AUDIENCE: &str = "https://api.test";

/// An issuer of JWTs, with its key.
struct Issuer {
    server: Scripted,
    key: EcdsaKeyPair,
}

impl Issuer {
    async fn start() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = key.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(&point[1..33]), text(&point[33..]));
        let keys = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": x, "y": y},
        ]});
        let server = Scripted::start(move |request, address| {
            let origin = format!("http://{address}");
            match request.target() {
                "/.well-known/openid-configuration" => scripted::json(
                    200,
                    &json!({"issuer": origin, "jwks_uri": format!("{origin}/keys")}),
                ),
                _ => scripted::json(200, &keys),
            }
        })
        .await;
        Self { server, key }
    }

    fn fetches(&self) -> usize {
        let requests = self.server.requests();
        requests
            .iter()
            .filter(|request| request.target() == "/keys")
            .count()
    }

    fn claims(&self) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({
            "iss": self.server.origin(), "aud": AUDIENCE, "sub": "alice", "email": ALICE,
            "email_verified": true, "iat": now, "nbf": now, "exp": now + 3600,
        })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap().as_ref());
        format!("{message}.{signature}")
    }

    /// A good token but for what `change` does to its header and claims.
    fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
        let mut claims = self.claims();
        change(&mut header, &mut claims);
        self.signed(&header, &claims)
    }

    async fn stage(&self) -> Stage {
        let issuer = JwtIssuer {
            issuer: self.server.origin().parse().unwrap(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: vec![SignatureAlgorithm::ES256],
            email_verification: EmailVerification::Required,
            groups_claim: None,
        };
        let setup = Stage::setup().config(|config| config.bearer.jwt.push(issuer));
        setup.start().await
    }
}

async fn ask(stage: &Stage, token: &str) -> Page {
    stage.browser().get("/").bearer(token).send().await
}

#[tokio::test]
async fn a_jwt_with_any_claim_that_is_not_as_it_must_be_is_refused() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    assert_eq!(ask(&stage, &issuer.token(|_, _| {})).await.status, 200);
    let reached = stage.upstream().requests();
    let bad: &[(&str, Value)] = &[
        ("aud", json!("https://other.test")),
        ("aud", json!(["https://other.test"])),
        ("aud", json!([])),
        ("aud", json!(7)),
        ("aud", json!({"x": AUDIENCE})),
        ("aud", json!([[AUDIENCE]])),
        ("aud", json!(format!("{AUDIENCE}/"))),
        ("aud", json!(format!("{AUDIENCE} x"))),
        ("aud", Value::Null),
        ("iss", json!("http://127.0.0.1:9")),
        ("iss", json!([issuer.server.origin()])),
        ("iss", json!(format!("{}/", issuer.server.origin()))),
        ("iss", Value::Null),
        ("exp", json!(1)),
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("exp", json!([9_999_999_999_u64])),
        ("exp", Value::Null),
        ("nbf", json!(9_999_999_999_u64)),
        ("nbf", json!("now")),
        ("iat", json!(9_999_999_999_u64)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("alice\r\nX-Forwarded-Email: x")),
        ("sub", Value::Null),
        ("email_verified", json!(false)),
        ("email_verified", json!("false")),
        ("email_verified", json!(1)),
        ("email_verified", Value::Null),
        // An ID token says who logged in somewhere; it opens nothing.
        ("nonce", json!("n")),
        ("at_hash", json!("h")),
    ];
    for (claim, value) in bad {
        let token = issuer.token(|_, claims| claims[claim] = value.clone());
        let page = ask(&stage, &token).await;
        assert_eq!(page.status, 401, "{claim} = {value}");
        let challenge = page.header("www-authenticate");
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    assert_eq!(stage.upstream().requests(), reached);
}

#[tokio::test]
async fn an_address_of_a_jwt_that_is_none_or_another_does_not_enter() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    for email in [
        json!("mallory@example.net"),
        json!("alice@example.org@evil.test"),
        json!("evil@evil.test,alice@example.org"),
        json!("\"alice@example.org\"@evil.test"),
        json!("<alice@example.org>"),
        json!("alice@example.org "),
        json!("alice@example.org."),
        json!("alice@example.org\0"),
        json!("alice\u{3002}@example.org"),
        json!("al\u{131}ce@example.org"),
        json!("\u{ff41}lice@example.org"),
        json!("alice@ex\u{430}mple.org"),
        json!([ALICE]),
        json!({"value": ALICE}),
        json!(7),
        json!(""),
        Value::Null,
    ] {
        let token = issuer.token(|_, claims| claims["email"] = email.clone());
        let page = ask(&stage, &token).await;
        assert!(matches!(page.status.as_u16(), 401 | 403), "{email}");
    }
    assert_eq!(stage.upstream().requests(), 0);
    let capitals = issuer.token(|_, claims| claims["email"] = json!("ALICE@Example.ORG"));
    assert_eq!(ask(&stage, &capitals).await.status, 200);
}

#[tokio::test]
async fn a_jwt_whose_signature_is_of_something_else_is_refused() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    let good = issuer.token(|_, _| {});
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = |name: &str| encode(&json!({"alg": name, "typ": "JWT"}));
    // The public key as a shared secret, as whoever reads the algorithm from the token would take it.
    let hs256 = encode(&json!({"alg": "HS256", "kid": "k", "typ": "JWT"}));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, issuer.key.public_key().as_ref());
    let tag = hmac::sign(&secret, format!("{hs256}.{claims}").as_bytes());
    let tag = URL_SAFE_NO_PAD.encode(tag.as_ref());
    let other = Issuer::start().await;
    let foreign = other.signed(&json!({"alg": "ES256", "kid": "k"}), &issuer.claims());
    let own_key = issuer.token(|header, _| {
        header["kid"] = json!("mine");
        header["jwk"] = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
        header["jku"] = json!(other.server.origin());
        header["x5u"] = json!(other.server.origin());
    });
    let critical = issuer.token(|header, _| header["crit"] = json!(["exp"]));
    let mut half = signature.to_owned();
    half.truncate(signature.len() / 2);
    for token in [
        format!("{}.{claims}.", none("none")),
        format!("{}.{claims}.{signature}", none("none")),
        format!("{}.{claims}.", none("None")),
        format!("{}.{claims}.", none("NONE")),
        format!("{}.{claims}.", none("")),
        format!("{}.{claims}", none("none")),
        format!("{hs256}.{claims}.{tag}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{half}"),
        format!("{header}.{claims}.{signature}A"),
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{claims}.{signature}.x"),
        // A JWE (RFC 7516) has five parts.
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        foreign,
        own_key,
        critical,
        "..".to_owned(),
        "eyJ.eyJ.eyJ".to_owned(),
        format!("{header}.{}.{signature}", "A".repeat(15_000)),
        format!("{header}.{}.{signature}", "A".repeat(40_000)),
    ] {
        let page = ask(&stage, &token).await;
        assert_eq!(page.status, 401, "{}", &token[..token.len().min(100)]);
    }
    assert_eq!(stage.upstream().requests(), 0);
    assert_eq!(other.server.requests(), [], "a token chose whom we ask");
    assert_eq!(ask(&stage, &good).await.status, 200);
}

#[tokio::test]
async fn unknown_keys_cause_one_look_at_the_issuers_and_no_more() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    assert_eq!(ask(&stage, &issuer.token(|_, _| {})).await.status, 200);
    for n in 0..50 {
        let token = issuer.token(|header, _| header["kid"] = json!(format!("unknown-{n}")));
        assert_eq!(ask(&stage, &token).await.status, 401);
    }
    assert!(issuer.fetches() <= 2, "{}", issuer.fetches());
}

#[tokio::test]
async fn a_jwt_is_not_taken_for_bad_while_the_keys_of_its_issuer_cannot_be_had() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    let good = issuer.token(|_, _| {});
    let foreign = issuer.token(|_, claims| claims["iss"] = json!("https://other.test"));
    // The issuer ends with it.
    drop(issuer);
    assert_eq!(ask(&stage, &good).await.status, 503);
    assert_eq!(ask(&stage, &foreign).await.status, 401);
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn a_token_of_a_far_too_long_header_is_refused_before_it_is_read() {
    let issuer = Issuer::start().await;
    let stage = issuer.stage().await;
    let token = issuer.token(|_, claims| claims["groups"] = json!("x".repeat(14_000)));
    assert_eq!(ask(&stage, &token).await.status, 401);
    assert_eq!(issuer.fetches(), 0);
}

#[tokio::test]
async fn another_scheme_or_a_second_header_is_no_bearer_token() {
    let stage = Stage::start().await;
    let token = stage.token_of(ALICE);
    for value in [
        format!("Basic {token}"),
        format!("Bearer{token}"),
        format!("Bearer={token}"),
        format!("Token {token}"),
        format!("Negotiate {token}"),
        token.clone(),
        format!("Bearer x, Bearer {token}"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {token} x"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
    ] {
        let browser = stage.browser();
        let page = browser
            .get("/")
            .header("authorization", &value)
            .send()
            .await;
        assert_eq!(page.status, 401, "{value}");
    }
    // Neither in the query nor in a form (RFC 6750 §2.2 and §2.3).
    let query = format!("/?access_token={token}");
    assert_eq!(stage.browser().get(&query).send().await.status, 401);
    let form = format!("access_token={token}");
    assert_eq!(stage.browser().post("/", form).send().await.status, 401);
    assert_eq!(stage.upstream().requests(), 0);
}

#[tokio::test]
async fn a_token_that_is_not_active_is_refused_whatever_else_the_provider_says() {
    let stage = Stage::start().await;
    let token = stage.token_of(ALICE);
    let order = FaultOrder::new(Endpoint::Introspect, Fault::Inactive);
    stage.globus().order_fault(order);
    assert_eq!(ask(&stage, &token).await.status, 401);
    assert_eq!(stage.upstream().requests(), 0);
}

/// What a provider said counts for half a minute: a revocation acts then at the latest.
#[tokio::test]
async fn a_revoked_token_is_refused_after_half_a_minute_although_it_was_known_to_be_good() {
    let stage = Stage::start().await;
    let token = stage.token_of(ALICE);
    assert_eq!(ask(&stage, &token).await.status, 200);
    let revoked = stage.globus().revoke(&Revocation {
        token: Some(token.clone()),
        ..Revocation::default()
    });
    assert_eq!(revoked, Ok(1));
    let limit = Duration::from_secs(35);
    eventually_within(limit, "a revoked token to be refused", async || {
        (ask(&stage, &token).await.status == 401).then_some(())
    })
    .await;
}
