//! A certificate with its key, as a Secret of type `kubernetes.io/tls` has them.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Reads a chain of certificates, that of the server first, and its private key, both in PEM.
///
/// # Errors
/// [`BadCertificate`]; nothing of the key is in it.
pub fn read(chain: &str, key: &str) -> Result<CertifiedKey, BadCertificate> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_format| BadCertificate::Chain)?;
    if chain.is_empty() {
        return Err(BadCertificate::Chain);
    }
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_format| BadCertificate::Key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            BadCertificate::Mismatch
        } else {
            BadCertificate::Key
        }
    })
}

/// Why a certificate cannot be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadCertificate {
    /// There is none, or one of them cannot be read.
    #[error("the certificates are not PEM with at least one certificate")]
    Chain,
    /// The key cannot be read, or is of a kind that TLS does not take.
    #[error("the private key is not PEM with a key that TLS can use")]
    Key,
    /// The key is that of another certificate.
    #[error("the private key does not belong to the first certificate")]
    Mismatch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_are_read() {
        let (chain, key) = pair();
        let read = read(&chain.repeat(2), &key).unwrap();
        assert_eq!(read.cert.len(), 2);
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let ((chain, key), (_, other)) = (pair(), pair());
        let half = chain.split_at(200).0;
        for (chain, key, expected) in [
            ("", key.as_str(), BadCertificate::Chain),
            ("certificate", &key, BadCertificate::Chain),
            (half, &key, BadCertificate::Chain),
            (&chain, "", BadCertificate::Key),
            (&chain, &chain, BadCertificate::Key),
            (&chain, &other, BadCertificate::Mismatch),
        ] {
            assert_eq!(
                read(chain, key).unwrap_err(),
                expected,
                "{chain} {expected}"
            );
        }
    }
}
