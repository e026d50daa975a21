//! An issuer that is down for an hour while everything at it becomes due, beside one that works. The hours
//! are simulated; the store is not.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::endpoint::Revoked;

/// Who keeps to the time: an issuer that counts what it is asked in each second, and may be down.
struct Busy {
    clock: Arc<ManualClock>,
    is_down: AtomicBool,
    asked: Mutex<HashMap<u64, u32>>,
}

impl TokenEndpoint for Busy {
    fn ask<'a>(
        &'a self,
        _request: TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        let second = self.clock.since_epoch().as_secs();
        *self.asked.lock().entry(second).or_default() += 1;
        let answer = if self.is_down.load(Ordering::SeqCst) {
            Exchange::Answered(Err(Problem::Transient))
        } else {
            Exchange::Answered(Ok(TokenResponse {
                sets: vec![TokenSet {
                    resource_server: None,
                    access_token: "at".into(),
                    refresh_token: None,
                    lifetime: Duration::from_hours(48),
                    scopes: None,
                    is_bearer: true,
                }],
                id_token: None,
            }))
        };
        Box::pin(std::future::ready(answer))
    }

    fn revoke<'a>(
        &'a self,
        _token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>> {
        Box::pin(std::future::ready(Revoked::Yes))
    }
}

struct World {
    clock: Arc<ManualClock>,
    vault: Arc<Refresher>,
    broken: Arc<Busy>,
    _folder: Folder,
}

const BROKEN: &str = "https://broken.test";
const SOUND: &str = "https://sound.test";
const PER_SECOND: u32 = 100;
/// So many grants at the sound issuer are due in each minute.
const PACE: u64 = 4;

impl World {
    async fn new() -> Self {
        let (store, folder) = scratch("outage").await;
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        let secrets = Secrets::open_store(&store, &keys).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let busy = |is_down| {
            Arc::new(Busy {
                clock: Arc::clone(&clock),
                is_down: AtomicBool::new(is_down),
                asked: Mutex::default(),
            })
        };
        let (broken, sound) = (busy(true), busy(false));
        let issuers = [(BROKEN, &broken), (SOUND, &sound)].map(|(name, endpoint)| {
            Issuer::new(
                (name.to_owned(), "client".to_owned()),
                Arc::clone(endpoint) as Arc<dyn TokenEndpoint>,
                Rotation::Never,
                KeepAlive {
                    within: Duration::from_hours(720),
                },
                Pressure {
                    limits: Limits {
                        per_second: PER_SECOND,
                        burst: 2 * PER_SECOND,
                    },
                    at_once: 8,
                },
            )
        });
        let clock_of_vault: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let vault = Refresher::new(
            store,
            Arc::new(secrets),
            issuers.into(),
            clock_of_vault,
            Metrics::default(),
        );
        Self {
            clock,
            vault: Arc::new(vault),
            broken,
            _folder: folder,
        }
    }

    fn grant(&self, issuer: &str, tenant: &str, subject: String, due: Moment) -> Grant {
        let mut grant = Scene::grant(&self.vault.secrets);
        grant.id = format!("{tenant}-{subject}");
        grant.owner.issuer = issuer.to_owned();
        grant.owner.tenant = tenant.to_owned();
        grant.owner.user.subject = subject;
        grant.due_at = Some(due);
        grant.tokens = self
            .vault
            .secrets
            .seal(&grant, Some(&"rt-0".into()), Some(&"at-0".into()))
            .unwrap();
        grant
    }

    /// What is due now is done.
    async fn settle(&self) {
        loop {
            let mut begun = 0;
            for issuer in &self.vault.issuers {
                for refresh in self.vault.round(issuer).await {
                    refresh.await.unwrap();
                    begun += 1;
                }
            }
            if begun == 0 {
                return;
            }
        }
    }

    async fn overdue(&self, issuer: &str) -> Vec<String> {
        let due = self.vault.store.due(issuer, self.vault.now(), 1_000_000);
        due.await.unwrap()
    }
}

/// With `GRANTS=100000` in the environment, that many (`make outage`).
#[tokio::test]
async fn after_an_hour_without_the_issuer_all_recover_and_nobody_else_has_noticed() {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs it chooses how large it is"
    )]
    let crowd = std::env::var("GRANTS");
    let crowd: u64 = crowd.map_or(3_000, |grants| grants.parse().unwrap());
    let world = World::new().await;
    let begin = world.vault.now();
    let mut grants: Vec<Grant> = (0..crowd)
        .map(|n| world.grant(BROKEN, "crowd/app", n.to_string(), begin))
        .collect();
    let small = (0..5).map(|n| world.grant(BROKEN, "small/app", n.to_string(), begin));
    grants.extend(small);
    grants.extend((0..60 * PACE).map(|n| {
        let due = begin + Duration::from_secs(n * 60 / PACE);
        world.grant(SOUND, "other/app", n.to_string(), due)
    }));
    world.vault.store.insert_all(&grants).await.unwrap();

    for _ in 0..3600 {
        world.clock.advance(Duration::from_secs(1));
        world.settle().await;
        let late = world.overdue(SOUND).await;
        assert!(late.is_empty(), "{late:?}");
    }
    let tried: u32 = world.broken.asked.lock().values().sum();
    assert!(tried < 100, "a broken issuer was asked {tried} times");
    assert!(world.overdue(BROKEN).await.len() as u64 > crowd - 100);

    world.broken.is_down.store(false, Ordering::SeqCst);
    let mut seconds = 0;
    let mut small_is_done_after = None;
    while !world.overdue(BROKEN).await.is_empty() {
        world.clock.advance(Duration::from_secs(1));
        world.settle().await;
        seconds += 1;
        if small_is_done_after.is_none() {
            let left = world.overdue(BROKEN).await;
            let is_done = !left.iter().any(|id| id.starts_with("small"));
            small_is_done_after = is_done.then_some(seconds);
        }
    }
    let most = world.broken.asked.lock().values().copied().max().unwrap();
    assert!(most <= 2 * PER_SECOND, "{most} requests in a second");
    let needed = crowd / u64::from(PER_SECOND);
    assert!((needed..needed + 90).contains(&seconds), "{seconds} s");
    assert!(small_is_done_after.unwrap() < 90, "{small_is_done_after:?}");
    let states = world.vault.store.counts().await.unwrap();
    assert_eq!(states, [(State::Active, crowd + 5 + 60 * PACE)]);
    report(&format!(
        "{crowd} grants due at once, issuer down for an hour: asked {tried} times meanwhile; all refreshed \
         {seconds} s after it came back, at most {most} in a second; a workload of five grants within {} s",
        small_is_done_after.unwrap()
    ));
}

#[expect(clippy::print_stdout, reason = "what was tried, for whoever asks")]
fn report(line: &str) {
    println!("{line}");
}
