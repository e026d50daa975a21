//! Which proxy protects which pod. The webhook and the controller must give the same answer, so both
//! ask here.

use std::collections::BTreeMap;

use globus_auth_crds::{GlobusAuthProxy, PROXY_ANNOTATION};
use kube::ResourceExt;

/// Whether `proxy` selects a pod with these labels.
pub fn selects(proxy: &GlobusAuthProxy, labels: &BTreeMap<String, String>) -> bool {
    let wanted = &proxy.spec.selector.match_labels;
    !wanted.is_empty()
        && wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

/// The proxy that protects a pod: the one that the pod's annotation names, if it selects the pod; else
/// the oldest that selects it, and of two of the same age the first by name.
///
/// `proxies` are those of the pod's namespace.
pub fn protector<'a, P: AsRef<GlobusAuthProxy>>(
    proxies: &'a [P],
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Option<&'a P> {
    let chosen = annotations.get(PROXY_ANNOTATION);
    proxies
        .iter()
        .filter(|proxy| selects(proxy.as_ref(), labels))
        .filter(|proxy| chosen.is_none_or(|name| proxy.as_ref().name_any() == *name))
        .min_by_key(|proxy| {
            let proxy = proxy.as_ref();
            (
                proxy.creation_timestamp().map(|time| time.0),
                proxy.name_any(),
            )
        })
}

/// Whether some pod could be selected by both.
pub fn can_overlap(one: &GlobusAuthProxy, other: &GlobusAuthProxy) -> bool {
    let wanted = &other.spec.selector.match_labels;
    let mut labels = one.spec.selector.match_labels.iter();
    labels.all(|(key, value)| wanted.get(key).is_none_or(|other| other == value))
}
