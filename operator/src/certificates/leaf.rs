//! The certificate that one replica shows. It lives in memory only.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use globus_auth_core::clock::UnixSeconds;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::{Authority, CLOCK_SKEW, Lifetimes, date};

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

/// Makes a certificate for `names`, signed by `authority`.
///
/// # Errors
/// [`IssueError`].
pub fn issue(
    authority: &Authority,
    names: &[String],
    now: UnixSeconds,
    lifetimes: &Lifetimes,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IssueError> {
    let signer = KeyPair::from_pem(&authority.key).map_err(IssueError::Authority)?;
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, signer).map_err(IssueError::Authority)?;
    let key = KeyPair::generate().map_err(IssueError::Sign)?;
    let mut parameters = CertificateParams::new(names.to_vec()).map_err(IssueError::Sign)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.not_before = date(UnixSeconds(now.0.saturating_sub(CLOCK_SKEW.as_secs())));
    parameters.not_after = date(now.after(lifetimes.leaf));
    let certificate = parameters
        .signed_by(&key, &issuer)
        .map_err(IssueError::Sign)?;
    let private =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|_format| IssueError::Key)?;
    CertifiedKey::from_der(vec![certificate.der().clone()], private, provider)
        .map_err(IssueError::Tls)
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The stored authority cannot be read.
    #[error("failed to read the certificate authority")]
    Authority(#[source] rcgen::Error),
    /// The new key cannot be read back.
    #[error("failed to read the new key")]
    Key,
    /// The certificate could not be signed.
    #[error("failed to sign a certificate")]
    Sign(#[source] rcgen::Error),
    /// TLS does not take it.
    #[error("failed to use the new certificate")]
    Tls(#[source] rustls::Error),
}
