//! Services of an issuer at which users do not log in: a certified provider, a real browser.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use globus_auth_tests::forward::{Forward, Target};
use rstest::rstest;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::cluster::{Namespace, eventually};
use crate::vault::{ASKS, PATIENCE, Volume, ready};
use crate::workload::{ALICE, CLIENT_ID, CLIENT_SECRET, Provider, Scene, echo, provider};

/// The service, as its issuer calls it.
const STORAGE: &str = "https://storage.test";

/// The issuer of the service, with what users reach it by.
struct Storage {
    forward: Forward,
    issuer: String,
}

impl Storage {
    async fn start(namespace: &Namespace, scene: &Scene) -> Self {
        let target = Target {
            namespace: namespace.name.clone(),
            labels: "app=storage".to_owned(),
            port: 8080,
        };
        let forward = Forward::start(namespace.client.clone(), target).await;
        let forward = forward.unwrap();
        let issuer = format!("http://storage.{}.svc.cluster.local:8080", namespace.name);
        let config = json!({
            "listen": {"host": "0.0.0.0", "port": 8080},
            "issuer": issuer,
            "browser_url": forward.url(),
            "clients": [{
                "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "redirect_uris": [format!("{}/oauth2/connections/callback/storage", scene.app.url())],
            }],
            "users": [{"username": "alice-of-storage", "name": "Alice"}],
            "resources": [{"resource": STORAGE, "scopes": ["read"]}],
        });
        namespace.apply(&provider("storage", Provider::Oidc, &config));
        namespace.await_available("storage");
        Self { forward, issuer }
    }

    /// A vault with both issuers.
    fn vault(&self, namespace: &Namespace, user_grant: &str) -> String {
        format!(
            r"
apiVersion: globus-auth.dev/v1alpha1
kind: TokenVault
metadata: {{name: tokens}}
spec:
  issuers:
  - {{name: globus, type: Globus, issuer: '{}', clientSecretRef: {{name: client}}}}
  - {{name: storage, type: OIDC, issuer: '{}', clientSecretRef: {{name: client}}, userGrant: {user_grant}}}
  allowedNetworks: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
  consumers: [{{namespace: {}, serviceAccount: default, resourceServers: ['{STORAGE}']}}]
",
            Scene::issuer(namespace),
            self.issuer,
            namespace.name,
        )
    }
}

/// What the token says that the workload got: this issuer's are JWTs.
fn claims_in(page: &str) -> Option<Value> {
    let reflection: Value = serde_json::from_str(page).ok()?;
    let headers = reflection["headers"].as_array()?;
    let token = headers.iter().find(|pair| pair[0] == "x-token-storage")?[1].as_str()?;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// What a person presses at the issuer.
async fn allow(browser: &Browser) {
    browser.press("alice-of-storage").await;
    browser.await_text("Allow the-client?").await;
    browser.press("Allow").await;
}

#[rstest]
#[case::browser("AuthorizationCode")]
#[case::code("DeviceCode")]
#[tokio::test]
async fn a_user_connects_a_service_of_another_issuer(#[case] user_grant: &str) {
    let name = format!("connect{}", user_grant.to_lowercase());
    let namespace = Namespace::new(&name[..15]).await;
    let _volume = Volume::new(&namespace);
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let storage = Storage::start(&namespace, &scene).await;
    namespace.apply(&storage.vault(&namespace, user_grant));
    eventually("the vault to be ready", PATIENCE, async || {
        ready(&namespace)
    })
    .await;
    let tokens = format!(
        "  vaultRef: {{name: tokens}}\n  tokens: [{{name: storage, issuer: storage, resourceServer: '{STORAGE}', \
         scopes: [openid, read], header: X-Token-Storage}}]"
    );
    namespace.apply(&scene.proxy(&namespace, &format!("{{emails: [{ALICE}]}}"), &tokens));
    namespace.apply(&echo("127.0.0.1"));
    namespace.await_available("app");
    namespace
        .await_condition("app", "VaultConnected", "True", "Found")
        .await;

    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    let page = browser.await_text("x-forwarded-user").await;
    assert!(!page.contains(ASKS) && claims_in(&page).is_none(), "{page}");
    let connections = format!("{}/oauth2/connections", scene.app.url());
    browser.open(&connections).await;
    browser.await_text("Not connected").await;
    browser.press("Connect storage").await;
    if user_grant == "DeviceCode" {
        let page = browser.await_text("enter the code").await;
        browser.screenshot("connect-code").await;
        let code = page.split("enter the code ").nth(1).unwrap();
        let code = code
            .split_whitespace()
            .next()
            .unwrap()
            .trim_end_matches('.');
        // Any browser will do.
        let phone = Browser::start().await;
        phone
            .open(&format!("{}/device", storage.forward.url()))
            .await;
        phone.type_into("user_code", code).await;
        phone.press("Continue").await;
        phone.await_text("Let the-client go on?").await;
        phone.press("Go on").await;
        allow(&phone).await;
        phone.await_text("You can go back to your device").await;
        phone.close().await;
    } else {
        browser.await_text("Come back in this browser").await;
        browser.screenshot("connect").await;
        browser.press("Continue at").await;
        allow(&browser).await;
        let page = browser.await_text("Connected; renewed by itself").await;
        assert!(page.contains("There you are alice-of-storage."), "{page}");
    }
    eventually("the service to be connected", PATIENCE, async || {
        browser.open(&connections).await;
        let text = browser.text().await;
        let is_there = text.contains("Connected; renewed by itself");
        is_there.then_some(()).ok_or(text)
    })
    .await;
    browser.screenshot("connected").await;
    browser.open(&scene.app.url()).await;
    let claims = claims_in(&browser.await_text("x-token-storage").await).unwrap();
    assert_eq!(
        (
            &claims["iss"],
            &claims["sub"],
            &claims["aud"],
            &claims["scope"]
        ),
        (
            &json!(storage.issuer),
            &json!("alice-of-storage"),
            &json!(STORAGE),
            &json!("read")
        )
    );
    browser.close().await;
}
