//! The vault over a real store and an issuer that notes what it is asked, with the time in hand.

use std::pin::Pin;

use globus_auth_core::clock::{Clock, ManualClock, UnixSeconds};
use globus_auth_core::vault_api::TokenAnswer;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::answer::{TokenResponse, TokenSet};
use crate::bulkhead::Limits;
use crate::endpoint::{Exchange, Revoked, TokenEndpoint, TokenRequest};
use crate::grant::{Grant, Owner};
use crate::issuer::{Issuer, Pressure};
use crate::keyring::SecretKeys;
use crate::keyring::tests::keys_json;
use crate::progress::{Moment, Rotation};
use crate::schedule::KeepAlive;
use crate::secrets::Secrets;
use crate::store::delegations::Delegation;
use crate::store::sessions::SessionRow;
use crate::store::tests::{Folder, scratch};

const ISSUER: &str = "https://issuer.test";
const NOW: UnixSeconds = UnixSeconds(1_000_000);
const HOUR: Duration = Duration::from_hours(1);

#[derive(Default)]
struct Notes(Mutex<Vec<String>>, Mutex<Option<Revoked>>);

impl TokenEndpoint for Notes {
    fn ask<'a>(
        &'a self,
        _request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        let response = TokenResponse {
            sets: vec![TokenSet {
                access_token: "renewed".into(),
                lifetime: HOUR,
                is_bearer: true,
                ..TokenSet::none(vec![])
            }],
            id_token: None,
        };
        Box::pin(std::future::ready(Exchange::Answered(Ok(response))))
    }

    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>> {
        self.0.lock().push(token.expose_secret().to_owned());
        let answer = self.1.lock().unwrap_or(Revoked::Yes);
        Box::pin(std::future::ready(answer))
    }
}

struct World {
    vault: Vault,
    issuer: Arc<Notes>,
    clock: Arc<ManualClock>,
    _folder: Folder,
}

impl World {
    /// A vault that forgets what was not used for a week, as Pelican does.
    async fn new(name: &str) -> Self {
        let (store, folder) = scratch(&format!("vault-{name}")).await;
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        let secrets = Secrets::open_store(&store, &keys).await.unwrap();
        let (issuer, clock) = (Arc::new(Notes::default()), Arc::new(ManualClock::at(NOW)));
        let limits = Limits {
            per_second: 100,
            burst: 100,
        };
        let one = Issuer::new(
            (ISSUER.to_owned(), "client".to_owned()),
            Arc::clone(&issuer) as Arc<dyn TokenEndpoint>,
            Rotation::Never,
            KeepAlive { within: 720 * HOUR },
            Pressure { limits, at_once: 8 },
        );
        let config = json!({
            "version": 1,
            "vault": {"namespace": "auth", "name": "alcf"},
            "issuers": [{"name": "issuer", "kind": "OIDC", "issuer": ISSUER, "clientId": "client",
                "clientSecret": "secret", "rotation": {"type": "never"}, "requestsPerSecond": 20, "sessionSeconds": 30 * 86_400}],
            "consumers": [{"namespace": "ml", "serviceAccount": "app", "resourceServers": ["r"]}],
            "refresh": {"keepAliveSeconds": 2_592_000, "maxConcurrentPerIssuer": 8,
                "forgetUnusedAfterSeconds": 168 * 3600},
            "logLevel": "info"
        });
        let config = VaultConfig::parse(config.to_string().as_bytes()).unwrap();
        let clock_of_vault: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let metrics = Metrics::default();
        let refresher = Refresher::new(
            store,
            Arc::new(secrets),
            vec![one],
            clock_of_vault,
            metrics.clone(),
        );
        Self {
            vault: Vault::new(config, Arc::new(refresher), vec![], metrics),
            issuer,
            clock,
            _folder: folder,
        }
    }

    async fn consent(&self, subject: &str) -> Owner {
        let owner = Owner {
            tenant: "ml/app".to_owned(),
            user: User {
                issuer: ISSUER.to_owned(),
                subject: subject.to_owned(),
            },
            issuer: ISSUER.to_owned(),
            client_id: "client".to_owned(),
            resource: "r".to_owned(),
        };
        let set = TokenSet {
            access_token: format!("at-{subject}").into(),
            refresh_token: Some(format!("rt-{subject}").into()),
            lifetime: 1000 * HOUR,
            is_bearer: true,
            ..TokenSet::none(vec![])
        };
        let issuer = &self.vault.refresher.issuers()[0];
        let now = self.vault.refresher.now();
        let grant = self.vault.granted(issuer, owner.clone(), None, &set, now);
        assert!(self.vault.store().insert(&grant.unwrap()).await.unwrap());
        owner
    }

    async fn get(&self, owner: &Owner) -> Option<Grant> {
        self.vault.store().find(owner).await.unwrap()
    }
}

/// Scenario 38: what a queued job asks for now and then stays; what nobody asks for goes after 168 hours, and
/// is taken back.
#[tokio::test]
async fn what_nobody_uses_is_forgotten_and_what_is_used_is_kept() {
    let world = World::new("unused").await;
    let (queued, idle) = (world.consent("queued").await, world.consent("idle").await);
    world.clock.advance(167 * HOUR);
    world.vault.forget_unused().await.unwrap();
    assert!(world.get(&idle).await.is_some());
    // The job asks: what is good is given out, and its use noted.
    let grant = world.get(&queued).await.unwrap();
    let answer = world.vault.fresh(grant, &[], None).await.unwrap();
    assert!(matches!(answer, TokenAnswer::Token(_)));
    world.clock.advance(2 * HOUR);
    world.vault.forget_unused().await.unwrap();
    assert!(world.get(&idle).await.is_none());
    assert_eq!(*world.issuer.0.lock(), ["rt-idle", "at-idle"]);
    assert_eq!(world.get(&queued).await.unwrap().state, State::Active);
    assert_eq!(world.vault.store().verify_audit().await.unwrap(), Ok(1));
}

/// Of a row into which somebody wrote, what is whole goes on: another access token is got.
#[tokio::test]
async fn an_access_token_that_is_not_what_was_stored_is_not_given_out() {
    let world = World::new("forged").await;
    let owner = world.consent("alice").await;
    let mut forged = world.get(&owner).await.unwrap();
    let version = forged.progress.version;
    forged.progress.version += 1;
    forged.tokens.access.as_mut().unwrap()[60] ^= 1;
    assert!(world.vault.store().replace(&forged, version).await.unwrap());
    let answer = world.vault.fresh(forged, &[], None).await.unwrap();
    let TokenAnswer::Token(token) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(token.access_token.expose_secret(), "renewed");
    assert_eq!(world.get(&owner).await.unwrap().state, State::Active);
}

/// Scenario 7: a session policy of 30 days, with 3 days left.
#[tokio::test]
async fn a_session_policy_is_told_of_before_it_ends() {
    let world = World::new("policy").await;
    let owner = world.consent("alice").await;
    let day = 24 * HOUR;
    let told = async || {
        let grant = world.get(&owner).await.unwrap();
        let answer = world.vault.fresh(grant, &[], None).await.unwrap();
        let TokenAnswer::Token(token) = answer else {
            panic!("{answer:?}")
        };
        token.session_ends_in.map(Duration::from_secs)
    };
    let counted = async || {
        let now = world.vault.refresher.now();
        let from = now.saturating_sub(30 * day);
        let store = world.vault.store();
        let counted = store.authenticated(ISSUER, from, from + 3 * day).await;
        counted.unwrap()
    };
    world.clock.advance(26 * day + 23 * HOUR);
    assert_eq!((told().await, counted().await), (None, 0));
    world.clock.advance(HOUR);
    assert_eq!((told().await, counted().await), (Some(3 * day), 1));
    world.clock.advance(3 * day);
    assert_eq!((told().await, counted().await), (Some(Duration::ZERO), 0));
}

/// Scenario 9: what the issuer does not take back now is tried again, and not forgotten.
#[tokio::test]
async fn what_the_issuer_does_not_take_back_is_tried_again() {
    let world = World::new("revocation").await;
    let (owner, store) = (world.consent("alice").await, world.vault.store());
    let results = async || {
        let entries = store.entries(0, 99).await.unwrap();
        let results = entries.into_iter().map(|(_, entry)| entry.result);
        results.collect::<Vec<_>>()
    };
    *world.issuer.1.lock() = Some(Revoked::NotNow);
    let grant = world.get(&owner).await.unwrap();
    let by = ("ml/app".to_owned(), None);
    world.vault.take_back(by, grant).await.unwrap();
    // Here it is gone at once.
    let here = world.get(&owner).await.unwrap();
    assert_eq!(here.state, State::Revoked);
    assert!(here.tokens.refresh.is_none() && here.tokens.access.is_none());
    assert_eq!(results().await, ["not revoked at the issuer yet"]);
    world.vault.revoke_due().await.unwrap();
    assert_eq!(world.issuer.0.lock().len(), 1, "too early");
    world.clock.advance(Duration::from_secs(5));
    world.vault.revoke_due().await.unwrap();
    assert_eq!(world.issuer.0.lock().len(), 2);
    // A key that it needs stays.
    world
        .vault
        .store()
        .remove(&here.id, here.progress.version)
        .await
        .unwrap();
    let key = crate::keyring::KeyId::try_from("k1".to_owned()).unwrap();
    assert!(!store.retire_seed(&key).await.unwrap());
    *world.issuer.1.lock() = None;
    world.clock.advance(Duration::from_secs(10));
    world.vault.revoke_due().await.unwrap();
    let asked = ["rt-alice", "rt-alice", "rt-alice", "at-alice"];
    assert_eq!(*world.issuer.0.lock(), asked);
    assert_eq!(results().await, ["not revoked at the issuer yet", "ok"]);
    assert_eq!(store.count_revocations().await.unwrap(), 0);
    assert!(store.retire_seed(&key).await.unwrap());
}

#[tokio::test]
async fn an_issuer_that_is_gone_is_not_asked_for_ever() {
    let world = World::new("given-up").await;
    let owner = world.consent("alice").await;
    *world.issuer.1.lock() = Some(Revoked::NotNow);
    let grant = world.get(&owner).await.unwrap();
    let by = ("ml/app".to_owned(), None);
    world.vault.take_back(by, grant).await.unwrap();
    for _ in 0..7 * 24 {
        world.clock.advance(HOUR);
        world.vault.revoke_due().await.unwrap();
    }
    let store = world.vault.store();
    assert_eq!(store.count_revocations().await.unwrap(), 0);
    let entries = store.entries(0, 99).await.unwrap();
    let (_, last) = entries.last().unwrap();
    assert_eq!(last.result, "given up at the issuer");
    let asked = world.issuer.0.lock().len();
    assert!((100..200).contains(&asked), "{asked}");
}

#[tokio::test]
async fn an_issuer_that_takes_nothing_back_is_asked_once() {
    let world = World::new("never").await;
    let owner = world.consent("alice").await;
    *world.issuer.1.lock() = Some(Revoked::Never);
    let grant = world.get(&owner).await.unwrap();
    let by = ("ml/app".to_owned(), None);
    world.vault.take_back(by, grant).await.unwrap();
    let store = world.vault.store();
    assert_eq!(store.count_revocations().await.unwrap(), 0);
    assert_eq!(world.issuer.0.lock().len(), 2);
}

#[tokio::test]
async fn a_vault_that_closes_takes_back_everything_once() {
    let world = World::new("closing").await;
    let mut owners = Vec::new();
    for n in 0..250 {
        owners.push(world.consent(&n.to_string()).await);
    }
    assert_eq!(world.vault.take_back_all().await.unwrap(), 250);
    for owner in &owners {
        assert_eq!(world.get(owner).await.unwrap().state, State::Revoked);
    }
    assert_eq!(world.issuer.0.lock().len(), 500);
    assert_eq!(world.vault.take_back_all().await.unwrap(), 0);
}

/// The user has gone, and so have the days for which a job could act for them.
#[tokio::test]
async fn what_only_a_delegation_kept_is_taken_back_when_it_ends() {
    let world = World::new("delegated").await;
    let (owner, other) = (world.consent("alice").await, world.consent("bob").await);
    let now = world.vault.refresher.now();
    let delegation = |user: &User| Delegation {
        delegate: "ml/jobs".to_owned(),
        tenant: "ml/app".to_owned(),
        user: user.clone(),
        resource: "r".to_owned(),
        scopes: vec![],
        ends_at: now + HOUR,
        used_at: Moment::ZERO,
    };
    let store = world.vault.store();
    for user in [&owner.user, &other.user] {
        store.put_delegation(&delegation(user)).await.unwrap();
    }
    // Bob is still logged in.
    let row = SessionRow {
        digest: [1; 32],
        login: [1; 32],
        tenant: "ml/app".to_owned(),
        user: other.user.clone(),
        pod: None,
        ends_at: now + 24 * HOUR,
    };
    store.add_session(&row).await.unwrap();
    world.vault.end_expired_delegations().await.unwrap();
    assert_eq!(world.get(&owner).await.unwrap().state, State::Active);
    world.clock.advance(HOUR);
    world.vault.end_expired_delegations().await.unwrap();
    assert_eq!(world.get(&owner).await.unwrap().state, State::Revoked);
    assert_eq!(world.get(&other).await.unwrap().state, State::Active);
    assert_eq!(*world.issuer.0.lock(), ["rt-alice", "at-alice"]);
    let ended = store.ended_delegations(now + 2 * HOUR, 10).await.unwrap();
    assert_eq!(ended, []);
}
