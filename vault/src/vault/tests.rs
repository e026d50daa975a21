//! The vault over a real store and an issuer that notes what it is asked, with the time in hand.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use globus_auth_core::clock::{Clock, ManualClock, UnixSeconds};
use globus_auth_core::vault_api::{OwnTokenRequest, TokenAnswer, fingerprint};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::answer::{TokenResponse, TokenSet};
use crate::bulkhead::Limits;
use crate::endpoint::{Exchange, Revoked, TokenEndpoint, TokenRequest};
use crate::grant::{Grant, Owner, Reason, digest};
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

/// An issuer that notes what it is to take back, and says what it is told to; while it is slow, nothing.
#[derive(Default)]
struct Notes(
    Mutex<Vec<String>>,
    Mutex<Option<Revoked>>,
    AtomicBool,
    AtomicU32,
);

impl TokenEndpoint for Notes {
    fn ask<'a>(
        &'a self,
        _request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        self.3.fetch_add(1, Ordering::SeqCst);
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
        if self.2.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
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
        Self::of("OIDC", name).await
    }

    async fn of(kind: &str, name: &str) -> Self {
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
            "issuers": [{"name": "issuer", "kind": kind, "issuer": ISSUER, "clientId": "client",
                "clientSecret": "secret", "rotation": {"type": "never"}, "requestsPerSecond": 20, "sessionSeconds": 30 * 86_400}],
            "consumers": [{"namespace": "ml", "serviceAccount": "app", "resourceServers": ["r"],
                "clientCredentials": ["r"]}],
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
        self.consent_to(subject, "r").await
    }

    async fn consent_to(&self, subject: &str, resource: &str) -> Owner {
        let owner = Owner {
            tenant: "ml/app".to_owned(),
            user: user(subject),
            issuer: ISSUER.to_owned(),
            client_id: "client".to_owned(),
            resource: resource.to_owned(),
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

    /// What a browser of `subject` would hold.
    async fn log_in(&self, subject: &str, session: &str) -> SecretString {
        let digest = digest(session.as_bytes());
        let row = SessionRow {
            digest,
            login: digest,
            tenant: "ml/app".to_owned(),
            user: user(subject),
            pod: None,
            ends_at: self.vault.refresher.now() + 24 * HOUR,
        };
        self.vault.store().add_session(&row).await.unwrap();
        session.into()
    }

    async fn audited(&self) -> Vec<(String, String)> {
        let entries = self.vault.store().entries(0, 99).await.unwrap();
        let entries = entries.into_iter();
        entries
            .map(|(_, entry)| (entry.action, entry.result))
            .collect()
    }
}

fn user(subject: &str) -> User {
    User {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
    }
}

fn app() -> Caller {
    Caller {
        namespace: "ml".to_owned(),
        service_account: "app".to_owned(),
        pod: "uid".to_owned(),
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

#[tokio::test]
async fn a_vault_that_closes_waits_for_nothing_that_may_be_in_use() {
    let world = World::of("Globus", "hastens").await;
    let owner = world.consent("alice").await;
    let set = TokenSet {
        refresh_token: Some("rt-2".into()),
        is_bearer: true,
        ..TokenSet::none(vec![])
    };
    let (issuer, now) = (
        &world.vault.refresher.issuers()[0],
        world.vault.refresher.now(),
    );
    let replaced = world.vault.replace(issuer, &owner, &set, now, |_| {}).await;
    replaced.unwrap();
    assert_eq!(world.vault.store().count_revocations().await.unwrap(), 1);
    world.vault.take_back_all().await.unwrap();
    world.vault.revoke_due().await.unwrap();
    assert_eq!(world.vault.store().count_revocations().await.unwrap(), 0);
    assert!(world.issuer.0.lock().contains(&"rt-alice".to_owned()));
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

/// A sidecar that does not wait for the end asks again, and what is left is done then.
#[tokio::test]
async fn a_sign_out_that_was_cut_off_is_gone_on_with() {
    let world = World::new("cut-off").await;
    let mut owners = Vec::new();
    for resource in ["r", "s", "t"] {
        owners.push(world.consent_to("alice", resource).await);
    }
    let session = world.log_in("alice", "browser").await;
    world.issuer.2.store(true, Ordering::SeqCst);
    let hangs = async {
        while world.issuer.0.lock().len() < owners.len() {
            tokio::task::yield_now().await;
        }
    };
    let caller = app();
    tokio::select! {
        ended = world.vault.end_session(&caller, &session) => panic!("{ended:?}"),
        () = hangs => {}
    }
    world.issuer.2.store(false, Ordering::SeqCst);
    world.vault.end_session(&caller, &session).await.unwrap();
    for owner in &owners {
        assert_eq!(world.get(owner).await.unwrap().state, State::Revoked);
    }
    let logout = ("logout".to_owned(), "ok".to_owned());
    assert!(world.audited().await.contains(&logout));
    let gone = world.vault.open_session(&caller, &session).await;
    assert!(matches!(gone, Err(VaultError::Forbidden)), "{gone:?}");
    // What could not be heard of is asked again.
    world.clock.advance(Duration::from_mins(2));
    world.vault.revoke_due().await.unwrap();
    assert_eq!(world.vault.store().count_revocations().await.unwrap(), 0);
}

#[tokio::test]
async fn only_the_last_sign_out_takes_back() {
    let world = World::new("last").await;
    let owner = world.consent("alice").await;
    let caller = app();
    let laptop = world.log_in("alice", "laptop").await;
    let phone = world.log_in("alice", "phone").await;
    world.vault.end_session(&caller, &laptop).await.unwrap();
    assert_eq!(world.get(&owner).await.unwrap().state, State::Active);
    world.vault.end_session(&caller, &phone).await.unwrap();
    assert_eq!(world.get(&owner).await.unwrap().state, State::Revoked);
}

/// At Globus each login brings another refresh token, and the one before stays good.
#[tokio::test]
async fn a_refresh_token_whose_place_another_takes_is_taken_back_where_that_ends_nothing_else() {
    for (kind, expected) in [("Globus", vec!["rt-alice"]), ("OIDC", vec![])] {
        let world = World::of(kind, &format!("superseded-{kind}")).await;
        let owner = world.consent("alice").await;
        let set = TokenSet {
            access_token: "at-2".into(),
            refresh_token: Some("rt-2".into()),
            lifetime: HOUR,
            is_bearer: true,
            ..TokenSet::none(vec![])
        };
        let issuer = &world.vault.refresher.issuers()[0];
        for _ in 0..2 {
            let now = world.vault.refresher.now();
            let replaced = world.vault.replace(issuer, &owner, &set, now, |_| {}).await;
            replaced.unwrap();
        }
        world.vault.revoke_due().await.unwrap();
        assert!(world.issuer.0.lock().is_empty(), "it may be in use");
        world.clock.advance(Duration::from_mins(6));
        world.vault.revoke_due().await.unwrap();
        assert_eq!(*world.issuer.0.lock(), expected, "{kind}");
    }
}

#[tokio::test]
async fn a_service_that_refuses_a_new_token_does_not_cause_another() {
    let world = World::new("cool-down").await;
    let owner = world.consent("alice").await;
    let ask = async |token: &str| {
        let grant = world.get(&owner).await.unwrap();
        let rejected = fingerprint(&token.into());
        world.vault.fresh(grant, &[], Some(&rejected)).await
    };
    let asked = || world.issuer.3.load(Ordering::SeqCst);
    let first = ask("at-alice").await;
    assert!(matches!(first, Ok(TokenAnswer::Token(_))), "{first:?}");
    for _ in 0..3 {
        let answer = ask("renewed").await;
        assert!(
            matches!(answer, Err(VaultError::Unavailable(_))),
            "{answer:?}"
        );
    }
    assert_eq!(asked(), 1);
    world.clock.advance(Duration::from_mins(1));
    ask("renewed").await.unwrap();
    assert_eq!(asked(), 2);
}

/// A job of once a week comes when its token has ended each time.
#[tokio::test]
async fn a_token_that_had_to_be_refreshed_first_is_used_all_the_same() {
    let world = World::new("weekly").await;
    let owner = world.consent("alice").await;
    world.clock.advance(1001 * HOUR);
    let grant = world.get(&owner).await.unwrap();
    world.vault.fresh(grant, &[], None).await.unwrap();
    let now = world.vault.refresher.now();
    assert_eq!(world.get(&owner).await.unwrap().used_at, now);
}

#[tokio::test]
async fn scopes_that_the_issuer_refuses_do_not_stay() {
    let world = World::new("scopes").await;
    let ask = async |scopes: &[&str]| {
        let wanted = OwnTokenRequest {
            resource_server: "r".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            rejected: None,
        };
        world.vault.own_token(&app(), &wanted).await
    };
    for bad in [&["a b"][..], &[""], &["a\t"]] {
        let answer = ask(bad).await;
        assert!(matches!(answer, Err(VaultError::Invalid(_))), "{bad:?}");
    }
    ask(&["bad"]).await.unwrap();
    let owner = world.vault.own(&app(), "r").unwrap();
    let mut refused = world.get(&owner).await.unwrap();
    let version = refused.progress.version;
    refused.progress.version += 1;
    refused.state = State::NeedsReauthentication;
    refused.reason = Some(Reason::Refused);
    refused.failing_since = Some(world.vault.refresher.now());
    refused.tokens.access = None;
    refused.access_expires_at = Moment::ZERO;
    assert!(
        world
            .vault
            .store()
            .replace(&refused, version)
            .await
            .unwrap()
    );
    let again = ask(&["bad"]).await.unwrap();
    let is_refused = matches!(again, TokenAnswer::ReauthenticationRequired { .. });
    assert!(is_refused, "asked too soon: {again:?}");
    assert!(matches!(ask(&["good"]).await, Ok(TokenAnswer::Token(_))));
    assert_eq!(world.get(&owner).await.unwrap().scopes, ["good"]);
    // Of two that work, neither takes the place of the other.
    ask(&["other"]).await.unwrap();
    assert_eq!(world.get(&owner).await.unwrap().scopes, ["good", "other"]);
}

#[tokio::test]
async fn refusals_do_not_fill_the_audit_log() {
    let world = World::new("refusals").await;
    let unknown = SecretString::from("unknown");
    for minute in 1..=2 {
        for _ in 0..50 {
            let refused = world.vault.open_session(&app(), &unknown).await;
            assert!(matches!(refused, Err(VaultError::Forbidden)));
        }
        assert_eq!(world.audited().await.len(), minute);
        world.clock.advance(Duration::from_mins(1));
    }
}

/// Many tokens wait for an issuer that is away; those of others are not kept waiting by them.
#[tokio::test]
async fn an_issuer_that_is_away_keeps_no_other_waiting() {
    let world = World::new("away").await;
    let owner = world.consent("alice").await;
    *world.issuer.1.lock() = Some(Revoked::NotNow);
    let grant = world.get(&owner).await.unwrap();
    let by = ("ml/app".to_owned(), None);
    world.vault.take_back(by, grant).await.unwrap();
    let issuer = &world.vault.refresher.issuers()[0];
    let now = world.vault.refresher.now() + Duration::from_mins(5);
    for _ in 0..5 {
        issuer.note_revocation(Revoked::NotNow, now);
    }
    assert!(!issuer.is_reachable());
    world.clock.advance(Duration::from_mins(5));
    let due = async || {
        let store = world.vault.store();
        store.due_revocations(now, 9).await.unwrap().len()
    };
    assert_eq!(due().await, 1);
    world.vault.revoke_due().await.unwrap();
    assert_eq!(due().await, 0);
    assert_eq!(world.issuer.0.lock().len(), 1, "nobody was asked");
    world.clock.advance(Duration::from_secs(5));
    *world.issuer.1.lock() = None;
    world.vault.revoke_due().await.unwrap();
    assert!(issuer.is_reachable());
}

#[tokio::test]
async fn a_delegation_that_was_prolonged_is_not_removed() {
    let world = World::new("prolonged").await;
    let (store, now) = (world.vault.store(), world.vault.refresher.now());
    let ended = Delegation {
        delegate: "ml/jobs".to_owned(),
        tenant: "ml/app".to_owned(),
        user: user("alice"),
        resource: "r".to_owned(),
        scopes: vec![],
        ends_at: now,
        used_at: Moment::ZERO,
    };
    let prolonged = Delegation {
        ends_at: now + HOUR,
        ..ended.clone()
    };
    store.put_delegation(&prolonged).await.unwrap();
    assert!(!store.remove_ended_delegation(&ended, now).await.unwrap());
    store.put_delegation(&ended).await.unwrap();
    assert!(store.remove_ended_delegation(&ended, now).await.unwrap());
}
