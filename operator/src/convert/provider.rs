//! Who vouches for users, and by which tokens programs may come.

use serde_json::{Map, Value, json};

use super::kubernetes::Mounted;
use super::plan::{Plan, quoted};
use super::settings::Given;

/// `spec.provider`.
pub(super) fn provider(plan: &mut Plan<'_>) -> Value {
    let issuer = issuer(plan).unwrap_or_default();
    let secret = credentials(plan);
    let mut provider = json!({"clientSecretRef": {"name": secret}});
    let Some(members) = provider.as_object_mut() else {
        return provider;
    };
    if issuer.trim_end_matches('/') == GLOBUS {
        members.insert("type".to_owned(), json!("Globus"));
        if plan.switch("insecure-oidc-allow-unverified-email") {
            plan.note("--insecure-oidc-allow-unverified-email: Globus never says whether an address is verified");
        }
    } else {
        members.insert("type".to_owned(), json!("OIDC"));
        members.insert("issuer".to_owned(), json!(issuer));
        if plan.switch("insecure-oidc-allow-unverified-email") {
            members.insert("emailVerification".to_owned(), json!("IfPresent"));
        } else {
            plan.note(
                "addresses count only if the provider says that it verified them; oauth2-proxy also takes those \
                 of which it says nothing. If users cannot choose their address at the provider, set \
                 provider.emailVerification: IfPresent",
            );
        }
        if let Some(claim) = plan
            .text("oidc-groups-claim")
            .filter(|claim| claim != "groups")
        {
            members.insert("groupsClaim".to_owned(), json!(claim));
        }
    }
    let scope = plan.text("scope").unwrap_or_default();
    let scopes: Vec<_> = scope
        .split_whitespace()
        .filter(|scope| !["openid", "email", "profile", "offline_access"].contains(scope))
        .collect();
    if !scopes.is_empty() {
        members.insert("scopes".to_owned(), json!(scopes));
    }
    provider
}

/// The provider's issuer.
fn issuer(plan: &mut Plan<'_>) -> Option<String> {
    let given = plan.text("oidc-issuer-url");
    let kind = plan.text("provider").unwrap_or_else(|| "google".to_owned());
    let issuer = match (kind.as_str(), given) {
        (
            "adfs" | "azure" | "cidaas" | "entra-id" | "gitlab" | "keycloak-oidc" | "oidc",
            Some(issuer),
        ) => issuer,
        ("google", _) => "https://accounts.google.com".to_owned(),
        ("gitlab", None) => "https://gitlab.com".to_owned(),
        ("azure", None) => {
            let tenant = plan.text("azure-tenant").unwrap_or_default();
            let many = ["", "common", "consumers", "organizations"];
            if many.contains(&tenant.as_str()) || !tenant.chars().all(is_host) {
                plan.refuse(
                    "azure-tenant",
                    "name one tenant; otherwise everybody of any tenant is admitted",
                );
                return None;
            }
            format!("https://login.microsoftonline.com/{tenant}/v2.0")
        }
        (_, None) if kind == "oidc" || kind == "keycloak-oidc" || kind == "entra-id" => {
            plan.refuse("oidc-issuer-url", "the provider's issuer is needed");
            return None;
        }
        _ => {
            plan.refuse(
                "provider",
                "it does not speak OpenID Connect as it is used there; put a provider such as Dex or Keycloak \
                 before it, and name that one by --provider=oidc --oidc-issuer-url",
            );
            return None;
        }
    };
    let url = url::Url::parse(&issuer).ok();
    if url.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
        plan.refuse("oidc-issuer-url", "must be a URL without user and password");
        return None;
    }
    if plan.switch("insecure-oidc-allow-unverified-email") {
        plan.note("--insecure-oidc-allow-unverified-email: addresses that the provider calls unverified stay out");
    }
    Some(issuer)
}

fn is_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '.'
}

/// The name of the Secret with our client, and the command that makes it if there is none. No secret is in
/// either.
fn credentials(plan: &mut Plan<'_>) -> String {
    let id = plan.input.settings.get("client-id").cloned();
    let mut secret = plan.input.settings.get("client-secret").cloned();
    let mut file = None;
    if secret.is_none() {
        file = plan.text("client-secret-file");
        let workload = plan.input.workload.as_ref();
        let mounted = file.as_ref().and_then(|file| workload?.mounted(file));
        if let Some(Mounted::Secret { name, key }) = mounted {
            secret = Some(Given::Secret { name, key });
        }
    }
    if let (
        Some(Given::Secret { name, key }),
        Some(Given::Secret {
            name: other,
            key: other_key,
        }),
    ) = (&id, &secret)
        && (name, key.as_str(), other_key.as_str()) == (other, "client-id", "client-secret")
    {
        return name.clone();
    }
    let name = format!("{}-client", plan.name);
    let kubectl = plan.kubectl();
    let from = |key: &str, given: Option<Given>, otherwise: String| match given {
        Some(Given::Secret { name, key: from }) => {
            format!("--from-file={key}={}", plan.secret_as_file(&name, &from))
        }
        Some(Given::Text(texts)) => format!("--from-literal={key}={}", quoted(&texts.concat())),
        Some(Given::Elsewhere | Given::Withheld) | None => otherwise,
    };
    let id = from(
        "client-id",
        id,
        "--from-literal=client-id=CLIENT_ID".to_owned(),
    );
    let path = file.unwrap_or_else(|| "./client-secret".to_owned());
    let secret = from(
        "client-secret",
        secret,
        format!("--from-file=client-secret={}", quoted(&path)),
    );
    if secret.contains("./client-secret") {
        plan.commands.push(
            "# First write the client secret to ./client-secret, readable for you only; it is not repeated here."
                .to_owned(),
        );
    }
    plan.commands.push(format!(
        "{kubectl} create secret generic {name} {id} {secret}"
    ));
    name
}

/// `spec.bearer`.
pub(super) fn bearer(plan: &mut Plan<'_>, provider: &Value, spec: &mut Map<String, Value>) {
    let issuer = provider.get("issuer").and_then(Value::as_str);
    let is_on = plan.switch("skip-jwt-bearer-tokens");
    if issuer.is_none() {
        plan.note(
            "programs may come with a Globus token for this client, which oauth2-proxy does not take; refuse \
             them by bearer.introspection: Disabled",
        );
    }
    if !is_on {
        return;
    }
    let mut issuers: Vec<(String, Vec<String>)> = Vec::new();
    if let Some(issuer) = issuer {
        match plan.input.settings.get("client-id").cloned() {
            Some(Given::Text(id)) => {
                let extra = plan.texts("oidc-extra-audience");
                issuers.push((issuer.to_owned(), id.into_iter().chain(extra).collect()));
            }
            _ => plan.note(
                "--skip-jwt-bearer-tokens: the client id is not in the files; name the issuer and the id in \
                 bearer.jwt",
            ),
        }
    }
    for entry in plan.texts("extra-jwt-issuers") {
        let Some((issuer, audience)) = entry.split_once('=') else {
            plan.refuse("extra-jwt-issuers", "must be ISSUER=AUDIENCE");
            continue;
        };
        match issuers.iter_mut().find(|(known, _)| known == issuer) {
            Some((_, audiences)) => audiences.push(audience.to_owned()),
            None => issuers.push((issuer.to_owned(), vec![audience.to_owned()])),
        }
    }
    let entry = |(issuer, audiences): &(String, Vec<String>)| {
        let mut audiences = audiences.clone();
        audiences.sort_unstable();
        audiences.dedup();
        json!({"issuer": issuer, "audiences": audiences})
    };
    let entries: Vec<_> = issuers.iter().map(entry).collect();
    if !entries.is_empty() {
        spec.insert("bearer".to_owned(), json!({"jwt": entries}));
    }
}

const GLOBUS: &str = "https://auth.globus.org";
