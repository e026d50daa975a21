//! TLS on the listener (RFC 8446): the certificate of the configuration in force.

use std::sync::Arc;
use std::time::Duration;

use globus_auth_core::runtime::certificate::{self, BadCertificate};
use globus_auth_core::runtime::telemetry::Chain;
use globus_auth_core::sidecar_config::Tls as Config;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Turns connections into connections with TLS.
pub(crate) struct Tls {
    config: Config,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// # Errors
    /// [`BadTls`].
    pub(crate) fn new(config: &Config) -> Result<Self, BadTls> {
        let pair = certificate::read(&config.certificates, config.private_key.expose_secret())
            .map_err(BadTls::Certificate)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadTls::Protocol)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Self {
            config: config.clone(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Whether this was made of the same certificate and key.
    pub(crate) fn is(&self, config: &Config) -> bool {
        self.config == *config
    }

    /// Shakes hands; nothing, if that fails or takes too long.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "a TLS handshake failed");
                None
            }
            Err(_elapsed) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// HTTP/2 for those who offer it (RFC 7301, RFC 9113 §3.2).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Whoever has not shaken hands in this time only keeps a place.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why TLS cannot be spoken with what was configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTls {
    #[error("failed to use the certificate")]
    Certificate(#[source] BadCertificate),
    #[error("failed to set up the protocol; a bug")]
    Protocol(#[source] rustls::Error),
}
