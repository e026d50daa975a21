//! Who may enter, from what is stored to what sidecars are told. Pure.

use globus_auth_core::email::{self, Email, EmailDomain};
use globus_auth_core::identity::ServiceAccount;
use globus_auth_core::sidecar_config as config;
use globus_auth_core::url::ExternalUrl;
use globus_auth_crds::GlobusAuthProxySpec;
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::proxy as spec;
use k8s_openapi::api::core::v1::ConfigMap;

use super::validate::{ClusterIssuer, Fetched, Problem, invalid};

/// The access rules of `spec`.
///
/// # Errors
/// The first entry that cannot be used, with its field.
pub fn access(spec: &GlobusAuthProxySpec, fetched: &Fetched) -> Result<config::Access, Problem> {
    let access = &spec.access;
    let any_authenticated = access.any_authenticated == Some(spec::Switch::Enabled);
    if any_authenticated && has_list(access) {
        return Err(invalid(
            "spec.access.anyAuthenticated: Enabled admits everybody whom the provider knows, so a list beside \
             it would say nothing; remove emails, emailsFrom, emailDomains and groups, or set it to Disabled"
                .to_owned(),
        ));
    }
    Ok(config::Access {
        emails: emails(access, fetched.allowlist.as_ref())?,
        email_domains: email_domains(access)?,
        groups: groups(access),
        identity_providers: access.identity_providers.clone(),
        service_accounts: service_accounts(spec, fetched.cluster.as_ref())?,
        any_authenticated,
        public: access.public.iter().map(public).collect::<Result<_, _>>()?,
    })
}

fn has_list(access: &spec::Access) -> bool {
    !access.emails.is_empty()
        || access.emails_from.is_some()
        || !access.email_domains.is_empty()
        || !access.groups.is_empty()
}

fn emails(access: &spec::Access, config_map: Option<&ConfigMap>) -> Result<Vec<Email>, Problem> {
    let unusable = |message| Problem {
        condition: types::CONFIG_VALID,
        reason: reasons::ALLOWLIST_UNUSABLE,
        message,
    };
    let inline = access.emails.iter().map(|text| {
        text.parse::<Email>()
            .map_err(|error| invalid(format!("spec.access.emails has {text:?}: {error}")))
    });
    let mut emails = inline.collect::<Result<Vec<_>, _>>()?;
    if let Some(from) = &access.emails_from {
        let spec::ConfigMapKeyReference { name, key } = &from.config_map_key_ref;
        let map = config_map.ok_or_else(|| {
            unusable(format!(
                "there is no ConfigMap {name:?}, which spec.access.emailsFrom names"
            ))
        })?;
        let text = map
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .ok_or_else(|| {
                unusable(format!(
                    "ConfigMap {name:?} has no key {key:?}, which spec.access.emailsFrom names"
                ))
            })?;
        emails.extend(email::parse_list(text).map_err(|error| {
            unusable(format!(
                "ConfigMap {name:?}, key {key:?}: {error}; the last good list stays in force"
            ))
        })?);
    }
    emails.sort_unstable();
    emails.dedup();
    Ok(emails)
}

fn email_domains(access: &spec::Access) -> Result<Vec<EmailDomain>, Problem> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|error| invalid(format!("spec.access.emailDomains has {text:?}: {error}")))
    };
    access.email_domains.iter().map(parse).collect()
}

fn groups(access: &spec::Access) -> Option<config::GroupAccess> {
    let max_age = u32::try_from(access.groups_max_age_seconds).unwrap_or(SHORTEST_GROUPS_AGE);
    (!access.groups.is_empty()).then(|| config::GroupAccess {
        names: access.groups.clone(),
        max_age_seconds: max_age.max(SHORTEST_GROUPS_AGE),
    })
}

fn service_accounts(
    spec: &GlobusAuthProxySpec,
    cluster: Option<&ClusterIssuer>,
) -> Result<Option<config::ServiceAccountAccess>, Problem> {
    let accounts = &spec.access.service_accounts;
    if accounts.is_empty() {
        return Ok(None);
    }
    let cluster = cluster.ok_or_else(|| {
        invalid(
            "spec.access.serviceAccounts needs the public keys of the cluster, and the API server did not \
             tell them at /openid/v1/jwks"
                .to_owned(),
        )
    })?;
    // What is wrong with the address is said elsewhere.
    let audience = spec.external_url.parse::<ExternalUrl>().ok();
    let account = |account: &spec::ServiceAccountReference| ServiceAccount {
        namespace: account.namespace.clone(),
        name: account.name.clone(),
    };
    Ok(audience.map(|url| config::ServiceAccountAccess {
        accounts: accounts.iter().map(account).collect(),
        issuer: cluster.issuer.clone(),
        audience: url.origin(),
        keys: cluster.keys.clone(),
    }))
}

/// The schema refuses such paths, too; one that was stored before it did must not open anything.
fn public(route: &spec::PublicRoute) -> Result<config::PublicRoute, Problem> {
    let path = &route.path;
    let is_ours = path == "/oauth2" || path.starts_with("/oauth2/");
    if !path.starts_with('/') || is_ours {
        return Err(invalid(format!(
            "spec.access.public has the path {path:?}; it must start with / and not lie below /oauth2"
        )));
    }
    Ok(config::PublicRoute {
        path: path.clone(),
        path_match: match route.path_match {
            spec::PathMatch::Exact => config::PathMatch::Exact,
            spec::PathMatch::Prefix => config::PathMatch::Prefix,
        },
        methods: route
            .methods
            .iter()
            .map(|method| method.as_str().to_owned())
            .collect(),
    })
}

/// The schema's minimum, in seconds.
const SHORTEST_GROUPS_AGE: u32 = 60;

#[cfg(test)]
mod tests {
    use globus_auth_core::sidecar_config::PathMatch;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::{fetched, proxy_with_spec};

    fn read(patch: &Value) -> Result<config::Access, Problem> {
        let proxy = proxy_with_spec(&json!({"access": patch}));
        let cluster = Some(ClusterIssuer {
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            keys: json!({"keys": [{"kty": "RSA"}]}),
        });
        access(
            &proxy.spec,
            &Fetched {
                cluster,
                ..fetched()
            },
        )
    }

    #[test]
    fn every_rule_reaches_the_sidecar() {
        let access = read(&json!({
            "emailDomains": ["example.org", "*.lab.test"],
            "groups": ["g-1"],
            "groupsMaxAgeSeconds": 600,
            "identityProviders": ["idp-1"],
            "serviceAccounts": [{"namespace": "train", "name": "trainer"}],
            "public": [{"path": "/health"}, {"path": "/static", "match": "Prefix", "methods": ["OPTIONS"]}],
        }))
        .unwrap();
        assert_eq!(access.email_domains.len(), 2);
        let groups = access.groups.unwrap();
        assert_eq!(
            (groups.names, groups.max_age_seconds),
            (vec!["g-1".to_owned()], 600)
        );
        assert_eq!(access.identity_providers, ["idp-1"]);
        let accounts = access.service_accounts.unwrap();
        assert_eq!(accounts.accounts[0].name, "trainer");
        assert_eq!(accounts.audience, "https://mlflow.example.org");
        assert_eq!(
            accounts.issuer,
            "https://kubernetes.default.svc.cluster.local"
        );
        let health = &access.public[0];
        assert_eq!(health.path_match, PathMatch::Exact);
        assert_eq!(health.methods, ["GET", "HEAD"]);
        let statics = &access.public[1];
        assert_eq!(statics.path_match, PathMatch::Prefix);
        assert_eq!(statics.methods, ["OPTIONS"]);
        assert!(!access.any_authenticated);
    }

    #[test]
    fn what_is_not_used_is_not_written_so_that_older_sidecars_can_read_it() {
        let written = serde_json::to_value(read(&json!({})).unwrap()).unwrap();
        assert_eq!(written, json!({"emails": ["alice@example.org"]}));
    }

    #[rstest]
    #[case::emails(json!({"emails": ["a@example.org"]}))]
    #[case::domains(json!({"emails": [], "emailDomains": ["example.org"]}))]
    #[case::groups(json!({"emails": [], "groups": ["g"]}))]
    #[case::a_config_map(json!({"emails": [], "emailsFrom": {"configMapKeyRef": {"name": "n", "key": "k"}}}))]
    fn everybody_and_a_list_is_a_contradiction(#[case] list: Value) {
        let mut patch = list;
        patch["anyAuthenticated"] = json!("Enabled");
        let problem = read(&patch).unwrap_err();
        assert_eq!(problem.condition, types::CONFIG_VALID);
        assert!(problem.message.contains("anyAuthenticated"), "{problem:?}");
        patch["anyAuthenticated"] = json!("Disabled");
        assert!(!matches!(read(&patch), Err(other) if other == problem));
    }

    #[test]
    fn everybody_is_admitted_only_if_it_is_said() {
        let access = read(&json!({"emails": [], "anyAuthenticated": "Enabled"})).unwrap();
        assert!(access.any_authenticated);
    }

    #[rstest]
    #[case(json!({"emailDomains": ["*"]}), "spec.access.emailDomains has \"*\"")]
    #[case(json!({"emailDomains": ["a@b"]}), "spec.access.emailDomains has \"a@b\"")]
    #[case(json!({"public": [{"path": "health"}]}), "the path \"health\"")]
    #[case(json!({"public": [{"path": "/oauth2/x"}]}), "the path \"/oauth2/x\"")]
    fn what_cannot_be_used_is_named(#[case] patch: Value, #[case] expected: &str) {
        let problem = read(&patch).unwrap_err();
        assert!(problem.message.contains(expected), "{problem:?}");
    }

    #[test]
    fn without_the_clusters_keys_no_service_account_is_recognised() {
        let spec = proxy_with_spec(&json!({
            "access": {"serviceAccounts": [{"namespace": "train", "name": "trainer"}]},
        }));
        let problem = access(&spec.spec, &fetched()).unwrap_err();
        assert!(problem.message.contains("/openid/v1/jwks"), "{problem:?}");
    }
}
