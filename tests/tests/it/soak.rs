//! A short version of `make soak`.

use std::time::Duration;

use globus_auth_tests::soak;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_abused_for_a_while_is_as_it_was() {
    let report = soak::run(Duration::from_secs(15)).await;
    assert_eq!(report.problems(), Vec::<String>::new(), "{report}");
    assert!(report.outcomes.len() > 10, "{report}");
}
