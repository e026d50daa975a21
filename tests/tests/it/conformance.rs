//! The conformance suite, asked of our sidecar.

use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use globus_auth_tests::conformance::{
    self, CHECKS, Controls, Dialect, Order, Outcome, Skipped, Subject, TokenKind, Verdict,
};
use globus_auth_tests::globus::MintRequest;
use globus_auth_tests::harness::Stage;
use globus_auth_tests::harness::sidecar::{CLIENT_ID, EXTERNAL_URL, SESSION_COOKIE, addresses};
use globus_auth_tests::harness::stage::{ALICE, MALLORY};

/// The stage does what is ordered.
struct OnStage(Stage);

impl Controls for OnStage {
    fn carry_out(&mut self, order: Order) -> LocalBoxFuture<'_, Result<String, Skipped>> {
        Box::pin(async move {
            match order {
                Order::Allow(entries) => self.allow(&entries).await,
                Order::BreakAllowlist => self.0.sidecar.write(b"{ this is no configuration"),
                Order::Token(kind) => return Ok(self.token(kind)),
                Order::StopUpstream => self.0.stop_upstream().await,
                Order::StartUpstream => self.0.start_upstream().await,
            }
            Ok(String::new())
        })
    }
}

impl OnStage {
    async fn allow(&mut self, entries: &[String]) {
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let change = addresses(&entries);
        self.0
            .sidecar
            .reconfigure(|config| config.access.emails = change)
            .await;
    }

    fn token(&self, kind: TokenKind) -> String {
        let order = MintRequest::new(ALICE, CLIENT_ID);
        match kind {
            TokenKind::Opaque => self.0.token_of(ALICE),
            TokenKind::Foreign => self.0.mint(&MintRequest::new(ALICE, "other-service")),
            TokenKind::Expired => {
                let order = MintRequest {
                    lifetime_seconds: Some(1),
                    ..order
                };
                let token = self.0.mint(&order);
                self.0.globus().advance(2);
                token
            }
        }
    }
}

async fn outcomes() -> Vec<Outcome> {
    let stage = Stage::start().await;
    let (address, secrets): (SocketAddr, _) =
        (stage.sidecar.address(), stage.sidecar.secrets().clone());
    let controls = Box::new(OnStage(stage));
    let subject = Subject::new(
        EXTERNAL_URL,
        address,
        SESSION_COOKIE,
        [ALICE, MALLORY],
        controls,
        secrets,
    );
    conformance::run(Rc::new(subject), Dialect::GlobusAuth, |_| {}).await
}

#[tokio::test]
async fn our_sidecar_answers_as_the_table_says() {
    let outcomes = outcomes().await;
    let failures: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.is_failure())
        .map(Outcome::to_string)
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    // What is not built yet, and nothing else, is not asked.
    let skipped: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Skipped(_)))
        .map(|outcome| outcome.check.name)
        .collect();
    assert_eq!(skipped, ["38"]);
    assert_eq!(outcomes.len(), CHECKS.len());
}
