//! People and their identities, with every default of the configuration filled in.

use aws_lc_rs::digest;
use serde_json::{Map, Value};
use uuid::{Builder, Uuid};

use super::config::{IdentityProvider, LinkedIdentity, Membership, User};

/// A person: one or more linked identities.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) primary: Identity,
    pub(crate) linked: Vec<Identity>,
    pub(crate) mfa: bool,
    pub(crate) policies: Vec<String>,
    pub(crate) claims: Map<String, Value>,
}

impl Account {
    pub(crate) fn of(user: User) -> Self {
        let primary = LinkedIdentity {
            username: user.username,
            email: user.email,
            name: user.name,
            sub: user.sub,
            organization: user.organization,
            identity_provider: user.identity_provider,
            groups: user.groups,
        };
        Self {
            primary: Identity::of(primary),
            linked: user
                .linked_identities
                .into_iter()
                .map(Identity::of)
                .collect(),
            mfa: user.mfa,
            policies: user.policies,
            claims: user.claims,
        }
    }

    /// All identities, the primary one first.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&self.primary).chain(&self.linked)
    }

    /// The identity with this user name or id.
    pub(crate) fn identity(&self, name: &str) -> Option<&Identity> {
        self.identities().find(|identity| identity.is(name))
    }
}

/// One way of being authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) sub: String,
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) organization: String,
    pub(crate) provider: IdentityProvider,
    pub(crate) groups: Vec<Membership>,
}

impl Identity {
    fn of(wire: LinkedIdentity) -> Self {
        let domain = domain(&wire.username).to_owned();
        let local = wire
            .username
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned();
        Self {
            sub: wire
                .sub
                .unwrap_or_else(|| derived_id("identity", &wire.username)),
            email: wire.email.unwrap_or_else(|| wire.username.clone()),
            name: wire.name.unwrap_or(local),
            organization: wire
                .organization
                .unwrap_or_else(|| "Example Organization".to_owned()),
            provider: wire.identity_provider.unwrap_or_else(|| IdentityProvider {
                id: derived_id("identity provider", &domain),
                display_name: domain,
            }),
            groups: wire.groups,
            username: wire.username,
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.sub == name || self.username == name
    }

    /// What follows the last `@` of the user name.
    pub(crate) fn domain(&self) -> &str {
        domain(&self.username)
    }
}

/// Everybody who can log in; changed through the control API.
#[derive(Debug, Default)]
pub(crate) struct Directory(Vec<Account>);

impl Directory {
    pub(crate) fn of(users: Vec<User>) -> Self {
        Self(users.into_iter().map(Account::of).collect())
    }

    pub(crate) fn all(&self) -> &[Account] {
        &self.0
    }

    /// The account that has an identity with this user name or id.
    pub(crate) fn find(&self, name: &str) -> Option<&Account> {
        self.0
            .iter()
            .find(|account| account.identity(name).is_some())
    }

    /// Replaces the account with the same primary identity, or adds one.
    pub(crate) fn put(&mut self, user: User) {
        let account = Account::of(user);
        match self
            .0
            .iter_mut()
            .find(|old| old.primary.is(&account.primary.sub))
        {
            Some(old) => *old = account,
            None => self.0.push(account),
        }
    }
}

/// A UUID that depends on nothing but the two texts.
pub(crate) fn derived_id(kind: &str, name: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_bytes());
    context.update(b"\0");
    context.update(name.as_bytes());
    let bytes = context
        .finish()
        .as_ref()
        .first_chunk()
        .copied()
        .unwrap_or_default();
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A fresh UUID.
pub(crate) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

fn domain(username: &str) -> &str {
    username.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_derived_from_the_user_name() {
        let account = Account::of(User::new("x@y@accounts.google.com"));
        assert_eq!(account.primary.name, "x");
        assert_eq!(account.primary.email, "x@y@accounts.google.com");
        assert_eq!(account.primary.domain(), "accounts.google.com");
        assert_eq!(account.primary.provider.display_name, "accounts.google.com");
        assert_eq!(
            account.primary.sub,
            derived_id("identity", "x@y@accounts.google.com")
        );
        assert!(account.primary.sub.parse::<Uuid>().is_ok());
    }

    #[test]
    fn a_user_is_replaced_by_one_with_the_same_identity() {
        let mut directory = Directory::of(vec![User::new("a@x.test"), User::new("b@x.test")]);
        directory.put(User {
            email: Some("new@x.test".to_owned()),
            ..User::new("a@x.test")
        });
        directory.put(User::new("c@x.test"));
        let emails: Vec<_> = directory
            .all()
            .iter()
            .map(|a| a.primary.email.as_str())
            .collect();
        assert_eq!(emails, ["new@x.test", "b@x.test", "c@x.test"]);
    }
}
