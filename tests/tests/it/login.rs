//! Logging in, as a person does and as attackers would like to.

use globus_auth_tests::harness::Stage;
use globus_auth_tests::harness::stage::ALICE;

#[tokio::test]
async fn a_person_without_script_logs_in_and_reaches_the_page_asked_for() {
    let stage = Stage::start().await;
    let page = stage.browser().log_in("/deep?x=1", ALICE).await;
    assert_eq!(page.status, 200);
    let seen = page.reflection();
    assert_eq!(seen.target, "/deep?x=1");
    assert_eq!(
        seen.values("x-forwarded-email").collect::<Vec<_>>(),
        [ALICE]
    );
}
