//! Requests to identity providers and to the operator: small, bounded, and never redirected.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// An HTTP client whose every request ends within a bounded time and a bounded answer.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// A client that trusts the certificate authorities of the system (`SSL_CERT_FILE` is honoured).
    ///
    /// # Errors
    /// [`BadTrust`] if the system has none.
    pub fn with_system_roots() -> Result<Self, BadTrust> {
        let builder = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(BadTrust::System)?;
        Ok(Self::new(builder.https_or_http().enable_http1().build()))
    }

    /// A client that trusts only the certificates in `authorities` (PEM), and speaks only TLS.
    ///
    /// # Errors
    /// [`BadTrust`] if there is no certificate in it.
    pub fn with_authorities(authorities: &str) -> Result<Self, BadTrust> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots
                .add(certificate.map_err(|_format| BadTrust::Pem)?)
                .map_err(BadTrust::Rustls)?;
        }
        if roots.is_empty() {
            return Err(BadTrust::Pem);
        }
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        Ok(Self::new(connector))
    }

    fn new(connector: HttpsConnector<HttpConnector>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { client }
    }

    /// Sends `request` and reads the whole answer. A redirect is an answer, not an order: it could lead
    /// a client secret anywhere.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, SendError> {
        let exchange = async {
            let request = request.map(|body| Full::new(Bytes::from(body)));
            let response = self
                .client
                .request(request)
                .await
                .map_err(SendError::Request)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_RESPONSE)
                .collect()
                .await
                .map_err(SendError::ReadBody)?
                .to_bytes();
            Ok(Response::from_parts(parts, body.to_vec()))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_elapsed| SendError::Timeout)?
    }
}

impl<'c> oauth2::AsyncHttpClient<'c> for HttpClient {
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, SendError>> + Send + 'c>>;

    /// An endpoint that is overloaded or broken has said nothing about the request, whatever its body
    /// looks like.
    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(async {
            let response = self.send(request).await?;
            let status = response.status();
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                Err(SendError::Unavailable { status })
            } else {
                Ok(response)
            }
        })
    }
}

/// How TLS servers are trusted that the certificate authorities of the system vouch for.
///
/// # Errors
/// [`BadTrust`] if the system has none.
pub fn system_tls() -> Result<rustls::ClientConfig, BadTrust> {
    let builder = rustls::ClientConfig::builder()
        .with_native_roots()
        .map_err(BadTrust::System)?;
    Ok(builder.with_no_client_auth())
}

/// A login page is not worth more of a user's patience.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Below the idle timeouts of common load balancers, so that a kept connection is a live one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A userinfo of a Globus user with 60 linked identities is about 20 kB.
const MAX_RESPONSE: usize = 256 * 1024;

/// Why a client cannot trust anybody.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// No certificate in the PEM text.
    #[error("no certificate authority in the PEM text")]
    Pem,
    /// A certificate that TLS cannot use.
    #[error("failed to use a certificate authority")]
    Rustls(#[source] rustls::Error),
    /// The system's store is missing.
    #[error("failed to load the system's certificate authorities")]
    System(#[source] std::io::Error),
}

/// Why there is no answer. Nothing of the request is in the message.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The answer broke off, or is longer than 256 KiB.
    #[error("failed to read the response")]
    ReadBody(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection, or no HTTP.
    #[error("failed to send the request")]
    Request(#[source] hyper_util::client::legacy::Error),
    /// No answer within 10 seconds.
    #[error("no response within 10 seconds")]
    Timeout,
    /// A status of 5xx, or 429.
    #[error("the other side answered with status {status}")]
    Unavailable {
        /// The status.
        status: StatusCode,
    },
}
