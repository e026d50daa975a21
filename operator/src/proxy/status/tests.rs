use globus_auth_crds::proxy::PodCounts;
use rstest::rstest;

use super::*;

const IMAGE: &str = "registry.test/sidecar:2";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn before() -> Timestamp {
    time("2026-03-01T00:00:00Z")
}

fn now() -> Timestamp {
    time("2026-03-02T00:00:00Z")
}

/// A pod that is as it should be.
fn pod(name: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        created_at: Some(before()),
        protector: Some("mlflow".to_owned()),
        sidecar_image: Some(IMAGE.to_owned()),
        upstream: Reported::Good,
        config: Reported::Good,
        config_in_force: None,
        told_config: None,
    }
}

fn bare(name: &str) -> PodFacts {
    PodFacts {
        sidecar_image: None,
        upstream: Reported::Nothing,
        config: Reported::Nothing,
        ..pod(name)
    }
}

fn protected_by(protector: &str, name: &str) -> PodFacts {
    PodFacts {
        protector: Some(protector.to_owned()),
        ..bare(name)
    }
}

fn protected_by_nobody(name: &str) -> PodFacts {
    PodFacts {
        protector: None,
        ..bare(name)
    }
}

fn with_upstream(upstream: Reported, name: &str) -> PodFacts {
    PodFacts {
        upstream,
        ..pod(name)
    }
}

fn exposed(name: &str) -> PodFacts {
    with_upstream(Reported::Bad("it listens on 0.0.0.0".to_owned()), name)
}

fn silent(name: &str) -> PodFacts {
    with_upstream(Reported::Nothing, name)
}

fn with_config(config: Reported, name: &str) -> PodFacts {
    PodFacts {
        config,
        ..pod(name)
    }
}

fn refusing(name: &str) -> PodFacts {
    with_config(Reported::Bad("it has an unknown member".to_owned()), name)
}

fn created_at(time: Timestamp, name: &str) -> PodFacts {
    PodFacts {
        created_at: Some(time),
        ..pod(name)
    }
}

fn config_problem(message: &str) -> Problem {
    Problem {
        condition: types::CONFIG_VALID,
        reason: reasons::INVALID,
        message: message.to_owned(),
    }
}

fn credentials_problem() -> Problem {
    Problem {
        condition: types::CREDENTIALS_RESOLVED,
        reason: reasons::SECRET_NOT_FOUND,
        message: "there is no Secret".to_owned(),
    }
}

/// Of generation 3, without a problem.
fn outcome(pods: &[PodFacts]) -> Outcome<'_> {
    Outcome {
        standalone: None,
        proxy: "mlflow",
        generation: Some(3),
        problems: &[],
        config_hash: Some("hash-3"),
        callback_url: Some("https://mlflow.example.org/oauth2/callback"),
        pods,
        sidecar_image: IMAGE,
        has_vault: false,
        exposure: Exposure::Report,
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(3),
        last_transition_time: Time(now()),
    }
}

fn status_with(conditions: Vec<Condition>) -> GlobusAuthProxyStatus {
    GlobusAuthProxyStatus {
        conditions,
        ..GlobusAuthProxyStatus::default()
    }
}

/// The condition `type_` of what comes of `outcome`, with nothing before.
fn first(type_: &str, outcome: &Outcome<'_>) -> Condition {
    after(None, type_, outcome)
}

fn after(old: Option<&GlobusAuthProxyStatus>, type_: &str, outcome: &Outcome<'_>) -> Condition {
    let conditions = compute(old, outcome, now()).conditions;
    let mut found = conditions.into_iter().filter(|one| one.type_ == type_);
    let condition = found.next().unwrap();
    assert_eq!(found.next(), None);
    condition
}

#[test]
fn a_proxy_in_force_says_so_in_every_condition() {
    let pods = [pod("a"), pod("b")];
    assert_eq!(
        compute(None, &outcome(&pods), now()),
        GlobusAuthProxyStatus {
            observed_generation: Some(3),
            callback_url: Some("https://mlflow.example.org/oauth2/callback".to_owned()),
            config_hash: Some("hash-3".to_owned()),
            pods: Some(PodCounts {
                injected: 2,
                uninjected: 0,
                stale: 0,
            }),
            conditions: vec![
                condition("Ready", "True", "Ready", "the proxy is in force"),
                condition(
                    "ConfigValid",
                    "True",
                    "Valid",
                    "the resource can be carried out"
                ),
                condition(
                    "CredentialsResolved",
                    "True",
                    "Found",
                    "client id and secret were found"
                ),
                condition("Injected", "True", "Injected", "2 pods have the sidecar"),
                condition(
                    "UpstreamProtected",
                    "True",
                    "ListeningOnLoopback",
                    "the workload's port can be reached through the proxy only"
                ),
            ],
        }
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let outcome = Outcome {
        generation: None,
        config_hash: None,
        callback_url: None,
        ..outcome(&[])
    };
    let status = compute(None, &outcome, now());
    assert_eq!(
        (
            status.observed_generation,
            status.config_hash,
            status.callback_url
        ),
        (None, None, None)
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation.is_none())
    );
}

// === ConfigValid and CredentialsResolved ===

#[test]
fn problems_of_one_condition_are_told_together_under_the_first_reason() {
    let unusable = Problem {
        reason: reasons::ALLOWLIST_UNUSABLE,
        ..config_problem("no ConfigMap")
    };
    let problems = [unusable, credentials_problem(), config_problem("no port")];
    let outcome = Outcome {
        problems: &problems,
        ..outcome(&[])
    };
    assert_eq!(
        first("ConfigValid", &outcome),
        condition(
            "ConfigValid",
            "False",
            "AllowlistUnusable",
            "no ConfigMap; no port"
        )
    );
    assert_eq!(
        first("CredentialsResolved", &outcome),
        condition(
            "CredentialsResolved",
            "False",
            "SecretNotFound",
            "there is no Secret"
        )
    );
}

#[test]
fn a_problem_of_one_condition_leaves_the_other_true() {
    let problems = [credentials_problem()];
    let outcome = Outcome {
        problems: &problems,
        ..outcome(&[])
    };
    assert_eq!(first("ConfigValid", &outcome).reason, "Valid");
    let problems = [config_problem("no port")];
    let outcome = Outcome {
        problems: &problems,
        ..outcome
    };
    assert_eq!(first("CredentialsResolved", &outcome).reason, "Found");
}

#[test]
fn a_configuration_that_a_sidecar_refuses_is_not_valid() {
    let pods = [pod("a"), refusing("b"), refusing("c")];
    assert_eq!(
        first("ConfigValid", &outcome(&pods)),
        condition(
            "ConfigValid",
            "False",
            "ConfigRefused",
            "pod \"b\" keeps its last good configuration: it has an unknown member"
        )
    );
}

#[test]
fn a_problem_of_the_resource_is_told_before_that_of_a_sidecar() {
    let pods = [refusing("a")];
    let problems = [config_problem("no port")];
    let outcome = Outcome {
        problems: &problems,
        ..outcome(&pods)
    };
    assert_eq!(first("ConfigValid", &outcome).reason, "Invalid");
}

#[rstest]
#[case::of_another_proxy(PodFacts { protector: Some("other".to_owned()), ..refusing("a") })]
#[case::that_says_nothing(with_config(Reported::Nothing, "a"))]
fn a_sidecar_does_not_matter_to_the_configuration(#[case] pod: PodFacts) {
    assert_eq!(first("ConfigValid", &outcome(&[pod])).reason, "Valid");
}

// === Injected ===

#[rstest]
#[case::no_pod(vec![], "Unknown", "NoPods", "no pod has the labels of spec.selector")]
#[case::one_pod(vec![pod("a")], "True", "Injected", "1 pod has the sidecar")]
#[case::more_pods(vec![pod("a"), pod("b"), pod("c")], "True", "Injected", "3 pods have the sidecar")]
#[case::one_bare_pod(vec![pod("a"), bare("b")], "False", "PodsNotInjected",
    "pod \"b\" has no sidecar: label the pod template globus-auth.dev/inject: enabled and restart the workload")]
#[case::bare_pods(vec![bare("a"), bare("b"), bare("c")], "False", "PodsNotInjected",
    "pods \"a\", \"b\", \"c\" have no sidecar: label the pod template globus-auth.dev/inject: enabled and restart the \
     workload")]
#[case::many_bare_pods(vec![bare("a"), bare("b"), bare("c"), bare("d"), bare("e")], "False", "PodsNotInjected",
    "pods \"a\", \"b\", \"c\" and 2 more have no sidecar: label the pod template globus-auth.dev/inject: enabled and \
     restart the workload")]
#[case::a_pod_of_nobody(vec![pod("a"), protected_by_nobody("b")], "False", "PodsNotInjected",
    "pod \"b\" has no sidecar: label the pod template globus-auth.dev/inject: enabled and restart the workload")]
#[case::conflict(vec![pod("a"), protected_by("older", "b")], "False", "Conflict",
    "pod \"b\" is selected by GlobusAuthProxy \"older\", too, which protects it; make the selectors \
     disjoint")]
#[case::conflict_before_bare_pods(vec![bare("a"), protected_by("older", "b")], "False", "Conflict",
    "pod \"b\" is selected by GlobusAuthProxy \"older\", too, which protects it; make the selectors \
     disjoint")]
fn injection_is_judged_by_the_pods(
    #[case] pods: Vec<PodFacts>,
    #[case] status: &str,
    #[case] reason: &str,
    #[case] message: &str,
) {
    assert_eq!(
        first("Injected", &outcome(&pods)),
        condition("Injected", status, reason, message)
    );
}

/// What the webhook writes when it refuses a pod.
fn refusal() -> Condition {
    Condition {
        last_transition_time: Time(time("2026-03-01T12:00:00Z")),
        ..condition("Injected", "False", "InjectionRefused", "a pod was refused")
    }
}

#[rstest]
#[case::no_pod(vec![])]
#[case::pods_from_before(vec![pod("a")])]
#[case::a_pod_from_the_same_moment(vec![created_at(time("2026-03-01T12:00:00Z"), "a")])]
#[case::a_pod_without_a_time(vec![PodFacts { created_at: None, ..pod("a") }])]
fn a_refusal_of_the_webhook_stands(#[case] pods: Vec<PodFacts>) {
    let old = status_with(vec![refusal()]);
    assert_eq!(after(Some(&old), "Injected", &outcome(&pods)), refusal());
}

#[rstest]
#[case::a_later_pod(vec![created_at(time("2026-03-01T12:00:01Z"), "a")], refusal(), "Injected")]
#[case::another_generation(vec![], Condition { observed_generation: Some(2), ..refusal() }, "NoPods")]
#[case::another_reason(vec![], Condition { reason: "PodsNotInjected".to_owned(), ..refusal() }, "NoPods")]
#[case::no_longer_false(vec![], Condition { status: "Unknown".to_owned(), ..refusal() }, "NoPods")]
#[case::another_condition(vec![], Condition { type_: "Ready".to_owned(), ..refusal() }, "NoPods")]
#[case::bare_pods(vec![bare("a")], refusal(), "PodsNotInjected")]
#[case::conflict(vec![protected_by("older", "a")], refusal(), "Conflict")]
fn a_refusal_of_the_webhook_ends(
    #[case] pods: Vec<PodFacts>,
    #[case] before: Condition,
    #[case] reason: &str,
) {
    let old = status_with(vec![before]);
    assert_eq!(
        after(Some(&old), "Injected", &outcome(&pods)).reason,
        reason
    );
}

// === UpstreamProtected ===

#[rstest]
#[case::no_pod(vec![], "Unknown", "NotReported", "no pod has the sidecar yet")]
#[case::bare_pod(vec![bare("a")], "Unknown", "NotReported", "no pod has the sidecar yet")]
#[case::nothing_said(vec![silent("a")], "Unknown", "NotReported", "not heard yet from pod \"a\"")]
#[case::not_all_said(vec![pod("a"), silent("b"), silent("c")], "Unknown", "NotReported",
    "not heard yet from pods \"b\", \"c\"")]
#[case::all_said(vec![pod("a"), bare("b")], "True", "ListeningOnLoopback",
    "the workload's port can be reached through the proxy only")]
#[case::exposed(vec![silent("a"), exposed("b"), exposed("c")], "False", "ListeningOnAllInterfaces",
    "pod \"b\": it listens on 0.0.0.0")]
#[case::exposed_pod_of_another_proxy(vec![pod("a"), PodFacts { protector: Some("older".to_owned()), ..exposed("b") }],
    "True", "ListeningOnLoopback", "the workload's port can be reached through the proxy only")]
#[case::exposed_pod_without_sidecar(vec![pod("a"), PodFacts { sidecar_image: None, ..exposed("b") }],
    "True", "ListeningOnLoopback", "the workload's port can be reached through the proxy only")]
fn protection_of_the_workload_is_what_every_sidecar_says(
    #[case] pods: Vec<PodFacts>,
    #[case] status: &str,
    #[case] reason: &str,
    #[case] message: &str,
) {
    assert_eq!(
        first("UpstreamProtected", &outcome(&pods)),
        condition("UpstreamProtected", status, reason, message)
    );
}

// === Ready ===

/// Wrong in everything, so that each rule that is mended shows the next one.
#[rstest]
#[case(vec![config_problem("no port"), credentials_problem()], vec![bare("a"), exposed("b")], "Invalid", "no port")]
#[case(vec![credentials_problem()], vec![bare("a"), exposed("b")], "SecretNotFound", "there is no Secret")]
#[case(vec![], vec![bare("a"), exposed("b")], "PodsNotInjected",
    "pod \"a\" has no sidecar: label the pod template globus-auth.dev/inject: enabled and restart the workload")]
#[case(vec![], vec![exposed("b")], "ListeningOnAllInterfaces", "pod \"b\": it listens on 0.0.0.0")]
fn ready_repeats_the_first_condition_that_is_false(
    #[case] problems: Vec<Problem>,
    #[case] pods: Vec<PodFacts>,
    #[case] reason: &str,
    #[case] message: &str,
) {
    let outcome = Outcome {
        problems: &problems,
        exposure: Exposure::Refuse,
        ..outcome(&pods)
    };
    assert_eq!(
        first("Ready", &outcome),
        condition("Ready", "False", reason, message)
    );
}

#[rstest]
#[case::nothing_to_protect_yet(vec![], Exposure::Refuse)]
#[case::not_reported_yet(vec![silent("a")], Exposure::Refuse)]
#[case::exposed_and_only_to_be_reported(vec![exposed("a")], Exposure::Report)]
fn what_is_not_wrong_leaves_the_proxy_ready(
    #[case] pods: Vec<PodFacts>,
    #[case] exposure: Exposure,
) {
    let outcome = Outcome {
        exposure,
        ..outcome(&pods)
    };
    assert_eq!(
        first("Ready", &outcome),
        condition("Ready", "True", "Ready", "the proxy is in force")
    );
}

#[test]
fn exposure_that_is_only_reported_hides_nothing_else() {
    let pods = [bare("a"), exposed("b")];
    assert_eq!(first("Ready", &outcome(&pods)).reason, "PodsNotInjected");
}

// === Counts ===

#[test]
fn pods_are_counted_by_their_sidecar() {
    let stale = |name| PodFacts {
        sidecar_image: Some("registry.test/sidecar:1".to_owned()),
        ..pod(name)
    };
    let pods = [
        pod("a"),
        pod("b"),
        stale("c"),
        bare("d"),
        bare("e"),
        protected_by_nobody("f"),
        protected_by("older", "g"),
        PodFacts {
            protector: Some("older".to_owned()),
            ..stale("h")
        },
    ];
    assert_eq!(
        compute(None, &outcome(&pods), now()).pods,
        Some(PodCounts {
            injected: 3,
            uninjected: 3,
            stale: 1,
        })
    );
}

// === Times ===

#[test]
fn a_status_of_which_nothing_changed_is_the_same_later() {
    let pods = [pod("a"), exposed("b")];
    let problems = [credentials_problem()];
    let outcome = Outcome {
        problems: &problems,
        ..outcome(&pods)
    };
    let old = compute(None, &outcome, before());
    assert_eq!(compute(Some(&old), &outcome, now()), old);
}

#[test]
fn a_time_moves_when_the_status_of_its_condition_changes() {
    let good = [pod("a")];
    let bad = [exposed("a")];
    let old = compute(None, &outcome(&good), before());
    let new = compute(Some(&old), &outcome(&bad), now());
    let moved: Vec<&str> = new
        .conditions
        .iter()
        .filter(|condition| condition.last_transition_time == Time(now()))
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(moved, ["UpstreamProtected"]);
    let kept = new
        .conditions
        .iter()
        .filter(|condition| condition.last_transition_time == Time(before()));
    assert_eq!(kept.count(), 4);
}

#[test]
fn a_time_stays_when_only_reason_message_or_generation_change() {
    let bare = [bare("a")];
    let conflict = [protected_by("older", "a")];
    let old = compute(None, &outcome(&bare), before());
    let later = Outcome {
        generation: Some(4),
        ..outcome(&conflict)
    };
    let new = after(Some(&old), "Injected", &later);
    assert_eq!(new.reason, "Conflict");
    assert_eq!(new.observed_generation, Some(4));
    assert_eq!(new.last_transition_time, Time(before()));
}

#[test]
fn a_condition_that_nobody_computes_is_dropped() {
    let old = status_with(vec![condition("Sunny", "True", "Sun", "")]);
    let new = compute(Some(&old), &outcome(&[]), now());
    assert_eq!(new, compute(None, &outcome(&[]), now()));
}

// === News ===

fn told(type_: &str, status: &str, reason: &str) -> Condition {
    condition(type_, status, reason, "")
}

#[rstest]
#[case::turned_false(
    Some(told("Injected", "True", "Injected")),
    told("Injected", "False", "Conflict"),
    true
)]
#[case::false_from_the_start(None, told("Injected", "False", "Conflict"), true)]
#[case::another_reason(
    Some(told("Injected", "False", "Conflict")),
    told("Injected", "False", "PodsNotInjected"),
    true
)]
#[case::only_another_message(
    Some(condition("Injected", "False", "Conflict", "pod a")),
    told("Injected", "False", "Conflict"),
    false
)]
#[case::turned_true(
    Some(told("Injected", "False", "Conflict")),
    told("Injected", "True", "Injected"),
    false
)]
#[case::turned_unknown(
    Some(told("Injected", "False", "Conflict")),
    told("Injected", "Unknown", "NoPods"),
    false
)]
#[case::ready_turned_true(
    Some(told("Ready", "False", "Conflict")),
    told("Ready", "True", "Ready"),
    true
)]
#[case::ready_from_the_start(None, told("Ready", "True", "Ready"), true)]
#[case::still_ready(
    Some(told("Ready", "True", "Ready")),
    told("Ready", "True", "Ready"),
    false
)]
#[case::ready_turned_false(
    Some(told("Ready", "True", "Ready")),
    told("Ready", "False", "Conflict"),
    false
)]
#[case::said_by_another_condition(
    Some(told("ConfigValid", "False", "Invalid")),
    told("CredentialsResolved", "False", "Invalid"),
    true
)]
fn what_turned_bad_and_what_became_well_is_news(
    #[case] old: Option<Condition>,
    #[case] new: Condition,
    #[case] is_news: bool,
) {
    let old: Vec<Condition> = old.into_iter().collect();
    let new = [new];
    let expected: Vec<&Condition> = new.iter().filter(|_| is_news).collect();
    assert_eq!(news(&old, &new), expected);
}

#[rstest]
#[case::it_serves(Availability::Available, "True", "True", "Ready")]
#[case::too_few_serve(
    Availability::Unavailable,
    "False",
    "False",
    "MinimumReplicasUnavailable"
)]
#[case::there_is_none(Availability::Unknown, "Unknown", "True", "Ready")]
fn a_proxy_with_a_deployment_is_ready_when_its_pods_are(
    #[case] availability: Availability,
    #[case] available: &str,
    #[case] ready: &str,
    #[case] reason: &str,
) {
    let pods = [bare("mlflow-globus-auth-0")];
    let outcome = Outcome {
        standalone: Some(availability),
        ..outcome(&pods)
    };
    let status = compute(None, &outcome, now());
    let found: Vec<(&str, &str)> = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("Ready", ready),
            ("ConfigValid", "True"),
            ("CredentialsResolved", "True"),
            ("Available", available),
        ]
    );
    assert_eq!(status.conditions[0].reason, reason);
}

#[rstest]
#[case::serving(serde_json::json!({"observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"}]}), Availability::Available)]
#[case::not_serving(serde_json::json!({"observedGeneration": 2, "conditions": [{"type": "Available", "status": "False"}]}), Availability::Unavailable)]
#[case::progressing(serde_json::json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "True"}]}), Availability::Unavailable)]
#[case::about_an_older_template(serde_json::json!({"observedGeneration": 1, "conditions": [{"type": "Available", "status": "True"}]}), Availability::Unavailable)]
#[case::nothing_said(serde_json::json!({}), Availability::Unavailable)]
fn a_deployment_is_available_when_its_controller_says_so_of_the_newest_template(
    #[case] status: serde_json::Value,
    #[case] expected: Availability,
) {
    let deployment = serde_json::json!({"metadata": {"generation": 2}, "status": status});
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    assert_eq!(Availability::of(&deployment), expected);
}
