//! A person logs in, in a real browser, at our emulator of Globus and at a provider that we did not write.

use std::time::Duration;

use globus_auth_tests::forward::{Forward, Target};
use http::{Method, StatusCode};
use rstest::rstest;
use tokio::time::Instant;

use crate::browser::Browser;
use crate::cluster::{Namespace, SHORT, eventually};
use crate::workload::{ALICE, MALLORY, Provider, Scene, echo, echo_pod, indent, send};

impl Scene {
    /// Goes through the provider's pages as `user`.
    async fn log_in(&self, browser: &Browser, user: &str) {
        match self.kind {
            // Globus asks for no consent to the scopes of a login.
            Provider::Globus => browser.press(user).await,
            Provider::Oidc => {
                browser.press(user.split('@').next().unwrap()).await;
                browser.press("Allow").await;
            }
        }
    }

    async fn start(namespace: &Namespace, kind: Provider) -> Self {
        let scene = Self::new(namespace, kind).await;
        namespace.apply(&scene.proxy(namespace, &format!("{{emails: [{ALICE}]}}"), ""));
        namespace.apply(&echo("127.0.0.1"));
        namespace.await_available("app");
        scene
    }
}

#[rstest]
#[case::globus(Provider::Globus)]
#[case::oidc(Provider::Oidc)]
#[tokio::test]
async fn an_allowed_user_enters_where_they_wanted_to_go(#[case] kind: Provider) {
    let namespace = Namespace::new("login").await;
    let scene = Scene::start(&namespace, kind).await;
    let browser = Browser::start().await;
    browser
        .open(&format!("{}/deep/link?x=http://a//b", scene.app.url()))
        .await;
    assert!(
        browser.url().await.starts_with(&scene.provider.url()),
        "{}",
        browser.url().await
    );
    scene.log_in(&browser, ALICE).await;
    let page = browser.await_text("x-forwarded-email").await;
    assert!(page.contains(ALICE), "{page}");
    assert!(page.contains("/deep/link?x=http://a//b"), "{page}");
    assert!(!page.contains("__Host-globus-auth"), "{page}");
    browser.close().await;
}

#[rstest]
#[case::globus(Provider::Globus)]
#[case::oidc(Provider::Oidc)]
#[tokio::test]
async fn a_refused_user_reads_which_account_it_was_and_can_choose_another(#[case] kind: Provider) {
    let namespace = Namespace::new("refused").await;
    let scene = Scene::start(&namespace, kind).await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    scene.log_in(&browser, MALLORY).await;
    let page = browser.await_text("You do not have access").await;
    assert!(page.contains(MALLORY), "{page}");
    browser.screenshot(&format!("refused-{kind:?}")).await;
    browser.press("Sign in with another account").await;
    scene.log_in(&browser, ALICE).await;
    browser.await_text("x-forwarded-email").await;
    browser.close().await;
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let namespace = Namespace::new("signout").await;
    let scene = Scene::start(&namespace, Provider::Globus).await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    scene.log_in(&browser, ALICE).await;
    browser.await_text("x-forwarded-email").await;
    browser
        .open(&format!("{}/oauth2/sign_out", scene.app.url()))
        .await;
    browser.await_text("You are signed out").await;
    browser.screenshot("signed-out").await;
    browser
        .open(&format!("{}/oauth2/userinfo", scene.app.url()))
        .await;
    browser.await_text("Unauthorized").await;
    browser.close().await;
}

/// Two replicas, each with a name of its own, so that a test can choose which one it asks.
fn replicas() -> String {
    format!(
        r"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: app}}
spec:
  serviceName: app
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app, globus-auth.dev/inject: enabled}}}}
    spec:
{}
",
        indent(&echo_pod("127.0.0.1"), 6)
    )
}

#[tokio::test]
async fn a_copy_of_a_cookie_is_worthless_at_every_replica_after_its_user_signed_out() {
    let namespace = Namespace::new("replicas").await;
    let scene = Scene::new(&namespace, Provider::Globus).await;
    let access = format!("{{emails: [{ALICE}, {MALLORY}]}}");
    namespace.apply(&scene.proxy(&namespace, &access, ""));
    namespace.apply(&replicas());
    namespace.kubectl(&["rollout", "status", "statefulset/app", "--timeout=120s"]);
    let mut pods = Vec::new();
    for name in ["app-0", "app-1"] {
        let target = Target {
            namespace: namespace.name.clone(),
            labels: format!("statefulset.kubernetes.io/pod-name={name}"),
            port: 4180,
        };
        let client = namespace.client.clone();
        pods.push(Forward::start(client, target).await.unwrap());
    }
    let mut cookies = Vec::new();
    for user in [ALICE, MALLORY] {
        let browser = Browser::start().await;
        browser.open(&scene.app.url()).await;
        scene.log_in(&browser, user).await;
        browser.await_text("x-forwarded-email").await;
        let value = browser.cookie("__Host-globus-auth").await;
        cookies.push(format!("__Host-globus-auth={value}"));
        browser.close().await;
    }
    let [first, second] = [&pods[0], &pods[1]].map(Forward::url);
    let ask = async |pod: &str, path: &str, cookie: &str| {
        let address = format!("{pod}{path}");
        let headers = [("cookie", cookie)];
        send(Method::GET, &address, &headers, String::new())
            .await
            .status
    };
    for pod in [&first, &second] {
        for cookie in &cookies {
            assert_eq!(ask(pod, "/", cookie).await, StatusCode::OK);
        }
    }

    let left = ask(&first, "/oauth2/sign_out", &cookies[0]).await;
    let started = Instant::now();
    assert_eq!(left, StatusCode::OK);
    assert_eq!(
        ask(&first, "/", &cookies[0]).await,
        StatusCode::UNAUTHORIZED
    );
    eventually(
        "the copy to be refused elsewhere",
        SHORT,
        async || match ask(&second, "/", &cookies[0]).await {
            StatusCode::UNAUTHORIZED => Ok(()),
            other => Err(other),
        },
    )
    .await;
    println!(
        "a sign-out acts at another replica after {:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    for pod in [&first, &second] {
        assert_eq!(ask(pod, "/", &cookies[1]).await, StatusCode::OK);
    }

    // A pod that starts later knows it, too.
    namespace.kubectl(&["delete", "pod", "app-0", "--wait"]);
    namespace.kubectl(&["rollout", "status", "statefulset/app", "--timeout=120s"]);
    eventually("the new pod", SHORT, async || {
        match ask(&first, "/", &cookies[1]).await {
            StatusCode::OK => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(
        ask(&first, "/", &cookies[0]).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn while_the_provider_is_down_sessions_go_on_and_new_logins_are_told() {
    let namespace = Namespace::new("outage").await;
    let scene = Scene::start(&namespace, Provider::Globus).await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    scene.log_in(&browser, ALICE).await;
    browser.await_text("x-forwarded-email").await;

    // The sidecar forgets what it has learnt of the provider when it starts anew.
    namespace.kubectl(&["scale", "deployment/provider", "--replicas=0"]);
    namespace.kubectl(&[
        "wait",
        "pod",
        "--selector=app=provider",
        "--for=delete",
        "--timeout=60s",
    ]);
    namespace.kubectl(&["rollout", "restart", "deployment/app"]);
    namespace.await_available("app");

    // The pod that goes may still be asked for a moment.
    eventually("the page of somebody with a session", SHORT, async || {
        browser
            .open(&format!("{}/still-here", scene.app.url()))
            .await;
        let text = browser.text().await;
        let is_there = text.contains("/still-here") && text.contains(ALICE);
        if is_there { Ok(()) } else { Err(text) }
    })
    .await;
    let stranger = Browser::start().await;
    stranger.open(&scene.app.url()).await;
    let page = stranger.await_text("You cannot sign in just now").await;
    assert!(page.contains("Globus does not answer"), "{page}");
    stranger.screenshot("provider-down").await;

    namespace.kubectl(&["scale", "deployment/provider", "--replicas=1"]);
    namespace.await_available("provider");
    eventually("a login page", SHORT, async || {
        stranger.open(&scene.app.url()).await;
        let url = stranger.url().await;
        if url.starts_with(&scene.provider.url()) {
            Ok(())
        } else {
            Err(url)
        }
    })
    .await;
    stranger.close().await;
    browser.close().await;
}
