//! What an emulator is made of: read from JSON, or built by a test.
//!
//! `tests/globus-emulator.example.json` shows most fields.

mod clients;
mod people;
mod services;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

pub use clients::Client;
pub use people::{IdentityProvider, LinkedIdentity, Membership, Policy, User};
pub use services::{DependentScope, ResourceServer, Scope};

/// The whole configuration. Every field has a default; unknown fields are refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The issuer, without a slash at its end. Default: `http://` and the address listened on, which
    /// must then not be `0.0.0.0`.
    pub issuer: Option<String>,
    /// Where a browser reaches the emulator, if not at the issuer: the base of the authorization
    /// endpoint and of the pages.
    pub browser_url: Option<String>,
    /// Whether the control API under `/_emulator/` answers. It asks nobody for credentials.
    pub control: bool,
    /// The user as whom every login is made at once, without a page.
    pub auto_login: Option<String>,
    /// Applications and resource servers that authenticate with a client id.
    pub clients: Vec<Client>,
    /// The people on the login page.
    pub users: Vec<User>,
    /// Resource servers beside Globus's own.
    pub resource_servers: Vec<ResourceServer>,
    /// Authentication policies that have more to them than the list of each user.
    pub policies: Vec<Policy>,
    /// Lifetime of an access token. Default: 48 hours, as Globus.
    pub access_token_lifetime_seconds: u32,
    /// Lifetime of a dependent token. Default: 48 hours.
    pub dependent_token_lifetime_seconds: u32,
    /// Lifetime of an ID token. Default: 48 hours.
    pub id_token_lifetime_seconds: u32,
    /// Lifetime of an authorization code. Default: 10 minutes.
    pub authorization_code_lifetime_seconds: u32,
    /// How long a refresh token may lie unused. Default: half a year, as Globus.
    pub refresh_token_idle_seconds: u32,
    /// How long the emulator remembers who logged in. Default: 24 hours.
    pub session_lifetime_seconds: u32,
    /// Whether a refresh token is replaced by its use, and the old one then refused. Globus does not.
    pub rotate_refresh_tokens: bool,
    /// For how long after its first use a replaced refresh token is good all the same. Its use after that
    /// ends every token of the same user, client and resource server (RFC 9700 §4.14.2).
    pub refresh_token_grace_seconds: u32,
    /// Whether a new login may be answered with an access token that was issued before and has less
    /// than its full lifetime left, as has been seen of Globus.
    pub reuse_access_tokens: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The text is not JSON of the right form.
    #[error("failed to parse the configuration")]
    Parse(#[source] serde_json::Error),
    /// Values contradict each other; all problems are listed.
    #[error("failed to accept the configuration: {}", problems.join("; "))]
    Check {
        /// One sentence each.
        problems: Vec<String>,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            issuer: None,
            browser_url: None,
            control: false,
            auto_login: None,
            clients: Vec::new(),
            users: Vec::new(),
            resource_servers: Vec::new(),
            policies: Vec::new(),
            access_token_lifetime_seconds: TWO_DAYS,
            dependent_token_lifetime_seconds: TWO_DAYS,
            id_token_lifetime_seconds: TWO_DAYS,
            authorization_code_lifetime_seconds: 600,
            refresh_token_idle_seconds: HALF_A_YEAR,
            session_lifetime_seconds: 86_400,
            rotate_refresh_tokens: false,
            refresh_token_grace_seconds: 0,
            reuse_access_tokens: false,
        }
    }
}

impl Config {
    /// Reads a JSON file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// [`ConfigError::Parse`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        serde_json::from_str(text).map_err(ConfigError::Parse)
    }

    /// Adds a client.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Adds a resource server.
    #[must_use]
    pub fn resource_server(mut self, resource_server: ResourceServer) -> Self {
        self.resource_servers.push(resource_server);
        self
    }

    /// Looks for contradictions that no single field shows.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with every problem found.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        for (field, value) in [("issuer", &self.issuer), ("browser_url", &self.browser_url)] {
            if value.as_deref().is_some_and(|value| !is_origin(value)) {
                problems.push(format!(
                    "{field} must be http:// or https:// with a host, and nothing after the port"
                ));
            }
        }
        if self.issuer.is_none() && self.listen.ip().is_unspecified() {
            problems.push("issuer must be set when listen is an unspecified address".to_owned());
        }
        problems.extend(duplicates(
            "client",
            self.clients.iter().map(|c| c.client_id.as_str()),
        ));
        problems.extend(duplicates(
            "user",
            self.users.iter().map(|user| user.username.as_str()),
        ));
        problems.extend(duplicates(
            "scope",
            self.scopes().map(|scope| scope.scope.as_str()),
        ));
        for user in &self.users {
            problems.extend(user.problems());
        }
        for client in &self.clients {
            problems.extend(client.problems());
        }
        let knows = |name: &str| self.users.iter().any(|user| user.username == name);
        if let Some(name) = self.auto_login.as_deref().filter(|name| !knows(name)) {
            problems.push(format!(
                "auto_login {name:?} must be the username of a user"
            ));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Check { problems })
        }
    }

    fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.resource_servers
            .iter()
            .flat_map(|server| &server.scopes)
    }
}

fn is_origin(value: &str) -> bool {
    Url::parse(value).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == value
    })
}

fn duplicates<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashSet::new();
    names
        .filter(|name| !seen.insert(*name))
        .map(|name| format!("{what} {name:?} must appear only once"))
        .collect()
}

const TWO_DAYS: u32 = 172_800;
const HALF_A_YEAR: u32 = 15_552_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        let error = match Config::parse(text) {
            Ok(config) => config.check().unwrap_err(),
            Err(error) => error,
        };
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }

    #[test]
    fn an_empty_configuration_is_globus_as_it_is() {
        let config = Config::parse("{}").unwrap();
        assert_eq!(config, Config::default());
        config.check().unwrap();
    }

    #[test]
    fn the_example_is_accepted() {
        let config = Config::parse(include_str!("../../../globus-emulator.example.json")).unwrap();
        config.check().unwrap();
    }

    #[test]
    fn errors_name_the_field_and_the_rule() {
        for (text, part) in [
            (r#"{"isuer": ""}"#, "unknown field `isuer`"),
            (r#"{"clients": [{}]}"#, "missing field `client_id`"),
            (
                r#"{"users": [{"username": "a", "mail": ""}]}"#,
                "unknown field `mail`",
            ),
            (r#"{"users": [{}]}"#, "username must not be empty"),
            (
                r#"{"issuer": "http://h/"}"#,
                "issuer must be http:// or https:// with a host",
            ),
            (
                r#"{"issuer": "ftp://h"}"#,
                "issuer must be http:// or https:// with a host",
            ),
            (r#"{"browser_url": "http://h/p"}"#, "browser_url must be"),
            (r#"{"listen": "0.0.0.0:80"}"#, "issuer must be set"),
            (
                r#"{"auto_login": "zoe"}"#,
                "auto_login \"zoe\" must be the username",
            ),
            (
                r#"{"clients": [{"client_id": "a"}, {"client_id": "a", "redirect_uris": ["/x"]}]}"#,
                "client \"a\" must appear only once; redirect_uris of \"a\": \"/x\" must be",
            ),
        ] {
            let error = error_of(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
