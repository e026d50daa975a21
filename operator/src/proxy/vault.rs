//! What a proxy gets from its vault. Pure.

use std::collections::BTreeSet;

use globus_auth_core::sidecar_config::{
    self as config, Delegation, DeliveredToken, GrantType, TokenRoute, Vault, VaultClient,
};
use globus_auth_core::url::{BadUrl, Issuer};
use globus_auth_crds::conditions::{reasons, types};
use globus_auth_crds::{GlobusAuthProxy, TokenVault, proxy as spec, vault as vault_spec};
use kube::ResourceExt;
use secrecy::SecretString;

use super::validate::{Problem, invalid};

/// The vault of `spec.vaultRef` with what the workload gets, if one is named. A vault that serves no more
/// is still the vault: what was told of it holds.
///
/// # Errors
/// [`Problem`].
pub fn vault(
    proxy: &GlobusAuthProxy,
    vault: Option<&TokenVault>,
    client: Option<(&Issuer, &(String, SecretString))>,
) -> Result<Option<Vault>, Problem> {
    let Some(reference) = &proxy.spec.vault_ref else {
        return Ok(None);
    };
    let namespace = namespace(proxy, reference);
    let name = format!("{namespace}/{}", reference.name);
    let not_ready = || {
        disconnected(
            reasons::VAULT_NOT_READY,
            format!(
                "TokenVault {name:?}, which spec.vaultRef names, is not there or not ready yet"
            ),
        )
    };
    let status = vault.and_then(|vault| vault.status.as_ref());
    let status = status.ok_or_else(not_ready)?;
    let (Some(url), Some(authorities)) = (&status.url, &status.certificate_authorities) else {
        return Err(not_ready());
    };
    // Without them there is another problem already.
    if let Some((issuer, (client_id, _))) = client {
        let is_known = status
            .clients
            .iter()
            .any(|one| one.issuer == issuer.as_str() && one.client_id == *client_id);
        if !is_known {
            return Err(disconnected(
                reasons::UNKNOWN_CLIENT,
                format!(
                    "TokenVault {name:?} has no issuer {:?} with the client {client_id:?} of spec.provider; only the \
                     client that a login used can redeem its code, so use one client in both",
                    issuer.as_str()
                ),
            ));
        }
    }
    let takes_bearer_tokens = |(issuer, (client_id, _)): (&Issuer, &(String, SecretString))| {
        let client = status.clients.iter().find(|one| {
            one.bearer_tokens && one.issuer == issuer.as_str() && one.client_id == *client_id
        });
        client.map(|client| VaultClient {
            issuer: issuer.clone(),
            client_id: client.client_id.clone(),
        })
    };
    check_files(&proxy.spec.tokens)?;
    let issuers = vault.map(|vault| vault.spec.issuers.as_slice());
    check_issuers(&proxy.spec.tokens, issuers.unwrap_or_default(), &name)?;
    let tokens = proxy.spec.tokens.iter().map(token);
    Ok(Some(Vault {
        url: url.clone(),
        certificate_authorities: authorities.clone(),
        tokens: tokens.collect::<Result<_, _>>()?,
        bearer_tokens: client.and_then(takes_bearer_tokens),
    }))
}

/// The namespace of the vault.
pub fn namespace(proxy: &GlobusAuthProxy, reference: &spec::VaultReference) -> String {
    let own = || proxy.namespace().unwrap_or_default();
    reference.namespace.clone().unwrap_or_else(own)
}

fn token(token: &spec::Token) -> Result<DeliveredToken, Problem> {
    let name = &token.name;
    if let Some(header) = &token.header
        && !config::IdentityHeaders::allows(header)
    {
        return Err(invalid(format!(
            "spec.tokens {name:?}: header {header:?} must begin with X- or Remote-, and be none that HTTP needs"
        )));
    }
    let route = token.route.as_ref().map(|route| {
        let upstream = &route.upstream;
        let url = upstream.parse().map_err(|error: BadUrl| {
            invalid(format!(
                "spec.tokens {name:?}: route.upstream {upstream:?} {error}"
            ))
        })?;
        Ok(TokenRoute {
            prefix: route.prefix.clone(),
            upstream: url,
        })
    });
    Ok(DeliveredToken {
        name: name.clone(),
        resource_server: token.resource_server.clone(),
        scopes: token.scopes.clone(),
        issuer: token.issuer.clone(),
        grant_type: match token.grant_type {
            spec::GrantType::AuthorizationCode => GrantType::AuthorizationCode,
            spec::GrantType::ClientCredentials => GrantType::ClientCredentials,
        },
        header: token.header.clone(),
        route: route.transpose()?,
        file: token.file.as_ref().map(|file| file.name.clone()),
        delegation: token.delegation.as_ref().map(|one| Delegation {
            service_account: one.service_account.clone(),
            days: one.days.unsigned_abs(),
        }),
    })
}

/// Two tokens in one file would take turns.
fn check_files(tokens: &[spec::Token]) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for file in tokens.iter().filter_map(|token| token.file.as_ref()) {
        if !seen.insert(&file.name) {
            let name = &file.name;
            return Err(invalid(format!(
                "spec.tokens: two tokens have the file {name:?}; give one of them another name"
            )));
        }
    }
    Ok(())
}

/// A name that the vault does not know would lead users nowhere.
fn check_issuers(
    tokens: &[spec::Token],
    issuers: &[vault_spec::Issuer],
    vault: &str,
) -> Result<(), Problem> {
    for token in tokens {
        let (name, issuer) = (&token.name, token.issuer.as_ref());
        if let Some(issuer) =
            issuer.filter(|wanted| !issuers.iter().any(|one| one.name == **wanted))
        {
            return Err(disconnected(
                reasons::UNKNOWN_ISSUER,
                format!(
                    "spec.tokens {name:?}: TokenVault {vault:?} has no issuer that it calls {issuer:?}"
                ),
            ));
        }
    }
    Ok(())
}

fn disconnected(reason: &'static str, message: String) -> Problem {
    Problem {
        condition: types::VAULT_CONNECTED,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::proxy_with_spec;

    fn vault_with(status: &Value) -> TokenVault {
        serde_json::from_value(json!({
            "apiVersion": "globus-auth.dev/v1alpha1", "kind": "TokenVault",
            "metadata": {"namespace": "auth", "name": "alcf"},
            "spec": {"issuers": []}, "status": status,
        }))
        .unwrap()
    }

    fn ready() -> TokenVault {
        vault_with(&json!({
            "url": "https://alcf-tokenvault.auth.svc", "certificateAuthorities": "PEM",
            "clients": [{"issuer": "https://auth.globus.org", "clientId": "id"}],
        }))
    }

    fn proxy() -> GlobusAuthProxy {
        proxy_with_spec(&json!({
            "vaultRef": {"name": "alcf", "namespace": "auth"},
            "tokens": [{"name": "alcf", "resourceServer": "r", "scopes": ["s"], "header": "X-Token-Alcf",
                "route": {"prefix": "/alcf", "upstream": "https://inference.example.org"}}],
        }))
    }

    fn read(
        proxy: &GlobusAuthProxy,
        found: Option<&TokenVault>,
        id: &str,
    ) -> Result<Option<Vault>, Problem> {
        let client = (id.to_owned(), SecretString::from("hunter2"));
        vault(proxy, found, Some((&Issuer::globus(), &client)))
    }

    #[test]
    fn a_proxy_is_told_where_its_vault_is_and_what_the_workload_gets() {
        let vault = read(&proxy(), Some(&ready()), "id").unwrap().unwrap();
        assert_eq!(vault.url, "https://alcf-tokenvault.auth.svc");
        assert_eq!(vault.tokens[0].resource_server, "r");
        let route = vault.tokens[0].route.as_ref().unwrap();
        assert_eq!(
            route.upstream.to_string(),
            "https://inference.example.org:443"
        );
    }

    #[test]
    fn without_a_reference_there_is_none() {
        assert_eq!(read(&proxy_with_spec(&json!({})), None, "id"), Ok(None));
    }

    #[test]
    fn a_vault_that_is_not_there_or_has_another_client_is_told() {
        let reason = |found: Option<&TokenVault>, id| read(&proxy(), found, id).unwrap_err().reason;
        assert_eq!(reason(None, "id"), reasons::VAULT_NOT_READY);
        assert_eq!(
            reason(Some(&vault_with(&json!({}))), "id"),
            reasons::VAULT_NOT_READY
        );
        assert_eq!(reason(Some(&ready()), "other"), reasons::UNKNOWN_CLIENT);
    }

    #[test]
    fn a_proxy_is_told_whether_bearer_tokens_of_its_client_get_anything() {
        let told = |accepts: bool| {
            let vault = vault_with(&json!({
                "url": "https://alcf-tokenvault.auth.svc", "certificateAuthorities": "PEM",
                "clients": [
                    {"issuer": "https://auth.globus.org", "clientId": "id", "bearerTokens": accepts},
                    {"issuer": "https://auth.globus.org", "clientId": "other", "bearerTokens": true},
                    {"issuer": "https://idp.example.org", "clientId": "id", "bearerTokens": true},
                ],
            }));
            let vault = read(&proxy(), Some(&vault), "id").unwrap().unwrap();
            vault
                .bearer_tokens
                .map(|client| (client.issuer, client.client_id))
        };
        assert_eq!(told(true), Some((Issuer::globus(), "id".to_owned())));
        assert_eq!(told(false), None);
    }

    #[test]
    fn a_job_is_told_of_its_files_and_a_page_of_whom_it_may_ask_for() {
        let proxy = proxy_with_spec(&json!({
            "vaultRef": {"name": "alcf", "namespace": "auth"},
            "tokens": [
                {"name": "a", "resourceServer": "r", "scopes": ["s"], "file": {"name": "alcf"}},
                {"name": "b", "resourceServer": "r", "scopes": ["s"], "delegation": {"serviceAccount": "jobs"}},
            ],
        }));
        let vault = read(&proxy, Some(&ready()), "id").unwrap().unwrap();
        assert_eq!(vault.tokens[0].file.as_deref(), Some("alcf"));
        assert!(!vault.tokens[0].is_for_users() && vault.tokens[1].is_for_users());
        let delegation = vault.tokens[1].delegation.as_ref().unwrap();
        assert_eq!(
            (delegation.service_account.as_str(), delegation.days),
            ("jobs", 7)
        );
    }

    #[test]
    fn a_token_of_an_issuer_that_the_vault_does_not_know_is_refused() {
        let mut vault = ready();
        vault.spec.issuers = serde_json::from_value(json!([
            {"name": "storage", "type": "OIDC", "issuer": "https://s.test", "clientSecretRef": {"name": "s"}},
        ]))
        .unwrap();
        let mut proxy = proxy();
        proxy.spec.tokens[0].issuer = Some("storage".to_owned());
        let known = read(&proxy, Some(&vault), "id").unwrap().unwrap();
        assert_eq!(known.tokens[0].issuer.as_deref(), Some("storage"));
        assert!(!known.tokens[0].comes_with_login() && known.tokens[0].is_for_users());
        proxy.spec.tokens[0].issuer = Some("other".to_owned());
        let problem = read(&proxy, Some(&vault), "id").unwrap_err();
        assert_eq!(problem.reason, reasons::UNKNOWN_ISSUER);
    }

    #[test]
    fn two_tokens_in_one_file_are_refused() {
        let proxy = proxy_with_spec(&json!({
            "vaultRef": {"name": "alcf", "namespace": "auth"},
            "tokens": [
                {"name": "a", "resourceServer": "r", "scopes": ["s"], "file": {"name": "alcf"}},
                {"name": "b", "resourceServer": "q", "scopes": ["s"], "file": {"name": "alcf"}},
            ],
        }));
        let problem = read(&proxy, Some(&ready()), "id").unwrap_err();
        assert_eq!(problem.reason, reasons::INVALID);
    }

    #[test]
    fn a_header_that_http_needs_is_refused() {
        let mut proxy = proxy();
        proxy.spec.tokens[0].header = Some("Host".to_owned());
        assert_eq!(
            read(&proxy, Some(&ready()), "id").unwrap_err().reason,
            reasons::INVALID
        );
    }
}
