//! Parameters of the echo upstream's own paths.

use http::Uri;
use url::form_urlencoded;

/// The decoded query of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(candidate, _)| candidate == name)
    }

    /// The number in the parameter `name`, or `default` when it is not there.
    ///
    /// # Errors
    /// [`BadNumber`] when it is there and not a number.
    pub(crate) fn number(&self, name: &'static str, default: u64) -> Result<u64, BadNumber> {
        match self.0.iter().find(|(candidate, _)| candidate == name) {
            Some((_, value)) => value.parse().map_err(|_| BadNumber(name)),
            None => Ok(default),
        }
    }
}

/// A parameter is not a number.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {0:?} as a number")]
pub(crate) struct BadNumber(&'static str);
