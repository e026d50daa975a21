//! What one proxy wants of its pods.

use globus_auth_crds::GlobusAuthProxy;
use globus_auth_crds::proxy::Resources;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::proxy::names;

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
    /// The container's resources, if not the defaults.
    pub resources: Option<Resources>,
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
    /// The policy of `proxy`; none if its ports are out of range, which the schema refuses.
    pub fn of(proxy: &GlobusAuthProxy) -> Option<Self> {
        let name = proxy.name_any();
        let port = match &proxy.spec.upstream.port {
            IntOrString::Int(number) => {
                Port::Number(u16::try_from(*number).ok().filter(|n| *n > 0)?)
            }
            IntOrString::String(name) => Port::Name(name.clone()),
        };
        Some(Self {
            secret: names::secret(&name),
            proxy: name,
            port,
            listen_port: u16::try_from(proxy.spec.proxy.port).ok()?,
            resources: proxy.spec.proxy.resources.clone(),
        })
    }

    /// The port of the pod on which users are served.
    pub fn admitted_port(&self) -> u16 {
        match self.port {
            Port::Name(_) => self.listen_port,
            Port::Number(number) => number,
        }
    }
}
