//! The headers of a workload's own choice that say who the user is, and the secret that says who says so.

use globus_auth_core::email::Email;
use globus_auth_core::identity::Identity;
use globus_auth_core::sidecar_config::IdentityHeaders as Config;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use crate::rules::Rules;

/// Names beside the usual ones, ready for use. Whoever sends such a header is not believed.
#[derive(Debug, Default)]
pub(crate) struct IdentityHeaders {
    names: Vec<(HeaderName, Said)>,
    shared_secret: Option<(HeaderName, HeaderValue)>,
    /// Names under which the workload gets tokens, which are not for clients either.
    delivered: Vec<HeaderName>,
}

/// What a header says of the user.
#[derive(Clone, Copy, Debug)]
enum Said {
    Email,
    Groups,
    PreferredUsername,
    User,
}

impl IdentityHeaders {
    /// # Errors
    /// [`BadIdentityHeaders`] for a name or a secret that cannot stand in a header, and for a name that
    /// HTTP or the proxy needs for something else.
    pub(crate) fn new<'d>(
        config: &Config,
        delivered: impl Iterator<Item = &'d String>,
    ) -> Result<Self, BadIdentityHeaders> {
        let lists = [
            (&config.user, Said::User),
            (&config.email, Said::Email),
            (&config.preferred_username, Said::PreferredUsername),
            (&config.groups, Said::Groups),
        ];
        let mut names = Vec::new();
        for (list, said) in lists {
            for name in list {
                names.push((parse(name)?, said));
            }
        }
        let shared_secret = config.shared_secret.as_ref().map(|secret| {
            let mut value = HeaderValue::from_str(secret.value.expose_secret())
                .map_err(|_bytes| BadIdentityHeaders::Secret)?;
            value.set_sensitive(true);
            Ok((parse(&secret.header)?, value))
        });
        Ok(Self {
            names,
            shared_secret: shared_secret.transpose()?,
            delivered: delivered
                .map(|name| parse(name))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Removes what a client says in these headers, in any case, and with `_` for `-`.
    pub(crate) fn remove_claims(&self, headers: &mut HeaderMap) {
        if self.names.is_empty() && self.shared_secret.is_none() && self.delivered.is_empty() {
            return;
        }
        let claimed: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                self.ours()
                    .any(|ours| is_alias(name.as_str(), ours.as_str()))
            })
            .cloned()
            .collect();
        for name in claimed {
            headers.remove(name);
        }
    }

    /// Says who the user is, and that it is the proxy who says so, also of a request by nobody.
    pub(crate) fn set(&self, headers: &mut HeaderMap, identity: Option<&Identity>, rules: &Rules) {
        if let Some((name, value)) = &self.shared_secret {
            headers.insert(name.clone(), value.clone());
        }
        let Some(identity) = identity else { return };
        for (name, said) in &self.names {
            let value = match said {
                Said::Email => identity
                    .email
                    .as_ref()
                    .map(Email::as_str)
                    .map(str::to_owned),
                Said::Groups => Some(rules.group_names(identity).join(",")),
                Said::PreferredUsername => Some(identity.username.clone()),
                Said::User => Some(identity.subject.clone()),
            };
            let value = value
                .filter(|text| !text.is_empty())
                .and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
            if let Some(value) = value {
                headers.insert(name.clone(), value);
            }
        }
    }

    fn ours(&self) -> impl Iterator<Item = &HeaderName> {
        let secret = self.shared_secret.iter().map(|(name, _)| name);
        let names = self.names.iter().map(|(name, _)| name);
        names.chain(secret).chain(&self.delivered)
    }
}

fn is_alias(name: &str, ours: &str) -> bool {
    let normal = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.bytes().map(normal).eq(ours.bytes())
}

fn parse(name: &str) -> Result<HeaderName, BadIdentityHeaders> {
    let bad = || BadIdentityHeaders::Name {
        name: name.chars().take(80).collect(),
    };
    if !Config::allows(name) {
        return Err(bad());
    }
    HeaderName::try_from(name).map_err(|_token| bad())
}

/// Why headers cannot be used for identities.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadIdentityHeaders {
    #[error(
        "{name:?} cannot be a header about the user: it must start with X- or Remote-, have letters, digits and - \
         only, and not be X-Forwarded-For, -Host or -Proto"
    )]
    Name { name: String },
    #[error("the shared secret has a byte that a header cannot have")]
    Secret,
}

#[cfg(test)]
mod tests {
    use globus_auth_core::sidecar_config::SharedSecret;
    use rstest::rstest;

    use super::*;

    fn bridge() -> IdentityHeaders {
        let config = Config {
            user: vec!["Remote-User".to_owned()],
            email: vec!["X-Email".to_owned(), "X-User-Email".to_owned()],
            preferred_username: vec!["X-Username".to_owned()],
            groups: vec!["X-Groups".to_owned()],
            shared_secret: Some(SharedSecret {
                header: "X-Proxy-Secret".to_owned(),
                value: "hunter2".into(),
            }),
        };
        IdentityHeaders::new(&config, ["X-Token-Alcf".to_owned()].iter()).unwrap()
    }

    fn identity() -> Identity {
        Identity {
            subject: "c2f5".to_owned(),
            email: Some("alice@example.org".parse().unwrap()),
            username: "alice".to_owned(),
            ..Identity::default()
        }
    }

    #[test]
    fn a_workload_gets_the_user_by_the_names_that_it_knows() {
        let mut headers = HeaderMap::new();
        bridge().set(&mut headers, Some(&identity()), &Rules::default());
        for (name, value) in [
            ("x-email", "alice@example.org"),
            ("x-user-email", "alice@example.org"),
            ("remote-user", "c2f5"),
            ("x-username", "alice"),
            ("x-proxy-secret", "hunter2"),
        ] {
            assert_eq!(headers[name], value);
        }
        // In no group: no header, rather than an empty one.
        assert!(!headers.contains_key("x-groups"));
    }

    #[test]
    fn nobody_has_no_name_and_comes_through_the_proxy_all_the_same() {
        let mut headers = HeaderMap::new();
        bridge().set(&mut headers, None, &Rules::default());
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-proxy-secret"], "hunter2");
    }

    #[rstest]
    #[case("X-Email")]
    #[case("x_email")]
    #[case("X-USER_EMAIL")]
    #[case("x_proxy-secret")]
    #[case("Remote_User")]
    fn what_clients_say_there_is_removed(#[case] name: &str) {
        let name = HeaderName::try_from(name).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(name.clone(), HeaderValue::from_static("mallory"));
        headers.append(name, HeaderValue::from_static("mallory"));
        headers.append("x-emails", HeaderValue::from_static("kept"));
        bridge().remove_claims(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-emails"]);
    }

    #[rstest]
    #[case("Authorization")]
    #[case("Cookie")]
    #[case("Host")]
    #[case("Content-Length")]
    #[case("X-Forwarded-For")]
    #[case("X-Forwarded-Host")]
    #[case("X Email")]
    #[case("X_Email")]
    #[case("")]
    fn a_name_with_another_meaning_is_refused(#[case] name: &str) {
        let config = Config {
            email: vec![name.to_owned()],
            ..Config::default()
        };
        let error = IdentityHeaders::new(&config, [].iter()).unwrap_err();
        assert!(matches!(error, BadIdentityHeaders::Name { .. }));
    }

    #[test]
    fn neither_an_error_nor_debug_output_has_the_secret() {
        assert!(!format!("{:?}", bridge()).contains("hunter2"));
        let config = Config {
            shared_secret: Some(SharedSecret {
                header: "X-Secret".to_owned(),
                value: "hunter2\n".into(),
            }),
            ..Config::default()
        };
        let error = IdentityHeaders::new(&config, [].iter()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
