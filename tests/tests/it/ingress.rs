//! The proxy beside an ingress that asks it about each request: a real nginx, and requests shaped as
//! Envoy and the Gateway API send them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use globus_auth_tests::harness::stage::{ALICE, MALLORY};
use globus_auth_tests::harness::{Page, Stage, eventually};
use rstest::rstest;
use tokio::net::{TcpListener, UnixStream};

/// What the operator renders into a ConfigMap.
const SNIPPET: &str = include_str!("../../../operator/src/proxy/nginx.conf");

/// A location as the comment of [`SNIPPET`] says.
const PROTECTED: &str = "
location / {
  auth_request /oauth2/auth;
  error_page 401 = @globus_auth_login;
  auth_request_set $globus_auth_email $upstream_http_x_auth_request_email;
  proxy_set_header X-Forwarded-Email $globus_auth_email;
  proxy_set_header Host $http_host;
  proxy_pass http://WORKLOAD;
}
";

/// As people have it who come from oauth2-proxy: a sign-in page, `X-User` and `X-Email`, nothing else.
const RUNBOOK: &str = "
location = /oauth2/auth {
  internal;
  proxy_pass SERVICE;
  proxy_pass_request_body off;
  proxy_set_header Content-Length '';
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-Proto https;
  proxy_set_header X-Original-URI $request_uri;
}
location /oauth2/ {
  proxy_pass SERVICE;
  proxy_set_header Host $host;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-Proto https;
  proxy_set_header X-Auth-Request-Redirect $request_uri;
}
location / {
  auth_request /oauth2/auth;
  error_page 401 = /oauth2/sign_in;
  auth_request_set $user $upstream_http_x_auth_request_user;
  auth_request_set $email $upstream_http_x_auth_request_email;
  proxy_set_header X-User $user;
  proxy_set_header X-Email $email;
  proxy_set_header Authorization '';
  proxy_set_header Host $host;
  proxy_pass http://WORKLOAD;
}
";

/// A real nginx on a socket in a folder of its own, reached by way of a free port.
struct Nginx {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    async fn start(stage: &Stage, locations: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("globus-auth-nginx-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let socket = folder.join("socket");
        let locations = locations
            .replace("SERVICE", &format!("http://{}", stage.sidecar.address()))
            .replace("WORKLOAD", &stage.upstream().address().to_string());
        let path = folder.join("nginx.conf");
        std::fs::write(&path, configuration(&folder, &socket, &locations)).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .args([Path::new("-p"), &folder, Path::new("-c"), &path])
            .args([Path::new("-e"), &folder.join("error.log")])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed (`.ci/setup nginx`)");
        eventually("nginx to listen", async || {
            UnixStream::connect(&socket).await.ok()
        })
        .await;
        let address = bridge(socket).await;
        Self {
            child,
            folder,
            address,
        }
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Everything that is not named here is as Debian has it, also the sizes of buffers. One process, so that
/// nothing is left of it when it is killed.
fn configuration(folder: &Path, socket: &Path, locations: &str) -> String {
    let (folder, socket) = (folder.display(), socket.display());
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen unix:{socket}; {locations} }}
}}
"
    )
}

/// Hands connections to a free port on to `socket`, until the test ends.
async fn bridge(socket: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut server = UnixStream::connect(socket).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

/// What the workload was told in the header `name`.
fn sent_on(page: &Page, name: &str) -> Vec<String> {
    let reflection = page.reflection();
    reflection.values(name).map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn the_checks_of_the_runbook_pass_behind_a_real_nginx() {
    let stage = Stage::setup().no_upstream().start().await;
    let nginx = Nginx::start(&stage, RUNBOOK).await;
    let direct = stage.browser();
    assert_eq!(direct.get("/oauth2/auth").send().await.status, 401);
    let public = stage.browser().at(nginx.address);
    for browser in [&direct, &public] {
        let start = browser.get("/oauth2/start").send().await;
        assert_eq!(start.status, 302);
        assert!(
            start.location().starts_with(stage.globus().issuer()),
            "{start:?}"
        );
    }
    let bogus = public
        .get("/oauth2/callback?code=test&state=test")
        .send()
        .await;
    assert!(
        bogus.status.is_client_error() || bogus.status.is_server_error(),
        "{bogus:?}"
    );
    // Nobody reaches the endpoint that nginx asks.
    assert_eq!(public.get("/oauth2/auth").send().await.status, 404);

    let page = public.open("/").send().await;
    assert!(
        page.text().contains("Sign in with Globus"),
        "{}",
        page.text()
    );
    let page = public.log_in("/oauth2/start?rd=%2Fruns", ALICE).await;
    assert_eq!((page.status.as_u16(), page.url.path()), (200, "/runs"));
    let page = public
        .get("/runs")
        .header("x-email", "mallory@example.net")
        .send()
        .await;
    assert_eq!(sent_on(&page, "x-email"), [ALICE]);
    assert_eq!(nginx.errors(), "");
}

#[tokio::test]
async fn the_snippet_sends_browsers_to_log_in_and_back_and_programs_away() {
    let mut stage = Stage::setup().no_upstream().start().await;
    let nginx = Nginx::start(&stage, &format!("{SNIPPET}{PROTECTED}")).await;
    let browser = stage.browser().at(nginx.address);
    let refused = browser.get("/api?a=1").send().await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.header("www-authenticate").starts_with("Bearer"),
        "{refused:?}"
    );

    let page = browser.log_in("/runs?a=1&b=%2F", ALICE).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.url.as_str(), "https://app.test/runs?a=1&b=%2F");
    assert_eq!(sent_on(&page, "x-forwarded-email"), [ALICE]);

    // Whoever leaves the list is out with the next request.
    stage
        .sidecar
        .reconfigure(|config| config.access.emails.clear())
        .await;
    assert_eq!(browser.get("/api").send().await.status, 401);
    let mallory = stage.browser().at(nginx.address);
    let page = mallory.log_in_until_callback("/", MALLORY).await;
    assert_eq!(page.status, 403);
    assert_eq!(nginx.errors(), "");
}

#[tokio::test]
async fn without_a_workload_every_path_but_ours_is_not_found_and_only_after_a_login() {
    let stage = Stage::setup().no_upstream().start().await;
    let browser = stage.browser();
    assert_eq!(browser.get("/runs").send().await.status, 401);
    let page = browser.log_in("/runs", ALICE).await;
    assert_eq!(page.status, 404);
    let program = browser.get("/runs").send().await;
    assert_eq!(program.json::<serde_json::Value>()["error"], "no_upstream");
}

#[tokio::test]
async fn a_workload_elsewhere_sees_its_users_and_the_external_host() {
    let workload = Stage::start().await;
    let address = workload.upstream().address();
    let url = format!("http://localhost:{}", address.port());
    let stage = Stage::setup().option("--upstream-url", &url).start().await;
    let browser = stage.browser();
    assert_eq!(browser.get("/").send().await.status, 401);
    let page = browser.log_in("/runs", ALICE).await;
    assert_eq!(sent_on(&page, "x-forwarded-email"), [ALICE]);
    assert_eq!(sent_on(&page, "host"), ["app.test"]);
}

#[tokio::test]
async fn a_workload_without_a_certificate_that_the_system_trusts_is_not_asked() {
    let workload = Stage::start().await;
    let url = format!("https://localhost:{}", workload.upstream().address().port());
    let stage = Stage::setup().option("--upstream-url", &url).start().await;
    let page = stage.browser().log_in("/", ALICE).await;
    assert_eq!(page.status, 502);
}

#[tokio::test]
async fn a_login_that_one_replica_began_is_completed_by_another() {
    let one = Stage::start().await;
    let rendered = serde_json::to_vec(one.sidecar.config()).unwrap();
    let config = serde_json::from_slice(&rendered).unwrap();
    let other = Stage::setup()
        .config(move |of_other| *of_other = config)
        .start()
        .await;
    let browser = one.browser();
    let callback = browser.log_in_at_provider("/runs", ALICE).await;
    let elsewhere = browser.at(other.sidecar.address());
    assert_eq!(elsewhere.open(&callback).send().await.status, 302);
    for replica in [&browser, &elsewhere] {
        assert_eq!(replica.get("/runs").send().await.status, 200);
    }
}

/// Envoy and the Gateway API put the path of the request that they ask about behind ours.
#[rstest]
#[case::a_path("/runs", "/oauth2/start?rd=%2Fruns")]
#[case::a_query("/runs?a=1&b=2", "/oauth2/start?rd=%2Fruns%3Fa%3D1%26b%3D2")]
#[case::the_start_page("/", "/oauth2/start?rd=%2F")]
#[case::what_looks_like_a_host("//evil.test/", "/oauth2/start?rd=%2F%2Fevil.test%2F")]
#[case::a_backslash("/%5Cevil.test", "/oauth2/start?rd=%2F%255Cevil.test")]
#[case::our_own_endpoint("/oauth2/sign_out", "/oauth2/start?rd=%2F")]
#[case::a_query_that_would_be_ours(
    "/?rd=https://evil.test",
    "/oauth2/start?rd=%2F%3Frd%3Dhttps%3A%2F%2Fevil.test"
)]
#[tokio::test]
async fn a_gateway_that_appends_the_path_gets_a_login_that_returns_there(
    #[case] path: &str,
    #[case] start: &str,
) {
    let stage = Stage::setup().no_upstream().start().await;
    let asked = format!("/oauth2/auth{path}");
    let browser = stage.browser();
    let page = browser.open(&asked).send().await;
    assert_eq!(page.status, 302);
    assert_eq!(page.location(), format!("https://app.test{start}"));
    // Programs are not sent anywhere.
    assert_eq!(browser.get(&asked).send().await.status, 401);
    assert_eq!(
        browser.post(&asked, "").navigating().send().await.status,
        401
    );
}

/// Nothing that a request claims about another opens anything.
#[rstest]
#[case("x-forwarded-uri", "/public")]
#[case("x-original-uri", "/public")]
#[case("x-forwarded-email", ALICE)]
#[case("x-auth-request-email", ALICE)]
#[case("x-envoy-original-path", "/public")]
#[case("x-auth-request-redirect", "https://evil.test")]
#[tokio::test]
async fn what_a_gateway_forwards_of_its_client_opens_nothing(
    #[case] name: &str,
    #[case] value: &str,
) {
    let public = globus_auth_core::sidecar_config::PublicRoute {
        path: "/public".to_owned(),
        path_match: globus_auth_core::sidecar_config::PathMatch::Exact,
        methods: vec!["GET".to_owned()],
    };
    let setup = Stage::setup().no_upstream();
    let stage = setup
        .config(move |config| config.access.public = vec![public])
        .start()
        .await;
    let browser = stage.browser();
    for path in ["/oauth2/auth", "/oauth2/auth/runs", "/oauth2/auth/public"] {
        let page = browser.get(path).header(name, value).send().await;
        assert_eq!(page.status, 401, "{path}");
    }
    let page = browser
        .open("/oauth2/auth/runs")
        .header(name, value)
        .send()
        .await;
    assert_eq!(page.location(), "https://app.test/oauth2/start?rd=%2Fruns");
}

#[tokio::test]
async fn a_gateway_that_appends_the_path_learns_who_it_is() {
    let stage = Stage::setup().no_upstream().start().await;
    let browser = stage.browser();
    browser.log_in("/", ALICE).await;
    for path in ["/oauth2/auth/", "/oauth2/auth/runs?allowed_groups=none"] {
        let page = browser.open(path).send().await;
        assert_eq!(page.status, 202, "{path}");
        assert_eq!(page.header("x-auth-request-email"), ALICE);
    }
}

/// Traefik shows the sign-in page instead of the refusal, with the address in `rd`.
#[tokio::test]
async fn traefik_is_told_who_it_is_and_shows_a_sign_in_page_that_returns() {
    let stage = Stage::setup().no_upstream().start().await;
    let browser = stage.browser();
    let claims = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.test"),
        ("x-forwarded-uri", "/runs?a=1"),
        ("x-forwarded-for", "192.0.2.7"),
        ("host", "mlflow-globus-auth.ml.svc"),
    ];
    let ask = async |address: &str| {
        let asking = browser.open(address);
        let asking = claims
            .iter()
            .fold(asking, |asking, (name, value)| asking.header(name, value));
        asking.send().await
    };
    assert_eq!(ask("/oauth2/auth").await.status, 401);
    let page = ask("/oauth2/sign_in?rd=https%3A%2F%2Fapp.test%2Fruns%3Fa%3D1").await;
    let start = "/oauth2/start?rd=%2Fruns%3Fa%3D1";
    assert!(page.text().contains(start), "{}", page.text());
    assert_eq!(
        browser.log_in(start, ALICE).await.url.as_str(),
        "https://app.test/runs?a=1"
    );
    let page = ask("/oauth2/auth").await;
    assert_eq!(page.status, 202);
    assert_eq!(page.header("x-auth-request-email"), ALICE);
}
