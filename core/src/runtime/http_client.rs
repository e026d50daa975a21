//! Requests to identity providers and to the operator: small, bounded, and never redirected.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::egress::Egress;

/// An HTTP client whose every request ends within a bounded time and a bounded answer.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    resolver: Resolver,
}

impl HttpClient {
    /// A client that trusts the certificate authorities of the system (`SSL_CERT_FILE` is honoured).
    ///
    /// # Errors
    /// [`BadTrust`] if the system has none.
    pub fn with_system_roots() -> Result<Self, BadTrust> {
        Self::of(Resolver { egress: None })
    }

    /// The same, for addresses that somebody else's configuration names: only what `egress` permits is asked.
    /// Every address of a name must be permitted, and the one that is asked is one that was looked at.
    ///
    /// # Errors
    /// [`BadTrust`] if the system has no certificate authorities.
    pub fn guarded(egress: Egress) -> Result<Self, BadTrust> {
        let egress = Some(Arc::new(egress));
        Self::of(Resolver { egress })
    }

    fn of(resolver: Resolver) -> Result<Self, BadTrust> {
        let builder = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(BadTrust::System)?;
        let builder = builder.https_or_http().enable_http1();
        Ok(Self::new(
            builder.wrap_connector(resolver.connector()),
            resolver,
        ))
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
        let resolver = Resolver { egress: None };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(resolver.connector());
        Ok(Self::new(connector, resolver))
    }

    fn new(connector: HttpsConnector<HttpConnector<Resolver>>, resolver: Resolver) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { client, resolver }
    }

    /// Sends `request` and reads the whole answer. A redirect is an answer, not an order: it could lead
    /// a client secret anywhere.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, SendError> {
        // An address that is written as a number is not resolved.
        let host = request.uri().host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        if let Ok(address) = literal {
            self.resolver.check(address).map_err(SendError::Internal)?;
        }
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

/// Resolves names, and refuses those of internal addresses.
#[derive(Clone, Debug)]
struct Resolver {
    /// None: everything is permitted.
    egress: Option<Arc<Egress>>,
}

impl Resolver {
    fn connector(&self) -> HttpConnector<Self> {
        let mut connector = HttpConnector::new_with_resolver(self.clone());
        connector.enforce_http(false);
        connector
    }

    fn check(&self, address: IpAddr) -> Result<(), InternalAddress> {
        match &self.egress {
            Some(egress) if !egress.permits(address) => Err(InternalAddress(address)),
            Some(_) | None => Ok(()),
        }
    }

    /// All of them, if all are permitted: of a name that has others, too, the next connection could go to one.
    fn permitted(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, InternalAddress> {
        found.iter().try_for_each(|one| self.check(one.ip()))?;
        Ok(found)
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted = resolver.permitted(found.collect());
            // The connection goes to one of these; nobody is asked for the name again.
            Ok(permitted.map_err(std::io::Error::other)?.into_iter())
        })
    }
}

/// A name or an address that leads to where only the cluster can reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is an internal address, and not in a network that is allowed")]
pub struct InternalAddress(IpAddr);

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
    /// Nothing was sent.
    #[error("refused to send the request")]
    Internal(#[source] InternalAddress),
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::runtime::telemetry::Chain;

    fn allowed(networks: &[&str]) -> Egress {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        Egress {
            allowed: networks.collect(),
        }
    }

    /// By number and by name, and without a connection.
    #[rstest]
    #[case("127.0.0.1")]
    #[case("[::1]")]
    #[case("[::ffff:127.0.0.1]")]
    #[case("localhost")]
    #[tokio::test]
    async fn an_internal_address_is_not_asked(#[case] host: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = HttpClient::guarded(Egress::default()).unwrap();
        let request = Request::get(format!("http://{host}:{port}/")).body(vec![]);
        let error = client.send(request.unwrap()).await.unwrap_err();
        let said = Chain(&error).to_string();
        assert!(said.contains("is an internal address"), "{said}");
        let asked = tokio::time::timeout(Duration::from_millis(50), listener.accept());
        assert!(asked.await.is_err());
    }

    #[tokio::test]
    async fn an_address_in_a_network_that_is_allowed_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = HttpClient::guarded(allowed(&["127.0.0.0/8", "::1/128"])).unwrap();
        for host in ["127.0.0.1", "localhost"] {
            let request = Request::get(format!("http://{host}:{port}/")).body(vec![]);
            let asked = tokio::spawn({
                let client = client.clone();
                async move { client.send(request.unwrap()).await.is_ok() }
            });
            drop(listener.accept().await.unwrap());
            assert!(!asked.await.unwrap());
        }
    }

    #[test]
    fn one_internal_address_among_others_is_enough() {
        let egress = Some(Arc::new(Egress::default()));
        let resolver = Resolver { egress };
        let of = |addresses: &[&str]| {
            let sockets = addresses
                .iter()
                .map(|one| SocketAddr::new(one.parse().unwrap(), 0));
            resolver.permitted(sockets.collect()).is_ok()
        };
        assert!(of(&["93.184.216.34", "2606:2800::1"]));
        for internal in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"] {
            assert!(!of(&["93.184.216.34", internal]), "{internal}");
            assert!(!of(&[internal, "93.184.216.34"]), "{internal}");
        }
    }

    /// Answers one request.
    async fn answering(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await.unwrap();
            // Whoever has heard enough hangs up.
            let _heard = stream.write_all(answer.as_bytes()).await;
        });
        format!("http://{address}/")
    }

    /// Whoever follows one goes where nobody has looked.
    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = there.local_addr().unwrap();
        let url = answering(format!(
            "HTTP/1.1 307 x\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n"
        ));
        let client = HttpClient::guarded(allowed(&["127.0.0.0/8"])).unwrap();
        let request = Request::get(url.await).body(vec![]).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        let asked = tokio::time::timeout(Duration::from_millis(50), there.accept());
        assert!(asked.await.is_err());
    }

    #[rstest]
    #[case::largest(256 * 1024, true)]
    #[case::larger(256 * 1024 + 1, false)]
    #[case::bomb(2 * 1024 * 1024, false)]
    #[tokio::test]
    async fn no_more_of_an_answer_is_read_than_it_can_need(
        #[case] length: usize,
        #[case] is_read: bool,
    ) {
        let body = "x".repeat(length);
        // Without a length, so that only what comes can tell.
        let url = answering(format!("HTTP/1.1 200 x\r\nConnection: close\r\n\r\n{body}"));
        let client = HttpClient::guarded(allowed(&["127.0.0.0/8"])).unwrap();
        let request = Request::get(url.await).body(vec![]).unwrap();
        match client.send(request).await {
            Ok(response) => assert_eq!(response.body().len(), length),
            Err(error) => assert!(
                !is_read && matches!(error, SendError::ReadBody(_)),
                "{error}"
            ),
        }
    }
}
