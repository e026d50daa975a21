//! Which scope belongs to which resource server, and who speaks for it.

use std::collections::{BTreeMap, HashMap};

use super::accounts::derived_id;
use super::config::{Client, Config, Scope};

/// Clients, resource servers and scopes; fixed for the life of an emulator.
#[derive(Debug)]
pub(crate) struct Catalog {
    clients: HashMap<String, Client>,
    scopes: BTreeMap<String, KnownScope>,
}

/// A scope and where it belongs.
#[derive(Debug)]
pub(crate) struct KnownScope {
    pub(crate) resource_server: String,
    scope: Scope,
}

impl KnownScope {
    /// A UUID, as in consents.
    pub(crate) fn id(&self) -> String {
        derived_id("scope", &self.scope.scope)
    }

    /// What users are asked to allow.
    pub(crate) fn description(&self) -> &str {
        self.scope
            .description
            .as_deref()
            .unwrap_or(&self.scope.scope)
    }

    /// The dependent scopes that come with a consent to this one.
    pub(crate) fn implied(&self) -> impl Iterator<Item = &str> {
        let implied = self
            .scope
            .dependent_scopes
            .iter()
            .filter(|dependent| !dependent.optional);
        implied.map(|dependent| dependent.scope.as_str())
    }
}

impl Catalog {
    pub(crate) fn of(config: &Config) -> Self {
        let clients = config
            .clients
            .iter()
            .map(|client| (client.client_id.clone(), client.clone()));
        let known = |resource_server: &str, scope: Scope| {
            let resource_server = resource_server.to_owned();
            (
                scope.scope.clone(),
                KnownScope {
                    resource_server,
                    scope,
                },
            )
        };
        let own = OWN_SCOPES
            .iter()
            .map(|(server, scope)| known(server, Scope::new(scope)));
        let configured = config.resource_servers.iter().flat_map(|server| {
            server
                .scopes
                .iter()
                .map(|scope| known(&server.name, scope.clone()))
        });
        Self {
            clients: clients.collect(),
            scopes: own.chain(configured).collect(),
        }
    }

    pub(crate) fn client(&self, client_id: &str) -> Option<&Client> {
        self.clients.get(client_id)
    }

    pub(crate) fn scope(&self, scope: &str) -> Option<&KnownScope> {
        self.scopes.get(scope)
    }

    /// The clients that speak for a resource server.
    pub(crate) fn speakers<'a>(
        &'a self,
        resource_server: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.clients
            .values()
            .filter(move |client| client.resource_server.as_deref() == Some(resource_server))
            .map(|client| client.client_id.as_str())
    }

    /// Scopes by resource server: Globus Auth's own first, then in the order asked for.
    pub(crate) fn by_resource_server(&self, scopes: &[String]) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for scope in scopes {
            let Some(known) = self.scope(scope) else {
                continue;
            };
            match groups
                .iter_mut()
                .find(|(server, _)| *server == known.resource_server)
            {
                Some((_, group)) => group.push(scope.clone()),
                None => groups.push((known.resource_server.clone(), vec![scope.clone()])),
            }
        }
        groups.sort_by_key(|(server, _)| server != AUTH);
        groups
    }
}

/// Globus Auth as a resource server.
pub(crate) const AUTH: &str = "auth.globus.org";
/// Globus Groups as a resource server.
pub(crate) const GROUPS: &str = "groups.api.globus.org";
pub(crate) const OPENID: &str = "openid";
pub(crate) const PROFILE: &str = "profile";
pub(crate) const EMAIL: &str = "email";
/// Asked for beside other scopes; belongs to no resource server.
pub(crate) const OFFLINE_ACCESS: &str = "offline_access";
pub(crate) const VIEW_CONSENTS: &str = "urn:globus:auth:scope:auth.globus.org:view_consents";
pub(crate) const GROUPS_ALL: &str = "urn:globus:auth:scope:groups.api.globus.org:all";
pub(crate) const VIEW_MY_GROUPS: &str =
    "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships";

/// The scopes of Globus's own services that clients of ours have been seen to ask for.
const OWN_SCOPES: &[(&str, &str)] = &[
    (AUTH, OPENID),
    (AUTH, PROFILE),
    (AUTH, EMAIL),
    (AUTH, VIEW_CONSENTS),
    (
        AUTH,
        "urn:globus:auth:scope:auth.globus.org:view_identities",
    ),
    (
        AUTH,
        "urn:globus:auth:scope:auth.globus.org:view_identity_set",
    ),
    (
        AUTH,
        "urn:globus:auth:scope:auth.globus.org:manage_projects",
    ),
    (GROUPS, GROUPS_ALL),
    (GROUPS, VIEW_MY_GROUPS),
    (
        "transfer.api.globus.org",
        "urn:globus:auth:scope:transfer.api.globus.org:all",
    ),
    (
        FLOWS,
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/manage_flows",
    ),
    (
        FLOWS,
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/view_flows",
    ),
    (
        FLOWS,
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run",
    ),
    (
        FLOWS,
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_status",
    ),
    (
        FLOWS,
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_manage",
    ),
    (
        COMPUTE,
        "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all",
    ),
];
/// The names of these two are not the UUIDs of their scopes.
const FLOWS: &str = "flows.globus.org";
const COMPUTE: &str = "funcx_service";
