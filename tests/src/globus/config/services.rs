//! What tokens are for.

use serde::{Deserialize, Serialize};

/// A service that accepts tokens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceServer {
    /// The value of `resource_server` in token answers: a UUID or a host name.
    pub name: String,
    /// The scopes of its tokens.
    pub scopes: Vec<Scope>,
}

/// A scope of a resource server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The scope string.
    pub scope: String,
    /// What users are asked to allow. Default: the scope string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the resource server will want to do elsewhere on behalf of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependent_scopes: Vec<DependentScope>,
}

/// A scope that another scope depends on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DependentScope {
    /// The scope string.
    pub scope: String,
    /// An optional one is consented to only when it is asked for, as `parent[dependent]`.
    #[serde(default)]
    pub optional: bool,
}

impl ResourceServer {
    /// A resource server with plain scopes.
    pub fn new(name: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| Scope::new(scope)).collect();
        Self {
            name: name.to_owned(),
            scopes,
        }
    }
}

impl Scope {
    /// A scope that depends on nothing.
    pub fn new(scope: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            description: None,
            dependent_scopes: Vec::new(),
        }
    }

    /// Adds a dependent scope.
    #[must_use]
    pub fn depends_on(mut self, scope: &str, optional: bool) -> Self {
        self.dependent_scopes.push(DependentScope {
            scope: scope.to_owned(),
            optional,
        });
        self
    }
}
