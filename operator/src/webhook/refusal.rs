//! Why a pod cannot be protected, in words for whoever created it.

use globus_auth_crds::{
    CONTAINER, INJECT_ENABLED, INJECT_LABEL, ON_BEHALF_OF_ANNOTATION, PROXY_ANNOTATION,
};

/// A pod that asks for the sidecar and cannot have it. It is not created.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Two containers have a port of this name, so it is not clear which is meant.
    #[error(
        "several containers have a port named {port:?}; give one of them another name, or set \
         spec.upstream.port of the GlobusAuthProxy to the number"
    )]
    AmbiguousPort {
        /// The name.
        port: String,
    },
    /// A container has the sidecar's name.
    #[error(
        "a container is named {name:?}, which is the name of the container that globus-auth adds; rename it",
        name = CONTAINER
    )]
    ContainerNameTaken,
    /// The pod is on the node's network, where nothing of it can be guarded.
    #[error(
        "the pod has hostNetwork: true, so its ports can be reached beside the proxy; remove it, or remove \
         the label {label}",
        label = INJECT_LABEL
    )]
    HostNetwork,
    /// The port is also opened on the node, where nothing guards it.
    #[error(
        "port {port} has a hostPort, so it can be reached on the node beside the proxy; remove hostPort and \
         use a Service"
    )]
    HostPort {
        /// The port.
        port: String,
    },
    /// The pod cannot be read.
    #[error("the pod cannot be read: {detail}")]
    Malformed {
        /// Where.
        detail: String,
    },
    /// The proxy that the pod names does not select it.
    #[error(
        "the annotation {annotation} names {name:?}, but no GlobusAuthProxy of this name in namespace \
         {namespace:?} selects this pod",
        annotation = PROXY_ANNOTATION
    )]
    NamedProxyMissing {
        /// The name.
        name: String,
        /// The pod's namespace.
        namespace: String,
    },
    /// No proxy of the namespace selects the pod.
    #[error(
        "no GlobusAuthProxy in namespace {namespace:?} selects this pod, although it has the label {label}: \
         {enabled}; create one whose spec.selector.matchLabels the pod has, or remove the label",
        label = INJECT_LABEL, enabled = INJECT_ENABLED
    )]
    NoProxy {
        /// The pod's namespace.
        namespace: String,
    },
    /// The pod is to act for a user, and does not say for whom.
    #[error(
        "GlobusAuthProxy {proxy:?} gives this pod tokens in files that act for a user; name the user by their \
         subject (/oauth2/connections shows it) in the annotation {annotation} of the pod",
        annotation = ON_BEHALF_OF_ANNOTATION
    )]
    NoUser {
        /// The proxy.
        proxy: String,
    },
    /// Not a Linux pod.
    #[error("the sidecar runs on Linux only; remove the label {label}", label = INJECT_LABEL)]
    NotLinux,
    /// A container uses a port that the sidecar needs.
    #[error(
        "container {container:?} uses port {port}, which the proxy needs; set spec.proxy.port of \
         GlobusAuthProxy {proxy:?} so that neither it nor the port after it is used in the pod"
    )]
    PortTaken {
        /// The number.
        port: u16,
        /// The container.
        container: String,
        /// The proxy.
        proxy: String,
    },
    /// Containers could read each other's memory.
    #[error(
        "the pod has shareProcessNamespace: true, with which a container that has the same user as the sidecar could \
         read its memory; GlobusAuthProxy {proxy:?} gives it tokens in files, so remove shareProcessNamespace"
    )]
    SharedProcesses {
        /// The proxy.
        proxy: String,
    },
    /// No container has the port.
    #[error(
        "no container has a port named {port:?}, which spec.upstream.port of GlobusAuthProxy {proxy:?} \
         names; declared: {declared}"
    )]
    UnknownPort {
        /// The port that the proxy names.
        port: String,
        /// The ports that there are.
        declared: String,
        /// The proxy.
        proxy: String,
    },
    /// A file that only its owner may read needs an owner.
    #[error(
        "container {container:?} has no securityContext.runAsUser above 0; GlobusAuthProxy {proxy:?} gives it tokens in \
         files that only one user may read, so set runAsUser of the container or of the pod"
    )]
    UnknownUser {
        /// The container.
        container: String,
        /// The proxy.
        proxy: String,
    },
    /// A container mounts what is the sidecar's alone.
    #[error(
        "container {container:?} mounts the volume {volume:?}, which is for the container that globus-auth adds alone; \
         remove the mount"
    )]
    VolumeTaken {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
}

impl Refusal {
    /// For the metric.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::AmbiguousPort { .. } => "ambiguous_port",
            Self::ContainerNameTaken => "container_name_taken",
            Self::HostNetwork => "host_network",
            Self::HostPort { .. } => "host_port",
            Self::Malformed { .. } => "malformed",
            Self::NamedProxyMissing { .. } => "named_proxy_missing",
            Self::NoProxy { .. } => "no_proxy",
            Self::NoUser { .. } => "no_user",
            Self::NotLinux => "not_linux",
            Self::PortTaken { .. } => "port_taken",
            Self::SharedProcesses { .. } => "shared_processes",
            Self::UnknownPort { .. } => "unknown_port",
            Self::UnknownUser { .. } => "unknown_user",
            Self::VolumeTaken { .. } => "volume_taken",
        }
    }
}
