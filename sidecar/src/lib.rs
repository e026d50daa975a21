//! The reverse proxy that stands in front of a workload, in its pod.
//!
//! | room | what is in it |
//! |---|---|
//! | `app` | the order in which a request is treated |
//! | `decide`, `rules`, `intent`, `headers`, `identity_headers`, `cookie`, `redirect`, `listeners`, `websocket` | pure rules |
//! | `authenticate`, `bearer`, `provider`, `globus` | who it is |
//! | `login`, `step_up`, `backchannel`, `endpoints`, `connect`, `connections`, `consent`, `answers`, `pages`, `scopes` | what is answered by us |
//! | `forward`, `workload`, `multiplexed`, `origin`, `tunnel`, `limits`, `watched`, `workload_refusal` | what is answered by the workload |
//! | `vault`, `outbound`, `files` | tokens for the workload |
//! | `live`, `reload` | the configuration in force |
//! | `trace`, `otlp` | what is told of a request to whoever traces it |
//! | `server`, `tls`, `probe`, `exposure`, `report`, `status` | the pod around it |

mod answers;
mod app;
mod args;
mod authenticate;
mod backchannel;
mod bearer;
mod connect;
mod connections;
mod consent;
mod cookie;
mod decide;
mod ended;
mod endpoints;
mod exposure;
mod files;
mod forward;
#[cfg(test)]
mod fuzz;
mod globus;
mod headers;
mod identity_headers;
mod intent;
mod limits;
mod listeners;
mod live;
mod login;
#[cfg(feature = "measured")]
pub mod measured;
mod metrics;
mod multiplexed;
mod origin;
mod otlp;
mod outbound;
mod pages;
mod probe;
mod provider;
mod redirect;
mod reload;
mod report;
mod rules;
mod scopes;
mod server;
mod status;
mod step_up;
mod tls;
mod trace;
mod tunnel;
mod vault;
mod watched;
mod websocket;
mod workload;
mod workload_refusal;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use globus_auth_core::clock::SystemClock;
use globus_auth_core::runtime::http_client::HttpClient;
use globus_auth_core::runtime::{admin, process, shutdown, telemetry};
use globus_auth_core::sidecar_config::LogLevel;
use tokio::net::TcpListener;

pub use args::Args;

/// Everything below this is ours; the rest of the path space is the workload's.
const RESERVED_PREFIX: &str = "/oauth2";
const START_PATH: &str = "/oauth2/start";
const CALLBACK_PATH: &str = "/oauth2/callback";
const SIGN_IN_PATH: &str = "/oauth2/sign_in";
const CONNECTIONS_PATH: &str = "/oauth2/connections";
const CONSENT_PATH: &str = "/oauth2/consent";
const SIGN_OUT_PATH: &str = "/oauth2/sign_out";

/// Runs the sidecar until it is asked to stop.
///
/// # Errors
/// What kept it from starting, in words for whoever reads the pod's log. Nothing after that is fatal.
pub async fn run(args: Args) -> anyhow::Result<()> {
    process::refuse_core_dumps().context("failed to turn core dumps off")?;
    let stop = shutdown::requested().context("failed to listen for signals")?;
    let (level, _flushing) =
        telemetry::start(LogLevel::default()).context("failed to start logging")?;
    let tools = live::Tools {
        clock: Arc::new(SystemClock),
        http: HttpClient::with_system_roots().context("failed to make an HTTP client")?,
        metrics: metrics::Metrics::default(),
        vault_token: args.vault_token.clone(),
    };
    let metrics = tools.metrics.clone();
    let probes = serde_json::from_str(&args.probes).context("--probes is not what it must be")?;

    let live = reload::read(&args.config, None, &tools).await?;
    level.set(live.log_level);
    let upstream = upstream(&args).context("failed to address the workload")?;
    let app = Arc::new(app::App::new(live, upstream, &tools));
    let mut ended = Vec::new();
    reload::read_ended(&args.config, &app, &mut ended).await;
    let status = status(&app, &args);

    let listeners = bind(&args.listen_address, args.listen_port).await?;
    let admin_listeners = bind(&["::".parse()?], args.admin_port).await?;
    let ours = server::addresses(&listeners)?;
    if args.vault_token.is_some() {
        outbound::start(args.outbound_port, &app)
            .await
            .with_context(|| format!("failed to listen on port {}", args.outbound_port))?;
    }
    let (address, admin_address) = (list(&ours), list(&server::addresses(&admin_listeners)?));

    tokio::spawn(reload::watch(
        args.config,
        Arc::clone(&app),
        Arc::clone(&status),
        tools,
        level,
        ended,
    ));
    // What listens in another pod cannot be seen from here.
    if let Some(port) = args.upstream_port {
        tokio::spawn(exposure::watch(Arc::clone(&status), port, ours));
    }
    let token = args.identity_token;
    let reports = token.map(|token| report::start(&app, &status, token));
    let probes = probe::router(probes, args.upstream_port.unwrap_or_default());
    let admin = admin::router(Arc::clone(&status), metrics.registry()).merge(probes);
    for listener in admin_listeners {
        tokio::spawn(axum::serve(listener, admin.clone()).into_future());
    }
    tracing::info!(
        address,
        admin.address = admin_address,
        config.hash = app.live().hash,
        "serving"
    );
    server::serve(listeners, app::Proxy::new(Arc::clone(&app)), stop).await;
    last_words(&app, reports).await;
    tracing::info!("stopped");
    Ok(())
}

/// What is known of the pod; its files with tokens, if it has any, are kept from now on.
fn status(app: &Arc<app::App>, args: &Args) -> Arc<status::Status> {
    let folder = args.token_folder.clone();
    let status = Arc::new(status::Status::new(Arc::clone(app), folder.is_some()));
    if let Some(folder) = folder {
        let files = files::Files::new(folder, args.on_behalf_of.clone());
        tokio::spawn(files.keep(Arc::clone(app), Arc::clone(&status)));
    }
    status
}

async fn bind(addresses: &[IpAddr], port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let bound = server::bind(addresses, port).await;
    bound.with_context(|| format!("failed to listen on port {port}"))
}

/// What others wait to hear is told before the process ends.
async fn last_words(app: &app::App, reports: Option<report::Reports>) {
    if let Some(tracing) = &app.live().tracing {
        tracing.flush().await;
    }
    if let Some(reports) = reports {
        reports.last_words().await;
    }
}

/// The workload: a port of this pod, an address elsewhere, or none.
fn upstream(args: &Args) -> anyhow::Result<forward::Upstream> {
    let origin = match (args.upstream_port, &args.upstream_url) {
        (Some(port), _) => Some(origin::Origin::Loopback(port)),
        (None, Some(url)) => Some(origin::Origin::remote(url)?),
        (None, None) => None,
    };
    Ok(forward::Upstream::new(origin)?)
}

/// Addresses for a log line. With port 0, nothing else says which port was taken.
fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",")
}
