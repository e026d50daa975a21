//! nginx without any authentication: the floor.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{Kind, Peer, Stage, program};
use crate::bench::process::{self, Process};

pub(super) async fn start(stage: &Stage, logs: bool) -> anyhow::Result<Peer> {
    let program = program("nginx").context("nginx is not installed (`.ci/setup bench` does)")?;
    let folder = stage.folder(Kind::Nginx.name(), logs)?;
    let port = process::free_port()?;
    let path = folder.join("nginx.conf");
    fs::write(&path, config(&folder, port, stage.upstream.port(), logs))
        .context("failed to write a configuration")?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder).arg("-c").arg(&path);
    // Where it would log before it has read the configuration.
    command.arg("-e").arg(folder.join("error.log"));
    let mut process = Process::start(&mut command, &folder.join("log"))?;
    let address = process::loopback(port);
    let start = process.answers(address).await?;
    Ok(Peer {
        name: Kind::Nginx.name(),
        address,
        process,
        start,
        logs,
        host: "app.test".to_owned(),
        // It looks at neither, but has to carry as much as the others.
        cookie: format!("session={}", "x".repeat(SESSION_LENGTH)),
        bearer: Some("x".repeat(TOKEN_LENGTH)),
    })
}

/// Kept connections to the workload and to clients, no buffering on disk: the best that it can do.
fn config(folder: &Path, port: u16, upstream: u16, logs: bool) -> String {
    let folder = folder.display();
    let access_log = if logs {
        format!("{folder}/access.log")
    } else {
        "off".to_owned()
    };
    format!(
        "worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {access_log};
  client_body_temp_path {folder}/client_body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  tcp_nodelay on;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream workload {{
    server 127.0.0.1:{upstream};
    keepalive 512;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 0;
    location / {{
      proxy_pass http://workload;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_max_temp_file_size 0;
    }}
    location /events {{
      proxy_pass http://workload;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }}
    location /websocket {{
      proxy_pass http://workload;
      proxy_http_version 1.1;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"
    )
}

/// About what our session cookie and a Globus token have.
const SESSION_LENGTH: usize = 220;
const TOKEN_LENGTH: usize = 96;
