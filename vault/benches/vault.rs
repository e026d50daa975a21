//! What the vault costs, in process: reads of tokens, refreshes, and what a million grants need. `make bench`
//! prints it with the rest.
//!
//!     cargo bench --package globus-auth-vault [-- GRANTS]

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    reason = "a measurement that cannot go on ends the program that measures"
)]

use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globus_auth_core::clock::{Clock, SystemClock};
use globus_auth_core::vault_api::{TokenAnswer, TokenRequest};
use globus_auth_core::vault_config::VaultConfig;
use globus_auth_vault::answer::{TokenResponse, TokenSet};
use globus_auth_vault::bulkhead::Limits;
use globus_auth_vault::caller::Caller;
use globus_auth_vault::endpoint::{self, Exchange, Revoked, TokenEndpoint};
use globus_auth_vault::grant::{Grant, Kind, Owner, User, digest};
use globus_auth_vault::issuer::{Issuer, Pressure};
use globus_auth_vault::keyring::SecretKeys;
use globus_auth_vault::metrics::Metrics;
use globus_auth_vault::progress::{Moment, Rotation};
use globus_auth_vault::refresher::Refresher;
use globus_auth_vault::schedule::KeepAlive;
use globus_auth_vault::secrets::Secrets;
use globus_auth_vault::store::Store;
use globus_auth_vault::store::sessions::SessionRow;
use globus_auth_vault::vault::Vault;
use secrecy::SecretString;
use serde_json::json;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ISSUER: &str = "https://issuer.test";

/// Gives a token at once.
struct Fast;

impl TokenEndpoint for Fast {
    fn ask<'a>(
        &'a self,
        _request: endpoint::TokenRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Exchange> + Send + 'a>> {
        let set = set("at".repeat(50));
        Box::pin(std::future::ready(Exchange::Answered(Ok(TokenResponse {
            sets: vec![set],
            id_token: None,
        }))))
    }

    fn revoke<'a>(
        &'a self,
        _token: &'a SecretString,
    ) -> Pin<Box<dyn Future<Output = Revoked> + Send + 'a>> {
        Box::pin(std::future::ready(Revoked::Yes))
    }
}

fn set(access_token: String) -> TokenSet {
    TokenSet {
        resource_server: None,
        access_token: access_token.into(),
        refresh_token: Some("rt".repeat(50).into()),
        lifetime: Duration::from_hours(48),
        scopes: Some(vec![
            "urn:globus:auth:scope:transfer.api.globus.org:all".to_owned(),
        ]),
        is_bearer: true,
    }
}

struct World {
    folder: PathBuf,
    keys: SecretKeys,
    refresher: Arc<Refresher>,
}

impl World {
    async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("globus-auth-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("randomness");
        let keys = json!({"primary": "k1", "keys": [{"id": "k1", "key": STANDARD.encode(key)}]});
        let keys = SecretKeys::parse(keys.to_string().as_bytes()).expect("a key ring");
        let refresher = refresher(&folder, &keys).await;
        Self {
            folder,
            keys,
            refresher,
        }
    }

    fn grant(&self, tenant: &str, subject: String, due: Moment) -> Grant {
        let owner = Owner {
            tenant: tenant.to_owned(),
            user: User {
                issuer: ISSUER.to_owned(),
                subject,
            },
            issuer: ISSUER.to_owned(),
            client_id: "client".to_owned(),
            resource: "transfer.api.globus.org".to_owned(),
        };
        let set = set("at".repeat(50));
        let now = self.refresher.now();
        let kind = Kind::AuthorizationCode;
        let mut grant = Grant::given(owner, kind, &set, None, now).expect("randomness");
        let secrets = self.refresher.secrets();
        let (refresh, access) = (set.refresh_token.as_ref(), Some(&set.access_token));
        grant.tokens = secrets.seal(&grant, refresh, access).expect("a key");
        grant.due_at = Some(due);
        grant.consented.clone_from(&grant.scopes);
        grant
    }

    async fn insert(&self, from: u64, to: u64, due: Moment) {
        for begin in (from..to).step_by(10_000) {
            let end = to.min(begin + 10_000);
            let grants: Vec<Grant> = (begin..end)
                .map(|n| self.grant(&format!("ns-{}/app", n % 100), format!("user-{n}"), due))
                .collect();
            self.refresher
                .store()
                .insert_all(&grants)
                .await
                .expect("a store");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap_or_default();
    }
}

async fn refresher(folder: &std::path::Path, keys: &SecretKeys) -> Arc<Refresher> {
    let url = format!("sqlite:{}", folder.join("vault.db").display());
    let store = Store::open(&url).await.expect("a database");
    let secrets = Secrets::open_store(&store, keys).await.expect("a key ring");
    store.take_over().await.expect("a database");
    let limits = Limits {
        per_second: 1_000_000,
        burst: 2_000_000,
    };
    let issuer = Issuer::new(
        (ISSUER.to_owned(), "client".to_owned()),
        Arc::new(Fast),
        Rotation::Never,
        KeepAlive {
            within: Duration::from_hours(720),
        },
        Pressure {
            limits,
            at_once: 64,
        },
    );
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let refresher = Refresher::new(
        store,
        Arc::new(secrets),
        vec![issuer],
        clock,
        Metrics::default(),
    );
    Arc::new(refresher)
}

fn config() -> VaultConfig {
    let json = json!({
        "version": 1,
        "vault": {"namespace": "auth", "name": "bench"},
        "issuers": [{"name": "issuer", "kind": "OIDC", "issuer": ISSUER, "clientId": "client",
            "clientSecret": "secret", "rotation": {"type": "never"}, "requestsPerSecond": 20}],
        "consumers": [{"namespace": "ml", "serviceAccount": "app", "resourceServers": ["transfer.api.globus.org"]}],
        "refresh": {"keepAliveSeconds": 2_592_000, "maxConcurrentPerIssuer": 8},
        "logLevel": "error"
    });
    VaultConfig::parse(json.to_string().as_bytes()).expect("a configuration")
}

fn caller() -> Caller {
    Caller {
        namespace: "ml".to_owned(),
        service_account: "app".to_owned(),
        pod: "pod".to_owned(),
    }
}

/// Reads of one core: of a thousand users in turn, whose tokens were given out a moment ago.
async fn reads(world: &World, say: &mut impl FnMut(String)) {
    let refresher = Arc::clone(&world.refresher);
    let now = refresher.now();
    let vault = Vault::new(config(), Arc::clone(&refresher), vec![], Metrics::default());
    let caller = caller();
    let mut requests = Vec::new();
    for n in 0..1000 {
        let later = now + Duration::from_hours(24);
        let grant = world.grant("ml/app", format!("reader-{n}"), later);
        let handle = format!("handle-{n}");
        let name = digest(handle.as_bytes());
        let session = SessionRow {
            digest: name,
            login: name,
            tenant: "ml/app".to_owned(),
            user: grant.owner.user.clone(),
            pod: Some("pod".to_owned()),
            ends_at: later,
        };
        refresher
            .store()
            .insert_all(&[grant])
            .await
            .expect("a store");
        refresher
            .store()
            .add_session(&session)
            .await
            .expect("a store");
        requests.push(TokenRequest {
            handle: handle.into(),
            resource_server: "transfer.api.globus.org".to_owned(),
            scopes: vec![],
            rejected: None,
            subject_token: None,
        });
    }
    let ask = async |request| {
        let answer = vault.token(&caller, request).await.expect("an answer");
        assert!(matches!(answer, TokenAnswer::Token(_)), "{answer:?}");
    };
    let begin = Instant::now();
    for request in &requests {
        ask(request).await;
    }
    let first = 1000.0 / begin.elapsed().as_secs_f64();
    let (begin, mut asked) = (Instant::now(), 0_u32);
    while begin.elapsed() < Duration::from_millis(1500) {
        for request in &requests {
            ask(request).await;
        }
        asked += 1000;
    }
    let again = f64::from(asked) / begin.elapsed().as_secs_f64();
    say(format!(
        "token reads in process, one core: {again:.0}/s from memory, {first:.0}/s from SQLite"
    ));
}

async fn refreshes(world: &World, say: &mut impl FnMut(String)) {
    let now = world.refresher.now();
    world
        .insert(0, 5000, now.saturating_sub(Duration::from_secs(1)))
        .await;
    let issuer = world.refresher.issuers().first().expect("an issuer");
    let (begin, mut done) = (Instant::now(), 0_u32);
    loop {
        let begun = world.refresher.round(issuer).await;
        if begun.is_empty() {
            break;
        }
        for refresh in begun {
            refresh.await.expect("a refresh");
            done += 1;
        }
    }
    let rate = f64::from(done) / begin.elapsed().as_secs_f64();
    say(format!(
        "refreshes against an issuer that answers at once, SQLite with every commit on the disk: {rate:.0}/s"
    ));
}

/// Finding a hundred grants that are due among `total`, and beginning anew.
async fn size(world: &mut World, total: u64, say: &mut impl FnMut(String)) {
    let store = world.refresher.store();
    let before: u64 = store
        .counts()
        .await
        .expect("a store")
        .iter()
        .map(|(_, n)| n)
        .sum();
    let later = world.refresher.now() + Duration::from_hours(1000);
    world
        .insert(1_000_000_000 + before, 1_000_000_000 + total - 100, later)
        .await;
    let now = world.refresher.now();
    let base = 2_000_000_000 + total;
    world.insert(base, base + 100, now).await;
    let begin = Instant::now();
    let mut found = 0;
    for _ in 0..100 {
        let due = world.refresher.store().due(ISSUER, now, 1000).await;
        found = due.expect("a store").len();
    }
    let due = begin.elapsed() / 100;
    world.refresher.store().close().await;
    let begin = Instant::now();
    world.refresher = refresher(&world.folder, &world.keys).await;
    let start = begin.elapsed();
    let file = std::fs::metadata(world.folder.join("vault.db")).expect("a file");
    say(format!(
        "{total} grants: {:.0} bytes each on disk, ready {:.1} ms after the start, {:.2} ms to find the {found} \
         that are due, {:.0} MiB resident",
        file.len() as f64 / total as f64,
        start.as_secs_f64() * 1000.0,
        due.as_secs_f64() * 1000.0,
        resident()
    ));
}

/// In MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}

fn main() {
    let most = std::env::args().find_map(|text| text.parse().ok());
    let most: u64 = most.unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let mut say = |line: String| {
        writeln!(std::io::stdout(), "{line}").unwrap_or_default();
    };
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new().await;
        reads(&world, &mut say).await;
        refreshes(&world, &mut say).await;
        for total in [10_000, 100_000, 1_000_000] {
            if total <= most {
                size(&mut world, total, &mut say).await;
            }
        }
    });
}
