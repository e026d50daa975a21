//! What both databases must do.

mod postgresql;

use std::path::PathBuf;

use globus_auth_core::oauth::globus::requirements::SessionRequirements;
use rstest::rstest;

use super::*;
use crate::grant::{Kind, Reason, SealedTokens, digest};
use crate::progress::{Attempt, Progress};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Database {
    SQLite,
    PostgreSQL,
}

/// A database of its own.
pub(crate) async fn scratch(name: &str) -> (Store, Folder) {
    scratch_in(Database::SQLite, name).await
}

/// A database of its own, of a kind.
pub(crate) async fn scratch_in(database: Database, name: &str) -> (Store, Folder) {
    let folder = Folder::new(database, name).await;
    let store = Store::open(&folder.url()).await.unwrap();
    (store, folder)
}

/// Where a database lies. What is in a folder goes with the test.
pub(crate) struct Folder {
    url: String,
    path: Option<PathBuf>,
}

impl Folder {
    async fn new(database: Database, name: &str) -> Self {
        let name = format!("globus-auth-vault-{}-{name}", std::process::id());
        match database {
            Database::SQLite => {
                let path = std::env::temp_dir().join(name);
                drop(std::fs::remove_dir_all(&path));
                std::fs::create_dir_all(&path).unwrap();
                Self {
                    url: format!("sqlite:{}", path.join("vault.db").display()),
                    path: Some(path),
                }
            }
            Database::PostgreSQL => Self {
                url: postgresql::database(&name).await,
                path: None,
            },
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(std::fs::remove_dir_all(path));
        }
    }
}

pub(crate) fn grant(tenant: &str, subject: &str, resource: &str) -> Grant {
    Grant {
        id: format!("{tenant}-{subject}-{resource}"),
        owner: Owner {
            tenant: tenant.to_owned(),
            user: User {
                issuer: "https://auth.globus.org".to_owned(),
                subject: subject.to_owned(),
            },
            issuer: "https://auth.globus.org".to_owned(),
            client_id: "client".to_owned(),
            resource: resource.to_owned(),
        },
        kind: Kind::AuthorizationCode,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        consented: vec!["a".to_owned()],
        state: State::Active,
        reason: Some(Reason::InvalidGrant),
        requirements: SessionRequirements {
            session_required_mfa: true,
            ..SessionRequirements::default()
        },
        progress: Progress {
            version: 1,
            token: Some(digest(b"rt")),
            parent: Some(digest(b"parent")),
            sent_at: Moment::from_millis(1_500),
            attempt: Some(Attempt {
                token: digest(b"rt"),
                started_at: Moment::from_millis(2_500),
                tries: 3,
            }),
            lease_until: Moment::ZERO,
        },
        tokens: SealedTokens {
            key_id: "k1".to_owned(),
            refresh: Some(b"sealed refresh".to_vec()),
            access: Some(b"sealed access".to_vec()),
        },
        authenticated_at: Moment::from_secs(9),
        issued_at: Moment::from_secs(10),
        access_expires_at: Moment::from_secs(20),
        due_at: Some(Moment::from_secs(15)),
        used_at: Moment::from_secs(11),
        failures: 2,
        failing_since: Some(Moment::from_secs(12)),
        account: Some("alice@storage.test".to_owned()),
    }
}

#[rstest]
#[tokio::test]
async fn what_is_written_is_read(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "read").await;
    let written = grant("ml/app", "alice", "r");
    assert!(store.insert(&written).await.unwrap());
    assert_eq!(
        store.grant(&written.id).await.unwrap(),
        Some(written.clone())
    );
    assert_eq!(
        store.find(&written.owner).await.unwrap(),
        Some(written.clone())
    );
    let bare = Grant {
        reason: None,
        requirements: SessionRequirements::default(),
        progress: Progress {
            version: 2,
            token: None,
            parent: None,
            attempt: None,
            ..written.progress
        },
        tokens: SealedTokens {
            key_id: "k2".to_owned(),
            refresh: None,
            access: None,
        },
        due_at: None,
        failing_since: None,
        account: None,
        ..written
    };
    assert!(store.replace(&bare, 1).await.unwrap());
    assert_eq!(store.grant(&bare.id).await.unwrap(), Some(bare));
}

#[rstest]
#[tokio::test]
async fn an_owner_has_one_grant(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "owner").await;
    let first = grant("ml/app", "alice", "r");
    assert!(store.insert(&first).await.unwrap());
    let second = Grant {
        id: "another".to_owned(),
        ..first.clone()
    };
    assert!(!store.insert(&second).await.unwrap());
    assert_eq!(store.find(&first.owner).await.unwrap(), Some(first));
}

#[rstest]
#[tokio::test]
async fn only_one_of_many_replaces_a_version(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "cas").await;
    let before = grant("ml/app", "alice", "r");
    store.insert(&before).await.unwrap();
    let attempts = (0..16_u32).map(|failures| {
        let store = store.clone();
        let mut after = Grant {
            failures,
            ..before.clone()
        };
        after.progress.version = 2;
        tokio::spawn(async move { store.replace(&after, 1).await.unwrap() })
    });
    let mut winners = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        winners += u32::from(attempt.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[rstest]
#[tokio::test]
async fn a_grant_is_not_written_into_the_row_of_another(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "identity").await;
    let alice = grant("ml/app", "alice", "r");
    store.insert(&alice).await.unwrap();
    let mut stolen = Grant {
        owner: grant("ml/app", "bob", "r").owner,
        ..alice.clone()
    };
    stolen.progress.version = 2;
    assert!(!store.replace(&stolen, 1).await.unwrap());
    assert_eq!(store.grant(&alice.id).await.unwrap(), Some(alice));
}

#[rstest]
#[tokio::test]
async fn what_is_due_is_found_in_turn_and_nothing_else(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "due").await;
    let due = |tenant: &str, subject: &str, at: u64| Grant {
        due_at: Some(Moment::from_secs(at)),
        ..grant(tenant, subject, "r")
    };
    for grant in [
        due("crowd/app", "a", 1),
        due("crowd/app", "b", 2),
        due("crowd/app", "c", 3),
        due("single/app", "a", 9),
        due("late/app", "a", 11),
        Grant {
            due_at: None,
            ..grant("none/app", "a", "r")
        },
    ] {
        store.insert(&grant).await.unwrap();
    }
    let mut leased = due("leased/app", "a", 1);
    leased.progress.lease_until = Moment::from_secs(11);
    store.insert(&leased).await.unwrap();
    let found = |limit| store.due("https://auth.globus.org", Moment::from_secs(10), limit);
    assert_eq!(
        found(10).await.unwrap(),
        [
            "crowd/app-a-r",
            "single/app-a-r",
            "crowd/app-b-r",
            "crowd/app-c-r"
        ]
    );
    assert_eq!(found(2).await.unwrap(), ["crowd/app-a-r", "single/app-a-r"]);
    assert!(
        store
            .due("other", Moment::from_secs(10), 9)
            .await
            .unwrap()
            .is_empty()
    );
    let next = store.next_due("https://auth.globus.org").await.unwrap();
    assert_eq!(next, Some(Moment::from_secs(1)));
}

#[rstest]
#[tokio::test]
async fn grants_are_listed_by_user_and_key_and_counted_by_state(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "lists").await;
    for (tenant, subject, resource) in [
        ("ml/app", "alice", "r"),
        ("ml/app", "alice", "s"),
        ("ml/app", "bob", "r"),
        ("other/app", "alice", "r"),
    ] {
        store
            .insert(&grant(tenant, subject, resource))
            .await
            .unwrap();
    }
    let alice = grant("ml/app", "alice", "r").owner.user;
    let listed = store.grants_of("ml/app", &alice).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|grant| &*grant.owner.resource)
            .collect::<Vec<_>>(),
        ["r", "s"]
    );
    let key = |id: &str| KeyId::try_from(id.to_owned()).unwrap();
    assert_eq!(store.not_under(&key("k2"), 3).await.unwrap().len(), 3);
    assert_eq!(store.not_under(&key("k1"), 3).await.unwrap().len(), 0);
    assert_eq!(store.counts().await.unwrap(), [(State::Active, 4)]);
    assert_eq!(store.counts_by_key().await.unwrap(), [("k1".to_owned(), 4)]);
}

#[rstest]
#[tokio::test]
async fn a_seed_is_added_once(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "seeds").await;
    let id = KeyId::try_from("k1".to_owned()).unwrap();
    store.add_seed(&id, b"first".to_vec()).await.unwrap();
    store.add_seed(&id, b"second".to_vec()).await.unwrap();
    assert_eq!(store.seeds().await.unwrap(), [(id, b"first".to_vec())]);
}

#[rstest]
#[tokio::test]
async fn a_database_is_opened_again_with_all_that_is_in_it(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, folder) = scratch_in(database, "again").await;
    let written = grant("ml/app", "alice", "r");
    store.insert(&written).await.unwrap();
    store.pool.close().await;
    let again = Store::open(&folder.url()).await.unwrap();
    assert_eq!(again.grant(&written.id).await.unwrap(), Some(written));
}

#[rstest]
#[tokio::test]
async fn what_is_unused_is_found_and_removed_unless_somebody_uses_it_meanwhile(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "unused").await;
    for (subject, used) in [("alice", 10), ("bob", 20)] {
        let grant = Grant {
            used_at: Moment::from_secs(used),
            ..grant("ml/app", subject, "r")
        };
        store.insert(&grant).await.unwrap();
    }
    let unused = store.unused(Moment::from_secs(15), 9).await.unwrap();
    let [alice] = &unused[..] else {
        panic!("{unused:?}");
    };
    assert_eq!(alice.owner.user.subject, "alice");
    let mut used = alice.clone();
    used.progress.version += 1;
    assert!(store.replace(&used, 1).await.unwrap());
    assert!(!store.remove(&alice.id, 1).await.unwrap());
    assert!(store.remove(&alice.id, 2).await.unwrap());
    assert_eq!(store.grant(&alice.id).await.unwrap(), None);
}

/// A row that no vault wrote asks its user, whatever is wrong with it, and is noted; the others go on.
#[rstest]
#[tokio::test]
async fn a_row_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
    #[values(
        "state = 'fine'",
        "kind = ''",
        "reason = 'none'",
        "token_digest = substr(token_digest, 1, 31)",
        "attempt_digest = substr(attempt_digest, 1, 1)",
        "requirements = '{'",
        "failures = -1"
    )]
    damage: &str,
) {
    let column = damage.split(' ').next().unwrap();
    let name = format!("damage-{column}");
    let (store, _folder) = scratch_in(database, &name).await;
    let (damaged, good) = (grant("ml/app", "alice", "r"), grant("ml/app", "alice", "s"));
    for grant in [&damaged, &good] {
        store.insert(grant).await.unwrap();
    }
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE grants SET {damage} WHERE resource = 'r'"
    )))
    .execute(&store.pool)
    .await
    .unwrap();
    assert!(store.counts().await.is_ok());
    let found = store.grants_of("ml/app", &good.owner.user).await.unwrap();
    let [aside, untouched] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(*untouched, good);
    assert_eq!(aside.owner, damaged.owner);
    assert_eq!(
        (aside.state, aside.reason, aside.due_at),
        (
            State::NeedsReauthentication,
            Some(Reason::Corrupt),
            None::<Moment>
        )
    );
    assert_eq!(aside.tokens, damaged.tokens);
    // Once: then it can be read.
    assert_eq!(
        store.find(&damaged.owner).await.unwrap().as_ref(),
        Some(aside)
    );
    let entries = store.entries(0, 9).await.unwrap();
    let [(_, entry)] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (entry.action.as_str(), entry.resource.as_deref()),
        ("quarantine", Some("r"))
    );
}

/// A word that this vault does not know may be a newer one's, which serves beside it while it is rolled out.
#[rstest]
#[tokio::test]
async fn what_a_newer_vault_wrote_is_left_alone(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "newer").await;
    let written = grant("ml/app", "alice", "r");
    store.insert(&written).await.unwrap();
    for statement in [
        "UPDATE grants SET state = 'new'",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT version + 1, description, success, checksum, execution_time FROM _sqlx_migrations \
         ORDER BY version DESC LIMIT 1",
    ] {
        let executed = sqlx::query(statement).execute(&store.pool).await;
        executed.unwrap();
    }
    let read = store.find(&written.owner).await;
    assert!(matches!(read, Err(StoreError::Newer)), "{read:?}");
    let row = sqlx::query("SELECT state, version FROM grants")
        .fetch_one(&store.pool)
        .await
        .unwrap();
    let state: String = row.try_get("state").unwrap();
    assert_eq!(
        (state.as_str(), row.try_get("version").ok()),
        ("new", Some(1_i64))
    );
}

/// Only refresh tokens that are there, that work, and that came before.
#[rstest]
#[tokio::test]
async fn what_a_backup_brought_back_is_doubted(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "restored").await;
    let at = |resource: &str, sent_at: u64| {
        let mut grant = grant("ml/app", "alice", resource);
        grant.progress.sent_at = Moment::from_secs(sent_at);
        grant.progress.attempt = None;
        grant
    };
    let mut without_token = at("none", 1);
    without_token.progress.token = None;
    let mut of_another = at("other", 1);
    of_another.owner.client_id = "other".to_owned();
    let mut asked = at("asked", 1);
    asked.state = State::NeedsReauthentication;
    let others = [at("new", 10), without_token, of_another, asked];
    let old = at("old", 9);
    for grant in others.iter().chain([&old]) {
        store.insert(grant).await.unwrap();
    }
    let client = ("https://auth.globus.org", "client");
    let doubted = store.doubt(client, Moment::from_secs(10)).await.unwrap();
    assert_eq!(doubted, 1);
    for grant in &others {
        assert_eq!(
            store.find(&grant.owner).await.unwrap().as_ref(),
            Some(grant)
        );
    }
    let row = store.find(&old.owner).await.unwrap().unwrap();
    assert_eq!(row.progress.version, old.progress.version + 1);
    let now = Moment::from_secs(1_000);
    let rotation = crate::progress::Rotation::Grace(Duration::from_mins(5));
    assert_eq!(
        crate::progress::claim(&row.progress, rotation, now),
        crate::progress::Claim::Ambiguous
    );
}

fn flow(name: &[u8], login: &[u8], resource: &str) -> flows::Flow {
    flows::Flow {
        digest: digest(name),
        login: digest(login),
        owner: grant("ml/app", "alice", resource).owner,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        sealed: b"sealed".to_vec(),
        ends_at: Moment::from_secs(100),
        poll_at: Some(Moment::from_secs(10)),
        poll_interval: Moment::from_secs(5),
        is_refused: false,
    }
}

/// A flow ends once, in time, and with its login.
#[rstest]
#[tokio::test]
async fn a_flow_is_taken_once_and_ends_with_its_time_and_its_login(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "flows").await;
    let (first, late) = (flow(b"1", b"l", "r"), flow(b"2", b"l", "s"));
    for flow in [&first, &late] {
        store.begin_flow(flow).await.unwrap();
    }
    let now = Moment::from_secs(50);
    let login = digest(b"l");
    let found = store.flows_of(&login, now).await.unwrap();
    assert_eq!(found, [first.clone(), late.clone()]);
    assert_eq!(store.flows_of(&digest(b"m"), now).await.unwrap(), []);
    let takes = (0..8).map(|_| store.take_flow(&first.digest, now));
    let taken = futures_util::future::join_all(takes).await;
    let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken, [first]);
    let ended = store.take_flow(&late.digest, late.ends_at).await.unwrap();
    assert_eq!(ended, None);

    let row = sessions::SessionRow {
        digest: login,
        login,
        tenant: "ml/app".to_owned(),
        user: late.owner.user.clone(),
        pod: None,
        ends_at: Moment::from_secs(1000),
    };
    store.end_login(&row, now).await.unwrap();
    assert_eq!(store.flows_of(&login, now).await.unwrap(), []);
}

/// Whoever begins anew means the new one.
#[rstest]
#[tokio::test]
async fn a_login_has_one_flow_for_a_service(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "one-flow").await;
    let (old, new) = (flow(b"1", b"l", "r"), flow(b"2", b"l", "r"));
    let of_another = flow(b"3", b"m", "r");
    for flow in [&old, &of_another, &new] {
        store.begin_flow(flow).await.unwrap();
    }
    let now = Moment::from_secs(50);
    assert_eq!(store.flows_of(&digest(b"l"), now).await.unwrap(), [new]);
    let other = store.flows_of(&digest(b"m"), now).await.unwrap();
    assert_eq!(other, [of_another]);
}

/// One replica asks at a time, and no more after a no.
#[rstest]
#[tokio::test]
async fn an_issuer_is_asked_about_a_flow_by_one_replica_at_a_time(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    let (store, _folder) = scratch_in(database, "poll-flow").await;
    let browser = flows::Flow {
        poll_at: None,
        ..flow(b"1", b"l", "r")
    };
    let device = flow(b"2", b"l", "s");
    for flow in [&browser, &device] {
        store.begin_flow(flow).await.unwrap();
    }
    let at = Moment::from_secs;
    assert_eq!(store.flows_to_poll(at(9), 9).await.unwrap(), []);
    let due = store.flows_to_poll(at(10), 9).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&device));
    assert!(store.poll_flow(&device, Some(at(15))).await.unwrap());
    assert!(!store.poll_flow(&device, Some(at(16))).await.unwrap());
    assert_eq!(store.flows_to_poll(at(14), 9).await.unwrap(), []);
    let again = store.flows_to_poll(at(15), 9).await.unwrap();
    let refused = flows::Flow {
        is_refused: true,
        ..again[0].clone()
    };
    assert!(store.poll_flow(&refused, None).await.unwrap());
    assert_eq!(store.flows_to_poll(at(99), 9).await.unwrap(), []);
    let found = store.flows_of(&device.login, at(99)).await.unwrap();
    assert!(found.iter().any(|one| one.is_refused));
}

/// What the first version wrote is read by this one.
#[rstest]
#[tokio::test]
async fn a_database_of_the_first_version_goes_on(
    #[values(Database::SQLite, Database::PostgreSQL)] database: Database,
) {
    sqlx::any::install_default_drivers();
    let folder = Folder::new(database, "first-version").await;
    let (url, migrations) = match database {
        Database::SQLite => (format!("{}?mode=rwc", folder.url()), &SQLITE),
        Database::PostgreSQL => (folder.url(), &POSTGRESQL),
    };
    let pool = AnyPool::connect(&url).await.unwrap();
    migrations.run_to(1, &pool).await.unwrap();
    sqlx::query(
        "INSERT INTO grants (id, tenant, user_issuer, user_subject, issuer, client_id, resource, kind, scopes, \
         state, version, key_id, sent_at, issued_at, access_expires_at, lease_until, used_at, failures) VALUES \
         ('g', 'ml/app', 'i', 'alice', 'i', 'c', 'r', 'manual', 'a b', 'active', 1, 'k1', 0, 0, 9, 0, 0, 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let store = Store::open(&folder.url()).await.unwrap();
    let grant = store.grant("g").await.unwrap().unwrap();
    assert_eq!((grant.kind, grant.scopes.len()), (Kind::Manual, 2));
    assert!(grant.requirements.is_empty());
}
