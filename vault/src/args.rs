//! What the operator sets on the command line; everything else is in the mounted configuration.

use std::path::PathBuf;

use clap::Parser;

/// The vault of globus-auth: keeps users' OAuth tokens, encrypted and fresh.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// The folder with the mounted configuration.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/globus-auth-vault")]
    pub config: PathBuf,

    /// The file with the key ring.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/globus-auth-vault-keys/keyring.json"
    )]
    pub keys: PathBuf,

    /// The folder with the certificate that is shown, tls.crt and tls.key.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/etc/globus-auth-vault-tls"
    )]
    pub certificate: PathBuf,

    /// The file with the address of the database: sqlite:PATH, or postgres://….
    #[arg(long, value_name = "FILE", conflicts_with = "database")]
    pub database_file: Option<PathBuf>,

    /// The address of a database that needs no password.
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite:/var/lib/globus-auth-vault/vault.db"
    )]
    pub database: String,

    /// The port on which sidecars are served; 0 takes a free one, which the log names.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub listen_port: u16,

    /// The port for the kubelet's probes and for metrics; 0 takes a free one, which the log names.
    #[arg(long, value_name = "PORT", default_value_t = 4181)]
    pub admin_port: u16,

    /// The API server, which reviews ServiceAccount tokens.
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://kubernetes.default.svc"
    )]
    pub api_server: String,

    /// The folder with our own ServiceAccount token and the API server's authority.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub service_account: PathBuf,
}
