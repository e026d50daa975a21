//! What all handlers share.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::accounts::{Account, Directory};
use super::catalog::Catalog;
use super::clock::Clock;
use super::config::Config;
use super::consents::Consents;
use super::faults::Faults;
use super::requests::Requests;
use super::signing::SigningKey;
use super::store::Store;

/// One emulated Globus. No guard that it hands out may be held while another is taken, except in the
/// order of the methods here.
#[derive(Clone, Debug)]
pub(crate) struct Realm(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    issuer: String,
    browser_url: String,
    catalog: Catalog,
    clock: Clock,
    directory: RwLock<Directory>,
    store: Mutex<Store>,
    consents: Mutex<Consents>,
    signing_key: RwLock<SigningKey>,
    faults: Mutex<Faults>,
    requests: Mutex<Requests>,
}

impl Realm {
    /// A realm whose issuer is `issuer` unless the configuration names one.
    ///
    /// # Errors
    /// When no key can be made.
    pub(crate) fn new(config: Config, issuer: &str) -> Result<Self, Unspecified> {
        let issuer = config.issuer.clone().unwrap_or_else(|| issuer.to_owned());
        Ok(Self(Arc::new(Shared {
            browser_url: config.browser_url.clone().unwrap_or_else(|| issuer.clone()),
            catalog: Catalog::of(&config),
            clock: Clock::default(),
            directory: RwLock::new(Directory::of(config.users.clone())),
            store: Mutex::default(),
            consents: Mutex::default(),
            signing_key: RwLock::new(SigningKey::generate()?),
            faults: Mutex::default(),
            requests: Mutex::default(),
            config,
            issuer,
        })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Where browsers are sent.
    pub(crate) fn browser_url(&self) -> &str {
        &self.0.browser_url
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    pub(crate) fn now(&self) -> i64 {
        self.0.clock.now()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.0.directory.read()
    }

    pub(crate) fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.0.directory.write()
    }

    /// A copy of the account that has an identity with this user name or id.
    pub(crate) fn account(&self, name: &str) -> Option<Account> {
        self.directory().find(name).cloned()
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock()
    }

    pub(crate) fn consents(&self) -> MutexGuard<'_, Consents> {
        self.0.consents.lock()
    }

    pub(crate) fn signing_key(&self) -> RwLockReadGuard<'_, SigningKey> {
        self.0.signing_key.read()
    }

    pub(crate) fn replace_signing_key(&self, key: SigningKey) {
        *self.0.signing_key.write() = key;
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock()
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.requests.lock()
    }
}
