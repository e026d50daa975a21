use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn settings() -> SidecarSettings {
    SidecarSettings {
        vault_image: String::new(),
        image: "registry.test/sidecar:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        run_as_user: Some(65532),
    }
}

fn policy(port: Port) -> Policy {
    Policy {
        proxy: "mlflow".to_owned(),
        secret: "mlflow-globus-auth".to_owned(),
        port,
        listen_port: 4180,
        resources: None,
        vault_audience: None,
        files: None,
    }
}

fn by_name() -> Policy {
    policy(Port::Name("http".to_owned()))
}

fn by_number() -> Policy {
    policy(Port::Number(5000))
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mlflow", "labels": {"app": "mlflow"}},
        "spec": {
            "fieldOfTheFuture": {"kept": true},
            "containers": [
                {
                    "name": "mlflow",
                    "image": "mlflow",
                    "ports": [{"name": "http", "containerPort": 5000}, {"name": "metrics", "containerPort": 9090}],
                    "readinessProbe": {"httpGet": {"path": "/health?x=$(Y)", "port": "http", "httpHeaders": [{"name": "Host", "value": "h"}]}, "periodSeconds": 3, "timeoutSeconds": 5},
                    "livenessProbe": {"tcpSocket": {"port": 5000}},
                    "startupProbe": {"httpGet": {"path": "/metrics", "port": "metrics"}},
                    "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": "http"}}},
                },
                {"name": "helper", "image": "helper", "readinessProbe": {"exec": {"command": ["true"]}}},
            ],
            "initContainers": [{"name": "migrate", "image": "mlflow"}],
        },
    })
}

fn inject(pod: &Value, policy: &Policy) -> Value {
    let mut injected = pod.clone();
    let injection = plan(pod, policy, &settings()).unwrap();
    json_patch::patch(&mut injected, &injection.patch).unwrap();
    injected
}

fn sidecar(pod: &Value) -> &Value {
    pod.pointer("/spec/initContainers/0").unwrap()
}

#[test]
fn the_sidecar_is_the_first_native_sidecar() {
    let injected = inject(&pod(), &by_name());
    let sidecar = sidecar(&injected);
    assert_eq!(sidecar["name"], "globus-auth-proxy");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["image"], "registry.test/sidecar:1");
    assert_eq!(injected["spec"]["initContainers"][1]["name"], "migrate");
}

#[test]
fn the_port_name_goes_to_the_sidecar_and_the_number_stays() {
    let injected = inject(&pod(), &by_name());
    let sidecar = sidecar(&injected);
    assert_eq!(
        sidecar["ports"][0],
        json!({"name": "http", "containerPort": 4180, "protocol": "TCP"})
    );
    let ports = &injected["spec"]["containers"][0]["ports"];
    assert_eq!(
        *ports,
        json!([{"name": "http-app", "containerPort": 5000}, {"name": "metrics", "containerPort": 9090}])
    );
    let args = sidecar["args"].as_array().unwrap();
    for argument in [
        "--listen-address=::",
        "--listen-port=4180",
        "--upstream-port=5000",
        "--admin-port=4181",
    ] {
        assert!(args.contains(&json!(argument)), "{argument}");
    }
}

#[test]
fn a_numeric_port_is_taken_on_the_address_of_the_pod() {
    let injected = inject(&pod(), &by_number());
    let sidecar = sidecar(&injected);
    assert_eq!(
        sidecar["ports"][0],
        json!({"name": "http", "containerPort": 5000, "protocol": "TCP"})
    );
    let args = sidecar["args"].as_array().unwrap();
    for argument in [
        "--listen-address=$(POD_IPS)",
        "--listen-port=5000",
        "--upstream-port=5000",
    ] {
        assert!(args.contains(&json!(argument)), "{argument}");
    }
}

#[test]
fn probes_of_the_port_are_asked_through_the_sidecar() {
    for policy in [by_name(), by_number()] {
        let injected = inject(&pod(), &policy);
        let container = &injected["spec"]["containers"][0];
        assert_eq!(
            container["readinessProbe"],
            json!({"httpGet": {"path": "/probe/mlflow/readiness", "port": 4181, "scheme": "HTTP"}, "periodSeconds": 3, "timeoutSeconds": 5})
        );
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"path": "/probe/mlflow/liveness", "port": 4181, "scheme": "HTTP"}})
        );
        assert_eq!(
            container["startupProbe"],
            pod()["spec"]["containers"][0]["startupProbe"]
        );
        assert_eq!(
            container["lifecycle"]["preStop"]["httpGet"]["port"],
            "http-app"
        );
        let probes = sidecar(&injected)["args"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .as_str()
            .unwrap();
        assert_eq!(
            probes,
            "--probes=[{\"container\":\"mlflow\",\"kind\":\"liveness\",\"action\":{\"tcpSocket\":{}},\"timeoutSeconds\":1},\
             {\"container\":\"mlflow\",\"kind\":\"readiness\",\"action\":{\"httpGet\":{\"path\":\"/health?x=$$(Y)\",\"headers\":[[\"Host\",\"h\"]]}},\"timeoutSeconds\":5}]"
        );
    }
}

#[test]
fn the_sidecar_passes_pod_security_restricted() {
    let injected = inject(&pod(), &by_name());
    assert_eq!(
        sidecar(&injected)["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 65532,
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
}

#[test]
fn the_sidecar_gets_its_own_token_in_place_of_the_pods() {
    let injected = inject(&pod(), &by_name());
    let mounts = sidecar(&injected)["volumeMounts"].as_array().unwrap();
    assert_eq!(
        mounts[1]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    let volumes = injected["spec"]["volumes"].as_array().unwrap();
    // All of it: the list of ended sessions comes when the first one has ended.
    let secret = json!({"secretName": "mlflow-globus-auth", "defaultMode": 0o444});
    assert_eq!(volumes[0]["secret"], secret);
    assert_eq!(
        volumes[1]["projected"]["sources"][0]["serviceAccountToken"]["audience"],
        "globus-auth-operator"
    );
    for container in injected["spec"]["containers"].as_array().unwrap() {
        assert!(container.get("volumeMounts").is_none());
    }
}

#[test]
fn what_we_do_not_know_is_kept() {
    let injected = inject(&pod(), &by_name());
    assert_eq!(injected["spec"]["fieldOfTheFuture"], json!({"kept": true}));
    assert_eq!(
        injected["spec"]["containers"][1],
        pod()["spec"]["containers"][1]
    );
}

#[test]
fn kubectl_keeps_to_the_workload_unless_told_otherwise() {
    let mut pod = pod();
    let annotation = "kubectl.kubernetes.io/default-container";
    assert_eq!(
        inject(&pod, &by_name())["metadata"]["annotations"][annotation],
        "mlflow"
    );
    pod["metadata"]["annotations"] = json!({annotation: "helper"});
    assert_eq!(
        inject(&pod, &by_name())["metadata"]["annotations"][annotation],
        "helper"
    );
}

#[test]
fn a_second_pass_changes_nothing() {
    for policy in [by_name(), by_number()] {
        let once = inject(&pod(), &policy);
        assert_eq!(
            plan(&once, &policy, &settings()).unwrap().patch,
            Patch::default()
        );
    }
}

#[test]
fn a_sidecar_that_somebody_changed_is_restored() {
    let once = inject(&pod(), &by_name());
    for (field, value) in [
        ("image", json!("evil")),
        ("restartPolicy", json!(null)),
        ("command", json!(["sh"])),
        ("securityContext", json!({"privileged": true})),
    ] {
        let mut changed = once.clone();
        changed["spec"]["initContainers"][0][field] = value;
        assert_eq!(inject(&changed, &by_name()), once, "{field}");
    }
    let mut changed = once.clone();
    changed["spec"]["volumes"][0]["secret"]["secretName"] = json!("another");
    assert_eq!(inject(&changed, &by_name()), once);
}

#[test]
fn a_port_that_ends_in_app_is_not_taken_for_a_renamed_one() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["ports"][0]["name"] = json!("my-app");
    let injected = inject(&pod, &by_number());
    assert_eq!(sidecar(&injected)["ports"][0]["name"], "my-app");
    assert_eq!(
        injected["spec"]["containers"][0]["ports"][0]["name"],
        "my-app-app"
    );
    assert_eq!(
        plan(&injected, &by_number(), &settings()).unwrap().patch,
        Patch::default()
    );
}

#[test]
fn the_longest_port_name_still_fits() {
    assert_eq!(workload_port_name("a-very-long-nam"), "a-very-long-app");
    assert_eq!(workload_port_name("abcdefghij-lmno"), "abcdefghij-app");
}

#[rstest]
#[case::unknown_port(|pod: &mut Value| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]),
    "no container has a port named \"http\", which spec.upstream.port of GlobusAuthProxy \"mlflow\" names; declared: 8080")]
#[case::ambiguous(|pod: &mut Value| pod["spec"]["containers"][1]["ports"] = json!([{"name": "http", "containerPort": 8080}]),
    "several containers have a port named \"http\"")]
#[case::host_port(|pod: &mut Value| pod["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(80),
    "port http (5000) has a hostPort")]
#[case::host_network(|pod: &mut Value| pod["spec"]["hostNetwork"] = json!(true), "hostNetwork")]
#[case::windows(|pod: &mut Value| pod["spec"]["os"] = json!({"name": "windows"}), "Linux only")]
#[case::name_taken(|pod: &mut Value| pod["spec"]["containers"][1]["name"] = json!("globus-auth-proxy"), "rename it")]
#[case::listen_port_taken(|pod: &mut Value| pod["spec"]["containers"][0]["ports"][1]["containerPort"] = json!(4180),
    "container \"mlflow\" uses port 4180, which the proxy needs; set spec.proxy.port of GlobusAuthProxy \"mlflow\"")]
#[case::admin_port_taken(|pod: &mut Value| pod["spec"]["initContainers"][0]["ports"] = json!([{"containerPort": 4181}]),
    "container \"migrate\" uses port 4181")]
#[case::no_spec(|pod: &mut Value| drop(pod.as_object_mut().unwrap().remove("spec")), "it has no spec")]
#[case::malformed(|pod: &mut Value| pod["spec"]["containers"] = json!("x"), "the pod cannot be read")]
fn what_cannot_be_guarded_is_refused(#[case] spoil: fn(&mut Value), #[case] sentence: &str) {
    let mut pod = pod();
    spoil(&mut pod);
    let refusal = plan(&pod, &by_name(), &settings()).unwrap_err().to_string();
    assert!(refusal.contains(sentence), "{refusal}");
}

#[test]
fn a_host_port_of_a_numeric_port_is_refused() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(80);
    assert!(matches!(
        plan(&pod, &by_number(), &settings()),
        Err(Refusal::HostPort { .. })
    ));
}

#[test]
fn a_shared_process_namespace_is_warned_of() {
    let mut pod = pod();
    pod["spec"]["shareProcessNamespace"] = json!(true);
    let warnings = plan(&pod, &by_name(), &settings()).unwrap().warnings;
    assert!(warnings[0].contains("shareProcessNamespace"));
}

/// JSON of any shape, with the words that the planner looks for.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![Just("http"), Just("mlflow"), Just("globus-auth-proxy")].prop_map(Value::from),
    ];
    let word = prop_oneof![
        Just("spec"),
        Just("containers"),
        Just("initContainers"),
        Just("ports"),
        Just("name"),
        Just("containerPort"),
        Just("readinessProbe"),
        Just("httpGet"),
        Just("port"),
        Just("volumes"),
        Just("metadata"),
        Just("annotations"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_makes_the_planner_panic(object in any_json()) {
        let _outcome = plan(&object, &by_name(), &settings());
    }

    #[test]
    fn whatever_can_be_injected_is_stable(
        name in "[a-z][a-z0-9]{0,13}[a-z]",
        number in 1_u16..,
        probe_port in prop_oneof![Just(None), (1_u16..).prop_map(Some)],
        by_number in any::<bool>(),
    ) {
        let mut pod = pod();
        pod["spec"]["containers"][0]["ports"] = json!([{"name": name, "containerPort": number}]);
        if let Some(port) = probe_port {
            pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = json!(port);
        }
        let policy = policy(if by_number { Port::Number(number) } else { Port::Name(name) });
        if let Ok(injection) = plan(&pod, &policy, &settings()) {
            let mut once = pod.clone();
            json_patch::patch(&mut once, &injection.patch).unwrap();
            prop_assert_eq!(plan(&once, &policy, &settings()).unwrap().patch, Patch::default());
        }
    }
}

fn for_a_job() -> Policy {
    Policy {
        vault_audience: Some("tokenvault.alcf.auth".to_owned()),
        files: Some(super::super::policy::Files {
            first: "alcf".to_owned(),
            need_user: true,
        }),
        ..by_number()
    }
}

/// A pod of user 1000 that acts for alice; its helper runs as somebody else.
fn job() -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"globus-auth.dev/on-behalf-of": "alice"});
    pod["spec"]["securityContext"] = json!({"runAsUser": 1000});
    pod["spec"]["containers"][1]["securityContext"] = json!({"runAsUser": 1337});
    pod
}

#[test]
fn a_job_reads_files_that_the_sidecar_writes_as_its_user() {
    let injected = inject(&job(), &for_a_job());
    let sidecar = sidecar(&injected);
    assert_eq!(sidecar["securityContext"]["runAsUser"], 1000);
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/startupz");
    let args = sidecar["args"].as_array().unwrap();
    assert!(
        args.contains(&json!("--token-folder=/var/run/globus-auth/tokens")),
        "{args:?}"
    );
    assert!(
        args.contains(&json!("--on-behalf-of=$(ON_BEHALF_OF)")),
        "{args:?}"
    );
    let mount = json!([{"name": "globus-auth-tokens", "mountPath": "/var/run/globus-auth/tokens", "readOnly": true}]);
    let variable =
        json!([{"name": "BEARER_TOKEN_FILE", "value": "/var/run/globus-auth/tokens/alcf"}]);
    let containers = &injected["spec"]["containers"];
    let migrate = &injected["spec"]["initContainers"][1];
    for reader in [&containers[0], migrate] {
        assert_eq!(
            (&reader["volumeMounts"], &reader["env"]),
            (&mount, &variable)
        );
    }
    assert_eq!(
        containers[1].get("volumeMounts"),
        None,
        "it could not read them"
    );
    let again = plan(&injected, &for_a_job(), &settings()).unwrap();
    assert!(again.patch.is_empty(), "{}", again.patch);
}

#[test]
fn a_job_that_says_where_it_looks_for_a_token_looks_there() {
    let mut pod = job();
    let own = json!([{"name": "BEARER_TOKEN_FILE", "value": "/elsewhere"}]);
    pod["spec"]["containers"][0]["env"] = own.clone();
    assert_eq!(
        inject(&pod, &for_a_job())["spec"]["containers"][0]["env"],
        own
    );
}

#[rstest]
#[case::nobody_named("/metadata/annotations", json!({}), "no_user")]
#[case::an_empty_name("/metadata/annotations", json!({"globus-auth.dev/on-behalf-of": " "}), "no_user")]
#[case::root("/spec/securityContext", json!({"runAsUser": 0}), "unknown_user")]
#[case::a_user_of_the_image("/spec/securityContext", json!({}), "unknown_user")]
#[case::shared_processes("/spec/shareProcessNamespace", json!(true), "shared_processes")]
fn a_job_whose_files_others_could_read_is_refused(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] category: &str,
) {
    let mut pod = job();
    pod["spec"]["shareProcessNamespace"] = json!(false);
    *pod.pointer_mut(pointer).unwrap() = value;
    let refusal = plan(&pod, &for_a_job(), &settings()).unwrap_err();
    assert_eq!(refusal.category(), category);
}

#[rstest]
#[case("globus-auth-config")]
#[case("globus-auth-identity")]
#[case("globus-auth-vault")]
fn a_container_that_mounts_what_is_the_sidecars_is_refused(
    #[case] volume: &str,
    #[values("containers", "initContainers")] list: &str,
) {
    let mut pod = pod();
    pod["spec"][list][0]["volumeMounts"] = json!([{"name": volume, "mountPath": "/x"}]);
    let refusal = plan(&pod, &by_name(), &settings()).unwrap_err();
    assert_eq!(refusal.category(), "volume_taken");
}
