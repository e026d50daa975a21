//! The listener that users reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app::Proxy;
use crate::forward::Peer;

/// Binds `port` on every one of `addresses`.
///
/// # Errors
/// The first address that cannot be bound. Where there is no IPv6, `::` means `0.0.0.0`.
pub(crate) async fn bind(addresses: &[IpAddr], port: u16) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = match TcpListener::bind((*address, port)).await {
            Err(_no_ipv6) if address.is_ipv6() && address.is_unspecified() => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?
            }
            bound => bound?,
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Where `listeners` listen.
///
/// # Errors
/// A listener that is gone.
pub(crate) fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Serves users until `stop`, then lets open requests and upgraded connections finish for a while.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    proxy: Proxy,
    stop: impl Future<Output = ()>,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let loops: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (proxy, graceful, room) = (proxy.clone(), Arc::clone(&graceful), Arc::clone(&room));
            tokio::spawn(accept(listener, proxy, graceful, room))
        })
        .collect();
    stop.await;
    tracing::info!("stopping");
    proxy.stop();
    for task in loops {
        task.abort();
        // What is left is the abortion itself.
        task.await.unwrap_or_default();
    }
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    let finished = async {
        graceful.shutdown().await;
        // Only a request opens another.
        proxy.tunnels_closed().await;
    };
    if tokio::time::timeout(DRAIN, finished).await.is_err() {
        tracing::warn!("some requests were still open at the end");
    }
}

async fn accept(
    listener: TcpListener,
    proxy: Proxy,
    graceful: Arc<GracefulShutdown>,
    room: Arc<Semaphore>,
) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(peer) = Peer::new(peer) else {
                    continue;
                };
                let (proxy, watcher) = (proxy.clone(), graceful.watcher());
                tokio::spawn(async move {
                    one(stream, peer, proxy, watcher).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, for instance: wait for some to be closed.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one connection, from the handshake to its end.
async fn one(stream: TcpStream, peer: Peer, proxy: Proxy, watcher: Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let served = match proxy.tls() {
        None => watcher.watch(connection(stream, peer, proxy)).await,
        // Rare, and large.
        Some(tls) => match Box::pin(tls.accept(stream)).await {
            Some(stream) => Box::pin(watcher.watch(connection(stream, peer, proxy))).await,
            None => Ok(()),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn connection<S>(
    stream: S,
    peer: Peer,
    proxy: Proxy,
) -> auto::UpgradeableConnection<
    'static,
    TokioIo<S>,
    impl hyper::service::Service<
        Request<Incoming>,
        Response = http::Response<Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + Send,
    TokioExecutor,
>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, peer) = (proxy.clone(), peer.clone());
        async move { Ok(proxy.serve(request.map(body), &peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES_H2)
        .keep_alive_interval(Some(HEADER_TIMEOUT));
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned()
}

fn body(incoming: Incoming) -> Body {
    if http_body::Body::is_end_stream(&incoming) {
        Body::empty()
    } else {
        Body::new(incoming)
    }
}

/// A client that does not finish its headers in this time is not one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Request line and headers together; more is answered with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES_H2: u32 = 64 * 1024;
/// Each costs some kilobytes and two file descriptors.
const MAX_CONNECTIONS: usize = 16_384;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Below the 30 seconds that a pod has by default between SIGTERM and SIGKILL.
const DRAIN: Duration = Duration::from_secs(20);
