use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::proxy::fixtures::{
    config_map, fetched, proxy, proxy_with_spec, secret, standalone_with,
};
use globus_auth_core::email::Email;

/// The proxy with `patch` in its spec, which must be valid.
fn valid(patch: &Value) -> Validated {
    validate(&proxy_with_spec(patch), &fetched()).unwrap()
}

/// The only problem of `proxy`.
fn problem_of(proxy: &GlobusAuthProxy, fetched: &Fetched) -> Problem {
    let mut problems = validate(proxy, fetched).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

fn users_from_a_config_map() -> GlobusAuthProxy {
    let reference = json!({"configMapKeyRef": {"name": "users", "key": "emails"}});
    proxy_with_spec(&json!({"access": {"emailsFrom": reference}}))
}

fn with_users(text: &str) -> Fetched {
    Fetched {
        allowlist: Some(config_map("emails", text)),
        ..fetched()
    }
}

fn with_credentials(data: &[(&str, &[u8])]) -> Fetched {
    Fetched {
        client_secret: Some(secret(data)),
        ..fetched()
    }
}

fn with_rendered(owners: &[&str]) -> Fetched {
    let owner = |uid: &&str| OwnerReference {
        uid: (*uid).to_owned(),
        ..OwnerReference::default()
    };
    let mut rendered = secret(&[]);
    rendered.metadata.owner_references = Some(owners.iter().map(owner).collect());
    Fetched {
        rendered: Some(rendered),
        ..fetched()
    }
}

fn emails(validated: &Validated) -> Vec<&str> {
    validated.access.emails.iter().map(Email::as_str).collect()
}

#[test]
fn what_is_not_said_has_its_default() {
    let validated = valid(&json!({}));
    assert_eq!(
        validated.proxy,
        config::ProxyReference {
            namespace: "ml".to_owned(),
            name: "mlflow".to_owned(),
            uid: "u-1".to_owned(),
        }
    );
    assert_eq!(validated.pod_labels, proxy().spec.pod_labels("mlflow"));
    assert_eq!(validated.standalone, None);
    assert_eq!(validated.admitted_port, 4180);
    assert!(validated.network_policy);
    assert_eq!(
        validated.external_url,
        "https://mlflow.example.org".parse().unwrap()
    );
    assert_eq!(validated.provider.kind, config::ProviderKind::Globus);
    assert_eq!(validated.provider.issuer, Issuer::globus());
    assert_eq!(validated.provider.client_id, "our-id");
    assert_eq!(validated.provider.client_secret.expose_secret(), "hunter2");
    assert_eq!(validated.provider.scopes, ["email", "profile"]);
    assert_eq!(
        validated.provider.email_verification,
        EmailVerification::IfPresent
    );
    assert_eq!(emails(&validated), ["alice@example.org"]);
    assert_eq!(
        validated.session,
        config::Session {
            idle_timeout_seconds: 43_200,
            absolute_timeout_seconds: 604_800,
        }
    );
    assert_eq!(
        validated.bearer,
        config::Bearer {
            introspection: true,
            jwt: vec![],
        }
    );
    assert_eq!(
        validated.upstream,
        config::Upstream {
            host_header: config::HostHeader::External,
            exposure: config::Exposure::Report,
            protocol: config::Protocol::HTTP1,
            max_request_body_bytes: None,
            response_timeout_seconds: None,
        }
    );
    assert_eq!(validated.log_level, config::LogLevel::Info);
}

#[rstest]
#[case::no_label(json!({"selector": {"matchLabels": {"app": null}}}), "spec.selector.matchLabels must have at least one label")]
#[case::external_url_without_tls(json!({"externalUrl": "http://mlflow.example.org"}),
    "spec.externalUrl \"http://mlflow.example.org\" must start with https://")]
#[case::external_url_with_a_path(json!({"externalUrl": "https://mlflow.example.org/ui"}),
    "spec.externalUrl \"https://mlflow.example.org/ui\" must be an origin")]
#[case::no_issuer(json!({"provider": {"type": "OIDC"}, "bearer": {}}), "spec.provider.issuer is required with type OIDC")]
#[case::issuer_without_tls(json!({"provider": {"type": "OIDC", "issuer": "http://idp.example.org"}}),
    "spec.provider.issuer \"http://idp.example.org\" must start with https://")]
#[case::globus_issuer_without_tls(json!({"provider": {"issuer": "http://idp.example.org"}}),
    "spec.provider.issuer \"http://idp.example.org\" must start with https://")]
#[case::not_an_email(json!({"access": {"emails": ["alice@example.org", "bob"]}}),
    "spec.access.emails has \"bob\": the address has no @")]
#[case::introspection_elsewhere(
    json!({"provider": {"type": "OIDC", "issuer": "https://idp.test"}, "bearer": {"introspection": "Enabled"}}),
    "spec.bearer.introspection works with provider type Globus only")]
#[case::token_issuer_without_tls(json!({"bearer": {"jwt": [{"issuer": "http://idp.example.org", "audiences": ["x"]}]}}),
    "spec.bearer.jwt[].issuer \"http://idp.example.org\" must start with https://")]
#[case::no_upstream_port(json!({"upstream": {"port": 0}}), "spec.upstream.port must be")]
#[case::negative_upstream_port(json!({"upstream": {"port": -1}}), "spec.upstream.port must be")]
#[case::upstream_port_too_high(json!({"upstream": {"port": 65536}}), "spec.upstream.port must be")]
#[case::no_own_port(json!({"proxy": {"port": 0}}), "spec.proxy.port a number from 1 to 65534")]
#[case::own_port_with_none_after_it(json!({"proxy": {"port": 65535}}), "spec.proxy.port a number from 1 to 65534")]
fn a_spec_that_cannot_be_carried_out_is_invalid(#[case] patch: Value, #[case] sentence: &str) {
    let problem = problem_of(&proxy_with_spec(&patch), &fetched());
    assert_eq!(
        (problem.condition, problem.reason),
        ("ConfigValid", "Invalid")
    );
    assert!(problem.message.contains(sentence), "{}", problem.message);
}

#[rstest]
#[case::missing(
    Fetched { client_secret: None, ..fetched() },
    "SecretNotFound",
    "there is no Secret \"mlflow-globus\", which spec.provider.clientSecretRef names; create it with the keys \
     client-id and client-secret"
)]
#[case::without_data(
    Fetched { client_secret: Some(Secret::default()), ..fetched() },
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-id with one line of text"
)]
#[case::without_id(
    with_credentials(&[("client-secret", b"hunter2")]),
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-id with one line of text"
)]
#[case::without_secret(
    with_credentials(&[("client-id", b"our-id")]),
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-secret with one line of text"
)]
#[case::blank(
    with_credentials(&[("client-id", b"our-id"), ("client-secret", b" \n")]),
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-secret with one line of text"
)]
#[case::several_lines(
    with_credentials(&[("client-id", b"our-id"), ("client-secret", b"hunter2\nhunter3")]),
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-secret with one line of text"
)]
#[case::not_text(
    with_credentials(&[("client-id", b"our-id"), ("client-secret", b"hunter2\xff")]),
    "SecretMalformed",
    "Secret \"mlflow-globus\" needs the key client-secret with one line of text"
)]
fn credentials_that_cannot_be_used_are_not_resolved(
    #[case] fetched: Fetched,
    #[case] reason: &'static str,
    #[case] message: &str,
) {
    assert_eq!(
        problem_of(&proxy(), &fetched),
        Problem {
            condition: "CredentialsResolved",
            reason,
            message: message.to_owned(),
        }
    );
}

#[rstest]
#[case::missing(
    fetched(),
    "there is no ConfigMap \"users\", which spec.access.emailsFrom names"
)]
#[case::without_data(
    Fetched { allowlist: Some(ConfigMap::default()), ..fetched() },
    "ConfigMap \"users\" has no key \"emails\", which spec.access.emailsFrom names"
)]
#[case::without_key(
    Fetched { allowlist: Some(config_map("e-mails", "")), ..fetched() },
    "ConfigMap \"users\" has no key \"emails\", which spec.access.emailsFrom names"
)]
#[case::not_an_email(
    with_users("bob@example.org\ncarol"),
    "ConfigMap \"users\", key \"emails\": line 2: \"carol\" is not an e-mail address: the address has no @; the \
     last good list stays in force"
)]
fn an_allowlist_that_cannot_be_read_is_unusable(#[case] fetched: Fetched, #[case] message: &str) {
    assert_eq!(
        problem_of(&users_from_a_config_map(), &fetched),
        Problem {
            condition: "ConfigValid",
            reason: "AllowlistUnusable",
            message: message.to_owned(),
        }
    );
}

#[rstest]
#[case::of_nobody(&[])]
#[case::of_a_proxy_of_this_name_before(&["u-0"])]
fn a_secret_that_the_proxy_did_not_make_is_not_overwritten(#[case] owners: &[&str]) {
    assert_eq!(
        problem_of(&proxy(), &with_rendered(owners)),
        Problem {
            condition: "ConfigValid",
            reason: "Invalid",
            message: "there is a Secret \"mlflow-globus-auth\" that this GlobusAuthProxy did not make and needs \
                      the name of; delete it"
                .to_owned(),
        }
    );
}

#[test]
fn a_secret_that_the_proxy_has_made_is_its_own() {
    assert!(validate(&proxy(), &with_rendered(&["u-0", "u-1"])).is_ok());
}

#[test]
fn every_problem_is_told_at_once() {
    let proxy = proxy_with_spec(&json!({
        "selector": {"matchLabels": {"app": null}},
        "externalUrl": "mlflow",
        "upstream": {"port": 0},
        "provider": {"issuer": "idp"},
        "access": {"emails": ["bob"]},
        "bearer": {"jwt": [{"issuer": "idp", "audiences": ["x"]}]},
    }));
    let fetched = Fetched {
        client_secret: None,
        ..with_rendered(&[])
    };
    let problems = validate(&proxy, &fetched).unwrap_err();
    let told = [
        "spec.selector",
        "spec.externalUrl",
        "spec.provider.issuer",
        "Secret \"mlflow-globus\"",
        "spec.access.emails",
        "spec.bearer.jwt[].issuer",
        "spec.upstream.port",
        "Secret \"mlflow-globus-auth\"",
    ];
    assert_eq!(problems.len(), told.len(), "{problems:?}");
    for (problem, told) in problems.iter().zip(told) {
        assert!(problem.message.contains(told), "{}", problem.message);
    }
}

#[test]
fn white_space_around_credentials_is_cut_off() {
    let fetched = with_credentials(&[
        ("client-id", b" our-id\n"),
        ("client-secret", b"hunter2\r\n"),
    ]);
    let provider = validate(&proxy(), &fetched).unwrap().provider;
    assert_eq!(
        (
            provider.client_id.as_str(),
            provider.client_secret.expose_secret()
        ),
        ("our-id", "hunter2")
    );
}

#[test]
fn neither_problems_nor_debug_output_have_the_client_secret() {
    let fetched = with_credentials(&[("client-id", b""), ("client-secret", b"hunter2")]);
    let problem = problem_of(&proxy(), &fetched);
    assert!(!problem.message.contains("hunter2"));
    assert!(!format!("{:?}", valid(&json!({}))).contains("hunter2"));
}

#[test]
fn both_allowlists_are_merged_and_each_address_counts_once() {
    let proxy = users_from_a_config_map();
    let fetched = with_users("Zoe@example.org, ALICE@example.org\nbob@example.org # since May\n");
    assert_eq!(
        emails(&validate(&proxy, &fetched).unwrap()),
        ["alice@example.org", "bob@example.org", "zoe@example.org"]
    );
}

#[test]
fn an_allowlist_that_is_not_named_is_not_read() {
    assert_eq!(
        emails(&validate(&proxy(), &with_users("bob@example.org")).unwrap()),
        ["alice@example.org"]
    );
}

#[test]
fn without_an_allowlist_nobody_enters() {
    assert_eq!(
        valid(&json!({"access": null})).access,
        config::Access::default()
    );
}

#[rstest]
#[case::globus(json!({}), "https://auth.globus.org")]
#[case::globus_elsewhere(json!({"issuer": "https://auth.sandbox.test"}), "https://auth.sandbox.test")]
#[case::as_it_is_written(json!({"type": "OIDC", "issuer": "https://IDP.test/realms/lab/"}), "https://IDP.test/realms/lab/")]
#[case::in_the_cluster(json!({"type": "OIDC", "issuer": "http://dex.auth.svc:5556"}), "http://dex.auth.svc:5556")]
fn the_issuer_is_the_configured_one_or_globus(#[case] provider: Value, #[case] issuer: &str) {
    let validated = valid(&json!({"provider": provider}));
    assert_eq!(validated.provider.issuer.as_str(), issuer);
}

#[test]
fn a_provider_of_another_kind_stays_one() {
    let validated = valid(&json!({"provider": {"type": "OIDC", "issuer": "https://idp.test"}}));
    assert_eq!(validated.provider.kind, config::ProviderKind::OIDC);
}

#[test]
fn each_scope_is_asked_for_once_and_openid_by_the_sidecar() {
    let scopes = ["openid", "groups", "email", "offline_access", "groups"];
    let validated = valid(&json!({"provider": {"scopes": scopes}}));
    assert_eq!(
        validated.provider.scopes,
        ["email", "profile", "groups", "offline_access"]
    );
}

#[rstest]
#[case("Globus", None, EmailVerification::IfPresent)]
#[case("Globus", Some("Required"), EmailVerification::IfPresent)]
#[case("OIDC", None, EmailVerification::Required)]
#[case("OIDC", Some("Required"), EmailVerification::Required)]
#[case("OIDC", Some("IfPresent"), EmailVerification::IfPresent)]
fn an_address_must_be_verified_unless_told_otherwise_or_globus(
    #[case] kind: &str,
    #[case] configured: Option<&str>,
    #[case] verification: EmailVerification,
) {
    let provider =
        json!({"type": kind, "issuer": "https://idp.test", "emailVerification": configured});
    let validated = valid(&json!({"provider": provider}));
    assert_eq!(validated.provider.email_verification, verification);
}

#[rstest]
#[case("Globus", json!(null), true)]
#[case("Globus", json!({}), true)]
#[case("Globus", json!({"introspection": "Enabled"}), true)]
#[case("Globus", json!({"introspection": "Disabled"}), false)]
#[case("OIDC", json!(null), false)]
#[case("OIDC", json!({}), false)]
#[case("OIDC", json!({"introspection": "Disabled"}), false)]
fn opaque_tokens_are_introspected_at_globus_unless_disabled(
    #[case] kind: &str,
    #[case] bearer: Value,
    #[case] introspection: bool,
) {
    let provider = json!({"type": kind, "issuer": "https://idp.test"});
    let validated = valid(&json!({"provider": provider, "bearer": bearer}));
    assert_eq!(validated.bearer.introspection, introspection);
}

#[test]
fn groups_are_read_from_a_claim_only_where_a_rule_and_a_claim_exist() {
    let oidc = json!({"type": "OIDC", "issuer": "https://idp.test"});
    let claim = |spec: Value| valid(&spec).provider.groups_claim;
    let grouped = json!({"groups": ["physics"]});
    assert_eq!(claim(json!({"provider": oidc})), None);
    assert_eq!(
        claim(json!({"provider": oidc, "access": grouped})),
        Some("groups".to_owned())
    );
    let named = json!({"type": "OIDC", "issuer": "https://idp.test", "groupsClaim": "roles"});
    assert_eq!(
        claim(json!({"provider": named, "access": grouped})),
        Some("roles".to_owned())
    );
    assert_eq!(claim(json!({"access": grouped})), None);
}

#[test]
fn what_is_spoken_with_the_workload_and_its_limits_reach_the_sidecar() {
    let upstream =
        json!({"protocol": "H2C", "maxRequestBodyBytes": 1_048_576, "responseTimeoutSeconds": 60});
    let upstream = valid(&json!({"upstream": upstream})).upstream;
    assert_eq!(upstream.protocol, config::Protocol::H2C);
    assert_eq!(upstream.max_request_body_bytes, Some(1_048_576));
    assert_eq!(upstream.response_timeout_seconds, Some(60));
}

fn bridge() -> Value {
    let reference = json!({"name": "bridge", "key": "secret"});
    json!({"identityHeaders": {
        "email": ["X-Email"],
        "sharedSecret": {"header": "X-Bridge-Secret", "secretKeyRef": reference},
    }})
}

#[test]
fn the_headers_of_a_workload_and_its_secret_reach_the_sidecar() {
    let fetched = Fetched {
        shared_secret: Some(secret(&[("secret", b"between us\n")])),
        ..fetched()
    };
    let validated = validate(&proxy_with_spec(&bridge()), &fetched).unwrap();
    let headers = validated.identity_headers;
    assert_eq!(headers.email, ["X-Email"]);
    let shared = headers.shared_secret.unwrap();
    assert_eq!(shared.header, "X-Bridge-Secret");
    assert_eq!(shared.value.expose_secret(), "between us");
}

#[rstest]
#[case::no_secret(None, reasons::SECRET_NOT_FOUND)]
#[case::another_key(Some(secret(&[("other", b"x")])), reasons::SECRET_MALFORMED)]
#[case::two_lines(Some(secret(&[("secret", b"x\ny")])), reasons::SECRET_MALFORMED)]
#[case::not_ascii(Some(secret(&[("secret", "\u{e9}".as_bytes())])), reasons::SECRET_MALFORMED)]
fn without_the_secret_of_the_workload_the_proxy_is_not_carried_out(
    #[case] shared_secret: Option<Secret>,
    #[case] reason: &str,
) {
    let fetched = Fetched {
        shared_secret,
        ..fetched()
    };
    let problem = problem_of(&proxy_with_spec(&bridge()), &fetched);
    assert_eq!(problem.condition, types::CREDENTIALS_RESOLVED);
    assert_eq!(problem.reason, reason);
    assert!(problem.message.contains("\"bridge\""), "{problem:?}");
}

/// A certificate and its key, as a Secret has them.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["mlflow.example.org".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn with_tracing(endpoint: &str, rate: i32) -> GlobusAuthProxy {
    let tracing = json!({"endpoint": endpoint, "samplingRatePerMillion": rate});
    proxy_with_spec(&json!({"proxy": {"tracing": tracing}}))
}

#[test]
fn traces_go_where_the_resource_says() {
    let endpoint = "http://otel-collector.observability:4318";
    let valid = validate(&with_tracing(endpoint, 1000), &fetched()).unwrap();
    let tracing = valid.tracing.unwrap();
    assert_eq!(tracing.endpoint.as_str(), endpoint);
    assert_eq!(tracing.sampling_rate_per_million, 1000);
    assert_eq!(validate(&proxy(), &fetched()).unwrap().tracing, None);
}

#[rstest]
#[case("otel-collector:4318", 0, "spec.proxy.tracing.endpoint")]
#[case("http://a:b@otel-collector:4318", 0, "user name or password")]
#[case("http://otel-collector:4318", -1, "samplingRatePerMillion")]
#[case("http://otel-collector:4318", 1_000_001, "samplingRatePerMillion")]
fn traces_that_cannot_be_sent_are_told(
    #[case] endpoint: &str,
    #[case] rate: i32,
    #[case] says: &str,
) {
    let problems = validate(&with_tracing(endpoint, rate), &fetched()).unwrap_err();
    assert_eq!(problems[0].condition, types::CONFIG_VALID);
    assert!(problems[0].message.contains(says), "{problems:?}");
}

fn with_tls() -> GlobusAuthProxy {
    proxy_with_spec(&json!({"proxy": {"tlsSecretRef": {"name": "mlflow-tls"}}}))
}

fn fetched_tls(certificates: &str, key: &str) -> Fetched {
    let data: [(&str, &[u8]); 2] = [
        ("tls.crt", certificates.as_bytes()),
        ("tls.key", key.as_bytes()),
    ];
    Fetched {
        tls: Some(secret(&data)),
        ..fetched()
    }
}

#[test]
fn a_certificate_reaches_the_sidecar() {
    let (certificates, key) = certificate();
    let fetched = fetched_tls(&certificates, &key);
    let tls = validate(&with_tls(), &fetched).unwrap().tls.unwrap();
    assert_eq!(tls.certificates, certificates);
    assert_eq!(tls.private_key.expose_secret(), key);
    assert_eq!(validate(&proxy(), &fetched).unwrap().tls, None);
}

#[test]
fn a_certificate_that_cannot_be_shown_is_told_without_its_key() {
    let ((certificates, key), (_, other)) = (certificate(), certificate());
    let missing = Fetched {
        tls: None,
        ..fetched()
    };
    for (fetched, reason, says) in [
        (
            missing,
            reasons::SECRET_NOT_FOUND,
            "kubectl create secret tls",
        ),
        (
            fetched_tls("", &key),
            reasons::SECRET_MALFORMED,
            "at least one certificate",
        ),
        (
            fetched_tls(&certificates, ""),
            reasons::SECRET_MALFORMED,
            "a key that TLS can use",
        ),
        (
            fetched_tls(&certificates, &other),
            reasons::SECRET_MALFORMED,
            "does not belong",
        ),
    ] {
        let problem = problem_of(&with_tls(), &fetched);
        assert_eq!(
            (problem.condition, problem.reason),
            (types::CREDENTIALS_RESOLVED, reason)
        );
        assert!(problem.message.contains("\"mlflow-tls\""), "{problem:?}");
        assert!(problem.message.contains(says), "{problem:?}");
        assert!(!problem.message.contains("PRIVATE"), "{problem:?}");
    }
}

#[rstest]
#[case("Authorization")]
#[case("X-Forwarded-For")]
#[case("X_Email")]
fn a_header_with_another_meaning_is_refused(#[case] name: &str) {
    let spec = json!({"identityHeaders": {"user": [name]}});
    let problem = problem_of(&proxy_with_spec(&spec), &fetched());
    assert!(problem.message.contains(name), "{problem:?}");
}

#[test]
fn what_a_login_at_globus_must_have_reaches_the_sidecar() {
    let required = json!({"singleDomain": ["anl.gov"], "policies": ["p-1"], "mfa": true});
    let provider = valid(&json!({"provider": {"sessionRequirements": required}})).provider;
    let requirements = provider.session_requirements;
    assert_eq!(requirements.session_required_single_domain, ["anl.gov"]);
    assert_eq!(requirements.session_required_policies, ["p-1"]);
    assert!(requirements.session_required_mfa);
}

#[test]
fn groups_of_globus_need_a_scope_and_nothing_else_does() {
    let scope = globus::groups::SCOPE.to_owned();
    let scopes = |spec: Value| valid(&spec).provider.scopes;
    assert!(!scopes(json!({})).contains(&scope));
    assert!(scopes(json!({"access": {"groups": ["g-1"]}})).contains(&scope));
    let oidc = json!({"type": "OIDC", "issuer": "https://idp.test"});
    assert!(!scopes(json!({"provider": oidc, "access": {"groups": ["g-1"]}})).contains(&scope));
}

#[test]
fn the_issuers_of_bearer_tokens_are_taken_over_in_order() {
    let issuers = json!([
        {"issuer": "https://one.test/", "audiences": ["a", "b"], "algorithms": ["ES256"], "emailVerification": "IfPresent"},
        {"issuer": "https://two.test", "audiences": ["c"]},
    ]);
    assert_eq!(
        valid(&json!({"bearer": {"jwt": issuers}})).bearer.jwt,
        [
            config::JwtIssuer {
                issuer: "https://one.test/".parse().unwrap(),
                audiences: vec!["a".to_owned(), "b".to_owned()],
                algorithms: vec![SignatureAlgorithm::ES256],
                email_verification: EmailVerification::IfPresent,
                groups_claim: None,
            },
            config::JwtIssuer {
                issuer: "https://two.test".parse().unwrap(),
                audiences: vec!["c".to_owned()],
                algorithms: SignatureAlgorithm::ALL.to_vec(),
                email_verification: EmailVerification::Required,
                groups_claim: None,
            },
        ]
    );
}

#[test]
fn every_signature_algorithm_keeps_its_name() {
    let names = [
        "EdDSA", "ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
    ];
    let issuer = json!({"issuer": "https://one.test", "audiences": ["a"], "algorithms": names});
    let validated = valid(&json!({"bearer": {"jwt": [issuer]}}));
    assert_eq!(
        serde_json::to_value(&validated.bearer.jwt[0].algorithms).unwrap(),
        json!(names)
    );
}

#[rstest]
#[case(3600, 3600)]
#[case(60, 60)]
#[case(59, 60)]
#[case(0, 60)]
#[case(-1, 60)]
fn no_session_is_shorter_than_a_minute(#[case] configured: i32, #[case] seconds: u32) {
    let session =
        json!({"idleTimeoutSeconds": configured, "absoluteTimeoutSeconds": configured + 1000});
    let validated = valid(&json!({"session": session}));
    assert_eq!(validated.session.idle_timeout_seconds, seconds);
    let session = json!({"absoluteTimeoutSeconds": configured});
    let validated = valid(&json!({"session": session}));
    assert_eq!(validated.session.absolute_timeout_seconds, seconds);
}

#[rstest]
#[case("External", "Refuse")]
#[case("Localhost", "Report")]
fn how_the_workload_is_reached_keeps_its_names(#[case] host_header: &str, #[case] exposure: &str) {
    let upstream = json!({"hostHeader": host_header, "exposure": exposure});
    let validated = valid(&json!({"upstream": upstream}));
    assert_eq!(serde_json::to_value(validated.upstream).unwrap(), upstream);
}

#[rstest]
#[case("error")]
#[case("warn")]
#[case("info")]
#[case("debug")]
fn the_log_level_keeps_its_name(#[case] level: &str) {
    let validated = valid(&json!({"proxy": {"logLevel": level}}));
    assert_eq!(
        serde_json::to_value(validated.log_level).unwrap(),
        json!(level)
    );
}

#[test]
fn a_network_policy_that_is_disabled_is_not_wanted() {
    assert!(!valid(&json!({"networkPolicy": "Disabled"})).network_policy);
}

#[rstest]
#[case::by_name(json!("http"), 4999)]
#[case::by_number(json!(5000), 5000)]
fn the_port_that_users_reach_is_admitted(#[case] port: Value, #[case] admitted: u16) {
    let validated = valid(&json!({"upstream": {"port": port}, "proxy": {"port": 4999}}));
    assert_eq!(validated.admitted_port, admitted);
}

#[test]
fn a_standalone_proxy_has_a_port_and_perhaps_a_workload() {
    let validated = |spec: Value| validate(&standalone_with(&spec), &fetched()).unwrap();
    let with = validated(json!({"upstream": {"url": "http://mlflow.ml.svc:5000"}}));
    let standalone = with.standalone.unwrap();
    assert_eq!(
        standalone.upstream,
        Some("http://mlflow.ml.svc:5000".parse().unwrap())
    );
    assert_eq!((standalone.listen_port, with.admitted_port), (4180, 4180));
    let without = validated(json!({"proxy": {"port": 8000}}));
    assert_eq!(without.standalone.unwrap().upstream, None);
    assert_eq!(without.admitted_port, 8000);
    assert_eq!(
        without.pod_labels,
        [("globus-auth.dev/standalone".to_owned(), "mlflow".to_owned())].into()
    );
}

#[test]
fn a_standalone_proxy_never_waits_for_what_it_cannot_see() {
    let spec = json!({"upstream": {"exposure": "Refuse"}});
    let validated = validate(&standalone_with(&spec), &fetched()).unwrap();
    assert_eq!(validated.upstream.exposure, config::Exposure::Report);
}

#[rstest]
#[case::a_path(json!({"upstream": {"url": "http://mlflow/path"}}), "spec.upstream.url \"http://mlflow/path\" must be an origin")]
#[case::another_scheme(json!({"upstream": {"url": "unix:///socket"}}), "spec.upstream.url")]
#[case::a_selector(json!({"selector": {"matchLabels": {"app": "mlflow"}}}), "spec.selector is for mode Sidecar")]
#[case::a_port_out_of_range(json!({"proxy": {"port": 65535}}), "spec.proxy.port")]
fn a_standalone_proxy_that_cannot_run_is_refused(#[case] spec: Value, #[case] message: &str) {
    let problems = validate(&standalone_with(&spec), &fetched()).unwrap_err();
    assert!(problems[0].message.contains(message), "{problems:?}");
    assert_eq!(problems.len(), 1);
}

#[test]
fn what_somebody_else_made_is_not_overwritten() {
    let fetched = Fetched {
        foreign: vec!["Service \"mlflow-globus-auth\"".to_owned()],
        ..fetched()
    };
    let problems = validate(&standalone_with(&json!({})), &fetched).unwrap_err();
    assert!(problems[0].message.contains("did not make"), "{problems:?}");
}
