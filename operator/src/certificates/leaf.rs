//! The certificate that one replica shows. It lives in memory only.

use globus_auth_core::clock::UnixSeconds;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::authority::{Authority, CLOCK_SKEW, Lifetimes, date};

/// Which certificate a replica has made last.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate of the authority that signed it, in PEM.
    pub(super) signer: String,
    at: UnixSeconds,
}

impl Issued {
    /// One that `authority` has signed now.
    pub fn by(authority: &Authority, now: UnixSeconds) -> Self {
        Self {
            signer: authority.certificate.clone(),
            at: now,
        }
    }

    /// Whether it can be shown on: it is of the authority that signs now, and less than half of its life is
    /// over. One from the future was made while the clock was wrong, and its dates are, too.
    pub fn is_fresh(&self, current: &Authority, now: UnixSeconds, lifetimes: &Lifetimes) -> bool {
        self.signer == current.certificate
            && now >= self.at
            && now < self.at.after(lifetimes.leaf / 2)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use globus_auth_core::runtime::tls_server::ServedCertificate;
    use rstest::rstest;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;
    use crate::certificates::authority::Authorities;

    const HOST: &str = "globus-auth.system.svc";
    const START: UnixSeconds = UnixSeconds(1_800_000_000);
    const LIFETIMES: Lifetimes = Lifetimes {
        authority: Duration::from_hours(900),
        leaf: Duration::from_hours(100),
        announcement: Duration::from_hours(1),
    };

    fn authority() -> Authority {
        Authorities::create(START, &LIFETIMES).unwrap().current
    }

    fn issued_by(authority: &Authority) -> CertifiedKey {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        issue(authority, &[HOST.to_owned()], START, &LIFETIMES, &provider).unwrap()
    }

    /// What a client says that trusts `authority`, asks for `host`, and whose clock is `seconds` after
    /// [`START`].
    fn accepts(authority: &Authority, shown: &CertifiedKey, host: &str, seconds: i64) -> bool {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let now = Duration::from_secs(START.0.saturating_add_signed(seconds));
        let host = ServerName::try_from(host).unwrap();
        let now = UnixTime::since_unix_epoch(now);
        verifier
            .verify_server_cert(&shown.cert[0], &[], &host, &[], now)
            .is_ok()
    }

    #[rstest]
    #[case::as_it_is_made(HOST, 0, true)]
    #[case::by_a_clock_that_is_late(HOST, -299, true)]
    #[case::by_a_clock_that_is_wrong(HOST, -301, false)]
    #[case::to_its_last_second(HOST, 360_000, true)]
    #[case::after_its_life(HOST, 360_001, false)]
    #[case::under_another_name("globus-auth.other.svc", 0, false)]
    fn a_certificate_is_accepted_for_its_name_in_its_time(
        #[case] host: &str,
        #[case] seconds: i64,
        #[case] accepted: bool,
    ) {
        let authority = authority();
        let shown = issued_by(&authority);
        assert_eq!(accepts(&authority, &shown, host, seconds), accepted);
    }

    #[test]
    fn a_certificate_of_another_authority_is_not_accepted() {
        assert!(!accepts(&authority(), &issued_by(&authority()), HOST, 0));
    }

    #[test]
    fn an_authority_that_cannot_be_read_issues_nothing() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let broken = Authority {
            key: String::new(),
            ..authority()
        };
        let result = issue(&broken, &[HOST.to_owned()], START, &LIFETIMES, &provider);
        assert!(matches!(result, Err(IssueError::Authority(_))));
    }

    #[rstest]
    #[case::at_once(0, true)]
    #[case::before_half_of_its_life(179_999, true)]
    #[case::at_half_of_its_life(180_000, false)]
    #[case::after_its_life(360_001, false)]
    #[case::from_the_future(-1, false)]
    fn a_certificate_is_shown_for_half_of_its_life(#[case] seconds: i64, #[case] fresh: bool) {
        let authority = authority();
        let now = UnixSeconds(START.0.saturating_add_signed(seconds));
        let issued = Issued::by(&authority, START);
        assert_eq!(issued.is_fresh(&authority, now, &LIFETIMES), fresh);
    }

    #[test]
    fn a_certificate_is_replaced_when_another_authority_signs() {
        let issued = Issued::by(&authority(), START);
        assert!(!issued.is_fresh(&authority(), START, &LIFETIMES));
    }

    #[test]
    fn there_is_a_certificate_once_one_is_set() {
        let served = ServedCertificate::default();
        assert!(!served.is_present());
        served.set(issued_by(&authority()));
        assert!(served.is_present());
    }
}
