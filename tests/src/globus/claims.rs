//! What ID tokens, userinfo and introspection say about somebody.

use serde_json::{Map, Value, json};

use super::Realm;
use super::accounts::{Account, Identity};
use super::catalog::{EMAIL, OPENID, PROFILE};
use super::session::Session;
use super::store::Principal;

/// Somebody, with the session that a token came from.
#[derive(Debug)]
pub(crate) struct Person {
    account: Account,
    session: Option<Session>,
}

impl Person {
    /// Looks the principal up; nobody when the account is gone.
    pub(crate) fn of(
        realm: &Realm,
        principal: &Principal,
        session: Option<Session>,
    ) -> Option<Self> {
        let account = match principal {
            Principal::User(sub) => realm.account(sub)?,
            Principal::Client(client_id) => client_account(realm, client_id)?,
        };
        Some(Self { account, session })
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The claims that the scopes allow. `email_verified` is not among them: Globus has none.
    pub(crate) fn claims(&self, scopes: &[String]) -> Map<String, Value> {
        let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
        let mut claims = Map::new();
        let primary = &self.account.primary;
        if has(OPENID) {
            claims.insert("sub".to_owned(), json!(primary.sub));
            claims.insert(
                "last_authentication".to_owned(),
                self.last_authentication(primary),
            );
        }
        if has(EMAIL) {
            claims.insert("email".to_owned(), json!(primary.email));
        }
        if has(PROFILE) {
            let provider = &primary.provider;
            claims.insert("name".to_owned(), json!(primary.name));
            claims.insert("preferred_username".to_owned(), json!(primary.username));
            claims.insert("organization".to_owned(), json!(primary.organization));
            claims.insert("identity_provider".to_owned(), json!(provider.id));
            let name = json!(provider.display_name);
            claims.insert("identity_provider_display_name".to_owned(), name);
            claims.insert("identity_set".to_owned(), self.identity_set());
        }
        claims.extend(self.account.claims.clone());
        claims
    }

    /// The identities as in ID tokens and userinfo.
    fn identity_set(&self) -> Value {
        let identities = self.account.identities().map(|identity| {
            json!({
                "sub": identity.sub,
                "organization": identity.organization,
                "name": identity.name,
                "username": identity.username,
                "identity_provider": identity.provider.id,
                "identity_provider_display_name": identity.provider.display_name,
                "email": identity.email,
                "last_authentication": self.last_authentication(identity),
            })
        });
        identities.collect()
    }

    /// The identities as in introspection.
    pub(crate) fn identity_set_detail(&self) -> Value {
        let identities = self.account.identities().map(|identity| {
            json!({
                "sub": identity.sub,
                "username": identity.username,
                "name": identity.name,
                "email": identity.email,
                "organization": identity.organization,
                "identity_provider": identity.provider.id,
                "identity_provider_display_name": identity.provider.display_name,
                "identity_type": "login",
                "status": "used",
                "last_authentication": self.last_authentication(identity),
            })
        });
        identities.collect()
    }

    /// `null` for an identity that was not authenticated in this session.
    fn last_authentication(&self, identity: &Identity) -> Value {
        json!(
            self.session
                .as_ref()
                .and_then(|session| session.last_authentication(&identity.sub))
        )
    }
}

/// A client that acts for itself has an identity, too.
fn client_account(realm: &Realm, client_id: &str) -> Option<Account> {
    let client = realm.catalog().client(client_id)?;
    let user = super::config::User {
        name: Some(client.display_name().to_owned()),
        sub: Some(client_id.to_owned()),
        ..super::config::User::new(&format!("{client_id}@clients.auth.globus.org"))
    };
    Some(Account::of(user))
}
