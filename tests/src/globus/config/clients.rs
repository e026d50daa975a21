//! Who may ask for tokens.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// An application, or a resource server's own client.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The client id; a UUID at Globus.
    pub client_id: String,
    /// The secret. Without one the client is a native application: PKCE is demanded of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What users are shown. Default: the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The redirect URIs, compared exactly. A native application may use any loopback address, too.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// The resource server that this client speaks for: it may introspect that server's tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_server: Option<String>,
}

impl Client {
    /// A client with a secret and one redirect URI.
    pub fn confidential(client_id: &str, client_secret: &str, redirect_uri: &str) -> Self {
        Self {
            client_secret: Some(client_secret.to_owned()),
            redirect_uris: vec![redirect_uri.to_owned()],
            ..Self::native(client_id)
        }
    }

    /// A native application.
    pub fn native(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            client_secret: None,
            name: None,
            redirect_uris: Vec::new(),
            resource_server: None,
        }
    }

    /// Lets this client speak for a resource server.
    #[must_use]
    pub fn for_resource_server(mut self, name: &str) -> Self {
        self.resource_server = Some(name.to_owned());
        self
    }

    /// What users are shown.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.client_id)
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let id = &self.client_id;
        let mut problems = Vec::new();
        if id.is_empty() {
            problems.push("client_id must not be empty".to_owned());
        }
        if self.client_secret.as_deref() == Some("") {
            problems.push(format!("client_secret of {id:?} must not be empty"));
        }
        for uri in &self.redirect_uris {
            match Url::parse(uri) {
                Ok(url) if url.fragment().is_none() => {}
                _ => problems.push(format!(
                    "redirect_uris of {id:?}: {uri:?} must be absolute and without a fragment"
                )),
            }
        }
        problems
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("client_id", &self.client_id)
            .field("confidential", &self.client_secret.is_some())
            .field("redirect_uris", &self.redirect_uris)
            .field("resource_server", &self.resource_server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let client = Client::confidential("id", "hidden-value", "https://app.test/cb");
        assert!(!format!("{client:?}").contains("hidden-value"));
    }
}
