//! What `kubectl apply` refuses, and with which words.

use rstest::rstest;

use crate::cluster::Namespace;

/// A good resource; each case spoils one thing.
fn good() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "globus-auth.dev/v1alpha1",
        "kind": "GlobusAuthProxy",
        "metadata": {"name": "mlflow"},
        "spec": {
            "selector": {"matchLabels": {"app": "mlflow"}},
            "upstream": {"port": "http"},
            "externalUrl": "https://mlflow.example.org",
            "provider": {"type": "Globus", "clientSecretRef": {"name": "client"}},
            "access": {"emails": ["alice@example.org"]},
        },
    })
}

fn dry_run(namespace: &Namespace, object: &serde_json::Value) -> Result<String, String> {
    let apply = [
        "apply",
        "--dry-run=server",
        "--output=json",
        "--filename",
        "-",
    ];
    let mut command = crate::cluster::kubectl(&["--namespace", &namespace.name]);
    command.args(apply);
    let output = crate::cluster::run(command, &object.to_string());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[tokio::test]
async fn a_minimal_resource_is_accepted_with_its_defaults() {
    let namespace = Namespace::new("schema").await;
    let stored: serde_json::Value =
        serde_json::from_str(&dry_run(&namespace, &good()).unwrap()).unwrap();
    let spec = &stored["spec"];
    assert_eq!(spec["mode"], "Sidecar");
    assert_eq!(spec["upstream"]["exposure"], "Report");
    assert_eq!(spec["networkPolicy"], "Enabled");
    assert_eq!(spec["session"]["idleTimeoutSeconds"], 43200);
    assert_eq!(spec["proxy"]["port"], 4180);
}

#[tokio::test]
async fn a_full_resource_is_accepted() {
    let namespace = Namespace::new("schema").await;
    let mut full = good();
    full["spec"] = serde_json::json!({
        "mode": "Sidecar",
        "selector": {"matchLabels": {"app": "mlflow", "tier": "ui"}},
        "upstream": {"port": 5000, "exposure": "Refuse", "hostHeader": "Localhost"},
        "externalUrl": "http://127.0.0.1:8080",
        "provider": {
            "type": "OIDC", "issuer": "https://idp.example.org/realms/lab/", "clientSecretRef": {"name": "client"},
            "scopes": ["groups", "https://auth.globus.org/scopes/x/all"], "emailVerification": "IfPresent",
        },
        "access": {"emails": ["o'brien@example.org"], "emailsFrom": {"configMapKeyRef": {"name": "users", "key": "emails"}}},
        "session": {"idleTimeoutSeconds": 600, "absoluteTimeoutSeconds": 600},
        "bearer": {"introspection": "Disabled", "jwt": [{"issuer": "https://idp.example.org", "audiences": ["mlflow"], "algorithms": ["RS256", "ES256"]}]},
        "networkPolicy": "Disabled",
        "proxy": {
            "port": 8443, "logLevel": "warn",
            "tracing": {"endpoint": "http://otel-collector.observability:4318", "samplingRatePerMillion": 1000},
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}},
    });
    dry_run(&namespace, &full).unwrap();
}

#[rstest]
#[case::external_url_http(
    "/spec/externalUrl",
    "\"http://mlflow.example.org\"",
    "externalUrl must be https://host[:port] without a path"
)]
#[case::external_url_path(
    "/spec/externalUrl",
    "\"https://mlflow.example.org/ui\"",
    "externalUrl must be https://host[:port] without a path"
)]
#[case::external_url_user(
    "/spec/externalUrl",
    "\"https://a@mlflow.example.org\"",
    "externalUrl must be"
)]
#[case::provider_type(
    "/spec/provider/type",
    "\"GitHub\"",
    "supported values: \"Globus\", \"OIDC\""
)]
#[case::oidc_without_issuer(
    "/spec/provider/type",
    "\"OIDC\"",
    "provider.issuer is required with type OIDC"
)]
#[case::issuer_http(
    "/spec/provider/issuer",
    "\"http://auth.example.org\"",
    "provider.issuer must be an https URL"
)]
#[case::globus_email_verification(
    "/spec/provider/emailVerification",
    "\"Required\"",
    "provider.emailVerification is for type OIDC"
)]
#[case::no_secret_name(
    "/spec/provider/clientSecretRef/name",
    "\"\"",
    "spec.provider.clientSecretRef.name"
)]
#[case::port_name(
    "/spec/upstream/port",
    "\"Not A Port\"",
    "upstream.port must be a port number from 1 to 65535 or the name"
)]
#[case::port_zero("/spec/upstream/port", "0", "upstream.port must be a port number")]
#[case::port_high("/spec/upstream/port", "65536", "upstream.port must be a port number")]
#[case::exposure(
    "/spec/upstream/exposure",
    "\"Ignore\"",
    "supported values: \"Refuse\", \"Report\""
)]
#[case::no_labels("/spec/selector/matchLabels", "{}", "spec.selector.matchLabels")]
#[case::email("/spec/access/emails", "[\"alice\"]", "spec.access.emails[0]")]
#[case::email_label("/spec/access/emails", "[\"a@b..c\"]", "spec.access.emails[0]")]
#[case::email_wildcard("/spec/access/emails", "[\"*\"]", "spec.access.emails[0]")]
#[case::email_twice(
    "/spec/access/emails",
    "[\"a@x.test\", \"a@x.test\"]",
    "Duplicate value"
)]
#[case::emails_from_without_key(
    "/spec/access/emailsFrom",
    "{\"configMapKeyRef\": {\"name\": \"users\"}}",
    "spec.access.emailsFrom.configMapKeyRef.key"
)]
#[case::idle_beyond_absolute(
    "/spec/session",
    "{\"idleTimeoutSeconds\": 700, \"absoluteTimeoutSeconds\": 600}",
    "session.idleTimeoutSeconds must not be more than"
)]
#[case::session_short(
    "/spec/session",
    "{\"idleTimeoutSeconds\": 1}",
    "spec.session.idleTimeoutSeconds"
)]
#[case::jwt_without_audience(
    "/spec/bearer",
    "{\"jwt\": [{\"issuer\": \"https://idp.example.org\", \"audiences\": []}]}",
    "spec.bearer.jwt[0].audiences"
)]
#[case::jwt_none(
    "/spec/bearer",
    "{\"jwt\": [{\"issuer\": \"https://idp.example.org\", \"audiences\": [\"a\"], \"algorithms\": [\"none\"]}]}",
    "Unsupported value: \"none\""
)]
#[case::jwt_issuer(
    "/spec/bearer",
    "{\"jwt\": [{\"issuer\": \"http://idp.example.org\", \"audiences\": [\"a\"]}]}",
    "bearer.jwt[].issuer must be an https URL"
)]
#[case::proxy_port("/spec/proxy", "{\"port\": 80}", "spec.proxy.port")]
#[case::unknown_field(
    "/spec/access/emailDomain",
    "[\"example.org\"]",
    "unknown field \"spec.access.emailDomain\""
)]
#[case::name(
    "/metadata/name",
    "\"a-name-that-is-much-too-long-for-what-is-made-of-it-in-the-cluster-by-us\"",
    "metadata.name must not be longer than 63"
)]
#[tokio::test]
async fn a_bad_resource_is_refused_with_the_field_and_the_fix(
    #[case] pointer: &str,
    #[case] value: &str,
    #[case] words: &str,
) {
    let namespace = Namespace::new("schema").await;
    let refusal = dry_run(&namespace, &spoilt(good(), pointer, value)).unwrap_err();
    assert!(refusal.contains(words), "{refusal}");
}

/// A good vault; each case spoils one thing.
fn good_vault() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "globus-auth.dev/v1alpha1",
        "kind": "TokenVault",
        "metadata": {"name": "tokens"},
        "spec": {
            "issuers": [{"name": "globus", "type": "Globus", "clientSecretRef": {"name": "client"}}],
            "consumers": [{"namespace": "ml", "serviceAccount": "app", "resourceServers": ["transfer.api.globus.org"]}],
        },
    })
}

#[tokio::test]
async fn a_minimal_vault_is_accepted_with_its_defaults() {
    let namespace = Namespace::new("schema").await;
    let stored: serde_json::Value =
        serde_json::from_str(&dry_run(&namespace, &good_vault()).unwrap()).unwrap();
    let spec = &stored["spec"];
    assert_eq!(spec["storage"]["type"], "SQLite");
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["refresh"]["keepAliveDays"], 30);
    assert_eq!(spec["encryption"]["rotationPeriodDays"], 90);
    assert_eq!(spec["deletionPolicy"], "Retain");
}

#[rstest]
#[case::replicas_of_a_file("/spec/replicas", "2", "replicas above 1 need storage.type PostgreSQL")]
#[case::postgresql_without_address(
    "/spec/storage",
    "{\"type\": \"PostgreSQL\"}",
    "storage.postgresql is required with storage.type PostgreSQL"
)]
#[case::address_with_a_file(
    "/spec/storage",
    "{\"postgresql\": {\"urlSecretRef\": {\"name\": \"db\", \"key\": \"url\"}}}",
    "storage.postgresql is for storage.type PostgreSQL"
)]
#[case::file_with_postgresql(
    "/spec/storage",
    "{\"type\": \"PostgreSQL\", \"sqlite\": {}, \"postgresql\": {\"urlSecretRef\": {\"name\": \"db\", \"key\": \"url\"}}}",
    "storage.sqlite is for storage.type SQLite"
)]
#[case::size(
    "/spec/storage",
    "{\"sqlite\": {\"size\": \"much\"}}",
    "spec.storage.sqlite.size"
)]
#[case::no_issuers("/spec/issuers", "[]", "spec.issuers")]
#[case::oidc_without_issuer(
    "/spec/issuers",
    "[{\"name\": \"idp\", \"type\": \"OIDC\", \"clientSecretRef\": {\"name\": \"client\"}}]",
    "issuers[].issuer is required with type OIDC"
)]
#[case::two_issuers_of_a_name(
    "/spec/issuers",
    "[{\"name\": \"a\", \"type\": \"Globus\", \"clientSecretRef\": {\"name\": \"client\"}}, {\"name\": \"a\", \"type\": \"Globus\", \"clientSecretRef\": {\"name\": \"client\"}}]",
    "Duplicate value"
)]
#[case::bearer_tokens(
    "/spec/issuers/0/bearerTokens",
    "\"Welcome\"",
    "Unsupported value: \"Welcome\""
)]
#[case::user_grant(
    "/spec/issuers/0/userGrant",
    "\"Password\"",
    "Unsupported value: \"Password\""
)]
#[case::network("/spec/allowedNetworks", "[\"everywhere\"]", "spec.allowedNetworks[0]")]
#[case::consumer_of_nothing(
    "/spec/consumers",
    "[{\"namespace\": \"ml\", \"serviceAccount\": \"app\"}]",
    "consumers[] needs resourceServers, clientCredentials, or both"
)]
#[case::delegation(
    "/spec/consumers/0/delegationDays",
    "0",
    "spec.consumers[0].delegationDays"
)]
#[case::admins_who_are_nobody(
    "/spec/admins",
    "{\"audience\": \"admins\"}",
    "admins needs emails, groups, or both"
)]
#[case::name(
    "/metadata/name",
    "\"a-name-that-is-too-long-for-the-service-that-is-named-after-it\"",
    "metadata.name must have at most 51"
)]
#[tokio::test]
async fn a_bad_vault_is_refused_with_the_field_and_the_fix(
    #[case] pointer: &str,
    #[case] value: &str,
    #[case] words: &str,
) {
    let namespace = Namespace::new("schema").await;
    let refusal = dry_run(&namespace, &spoilt(good_vault(), pointer, value)).unwrap_err();
    assert!(refusal.contains(words), "{refusal}");
}

/// `object` with another `value` at `pointer`.
fn spoilt(mut object: serde_json::Value, pointer: &str, value: &str) -> serde_json::Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[member] = serde_json::from_str(value).unwrap();
    object
}

#[rstest]
#[case::without_a_vault(None, "{\"header\": \"X-Token\"}", "set vaultRef")]
#[case::by_no_way(Some("tokens"), "{}", "a token needs a way to a workload")]
#[case::of_nobody_who_delegates(
    Some("tokens"),
    "{\"grantType\": \"ClientCredentials\", \"delegation\": {\"serviceAccount\": \"jobs\"}}",
    "a token that acts for no user cannot be delegated"
)]
#[case::of_another_issuer_for_nobody(
    Some("tokens"),
    "{\"grantType\": \"ClientCredentials\", \"header\": \"X-Token\", \"issuer\": \"storage\"}",
    "tokens[].issuer is for grantType AuthorizationCode"
)]
#[tokio::test]
async fn a_token_that_cannot_be_is_refused(
    #[case] vault: Option<&str>,
    #[case] token: &str,
    #[case] words: &str,
) {
    let namespace = Namespace::new("schema").await;
    let mut object = good();
    if let Some(name) = vault {
        object["spec"]["vaultRef"] = serde_json::json!({"name": name});
    }
    let mut token: serde_json::Value = serde_json::from_str(token).unwrap();
    token["name"] = "transfer".into();
    token["resourceServer"] = "transfer.api.globus.org".into();
    token["scopes"] = serde_json::json!(["all"]);
    object["spec"]["tokens"] = serde_json::json!([token]);
    let refusal = dry_run(&namespace, &object).unwrap_err();
    assert!(refusal.contains(words), "{refusal}");
}

#[tokio::test]
async fn introspection_with_oidc_is_refused() {
    let namespace = Namespace::new("schema").await;
    let mut object = good();
    object["spec"]["provider"]["type"] = "OIDC".into();
    object["spec"]["provider"]["issuer"] = "https://idp.example.org".into();
    object["spec"]["bearer"] = serde_json::json!({"introspection": "Enabled"});
    let refusal = dry_run(&namespace, &object).unwrap_err();
    assert!(
        refusal.contains("bearer.introspection works with provider type Globus only"),
        "{refusal}"
    );
}

#[tokio::test]
async fn explain_is_a_manual() {
    let namespace = Namespace::new("schema").await;
    let explained = namespace.kubectl(&["explain", "gap.spec.access"]);
    for words in [
        "Who may enter",
        "emails",
        "emailsFrom",
        "Without entries nobody may",
    ] {
        assert!(explained.contains(words), "{explained}");
    }
}
