//! Asks the workload on loopback what the kubelet would have asked it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use globus_auth_core::probe::{Probe, ProbeAction};
use http::{Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;

/// A route for each of `probes`. The answer is a status without a body: whoever can reach the admin
/// port learns no more than the kubelet does.
pub(crate) fn router(probes: Vec<Probe>, port: u16) -> Router {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build_http();
    probes.into_iter().fold(Router::new(), |router, probe| {
        let (path, probe, client) = (probe.path(), Arc::new(probe), client.clone());
        router.route(
            &path,
            get(async move || carry_out(&probe, port, &client).await),
        )
    })
}

async fn carry_out(probe: &Probe, port: u16, client: &Client<HttpConnector, Body>) -> StatusCode {
    let timeout = Duration::from_secs(probe.timeout_seconds.into());
    let attempt = async {
        match &probe.action {
            ProbeAction::HttpGet { path, headers } => http_get(path, headers, port, client).await,
            ProbeAction::TcpSocket {} => match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(_connection) => StatusCode::OK,
                Err(_refused) => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    };
    tokio::time::timeout(timeout, attempt)
        .await
        .unwrap_or(StatusCode::GATEWAY_TIMEOUT)
}

async fn http_get(
    path: &str,
    headers: &[(String, String)],
    port: u16,
    client: &Client<HttpConnector, Body>,
) -> StatusCode {
    let mut request = Request::get(format!("http://127.0.0.1:{port}{path}"));
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(header::HOST, format!("localhost:{port}"));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::empty()) else {
        return StatusCode::BAD_GATEWAY;
    };
    match client.request(request).await {
        // The kubelet would follow a redirect to an address that it cannot reach; to it, 3xx is success.
        Ok(response) if response.status().is_redirection() => StatusCode::OK,
        Ok(response) => response.status(),
        Err(_broken) => StatusCode::BAD_GATEWAY,
    }
}
