//! The real MLflow, with its own UI in a browser and its own client in Python, both unmodified.

use crate::browser::Browser;
use crate::cluster::{Namespace, image_repository, image_tag};
use crate::workload::{ALICE, Provider, Scene, python};

/// MLflow as anybody would deploy it.
fn mlflow() -> String {
    include_str!("../../demo/mlflow.yaml")
        .replace("namespace: ml", "labels: {}")
        .replace("name: mlflow, labels: {}", "name: app")
        .replace("app: mlflow", "app: app")
        .replace("${IMAGE_REPOSITORY}", &image_repository())
        .replace("${IMAGE_TAG}", &image_tag())
}

async fn start(namespace: &Namespace) -> Scene {
    let scene = Scene::new(namespace, Provider::Globus).await;
    let proxy = scene
        .proxy(namespace, &format!("{{emails: [{ALICE}]}}"), "")
        .replace("{port: http}", "{port: http, hostHeader: Localhost}");
    namespace.apply(&proxy);
    namespace.apply(&mlflow());
    namespace.await_available("app");
    scene
}

#[tokio::test]
async fn the_ui_is_there_for_an_allowed_user() {
    let namespace = Namespace::new("ui").await;
    let scene = start(&namespace).await;
    let browser = Browser::start().await;
    browser.open(&scene.app.url()).await;
    browser.press(ALICE).await;
    browser.await_text("Experiments").await;
    // A POST of the page itself: MLflow refuses it from an origin that it does not know.
    let created = browser
        .page
        .execute_async(
            "const done = arguments[0];
             fetch('/ajax-api/2.0/mlflow/experiments/create', {method: 'POST', headers: {'content-type': 'application/json'},
               body: JSON.stringify({name: 'from the browser'})}).then(r => done(r.status), e => done(String(e)));",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(created, 200);
    browser.open(&scene.app.url()).await;
    browser.await_text("from the browser").await;
    browser.screenshot("mlflow").await;
    browser.close().await;
}

const LOG_A_RUN: &str = r"
import mlflow
mlflow.set_experiment('from a script')
with mlflow.start_run() as run:
    mlflow.log_metric('loss', 0.25)
    mlflow.log_param('depth', 3)
    mlflow.log_text('hello', 'note.txt')
client = mlflow.MlflowClient()
print('loss', client.get_run(run.info.run_id).data.metrics['loss'])
print('note', mlflow.artifacts.load_text(run.info.artifact_uri + '/note.txt'))
";

const WITH_A_BAD_TOKEN: &str = r"
import os, requests
from mlflow.exceptions import MlflowException
import mlflow
os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'] = '0'
try:
    mlflow.MlflowClient().search_experiments()
    print('client: let in')
except MlflowException as error:
    print('client:', str(error).splitlines()[0][:300])
answer = requests.get(os.environ['MLFLOW_TRACKING_URI'] + '/api/2.0/mlflow/experiments/search',
    headers={'Authorization': 'Bearer ' + os.environ['MLFLOW_TRACKING_TOKEN'], 'Accept': 'text/html'}, allow_redirects=False)
print('status', answer.status_code)
print('type', answer.headers['content-type'])
print('challenge', answer.headers['www-authenticate'])
";

#[tokio::test]
async fn the_python_client_logs_a_run_with_a_token_and_hears_401_without_a_good_one() {
    let namespace = Namespace::new("client").await;
    let scene = start(&namespace).await;
    let uri = format!("http://app.{}.svc", namespace.name);
    let token = scene.token(ALICE).await;
    let env = [
        ("MLFLOW_TRACKING_URI", uri.as_str()),
        ("MLFLOW_TRACKING_TOKEN", token.as_str()),
    ];
    let said = python(&namespace, "run", LOG_A_RUN, &env);
    assert!(
        said.contains("loss 0.25") && said.contains("note hello"),
        "{said}"
    );

    let env = [
        ("MLFLOW_TRACKING_URI", uri.as_str()),
        ("MLFLOW_TRACKING_TOKEN", "Agbadbadbad"),
    ];
    let said = python(&namespace, "bad", WITH_A_BAD_TOKEN, &env);
    for line in [
        "status 401",
        "type application/json",
        "challenge Bearer realm=\"app\", error=\"invalid_token\"",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(
        said.contains("client:") && said.contains("401") && !said.contains("<html"),
        "{said}"
    );
}

const ONE_GIBIBYTE: &str = r"
import hashlib, os, time, mlflow
size = 1 << 30
block = os.urandom(1 << 20)
digest = hashlib.sha256()
with open('/data/big.bin', 'wb') as file:
    for i in range(size >> 20):
        piece = i.to_bytes(8, 'big') + block[8:]
        file.write(piece)
        digest.update(piece)
with mlflow.start_run() as run:
    start = time.time()
    mlflow.log_artifact('/data/big.bin')
    print('up', round(time.time() - start, 1), flush=True)
os.remove('/data/big.bin')
start = time.time()
path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path='big.bin', dst_path='/data')
print('down', round(time.time() - start, 1))
again = hashlib.sha256()
with open(path, 'rb') as file:
    while piece := file.read(1 << 20):
        again.update(piece)
print('same' if again.digest() == digest.digest() else 'DIFFERENT')
";

/// The memory of the sidecar of pod `app-…` in bytes, as the kubelet measures it every ten seconds.
fn sidecar_memory(namespace: &Namespace) -> Option<u64> {
    let nodes = namespace.kubectl(&[
        "get",
        "nodes",
        "--output=jsonpath={.items[*].metadata.name}",
    ]);
    let of = [
        "container_memory_working_set_bytes{container=\"globus-auth-proxy\"".to_owned(),
        format!("namespace=\"{}\",pod=\"app-", namespace.name),
    ];
    nodes.split_whitespace().find_map(|node| {
        let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
        let metrics = namespace.kubectl(&["get", "--raw", &path]);
        let line = metrics
            .lines()
            .find(|line| of.iter().all(|part| line.contains(part)))?;
        // name{labels} value time
        let value = line.rsplit(' ').nth(1)?;
        value.parse::<f64>().ok().map(bytes)
    })
}

/// What is written as `1.7281024e+07`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no process here has 2^53 bytes, or fewer than none"
)]
fn bytes(value: f64) -> u64 {
    value as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_of_one_gibibyte_passes_in_constant_memory() {
    let namespace = Namespace::new("big").await;
    let scene = start(&namespace).await;
    let before = sidecar_memory(&namespace);
    let uri = format!("http://app.{}.svc", namespace.name);
    let token = scene.token(ALICE).await;
    let name = namespace.name.clone();
    let watching = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (said, highest) = std::thread::scope(|threads| {
        let memory = threads.spawn(|| {
            let mut highest = 0;
            while watching.load(std::sync::atomic::Ordering::SeqCst) {
                highest = highest.max(sidecar_memory(&namespace).unwrap_or_default());
                pause();
            }
            highest
        });
        let env = [
            ("MLFLOW_TRACKING_URI", uri.as_str()),
            ("MLFLOW_TRACKING_TOKEN", token.as_str()),
        ];
        let said = python(&namespace, "big", ONE_GIBIBYTE, &env);
        watching.store(false, std::sync::atomic::Ordering::SeqCst);
        (said, memory.join().unwrap())
    });
    println!(
        "{name}: 1 GiB {}; sidecar's memory {before:?} before, {highest} at most",
        said.replace('\n', ", ")
    );
    assert!(said.contains("same"), "{said}");
    assert!(
        highest > 0 && highest < 32 * 1024 * 1024,
        "the sidecar had {highest} bytes"
    );
}

#[allow(clippy::disallowed_methods, reason = "samples are taken in real time")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_secs(1));
}
