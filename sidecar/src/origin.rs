//! Where the workload listens, and connections to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use globus_auth_core::runtime::http_client::{self, BadTrust};
use globus_auth_core::url::UpstreamUrl;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where the workload listens.
#[derive(Clone)]
pub(crate) enum Origin {
    /// In this pod.
    Loopback(u16),
    /// Elsewhere.
    Remote {
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(port) => write!(f, "Loopback({port})"),
            Self::Remote { host, port, tls } => {
                write!(f, "Remote({host:?}, {port}, tls: {})", tls.is_some())
            }
        }
    }
}

impl Origin {
    /// The origin that `url` names.
    ///
    /// # Errors
    /// [`BadOrigin`] if it is https, and TLS cannot be had or its host is no name that a certificate can have.
    pub(crate) fn remote(url: &UpstreamUrl) -> Result<Self, BadOrigin> {
        let tls = if url.is_https() {
            let mut config = http_client::system_tls().map_err(BadOrigin::Trust)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = ServerName::try_from(url.host().to_owned()).map_err(BadOrigin::Name)?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        Ok(Self::Remote {
            host: url.host().to_owned(),
            port: url.port(),
            tls,
        })
    }

    pub(crate) const fn port(&self) -> u16 {
        match self {
            Self::Loopback(port) | Self::Remote { port, .. } => *port,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// Nobody listens there, or not whom the certificate should name.
    pub(crate) async fn connect(&self) -> std::io::Result<Stream> {
        match self {
            Self::Loopback(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Plain(stream))
            }
            Self::Remote { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Stream::Plain(stream)),
                    Some((connector, name)) => {
                        let stream = connector.connect(name.clone(), stream).await?;
                        Ok(Stream::Tls(Box::new(stream)))
                    }
                }
            }
        }
    }
}

/// Why an origin cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadOrigin {
    #[error("the host of --upstream-url is no name that a certificate can have")]
    Name(#[source] InvalidDnsNameError),
    #[error("failed to prepare TLS for --upstream-url")]
    Trust(#[source] BadTrust),
}

/// A connection to the workload.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        each!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        each!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        each!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
