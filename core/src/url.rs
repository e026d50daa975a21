//! The kinds of address that a configuration names: where users find us, who vouches for them, and what is
//! behind us.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// The origin under which users reach a protected workload: scheme, host and port, nothing else.
///
/// `https` is required, because the session cookie is `Secure` and `__Host-`; `http` is accepted for
/// loopback hosts only, which browsers treat as trustworthy (W3C Secure Contexts §3.1).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalUrl(Url);

impl ExternalUrl {
    /// `scheme://host[:port]` without a slash at the end, as a browser writes an `Origin` (RFC 6454 §6.2).
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// `host[:port]`, as a browser writes `Host` (RFC 9110 §7.2).
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// The address of `path` (which starts with `/`) on this origin.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }
}

impl FromStr for ExternalUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let url = parse(text)?;
        if url.path() != "/" || url.query().is_some() || text.ends_with('?') {
            return Err(BadUrl::NotAnOrigin);
        }
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(BadUrl::NotHttps);
        }
        Ok(Self(url))
    }
}

/// The issuer identifier of an OpenID provider, compared as an exact string (OpenID Connect Core §2).
///
/// `https` is required; `http` is accepted for loopback hosts and for Services of the cluster
/// (`….svc`, `….svc.cluster.local`), where a provider without TLS may run for tests.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Issuer(String);

impl Issuer {
    /// The issuer of Globus Auth.
    pub fn globus() -> Self {
        Self("https://auth.globus.org".to_owned())
    }

    /// The identifier as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its metadata is (OpenID Connect Discovery §4).
    pub fn discovery_url(&self) -> String {
        format!(
            "{}/.well-known/openid-configuration",
            self.0.trim_end_matches('/')
        )
    }

    /// Where the metadata of an authorization server is that is no OpenID provider (RFC 8414 §3.1): with the path of
    /// the issuer behind the well-known one.
    pub fn authorization_server_metadata_url(&self) -> String {
        let text = self.0.trim_end_matches('/');
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(host, path)| {
                (host, format!("/{path}"))
            });
        format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}")
    }

    /// Whether this issuer speaks TLS; then every endpoint that it names must, too.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Issuer {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let url = parse(text)?;
        if url.query().is_some() || text.ends_with('?') {
            return Err(BadUrl::HasQuery);
        }
        if url.scheme() != "https" && !is_loopback(&url) && !is_cluster_service(&url) {
            return Err(BadUrl::NotHttps);
        }
        Ok(Self(text.to_owned()))
    }
}

/// The origin of a workload that is in another pod, or outside the cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamUrl {
    is_https: bool,
    host: String,
    port: u16,
}

impl UpstreamUrl {
    /// Whether it is asked over TLS.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Host and port as in the field `Host`, without the scheme's own port.
    pub fn authority(&self) -> String {
        let text = self.to_string();
        let authority = text
            .split_once("://")
            .map_or("", |(_, authority)| authority);
        let usual = if self.is_https { ":443" } else { ":80" };
        authority
            .strip_suffix(usual)
            .unwrap_or(authority)
            .to_owned()
    }

    /// The port, also if it is the scheme's own.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for UpstreamUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let url = parse(text)?;
        if url.path() != "/" || url.query().is_some() || text.ends_with('?') {
            return Err(BadUrl::NotAnOrigin);
        }
        let host = match url.host().ok_or(BadUrl::NotAUrl)? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        Ok(Self {
            is_https: url.scheme() == "https",
            host,
            port: url.port_or_known_default().ok_or(BadUrl::NotAUrl)?,
        })
    }
}

impl TryFrom<String> for UpstreamUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        text.parse()
    }
}

impl From<UpstreamUrl> for String {
    fn from(url: UpstreamUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Where a collector takes traces: the base address of OTLP over HTTP (OpenTelemetry Protocol Exporter,
/// "Endpoint URLs for OTLP/HTTP"), `http` or `https`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectorUrl(String);

impl CollectorUrl {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where traces go.
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0.trim_end_matches('/'))
    }
}

impl FromStr for CollectorUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let url = parse(text)?;
        if url.query().is_some() {
            return Err(BadUrl::HasQuery);
        }
        Ok(Self(text.to_owned()))
    }
}

fn parse(text: &str) -> Result<Url, BadUrl> {
    if text.len() > MAX_LENGTH {
        return Err(BadUrl::TooLong);
    }
    let url = Url::parse(text).map_err(|_syntax| BadUrl::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(BadUrl::NotHttps);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::HasUserInfo);
    }
    if url.fragment().is_some() {
        return Err(BadUrl::HasFragment);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_cluster_service(url: &Url) -> bool {
    let mut labels = url.domain().unwrap_or_default().rsplit('.');
    match labels.next() {
        Some("svc") => labels.next().is_some(),
        Some("local") => {
            labels.next() == Some("cluster")
                && labels.next() == Some("svc")
                && labels.next().is_some()
        }
        _ => false,
    }
}

const MAX_LENGTH: usize = 512;

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadUrl {
    /// `#…`.
    #[error("must not have a fragment (#…)")]
    HasFragment,
    /// `?…`.
    #[error("must not have a query (?…)")]
    HasQuery,
    /// `user@`.
    #[error("must not have a user name or password")]
    HasUserInfo,
    /// Not a URL at all.
    #[error("must be a URL such as https://mlflow.example.org")]
    NotAUrl,
    /// A path or a query.
    #[error(
        "must be an origin (scheme, host and port) without a path, such as https://mlflow.example.org"
    )]
    NotAnOrigin,
    /// A scheme that is not allowed for this host.
    #[error(
        "must start with https:// (http:// only for localhost, and for issuers in the cluster)"
    )]
    NotHttps,
    /// Longer than 512 bytes.
    #[error("must not be longer than 512 bytes")]
    TooLong,
}

macro_rules! string_conversions {
    ($($name:ident => $as_str:expr),*) => {$(
        impl TryFrom<String> for $name {
            type Error = BadUrl;

            fn try_from(text: String) -> Result<Self, BadUrl> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(url: $name) -> Self {
                url.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$as_str(self))
            }
        }
    )*};
}

string_conversions!(ExternalUrl => ExternalUrl::origin, Issuer => |issuer: &Issuer| issuer.0.clone(), CollectorUrl => |url: &CollectorUrl| url.0.clone());

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "https://mlflow.example.org",
        "https://mlflow.example.org",
        "mlflow.example.org"
    )]
    #[case(
        "https://mlflow.example.org/",
        "https://mlflow.example.org",
        "mlflow.example.org"
    )]
    #[case(
        "https://MLflow.example.org:443",
        "https://mlflow.example.org",
        "mlflow.example.org"
    )]
    #[case(
        "https://mlflow.example.org:8443",
        "https://mlflow.example.org:8443",
        "mlflow.example.org:8443"
    )]
    #[case("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080")]
    #[case("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080")]
    #[case("http://localhost:8080", "http://localhost:8080", "localhost:8080")]
    fn an_external_url_is_an_origin(
        #[case] text: &str,
        #[case] origin: &str,
        #[case] authority: &str,
    ) {
        let url: ExternalUrl = text.parse().unwrap();
        assert_eq!(
            (url.origin().as_str(), url.authority()),
            (origin, authority)
        );
    }

    #[rstest]
    #[case("http://mlflow.example.org", BadUrl::NotHttps)]
    #[case("http://localhost.example.org", BadUrl::NotHttps)]
    #[case("http://mlflow.ml.svc.cluster.local", BadUrl::NotHttps)]
    #[case("https://mlflow.example.org/ui", BadUrl::NotAnOrigin)]
    #[case("https://mlflow.example.org/?", BadUrl::NotAnOrigin)]
    #[case("https://a@mlflow.example.org", BadUrl::HasUserInfo)]
    #[case("https://mlflow.example.org/#x", BadUrl::HasFragment)]
    #[case("mlflow.example.org", BadUrl::NotAUrl)]
    #[case("ftp://mlflow.example.org", BadUrl::NotHttps)]
    #[case("javascript:alert(1)", BadUrl::NotHttps)]
    fn what_is_not_a_safe_origin_is_refused(#[case] text: &str, #[case] reason: BadUrl) {
        assert_eq!(text.parse::<ExternalUrl>(), Err(reason));
    }

    #[rstest]
    #[case(
        "https://auth.globus.org",
        Ok("https://auth.globus.org/.well-known/openid-configuration")
    )]
    #[case(
        "https://kc.test/realms/lab/",
        Ok("https://kc.test/realms/lab/.well-known/openid-configuration")
    )]
    #[case(
        "http://dex.auth.svc:5556",
        Ok("http://dex.auth.svc:5556/.well-known/openid-configuration")
    )]
    #[case(
        "http://dex.auth.svc.cluster.local",
        Ok("http://dex.auth.svc.cluster.local/.well-known/openid-configuration")
    )]
    #[case("http://dex.example.org", Err(BadUrl::NotHttps))]
    #[case("http://svc.evil.test", Err(BadUrl::NotHttps))]
    #[case("http://svc", Err(BadUrl::NotHttps))]
    #[case("http://dex.local", Err(BadUrl::NotHttps))]
    #[case("https://kc.test?realm=lab", Err(BadUrl::HasQuery))]
    fn an_issuer_is_https_or_inside_the_cluster(
        #[case] text: &str,
        #[case] discovery: Result<&str, BadUrl>,
    ) {
        assert_eq!(
            text.parse::<Issuer>().map(|issuer| issuer.discovery_url()),
            discovery.map(str::to_owned)
        );
    }

    #[rstest]
    #[case(
        "https://as.test",
        "https://as.test/.well-known/oauth-authorization-server"
    )]
    #[case(
        "https://as.test/",
        "https://as.test/.well-known/oauth-authorization-server"
    )]
    #[case(
        "https://as.test:8443/a/b",
        "https://as.test:8443/.well-known/oauth-authorization-server/a/b"
    )]
    fn the_path_of_an_authorization_server_comes_last(
        #[case] issuer: &str,
        #[case] expected: &str,
    ) {
        let issuer: Issuer = issuer.parse().unwrap();
        assert_eq!(issuer.authorization_server_metadata_url(), expected);
    }

    #[rstest]
    #[case("http://mlflow.ml.svc:5000", "http://mlflow.ml.svc:5000")]
    #[case("https://mlflow.example.org/", "https://mlflow.example.org:443")]
    #[case("http://10.0.0.7", "http://10.0.0.7:80")]
    #[case("http://[2001:db8::1]:5000", "http://[2001:db8::1]:5000")]
    fn an_upstream_is_an_origin_with_its_port(#[case] text: &str, #[case] expected: &str) {
        let upstream: UpstreamUrl = text.parse().unwrap();
        assert_eq!(upstream.to_string(), expected);
        assert_eq!(upstream.to_string().parse(), Ok(upstream));
    }

    #[rstest]
    #[case(
        "http://collector.observability:4318",
        Ok("http://collector.observability:4318/v1/traces")
    )]
    #[case(
        "https://otlp.example.org/tenant/",
        Ok("https://otlp.example.org/tenant/v1/traces")
    )]
    #[case("collector:4318", Err(BadUrl::NotHttps))]
    #[case("http://collector:4318?key=secret", Err(BadUrl::HasQuery))]
    #[case("http://user:secret@collector:4318", Err(BadUrl::HasUserInfo))]
    #[case("http://collector:4318/#a", Err(BadUrl::HasFragment))]
    fn a_collector_is_where_its_base_address_says(
        #[case] text: &str,
        #[case] traces: Result<&str, BadUrl>,
    ) {
        let read = text.parse::<CollectorUrl>();
        assert_eq!(read.map(|url| url.traces()), traces.map(str::to_owned));
    }

    #[rstest]
    #[case("mlflow.ml.svc:5000", BadUrl::NotHttps)]
    #[case("unix:///run/socket", BadUrl::NotHttps)]
    #[case("file:///etc/passwd", BadUrl::NotHttps)]
    #[case("http://mlflow.ml.svc/path", BadUrl::NotAnOrigin)]
    #[case("http://mlflow.ml.svc/?a=b", BadUrl::NotAnOrigin)]
    #[case("http://mlflow.ml.svc/?", BadUrl::NotAnOrigin)]
    #[case("http://mlflow.ml.svc/#a", BadUrl::HasFragment)]
    #[case("http://user:secret@mlflow.ml.svc", BadUrl::HasUserInfo)]
    #[case("http://", BadUrl::NotAUrl)]
    fn an_upstream_is_nothing_else(#[case] text: &str, #[case] expected: BadUrl) {
        assert_eq!(text.parse::<UpstreamUrl>(), Err(expected));
    }
}
