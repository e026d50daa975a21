//! Consents: what users allowed clients, and `GET /v2/api/identities/{id}/consents`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::Realm;
use super::bearer;
use super::catalog::{AUTH, Catalog, VIEW_CONSENTS};
use super::clock::rfc3339;
use super::failure::ApiError;
use super::form::Query;
use super::scope::ScopeTree;
use super::store::Principal;

/// One consent: a user allows a client a scope, alone or as a dependency of another consent.
#[derive(Clone, Debug)]
pub(crate) struct Consent {
    id: u64,
    account: String,
    /// The client that asked the user; not the one that the consent is for.
    root_client: String,
    client: String,
    scope: String,
    /// The ids of the consents that this one depends on, and its own.
    path: Vec<u64>,
    allows_refresh: bool,
    optional: bool,
    created: i64,
    updated: i64,
    last_used: i64,
}

/// All consents of all users.
#[derive(Debug, Default)]
pub(crate) struct Consents {
    last_id: u64,
    all: Vec<Consent>,
}

/// Who consents to what, now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consenting<'a> {
    pub(crate) account: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) offline: bool,
    pub(crate) now: i64,
}

impl Consents {
    /// Whether the user allowed this client everything in `trees` before.
    pub(crate) fn cover(&self, account: &str, client_id: &str, trees: &[ScopeTree]) -> bool {
        self.missing(account, client_id, &[], trees).is_none()
    }

    fn missing<'a>(
        &self,
        account: &str,
        client_id: &str,
        above: &[u64],
        trees: &'a [ScopeTree],
    ) -> Option<&'a str> {
        trees.iter().find_map(
            |tree| match self.find(account, client_id, above, &tree.scope) {
                Some(consent) => {
                    self.missing(account, client_id, &consent.path, &tree.dependencies)
                }
                None => Some(tree.scope.as_str()),
            },
        )
    }

    /// Records a consent to everything in `trees`, and to what it implies.
    pub(crate) fn record(&mut self, who: Consenting<'_>, trees: &[ScopeTree], catalog: &Catalog) {
        self.record_below(who, &[], who.client_id, trees, catalog);
    }

    fn record_below(
        &mut self,
        who: Consenting<'_>,
        above: &[u64],
        client: &str,
        trees: &[ScopeTree],
        catalog: &Catalog,
    ) {
        for tree in trees {
            let Some(known) = catalog.scope(&tree.scope) else {
                continue;
            };
            let path = self.record_one(who, above, client, tree);
            let server = known.resource_server.as_str();
            let speaker = catalog.speakers(server).next().unwrap_or(server).to_owned();
            self.record_below(who, &path, &speaker, &tree.dependencies, catalog);
            let implied = known.implied().map(|scope| ScopeTree {
                scope: scope.to_owned(),
                optional: false,
                dependencies: Vec::new(),
            });
            // A dependency on itself must not go on for ever.
            if path.len() < PATH_LENGTH_MAX {
                self.record_below(who, &path, &speaker, &implied.collect::<Vec<_>>(), catalog);
            }
        }
    }

    fn record_one(
        &mut self,
        who: Consenting<'_>,
        above: &[u64],
        client: &str,
        tree: &ScopeTree,
    ) -> Vec<u64> {
        let (scope, now) = (tree.scope.as_str(), who.now);
        let found = self.all.iter_mut().find(|consent| {
            consent.is(who.account, who.client_id, above) && consent.scope == scope
        });
        if let Some(consent) = found {
            consent.allows_refresh |= who.offline;
            (consent.updated, consent.last_used) = (now, now);
            return consent.path.clone();
        }
        if self.all.len() >= CONSENTS_MAX {
            self.all.drain(..CONSENTS_MAX / 10);
        }
        self.last_id += 1;
        let path: Vec<u64> = above.iter().copied().chain([self.last_id]).collect();
        self.all.push(Consent {
            id: self.last_id,
            account: who.account.to_owned(),
            root_client: who.client_id.to_owned(),
            client: client.to_owned(),
            scope: scope.to_owned(),
            path: path.clone(),
            allows_refresh: who.offline,
            optional: tree.optional,
            created: now,
            updated: now,
            last_used: now,
        });
        path
    }

    /// The scopes that the user allowed directly below one of `scopes`, for tokens of `client_id`.
    pub(crate) fn dependent(
        &self,
        account: &str,
        client_id: &str,
        scopes: &[String],
    ) -> Vec<String> {
        let mut dependent = Vec::new();
        for scope in scopes {
            let Some(parent) = self.find(account, client_id, &[], scope) else {
                continue;
            };
            for consent in &self.all {
                let below = consent.is(account, client_id, &parent.path);
                if below && !dependent.contains(&consent.scope) {
                    dependent.push(consent.scope.clone());
                }
            }
        }
        dependent
    }

    /// Withdraws the consents of a user, all or those given to one client.
    pub(crate) fn withdraw(&mut self, account: &str, client_id: Option<&str>) {
        self.all.retain(|consent| {
            consent.account != account
                || client_id.is_some_and(|client_id| consent.root_client != client_id)
        });
    }

    fn find(&self, account: &str, client_id: &str, above: &[u64], scope: &str) -> Option<&Consent> {
        self.all
            .iter()
            .find(|consent| consent.is(account, client_id, above) && consent.scope == scope)
    }

    fn of<'a>(
        &'a self,
        account: &'a str,
        client_id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Consent> {
        self.all.iter().filter(move |consent| {
            let asked = client_id.is_none_or(|client_id| consent.root_client == client_id);
            consent.account == account && asked
        })
    }
}

impl Consent {
    fn is(&self, account: &str, client_id: &str, above: &[u64]) -> bool {
        let parents = self.path.split_last().map(|(_, parents)| parents);
        self.account == account && self.root_client == client_id && parents == Some(above)
    }

    fn wire(&self, catalog: &Catalog) -> ConsentBody {
        ConsentBody {
            id: self.id,
            status: "approved",
            scope: catalog
                .scope(&self.scope)
                .map(super::catalog::KnownScope::id),
            scope_name: self.scope.clone(),
            client: self.client.clone(),
            dependency_path: self.path.clone(),
            allows_refresh: self.allows_refresh,
            atomically_revocable: self.optional,
            auto_approved: false,
            created: rfc3339(self.created),
            updated: rfc3339(self.updated),
            last_used: rfc3339(self.last_used),
            effective_identity: self.account.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct ConsentBody {
    id: u64,
    status: &'static str,
    scope: Option<String>,
    scope_name: String,
    client: String,
    dependency_path: Vec<u64>,
    allows_refresh: bool,
    atomically_revocable: bool,
    auto_approved: bool,
    created: String,
    updated: String,
    last_used: String,
    effective_identity: String,
}

/// `GET /v2/api/identities/{id}/consents`: the caller's own, given to the calling client, or all of
/// them with `all=true` and the scope for it.
pub(crate) async fn list(
    State(realm): State<Realm>,
    Path(identity): Path<String>,
    headers: HeaderMap,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let token = bearer::authenticate(&realm, &headers, AUTH)?;
    let Principal::User(account) = &token.grant.principal else {
        return Err(ApiError::forbidden("a client has no consents"));
    };
    let own = realm
        .directory()
        .find(account)
        .is_some_and(|found| found.identity(&identity).is_some());
    if !own {
        return Err(ApiError::forbidden(
            "the consents of somebody else are not shown",
        ));
    }
    let all = query
        .get("all")
        .is_some_and(|all| all.eq_ignore_ascii_case("true"));
    if all
        && !token
            .grant
            .scopes
            .iter()
            .any(|scope| scope == VIEW_CONSENTS)
    {
        return Err(ApiError::forbidden(
            "all consents are shown to tokens with view_consents",
        ));
    }
    let client_id = (!all).then_some(token.grant.client_id.as_str());
    let consents = realm.consents();
    let found: Vec<_> = consents
        .of(account, client_id)
        .map(|consent| consent.wire(realm.catalog()))
        .collect();
    Ok(Json(json!({ "consents": found })))
}

/// The oldest are forgotten beyond this, as if they had been withdrawn.
const CONSENTS_MAX: usize = 10_000;
/// Deeper than any chain of services seen.
const PATH_LENGTH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::globus::config::{Client, Config, ResourceServer, Scope};
    use crate::globus::scope::parse;

    fn catalog() -> Catalog {
        let inference = Scope::new("inference")
            .depends_on("urn:globus:auth:scope:groups.api.globus.org:all", false)
            .depends_on("optional", true)
            .depends_on("inference", false);
        let server = ResourceServer {
            name: "rs".to_owned(),
            scopes: vec![inference],
        };
        let config = Config::default()
            .client(Client::native("rs-client").for_resource_server("rs"))
            .resource_server(server)
            .resource_server(ResourceServer::new("other", &["optional"]));
        Catalog::of(&config)
    }

    fn consenting(offline: bool) -> Consenting<'static> {
        Consenting {
            account: "alice",
            client_id: "app",
            offline,
            now: 7,
        }
    }

    #[test]
    fn a_consent_covers_itself_and_what_it_implies() {
        let mut consents = Consents::default();
        consents.record(
            consenting(false),
            &parse("openid inference").unwrap(),
            &catalog(),
        );
        let groups = "urn:globus:auth:scope:groups.api.globus.org:all";
        for (scopes, covered) in [
            ("openid", true),
            ("openid inference", true),
            ("inference[optional]", false),
            ("profile", false),
            (&format!("inference[{groups}]"), true),
            (groups, false),
        ] {
            let trees = parse(scopes).unwrap();
            assert_eq!(consents.cover("alice", "app", &trees), covered, "{scopes}");
            assert!(!consents.cover("bob", "app", &trees) && !consents.cover("alice", "b", &trees));
        }
        let dependent = consents.dependent("alice", "app", &["inference".to_owned()]);
        assert_eq!(dependent, [groups, "inference"]);
    }

    #[test]
    fn an_incremental_consent_keeps_the_earlier_ones() {
        let (mut consents, catalog) = (Consents::default(), catalog());
        consents.record(
            consenting(true),
            &parse("openid inference").unwrap(),
            &catalog,
        );
        consents.record(
            consenting(false),
            &parse("inference[*optional]").unwrap(),
            &catalog,
        );
        assert!(consents.cover(
            "alice",
            "app",
            &parse("openid inference[optional]").unwrap()
        ));
        let inference = consents.find("alice", "app", &[], "inference").unwrap();
        assert!(inference.allows_refresh && inference.path == [2]);
        let optional = consents.find("alice", "app", &[2], "optional").unwrap();
        assert!(optional.optional && optional.client == "rs-client");
        consents.withdraw("alice", Some("another"));
        assert!(consents.cover("alice", "app", &parse("openid").unwrap()));
        consents.withdraw("alice", None);
        assert!(!consents.cover("alice", "app", &parse("openid").unwrap()));
    }
}
