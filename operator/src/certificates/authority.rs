//! The authorities and when they change. Pure, but for the making of keys.

use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What is stored: the authority that signs, the one that will, and those that did.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Authorities {
    /// Signs.
    pub current: Authority,
    /// Is trusted already, and will sign.
    pub next: Option<Authority>,
    /// Have signed what may still be in use.
    pub retired: Vec<Retired>,
}

/// One certificate authority.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Authority {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it ends.
    pub not_after: UnixSeconds,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// An authority that signs no longer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retired {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Until when what it signed may be in use.
    pub trusted_until: UnixSeconds,
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An authority.
    pub authority: Duration,
    /// A replica's certificate.
    pub leaf: Duration,
    /// How long a new authority is trusted before it signs, so that everybody has heard of it.
    pub announcement: Duration,
}

/// What to do about the authorities now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Step {
    /// Make the next authority and let everybody trust it.
    Announce,
    /// Stop trusting an authority whose last signature has expired.
    Forget,
    /// Nothing.
    Keep,
    /// Let the next authority sign.
    Promote,
    /// Start anew: the current one has ended, so nothing that it signed is in use.
    Replace,
}

impl Authorities {
    /// The first authority.
    ///
    /// # Errors
    /// No key could be made.
    pub fn create(now: UnixSeconds, lifetimes: &Lifetimes) -> Result<Self, rcgen::Error> {
        let current = Authority::create(now, lifetimes)?;
        Ok(Self {
            current,
            next: None,
            retired: vec![],
        })
    }

    /// Every certificate to trust, in PEM.
    pub fn bundle(&self) -> String {
        let certificates = [&self.current.certificate].into_iter();
        certificates
            .chain(self.next.iter().map(|next| &next.certificate))
            .chain(self.retired.iter().map(|retired| &retired.certificate))
            .map(String::as_str)
            .collect()
    }

    /// What is due.
    pub fn due(&self, now: UnixSeconds, lifetimes: &Lifetimes) -> Step {
        if now >= self.current.not_after {
            return Step::Replace;
        }
        if let Some(next) = &self.next {
            let announced = now >= next.created_at.after(lifetimes.announcement);
            return if announced { Step::Promote } else { Step::Keep };
        }
        if self
            .retired
            .iter()
            .any(|retired| now >= retired.trusted_until)
        {
            return Step::Forget;
        }
        let is_old = now >= self.current.created_at.after(lifetimes.authority * 2 / 3);
        if is_old { Step::Announce } else { Step::Keep }
    }

    /// Takes `step`. None if nothing changes.
    ///
    /// # Errors
    /// No key could be made.
    pub fn take(
        &self,
        step: Step,
        now: UnixSeconds,
        lifetimes: &Lifetimes,
    ) -> Result<Option<Self>, rcgen::Error> {
        let mut changed = self.clone();
        match step {
            Step::Keep => return Ok(None),
            Step::Replace => return Self::create(now, lifetimes).map(Some),
            Step::Announce => changed.next = Some(Authority::create(now, lifetimes)?),
            Step::Forget => changed
                .retired
                .retain(|retired| now < retired.trusted_until),
            Step::Promote => {
                let Some(next) = changed.next.take() else {
                    return Ok(None);
                };
                let previous = std::mem::replace(&mut changed.current, next);
                changed.retired.push(Retired {
                    certificate: previous.certificate,
                    trusted_until: now.after(lifetimes.leaf),
                });
            }
        }
        Ok(Some(changed))
    }
}

impl Authority {
    fn create(now: UnixSeconds, lifetimes: &Lifetimes) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let not_after = now.after(lifetimes.authority);
        let mut parameters = CertificateParams::default();
        let mut name = DistinguishedName::new();
        // Two authorities with one name and different keys would confuse whoever looks one up by name.
        name.push(DnType::CommonName, format!("globus-auth {}", now.0));
        parameters.distinguished_name = name;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.not_before = date(UnixSeconds(now.0.saturating_sub(CLOCK_SKEW.as_secs())));
        parameters.not_after = date(not_after);
        let certificate = parameters.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            key: key.serialize_pem(),
            created_at: now,
            not_after,
        })
    }
}

/// The same moment in the type of the certificates.
pub(crate) fn date(time: UnixSeconds) -> OffsetDateTime {
    let seconds = i64::try_from(time.0.min(END_OF_TIME)).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A certificate counts a little before it was made: the API server's clock may be behind ours.
pub(super) const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// 9999-12-31, the last day that a certificate can name (RFC 5280 §4.1.2.5).
const END_OF_TIME: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
