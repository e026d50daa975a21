//! The cluster's certificates and keys, made anew for each start.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::config::{API_ADDRESS, NODE_ADDRESS, SERVICE_ADDRESS};

/// A certificate authority in memory; only its certificate and what it signs reach the disk.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// No key could be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name("globus-auth local cluster", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = parameters
            .self_signed(&key)
            .context("failed to sign")?
            .pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(parameters, key),
        })
    }

    /// A user or component, as Kubernetes reads it from a client certificate.
    ///
    /// # Errors
    /// No key could be made.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> anyhow::Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name(user, group);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&parameters)
    }

    /// The API server, under all its names.
    ///
    /// # Errors
    /// No key could be made.
    pub(crate) fn api_server(&self) -> anyhow::Result<Identity> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
        ];
        let addresses = ["127.0.0.1", NODE_ADDRESS, API_ADDRESS, SERVICE_ADDRESS];
        let mut parameters = CertificateParams::new(names.map(str::to_owned).to_vec())
            .context("failed to name the API server")?;
        for address in addresses {
            let address: IpAddr = address.parse().context("an address is none")?;
            parameters
                .subject_alt_names
                .push(SanType::IpAddress(address));
        }
        parameters.distinguished_name = name("kube-apiserver", None);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&parameters)
    }

    fn sign(&self, parameters: &CertificateParams) -> anyhow::Result<Identity> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .context("failed to sign")?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A key for ServiceAccount tokens, private and public.
///
/// # Errors
/// No key could be made.
pub(crate) fn token_key() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("failed to make a key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// Writes a file that only its owner reads.
///
/// # Errors
/// It could not be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("failed to write {}", path.display()))
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
