//! The attacks that need nothing but an address, carried out at our sidecar.

use globus_auth_core::sidecar_config::{PathMatch, PublicRoute};
use globus_auth_tests::attacks::{ATTACKS, Attack, Target};
use globus_auth_tests::harness::Stage;
use globus_auth_tests::harness::sidecar::{EXTERNAL_URL, SESSION_COOKIE};
use globus_auth_tests::harness::stage::ALICE;

async fn stage() -> (Stage, Target) {
    let public = PublicRoute {
        path: "/public".to_owned(),
        path_match: PathMatch::Prefix,
        methods: vec!["GET".to_owned(), "HEAD".to_owned()],
    };
    let setup = Stage::setup().config(|config| config.access.public.push(public));
    let stage = setup.start().await;
    let alice = stage.logged_in(ALICE).await;
    let target = Target {
        url: EXTERNAL_URL.parse().unwrap(),
        address: stage.sidecar.address(),
        cookie: SESSION_COOKIE.to_owned(),
        session: alice.cookie(SESSION_COOKIE).unwrap(),
        public: "/public".to_owned(),
        secrets: stage.sidecar.secrets().clone(),
    };
    (stage, target)
}

async fn withstands(name: &str) {
    let attack = Attack::named(name).expect("an attack");
    let (stage, target) = stage().await;
    let outcome = attack.carry_out(&target).await;
    assert_eq!(outcome, Ok(()));
    // Whatever was sent: no request panicked, and every line of the log is one.
    assert_eq!(
        stage
            .sidecar
            .metric("decisions_total{decision=\"error\"}")
            .await,
        0
    );
    for event in stage.sidecar.events() {
        let level = event["level"].as_str().unwrap_or_default();
        assert_ne!(level, "ERROR", "{event}");
    }
}

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                withstands(stringify!($name)).await;
            }
        )*

        #[test]
        fn every_attack_is_carried_out() {
            let tested = [$(stringify!($name)),*];
            let known: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
            assert_eq!(tested[..], known[..]);
        }
    };
}

tests! {
    the_public_path_itself_is_public,
    nothing_but_the_path_makes_a_path_public,
    a_path_that_servers_read_differently_is_not_public,
    a_target_in_another_form_is_not_public,
    a_method_that_is_not_named_is_not_public,
    what_was_decided_on_is_what_is_forwarded,
    a_pseudo_header_makes_nothing_public,
    addresses_and_names_that_a_client_claims_do_not_count,
    an_identity_that_a_client_claims_reaches_nobody,
    an_identity_on_a_public_path_reaches_nobody,
    a_connection_header_removes_no_identity,
    a_trailer_claims_no_identity,
    a_probe_by_its_user_agent_is_anybody,
    metrics_and_debugging_are_not_on_the_public_listener,
    a_sign_out_leads_nobody_away,
    a_login_leads_nobody_away,
    a_header_leads_nobody_away,
    addresses_of_our_own_are_kept,
    a_session_that_was_cut_anywhere_is_none,
    a_session_with_another_character_anywhere_is_none,
    a_session_by_another_name_is_none,
    a_session_in_pieces_or_twice_over_is_none,
    an_endless_cookie_is_none,
    a_request_with_two_lengths_hides_no_other,
    a_malformed_request_is_refused,
    a_hidden_request_is_authenticated_by_itself,
    an_upgrade_needs_a_session,
    h2c_is_not_switched_to,
    headers_without_end_are_refused,
    a_body_without_end_is_not_waited_for,
    an_expectation_is_not_met_before_authentication,
    nothing_that_was_sent_is_reflected,
}
