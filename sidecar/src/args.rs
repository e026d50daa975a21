//! What differs from pod to pod; everything else is in the configuration that the operator renders.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;

/// The proxy that globus-auth puts in front of a workload. The operator's webhook sets these options;
/// the rules come from the mounted configuration.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// The folder with the mounted configuration.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/globus-auth")]
    pub config: PathBuf,

    /// The addresses on which users are served; `::` is every address, also of IPv4.
    #[arg(long, value_name = "IP", value_delimiter = ',', default_value = "::")]
    pub listen_address: Vec<IpAddr>,

    /// The port on which users are served; 0 takes a free one, which the log names.
    #[arg(long, value_name = "PORT", default_value_t = 4180)]
    pub listen_port: u16,

    /// The port for the kubelet's probes and for metrics; 0 takes a free one, which the log names.
    #[arg(long, value_name = "PORT", default_value_t = 4181)]
    pub admin_port: u16,

    /// The workload's port on loopback.
    #[arg(long, value_name = "PORT")]
    pub upstream_port: u16,

    /// The file with the projected ServiceAccount token for reports to the operator; none, no reports.
    #[arg(long, value_name = "FILE")]
    pub identity_token: Option<PathBuf>,

    /// The probes of the workload's containers that the webhook moved here, as JSON.
    #[arg(long, value_name = "JSON", default_value = "[]")]
    pub probes: String,
}
