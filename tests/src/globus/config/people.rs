//! Who can log in, and what is known of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Somebody who can log in.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// The user name of the primary identity; it may contain more than one `@`.
    pub username: String,
    /// Default: the user name.
    pub email: Option<String>,
    /// Default: the user name up to its first `@`.
    pub name: Option<String>,
    /// The identity's id. Default: derived from the user name, so that it survives restarts.
    pub sub: Option<String>,
    /// Default: `Example Organization`.
    pub organization: Option<String>,
    /// Default: a provider named like what follows the last `@` of the user name.
    pub identity_provider: Option<IdentityProvider>,
    /// Group memberships of the primary identity.
    pub groups: Vec<Membership>,
    /// Further identities of the same person.
    pub linked_identities: Vec<LinkedIdentity>,
    /// Whether a login of this user counts as multi-factor.
    pub mfa: bool,
    /// Ids of the authentication policies that this user can satisfy.
    pub policies: Vec<String>,
    /// Laid over the claims of the ID token and of userinfo, to see how odd values are borne.
    pub claims: Map<String, Value>,
}

/// An identity beside the primary one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkedIdentity {
    /// As for [`User`].
    pub username: String,
    /// As for [`User`].
    pub email: Option<String>,
    /// As for [`User`].
    pub name: Option<String>,
    /// As for [`User`].
    pub sub: Option<String>,
    /// As for [`User`].
    pub organization: Option<String>,
    /// As for [`User`].
    pub identity_provider: Option<IdentityProvider>,
    /// Group memberships of this identity.
    pub groups: Vec<Membership>,
}

/// An institution that authenticates people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityProvider {
    /// A UUID at Globus.
    pub id: String,
    /// What users are shown.
    pub display_name: String,
}

/// One identity's membership in one group.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The group's id; a UUID at Globus.
    pub id: String,
    /// The group's name. Default: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `member`, `manager` or `admin`.
    #[serde(default = "member")]
    pub role: String,
    /// `active`, `invited`, `pending`, `rejected`, `removed`, `left` or `declined`.
    #[serde(default = "active")]
    pub status: String,
}

/// An authentication policy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The id that [`User::policies`] and `session_required_policies` name.
    pub id: String,
    /// How long ago the last authentication may be. Default: no matter how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

impl User {
    /// A user with everything derived from the name.
    pub fn new(username: &str) -> Self {
        Self {
            username: username.to_owned(),
            ..Self::default()
        }
    }

    /// Makes the primary identity an active member of a group.
    #[must_use]
    pub fn member_of(mut self, group: &str) -> Self {
        self.groups.push(Membership::active(group));
        self
    }

    /// Links another identity.
    #[must_use]
    pub fn linked(mut self, identity: LinkedIdentity) -> Self {
        self.linked_identities.push(identity);
        self
    }

    /// What is wrong with a user on its own.
    pub(crate) fn problems(&self) -> Vec<String> {
        let linked = self
            .linked_identities
            .iter()
            .map(|identity| identity.username.as_str());
        if std::iter::once(self.username.as_str())
            .chain(linked)
            .any(str::is_empty)
        {
            vec!["username must not be empty".to_owned()]
        } else {
            Vec::new()
        }
    }
}

impl LinkedIdentity {
    /// An identity with everything derived from the name.
    pub fn new(username: &str) -> Self {
        Self {
            username: username.to_owned(),
            ..Self::default()
        }
    }
}

impl Membership {
    /// A plain, active membership.
    pub fn active(group: &str) -> Self {
        Self {
            id: group.to_owned(),
            name: None,
            role: member(),
            status: active(),
        }
    }
}

fn member() -> String {
    "member".to_owned()
}

fn active() -> String {
    "active".to_owned()
}
