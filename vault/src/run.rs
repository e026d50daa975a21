//! The program: from its arguments to its end.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::routing::get;
use axum::{Json, Router};
use globus_auth_core::clock::SystemClock;
use globus_auth_core::runtime::admin as admin_listener;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::key_source::KeySource;
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::runtime::tls_server::{self, ServedCertificate};
use globus_auth_core::runtime::{certificate, process, shutdown, telemetry};
use globus_auth_core::sidecar_config::LogLevel;
use globus_auth_core::vault_api;
use globus_auth_core::vault_config::{FILE_NAME, Rotation as Configured, VaultConfig};
use globus_auth_core::vault_status::{self, VaultStatus};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::admin::{self, AdminApp, Admins};
use crate::app::{self, App};
use crate::args::{Args, Command};
use crate::bulkhead::Limits;
use crate::caller::Reviewer;
use crate::client::Client;
use crate::commands;
use crate::issuer::{Issuer, Pressure};
use crate::keyring::SecretKeys;
use crate::metrics::Metrics;
use crate::progress::Rotation;
use crate::refresher::Refresher;
use crate::reporter::Reporter;
use crate::schedule::KeepAlive;
use crate::secrets::{Secrets, SecretsError};
use crate::store::Store;
use crate::unstored::Unstored;
use crate::vault::Vault;

/// Does what `args` say.
///
/// # Errors
/// What kept it from that, in words for whoever reads the pod's log or runs the command.
pub async fn run(args: Args) -> anyhow::Result<()> {
    process::refuse_core_dumps().context("failed to turn core dumps off")?;
    process::refuse_debuggers().context("failed to keep debuggers out")?;
    match &args.command {
        Some(Command::Import(wanted)) => commands::import(&args, wanted).await,
        Some(Command::Verify) => commands::verify(&args).await,
        None => serve(args).await,
    }
}

/// Serves until it is asked to stop. A key that does not fit the database keeps it from starting, and changes
/// nothing.
async fn serve(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::requested().context("failed to listen for signals")?;
    let (level, _flushing) =
        telemetry::start(LogLevel::default()).context("failed to start logging")?;
    let config = config(&args).await?;
    level.set(config.log_level);
    let http =
        HttpClient::guarded(config.egress.clone()).context("failed to make an HTTP client")?;
    let metrics = Metrics::default();
    let refresher = refresher(&args, &config, &http, &metrics).await?;
    let reporter = Reporter::new(&config, Arc::clone(&refresher), metrics.clone());
    let reporter = Arc::new(reporter);
    reporter.ping().await;
    tokio::spawn(Arc::clone(&reporter).look_for_ever());
    let key_sources = config.issuers.iter();
    let key_sources = key_sources.map(|issuer| KeySource::new(issuer.issuer.clone(), http.clone()));
    let key_sources = key_sources.collect();
    let reviewer = reviewer(&args, &config).await?;
    let admins = config.admins.clone();
    let admins = admins.map(|one| Admins::new(one, http.clone(), Arc::new(SystemClock)));
    let vault = Vault::new(config, Arc::clone(&refresher), key_sources, metrics.clone());
    let vault = Arc::new(vault);
    tokio::spawn(Arc::clone(&vault).tidy_for_ever());
    tokio::spawn(Arc::clone(&vault).poll_for_ever());
    tokio::spawn(Arc::clone(&vault).revoke_for_ever());
    if vault.is_closing() {
        tokio::spawn(Arc::clone(&vault).close());
    } else {
        let refreshing = Arc::clone(&refresher);
        tokio::spawn(async move { refreshing.work(std::future::pending()).await });
    }

    tokio::spawn(follow_keys(args.keys, Arc::clone(&refresher)));
    let served = Arc::new(ServedCertificate::default());
    served.set(certificate_in(&args.certificate).await?);
    tokio::spawn(follow_certificate(args.certificate, Arc::clone(&served)));
    let listener = bind(args.listen_port).await?;
    let health_listener = bind(args.admin_port).await?;
    tracing::info!(
        address = %listener.local_addr()?,
        admin.address = %health_listener.local_addr()?,
        "serving"
    );
    tokio::spawn(axum::serve(health_listener, health(reporter, &metrics)).into_future());
    let app = api(vault, reviewer, admins);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    tls_server::serve(listener, app, served, provider, stop)
        .await
        .context("failed to set up TLS")?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the store. A wrong key is noticed before anything is written.
async fn refresher(
    args: &Args,
    config: &VaultConfig,
    http: &HttpClient,
    metrics: &Metrics,
) -> anyhow::Result<Arc<Refresher>> {
    let keys = keys(args).await?;
    let store = Store::open(&database(args).await?)
        .await
        .context("failed to open the database")?;
    let secrets = Secrets::open_store(&store, &keys).await.map_err(chain)?;
    store.take_over().await.map_err(chain)?;
    doubt_restored(config, &store).await?;
    let unstored = Unstored::open(args.unstored.clone()).with_context(|| {
        let folder = args.unstored.display();
        format!("failed to use the folder {folder}, where tokens wait that cannot be stored")
    })?;
    let issuers = config.issuers.iter();
    let refresher = Refresher::new(
        store,
        Arc::new(secrets),
        issuers.map(|issuer| client(issuer, config, http)).collect(),
        Arc::new(SystemClock),
        metrics.clone(),
    );
    Ok(Arc::new(refresher.keeping(unstored)))
}

/// What a backup brought back is not sent to issuers that may have replaced it since.
async fn doubt_restored(config: &VaultConfig, store: &Store) -> anyhow::Result<()> {
    let Some(restored_at) = config.restored_at else {
        return Ok(());
    };
    let before = Duration::from_secs(restored_at.0);
    for issuer in &config.issuers {
        if matches!(issuer.rotation, Configured::Rotates { .. }) {
            let client = (issuer.issuer.as_str(), issuer.client_id.as_str());
            let grants = store.doubt(client, before).await.map_err(chain)?;
            let issuer = issuer.issuer.as_str();
            tracing::warn!(
                issuer,
                grants,
                "grants of a restored database are not refreshed; their users are asked when the access tokens end"
            );
        }
    }
    Ok(())
}

/// For sidecars, and for administrators.
fn api(vault: Arc<Vault>, reviewer: Reviewer, admins: Option<Admins>) -> Router {
    let for_admins = AdminApp {
        vault: Arc::clone(&vault),
        admins,
    };
    app::router(Arc::new(App { vault, reviewer })).merge(admin::router(Arc::new(for_admins)))
}

fn health(reporter: Arc<Reporter>, metrics: &Metrics) -> Router {
    admin_listener::router(Arc::clone(&reporter), metrics.registry()).route(
        vault_status::PATH,
        get(async move || Json(VaultStatus::clone(&reporter.status()))),
    )
}

fn client(
    issuer: &globus_auth_core::vault_config::Issuer,
    config: &VaultConfig,
    http: &HttpClient,
) -> Issuer {
    let client = Client::new(
        issuer.issuer.clone(),
        issuer.client_id.clone(),
        issuer.client_secret.expose_secret().into(),
        http.clone(),
    );
    let rotation = match issuer.rotation {
        Configured::Never => Rotation::Never,
        Configured::Rotates { grace_seconds } => {
            Rotation::Grace(Duration::from_secs(grace_seconds.into()))
        }
    };
    Issuer::new(
        (issuer.issuer.as_str().to_owned(), issuer.client_id.clone()),
        Arc::new(client),
        rotation,
        KeepAlive {
            within: Duration::from_secs(config.refresh.keep_alive_seconds),
        },
        Pressure {
            limits: Limits {
                per_second: issuer.requests_per_second,
                burst: issuer.requests_per_second.saturating_mul(2),
            },
            at_once: config.refresh.max_concurrent_per_issuer,
        },
    )
}

async fn reviewer(args: &Args, config: &VaultConfig) -> anyhow::Result<Reviewer> {
    let authority = read(&args.service_account.join("ca.crt")).await?;
    let authority =
        String::from_utf8(authority).context("the API server's authority is not PEM")?;
    let http = HttpClient::with_authorities(&authority)
        .context("failed to trust the API server's authority")?;
    let audience = vault_api::audience(&config.vault.namespace, &config.vault.name);
    Ok(Reviewer::new(
        http,
        args.api_server.clone(),
        args.service_account.join("token"),
        audience,
    ))
}

pub(crate) async fn config(args: &Args) -> anyhow::Result<VaultConfig> {
    let json = read(&args.config.join(FILE_NAME)).await?;
    VaultConfig::parse(&json).context("the configuration cannot be used")
}

pub(crate) async fn keys(args: &Args) -> anyhow::Result<SecretKeys> {
    let json = Zeroizing::new(read(&args.keys).await?);
    SecretKeys::parse(&json).context("the key ring cannot be used")
}

pub(crate) async fn database(args: &Args) -> anyhow::Result<String> {
    match &args.database_file {
        None => Ok(args.database.clone()),
        Some(file) => {
            let url = String::from_utf8(read(file).await?);
            Ok(url
                .context("the address of the database is not text")?
                .trim()
                .to_owned())
        }
    }
}

pub(crate) async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = tokio::fs::read(path).await;
    read.with_context(|| format!("failed to read {}", path.display()))
}

async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    let listener = match listener {
        Err(_no_ipv6) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    };
    listener.with_context(|| format!("failed to listen on port {port}"))
}

async fn certificate_in(folder: &Path) -> anyhow::Result<rustls::sign::CertifiedKey> {
    let text = async |name| {
        let bytes = read(&folder.join(name)).await?;
        String::from_utf8(bytes).with_context(|| format!("{name} is not PEM"))
    };
    let (chain, key) = (text("tls.crt").await?, text("tls.key").await?);
    let key = Zeroizing::new(key);
    certificate::read(&chain, &key).context("the certificate cannot be used")
}

/// Takes over another key ring when the kubelet has brought it, and moves what is stored to its primary key.
async fn follow_keys(path: std::path::PathBuf, refresher: Arc<Refresher>) {
    let mut present = Zeroizing::new(tokio::fs::read(&path).await.unwrap_or_default());
    loop {
        let (store, secrets) = (refresher.store(), refresher.secrets());
        match secrets.rewrap(store).await {
            Ok(0) => {}
            Ok(moved) => tracing::info!(moved, "stored tokens are under the primary key"),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to move tokens to the primary key");
            }
        }
        tokio::time::sleep(KEYS).await;
        let newer = Zeroizing::new(tokio::fs::read(&path).await.unwrap_or_default());
        if newer == present {
            continue;
        }
        let taken = match SecretKeys::parse(&newer) {
            Ok(keys) => secrets.reload(store, &keys).await,
            Err(error) => Err(SecretsError::Keys(error)),
        };
        match taken {
            Ok(()) => {
                tracing::info!(keys = ?secrets.ring().ids().collect::<Vec<_>>(), "a new key ring is in force");
                present = newer;
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the key ring before stays in force");
            }
        }
    }
}

/// Shows a renewed certificate when the kubelet has brought it.
async fn follow_certificate(folder: std::path::PathBuf, served: Arc<ServedCertificate>) {
    loop {
        tokio::time::sleep(CERTIFICATE).await;
        match certificate_in(&folder).await {
            Ok(key) => served.set(key),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the certificate before stays in use"
                );
            }
        }
    }
}

fn chain(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error)
}

const CERTIFICATE: Duration = Duration::from_mins(1);
const KEYS: Duration = Duration::from_secs(2);
