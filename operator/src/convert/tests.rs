//! Configurations as people have them, and everything that must not happen to them.

use globus_auth_crds::GlobusAuthProxy;
use rstest::rstest;

use super::command::told;
use super::flags::{self, Fate, Kind, by_name};
use super::plan::{Conversion, Target, plan};
use super::read::{Input, Source, Unreadable, read};
use super::table::FLAGS;

const MLFLOW: &str = include_str!("examples/mlflow.cfg");
const GITLAB: &str = include_str!("examples/gitlab.yaml");
const KEYCLOAK: &str = include_str!("examples/keycloak.env");
const GOOGLE: &str = include_str!("examples/google.args");
/// The flags of oauth2-proxy 7.15, as its source registers them.
const NAMES: &str = include_str!("examples/flags-7.15.txt");
const GUIDE: &str = include_str!("../../../docs/migrating-from-oauth2-proxy.md");

/// Flags that are enough to be converted.
const ENOUGH: &[&str] = &[
    "--provider=oidc",
    "--oidc-issuer-url=https://idp.example.org",
    "--client-id=us",
    "--client-secret=canary",
    "--redirect-url=https://app.example.org/oauth2/callback",
    "--upstream=http://127.0.0.1:8080",
];

fn read_all(texts: &[&str]) -> Result<Input, Unreadable> {
    let mut input = Input::default();
    for text in texts {
        let source = Source {
            name: "test".to_owned(),
            text: (*text).to_owned(),
        };
        read(&source, &mut input)?;
    }
    Ok(input)
}

fn convert(texts: &[&str]) -> Result<Conversion, Vec<String>> {
    let input = read_all(texts).map_err(|error| vec![error.to_string()])?;
    plan(&input, &Target::default())
}

/// [`ENOUGH`] and `more`.
fn with(more: &[&str]) -> Result<Conversion, Vec<String>> {
    convert(&[&[ENOUGH, more].concat().join("\n")])
}

fn spec(conversion: &Conversion, pointer: &str) -> serde_json::Value {
    let spec = conversion.proxy.get("spec").unwrap();
    spec.pointer(pointer).cloned().unwrap_or_default()
}

fn everything(conversion: &Result<Conversion, Vec<String>>) -> String {
    match conversion {
        Ok(conversion) => format!("{}\n{}", conversion.proxy, told(conversion)),
        Err(refusals) => refusals.join("\n"),
    }
}

/// The program of the runbook, whose list means nothing as it stands.
fn mlflow_without_star() -> String {
    MLFLOW.replace("email_domains = [ \"*\" ]\n", "")
}

#[rstest]
#[case::mlflow(&mlflow_without_star(), include_str!("examples/mlflow.expected.yaml"))]
#[case::gitlab(GITLAB, include_str!("examples/gitlab.expected.yaml"))]
#[case::keycloak(KEYCLOAK, include_str!("examples/keycloak.expected.yaml"))]
#[case::google(GOOGLE, include_str!("examples/google.expected.yaml"))]
fn a_configuration_becomes_this_resource(#[case] text: &str, #[case] expected: &str) {
    let conversion = convert(&[text]);
    let everything = everything(&conversion);
    assert!(!everything.contains("canary"), "{everything}");
    let conversion = conversion.unwrap();
    let yaml = serde_yaml_ng::to_string(&conversion.proxy).unwrap();
    let told = told(&conversion);
    let told = told.lines().map(|line| format!("# {line}"));
    let told: Vec<_> = told.map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(
        format!("{yaml}{}\n", told.join("\n").trim_end_matches(['#', '\n'])),
        expected
    );
    let _fits: GlobusAuthProxy = serde_json::from_value(conversion.proxy).unwrap();
}

#[test]
fn a_star_beside_a_list_is_refused() {
    let refusals = convert(&[MLFLOW]).unwrap_err();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(
        refusals
            .concat()
            .contains("makes oauth2-proxy admit everybody")
    );
    let refusals = with(&["--email-domain=*,example.org"]).unwrap_err();
    assert!(
        refusals.concat().starts_with("--email-domain"),
        "{refusals:?}"
    );
}

#[test]
fn a_star_alone_is_said_loudly() {
    let conversion = with(&["--email-domain=*"]).unwrap();
    assert_eq!(
        spec(&conversion, "/access"),
        serde_json::json!({"anyAuthenticated": "Enabled"})
    );
    assert!(told(&conversion).contains("WARNING"));
}

#[rstest]
#[case::domain("--email-domain=example.org")]
#[case::file("--authenticated-emails-file=/list")]
fn a_group_and_an_address_that_must_both_hold_do_not_become_either(#[case] addresses: &str) {
    for groups in ["--allowed-group=staff", "--gitlab-group=staff"] {
        let refusals = with(&[addresses, groups]).unwrap_err();
        assert!(
            refusals.concat().starts_with("--allowed-group"),
            "{refusals:?}"
        );
    }
    let conversion = with(&["--email-domain=*", "--allowed-group=staff"]).unwrap();
    assert_eq!(
        spec(&conversion, "/access"),
        serde_json::json!({"groups": ["staff"]})
    );
}

#[rstest]
#[case("", "email-domain")]
#[case("--email-domain=a.org --upstream=http://other", "upstream")]
#[case("--email-domain=a.org --config=/etc/proxy.cfg", "config")]
#[case("--email-domain=a.org --provider=github", "provider")]
#[case(
    "--email-domain=a.org --provider=azure --oidc-issuer-url=",
    "azure-tenant"
)]
#[case(
    "--email-domain=a.org --oidc-issuer-url=https://canary:canary@idp.example.org",
    "oidc-issuer-url"
)]
#[case("--email-domain=a.org --redirect-url=/oauth2/callback", "redirect-url")]
#[case("--email-domain=a.org --cookie-expire=never", "cookie-expire")]
fn what_cannot_be_converted_is_refused(#[case] more: &str, #[case] flag: &str) {
    let more: Vec<_> = more.split(' ').filter(|word| !word.is_empty()).collect();
    let refusals = with(&more).unwrap_err();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(
        refusals.concat().starts_with(&format!("--{flag}: ")),
        "{refusals:?}"
    );
    assert!(!refusals.concat().contains("canary"), "{refusals:?}");
}

#[rstest]
#[case("http://127.0.0.1:8080/path/")]
#[case("http://canary:canary@127.0.0.1:8080")]
#[case("unix:///run/socket")]
#[case("file:///srv/#/")]
#[case("https://127.0.0.1:8443")]
fn another_upstream_is_refused(#[case] upstream: &str) {
    let enough = ENOUGH.iter().filter(|flag| !flag.starts_with("--upstream"));
    let flags: Vec<_> = enough
        .copied()
        .chain(["--email-domain=a.org", "--upstream", upstream])
        .collect();
    let refusals = convert(&[&flags.join("\n")]).unwrap_err();
    assert!(
        refusals.concat().starts_with("--upstream: "),
        "{refusals:?}"
    );
    assert!(!refusals.concat().contains("canary"), "{refusals:?}");
}

/// What each of them keeps out would come in if it were left out.
#[test]
fn every_flag_that_restricts_and_is_not_known_here_is_refused() {
    for flag in FLAGS.iter().filter(|flag| flag.fate == Fate::Refused) {
        let value = if flag.kind == Kind::Switch {
            "true"
        } else {
            "canary"
        };
        let refusals =
            with(&["--email-domain=a.org", &format!("--{}={value}", flag.name)]).unwrap_err();
        assert_eq!(refusals, [format!("--{}: {}", flag.name, flag.text)]);
    }
}

#[test]
fn every_flag_that_has_no_equivalent_is_listed() {
    for flag in FLAGS
        .iter()
        .filter(|flag| [Fate::Absent, Fate::Needless].contains(&flag.fate))
    {
        let value = match (flag.kind, flag.default) {
            (Kind::Switch, "true") => "false",
            (Kind::Switch, _) => "true",
            (Kind::List | Kind::Text, _) => "canary",
        };
        let conversion = with(&["--email-domain=a.org", &format!("--{}={value}", flag.name)]);
        let everything = everything(&conversion);
        assert!(
            everything.contains(&format!("- --{}: {}", flag.name, flag.text)),
            "{}",
            flag.name
        );
        assert!(
            !everything.contains("canary"),
            "{}: {everything}",
            flag.name
        );
    }
}

#[test]
fn every_flag_of_oauth2_proxy_is_known_and_in_the_guide() {
    let known: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
    let names: Vec<_> = NAMES.lines().collect();
    assert_eq!(known, names);
    let table = flags::markdown();
    assert!(
        GUIDE.contains(&table),
        "docs/migrating-from-oauth2-proxy.md must have the table that `globus-auth-operator convert --flags` prints"
    );
}

#[test]
fn what_is_given_as_oauth2_proxy_has_it_anyway_is_not_mentioned() {
    let conversion = with(&[
        "--email-domain=a.org",
        "--ping-path=/ping",
        "--cookie-secure=true",
    ])
    .unwrap();
    assert_eq!(conversion.needless, Vec::<String>::new());
}

#[test]
fn flags_win_over_environment_over_file() {
    let file =
        "client_id = 'file'\nemail_domains = ['file.org']\nscope = 'file'\ncookie_expire = '1h'";
    let environment = "OAUTH2_PROXY_EMAIL_DOMAINS=environment.org\nOAUTH2_PROXY_SCOPE=environment";
    let flags = [ENOUGH, &["--scope=flag"]].concat().join(" ");
    for texts in [[file, environment, &flags], [&flags, environment, file]] {
        let conversion = convert(&texts).unwrap();
        assert_eq!(
            spec(&conversion, "/access/emailDomains/0"),
            "environment.org"
        );
        assert_eq!(spec(&conversion, "/provider/scopes/0"), "flag");
        assert_eq!(spec(&conversion, "/session/absoluteTimeoutSeconds"), 3600);
        assert!(conversion.commands.concat().contains("client-id=us"));
    }
}

#[rstest]
#[case::exact("^/health$", Some(("/health", "Exact", 2)))]
#[case::method("POST=^/hook$", Some(("/hook", "Exact", 1)))]
#[case::below("^/static/.*$", Some(("/static", "Prefix", 2)))]
#[case::unbound_at_the_end("^/static", Some(("/static", "Prefix", 2)))]
#[case::escaped("^/robots\\.txt$", Some(("/robots.txt", "Exact", 2)))]
#[case::any_sign("^/robots.txt$", None)]
#[case::unbound_at_the_start("/health$", None)]
#[case::not("GET!=^/private", None)]
#[case::everything("^/.*", None)]
#[case::everything_too("^/", None)]
#[case::alternatives("^/(a|b)$", None)]
#[case::ours("^/oauth2/auth$", None)]
#[case::class("^/v[0-9]+/health$", None)]
fn only_a_plain_path_becomes_public(
    #[case] rule: &str,
    #[case] expected: Option<(&str, &str, usize)>,
) {
    let conversion = with(&["--email-domain=a.org", "--skip-auth-route", rule]).unwrap();
    let route = spec(&conversion, "/access/public/0");
    let Some((path, path_match, methods)) = expected else {
        assert_eq!(route, serde_json::Value::Null);
        assert!(told(&conversion).contains("needs a login now"));
        return;
    };
    assert_eq!(
        (&route["path"], &route["match"]),
        (&path.into(), &path_match.into())
    );
    assert_eq!(route["methods"].as_array().unwrap().len(), methods);
}

#[rstest]
#[case::typo("--client-sceret=canary", Unreadable::Unknown { name: "client-sceret".to_owned() })]
#[case::no_value("--client-id", Unreadable::NoValue { name: "client-id" })]
#[case::no_switch("--cookie-secure=canary", Unreadable::NotSwitch { name: "cookie-secure" })]
#[case::no_flag("--cookie-secure canary", Unreadable::NotFlag { position: 2 })]
#[case::toml("client_id = 'a'\nclient_secret = canary", Unreadable::Toml { line: 2 })]
#[case::unknown_key("client_sceret = 'canary'", Unreadable::Unknown { name: "client_sceret".to_owned() })]
#[case::yaml("kind: Deployment\nx: {canary", Unreadable::Yaml { document: 1 })]
#[case::other_yaml("kind: Service\nspec: {}", Unreadable::NoContainer)]
fn what_cannot_be_read_is_told_without_its_text(#[case] text: &str, #[case] expected: Unreadable) {
    let error = read_all(&[text]).err().unwrap();
    assert!(!error.to_string().contains("canary"), "{error}");
    assert_eq!(error, expected);
}

#[test]
fn two_proxies_in_one_file_are_not_mixed() {
    let text = format!("{GITLAB}---\n{}", GITLAB.rsplit("---\n").next().unwrap());
    assert_eq!(
        read_all(&[&text]).err().unwrap(),
        Unreadable::SeveralContainers
    );
}

#[test]
fn a_variable_that_oauth2_proxy_ignores_is_named() {
    let input = read_all(&["OAUTH2_PROXY_ALLOWED_EMAILS=canary@example.org\nOTHER=1"]).unwrap();
    assert_eq!(input.notes.len(), 1);
    assert!(
        input
            .notes
            .concat()
            .starts_with("OAUTH2_PROXY_ALLOWED_EMAILS is no setting")
    );
    assert!(!input.notes.concat().contains("canary"));
}

#[test]
fn a_rule_that_is_only_referred_to_is_refused() {
    let text = GITLAB.replace(
        "            - name: OAUTH2_PROXY_COOKIE_SECRET\n              value: canary-cookie-secret",
        "            - name: OAUTH2_PROXY_ALLOWED_GROUPS\n              valueFrom: {configMapKeyRef: {name: other, key: groups}}",
    );
    let refusals = convert(&[&text]).unwrap_err();
    assert!(
        refusals
            .concat()
            .starts_with("--allowed-group: its value is not in the files"),
        "{refusals:?}"
    );
}

#[test]
fn limits_and_certificates_come_along() {
    let conversion = with(&[
        "--email-domain=a.org",
        "--upstream-timeout=5m",
        "--tls-cert-file=/tls/tls.crt",
        "--tls-key-file=/tls/tls.key",
        "--cookie-expire=720h1s",
    ])
    .unwrap();
    assert_eq!(spec(&conversion, "/upstream/responseTimeoutSeconds"), 300);
    assert_eq!(spec(&conversion, "/proxy/tlsSecretRef/name"), "app-tls");
    assert_eq!(
        spec(&conversion, "/session/absoluteTimeoutSeconds"),
        2_592_000
    );
    assert!(
        conversion
            .commands
            .concat()
            .contains("kubectl create secret tls app-tls --cert=/tls/tls.crt --key=/tls/tls.key")
    );
}

#[test]
fn a_word_for_a_shell_stays_one() {
    let conversion = with(&["--email-domain=a.org", "--client-id=\"a'b;c\""]).unwrap();
    let commands = conversion.commands.concat();
    assert!(
        commands.contains(r"--from-literal=client-id='a'\''b;c'"),
        "{commands}"
    );
}

#[test]
fn the_kind_of_each_switch_is_right() {
    for flag in FLAGS {
        let is_switch = ["true", "false"].contains(&flag.default);
        assert_eq!(flag.kind == Kind::Switch, is_switch, "{}", flag.name);
        assert!(by_name(flag.name).is_some_and(|found| found.cfg == flag.cfg));
    }
}
