//! Accepting connections, for every stand-in of this crate.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A listener that runs on its own task and ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves every connection of `listener` by its own task running `connection`.
    ///
    /// # Errors
    /// When the listener has no local address any more.
    pub(crate) fn spawn<F, C>(listener: TcpListener, connection: F) -> io::Result<Self>
    where
        F: Fn(Socket) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, connection, stop.clone()));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// The address that clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and cuts every connection; returns when the port is free again.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the accepting task ended badly");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A TCP connection that can be ended by a reset instead of an orderly close.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    reset: Reset,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        let reset = Reset(CancellationToken::new());
        Self { stream, reset }
    }

    /// The handle that resets this connection.
    pub(crate) fn reset(&self) -> Reset {
        self.reset.clone()
    }
}

/// Orders the reset of one connection, from wherever its request ended up.
#[derive(Clone, Debug)]
pub(crate) struct Reset(CancellationToken);

impl Reset {
    /// Asks for the reset, which happens as soon as the connection's task looks.
    pub(crate) fn order(&self) {
        self.0.cancel();
    }

    /// Waits until a reset was ordered; the task of the connection then drops it.
    pub(crate) async fn ordered(&self) {
        self.0.cancelled().await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A linger time of zero turns the close into a reset: the peer sees ECONNRESET.
        if self.reset.0.is_cancelled()
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "failed to reset a connection, it is closed instead");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Waits for SIGTERM (the kubelet) or SIGINT (a terminal).
///
/// # Errors
/// When the process cannot listen for signals.
pub async fn asked_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn accept<F, C>(listener: TcpListener, connection: F, stop: CancellationToken)
where
    F: Fn(Socket) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    // Dropping the set aborts every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    // Small answers must not wait for the peer's delayed acknowledgement.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "failed to set TCP_NODELAY");
                    }
                    connections.spawn(connection(Socket::new(stream)));
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Without file descriptors `accept` fails at once, again and again; this keeps it from spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
