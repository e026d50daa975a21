//! The signing keys of an issuer, found through its discovery document and kept fresh.

use std::sync::Arc;
use std::time::Duration;

use super::http_client::{HttpClient, SendError};
use crate::oauth::jwks::{BadKeySet, KeySet};
use crate::oauth::metadata::{self, BadMetadata};
use crate::url::Issuer;
use http::{Request, StatusCode};

use super::refreshed::Refreshed;

/// Where the keys of one issuer come from.
#[derive(Debug)]
pub struct KeySource {
    issuer: Issuer,
    http: HttpClient,
    keys: Refreshed<KeySet, FetchError>,
}

impl KeySource {
    /// The keys of `issuer`; nothing is fetched yet.
    pub fn new(issuer: Issuer, http: HttpClient) -> Self {
        Self {
            issuer,
            http,
            keys: Refreshed::default(),
        }
    }

    /// Runs `verify` with the keys; once more with newer ones if that `may_change` the result, because
    /// an issuer rotates its keys when it likes.
    ///
    /// # Errors
    /// `Ok(Err(…))` if the token is bad, `Err` if there are no keys to tell.
    pub async fn verify<T, E>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, E>,
        may_change: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, Arc<FetchError>> {
        let result = verify(&*self.keys_not_older_than(MAX_AGE).await?);
        match result {
            Err(error) if may_change(&error) => {
                Ok(verify(&*self.keys_not_older_than(MIN_AGE).await?))
            }
            result => Ok(result),
        }
    }

    async fn keys_not_older_than(&self, age: Duration) -> Result<Arc<KeySet>, Arc<FetchError>> {
        self.keys.get(age, async || self.fetch().await).await
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let document = get(&self.http, &self.issuer.discovery_url()).await?;
        let address =
            metadata::jwks_uri(&document, &self.issuer).map_err(FetchError::BadMetadata)?;
        let document = get(&self.http, address.as_str()).await?;
        KeySet::parse(&document).map_err(FetchError::BadKeySet)
    }
}

/// Gets a public document.
///
/// # Errors
/// [`FetchError`].
pub async fn get(http: &HttpClient, address: &str) -> Result<Vec<u8>, FetchError> {
    let request = Request::get(address)
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(FetchError::Address)?;
    let response = http.send(request).await.map_err(FetchError::Send)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status {
            status: response.status(),
        });
    }
    Ok(response.into_body())
}

/// Keys are read again after an hour, so that one that the issuer withdrew stops counting.
pub const MAX_AGE: Duration = Duration::from_hours(1);
/// A token with an unknown key or a wrong signature, which anybody can make up, causes at most one fetch
/// in this time.
const MIN_AGE: Duration = Duration::from_secs(10);

/// Why a document of an issuer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address.
    #[error("failed to make a request of the address")]
    Address(#[source] http::Error),
    /// No keys in it.
    #[error("the key set cannot be used")]
    BadKeySet(#[source] BadKeySet),
    /// Not of this issuer.
    #[error("the discovery document cannot be used")]
    BadMetadata(#[source] BadMetadata),
    /// No answer.
    #[error("failed to reach the provider")]
    Send(#[source] SendError),
    /// Not 200.
    #[error("the provider answered with status {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
}
