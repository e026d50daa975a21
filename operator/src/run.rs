//! Wiring: what runs on every replica, and what on the leader only.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use futures_util::StreamExt;
use globus_auth_core::clock::SystemClock;
use globus_auth_core::report;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::tls_server::{self, ServedCertificate};
use globus_auth_core::runtime::{admin, shutdown, telemetry};
use globus_auth_crds::GlobusAuthProxy;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::args::Args;
use crate::certificates::authority::Lifetimes;
use crate::certificates::rotation::Rotation;
use crate::ended::{self, Endings};
use crate::events::Events;
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::proxy::{controller, reconcile};
use crate::reports::{self, Reports};
use crate::settings::{OperatorAddress, SidecarSettings};
use crate::vault;
use crate::webhook::server::{self, Admission};

/// Runs the operator until it is asked to stop, or must stop leading.
///
/// # Errors
/// What kept it from starting, or that it lost the lease: Kubernetes starts it again.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let requested = shutdown::requested().context("failed to listen for signals")?;
    let (_level, _flushing) =
        telemetry::start(args.log_level).context("failed to start logging")?;
    let client = Client::try_default()
        .await
        .context("failed to find the cluster")?;
    check_server(&client).await?;
    let replica = Replica::new(&args, client);
    let (stop, stopped) = watch::channel(false);

    // On every replica: the webhook and the reports, with a certificate for them.
    let (authorities_sender, authorities) = watch::channel(String::new());
    let server = replica
        .serve(&args, authorities_sender, &authorities, stopped)
        .await?;

    // On the leader: the controller and the authorities.
    let candidate = Candidate::new(
        replica.client.clone(),
        &args.namespace,
        &args.lease,
        &args.pod_name,
    );
    let outcome = tokio::select! {
        () = requested => Ok(()),
        deposed = replica.lead(&candidate, &args, authorities) => deposed,
    };
    stop.send_replace(true);
    server
        .await
        .context("the server panicked")?
        .context("failed to serve TLS")?;
    if outcome.is_ok() {
        candidate.resign().await;
    }
    outcome
}

/// What both halves share.
struct Replica {
    client: Client,
    proxies: Store<GlobusAuthProxy>,
    events: Events,
    metrics: Metrics,
    rotation: Rotation,
}

impl Replica {
    fn new(args: &Args, client: Client) -> Self {
        let metrics = Metrics::default();
        Self {
            proxies: proxies(&client),
            events: Events::new(client.clone(), args.pod_name.clone()),
            rotation: rotation(args, &client, &metrics),
            metrics,
            client,
        }
    }

    async fn serve(
        &self,
        args: &Args,
        authorities_sender: watch::Sender<String>,
        authorities: &watch::Receiver<String>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<JoinHandle<Result<(), rustls::Error>>> {
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let served = Arc::new(ServedCertificate::default());
        let follow = self.rotation.clone().follow(
            Arc::clone(&served),
            authorities_sender,
            Arc::clone(&crypto),
        );
        tokio::spawn(follow);
        let ready = Arc::new(Ready {
            served: Arc::clone(&served),
            proxies: self.proxies.clone(),
            rotation: self.rotation.clone(),
            authorities: authorities.clone(),
            registered: watch::Sender::new(false),
        });
        tokio::spawn(Arc::clone(&ready).watch_registration());
        let admin = admin::router(ready, self.metrics.registry());
        tokio::spawn(axum::serve(listen(args.admin_port).await?, admin).into_future());
        let listener = listen(args.port).await?;
        let router = self.router(args);
        Ok(tokio::spawn(tls_server::serve(
            listener,
            router,
            served,
            crypto,
            until(stopped),
        )))
    }

    fn router(&self, args: &Args) -> Router {
        let admission = Admission {
            client: self.client.clone(),
            proxies: self.proxies.clone(),
            sidecar: sidecar(args),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
        };
        let reports = Reports::new(
            self.client.clone(),
            self.events.clone(),
            self.metrics.clone(),
        );
        let webhook = Router::new()
            .route("/v1/inject", post(server::inject))
            .layer(DefaultBodyLimit::max(MAX_REVIEW))
            .with_state(Arc::new(admission));
        let reports = Router::new()
            .route(report::PATH, post(reports::receive))
            .layer(DefaultBodyLimit::max(MAX_REPORT))
            .with_state(Arc::new(reports));
        let endings = Endings::new(
            self.client.clone(),
            self.proxies.clone(),
            self.metrics.clone(),
            Arc::new(SystemClock),
        );
        let endings = Router::new()
            .route(globus_auth_core::ended::PATH, post(ended::receive))
            .layer(DefaultBodyLimit::max(MAX_REPORT))
            .with_state(Arc::new(endings));
        webhook.merge(reports).merge(endings)
    }

    async fn lead(
        &self,
        candidate: &Candidate,
        args: &Args,
        authorities: watch::Receiver<String>,
    ) -> anyhow::Result<()> {
        candidate.elected().await;
        tracing::info!("this replica leads");
        self.metrics.leads(true);
        let vaults = vault::reconcile::Context {
            client: self.client.clone(),
            metrics: self.metrics.clone(),
            settings: sidecar(args),
            clock: Arc::new(SystemClock),
            events: self.events.clone(),
            http: HttpClient::with_system_roots().context("failed to make an HTTP client")?,
        };
        let context = reconcile::Context {
            client: self.client.clone(),
            proxies: self.proxies.clone(),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            sidecar: sidecar(args),
            operator: address(args),
            clock: Arc::new(SystemClock),
            authorities,
        };
        tokio::select! {
            () = self.rotation.clone().lead() => Ok(()),
            () = controller::run(Arc::new(context)) => Ok(()),
            () = vault::controller::run(Arc::new(vaults)) => Ok(()),
            () = candidate.deposed() => {
                self.metrics.leads(false);
                bail!("this replica could not renew its lease, so it stops before another one leads")
            }
        }
    }
}

/// The proxies of the cluster, kept up to date. Objects that cannot be read are left out.
fn proxies(client: &Client) -> Store<GlobusAuthProxy> {
    let (reader, writer) = reflector::store();
    let api: Api<DeserializeGuard<GlobusAuthProxy>> = Api::all(client.clone());
    let readable = watcher(api, watcher::Config::default()).default_backoff().filter_map(async |event| {
        match event {
            Ok(event) => readable(event).map(Ok),
            Err(error) => {
                tracing::warn!(%error, "failed to watch GlobusAuthProxy resources; is the CRD installed?");
                Some(Err(error))
            }
        }
    });
    let reflected = reflector(writer, Box::pin(readable)).for_each(async |_event| {});
    tokio::spawn(reflected);
    reader
}

fn readable(
    event: watcher::Event<DeserializeGuard<GlobusAuthProxy>>,
) -> Option<watcher::Event<GlobusAuthProxy>> {
    match event {
        watcher::Event::Apply(proxy) => proxy.0.ok().map(watcher::Event::Apply),
        watcher::Event::InitApply(proxy) => proxy.0.ok().map(watcher::Event::InitApply),
        watcher::Event::Delete(proxy) => proxy.0.ok().map(watcher::Event::Delete),
        watcher::Event::Init => Some(watcher::Event::Init),
        watcher::Event::InitDone => Some(watcher::Event::InitDone),
    }
}

fn sidecar(args: &Args) -> SidecarSettings {
    SidecarSettings {
        image: args.sidecar_image.clone(),
        vault_image: args.vault_image.clone(),
        image_pull_policy: args.sidecar_image_pull_policy.clone(),
        run_as_user: args.sidecar_run_as_user,
    }
}

fn address(args: &Args) -> OperatorAddress {
    OperatorAddress {
        service: args.service.clone(),
        namespace: args.namespace.clone(),
    }
}

fn rotation(args: &Args, client: &Client, metrics: &Metrics) -> Rotation {
    Rotation {
        client: client.clone(),
        namespace: args.namespace.clone(),
        secret: args.certificate_secret.clone(),
        webhook_configuration: args.webhook_configuration.clone(),
        names: vec![address(args).host()],
        lifetimes: Lifetimes {
            authority: args.authority_lifetime_seconds,
            leaf: args.leaf_lifetime_seconds,
            announcement: args.announcement_seconds,
        },
        clock: Arc::new(SystemClock),
        metrics: metrics.clone(),
    }
}

/// Native sidecars take a Service's port by name from 1.33 on; on an older server, traffic would reach
/// nobody.
async fn check_server(client: &Client) -> anyhow::Result<()> {
    let version = client
        .apiserver_version()
        .await
        .context("failed to ask the API server")?;
    let digits = |text: &str| {
        text.trim_end_matches('+')
            .parse::<u32>()
            .unwrap_or_default()
    };
    let found = (digits(&version.major), digits(&version.minor));
    if found < MINIMUM_VERSION {
        let (major, minor) = MINIMUM_VERSION;
        bail!(
            "Kubernetes {} is too old: globus-auth needs {major}.{minor} or newer",
            version.git_version
        );
    }
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    // Where there is no IPv6, `::` cannot be bound.
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(_no_ipv6) => TcpListener::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("failed to listen on port {port}")),
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the program.
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        tracing::debug!("stopped without being asked");
    }
}

/// Whether this replica can serve the webhook.
struct Ready {
    served: Arc<ServedCertificate>,
    proxies: Store<GlobusAuthProxy>,
    rotation: Rotation,
    authorities: watch::Receiver<String>,
    registered: watch::Sender<bool>,
}

impl Ready {
    /// Looks whether the API server trusts us, until it does once. Later changes are announced first.
    async fn watch_registration(self: Arc<Self>) {
        let synced = self.proxies.wait_until_ready().await.is_ok();
        let mut interval = tokio::time::interval(REGISTRATION_INTERVAL);
        while !*self.registered.borrow() {
            interval.tick().await;
            let bundle = self.authorities.borrow().clone();
            let trusted =
                !bundle.is_empty() && self.rotation.is_registered(&bundle).await.unwrap_or(false);
            self.registered.send_replace(synced && trusted);
        }
    }
}

impl admin::Health for Ready {
    fn ready(&self) -> Result<(), String> {
        if !self.served.is_present() {
            return Err("there is no certificate yet; the leader makes the first one".to_owned());
        }
        if !*self.registered.borrow() {
            return Err("the API server does not trust the certificate yet, or the proxies are not listed yet".to_owned());
        }
        Ok(())
    }
}

const MINIMUM_VERSION: (u32, u32) = (1, 33);
/// Objects may have 1.5 MiB, and a review carries the old one, too.
const MAX_REVIEW: usize = 4 * 1024 * 1024;
const MAX_REPORT: usize = 64 * 1024;
const REGISTRATION_INTERVAL: Duration = Duration::from_millis(500);
