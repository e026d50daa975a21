//! What the operator sets on the command line; everything else is in the mounted configuration.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The vault of globus-auth: keeps users' OAuth tokens, encrypted and fresh.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// What to do; nothing, serve.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The folder with the mounted configuration.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/etc/globus-auth-vault",
        global = true
    )]
    pub config: PathBuf,

    /// The file with the key ring.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/globus-auth-vault-keys/keyring.json",
        global = true
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
    #[arg(long, value_name = "FILE", conflicts_with = "database", global = true)]
    pub database_file: Option<PathBuf>,

    /// The address of a database that needs no password.
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite:/var/lib/globus-auth-vault/vault.db",
        global = true
    )]
    pub database: String,

    /// The folder for tokens that came while the database took no writes, until it does.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/lib/globus-auth-vault/unstored"
    )]
    pub unstored: PathBuf,

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

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take over tokens that another program keeps in a file: `mcp_tokens.enc` of atlas-chat, tokens.json or
    /// storage.db of the Globus SDK, files of fair-research-login and Gladier.
    Import(ImportArgs),
    /// Follow the audit log from its beginning, and say whether every entry is as it was written.
    Verify,
}

/// What is imported, and for whom.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The file; `-` is the standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Whose pods may use the tokens.
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT")]
    pub workload: String,

    /// The name in spec.issuers of the issuer and the client that gave the tokens, if there are several.
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,

    /// The subject (`sub`) of the user, if the file has the tokens of one.
    #[arg(long, value_name = "SUB")]
    pub user: Option<String>,

    /// A JSON file {"address": "sub", …}, if the file names users by their e-mail addresses.
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,

    /// The resource server of what the file calls SERVICE; may be repeated.
    #[arg(long = "service", value_name = "SERVICE=RESOURCE_SERVER")]
    pub services: Vec<String>,

    /// The file with the key or passphrase of an encrypted file.
    #[arg(long, value_name = "FILE")]
    pub file_key: Option<PathBuf>,

    /// Say what would become of each row, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}
