//! What the emulator remembers: codes, tokens and browser sessions. All in memory.

use std::collections::HashMap;

use super::accounts::new_id;
use super::random;
use super::session::Session;

/// On whose behalf a token acts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Principal {
    /// A client itself (`client_credentials`).
    Client(String),
    /// A person, by the id of the primary identity.
    User(String),
}

/// What a token stands for, whichever kind it is.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) principal: Principal,
    pub(crate) resource_server: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) session: Option<Session>,
}

/// An access token, without its value.
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) grant: Grant,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    /// Whom it was minted for through the control API, beside its resource server.
    pub(crate) audience: Option<String>,
    pub(crate) dependent_tokens_cache_id: String,
}

/// A refresh token, without its value.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) grant: Grant,
    pub(crate) lifetime_seconds: u32,
    pub(crate) used_at: i64,
    /// When it was first replaced.
    pub(crate) spent_at: Option<i64>,
}

/// An authorization code, without its value.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// The S256 challenge, if one was sent.
    pub(crate) challenge: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) offline: bool,
    pub(crate) session: Session,
    pub(crate) nonce: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) expires_at: i64,
    pub(crate) redeemed: bool,
}

/// A browser that is logged in.
#[derive(Clone, Debug)]
struct Browser {
    session: Session,
    expires_at: i64,
}

/// Everything that ends with the process.
#[derive(Debug, Default)]
pub(crate) struct Store {
    access_tokens: HashMap<String, AccessToken>,
    refresh_tokens: HashMap<String, RefreshToken>,
    codes: HashMap<String, Code>,
    browsers: HashMap<String, Browser>,
}

impl Store {
    /// Issues an access token.
    pub(crate) fn add_access_token(
        &mut self,
        grant: Grant,
        lifetime_seconds: u32,
        audience: Option<String>,
        now: i64,
    ) -> String {
        let expires_at = now + i64::from(lifetime_seconds);
        let dependent_tokens_cache_id = new_id();
        let token = AccessToken {
            grant,
            issued_at: now,
            expires_at,
            audience,
            dependent_tokens_cache_id,
        };
        make_room(&mut self.access_tokens, |token| token.expires_at > now);
        insert(&mut self.access_tokens, token)
    }

    /// An access token that is neither expired nor revoked.
    pub(crate) fn access_token(&self, value: &str, now: i64) -> Option<&AccessToken> {
        self.access_tokens
            .get(value)
            .filter(|token| token.expires_at > now)
    }

    /// An access token for the same grant that is still good, and its value.
    pub(crate) fn reusable(&self, grant: &Grant, now: i64) -> Option<(&String, &AccessToken)> {
        self.access_tokens.iter().find(|(_, token)| {
            token.expires_at > now
                && token.grant.client_id == grant.client_id
                && token.grant.principal == grant.principal
                && token.grant.resource_server == grant.resource_server
                && token.grant.scopes == grant.scopes
        })
    }

    /// Issues a refresh token, whose access tokens live `lifetime_seconds`.
    pub(crate) fn add_refresh_token(
        &mut self,
        grant: Grant,
        lifetime_seconds: u32,
        now: i64,
    ) -> String {
        let token = RefreshToken {
            grant,
            lifetime_seconds,
            used_at: now,
            spent_at: None,
        };
        make_room(&mut self.refresh_tokens, |_| true);
        insert(&mut self.refresh_tokens, token)
    }

    pub(crate) fn refresh_token(&mut self, value: &str) -> Option<&mut RefreshToken> {
        self.refresh_tokens.get_mut(value)
    }

    /// Replaces a refresh token by its successor, beside one that it may have already.
    pub(crate) fn rotate_refresh_token(&mut self, old: &str, now: i64) -> Option<String> {
        let token = self.refresh_tokens.get_mut(old)?;
        let successor = RefreshToken {
            spent_at: None,
            ..token.clone()
        };
        token.spent_at.get_or_insert(now);
        Some(insert(&mut self.refresh_tokens, successor))
    }

    /// Every token of either kind that there is: its value, whether it is a refresh token, and its grant.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&String, bool, &Grant)> {
        let access = self.access_tokens.iter();
        let refresh = self.refresh_tokens.iter();
        access
            .map(|(value, token)| (value, false, &token.grant))
            .chain(refresh.map(|(value, token)| (value, true, &token.grant)))
    }

    /// Which client a token of either kind was issued to.
    pub(crate) fn client_of(&self, value: &str) -> Option<&str> {
        let access = self.access_tokens.get(value).map(|token| &token.grant);
        let grant = access.or_else(|| self.refresh_tokens.get(value).map(|token| &token.grant))?;
        Some(&grant.client_id)
    }

    /// Forgets a token of either kind; access tokens of a refresh token live on.
    pub(crate) fn revoke(&mut self, value: &str) -> bool {
        let access = self.access_tokens.remove(value).is_some();
        self.refresh_tokens.remove(value).is_some() || access
    }

    /// Forgets every token whose grant is chosen; how many there were.
    pub(crate) fn revoke_where(&mut self, chosen: impl Fn(&Grant) -> bool) -> usize {
        let before = self.access_tokens.len() + self.refresh_tokens.len();
        self.access_tokens.retain(|_, token| !chosen(&token.grant));
        self.refresh_tokens.retain(|_, token| !chosen(&token.grant));
        before - self.access_tokens.len() - self.refresh_tokens.len()
    }

    /// Issues an authorization code.
    pub(crate) fn add_code(&mut self, code: Code, now: i64) -> String {
        make_room(&mut self.codes, |code| code.expires_at > now);
        insert(&mut self.codes, code)
    }

    pub(crate) fn code(&mut self, value: &str) -> Option<&mut Code> {
        self.codes.get_mut(value)
    }

    /// Remembers a browser; returns its cookie.
    pub(crate) fn add_browser(&mut self, session: Session, lifetime: u32, now: i64) -> String {
        let expires_at = now + i64::from(lifetime);
        make_room(&mut self.browsers, |browser| browser.expires_at > now);
        insert(
            &mut self.browsers,
            Browser {
                session,
                expires_at,
            },
        )
    }

    /// The session of the browser with this cookie.
    pub(crate) fn session(&self, cookie: &str, now: i64) -> Option<&Session> {
        let browser = self
            .browsers
            .get(cookie)
            .filter(|browser| browser.expires_at > now)?;
        Some(&browser.session)
    }

    /// Logs a browser out.
    pub(crate) fn forget_browser(&mut self, cookie: &str) {
        self.browsers.remove(cookie);
    }

    /// Logs a person out everywhere.
    pub(crate) fn forget_browsers_of(&mut self, account: &str) {
        self.browsers
            .retain(|_, browser| browser.session.account != account);
    }
}

fn insert<T>(map: &mut HashMap<String, T>, value: T) -> String {
    let key = random::token();
    map.insert(key.clone(), value);
    key
}

/// Keeps a map within its bound: what is over goes first, then anything, a tenth at a time.
fn make_room<T>(map: &mut HashMap<String, T>, live: impl Fn(&T) -> bool) {
    if map.len() < ENTRIES_MAX {
        return;
    }
    map.retain(|_, value| live(value));
    let mut excess = map.len().saturating_sub(ENTRIES_MAX - ENTRIES_MAX / 10);
    map.retain(|_, _| {
        let stays = excess == 0;
        excess = excess.saturating_sub(1);
        stays
    });
}

/// Of each kind. At about 1 KiB each, an emulator stays under half a GiB.
const ENTRIES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_drops_the_dead_first() {
        let mut map: HashMap<String, bool> = (0..ENTRIES_MAX)
            .map(|n| (n.to_string(), n % 2 == 0))
            .collect();
        make_room(&mut map, |live| *live);
        assert_eq!(map.len(), ENTRIES_MAX / 2);
        let mut map: HashMap<String, bool> =
            (0..ENTRIES_MAX).map(|n| (n.to_string(), true)).collect();
        make_room(&mut map, |live| *live);
        assert_eq!(map.len(), ENTRIES_MAX - ENTRIES_MAX / 10);
    }
}
