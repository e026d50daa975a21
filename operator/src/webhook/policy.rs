//! What one proxy wants of its pods.

use globus_auth_core::vault_api;
use globus_auth_crds::GlobusAuthProxy;
use globus_auth_crds::proxy::{GrantType, Mode, Resources, Token};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::proxy::{names, vault};

/// The part of a `GlobusAuthProxy` that the injection needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The proxy's name.
    pub proxy: String,
    /// The Secret that the sidecar mounts.
    pub secret: String,
    /// The workload's port.
    pub port: Port,
    /// The sidecar's own port, if it takes over a name.
    pub listen_port: u16,
    /// The audience of tokens for the vault, if the proxy has one.
    pub vault_audience: Option<String>,
    /// The files with tokens, if there are any.
    pub files: Option<Files>,
    /// The container's resources, if not the defaults.
    pub resources: Option<Resources>,
}

/// Files with tokens, for jobs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Files {
    /// The name of the first.
    pub first: String,
    /// Whether any of the tokens acts for a user, whom the pod must name.
    pub need_user: bool,
}

impl Files {
    fn of(tokens: &[Token]) -> Option<Self> {
        let with_file = || {
            tokens
                .iter()
                .filter_map(|one| Some((one, one.file.as_ref()?)))
        };
        let (_, first) = with_file().next()?;
        Some(Self {
            first: first.name.clone(),
            need_user: with_file().any(|(one, _)| one.grant_type == GrantType::AuthorizationCode),
        })
    }
}

/// The workload's port, as users know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Port {
    /// By name.
    Name(String),
    /// By number.
    Number(u16),
}

impl Policy {
    /// The policy of `proxy`; none if its ports are out of range, which the schema refuses, or if it runs
    /// in pods of its own.
    pub fn of(proxy: &GlobusAuthProxy) -> Option<Self> {
        if proxy.spec.mode != Mode::Sidecar {
            return None;
        }
        let name = proxy.name_any();
        let port = match proxy.spec.upstream.port.as_ref()? {
            IntOrString::Int(number) => {
                Port::Number(u16::try_from(*number).ok().filter(|n| *n > 0)?)
            }
            IntOrString::String(name) => Port::Name(name.clone()),
        };
        Some(Self {
            secret: names::secret(&name),
            proxy: name,
            port,
            listen_port: Self::own_port(proxy)?,
            resources: proxy.spec.proxy.resources.clone(),
            files: Files::of(&proxy.spec.tokens),
            vault_audience: proxy.spec.vault_ref.as_ref().map(|reference| {
                vault_api::audience(&vault::namespace(proxy, reference), &reference.name)
            }),
        })
    }

    /// The proxy's own port; none if it is out of range.
    pub fn own_port(proxy: &GlobusAuthProxy) -> Option<u16> {
        let port = u16::try_from(proxy.spec.proxy.port).ok();
        // The port after it is the sidecar's, too.
        port.filter(|port| (1..u16::MAX).contains(port))
    }

    /// The port of the pod on which users are served.
    pub fn admitted_port(&self) -> u16 {
        match self.port {
            Port::Name(_) => self.listen_port,
            Port::Number(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::proxy_with_spec;

    fn policy(upstream_port: &Value, own_port: i32) -> Option<Policy> {
        let spec = json!({"upstream": {"port": upstream_port}, "proxy": {"port": own_port}});
        Policy::of(&proxy_with_spec(&spec))
    }

    #[test]
    fn a_policy_is_what_the_proxy_says() {
        let resources = json!({"limits": {"memory": "64Mi"}});
        let spec =
            json!({"upstream": {"port": "web"}, "proxy": {"port": 4999, "resources": resources}});
        assert_eq!(
            Policy::of(&proxy_with_spec(&spec)),
            Some(Policy {
                proxy: "mlflow".to_owned(),
                secret: "mlflow-globus-auth".to_owned(),
                port: Port::Name("web".to_owned()),
                listen_port: 4999,
                resources: Some(serde_json::from_value(resources).unwrap()),
                vault_audience: None,
                files: None,
            })
        );
    }

    #[test]
    fn a_pod_names_a_user_only_where_a_token_acts_for_one() {
        let token = |name: &str, grant_type: &str| json!({"name": name, "resourceServer": "r", "scopes": ["s"], "grantType": grant_type, "file": {"name": name}});
        let files = |tokens: &[Value]| {
            let spec =
                json!({"upstream": {"port": 1}, "vaultRef": {"name": "v"}, "tokens": tokens});
            Policy::of(&proxy_with_spec(&spec)).unwrap().files
        };
        let (own, users) = (
            token("own", "ClientCredentials"),
            token("users", "AuthorizationCode"),
        );
        let expected = |first: &str, need_user| {
            let first = first.to_owned();
            Some(Files { first, need_user })
        };
        assert_eq!(files(&[]), None);
        assert_eq!(files(std::slice::from_ref(&own)), expected("own", false));
        assert_eq!(files(&[own, users]), expected("own", true));
    }

    #[rstest]
    #[case(json!(1), 1, Some(1))]
    #[case(json!(65535), 65534, Some(65535))]
    #[case(json!("http"), 1, Some(1))]
    #[case(json!("http"), 65534, Some(65534))]
    #[case(json!(0), 4180, None)]
    #[case(json!(-1), 4180, None)]
    #[case(json!(65536), 4180, None)]
    #[case(json!("http"), 0, None)]
    #[case(json!("http"), -1, None)]
    #[case::no_port_after_it(json!("http"), 65535, None)]
    #[case(json!("http"), 65536, None)]
    fn ports_out_of_range_make_no_policy(
        #[case] upstream_port: Value,
        #[case] own_port: i32,
        #[case] admitted: Option<u16>,
    ) {
        let policy = policy(&upstream_port, own_port);
        assert_eq!(policy.map(|policy| policy.admitted_port()), admitted);
    }
}
