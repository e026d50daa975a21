//! The secrets of grants, sealed and opened with the key ring in force.

use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};

use crate::envelope::{self, Field, OpenError, SealError};
use crate::grant::{Grant, SealedTokens};
use crate::keyring::{BadKeys, KeyEncryption, KeyRing, Seed};
use crate::store::{Store, StoreError};

/// The key ring in force.
#[derive(Debug)]
pub struct Secrets {
    ring: ArcSwap<KeyRing>,
}

impl Secrets {
    /// The key ring of a database: unwraps every seed in it, and adds one for a primary key that has none
    /// yet.
    ///
    /// # Errors
    /// [`SecretsError`]. A wrong or missing key is one, and changes nothing.
    pub async fn open_store(store: &Store, keys: &dyn KeyEncryption) -> Result<Self, SecretsError> {
        let ring = load(store, keys).await?;
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
        })
    }

    /// Puts another key ring in force.
    ///
    /// # Errors
    /// [`SecretsError`]; then the one before stays.
    pub async fn reload(
        &self,
        store: &Store,
        keys: &dyn KeyEncryption,
    ) -> Result<(), SecretsError> {
        let ring = load(store, keys).await?;
        self.ring.store(Arc::new(ring));
        Ok(())
    }

    /// The ring in force.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Seals the tokens of `grant`, all under one key.
    ///
    /// # Errors
    /// [`SecretsError::Seal`].
    pub fn seal(
        &self,
        grant: &Grant,
        refresh: Option<&SecretString>,
        access: Option<&SecretString>,
    ) -> Result<SealedTokens, SecretsError> {
        let ring = self.ring.load();
        let seal = |field, secret: Option<&SecretString>| {
            secret
                .map(|secret| {
                    let bytes = secret.expose_secret().as_bytes();
                    envelope::seal(&ring, &grant.binding(field), bytes).map_err(SecretsError::Seal)
                })
                .transpose()
        };
        Ok(SealedTokens {
            key_id: ring.primary().id.as_str().to_owned(),
            refresh: seal(Field::RefreshToken, refresh)?,
            access: seal(Field::AccessToken, access)?,
        })
    }

    /// Opens a token of `grant`, if it has one.
    ///
    /// # Errors
    /// [`SecretsError::Open`].
    pub fn open(&self, grant: &Grant, field: Field) -> Result<Option<SecretString>, SecretsError> {
        let sealed = match field {
            Field::AccessToken => &grant.tokens.access,
            Field::RefreshToken => &grant.tokens.refresh,
        };
        sealed
            .as_ref()
            .map(|sealed| {
                let ring = self.ring.load();
                let opened = envelope::open(&ring, &grant.binding(field), sealed)
                    .map_err(SecretsError::Open)?;
                let text = std::str::from_utf8(&opened)
                    .map_err(|_not_text| SecretsError::Open(OpenError::Forged))?;
                Ok(SecretString::from(text))
            })
            .transpose()
    }
}

async fn load(store: &Store, keys: &dyn KeyEncryption) -> Result<KeyRing, SecretsError> {
    let mut seeds = store.seeds().await.map_err(SecretsError::Store)?;
    // Before anything is written: what is there must open.
    for (id, wrapped) in &seeds {
        drop(keys.unwrap(id, wrapped).map_err(SecretsError::Keys)?);
    }
    let missing = keys
        .ids()
        .iter()
        .filter(|id| !seeds.iter().any(|(known, _)| known == *id));
    let mut is_changed = false;
    for id in missing {
        let wrapped = Seed::random(keys, id).map_err(SecretsError::Keys)?;
        store
            .add_seed(id, wrapped)
            .await
            .map_err(SecretsError::Store)?;
        is_changed = true;
    }
    if is_changed {
        // Another replica may have been first.
        seeds = store.seeds().await.map_err(SecretsError::Store)?;
    }
    KeyRing::unwrap(keys, &seeds).map_err(SecretsError::Keys)
}

/// Why secrets cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The keys are not those of the database.
    #[error("the key ring cannot be used")]
    Keys(#[source] BadKeys),
    /// A stored secret does not open.
    #[error("failed to open a stored secret")]
    Open(#[source] OpenError),
    /// No randomness.
    #[error("failed to seal a secret")]
    Seal(#[source] SealError),
    /// The database does not answer.
    #[error("failed to read the keys of the database")]
    Store(#[source] StoreError),
}
