//! From a stored vault to its configuration. Pure: everything that was fetched is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::egress::Egress;
use globus_auth_core::email::NotAnEmail;
use globus_auth_core::identity::EmailVerification;
use globus_auth_core::sidecar_config::LogLevel;
use globus_auth_core::url::{BadUrl, Issuer as IssuerUrl};
use globus_auth_core::vault_config::{
    Admins, BearerTokens, Consumer, Issuer, Refresh, Rotation, UserGrant, VERSION, VaultConfig,
    VaultReference,
};
use globus_auth_crds::TokenVault;
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::proxy::ProviderType;
use globus_auth_crds::vault as spec;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::proxy::validate::{
    CLIENT_ID, CLIENT_SECRET, Problem, invalid, line, provider_kind, unresolved,
};

/// The configuration of `vault`, with the Secrets that it names, by their names.
///
/// # Errors
/// Everything that keeps it from being carried out.
pub fn validate(
    vault: &TokenVault,
    secrets: &BTreeMap<String, Secret>,
) -> Result<VaultConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut issuers: Vec<Issuer> = Vec::new();
    for issuer in &vault.spec.issuers {
        match self::issuer(issuer, &vault.spec.refresh, secrets) {
            Ok(issuer) if issuers.iter().any(|one| is_same_client(one, &issuer)) => {
                let name = &issuer.name;
                problems.push(invalid(format!(
                    "spec.issuers {name:?} has the issuer and the client of another one; remove it"
                )));
            }
            Ok(issuer) => issuers.push(issuer),
            Err(problem) => problems.push(problem),
        }
    }
    let allowed = vault.spec.allowed_networks.iter();
    let allowed: Vec<IpNet> = allowed
        .filter_map(|text| network(text).map_err(|problem| problems.push(problem)).ok())
        .collect();
    let admins = vault.spec.admins.as_ref();
    let admins = admins.and_then(|admins| {
        let admins = self::admins(admins, &issuers);
        admins.map_err(|problem| problems.push(problem)).ok()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let seconds = |days: i32| u64::from(days.unsigned_abs()) * 86_400;
    let refresh = &vault.spec.refresh;
    Ok(VaultConfig {
        version: VERSION,
        vault: VaultReference {
            namespace: vault.namespace().unwrap_or_default(),
            name: vault.name_any(),
        },
        issuers,
        consumers: vault.spec.consumers.iter().map(consumer).collect(),
        admins,
        egress: Egress { allowed },
        refresh: Refresh {
            keep_alive_seconds: seconds(refresh.keep_alive_days),
            forget_unused_after_seconds: refresh.forget_unused_after_days.map(seconds),
            max_concurrent_per_issuer: refresh.max_concurrent_per_issuer.unsigned_abs(),
        },
        restored_at: restored_at(vault),
        is_closing: vault.metadata.deletion_timestamp.is_some(),
        log_level: LogLevel::Info,
    })
}

/// When the database was restored from a backup; before 1970, it was not.
fn restored_at(vault: &TokenVault) -> Option<UnixSeconds> {
    let restored_at = vault.spec.storage.restored_at.as_ref()?;
    u64::try_from(restored_at.0.as_second())
        .ok()
        .map(UnixSeconds)
}

/// Refuses a time to come: every grant that is got until then would be doubted at the next start.
pub fn check_restored_at(vault: &TokenVault, now: UnixSeconds) -> Option<Problem> {
    let restored_at = restored_at(vault)?;
    (restored_at > now.after(CLOCK_SKEW)).then(|| {
        invalid(
            "spec.storage.restoredAt is in the future; set it to the time at which the database was restored"
                .to_owned(),
        )
    })
}

/// No issuer is at loopback or link-local: what is there is nobody's business but the node's.
fn network(text: &str) -> Result<IpNet, Problem> {
    let network: IpNet = text.parse().map_err(|_syntax| {
        invalid(format!(
            "spec.allowedNetworks {text:?} is not a network such as 10.20.0.0/16"
        ))
    })?;
    let forbidden = [
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1/128",
        "fe80::/10",
        // These stand for addresses of version 4, whichever (RFC 4291 §2.5.5.2, RFC 6052, RFC 8215, RFC 3056).
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
    ];
    let overlaps = |one: &str| {
        let one: Result<IpNet, _> = one.parse();
        one.is_ok_and(|one| one.contains(&network) || network.contains(&one))
    };
    if forbidden.into_iter().any(overlaps) {
        return Err(invalid(format!(
            "spec.allowedNetworks {text:?} has loopback or link-local addresses; name a smaller network"
        )));
    }
    Ok(network)
}

fn is_same_client(one: &Issuer, other: &Issuer) -> bool {
    one.issuer == other.issuer && one.client_id == other.client_id
}

fn issuer(
    issuer: &spec::Issuer,
    refresh: &spec::Refresh,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Issuer, Problem> {
    let url = match (&issuer.issuer, issuer.kind) {
        (Some(text), _) => text.parse().map_err(|error: BadUrl| {
            let name = &issuer.name;
            invalid(format!("spec.issuers {name:?}: issuer {text:?} {error}"))
        })?,
        (None, ProviderType::Globus) => IssuerUrl::globus(),
        (None, ProviderType::OIDC) => {
            let name = &issuer.name;
            return Err(invalid(format!(
                "spec.issuers {name:?}: issuer is required with type OIDC"
            )));
        }
    };
    let name = &issuer.client_secret_ref.name;
    let secret = secrets.get(name).ok_or_else(|| {
        unresolved(
            reasons::SECRET_NOT_FOUND,
            format!(
                "there is no Secret {name:?}, which spec.issuers names; create it with the keys \
                 {CLIENT_ID} and {CLIENT_SECRET}"
            ),
        )
    })?;
    let read = |key: &str| {
        line(secret, key).map(str::to_owned).ok_or_else(|| {
            unresolved(
                reasons::SECRET_MALFORMED,
                format!("Secret {name:?} needs the key {key} with one line of text"),
            )
        })
    };
    Ok(Issuer {
        name: issuer.name.clone(),
        kind: provider_kind(issuer.kind),
        issuer: url,
        client_id: read(CLIENT_ID)?,
        client_secret: read(CLIENT_SECRET)?.into(),
        rotation: rotation(issuer),
        requests_per_second: refresh.requests_per_second.unsigned_abs(),
        session_seconds: issuer
            .session_days
            .map(|days| u64::from(days.unsigned_abs()) * 86_400),
        bearer_tokens: match issuer.bearer_tokens {
            spec::BearerTokens::Ignored => BearerTokens::Ignored,
            spec::BearerTokens::Accepted => BearerTokens::Accepted,
            spec::BearerTokens::Exchanged => BearerTokens::Exchanged,
        },
        user_grant: match issuer.user_grant {
            spec::UserGrant::AuthorizationCode => UserGrant::AuthorizationCode,
            spec::UserGrant::DeviceCode => UserGrant::DeviceCode,
        },
    })
}

/// Globus keeps refresh tokens as they are; of any other issuer the worst is believed.
fn rotation(issuer: &spec::Issuer) -> Rotation {
    match (issuer.rotation_grace_seconds, issuer.kind) {
        (None, ProviderType::Globus) => Rotation::Never,
        (grace, _) => Rotation::Rotates {
            grace_seconds: grace.unwrap_or_default().unsigned_abs(),
        },
    }
}

fn admins(admins: &spec::Admins, issuers: &[Issuer]) -> Result<Admins, Problem> {
    let issuer = match &admins.issuer {
        Some(text) => text
            .parse()
            .map_err(|error: BadUrl| invalid(format!("spec.admins: issuer {text:?} {error}")))?,
        // With none, there is another problem already.
        None => issuers
            .first()
            .map_or_else(IssuerUrl::globus, |first| first.issuer.clone()),
    };
    let audience = &admins.audience;
    if issuers.iter().any(|one| one.client_id == *audience) {
        return Err(invalid(format!(
            "spec.admins: audience {audience:?} is a client of spec.issuers, and whoever runs a proxy sees tokens for \
             it; use a client for administrators alone"
        )));
    }
    let emails = admins.emails.iter().map(|text| {
        text.parse().map_err(|error: NotAnEmail| {
            invalid(format!(
                "spec.admins: {text:?} is no e-mail address: {error}"
            ))
        })
    });
    Ok(Admins {
        email_verification: if issuer.as_str() == IssuerUrl::globus().as_str() {
            EmailVerification::IfPresent
        } else {
            EmailVerification::Required
        },
        issuer,
        audience: audience.clone(),
        emails: emails.collect::<Result<_, _>>()?,
        groups: admins.groups.clone(),
        groups_claim: admins.groups_claim.clone(),
    })
}

fn consumer(consumer: &spec::Consumer) -> Consumer {
    Consumer {
        namespace: consumer.namespace.clone(),
        service_account: consumer.service_account.clone(),
        resource_servers: consumer.resource_servers.clone(),
        client_credentials: consumer.client_credentials.clone(),
        delegation_days: consumer.delegation_days.map(i32::unsigned_abs),
    }
}

/// What is said when the key ring is gone that secrets were encrypted with.
pub fn keyring_lost(secret: &str) -> Problem {
    Problem {
        condition: types::KEYRING_HEALTHY,
        reason: reasons::KEYRING_LOST,
        message: format!(
            "the Secret {secret:?} with the encryption keys is gone; restore it from a backup. Without it the stored \
             tokens cannot be read. To start empty, delete this TokenVault, its volume, and create it again"
        ),
    }
}

/// Somebody's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn vault(issuers: &Value) -> TokenVault {
        let value = json!({
            "apiVersion": "globus-auth.dev/v1alpha1", "kind": "TokenVault",
            "metadata": {"namespace": "auth", "name": "alcf"},
            "spec": {"issuers": issuers, "consumers": [
                {"namespace": "ml", "serviceAccount": "app", "resourceServers": ["r"]}]},
        });
        serde_json::from_value(value).unwrap()
    }

    fn secrets() -> BTreeMap<String, Secret> {
        let data = [(CLIENT_ID, "id"), (CLIENT_SECRET, "hunter2")];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
        let secret = Secret {
            data: Some(BTreeMap::from(data)),
            ..Secret::default()
        };
        BTreeMap::from([
            ("client".to_owned(), secret),
            ("empty".to_owned(), Secret::default()),
        ])
    }

    fn globus(secret: &str) -> Value {
        json!({"name": "globus", "type": "Globus", "clientSecretRef": {"name": secret}})
    }

    #[test]
    fn a_vault_is_what_the_resource_says() {
        let config = validate(&vault(&json!([globus("client")])), &secrets()).unwrap();
        assert_eq!(config.issuers[0].client_id, "id");
        assert_eq!(config.issuers[0].issuer, IssuerUrl::globus());
        assert_eq!(config.issuers[0].rotation, Rotation::Never);
        assert!(config.allows("ml", "app", "r"));
        assert_eq!(config.refresh.keep_alive_seconds, 30 * 86_400);
    }

    #[rstest]
    #[case::oidc(json!({"type": "OIDC", "issuer": "https://idp.example.org"}), Rotation::Rotates { grace_seconds: 0 })]
    #[case::grace(json!({"type": "OIDC", "issuer": "https://idp.example.org", "rotationGraceSeconds": 30}), Rotation::Rotates { grace_seconds: 30 })]
    #[case::globus(json!({"type": "Globus", "rotationGraceSeconds": 5}), Rotation::Rotates { grace_seconds: 5 })]
    fn an_issuer_is_believed_to_rotate_unless_it_is_known_not_to(
        #[case] changes: Value,
        #[case] expected: Rotation,
    ) {
        let mut issuer = globus("client");
        for (name, value) in changes.as_object().unwrap() {
            issuer[name] = value.clone();
        }
        let config = validate(&vault(&json!([issuer])), &secrets()).unwrap();
        assert_eq!(config.issuers[0].rotation, expected);
    }

    #[rstest]
    #[case(None, BearerTokens::Ignored)]
    #[case(Some("Ignored"), BearerTokens::Ignored)]
    #[case(Some("Accepted"), BearerTokens::Accepted)]
    #[case(Some("Exchanged"), BearerTokens::Exchanged)]
    fn bearer_tokens_get_nothing_unless_it_is_said(
        #[case] word: Option<&str>,
        #[case] expected: BearerTokens,
    ) {
        let mut issuer = globus("client");
        if let Some(word) = word {
            issuer["bearerTokens"] = word.into();
        }
        let config = validate(&vault(&json!([issuer])), &secrets()).unwrap();
        assert_eq!(config.issuers[0].bearer_tokens, expected);
    }

    #[test]
    fn users_come_with_a_code_unless_it_is_said_otherwise() {
        let mut issuer = globus("client");
        let told = |issuer: &Value| {
            let config = validate(&vault(&json!([issuer])), &secrets()).unwrap();
            config.issuers[0].user_grant
        };
        assert_eq!(told(&issuer), UserGrant::AuthorizationCode);
        issuer["userGrant"] = "DeviceCode".into();
        assert_eq!(told(&issuer), UserGrant::DeviceCode);
    }

    #[test]
    fn a_restore_is_told_and_must_have_been() {
        let mut vault = vault(&json!([globus("client")]));
        let told = |vault: &TokenVault| validate(vault, &secrets()).unwrap().restored_at;
        assert_eq!(told(&vault), None);
        let now = UnixSeconds(1_795_867_200);
        vault.spec.storage =
            serde_json::from_value(json!({"restoredAt": "2026-11-28T12:00:00Z"})).unwrap();
        assert_eq!(told(&vault), Some(now));
        assert_eq!(check_restored_at(&vault, now), None);
        let problem = check_restored_at(&vault, UnixSeconds(now.0 - 3600)).unwrap();
        assert!(
            problem
                .message
                .contains("spec.storage.restoredAt is in the future")
        );
    }

    fn with_admins(admins: Value) -> Result<Option<Admins>, String> {
        let mut vault = vault(&json!([globus("client")]));
        vault.spec.admins = serde_json::from_value(admins).map_err(|error| error.to_string())?;
        match validate(&vault, &secrets()) {
            Ok(config) => Ok(config.admins),
            Err(problems) => Err(problems[0].message.clone()),
        }
    }

    #[test]
    fn administrators_come_from_the_first_issuer_unless_another_is_named() {
        let admins = with_admins(json!({"audience": "admins", "emails": ["root@example.org"]}));
        let admins = admins.unwrap().unwrap();
        assert_eq!(admins.issuer, IssuerUrl::globus());
        assert_eq!(admins.email_verification, EmailVerification::IfPresent);
        assert_eq!(admins.groups_claim, "groups");
        let other =
            json!({"audience": "admins", "issuer": "https://idp.example.org", "groups": ["g"]});
        let admins = with_admins(other).unwrap().unwrap();
        assert_eq!(admins.issuer.as_str(), "https://idp.example.org");
        assert_eq!(admins.email_verification, EmailVerification::Required);
    }

    #[rstest]
    #[case::tokens_that_proxies_see(json!({"audience": "id", "groups": ["g"]}), "whoever runs a proxy")]
    #[case::no_address(json!({"audience": "admins", "emails": ["root"]}), "is no e-mail address")]
    #[case::no_issuer(json!({"audience": "admins", "issuer": "idp", "groups": ["g"]}), "issuer \"idp\"")]
    fn administrators_who_could_be_others_are_refused(#[case] admins: Value, #[case] said: &str) {
        let message = with_admins(admins).unwrap_err();
        assert!(message.contains(said), "{message}");
    }

    #[rstest]
    #[case("10.20.0.0/16", true)]
    #[case("fd12::/32", true)]
    #[case("10.20.0.0", false)]
    #[case("127.0.0.0/16", false)]
    #[case("169.254.169.254/32", false)]
    #[case("0.0.0.0/0", false)]
    #[case("::/0", false)]
    #[case("::1/128", false)]
    #[case("::ffff:169.254.169.254/128", false)]
    #[case("fe80::/64", false)]
    #[case("64:ff9b::a9fe:a9fe/128", false)]
    #[case("64:ff9b:1::/96", false)]
    #[case("2002:a9fe:a9fe::/48", false)]
    fn networks_of_nodes_are_never_allowed(#[case] network: &str, #[case] is_allowed: bool) {
        let mut vault = vault(&json!([globus("client")]));
        vault.spec.allowed_networks = vec![network.to_owned()];
        match validate(&vault, &secrets()) {
            Ok(config) => {
                assert!(is_allowed);
                assert_eq!(config.egress.allowed, [network.parse().unwrap()]);
            }
            Err(problems) => {
                assert!(!is_allowed, "{problems:?}");
                assert!(problems[0].message.contains(network), "{problems:?}");
            }
        }
    }

    #[rstest]
    #[case::missing(json!([globus("missing")]), reasons::SECRET_NOT_FOUND)]
    #[case::empty(json!([globus("empty")]), reasons::SECRET_MALFORMED)]
    #[case::twice(json!([globus("client"), {"name": "again", "type": "Globus", "clientSecretRef": {"name": "client"}}]), reasons::INVALID)]
    #[case::no_issuer(json!([{"name": "a", "type": "OIDC", "clientSecretRef": {"name": "client"}}]), reasons::INVALID)]
    #[case::no_url(json!([{"name": "a", "type": "OIDC", "issuer": "idp", "clientSecretRef": {"name": "client"}}]), reasons::INVALID)]
    fn what_cannot_be_carried_out_is_told(#[case] issuers: Value, #[case] reason: &str) {
        let problems = validate(&vault(&issuers), &secrets()).unwrap_err();
        assert_eq!(problems[0].reason, reason);
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
