//! Tokens that an issuer gave while the store took no writes: kept in files, sealed as in their rows, until they can be
//! stored. The refresh token that they replace may be good for nothing any more, so a database that is down at the
//! wrong moment would otherwise cost users their consent.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::answer::TokenSet;
use crate::envelope::Field;
use crate::grant::{Digest, Grant, SealedTokens, digest};
use crate::progress::{Attempt, Moment};
use crate::secrets::{Secrets, SecretsError};

/// A folder with a file for each grant whose newest tokens are not in the store.
#[derive(Debug)]
pub struct Unstored {
    folder: PathBuf,
    /// Whose files there are.
    grants: Mutex<BTreeSet<String>>,
}

/// What came for a grant.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Arrival {
    /// The grant.
    pub grant: String,
    /// The refresh token that was redeemed, by its digest.
    token_digest: String,
    started_at_millis: u64,
    tries: u32,
    sent_at_millis: u64,
    lifetime_millis: u64,
    scopes: Option<Vec<String>>,
    key_id: String,
    refresh_token: String,
    access_token: Option<String>,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({:?})", self.grant)
    }
}

impl Arrival {
    /// What came for `row` in answer to `attempt`, which was sent at `sent_at`; none, if there is no refresh token in
    /// it: then nothing is lost.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn new(
        secrets: &Secrets,
        row: &Grant,
        (attempt, sent_at): (&Attempt<Digest>, Moment),
        set: &TokenSet,
    ) -> Result<Option<Self>, SecretsError> {
        let access = set.is_bearer.then_some(&set.access_token);
        let sealed = secrets.seal(row, set.refresh_token.as_ref(), access)?;
        let text = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        Ok(sealed.refresh.map(|refresh| Self {
            grant: row.id.clone(),
            token_digest: URL_SAFE_NO_PAD.encode(attempt.token),
            started_at_millis: milliseconds(attempt.started_at),
            tries: attempt.tries,
            sent_at_millis: milliseconds(sent_at),
            lifetime_millis: milliseconds(set.lifetime),
            scopes: set.scopes.clone(),
            key_id: sealed.key_id,
            refresh_token: text(refresh),
            access_token: sealed.access.map(text),
        }))
    }

    /// The redemption that it answers, and when that was sent.
    pub fn attempt(&self) -> Option<(Attempt<Digest>, Moment)> {
        let attempt = Attempt {
            token: bytes(&self.token_digest)?.try_into().ok()?,
            started_at: Duration::from_millis(self.started_at_millis),
            tries: self.tries,
        };
        Some((attempt, Duration::from_millis(self.sent_at_millis)))
    }

    /// What came, if it is for the grant that is in `row` now.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn open(&self, secrets: &Secrets, row: &Grant) -> Result<TokenSet, SecretsError> {
        let sealed = Grant {
            tokens: SealedTokens {
                key_id: self.key_id.clone(),
                // What is not base64 does not open.
                refresh: Some(bytes(&self.refresh_token).unwrap_or_default()),
                access: self
                    .access_token
                    .as_deref()
                    .map(|text| bytes(text).unwrap_or_default()),
            },
            ..row.clone()
        };
        let access = secrets.open(&sealed, Field::AccessToken)?;
        Ok(TokenSet {
            resource_server: None,
            refresh_token: secrets.open(&sealed, Field::RefreshToken)?,
            lifetime: Duration::from_millis(self.lifetime_millis),
            scopes: self.scopes.clone(),
            is_bearer: access.is_some(),
            access_token: access.unwrap_or_default(),
        })
    }
}

impl Unstored {
    /// Makes `folder`, if it is not there, and looks what is in it.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut grants = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path
                .extension()
                .is_none_or(|extension| extension != EXTENSION)
            {
                continue;
            }
            match read(&path) {
                Ok(arrival) => {
                    grants.insert(arrival.grant);
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "tokens that were not stored cannot be read; the file is left where it is");
                }
            }
        }
        Ok(Self {
            folder,
            grants: Mutex::new(grants),
        })
    }

    /// Whose tokens are here.
    pub fn grants(&self) -> Vec<String> {
        self.grants.lock().iter().cloned().collect()
    }

    /// Keeps what came, in place of what came for the same grant before. It is on the disk when this returns.
    ///
    /// # Errors
    /// The disk does not take it, or as many files as may wait are there already.
    pub fn keep(&self, arrival: &Arrival) -> io::Result<()> {
        if self.grants.lock().len() >= MAX_FILES {
            return Err(io::Error::other("too many tokens wait to be stored"));
        }
        let path = self.path(&arrival.grant);
        let unfinished = path.with_extension("unfinished");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&serde_json::to_vec(arrival)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.grants.lock().insert(arrival.grant.clone());
        Ok(())
    }

    /// What came for a grant, if it waits here.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn get(&self, grant: &str) -> io::Result<Option<Arrival>> {
        if !self.grants.lock().contains(grant) {
            return Ok(None);
        }
        read(&self.path(grant)).map(Some)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, grant: &str) -> io::Result<()> {
        fs::remove_file(self.path(grant))?;
        self.grants.lock().remove(grant);
        Ok(())
    }

    /// What a grant is called says nothing of files.
    fn path(&self, grant: &str) -> PathBuf {
        let name = URL_SAFE_NO_PAD.encode(digest(grant.as_bytes()));
        self.folder.join(name).with_extension(EXTENSION)
    }
}

fn read(path: &Path) -> io::Result<Arrival> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn milliseconds(moment: Moment) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

const EXTENSION: &str = "json";
/// A few KiB each.
const MAX_FILES: usize = 10_000;

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::envelope::OpenError;
    use crate::keyring::SecretKeys;
    use crate::keyring::tests::keys_json;
    use crate::store::tests::{grant, scratch};

    fn answered() -> (Attempt<Digest>, Moment) {
        let attempt = Attempt {
            token: digest(b"rt-0"),
            started_at: Duration::from_millis(1_500),
            tries: 2,
        };
        (attempt, Duration::from_millis(1_750))
    }

    fn set() -> TokenSet {
        TokenSet {
            access_token: "at-1".into(),
            refresh_token: Some("rt-1".into()),
            lifetime: Duration::from_mins(1),
            is_bearer: true,
            ..TokenSet::none(vec!["a".to_owned()])
        }
    }

    async fn secrets(name: &str) -> (Secrets, crate::store::tests::Folder) {
        let (store, folder) = scratch(name).await;
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        (Secrets::open_store(&store, &keys).await.unwrap(), folder)
    }

    fn folder(name: &str) -> PathBuf {
        let name = format!("globus-auth-unstored-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&path));
        path
    }

    #[tokio::test]
    async fn what_is_kept_is_what_came_and_only_for_its_grant() {
        let (secrets, _database) = secrets("unstored-kept").await;
        let folder = folder("kept");
        let (attempt, sent_at) = answered();
        let row = grant("ml/app", "alice", "r");
        let arrival = Arrival::new(&secrets, &row, (&attempt, sent_at), &set());
        let arrival = arrival.unwrap().unwrap();
        Unstored::open(folder.clone())
            .unwrap()
            .keep(&arrival)
            .unwrap();

        let again = Unstored::open(folder.clone()).unwrap();
        assert_eq!(again.grants(), std::slice::from_ref(&row.id));
        let kept = again.get(&row.id).unwrap().unwrap();
        assert_eq!(kept.attempt(), Some((attempt, sent_at)));
        let opened = kept.open(&secrets, &row).unwrap();
        let text = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
        assert_eq!(text(&opened.access_token), "at-1");
        assert_eq!(opened.refresh_token.as_ref().map(text).unwrap(), "rt-1");
        assert_eq!(
            (opened.lifetime, opened.scopes),
            (set().lifetime, set().scopes)
        );
        // Whoever can write files gives nobody the tokens of somebody else.
        for other in [grant("ml/app", "bob", "r"), grant("ml/app", "alice", "s")] {
            let refused = kept.open(&secrets, &other).unwrap_err();
            assert!(matches!(refused, SecretsError::Open(OpenError::Forged)));
        }
        again.remove(&row.id).unwrap();
        assert!(again.get(&row.id).unwrap().is_none());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(folder).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_where_it_is() {
        let folder = folder("unreadable");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x.json");
        fs::write(&path, "{").unwrap();
        assert!(Unstored::open(folder.clone()).unwrap().grants().is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
        fs::remove_dir_all(folder).unwrap();
    }

    /// The old refresh token is still good then.
    #[tokio::test]
    async fn without_a_new_refresh_token_nothing_is_kept() {
        let (secrets, _database) = secrets("unstored-nothing").await;
        let (attempt, sent_at) = answered();
        let row = grant("ml/app", "alice", "r");
        let set = TokenSet {
            refresh_token: None,
            ..set()
        };
        let arrival = Arrival::new(&secrets, &row, (&attempt, sent_at), &set);
        assert!(arrival.unwrap().is_none());
    }
}
