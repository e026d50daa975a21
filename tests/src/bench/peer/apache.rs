//! Apache with `mod_auth_openidc`, with a configuration of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{Kind, Peer, Stage, USER, log_in, program};
use crate::bench::process::{self, Process};
use crate::harness::sidecar::{CLIENT_ID, CLIENT_SECRET};

pub(super) async fn start(stage: &Stage, logs: bool) -> anyhow::Result<Peer> {
    let program =
        program("apache2").context("apache2 is not installed (`.ci/setup bench` does)")?;
    anyhow::ensure!(
        Path::new(MODULES).join("mod_auth_openidc.so").is_file(),
        "mod_auth_openidc is not installed (`.ci/setup bench` does)"
    );
    let folder = stage.folder(Kind::Apache.name(), logs)?;
    // The provider knows one callback of Apache's, so one of them runs at a time.
    let port = stage.apache_port;
    let path = folder.join("apache.conf");
    fs::write(&path, config(stage, &folder, port, logs))
        .context("failed to write a configuration")?;
    let mut command = Command::new(program);
    command.arg("-f").arg(&path).arg("-DFOREGROUND");
    let mut process = Process::start(&mut command, &folder.join("log"))?;
    let address = process::loopback(port);
    let start = process.answers(address).await?;
    let home = format!("http://127.0.0.1:{port}");
    Ok(Peer {
        name: Kind::Apache.name(),
        address,
        process,
        start,
        logs,
        host: format!("127.0.0.1:{port}"),
        cookie: log_in(&home, address, "/64").await?,
        bearer: None,
    })
}

fn config(stage: &Stage, folder: &Path, port: u16, logs: bool) -> String {
    let (provider, upstream) = (stage.provider.issuer(), stage.upstream);
    let folder = folder.display();
    let modules: String = [
        "authn_core",
        "authz_core",
        "authz_user",
        "mpm_event",
        "proxy",
        "proxy_http",
        "auth_openidc",
    ]
    .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
    .concat();
    let access_log = if logs {
        format!("CustomLog {folder}/access.log \"%h %l %u %t \\\"%r\\\" %>s %b\"\n")
    } else {
        String::new()
    };
    format!(
        "{modules}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
LogLevel error
{access_log}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
ServerLimit 8
StartServers 1
ThreadLimit 256
ThreadsPerChild 256
MaxRequestWorkers 2048
OIDCProviderMetadataURL {provider}/.well-known/openid-configuration
OIDCClientID {CLIENT_ID}
OIDCClientSecret \"{CLIENT_SECRET}\"
OIDCRedirectURI http://127.0.0.1:{port}/oauth2/callback
OIDCCryptoPassphrase nothing-that-outlives-the-run
OIDCIDTokenSignedResponseAlg RS512
OIDCPKCEMethod S256
OIDCScope \"openid email profile\"
OIDCRemoteUserClaim email
<Location />
  AuthType openid-connect
  Require claim email:{USER}
  ProxyPass http://{upstream}/ enablereuse=on keepalive=On
</Location>
<Location /websocket>
  AuthType openid-connect
  Require claim email:{USER}
  ProxyPass http://{upstream}/websocket upgrade=websocket
</Location>
"
    )
}

const MODULES: &str = "/usr/lib/apache2/modules";
