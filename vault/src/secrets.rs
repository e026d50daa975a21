//! The secrets of grants, sealed and opened with the key ring in force.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::envelope::{self, Field, OpenError, SealError};
use crate::grant::{Digest, Grant, Owner, SealedTokens};
use crate::keyring::{BadKeys, KeyEncryption, KeyId, KeyRing, Seed};
use crate::store::flows::Flow;
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

    /// Brings what is stored under another key than the primary under that one. How many grants it moved; one
    /// that somebody writes meanwhile is left to them, and to the next time.
    ///
    /// # Errors
    /// [`SecretsError`]. A grant that does not open is left as it is.
    pub async fn rewrap(&self, store: &Store) -> Result<u64, SecretsError> {
        let mut moved = 0;
        loop {
            let ring = self.ring();
            let primary = &ring.primary().id;
            let stale = store.not_under(primary, BATCH).await;
            let stale = stale.map_err(SecretsError::Store)?;
            let before = moved;
            for grant in stale {
                let tokens =
                    [Field::RefreshToken, Field::AccessToken].map(|field| self.open(&grant, field));
                let [Ok(refresh), Ok(access)] = tokens else {
                    tracing::error!(grant = grant.id, "the tokens of a grant do not open");
                    continue;
                };
                let version = grant.progress.version;
                let mut rewrapped = Grant {
                    tokens: self.seal(&grant, refresh.as_ref(), access.as_ref())?,
                    ..grant
                };
                rewrapped.progress.version += 1;
                let replaced = store.replace(&rewrapped, version).await;
                moved += u64::from(replaced.map_err(SecretsError::Store)?);
            }
            moved += self.rewrap_revocations(store, primary).await?;
            if moved == before {
                return Ok(moved);
            }
        }
    }

    /// The same, of tokens that wait to be taken back.
    async fn rewrap_revocations(
        &self,
        store: &Store,
        primary: &KeyId,
    ) -> Result<u64, SecretsError> {
        let mut moved = 0;
        let stale = store.revocations_not_under(primary, BATCH).await;
        for revocation in stale.map_err(SecretsError::Store)? {
            let place = (revocation.grant.as_str(), &revocation.owner);
            let tokens = [Field::RefreshToken, Field::AccessToken]
                .map(|field| self.open_tokens(place, &revocation.tokens, field));
            let [Ok(refresh), Ok(access)] = tokens else {
                let grant = &revocation.grant;
                tracing::error!(grant, "tokens that wait to be taken back do not open");
                continue;
            };
            let tokens = self.seal_tokens(place, refresh.as_ref(), access.as_ref())?;
            let written = store.reseal_revocation(&revocation, tokens).await;
            moved += u64::from(written.map_err(SecretsError::Store)?);
        }
        Ok(moved)
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
        self.seal_tokens((&grant.id, &grant.owner), refresh, access)
    }

    fn seal_tokens(
        &self,
        (grant, owner): (&str, &Owner),
        refresh: Option<&SecretString>,
        access: Option<&SecretString>,
    ) -> Result<SealedTokens, SecretsError> {
        let ring = self.ring.load();
        let seal = |field, secret: Option<&SecretString>| {
            secret
                .map(|secret| {
                    let bytes = secret.expose_secret().as_bytes();
                    envelope::seal(&ring, &owner.binding(grant, field), bytes)
                        .map_err(SecretsError::Seal)
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
        self.open_tokens((&grant.id, &grant.owner), &grant.tokens, field)
    }

    /// Opens one of the tokens that were sealed for a grant.
    ///
    /// # Errors
    /// [`SecretsError::Open`].
    pub fn open_tokens(
        &self,
        (grant, owner): (&str, &Owner),
        tokens: &SealedTokens,
        field: Field,
    ) -> Result<Option<SecretString>, SecretsError> {
        let sealed = match field {
            Field::AccessToken => &tokens.access,
            // A grant has none.
            Field::Flow => return Ok(None),
            Field::RefreshToken => &tokens.refresh,
        };
        sealed
            .as_ref()
            .map(|sealed| {
                let ring = self.ring.load();
                let opened = envelope::open(&ring, &owner.binding(grant, field), sealed)
                    .map_err(SecretsError::Open)?;
                let text = std::str::from_utf8(&opened)
                    .map_err(|_not_text| SecretsError::Open(OpenError::Forged))?;
                Ok(SecretString::from(text))
            })
            .transpose()
    }

    /// Seals what it takes to end a flow.
    ///
    /// # Errors
    /// [`SecretsError::Seal`].
    pub fn seal_flow(
        &self,
        (digest, owner): (&Digest, &Owner),
        secrets: &[u8],
    ) -> Result<Vec<u8>, SecretsError> {
        let name = URL_SAFE_NO_PAD.encode(digest);
        let ring = self.ring.load();
        envelope::seal(&ring, &owner.binding(&name, Field::Flow), secrets)
            .map_err(SecretsError::Seal)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`SecretsError::Open`].
    pub fn open_flow(&self, flow: &Flow) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        let name = URL_SAFE_NO_PAD.encode(flow.digest);
        let ring = self.ring.load();
        envelope::open(&ring, &flow.owner.binding(&name, Field::Flow), &flow.sealed)
            .map_err(SecretsError::Open)
    }
}

async fn load(store: &Store, keys: &dyn KeyEncryption) -> Result<KeyRing, SecretsError> {
    let seeds = store.seeds().await.map_err(SecretsError::Store)?;
    let is_known = |id: &KeyId| keys.ids().contains(id);
    // Before anything is written: what is there must open.
    for (id, wrapped) in seeds.iter().filter(|(id, _)| is_known(id)) {
        drop(keys.unwrap(id, wrapped).map_err(SecretsError::Keys)?);
    }
    // A key that was taken out of the ring may go if nothing needs it any more.
    for (id, _) in seeds.iter().filter(|(id, _)| !is_known(id)) {
        if !store.retire_seed(id).await.map_err(SecretsError::Store)? {
            return Err(SecretsError::Keys(BadKeys::Missing { id: id.clone() }));
        }
        tracing::info!(key = id.as_str(), "a key was retired");
    }
    let missing = keys
        .ids()
        .iter()
        .filter(|id| !seeds.iter().any(|(known, _)| known == *id));
    for id in missing {
        let wrapped = Seed::random(keys, id).map_err(SecretsError::Keys)?;
        store
            .add_seed(id, wrapped)
            .await
            .map_err(SecretsError::Store)?;
    }
    // Another replica may have been first.
    let seeds = store.seeds().await.map_err(SecretsError::Store)?;
    KeyRing::unwrap(keys, &seeds).map_err(SecretsError::Keys)
}

/// So many grants at a time are in memory.
const BATCH: u32 = 100;

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::keyring::SecretKeys;
    use crate::keyring::tests::keys_json;
    use crate::progress::Moment;
    use crate::store::revocations::Revocation;
    use crate::store::tests::{Database, grant, scratch_in};

    fn keys(primary: &str, all: &[(&str, u8)]) -> SecretKeys {
        SecretKeys::parse(&keys_json(primary, all)).unwrap()
    }

    /// Add, promote, move what is there, retire: no step loses what was stored before.
    #[rstest]
    #[tokio::test]
    async fn keys_rotate_while_everything_stays_readable(
        #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
    ) {
        let (store, _folder) = scratch_in(database, "rotation").await;
        let (one, two) = (("k1", 1), ("k2", 2));
        let secrets = Secrets::open_store(&store, &keys("k1", &[one]))
            .await
            .unwrap();
        for n in 0..250 {
            let mut row = grant("ml/app", &n.to_string(), "r");
            let (refresh, access) = (format!("rt-{n}").into(), format!("at-{n}").into());
            row.tokens = secrets.seal(&row, Some(&refresh), Some(&access)).unwrap();
            store.insert(&row).await.unwrap();
        }
        let row = grant("ml/app", "gone", "r");
        let waiting = Revocation {
            id: "gone.1".to_owned(),
            tokens: secrets.seal(&row, Some(&"rt-gone".into()), None).unwrap(),
            grant: row.id.clone(),
            owner: row.owner.clone(),
            due_at: Moment::ZERO,
            attempts: 0,
            ends_at: Moment::ZERO,
        };
        store.add_revocation(waiting).await.unwrap();
        secrets
            .reload(&store, &keys("k1", &[one, two]))
            .await
            .unwrap();
        assert_eq!(secrets.rewrap(&store).await.unwrap(), 0);
        secrets
            .reload(&store, &keys("k2", &[one, two]))
            .await
            .unwrap();
        // Too early: everything is under k1 still.
        let early = secrets
            .reload(&store, &keys("k2", &[two]))
            .await
            .unwrap_err();
        assert!(matches!(early, SecretsError::Keys(BadKeys::Missing { .. })));
        assert_eq!(secrets.rewrap(&store).await.unwrap(), 251);
        secrets.reload(&store, &keys("k2", &[two])).await.unwrap();
        assert_eq!(store.seeds().await.unwrap().len(), 1);
        for n in 0..250 {
            let row = store
                .grant(&format!("ml/app-{n}-r"))
                .await
                .unwrap()
                .unwrap();
            let opened = secrets.open(&row, Field::RefreshToken).unwrap().unwrap();
            assert_eq!(opened.expose_secret(), format!("rt-{n}"));
            assert_eq!(row.tokens.key_id, "k2");
        }
        let waiting = store.due_revocations(Moment::ZERO, 9).await.unwrap();
        let (place, tokens) = ((row.id.as_str(), &row.owner), &waiting[0].tokens);
        let opened = secrets.open_tokens(place, tokens, Field::RefreshToken);
        assert_eq!(opened.unwrap().unwrap().expose_secret(), "rt-gone");
    }

    /// Whoever can write into the database swaps every two ciphertexts: of tenants, users, services and fields.
    #[tokio::test]
    async fn no_ciphertext_opens_in_the_place_of_another() {
        let (store, _folder) = scratch_in(Database::SQLite, "swap").await;
        let secrets = Secrets::open_store(&store, &keys("k1", &[("k1", 1)]))
            .await
            .unwrap();
        let mut places = Vec::new();
        for tenant in ["ml/app", "ml/other"] {
            for user in ["alice", "bob"] {
                for resource in ["r", "s"] {
                    let mut row = grant(tenant, user, resource);
                    row.tokens = secrets
                        .seal(&row, Some(&"token".into()), Some(&"token".into()))
                        .unwrap();
                    places.push((row.clone(), Field::RefreshToken));
                    places.push((row, Field::AccessToken));
                }
            }
        }
        let blob = |(row, field): &(Grant, Field)| match field {
            Field::AccessToken => row.tokens.access.clone(),
            Field::Flow => None,
            Field::RefreshToken => row.tokens.refresh.clone(),
        };
        for (to, place) in places.iter().enumerate() {
            for (from, other) in places.iter().enumerate() {
                let (mut row, field) = place.clone();
                match field {
                    Field::AccessToken => row.tokens.access = blob(other),
                    Field::Flow => {}
                    Field::RefreshToken => row.tokens.refresh = blob(other),
                }
                let opened = secrets.open(&row, field);
                assert_eq!(opened.is_ok(), to == from, "{other:?} in {place:?}");
            }
        }
        assert_eq!(places.len(), 16);
    }

    /// Nor does what ends a flow open in another one, or as a token.
    #[tokio::test]
    async fn what_ends_a_flow_opens_in_it_alone() {
        let (store, _folder) = scratch_in(Database::SQLite, "sealed-flow").await;
        let secrets = Secrets::open_store(&store, &keys("k1", &[("k1", 1)]))
            .await
            .unwrap();
        let owner = grant("ml/app", "alice", "r").owner;
        let flow = Flow {
            digest: [7; 32],
            login: [0; 32],
            scopes: vec![],
            sealed: secrets.seal_flow((&[7; 32], &owner), b"verifier").unwrap(),
            ends_at: std::time::Duration::ZERO,
            poll_at: None,
            poll_interval: std::time::Duration::ZERO,
            is_refused: false,
            owner,
        };
        assert_eq!(**secrets.open_flow(&flow).unwrap(), *b"verifier");
        let mut others = vec![flow.clone(), flow.clone(), flow.clone()];
        others[0].digest = [8; 32];
        others[1].owner.user.subject = "bob".to_owned();
        others[2].owner.issuer = "https://evil.test".to_owned();
        for other in others {
            assert!(secrets.open_flow(&other).is_err(), "{other:?}");
        }
        let mut row = grant("ml/app", "alice", "r");
        row.tokens.access = Some(flow.sealed);
        assert!(secrets.open(&row, Field::AccessToken).is_err());
    }

    #[tokio::test]
    async fn what_does_not_open_is_left_and_keeps_its_key_from_being_retired() {
        let (store, _folder) = scratch_in(Database::SQLite, "rotation-corrupt").await;
        let secrets = Secrets::open_store(&store, &keys("k1", &[("k1", 1)]))
            .await
            .unwrap();
        let row = grant("ml/app", "alice", "r");
        store.insert(&row).await.unwrap();
        secrets
            .reload(&store, &keys("k2", &[("k1", 1), ("k2", 2)]))
            .await
            .unwrap();
        assert_eq!(secrets.rewrap(&store).await.unwrap(), 0);
        assert_eq!(store.grant(&row.id).await.unwrap(), Some(row));
        assert!(
            secrets
                .reload(&store, &keys("k2", &[("k2", 2)]))
                .await
                .is_err()
        );
    }
}
