//! Services of issuers at which users do not log in.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_core::sidecar_config::ProviderKind;
use globus_auth_core::vault_api::{
    CONNECT, CONNECTED, ConnectAnswer, ConnectRequest, ConnectedRequest,
};
use globus_auth_core::vault_config::{Issuer, UserGrant};
use globus_auth_tests::harness::scripted::{self, Received, Scripted};
use parking_lot::Mutex;

use super::*;

const STORAGE: &str = "https://storage.test/";
const STORAGE_SCOPE: &str = "storage.read:/data";
const CLIENT: &str = "client-of-storage";

/// An authorization server that is no OpenID provider (RFC 8414), such as that of a storage service.
struct Storage {
    server: Scripted,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// What the token endpoint was asked, without secrets of the client.
    asked: Vec<BTreeMap<String, String>>,
    /// What it answers to device codes, the last one for ever.
    devices: Vec<(u16, Value)>,
    given: u32,
    revoked: Vec<String>,
}

impl Storage {
    async fn start() -> Self {
        let memory = Arc::new(Mutex::new(Memory::default()));
        let shared = Arc::clone(&memory);
        let server = Scripted::start(move |request, address| {
            answer(&mut shared.lock(), request, &format!("http://{address}"))
        })
        .await;
        Self { server, memory }
    }

    fn issuer(&self) -> String {
        self.server.origin()
    }

    fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.memory.lock().asked.clone()
    }

    /// What it answers, one after the other, while a user may enter a code.
    fn answers_to_devices(&self, answers: &[(u16, Value)]) {
        // The last one comes first out.
        self.memory.lock().devices = answers.iter().rev().cloned().collect();
    }
}

fn answer(memory: &mut Memory, request: &Received, issuer: &str) -> Vec<u8> {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    match request.target() {
        "/.well-known/oauth-authorization-server" => scripted::json(
            200,
            &json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "revocation_endpoint": format!("{issuer}/revoke"),
                "device_authorization_endpoint": format!("{issuer}/device"),
                "authorization_response_iss_parameter_supported": true,
                "scopes_supported": [STORAGE_SCOPE, "offline_access"],
            }),
        ),
        "/device" => scripted::json(
            200,
            &json!({"device_code": "device", "user_code": "WDJB-MJHT", "verification_uri": format!("{issuer}/enter"),
                "expires_in": 600, "interval": 1}),
        ),
        "/token" => {
            let grant = form.get("grant_type").cloned().unwrap_or_default();
            memory.asked.push(form);
            if grant.ends_with("device_code")
                && let Some((status, refusal)) = memory.devices.pop()
            {
                if memory.devices.is_empty() {
                    memory.devices.push((status, refusal.clone()));
                }
                if status != 200 {
                    return scripted::json(status, &refusal);
                }
            }
            memory.given += 1;
            let given = memory.given;
            scripted::json(
                200,
                &json!({"access_token": format!("storage-at-{given}"), "refresh_token": format!("storage-rt-{given}"),
                    "token_type": "Bearer", "expires_in": 3600}),
            )
        }
        "/revoke" => {
            memory.revoked.extend(form.get("token").cloned());
            scripted::json(200, &json!({}))
        }
        _ => scripted::json(404, &json!({})),
    }
}

/// A workload that uses storage, beside what comes with a login.
async fn stage(storage: &Storage, user_grant: UserGrant) -> Stage {
    let issuer = storage.issuer();
    Stage::setup()
        .vault(|upstream| {
            vec![DeliveredToken {
                issuer: Some("storage".to_owned()),
                header: Some("X-Token-Storage".to_owned()),
                route: Some(TokenRoute {
                    prefix: "/storage".to_owned(),
                    upstream: format!("http://{upstream}").parse().unwrap(),
                }),
                ..token("storage", STORAGE, STORAGE_SCOPE)
            }]
        })
        .vault_config(move |config| {
            config.issuers.push(Issuer {
                name: "storage".to_owned(),
                kind: ProviderKind::OIDC,
                issuer: issuer.parse().unwrap(),
                client_id: CLIENT.to_owned(),
                rotation: Rotation::Rotates { grace_seconds: 0 },
                user_grant,
                ..config.issuers[0].clone()
            });
        })
        .start()
        .await
}

async fn connections(browser: &Browser) -> Page {
    browser.open("/oauth2/connections").send().await
}

/// Where the page of the proxy sends the browser on, after a press on the button.
async fn sent_to(browser: &Browser) -> Url {
    let page = browser
        .press(&connections(browser).await, "Connect storage")
        .await;
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    let (_, rest) = text
        .split_once("href=\"http")
        .expect("a link to the issuer");
    let (address, label) = rest.split_once("\">").unwrap();
    let url: Url = format!("http{}", address.replace("&#38;", "&"))
        .parse()
        .unwrap();
    let host = url.authority();
    assert!(label.starts_with(&format!("Continue at {host}")), "{label}");
    url
}

fn parameters(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

fn callback(state: &str, issuer: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("code", "the-code"), ("state", state), ("iss", issuer)])
        .finish();
    format!("/oauth2/connections/callback/storage?{query}")
}

async fn given_to_workload(browser: &Browser) -> Option<String> {
    let page = browser.get("/reflect").send().await;
    let given = page.reflection();
    given.values("X-Token-Storage").next().map(str::to_owned)
}

#[tokio::test]
async fn a_browser_goes_to_another_issuer_and_comes_back_with_a_code() {
    let storage = Storage::start().await;
    let stage = stage(&storage, UserGrant::AuthorizationCode).await;
    let alice = stage.logged_in(ALICE).await;
    let page = connections(&alice).await.text();
    assert!(
        page.contains("Not connected") && page.contains("read files below /data"),
        "{page}"
    );
    assert_eq!(given_to_workload(&alice).await, None);

    let address = sent_to(&alice).await;
    assert_eq!(address.path(), "/authorize");
    let asked = parameters(&address);
    assert_eq!(asked["scope"], format!("{STORAGE_SCOPE} offline_access"));
    assert_eq!(
        (asked["client_id"].as_str(), asked["resource"].as_str()),
        (CLIENT, STORAGE)
    );
    let redirect = format!("{EXTERNAL_URL}/oauth2/connections/callback/storage");
    assert_eq!(asked["redirect_uri"], redirect);
    let back = alice
        .open(&callback(&asked["state"], &storage.issuer()))
        .send()
        .await;
    assert_eq!(
        (back.status.as_u16(), back.location()),
        (302, "/oauth2/connections"),
        "{}",
        back.text()
    );

    let redeemed = &storage.asked()[0];
    let challenge = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        redeemed["code_verifier"].as_bytes(),
    );
    assert_eq!(URL_SAFE_NO_PAD.encode(challenge), asked["code_challenge"]);
    assert_eq!(redeemed["redirect_uri"], redirect);
    assert_eq!(redeemed["resource"], STORAGE);

    let page = connections(&alice).await.text();
    assert!(page.contains("Connected; renewed by itself"), "{page}");
    assert_eq!(given_to_workload(&alice).await.unwrap(), "storage-at-1");
    // The user of another session has connected nothing.
    assert_eq!(given_to_workload(&stage.logged_in(CAROL).await).await, None);
    alice.press(&connections(&alice).await, "Disconnect").await;
    assert_eq!(
        storage.memory.lock().revoked,
        ["storage-rt-1", "storage-at-1"]
    );
    assert_eq!(given_to_workload(&alice).await, None);
}

/// Nobody ends what somebody else has begun, nobody ends it twice, and a code of another issuer is not sent to this
/// one.
#[tokio::test]
async fn a_code_that_belongs_to_no_request_of_this_session_is_not_redeemed() {
    let storage = Storage::start().await;
    let stage = stage(&storage, UserGrant::AuthorizationCode).await;
    let (alice, carol) = (stage.logged_in(ALICE).await, stage.logged_in(CAROL).await);
    let issuer = storage.issuer();
    let state = async |browser: &Browser| parameters(&sent_to(browser).await)["state"].clone();
    let refused = async |browser: &Browser, address: &str| {
        let page = browser.open(address).send().await;
        assert_eq!(page.status, 403, "{address}: {}", page.text());
        assert!(
            page.text().contains("The service is not connected"),
            "{}",
            page.text()
        );
    };
    refused(&alice, &callback("made-up", &issuer)).await;
    let begun = state(&alice).await;
    refused(&carol, &callback(&begun, &issuer)).await;
    // Whoever tried has used it up.
    refused(&alice, &callback(&begun, &issuer)).await;
    // A second session of the same user.
    let begun = state(&alice).await;
    refused(&stage.logged_in(ALICE).await, &callback(&begun, &issuer)).await;
    // RFC 9207: the issuer names itself, and must.
    let begun = state(&alice).await;
    refused(&alice, &callback(&begun, "https://evil.test")).await;
    let begun = state(&alice).await;
    let unnamed = callback(&begun, &issuer);
    let unnamed = unnamed.split_once("&iss").unwrap().0;
    refused(&alice, unnamed).await;
    // The address of another issuer.
    let begun = state(&alice).await;
    let other = callback(&begun, &issuer).replace("/storage?", "/globus?");
    refused(&alice, &other).await;
    refused(
        &alice,
        "/oauth2/connections/callback/storage?error=access_denied&state=x",
    )
    .await;
    // Without a session one logs in first.
    let begun = state(&alice).await;
    let page = stage
        .browser()
        .open(&callback(&begun, &issuer))
        .send()
        .await;
    assert!(
        page.location().starts_with("/oauth2/start"),
        "{}",
        page.location()
    );
    assert_eq!(storage.asked(), []);
    assert_eq!(given_to_workload(&alice).await, None);
}

#[tokio::test]
async fn what_is_not_connected_says_where_to_connect_it() {
    let storage = Storage::start().await;
    let stage = stage(&storage, UserGrant::AuthorizationCode).await;
    let alice = stage.logged_in(ALICE).await;
    let page = alice.get("/reflect").send().await;
    let pass = page.reflection();
    let pass = pass
        .values("X-Globus-Auth-Session")
        .next()
        .unwrap()
        .to_owned();
    let headers = [("X-Globus-Auth-Session", pass.as_str())];
    let (status, answer) = through_route(&stage, "/storage/a", &headers).await;
    assert_eq!(status, 403);
    let expected = json!({"error": "connection_required", "connect_url": format!("{EXTERNAL_URL}/oauth2/connections"),
        "error_description": "the user has not connected the service; send them to connect_url"});
    assert_eq!(answer, expected);
    // Nor did the login ask for it: its issuer refuses scopes that it does not know.
}

#[tokio::test]
async fn a_user_enters_a_code_at_another_issuer() {
    let storage = Storage::start().await;
    let pending = (400, json!({"error": "authorization_pending"}));
    storage.answers_to_devices(&[pending.clone(), pending, (200, json!({}))]);
    let stage = stage(&storage, UserGrant::DeviceCode).await;
    let alice = stage.logged_in(ALICE).await;
    let page = alice
        .press(&connections(&alice).await, "Connect storage")
        .await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let page = connections(&alice).await.text();
    let where_to = format!("{}/enter", storage.issuer());
    assert!(
        page.contains("WDJB-MJHT") && page.contains(&where_to),
        "{page}"
    );
    assert!(page.contains("Waits for you, for another"), "{page}");
    // The code is for who has asked for it.
    let carols = connections(&stage.logged_in(CAROL).await).await.text();
    assert!(!carols.contains("WDJB-MJHT"), "{carols}");
    eventually("the code to be entered", async || {
        let text = connections(&alice).await.text();
        text.contains("Connected; renewed by itself").then_some(())
    })
    .await;
    assert_eq!(given_to_workload(&alice).await.unwrap(), "storage-at-1");
    let asked = storage.asked();
    assert_eq!(asked.len(), 3);
    for one in &asked {
        assert_eq!(one["device_code"], "device");
        assert_eq!(
            one["grant_type"],
            "urn:ietf:params:oauth:grant-type:device_code"
        );
        assert_eq!(one["resource"], STORAGE);
    }
}

#[rstest]
#[case::denied("access_denied")]
#[case::too_late("expired_token")]
#[case::unknown_code("invalid_grant")]
#[tokio::test]
async fn a_code_that_is_refused_is_told_and_not_asked_about_again(#[case] error: &str) {
    let storage = Storage::start().await;
    storage.answers_to_devices(&[(400, json!({"error": error}))]);
    let stage = stage(&storage, UserGrant::DeviceCode).await;
    let alice = stage.logged_in(ALICE).await;
    alice
        .press(&connections(&alice).await, "Connect storage")
        .await;
    eventually("the refusal to be told", async || {
        let text = connections(&alice).await.text();
        text.contains("It was not allowed there").then_some(())
    })
    .await;
    // Whoever begins anew gets another one.
    storage.answers_to_devices(&[(200, json!({}))]);
    assert_eq!(storage.asked().len(), 1);
    alice
        .press(&connections(&alice).await, "Connect storage")
        .await;
    eventually("the service to be connected", async || {
        given_to_workload(&alice).await
    })
    .await;
    assert_eq!(storage.asked().len(), 2);
}

/// RFC 8628 §3.5: five seconds more from then on.
#[tokio::test]
async fn an_issuer_that_says_slow_down_is_asked_less_often() {
    let storage = Storage::start().await;
    storage.answers_to_devices(&[(400, json!({"error": "slow_down"})), (200, json!({}))]);
    let stage = stage(&storage, UserGrant::DeviceCode).await;
    let alice = stage.logged_in(ALICE).await;
    alice
        .press(&connections(&alice).await, "Connect storage")
        .await;
    let asked = |times: usize| {
        let storage = &storage;
        async move {
            eventually("the issuer to be asked", async || {
                (storage.asked().len() == times).then_some(())
            })
            .await;
            tokio::time::Instant::now()
        }
    };
    let first = asked(1).await;
    let second = asked(2).await;
    let waited = second.duration_since(first);
    assert!(waited.as_millis() >= 5_500, "{waited:?}");
}

/// A sidecar that makes things up gets no further than its users.
#[tokio::test]
async fn only_a_session_of_a_browser_connects_and_only_what_the_policy_names() {
    let storage = Storage::start().await;
    let stage = stage(&storage, UserGrant::AuthorizationCode).await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let handle = handle_of(&stage, POD, &session).await.unwrap();
    let connect = async |pod: Pod, handle: &str, issuer: &str, resource_server: &str| {
        let request = ConnectRequest {
            handle: handle.into(),
            issuer: issuer.to_owned(),
            resource_server: resource_server.to_owned(),
            scopes: vec![STORAGE_SCOPE.to_owned()],
            redirect_uri: format!("{EXTERNAL_URL}/oauth2/connections/callback/storage"),
        };
        let answer: Result<ConnectAnswer, _> = stage.vault().ask(pod, CONNECT, &request).await;
        answer.map_err(|(status, _)| status)
    };
    let forbidden = StatusCode::FORBIDDEN;
    assert!(connect(POD, &handle, "storage", STORAGE).await.is_ok());
    for (pod, handle, resource) in [
        (POD, "made up", STORAGE),
        (REPLICA, &*handle, STORAGE),
        (OTHER_WORKLOAD, &*handle, STORAGE),
        (POD, &*handle, "https://other.test/"),
    ] {
        let refused = connect(pod, handle, "storage", resource).await;
        assert_eq!(refused.unwrap_err(), forbidden, "{pod:?} {resource}");
    }
    let unknown = connect(POD, &handle, "nobody", STORAGE).await;
    assert_eq!(unknown.unwrap_err(), StatusCode::BAD_REQUEST);

    let ConnectAnswer::Go { address } = connect(POD, &handle, "storage", STORAGE).await.unwrap()
    else {
        panic!("no address");
    };
    let state = parameters(&address.parse().unwrap())["state"].clone();
    let request = ConnectedRequest {
        handle: "made up".into(),
        issuer: "storage".to_owned(),
        state: state.into(),
        code: "code".into(),
        response_issuer: None,
    };
    let refused: Result<Value, _> = stage.vault().ask(POD, CONNECTED, &request).await;
    assert_eq!(refused.unwrap_err().0, forbidden);
    assert_eq!(storage.asked(), []);
}
