//! Files that the programs themselves wrote (`tests/imports/make.py`).

use globus_auth_core::vault_config::VaultConfig;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::envelope::Field;
use crate::keyring::SecretKeys;
use crate::keyring::tests::keys_json;
use crate::store::tests::{Folder, scratch};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/imports/files/", $name))
    };
}

const NOW: Moment = Moment::from_hours(500_000);
const TRANSFER: &str = "transfer.api.globus.org";
const COMPUTE: &str = "funcx_service";
const ALICE: &str = "a5b3a1c2-0000-4000-8000-000000000001";

fn config() -> VaultConfig {
    let json = json!({
        "version": 1,
        "vault": {"namespace": "auth", "name": "alcf"},
        "issuers": [{"name": "globus", "kind": "Globus", "issuer": "https://auth.globus.org",
            "clientId": "id", "clientSecret": "secret", "rotation": {"type": "never"}, "requestsPerSecond": 20}],
        "consumers": [{"namespace": "ml", "serviceAccount": "app",
            "resourceServers": [TRANSFER, COMPUTE, "uploaded", "keyed", "over"]}],
        "refresh": {"keepAliveSeconds": 2_592_000, "maxConcurrentPerIssuer": 8},
        "logLevel": "info"
    });
    VaultConfig::parse(json.to_string().as_bytes()).unwrap()
}

fn target() -> Target {
    Target {
        workload: ("ml".to_owned(), "app".to_owned()),
        issuer: None,
        user: Some(ALICE.to_owned()),
        users: BTreeMap::from([("ALICE@example.org".to_owned(), ALICE.to_owned())]),
        services: BTreeMap::from([("transfer".to_owned(), TRANSFER.to_owned())]),
    }
}

struct World {
    store: Store,
    secrets: Secrets,
    _folder: Folder,
}

impl World {
    async fn new(name: &str) -> Self {
        let (store, folder) = scratch(&format!("import-{name}")).await;
        let keys = SecretKeys::parse(&keys_json("k1", &[("k1", 1)])).unwrap();
        let secrets = Secrets::open_store(&store, &keys).await.unwrap();
        Self {
            store,
            secrets,
            _folder: folder,
        }
    }

    async fn import(&self, bytes: &[u8], key: Option<&[u8]>, dry_run: bool) -> Vec<String> {
        let key = key.map(|key| SecretString::from(std::str::from_utf8(key).unwrap()));
        let rows = file::read(bytes, key.as_ref()).await.unwrap();
        let parts = (&self.store, &self.secrets);
        let lines = import(rows, &target(), &config(), parts, NOW, dry_run).await;
        let mut lines: Vec<String> = lines.unwrap().iter().map(ToString::to_string).collect();
        lines.sort();
        assert!(!lines.join("\n").contains("canary"));
        lines
    }

    /// The access and the refresh token that the vault has now.
    async fn tokens(&self, resource: &str) -> Option<(String, Option<String>)> {
        let user = User {
            issuer: "https://auth.globus.org".to_owned(),
            subject: ALICE.to_owned(),
        };
        let grants = self.store.grants_of("ml/app", &user).await.unwrap();
        let grant = grants
            .into_iter()
            .find(|grant| grant.owner.resource == resource)?;
        let [access, refresh] = [Field::AccessToken, Field::RefreshToken].map(|field| {
            let opened = self.secrets.open(&grant, field).unwrap();
            opened.map(|token| token.expose_secret().to_owned())
        });
        Some((access.unwrap(), refresh))
    }
}

/// Scenario 32: of each store, one grant for each resource server, with the name that the token itself has.
#[rstest]
#[case::sdk(fixture!("sdk-tokens.json"), "sdk")]
#[case::sdk_sqlite(fixture!("sdk-storage.db"), "sdk")]
#[case::sdk_first_format(fixture!("sdk-v1.json"), "v1")]
#[case::fair_research_login(fixture!("fair-research-login.cfg"), "frl")]
#[case::fair_research_login_json(fixture!("fair-research-login.json"), "frljson")]
#[case::gladier(fixture!("gladier.cfg"), "gladier")]
#[case::gladier_sqlite(fixture!("gladier.db"), "gladierdb")]
#[tokio::test]
async fn the_tokens_of_one_user_become_grants(#[case] bytes: &[u8], #[case] prefix: &str) {
    let world = World::new(&format!("{prefix}-{}", bytes.len())).await;
    let expected = [
        format!("imported {ALICE:?} {COMPUTE:?}"),
        format!("imported {ALICE:?} {TRANSFER:?}"),
    ];
    assert_eq!(world.import(bytes, None, true).await, expected);
    assert_eq!(world.tokens(TRANSFER).await, None);
    assert_eq!(world.import(bytes, None, false).await, expected);
    let access = |n: u32| format!("canary-{prefix}-access-{n}");
    let refresh = Some(format!("canary-{prefix}-refresh"));
    assert_eq!(world.tokens(TRANSFER).await, Some((access(0), refresh)));
    assert_eq!(world.tokens(COMPUTE).await, Some((access(1), None)));
    assert_eq!(world.store.verify_audit().await.unwrap(), Ok(2));
}

#[tokio::test]
async fn of_several_files_what_is_good_for_longer_wins() {
    let world = World::new("newest").await;
    world.import(fixture!("sdk-tokens.json"), None, false).await;
    let again = world
        .import(fixture!("fair-research-login.cfg"), None, false)
        .await;
    assert!(
        again.iter().all(|line| line.contains("good for longer")),
        "{again:?}"
    );
    let newer = world.import(fixture!("gladier.cfg"), None, false).await;
    assert!(
        newer.iter().all(|line| line.starts_with("merged")),
        "{newer:?}"
    );
    let (access, _) = world.tokens(TRANSFER).await.unwrap();
    assert_eq!(access, "canary-gladier-access-0");
}

/// Scenario 11: both forms of the key; counts, owners and ends are those of the file.
#[rstest]
#[case::fernet(fixture!("atlas-fernet.enc"), fixture!("atlas-fernet.key"))]
#[case::passphrase(fixture!("atlas-passphrase.enc"), fixture!("atlas-passphrase.key"))]
#[tokio::test]
async fn the_tokens_of_atlas_are_those_of_the_users_that_are_mapped(
    #[case] bytes: &[u8],
    #[case] key: &[u8],
) {
    let world = World::new(&format!("atlas-{}", key.len())).await;
    let lines = world.import(bytes, Some(key), false).await;
    let starts = [
        format!("imported \"alice@example.org\" {TRANSFER:?}"),
        "imported \"alice@example.org\" \"uploaded\"".to_owned(),
        "refused  \"alice@example.org\" \"keyed\": not a bearer token".to_owned(),
        "refused  \"alice@example.org\" \"over\": it has expired".to_owned(),
        format!("refused  \"bob@example.org\" {TRANSFER:?}: nobody has said"),
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(&starts) {
        assert!(line.starts_with(start), "{line} is not {start}");
    }
    let refresh = Some("canary-atlas-refresh".to_owned());
    let expected = ("canary-atlas-access".to_owned(), refresh);
    assert_eq!(world.tokens(TRANSFER).await, Some(expected));
    let user = User {
        issuer: "https://auth.globus.org".to_owned(),
        subject: ALICE.to_owned(),
    };
    let grants = world.store.grants_of("ml/app", &user).await.unwrap();
    let uploaded = grants
        .iter()
        .find(|grant| grant.owner.resource == "uploaded")
        .unwrap();
    assert_eq!((uploaded.kind, uploaded.due_at), (Kind::Manual, None));
    let transfer = grants
        .iter()
        .find(|grant| grant.owner.resource == TRANSFER)
        .unwrap();
    assert_eq!(transfer.access_expires_at, Moment::from_hours(1_139_568));
    assert_eq!(transfer.scopes, ["transfer:all", "offline"]);
}

#[rstest]
#[case::wrong_key(fixture!("atlas-fernet.enc"), Some("another passphrase, of 32 characters"), "does not open with this key")]
#[case::no_key(fixture!("atlas-fernet.enc"), None, "is encrypted")]
#[case::nothing(b"", None, "none of those")]
#[case::a_page(b"<html>", None, "none of those")]
#[case::another_json(b"{\"tokens\": [\"canary\"]}", None, "none of those")]
#[case::a_token_without_access(b"[tokens]\nr__scope = canary\n", None, "none of those")]
#[case::another_database(b"SQLite format 3\0canary", None, "cannot be read")]
#[tokio::test]
async fn what_cannot_be_read_is_told_and_not_shown(
    #[case] bytes: &[u8],
    #[case] key: Option<&str>,
    #[case] expected: &str,
) {
    let key = key.map(SecretString::from);
    let error = file::read(bytes, key.as_ref()).await.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn who_is_not_allowed_or_is_another_user_gets_nothing() {
    let world = World::new("refused").await;
    for (change, reason) in [
        (
            Target {
                workload: ("ml".to_owned(), "other".to_owned()),
                ..target()
            },
            Refusal::NotAllowed,
        ),
        (
            Target {
                user: Some("somebody else".to_owned()),
                ..target()
            },
            Refusal::UnknownUser,
        ),
    ] {
        let rows = file::read(fixture!("sdk-tokens.json"), None).await.unwrap();
        let parts = (&world.store, &world.secrets);
        let lines = import(rows, &change, &config(), parts, NOW, false)
            .await
            .unwrap();
        assert!(
            lines
                .iter()
                .all(|line| line.outcome == Outcome::Refused(reason)),
            "{lines:?}"
        );
    }
    let nowhere = Target {
        issuer: Some("missing".to_owned()),
        ..target()
    };
    let parts = (&world.store, &world.secrets);
    let error = import(vec![], &nowhere, &config(), parts, NOW, false)
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("globus"), "{error}");
}
