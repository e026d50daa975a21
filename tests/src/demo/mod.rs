//! The demo: the chart, a stand-in for Globus, the real MLflow, and a login in front of it.

mod forwarding;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::Context;

use forwarding::Ports;
pub use forwarding::{forward, stop};
pub use tools::say;
use tools::{Tools, step};

/// Where the demo runs, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kubeconfig of the cluster.
    pub kubeconfig: PathBuf,
    /// Where the images are.
    pub image_repository: String,
    /// Their tag.
    pub image_tag: String,
    /// Where the demo keeps its files.
    pub folder: PathBuf,
}

impl Settings {
    /// Whether the cluster is this project's own.
    fn is_local(&self) -> bool {
        self.kubeconfig.ends_with("target/kubernetes/kubeconfig")
    }
}

const NAMESPACE: &str = "globus-auth-system";
/// All that the demo makes is in these, so that nothing else need be removed.
const NAMESPACES: [&str; 3] = [NAMESPACE, "globus-emulator", "ml"];
/// What tells them from namespaces of the same name that somebody needs.
const LABEL: &str = "globus-auth.dev/demo";
const ALLOWED_USER: &str = "alice@example.org";
const REFUSED_USER: &str = "mallory@example.net";
const CLIENT_ID: &str = "4fb6c1f2-6f6c-4d6c-8f0e-2d1c1a7b5e10";
const NOTEBOOK_CLIENT_ID: &str = "9b1c6f57-2c1a-4f0e-9d55-6f6a1a2f4c21";
const CLIENT_SECRET: &str = "the-demo-has-no-secrets";

const EMULATOR: &str = include_str!("../../demo/emulator.yaml");
const MLFLOW: &str = include_str!("../../demo/mlflow.yaml");
const PROXY: &str = include_str!("../../demo/proxy.yaml");
const VAULT: &str = include_str!("../../demo/vault.yaml");
const NOTEBOOK: &str = include_str!("../../demo/notebook.yaml");
/// The volume of the vault, where the cluster makes none by itself.
const VOLUME: &str = "globus-auth-demo";

/// Installs everything, waits until it works, and says what to try.
///
/// # Errors
/// What did not come up, in the words of the tool that was asked.
pub fn up(settings: &Settings) -> anyhow::Result<()> {
    std::fs::create_dir_all(&settings.folder).context("failed to make the demo's folder")?;
    let tools = Tools::new(settings);
    let ports = step("open three loopback ports", || forwarding::start(settings))?;
    let values = Values {
        settings,
        ports: &ports,
    };

    step("make namespaces", || claim(&tools, settings))?;
    step("install the operator with helm", || {
        install(&tools, settings)
    })?;
    step("start the stand-in for Globus", || {
        tools.apply(&values.fill(EMULATOR))?;
        tools.wait(
            "globus-emulator",
            "deployment/globus-emulator",
            "condition=Available",
            60,
        )
    })?;
    step("describe the login (GlobusAuthProxy)", || {
        tools.apply(&values.fill(PROXY))?;
        tools.wait("ml", "globusauthproxy/mlflow", "condition=ConfigValid", 60)
    })?;
    step("start MLflow, with the one label", || {
        tools.apply(&values.fill(MLFLOW))?;
        tools.wait("ml", "deployment/mlflow", "condition=Available", 300)
    })?;
    step("start a vault for users' tokens (TokenVault)", || {
        volume(&tools, settings)?;
        tools.apply(&values.fill(VAULT))?;
        tools.wait("ml", "tokenvault/tokens", "condition=Ready", 120)
    })?;
    step("start a notebook and a job that use it", || {
        tools.apply(&values.fill(NOTEBOOK))?;
        tools.wait("ml", "deployment/notebook", "condition=Available", 120)
    })?;
    let token = step("mint a token for the allowed user", || mint(ports))?;
    let told = Told {
        settings,
        ports: &ports,
        token: &token,
    };
    std::fs::write(settings.folder.join("env"), told.environment()?)
        .context("failed to write target/demo/env")?;
    say(&told.explanation());
    Ok(())
}

/// Removes everything again. The cluster itself is stopped by whoever started it.
///
/// # Errors
/// The tools' own words.
pub fn down(settings: &Settings) -> anyhow::Result<()> {
    stop(settings)?;
    let tools = Tools::new(settings);
    let ours = format!("{LABEL}=true");
    let system = [
        "get",
        "namespaces",
        "--selector",
        &ours,
        "--field-selector",
        &format!("metadata.name={NAMESPACE}"),
        "--output=name",
    ];
    if !tools.ask(&system)?.is_empty() {
        step("uninstall the operator", || {
            tools.helm(&[
                "uninstall",
                "globus-auth",
                "--namespace",
                NAMESPACE,
                "--ignore-not-found",
                "--wait",
            ])
        })?;
    }
    step("remove the namespaces", || {
        tools.kubectl(&["delete", "namespaces", "--selector", &ours, "--wait"])?;
        tools.kubectl(&["delete", "persistentvolume", VOLUME, "--ignore-not-found"])
    })
}

/// Makes the namespaces, unless somebody else has: an operator or an MLflow that was there is no demo's.
fn claim(tools: &Tools, settings: &Settings) -> anyhow::Result<()> {
    let taken = tools.ask(&[
        "get",
        "namespaces",
        "--selector",
        &format!("{LABEL}!=true"),
        "--output=jsonpath={.items[*].metadata.name}",
    ])?;
    let taken = taken.split(' ').find(|name| NAMESPACES.contains(name));
    if let Some(name) = taken.filter(|_| !settings.is_local()) {
        anyhow::bail!(
            "there is a namespace {name} that the demo did not make; \
             give the demo a cluster in which globus-auth-system, globus-emulator and ml are free"
        );
    }
    NAMESPACES.iter().try_for_each(|name| {
        tools.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, \
             labels: {{{LABEL}: 'true', pod-security.kubernetes.io/enforce: restricted}}}}}}"
        ))
    })
}

fn install(tools: &Tools, settings: &Settings) -> anyhow::Result<()> {
    let chart = Path::new("charts/globus-auth");
    tools.helm(&[
        "upgrade",
        "--install",
        "globus-auth",
        &chart.to_string_lossy(),
        "--namespace",
        NAMESPACE,
        "--set",
        &format!(
            "image.repository={},image.tag={}",
            settings.image_repository, settings.image_tag
        ),
        "--wait",
        "--timeout=2m",
    ])?;
    if settings.is_local() {
        // The tag is the same after a change of the program, so nothing else would start it anew.
        let deployment = "deployment/globus-auth";
        for action in [
            &["restart", deployment][..],
            &["status", deployment, "--timeout=60s"],
        ] {
            let arguments = [&["--namespace", NAMESPACE, "rollout"], action].concat();
            tools.kubectl(&arguments)?;
        }
    }
    Ok(())
}

/// A volume in the demo's folder for the vault. Other clusters make volumes by themselves.
fn volume(tools: &Tools, settings: &Settings) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let is_there = [
        "get",
        "persistentvolume",
        VOLUME,
        "--ignore-not-found",
        "--output=name",
    ];
    if !settings.is_local() || !tools.ask(&is_there)?.is_empty() {
        return Ok(());
    }
    let path = std::path::absolute(settings.folder.join("vault"))?;
    // What is left of another cluster is encrypted with a key that is gone.
    if path.exists() {
        std::fs::remove_dir_all(&path).context("failed to remove the vault of another demo")?;
    }
    std::fs::create_dir_all(&path).context("failed to make a folder for the vault")?;
    // The vault's user is none of this machine's.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))
        .context("failed to open the vault's folder")?;
    tools.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {VOLUME}}}, spec: {{capacity: {{storage: 1Gi}}, \
         accessModes: [ReadWriteOnce], claimRef: {{namespace: ml, name: data-tokens-tokenvault-0}}, \
         hostPath: {{path: '{}'}}}}}}",
        path.display()
    ))
}

/// A Globus access token, as a script of the user would have one.
fn mint(ports: Ports) -> anyhow::Result<String> {
    let order = serde_json::json!({"username": ALLOWED_USER, "client_id": CLIENT_ID, "scope": "openid email profile", "lifetime_seconds": 172_800});
    let answer = tools::post_json(
        &format!("{}/_emulator/tokens", ports.emulator_url()),
        &order,
    )?;
    let token = answer
        .get("access_token")
        .and_then(serde_json::Value::as_str);
    token
        .map(str::to_owned)
        .context("the emulator minted no token")
}

/// What the manifests have blanks for.
struct Values<'a> {
    settings: &'a Settings,
    ports: &'a Ports,
}

impl Values<'_> {
    fn fill(&self, manifest: &str) -> String {
        let pairs = [
            (
                "${IMAGE_REPOSITORY}",
                self.settings.image_repository.clone(),
            ),
            ("${IMAGE_TAG}", self.settings.image_tag.clone()),
            ("${DEMO_URL}", self.ports.mlflow_url()),
            ("${EMULATOR_URL}", self.ports.emulator_url()),
            ("${NOTEBOOK_URL}", self.ports.notebook_url()),
            ("${NOTEBOOK_CLIENT_ID}", NOTEBOOK_CLIENT_ID.to_owned()),
            ("${CLIENT_ID}", CLIENT_ID.to_owned()),
            ("${CLIENT_SECRET}", CLIENT_SECRET.to_owned()),
            ("${ALLOWED_USER}", ALLOWED_USER.to_owned()),
            ("${REFUSED_USER}", REFUSED_USER.to_owned()),
        ];
        pairs
            .iter()
            .fold(manifest.to_owned(), |text, (blank, value)| {
                text.replace(blank, value)
            })
    }
}

/// What the reader is told, in words and as variables.
struct Told<'a> {
    settings: &'a Settings,
    ports: &'a Ports,
    token: &'a str,
}

impl Told<'_> {
    fn environment(&self) -> anyhow::Result<String> {
        let kubeconfig = self
            .settings
            .kubeconfig
            .canonicalize()
            .context("failed to find the kubeconfig")?;
        Ok(format!(
            "KUBECONFIG={}\nDEMO_URL={}\nDEMO_ALLOWED_USER={ALLOWED_USER}\nDEMO_REFUSED_USER={REFUSED_USER}\nDEMO_TOKEN={}\nDEMO_PROVIDER_URL={}\nDEMO_NOTEBOOK_URL={}\n",
            kubeconfig.display(),
            self.ports.mlflow_url(),
            self.token,
            self.ports.emulator_url(),
            self.ports.notebook_url(),
        ))
    }

    fn explanation(&self) -> String {
        let (url, env) = (self.ports.mlflow_url(), self.settings.folder.join("env"));
        let env = env.display();
        let notebook = self.ports.notebook_url();
        format!(
            "
MLflow is behind a login: {url}

  {ALLOWED_USER:<22} may enter
  {REFUSED_USER:<22} may not

The login page belongs to a stand-in for Globus; README.md says how to use the real one.

Four things to try. First: set -a; . {env}; set +a

1. In a browser, open {url} and choose a user.

2. With the MLflow client and a token, as a script would:
     MLFLOW_TRACKING_URI=$DEMO_URL MLFLOW_TRACKING_TOKEN=$DEMO_TOKEN \\
       python -c 'import mlflow; mlflow.start_run(); mlflow.log_metric(\"loss\", 0.1)'
   or only:  curl -i $DEMO_URL/health;  curl -i -H \"Authorization: Bearer $DEMO_TOKEN\" $DEMO_URL/version

3. Let the other user in, and watch it act within seconds, without a restart:
     kubectl -n ml patch gap mlflow --type merge \\
       -p '{{\"spec\":{{\"access\":{{\"emails\":[\"'$DEMO_ALLOWED_USER'\",\"'$DEMO_REFUSED_USER'\"]}}}}}}'
   and look at:  kubectl -n ml describe gap mlflow

4. A notebook that asks a model as whoever looks at it, with no token in its code: {notebook}
   What it may use, and how to take that back: {notebook}/oauth2/connections
   A job that outlives its tokens, which live for 30 seconds:  kubectl -n ml logs -f job/nightly -c nightly
   and look at:  kubectl -n ml get tvault

kubectl is in target/kubernetes/bin if you have none. `make demo-down` removes everything."
        )
    }
}
