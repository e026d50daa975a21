//! Jobs that act for users who are away.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use globus_auth_core::sidecar_config::{Delegation, Vault};
use globus_auth_core::vault_api::{
    DELEGATE, DELEGATED_TOKENS, DelegateRequest, DelegatedTokenRequest,
};
use globus_auth_tests::harness::Sidecar;

use super::*;

/// A pod of jobs.
const JOB: Pod = Pod {
    namespace: "ml",
    service_account: "jobs",
    uid: "pod-4",
};

/// A workload that lets users delegate a token to [`JOB`], which the vault allows for 7 days.
async fn stage(access_token_lifetime_seconds: u32) -> Stage {
    Stage::setup()
        .globus(move |globus| globus_auth_tests::globus::Config {
            access_token_lifetime_seconds,
            ..globus
        })
        .vault(|_upstream| {
            vec![DeliveredToken {
                header: Some("X-Token-Alcf".to_owned()),
                delegation: Some(Delegation {
                    service_account: JOB.service_account.to_owned(),
                    days: 3,
                }),
                ..token("alcf", OTHER_SERVICE, OTHER_SCOPE)
            }]
        })
        .vault_config(|config| {
            let jobs = Consumer {
                service_account: JOB.service_account.to_owned(),
                delegation_days: Some(7),
                ..config.consumers[0].clone()
            };
            config.consumers.push(jobs);
        })
        .start()
        .await
}

/// The sidecar of a job, with its folder of tokens.
struct Job {
    sidecar: Sidecar,
    folder: PathBuf,
}

impl Drop for Job {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Job {
    async fn start(stage: &Stage, on_behalf_of: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("globus-auth-job-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let mut config = globus_auth_tests::harness::sidecar::config(stage.globus().issuer(), &[]);
        config.vault = Some(Vault {
            url: stage.vault().url(),
            certificate_authorities: stage.vault().authority().to_owned(),
            tokens: vec![DeliveredToken {
                file: Some("alcf.token".to_owned()),
                ..token("alcf", OTHER_SERVICE, OTHER_SCOPE)
            }],
            bearer_tokens: None,
        });
        let options = [
            format!("--vault-token={}", stage.vault().identity_token(JOB)),
            "--outbound-port=0".to_owned(),
            format!("--token-folder={}", folder.display()),
            format!("--on-behalf-of={on_behalf_of}"),
        ];
        let secrets = stage.sidecar.secrets().clone();
        let sidecar = Sidecar::launch(config, 9, &options, secrets).await;
        Self { sidecar, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("alcf.token")
    }

    /// Whether its containers may start, in the words that the kubelet shows.
    async fn started(&self) -> Result<(), String> {
        let answer = self.sidecar.ask_admin("/startupz").await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    }

    async fn waits_because(&self, reason: &str) {
        eventually("a job to say what it waits for", async || {
            let said = self.started().await.err()?;
            said.contains(reason).then_some(())
        })
        .await;
        assert!(!self.file().exists());
    }

    async fn has_token(&self) -> String {
        eventually("a file with a token", async || {
            self.started().await.ok()?;
            std::fs::read_to_string(self.file()).ok()
        })
        .await
    }
}

/// What the page says whom a job has to name.
async fn subject(alice: &Browser) -> String {
    let text = alice.open("/oauth2/connections").send().await.text();
    let (_, rest) = text
        .split_once("globus-auth.dev/on-behalf-of: ")
        .expect("a subject");
    rest.split('<').next().unwrap().trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_job_has_a_fresh_token_of_a_user_who_is_away_until_they_take_it_back() {
    let stage = stage(2).await;
    let alice = stage.logged_in(ALICE).await;
    let job = Job::start(&stage, &subject(&alice).await).await;
    job.waits_because("has not let its ServiceAccount act for them")
        .await;

    let page = alice.open("/oauth2/connections").send().await;
    let given = alice.press(&page, "Let").await;
    assert_eq!(given.status, StatusCode::SEE_OTHER, "{}", given.text());
    let first = job.has_token().await;
    assert_eq!(mode(&job.file()), 0o400);
    let issued = stage.globus().issued();
    let one = issued.iter().find(|one| one.token == first).unwrap();
    assert_eq!(
        (one.username.as_deref(), &*one.resource_server),
        (Some(ALICE), OTHER_SERVICE)
    );

    // The user leaves, and the job goes on over several lifetimes of the token.
    alice.post("/oauth2/sign_out", "").send().await;
    let mut seen = std::collections::BTreeSet::from([first]);
    eventually("three tokens, one after the other", async || {
        seen.insert(std::fs::read_to_string(job.file()).ok()?);
        (seen.len() == 3).then_some(())
    })
    .await;

    let page = alice.log_in("/oauth2/connections", ALICE).await;
    let page = if page.url.path() == "/oauth2/connections" {
        page
    } else {
        alice.open("/oauth2/connections").send().await
    };
    assert!(
        page.text().contains("for another 2 days"),
        "{}",
        page.text()
    );
    alice.press(&page, "Stop").await;
    job.waits_because("has not let its ServiceAccount act for them")
        .await;
    assert_eq!(std::fs::read_dir(&job.folder).unwrap().count(), 0);
}

#[tokio::test]
async fn a_user_who_disconnects_a_service_stops_its_jobs() {
    let stage = stage(3600).await;
    let alice = stage.logged_in(ALICE).await;
    let page = alice.open("/oauth2/connections").send().await;
    alice.press(&page, "Let").await;
    let subject = subject(&alice).await;
    assert!(delegated(&stage, JOB, &subject).await.is_ok());
    let page = alice.open("/oauth2/connections").send().await;
    alice.press(&page, "Disconnect").await;
    assert_eq!(
        delegated(&stage, JOB, &subject).await,
        Err(StatusCode::FORBIDDEN)
    );
}

/// "No such user", "not for you" and "not any more" are one answer.
#[tokio::test]
async fn nobody_acts_for_a_user_who_did_not_say_so() {
    let stage = stage(3600).await;
    let alice = stage.logged_in(ALICE).await;
    let subject = subject(&alice).await;
    let forbidden = Err(StatusCode::FORBIDDEN);
    assert_eq!(delegated(&stage, JOB, &subject).await, forbidden);
    let page = alice.open("/oauth2/connections").send().await;
    alice.press(&page, "Let").await;
    assert!(delegated(&stage, JOB, &subject).await.is_ok());
    assert_eq!(delegated(&stage, JOB, "nobody").await, forbidden);
    // The workload itself, and another one, have no such delegation.
    assert_eq!(delegated(&stage, POD, &subject).await, forbidden);
    assert_eq!(delegated(&stage, OTHER_WORKLOAD, &subject).await, forbidden);
}

async fn delegated(stage: &Stage, pod: Pod, subject: &str) -> Result<(), StatusCode> {
    let request = DelegatedTokenRequest {
        issuer: stage.globus().issuer().to_owned(),
        subject: subject.to_owned(),
        resource_server: OTHER_SERVICE.to_owned(),
        scopes: vec![OTHER_SCOPE.to_owned()],
    };
    let answer: Result<TokenAnswer, _> = stage.vault().ask(pod, DELEGATED_TOKENS, &request).await;
    match answer {
        Ok(TokenAnswer::Token(_)) => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err((status, _)) => Err(status),
    }
}

#[rstest]
#[case::as_long_as_is_asked_for("jobs", 2, Some(2))]
#[case::no_longer_than_the_vault_allows("jobs", 300, Some(7))]
#[case::not_to_whom_the_vault_does_not_name("other", 2, None)]
#[case::not_to_a_workload_that_only_serves("app", 2, None)]
#[case::not_to_another_namespace("../x/jobs", 2, None)]
#[tokio::test]
async fn the_vault_says_to_whom_and_for_how_long_users_delegate(
    #[case] service_account: &str,
    #[case] days: u32,
    #[case] expected: Option<u64>,
) {
    let stage = stage(3600).await;
    let session = log_in(&stage, POD, ALICE).await.unwrap();
    let request = DelegateRequest {
        handle: handle_of(&stage, POD, &session).await.unwrap().into(),
        resource_server: OTHER_SERVICE.to_owned(),
        service_account: service_account.to_owned(),
        days,
    };
    let given: Result<globus_auth_core::vault_api::Delegation, _> =
        stage.vault().ask(POD, DELEGATE, &request).await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let days = given
        .map(|given| (given.expires_at - now + 3600) / 86_400)
        .ok();
    assert_eq!(days, expected);
}
