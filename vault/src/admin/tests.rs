use globus_auth_core::clock::ManualClock;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_000_000);

fn admins(email_verification: &str) -> Admins {
    let config = json!({
        "issuer": "https://login.test", "audience": "vault-admin", "emailVerification": email_verification,
        "emails": ["root@example.org"], "groups": ["operators"], "groupsClaim": "groups",
    });
    let config = serde_json::from_value(config).unwrap();
    let http = HttpClient::with_system_roots().unwrap();
    Admins::new(config, http, Arc::new(ManualClock::at(NOW)))
}

fn person(admins: &Admins, more: &Value) -> Option<Person> {
    let mut claims = json!({"sub": "alice", "iat": NOW.0 - 3600});
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let claims = serde_json::from_value(claims).ok()?;
    admins.person(&claims, NOW)
}

#[rstest]
#[case::by_address(json!({"email": "root@example.org", "email_verified": true}), true)]
#[case::by_group(json!({"groups": ["users", "operators"]}), true)]
#[case::by_group_whatever_the_address(json!({"email": "a@b.test", "email_verified": true, "groups": ["operators"]}), true)]
#[case::neither(json!({"email": "alice@example.org", "email_verified": true, "groups": ["users"]}), false)]
#[case::nothing_said(json!({}), false)]
#[case::an_address_that_nobody_verified(json!({"email": "root@example.org"}), false)]
#[case::an_address_that_is_not_verified(json!({"email": "root@example.org", "email_verified": false}), false)]
#[case::a_group_as_an_address(json!({"email": "operators", "email_verified": true}), false)]
#[case::an_address_as_a_group(json!({"groups": ["root@example.org"]}), false)]
fn administrators_are_named(#[case] claims: Value, #[case] is_admin: bool) {
    let subject = "alice".to_owned();
    assert_eq!(
        person(&admins("Required"), &claims),
        Some(Person { subject, is_admin })
    );
}

#[test]
fn an_address_counts_unsaid_only_where_the_issuer_never_says_it() {
    let claims = json!({"email": "root@example.org"});
    assert!(person(&admins("IfPresent"), &claims).unwrap().is_admin);
}

#[rstest]
#[case::given_out_long_ago(json!({"iat": NOW.0 - 3601}))]
#[case::given_out_nobody_knows_when(json!({"iat": null}))]
#[case::nobody(json!({"sub": null}))]
fn who_cannot_be_told_is_nobody(#[case] claims: Value) {
    assert_eq!(person(&admins("Required"), &claims), None);
}
