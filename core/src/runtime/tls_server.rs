//! A TLS listener for programs of ours: the operator's webhook, the vault.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::telemetry::Chain;

/// The certificate in use, changed without closing a connection.
#[derive(Debug, Default)]
pub struct ServedCertificate(ArcSwapOption<CertifiedKey>);

impl ServedCertificate {
    /// Whether there is one.
    pub fn is_present(&self) -> bool {
        self.0.load().is_some()
    }

    /// Shows `key` from the next connection on.
    pub fn set(&self, key: CertifiedKey) {
        self.0.store(Some(Arc::new(key)));
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Serves `router` until `stop`, then finishes what is open.
///
/// # Errors
/// The certificate machinery does not fit TLS; a bug.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    served: Arc<ServedCertificate>,
    provider: Arc<CryptoProvider>,
    stop: impl Future<Output = ()>,
) -> Result<(), rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    let (acceptor, router) = (acceptor.clone(), router.clone());
                    tokio::spawn(connection(stream, acceptor, router, graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            () = &mut stop => break,
        }
    }
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %Chain(&error), "a TLS handshake failed"),
        Err(_elapsed) => return tracing::debug!("a TLS handshake took too long"),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The API server keeps connections for 90 seconds; a shorter time here would cut them under it.
const IDLE: Duration = Duration::from_mins(3);
const DRAIN: Duration = Duration::from_secs(10);
