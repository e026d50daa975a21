//! What differs from pod to pod; everything else is in the configuration that the operator renders.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use globus_auth_core::url::UpstreamUrl;

/// The proxy that globus-auth puts in front of a workload. The operator sets these options; the rules come from the mounted configuration.
#[derive(Debug, Parser)]
#[command(version, about)]
#[command(group = clap::ArgGroup::new("upstream").required(true))]
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

    /// The port on loopback where the workload asks other services as its users; 0 takes a free one, which the log names.
    #[arg(long, value_name = "PORT", default_value_t = 4182)]
    pub outbound_port: u16,

    /// The workload's port on loopback.
    #[arg(long, value_name = "PORT", group = "upstream")]
    pub upstream_port: Option<u16>,

    /// The address of a workload that is elsewhere: http or https, a host, and a port if it is not the usual one.
    #[arg(long, value_name = "URL", group = "upstream")]
    pub upstream_url: Option<UpstreamUrl>,

    /// There is no workload: only `/oauth2/` is answered, for an ingress that asks about each request.
    #[arg(long, group = "upstream")]
    pub no_upstream: bool,

    /// The file with the projected ServiceAccount token for reports to the operator; none, no reports.
    #[arg(long, value_name = "FILE")]
    pub identity_token: Option<PathBuf>,

    /// The file with the projected ServiceAccount token for the vault.
    #[arg(long, value_name = "FILE")]
    pub vault_token: Option<PathBuf>,

    /// The folder on tmpfs in which the workload finds tokens; none, no files.
    #[arg(long, value_name = "FOLDER", requires = "vault_token")]
    pub token_folder: Option<PathBuf>,

    /// The subject (`sub`) of the user for whom the tokens in files act; empty, none.
    #[arg(long, value_name = "SUB")]
    pub on_behalf_of: Option<String>,

    /// The probes of the workload's containers that the webhook moved here, as JSON.
    #[arg(long, value_name = "JSON", default_value = "[]")]
    pub probes: String,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["--upstream-port=5000"], true)]
    #[case(&["--upstream-url=http://mlflow.ml.svc:5000"], true)]
    #[case(&["--no-upstream"], true)]
    #[case::none(&[], false)]
    #[case::two(&["--upstream-port=5000", "--no-upstream"], false)]
    #[case::two_workloads(&["--upstream-port=5000", "--upstream-url=http://a.test"], false)]
    #[case::a_path(&["--upstream-url=http://a.test/b"], false)]
    fn what_is_behind_the_proxy_is_said_exactly_once(#[case] options: &[&str], #[case] good: bool) {
        let arguments = std::iter::once("sidecar").chain(options.iter().copied());
        assert_eq!(Args::try_parse_from(arguments).is_ok(), good);
    }
}
