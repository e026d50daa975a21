use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

async fn id_token_with(fault: Fault) -> (Emulator, String) {
    let emulator = emulator();
    emulator.order_fault(FaultOrder::new(Endpoint::Token, fault).times(1));
    let answer = tokens(&emulator, &[("nonce", "n1")], ALICE).await;
    let id_token = text(&answer, "id_token").to_owned();
    (emulator, id_token)
}

#[tokio::test]
async fn id_tokens_can_be_wrong_in_every_way() {
    for (fault, why) in [
        (Fault::AlgHs256, "InvalidAlgorithm"),
        (Fault::AlgNone, "Json"),
        (Fault::BadSignature, "InvalidSignature"),
        (Fault::ExpiredIdToken, "ExpiredSignature"),
        (Fault::WrongAudience, "InvalidAudience"),
        (Fault::WrongIssuer, "InvalidIssuer"),
    ] {
        let (emulator, id_token) = id_token_with(fault.clone()).await;
        let error = verified(&emulator, &id_token).await.unwrap_err();
        assert!(
            format!("{:?}", error.kind()).starts_with(why),
            "{fault:?}: {error:?}"
        );
        // The order is used up.
        let good = tokens(&emulator, &[], ALICE).await;
        verified(&emulator, text(&good, "id_token")).await.unwrap();
    }
    for (fault, nonce) in [
        (Fault::WrongNonce, Value::from("another-nonce")),
        (Fault::MissingNonce, Value::Null),
    ] {
        let (emulator, id_token) = id_token_with(fault).await;
        assert_eq!(
            verified(&emulator, &id_token).await.unwrap()["nonce"],
            nonce
        );
    }
}

#[tokio::test]
async fn a_confused_verifier_would_accept_the_hs256_token() {
    let (emulator, id_token) = id_token_with(Fault::AlgHs256).await;
    assert_eq!(jwt_part(&id_token, 0)["alg"], "HS256");
    let (message, signature) = id_token.rsplit_once('.').unwrap();
    let keys = get(&emulator, "/jwk.json", &[]).await.json();
    let modulus = URL_SAFE_NO_PAD.decode(text(&keys["keys"][0], "n")).unwrap();
    // The secret is the DER of the public key, which holds the modulus.
    let secret = emulator.realm().signing_key().public_der();
    assert!(
        secret
            .windows(modulus.len())
            .any(|window| window == modulus)
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn grants_can_be_refused_and_answers_shortened() {
    let emulator = emulator();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let token = text(&answer, "refresh_token");
    let refreshing = |fault| FaultOrder::new(Endpoint::Token, fault).grant_type("refresh_token");
    emulator.order_fault(refreshing(Fault::InvalidGrant).times(1));
    let refused = refresh(&emulator, token).await;
    assert_eq!(
        (refused.status, &*refused.body),
        (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_grant"}"#)
    );
    emulator.order_fault(refreshing(Fault::OmitRefreshToken).times(1));
    assert!(
        refresh(&emulator, token)
            .await
            .json()
            .get("refresh_token")
            .is_none()
    );
    assert_eq!(
        refresh(&emulator, token).await.json()["refresh_token"],
        token
    );
    let error = Fault::OauthError {
        error: "temporarily_unavailable".to_owned(),
        error_description: Some("later".to_owned()),
        status: Some(503),
    };
    emulator.order_fault(FaultOrder::new(Endpoint::Token, error.clone()).times(1));
    let refused = refresh(&emulator, token).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["error"], "temporarily_unavailable");
    emulator.order_fault(FaultOrder::new(Endpoint::Authorize, error).times(1));
    let back = get(&emulator, &authorization_url(&[]), &[]).await;
    assert_eq!(back.sent_back("error"), "temporarily_unavailable");
    emulator.order_fault(FaultOrder::new(Endpoint::Token, Fault::OmitIdToken));
    assert!(
        tokens(&emulator, &[], ALICE)
            .await
            .get("id_token")
            .is_none()
    );
    emulator.clear_faults();
    assert!(
        tokens(&emulator, &[], ALICE)
            .await
            .get("id_token")
            .is_some()
    );
}

#[tokio::test]
async fn sessions_and_tokens_can_stop_being_good_enough() {
    let emulator = emulator();
    let cookie = log_in(&emulator, &[], ALICE).await.cookie();
    let token = emulator
        .mint(&MintRequest::new(ALICE, APP.0))
        .unwrap()
        .access_token;
    let policies = [("authentication_policies", "policy")];
    let mut met = Vec::new();
    for fault in [None, Some(Fault::SessionPolicyNotMet)] {
        if let Some(fault) = fault {
            emulator.order_fault(FaultOrder::new(Endpoint::Introspect, fault.clone()));
            emulator.order_fault(FaultOrder::new(Endpoint::Authorize, fault));
        }
        let told = introspect(&emulator, APP, &token, &policies).await.json();
        let silent = authorization_url(&[("prompt", "none")]);
        let back = get(&emulator, &silent, &[("cookie", &cookie)]).await;
        let evaluation = told["policy_evaluations"]["policy"]["evaluation"].clone();
        met.push((evaluation, back.sent_back("error")));
    }
    assert_eq!(
        met,
        [
            (true.into(), String::new()),
            (false.into(), "login_required".to_owned())
        ]
    );
    emulator.clear_faults();
    emulator.order_fault(FaultOrder::new(Endpoint::Introspect, Fault::Inactive).times(1));
    let told = introspect(&emulator, APP, &token, &[]).await;
    assert_eq!(told.body, r#"{"active":false}"#);
    emulator.order_fault(FaultOrder::new(Endpoint::Userinfo, Fault::WrongSubject));
    let told = get_with_token(&emulator, "/v2/oauth2/userinfo", &token)
        .await
        .json();
    assert_ne!(told["sub"], *emulator.sub(ALICE).unwrap());
    emulator.order_fault(FaultOrder::new(Endpoint::Discovery, Fault::WrongIssuer));
    let document = get(&emulator, "/.well-known/openid-configuration", &[])
        .await
        .json();
    assert_eq!(document["issuer"], "https://another-issuer.test");
}

#[tokio::test]
async fn answers_can_be_replaced() {
    let emulator = emulator();
    let status = Fault::Status {
        status: 429,
        retry_after_seconds: Some(7),
        when: When::Before,
    };
    emulator.order_fault(
        FaultOrder {
            endpoint: None,
            ..FaultOrder::new(Endpoint::Jwks, status)
        }
        .times(2),
    );
    for target in ["/jwk.json", "/anything"] {
        let answer = get(&emulator, target, &[]).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.header("retry-after"), "7");
        assert_eq!(answer.json()["errors"][0]["code"], "TOO_MANY_REQUESTS");
    }
    emulator
        .order_fault(FaultOrder::new(Endpoint::Jwks, Fault::HugeBody { bytes: 100_000 }).times(1));
    let huge = get(&emulator, "/jwk.json", &[]).await;
    assert_eq!((huge.body.len(), huge.json().is_string()), (100_000, true));
    emulator.order_fault(FaultOrder::new(Endpoint::Jwks, Fault::Malformed).times(1));
    assert!(
        get(&emulator, "/jwk.json", &[])
            .await
            .body
            .starts_with("<!doctype html>")
    );
    assert!(get(&emulator, "/jwk.json", &[]).await.json()["keys"].is_array());
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_token_was_used() {
    let mut config = config();
    config.rotate_refresh_tokens = true;
    let emulator = Emulator::new(config).unwrap();
    let answer = tokens(&emulator, &[("access_type", "offline")], ALICE).await;
    let token = text(&answer, "refresh_token");
    let status = |when| Fault::Status {
        status: 502,
        retry_after_seconds: None,
        when,
    };
    emulator.order_fault(FaultOrder::new(Endpoint::Token, status(When::Before)).times(1));
    assert_eq!(
        refresh(&emulator, token).await.status,
        StatusCode::BAD_GATEWAY
    );
    emulator.order_fault(FaultOrder::new(Endpoint::Token, status(When::After)).times(1));
    assert_eq!(
        refresh(&emulator, token).await.status,
        StatusCode::BAD_GATEWAY
    );
    let gone = refresh(&emulator, token).await;
    assert_eq!(gone.body, r#"{"error":"invalid_grant"}"#);
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_late() {
    let emulator = emulator();
    let slow = Fault::Slow {
        delay_ms: 60_000,
        when: When::After,
    };
    emulator.order_fault(FaultOrder::new(Endpoint::Jwks, slow).times(1));
    let before = tokio::time::Instant::now();
    assert_eq!(
        get(&emulator, "/jwk.json", &[]).await.status,
        StatusCode::OK
    );
    assert_eq!(before.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn a_connection_can_be_reset_before_and_after_the_work() {
    let emulator = Emulator::start(Config {
        issuer: None,
        ..config()
    })
    .await
    .unwrap();
    assert_eq!(emulator.issuer(), format!("http://{}", emulator.address()));
    for when in [When::Before, When::After] {
        emulator.order_fault(FaultOrder::new(Endpoint::Jwks, Fault::Reset { when }).times(1));
        let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
        stream
            .write_all(b"GET /jwk.json HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{when:?}");
    }
    let records = emulator.requests().requests;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].status, None);
    assert_eq!(records[0].fault, Some(Fault::Reset { when: When::Before }));
    // The next connection works again.
    let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
    let request = b"GET /jwk.json HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let address = emulator.address();
    emulator.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
