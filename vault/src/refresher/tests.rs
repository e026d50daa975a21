//! The refresher over a real store and a simulated issuer, with the time in hand.

mod outage;

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use globus_auth_core::clock::{ManualClock, UnixSeconds};
use rstest::rstest;
use secrecy::SecretString;
use tokio::sync::Notify;

use super::*;
use crate::answer::TokenResponse;
use crate::bulkhead::Limits;
use crate::endpoint::{Revoked, TokenEndpoint};
use crate::grant::{Owner, SealedTokens, User};
use crate::issuer::Pressure;
use crate::keyring::SecretKeys;
use crate::keyring::tests::keys_json;
use crate::schedule::KeepAlive;
use crate::store::tests::{Database, Folder, scratch, scratch_in};

/// What the issuer does next.
#[derive(Clone, Debug)]
enum Does {
    Gives { refresh_token: Option<&'static str> },
    Says(Problem),
    IsUnreachable,
    LosesTheAnswer,
}

struct Simulation {
    does: Mutex<Does>,
    asked: AtomicU32,
    sent: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
    gate: Option<Notify>,
}

impl TokenEndpoint for Simulation {
    fn ask<'a>(
        &'a self,
        request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        Box::pin(async move {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            if let TokenRequest::RefreshToken { refresh_token, .. } = request {
                self.sent
                    .lock()
                    .push(refresh_token.expose_secret().to_owned());
            }
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            match self.does.lock().clone() {
                Does::Gives { refresh_token } => {
                    let set = TokenSet {
                        resource_server: None,
                        access_token: format!("at-{asked}").into(),
                        refresh_token: refresh_token.map(SecretString::from),
                        lifetime: Duration::from_hours(1),
                        scopes: None,
                        is_bearer: true,
                    };
                    Exchange::Answered(Ok(TokenResponse {
                        sets: vec![set],
                        id_token: None,
                    }))
                }
                Does::Says(problem) => Exchange::Answered(Err(problem)),
                Does::IsUnreachable => Exchange::NotSent,
                Does::LosesTheAnswer => Exchange::Unanswered,
            }
        })
    }

    fn revoke<'a>(
        &'a self,
        token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>> {
        self.revoked.lock().push(token.expose_secret().to_owned());
        Box::pin(std::future::ready(Revoked::Yes))
    }
}

/// Replicas of a vault with one grant, whose access token has just expired.
struct Scene {
    replicas: Vec<Arc<Refresher>>,
    issuer: Arc<Simulation>,
    clock: Arc<ManualClock>,
    id: String,
    folder: Folder,
}

const NOW: UnixSeconds = UnixSeconds(1_000_000);
const ISSUER: &str = "https://issuer.test";

impl Scene {
    async fn new(name: &str, replicas: usize, rotation: Rotation, does: Does) -> Self {
        Self::gated(name, replicas, rotation, does, None).await
    }

    async fn gated(
        name: &str,
        replicas: usize,
        rotation: Rotation,
        does: Does,
        gate: Option<Notify>,
    ) -> Self {
        let scratch = scratch(&format!("refresher-{name}")).await;
        Self::over(scratch, replicas, rotation, does, gate).await
    }

    async fn over(
        (store, folder): (Store, Folder),
        replicas: usize,
        rotation: Rotation,
        does: Does,
        gate: Option<Notify>,
    ) -> Self {
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let issuer = Arc::new(Simulation {
            does: Mutex::new(does),
            asked: AtomicU32::new(0),
            sent: Mutex::default(),
            revoked: Mutex::default(),
            gate,
        });
        let mut refreshers = Vec::new();
        for _ in 0..replicas {
            let store = Store::open(&folder.url()).await.unwrap();
            let secrets = Secrets::open_store(&store, &keys).await.unwrap();
            let one = Self::issuer(&issuer, rotation);
            let clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
            refreshers.push(Arc::new(Refresher::new(
                store,
                Arc::new(secrets),
                vec![one],
                clock,
                Metrics::default(),
            )));
        }
        let grant = Self::grant(refreshers[0].secrets());
        assert!(store.insert(&grant).await.unwrap());
        Self {
            replicas: refreshers,
            issuer,
            clock,
            id: grant.id,
            folder,
        }
    }

    fn issuer(simulation: &Arc<Simulation>, rotation: Rotation) -> Issuer {
        Issuer::new(
            (ISSUER.to_owned(), "client".to_owned()),
            Arc::clone(simulation) as Arc<dyn TokenEndpoint>,
            rotation,
            KeepAlive {
                within: Duration::from_hours(720),
            },
            Pressure {
                limits: Limits {
                    per_second: 100,
                    burst: 100,
                },
                at_once: 8,
            },
        )
    }

    fn grant(secrets: &Secrets) -> Grant {
        let now = Moment::from_secs(NOW.0);
        let mut grant = Grant {
            owner: Owner {
                tenant: "ml/app".to_owned(),
                user: User {
                    issuer: ISSUER.to_owned(),
                    subject: "alice".to_owned(),
                },
                issuer: ISSUER.to_owned(),
                client_id: "client".to_owned(),
                resource: "r".to_owned(),
            },
            reason: None,
            issued_at: now.saturating_sub(Duration::from_hours(1)),
            access_expires_at: now,
            due_at: Some(now),
            used_at: now,
            failures: 0,
            failing_since: None,
            ..crate::store::tests::grant("ml/app", "alice", "r")
        };
        grant.progress.token = Some(digest(b"rt-0"));
        grant.progress.parent = None;
        grant.progress.attempt = None;
        grant.tokens = secrets
            .seal(&grant, Some(&"rt-0".into()), Some(&"at-0".into()))
            .unwrap();
        grant
    }

    /// Starts the first replica anew, with a folder for what cannot be stored.
    async fn keep_in(&mut self, folder: &std::path::Path) {
        let store = Store::open(&self.folder.url()).await.unwrap();
        let one = &self.replicas[0];
        self.replicas[0] = Arc::new(Refresher {
            store,
            secrets: Arc::clone(&one.secrets),
            issuers: vec![Self::issuer(&self.issuer, one.issuers[0].rotation)],
            clock: Arc::clone(&one.clock),
            metrics: Metrics::default(),
            flights: Mutex::default(),
            unstored: Some(Arc::new(Unstored::open(folder.to_owned()).unwrap())),
        });
    }

    async fn refresh(&self, replica: usize) -> Result<(), RefreshError> {
        let replica = &self.replicas[replica];
        replica.refresh(&self.id, Moment::from_secs(NOW.0)).await
    }

    async fn row(&self) -> Grant {
        let store = &self.replicas[0].store;
        store.grant(&self.id).await.unwrap().unwrap()
    }

    async fn token(&self, field: Field) -> Option<String> {
        let opened = self.replicas[0]
            .secrets
            .open(&self.row().await, field)
            .unwrap();
        opened.map(|token| token.expose_secret().to_owned())
    }

    fn asked(&self) -> u32 {
        self.issuer.asked.load(Ordering::SeqCst)
    }

    fn then(&self, does: Does) {
        *self.issuer.does.lock() = does;
    }
}

fn required(policy: &str) -> SessionRequirements {
    SessionRequirements {
        session_required_policies: vec![policy.to_owned()],
        ..SessionRequirements::default()
    }
}

const GRACE: Rotation = Rotation::Grace(Duration::from_mins(5));
const NO_GRACE: Rotation = Rotation::Grace(Duration::ZERO);
const ROTATES: Does = Does::Gives {
    refresh_token: Some("rt-1"),
};
const KEEPS: Does = Does::Gives {
    refresh_token: None,
};

#[tokio::test]
async fn a_new_refresh_token_takes_the_place_of_the_old_one() {
    let scene = Scene::new("rotates", 1, GRACE, ROTATES).await;
    scene.refresh(0).await.unwrap();
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-1");
    assert_eq!(scene.token(Field::AccessToken).await.unwrap(), "at-1");
    let row = scene.row().await;
    assert_eq!(row.state, State::Active);
    assert_eq!(row.progress.parent, Some(digest(b"rt-0")));
    assert!(row.progress.attempt.is_none() && row.due_at.is_some());
}

#[tokio::test]
async fn without_a_new_refresh_token_the_old_one_is_kept() {
    let scene = Scene::new("keeps", 1, Rotation::Never, KEEPS).await;
    scene.refresh(0).await.unwrap();
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-0");
    assert_eq!(scene.token(Field::AccessToken).await.unwrap(), "at-1");
}

/// `globus-and-seeds`, scenario 4: one refresh at the issuer, however many ask on however many replicas.
#[rstest]
#[tokio::test]
async fn a_hundred_requests_on_three_replicas_cause_one_redemption(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let scratch = scratch_in(database, "herd").await;
    let scene = Arc::new(Scene::over(scratch, 3, GRACE, ROTATES, None).await);
    let requests = (0..100).map(|n| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move { scene.refresh(n % 3).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().unwrap();
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test]
async fn who_hangs_up_does_not_stop_the_refresh() {
    let gate = Some(Notify::new());
    let scene = Scene::gated("hangs-up", 1, NO_GRACE, ROTATES, gate).await;
    let replica = Arc::clone(&scene.replicas[0]);
    let id = scene.id.clone();
    let caller = tokio::spawn(async move { replica.refresh(&id, Moment::from_secs(NOW.0)).await });
    while scene.asked() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    scene.issuer.gate.as_ref().unwrap().notify_one();
    scene.refresh(0).await.unwrap();
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-1");
    assert_eq!(scene.asked(), 1);
}

#[rstest]
#[case::grant(
    Problem::Grant,
    State::NeedsReauthentication,
    Some(Reason::InvalidGrant)
)]
#[case::consent(Problem::Interaction { requirements: required("p") }, State::NeedsReauthentication, Some(Reason::InteractionRequired))]
#[case::client(Problem::Client, State::Degraded, None)]
#[case::grant_type(Problem::GrantType, State::Degraded, None)]
#[case::scope(Problem::Scope, State::Degraded, Some(Reason::Refused))]
#[case::denied(Problem::Denied, State::Degraded, Some(Reason::Refused))]
#[case::unknown(Problem::Unclassified, State::Degraded, Some(Reason::Refused))]
#[case::unreadable(Problem::Unclear, State::Degraded, None)]
#[case::firewall(Problem::Transient, State::Degraded, None)]
#[case::throttled(Problem::Throttled { retry_after: None }, State::Degraded, None)]
#[tokio::test]
async fn a_refusal_moves_the_grant_where_the_table_says(
    #[case] problem: Problem,
    #[case] state: State,
    #[case] reason: Option<Reason>,
) {
    let name = format!("refusal-{problem:?}").replace(|letter: char| !letter.is_alphanumeric(), "");
    let may_be_spent = problem == Problem::Unclear;
    let scene = Scene::new(&name, 1, GRACE, Does::Says(problem)).await;
    let error = scene.refresh(0).await.unwrap_err();
    let row = scene.row().await;
    assert_eq!((row.state, row.reason), (state, reason));
    let asks = reason == Some(Reason::InteractionRequired);
    assert_eq!(row.requirements == required("p"), asks);
    assert_eq!(
        error == RefreshError::NeedsUser,
        state == State::NeedsReauthentication
    );
    // The tokens stay: an access token is good until it ends, whatever becomes of the grant.
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-0");
    assert_eq!(row.due_at.is_some(), state == State::Degraded);
    let is_in_doubt = row.progress.attempt.is_some();
    assert!(is_in_doubt == may_be_spent || state != State::Degraded);
}

/// RFC 9700 §4.14.2: where nothing may be sent twice, an answer that says nothing is as none.
#[tokio::test]
async fn after_an_answer_that_cannot_be_read_a_token_that_rotates_is_not_sent_again() {
    let scene = Scene::new("unclear", 1, NO_GRACE, Does::Says(Problem::Unclear)).await;
    assert_eq!(scene.refresh(0).await, Err(RefreshError::Unavailable));
    scene.then(ROTATES);
    assert_eq!(scene.refresh(0).await, Err(RefreshError::NeedsUser));
    assert_eq!(scene.asked(), 1);
    let row = scene.row().await;
    assert_eq!(row.reason, Some(Reason::AmbiguousRotation));
}

#[tokio::test]
async fn a_client_that_is_not_accepted_is_not_tried_for_half_an_hour() {
    let scene = Scene::new("client", 1, GRACE, Does::Says(Problem::Client)).await;
    scene.refresh(0).await.unwrap_err();
    let due = scene.row().await.due_at.unwrap();
    assert!(due >= Moment::from_secs(NOW.0 + 30 * 60), "{due:?}");
    let issuer = &scene.replicas[0].issuers[0];
    assert!(issuer.refuses_client() && !issuer.is_reachable());
    // Nobody else's grant is tried either, and nobody waits for it.
    scene.refresh(0).await.unwrap_err();
    assert_eq!(scene.asked(), 1);
    scene.then(ROTATES);
    scene.clock.advance(Duration::from_mins(30));
    scene.refresh(0).await.unwrap();
    let issuer = &scene.replicas[0].issuers[0];
    assert!(!issuer.refuses_client() && issuer.is_reachable());
}

#[tokio::test]
async fn a_grant_that_the_issuer_refuses_is_not_tried_for_each_who_asks() {
    let scene = Scene::new("resting", 1, GRACE, Does::Says(Problem::Scope)).await;
    for _ in 0..10 {
        assert_eq!(scene.refresh(0).await, Err(RefreshError::Unavailable));
    }
    assert_eq!(scene.asked(), 1);
    let due = scene.row().await.due_at.unwrap();
    let wait = due.saturating_sub(scene.replicas[0].now());
    scene.clock.advance(wait + Duration::from_secs(1));
    scene.then(ROTATES);
    scene.refresh(0).await.unwrap();
}

#[tokio::test]
async fn an_unknown_refusal_asks_the_user_only_after_an_hour_and_five_times() {
    let scene = Scene::new("unknown", 1, GRACE, Does::Says(Problem::Unclassified)).await;
    for _ in 0..6 {
        scene.refresh(0).await.unwrap_err();
        scene.clock.advance(Duration::from_secs(200));
    }
    assert_eq!(scene.asked(), 6);
    assert_eq!(scene.row().await.state, State::Degraded);
    scene.clock.advance(Duration::from_hours(1));
    assert_eq!(scene.refresh(0).await, Err(RefreshError::NeedsUser));
    assert_eq!(scene.row().await.reason, Some(Reason::Refused));
}

#[tokio::test]
async fn one_refusal_after_an_hour_of_outage_does_not_ask_the_user() {
    let scene = Scene::new("apart", 1, GRACE, Does::Says(Problem::Transient)).await;
    for _ in 0..4 {
        scene.refresh(0).await.unwrap_err();
        scene.clock.advance(Duration::from_hours(1));
    }
    assert_eq!(scene.row().await.failures, 4);
    scene.then(Does::Says(Problem::Unclassified));
    assert_eq!(scene.refresh(0).await, Err(RefreshError::Unavailable));
    let row = scene.row().await;
    assert_eq!((row.state, row.failures), (State::Degraded, 1));
}

/// A replica that stood still after the claim: its answer could come when another has the lease.
#[tokio::test]
async fn a_token_is_not_sent_so_late_that_the_answer_could_come_after_the_lease() {
    let scene = Scene::new("late", 1, NO_GRACE, ROTATES).await;
    let replica = &scene.replicas[0];
    let row = scene.row().await;
    let now = replica.now();
    let Claim::Redeem(attempt) = claim(&row, NO_GRACE, now) else {
        panic!("{row:?}")
    };
    let claimed = claimed(&row, attempt, now);
    let version = row.progress.version;
    assert!(replica.store.replace(&claimed, version).await.unwrap());
    let redemption = Redemption {
        issuer: &replica.issuers[0],
        claimed,
        attempt,
        sent_at: (now + LEASE).saturating_sub(ANSWER) + Duration::from_millis(1),
        refresh_token: Some("rt-0".into()),
    };
    let late = replica.redeem(redemption).await;
    assert_eq!(late, Err(RefreshError::Unavailable));
    assert_eq!(scene.asked(), 0);
    assert!(scene.row().await.progress.attempt.is_none());
}

#[rstest]
#[case::keeps("lost-keeps", Rotation::Never, true)]
#[case::grace("lost-grace", GRACE, true)]
#[case::no_grace("lost-no-grace", NO_GRACE, false)]
#[tokio::test]
async fn after_a_lost_answer_the_token_is_sent_again_only_where_that_is_allowed(
    #[case] name: &str,
    #[case] rotation: Rotation,
    #[case] is_recovered: bool,
) {
    let scene = Scene::new(name, 1, rotation, Does::LosesTheAnswer).await;
    assert_eq!(scene.refresh(0).await, Err(RefreshError::Unavailable));
    scene.then(ROTATES);
    let again = scene.refresh(0).await;
    assert_eq!(again.is_ok(), is_recovered);
    if is_recovered {
        assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-1");
    } else {
        assert_eq!(scene.asked(), 1);
        let row = scene.row().await;
        assert_eq!(row.state, State::NeedsReauthentication);
        assert_eq!(row.reason, Some(Reason::AmbiguousRotation));
    }
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_told_as_ambiguous() {
    let scene = Scene::new("ambiguous", 1, GRACE, Does::LosesTheAnswer).await;
    scene.refresh(0).await.unwrap_err();
    scene.then(Does::Says(Problem::Grant));
    assert_eq!(scene.refresh(0).await, Err(RefreshError::NeedsUser));
    assert_eq!(scene.row().await.reason, Some(Reason::AmbiguousRotation));
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_has_spent_nothing() {
    let scene = Scene::new("unreachable", 1, NO_GRACE, Does::IsUnreachable).await;
    assert_eq!(scene.refresh(0).await, Err(RefreshError::Unavailable));
    assert!(scene.row().await.progress.attempt.is_none());
    scene.then(ROTATES);
    scene.refresh(0).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_died_is_taken_over_from_when_its_lease_ends() {
    let scene = Scene::new("takeover", 2, GRACE, ROTATES).await;
    let mut row = scene.row().await;
    let now = scene.replicas[0].now();
    row.progress = progress::Progress {
        version: row.progress.version + 1,
        attempt: Some(Attempt {
            token: digest(b"rt-0"),
            started_at: now,
            tries: 1,
        }),
        lease_until: now + LEASE,
        ..row.progress
    };
    let store = &scene.replicas[0].store;
    assert!(store.replace(&row, row.progress.version - 1).await.unwrap());
    let waiting = {
        let replica = Arc::clone(&scene.replicas[1]);
        let id = scene.id.clone();
        tokio::spawn(async move { replica.refresh(&id, Moment::from_secs(NOW.0)).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(scene.asked(), 0);
    scene.clock.advance(LEASE);
    waiting.await.unwrap().unwrap();
    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.row().await.state, State::Active);
}

/// The user takes the grant back while it is refreshed: what came is taken back, too.
#[tokio::test]
async fn what_comes_for_a_revoked_grant_is_revoked() {
    let gate = Some(Notify::new());
    let scene = Scene::gated("revoked", 1, GRACE, ROTATES, gate).await;
    let replica = Arc::clone(&scene.replicas[0]);
    let id = scene.id.clone();
    let refresh = tokio::spawn(async move { replica.refresh(&id, Moment::from_secs(NOW.0)).await });
    while scene.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let mut row = scene.row().await;
    row.state = State::Revoked;
    row.progress.token = None;
    row.progress.version += 1;
    row.tokens = SealedTokens {
        refresh: None,
        access: None,
        ..row.tokens
    };
    let store = &scene.replicas[0].store;
    assert!(store.replace(&row, row.progress.version - 1).await.unwrap());
    scene.issuer.gate.as_ref().unwrap().notify_one();
    refresh.await.unwrap().unwrap();
    assert_eq!(*scene.issuer.revoked.lock(), ["rt-1"]);
    assert_eq!(scene.row().await, row);
}

#[tokio::test]
async fn what_does_not_open_is_quarantined_and_not_sent() {
    let scene = Scene::new("corrupt", 1, GRACE, ROTATES).await;
    let mut row = scene.row().await;
    row.progress.version += 1;
    row.tokens.refresh.as_mut().unwrap()[60] ^= 1;
    let store = &scene.replicas[0].store;
    assert!(store.replace(&row, row.progress.version - 1).await.unwrap());
    assert_eq!(scene.refresh(0).await, Err(RefreshError::NeedsUser));
    assert_eq!(scene.row().await.reason, Some(Reason::Corrupt));
    assert_eq!(scene.asked(), 0);
    let entries = store.entries(0, 9).await.unwrap();
    let entries: Vec<_> = entries.iter().map(|(_, one)| &*one.action).collect();
    assert_eq!(entries, ["quarantine"]);
}

#[tokio::test]
async fn without_a_store_nothing_is_redeemed() {
    let scene = Scene::new("store-down", 1, GRACE, ROTATES).await;
    let grant = scene.row().await;
    scene.replicas[0].store.close().await;
    let replica = &scene.replicas[0];
    let attempted = replica.attempt(grant).await;
    assert_eq!(attempted, Some(Err(RefreshError::Unavailable)));
    assert_eq!(scene.asked(), 0);
}

/// Scenario 38: what was given to a client that an administrator shares is refreshed with that client.
#[tokio::test]
async fn a_grant_is_refreshed_with_the_client_that_it_was_given_to() {
    let scene = Scene::new("clients", 1, Rotation::Never, KEEPS).await;
    let first = &scene.replicas[0];
    let shared = Arc::new(Simulation {
        does: Mutex::new(KEEPS),
        asked: AtomicU32::new(0),
        sent: Mutex::default(),
        revoked: Mutex::default(),
        gate: None,
    });
    let issuers = [("client", &scene.issuer), ("shared", &shared)].map(|(client, endpoint)| {
        let limits = Limits {
            per_second: 100,
            burst: 100,
        };
        Issuer::new(
            (ISSUER.to_owned(), client.to_owned()),
            Arc::clone(endpoint) as Arc<dyn TokenEndpoint>,
            Rotation::Never,
            KeepAlive {
                within: Duration::from_hours(720),
            },
            Pressure { limits, at_once: 8 },
        )
    });
    let mut grant = Scene::grant(first.secrets());
    grant.id = "of the shared client".to_owned();
    grant.owner.client_id = "shared".to_owned();
    grant.tokens = first
        .secrets()
        .seal(&grant, Some(&"rt-shared".into()), None)
        .unwrap();
    assert!(first.store.insert(&grant).await.unwrap());
    let refresher = Arc::new(Refresher::new(
        first.store.clone(),
        Arc::clone(&first.secrets),
        issuers.into(),
        Arc::clone(&scene.clock) as Arc<dyn Clock>,
        Metrics::default(),
    ));
    // Five minutes before its end, with nobody asking: it is due.
    for issuer in refresher.issuers() {
        for refresh in refresher.round(issuer).await {
            refresh.await.unwrap();
        }
    }
    assert_eq!(*shared.sent.lock(), ["rt-shared"]);
    assert_eq!(*scene.issuer.sent.lock(), ["rt-0"]);
}

#[tokio::test]
async fn what_is_due_is_refreshed_by_itself() {
    let scene = Scene::new("due", 1, GRACE, ROTATES).await;
    let replica = &scene.replicas[0];
    for refresh in replica.round(&replica.issuers[0]).await {
        refresh.await.unwrap();
    }
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-1");
    assert!(replica.round(&replica.issuers[0]).await.is_empty());
}

fn folder_of_unstored(scene: &Scene) -> std::path::PathBuf {
    std::env::temp_dir().join(format!(
        "{}-unstored",
        scene
            .folder
            .url()
            .replace(|letter: char| !letter.is_alphanumeric(), "-")
    ))
}

/// The issuer gave new tokens, and spent the old one for good; then the database was gone, and the process, too.
#[tokio::test]
async fn what_cannot_be_stored_waits_in_a_file_and_is_stored_by_the_next_process() {
    let gate = Some(Notify::new());
    let mut scene = Scene::gated("unstored", 1, NO_GRACE, ROTATES, gate).await;
    let folder = folder_of_unstored(&scene);
    drop(std::fs::remove_dir_all(&folder));
    scene.keep_in(&folder).await;
    let replica = Arc::clone(&scene.replicas[0]);
    let id = scene.id.clone();
    let refresh = tokio::spawn(async move { replica.refresh(&id, Moment::from_secs(NOW.0)).await });
    while scene.asked() == 0 {
        tokio::task::yield_now().await;
    }
    scene.replicas[0].store.close().await;
    scene.issuer.gate.as_ref().unwrap().notify_one();
    while !refresh.is_finished() {
        scene.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(refresh.await.unwrap(), Err(RefreshError::Unavailable));
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(files.len(), 1);
    let kept = std::fs::read_to_string(files[0].as_ref().unwrap().path()).unwrap();
    assert!(kept.contains("refreshToken") && !kept.contains("rt-1") && !kept.contains("at-1"));

    // Nobody could tell whether the old one is spent; the file does.
    scene.keep_in(&folder).await;
    scene.refresh(0).await.unwrap();
    assert_eq!(scene.token(Field::RefreshToken).await.unwrap(), "rt-1");
    assert_eq!(scene.row().await.state, State::Active);
    assert_eq!((scene.asked(), scene.issuer.revoked.lock().len()), (1, 0));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}
