//! Which Kubernetes is wanted.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;

/// A version of Kubernetes that can be built and run here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KubernetesVersion {
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl FromStr for KubernetesVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match parse(text) {
            Some(version) if version.minor < OLDEST_MINOR => {
                bail!("Kubernetes {text} is too old: globus-auth needs 1.33 or newer")
            }
            Some(version) if version.minor > NEWEST_MINOR => {
                bail!(
                    "Kubernetes {text} is not built here: it wants cgroup v2 and a newer containerd; choose 1.33.x or 1.34.x"
                )
            }
            Some(version) => Ok(version),
            None => bail!("KUBERNETES_VERSION {text:?} is no version: write it like {DEFAULT}"),
        }
    }
}

fn parse(text: &str) -> Option<KubernetesVersion> {
    let (minor, patch) = text.strip_prefix("1.")?.split_once('.')?;
    Some(KubernetesVersion {
        minor: minor.parse().ok()?,
        patch: patch.parse().ok()?,
    })
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

/// The version that is built if none is asked for.
pub(crate) const DEFAULT: &str = "1.34.4";

/// Native sidecars of older versions are not found by Services through named ports.
const OLDEST_MINOR: u32 = 33;
/// Newer versions refuse cgroup v1 by default, and Debian 12's containerd 1.6.
const NEWEST_MINOR: u32 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_work_are_taken() {
        for text in ["1.33.0", "1.33.13", "1.34.4", DEFAULT] {
            assert_eq!(text.parse::<KubernetesVersion>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn others_are_refused_in_one_line_that_says_what_to_do() {
        for (text, advice) in [
            ("1.32.1", "1.33 or newer"),
            ("1.35.4", "choose 1.33"),
            ("v1.34.4", "like 1.34.4"),
            ("1.34", "like 1.34.4"),
            ("1.34.4.1", "like 1.34.4"),
            ("1.34.-4", "like 1.34.4"),
            ("", "like 1.34.4"),
        ] {
            let error = text.parse::<KubernetesVersion>().unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
