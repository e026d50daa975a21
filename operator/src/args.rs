//! What the operator is told at its start.

use std::time::Duration;

use clap::Parser;

/// Reconciles GlobusAuthProxy resources and puts the sidecar into the pods that they protect. The chart
/// sets these options.
#[derive(Debug, Parser)]
#[command(version, about)]
#[command(
    after_help = "`convert FILE…` turns a configuration of oauth2-proxy into a GlobusAuthProxy instead; see `convert --help`."
)]
pub struct Args {
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// The name of this replica.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,

    /// The Service in front of the operator.
    #[arg(long)]
    pub service: String,

    /// The image of the sidecar.
    #[arg(long)]
    pub sidecar_image: String,

    /// The image of the vault.
    #[arg(long)]
    pub vault_image: String,

    /// When the kubelet pulls the sidecar's image.
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub sidecar_image_pull_policy: String,

    /// The user of the sidecar's process; leave it out where the platform chooses it.
    #[arg(long)]
    pub sidecar_run_as_user: Option<i64>,

    /// The `MutatingWebhookConfiguration` whose certificates the operator keeps.
    #[arg(long)]
    pub webhook_configuration: String,

    /// The Secret in which the operator keeps its certificate authorities.
    #[arg(long)]
    pub certificate_secret: String,

    /// The Lease by which the replicas choose a leader.
    #[arg(long)]
    pub lease: String,

    /// The port of the webhook and of the sidecars' reports.
    #[arg(long, default_value_t = 10250)]
    pub port: u16,

    /// The port for probes and metrics.
    #[arg(long, default_value_t = 8080)]
    pub admin_port: u16,

    /// How long a certificate authority lasts.
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "31536000")]
    pub authority_lifetime_seconds: Duration,

    /// How long a replica's certificate lasts.
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "604800")]
    pub leaf_lifetime_seconds: Duration,

    /// How long a new certificate authority is trusted before it signs.
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "300")]
    pub announcement_seconds: Duration,

    /// Which log lines to write: error, warn, info or debug.
    #[arg(long, default_value = "info", value_parser = log_level)]
    pub log_level: globus_auth_core::sidecar_config::LogLevel,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

fn log_level(text: &str) -> Result<globus_auth_core::sidecar_config::LogLevel, String> {
    let quoted = serde_json::Value::from(text);
    serde_json::from_value(quoted)
        .map_err(|_unknown| "must be error, warn, info or debug".to_owned())
}
