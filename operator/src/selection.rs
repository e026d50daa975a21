//! Which proxy protects which pod. The webhook and the controller must give the same answer, so both
//! ask here.

use std::collections::BTreeMap;

use globus_auth_crds::{GlobusAuthProxy, PROXY_ANNOTATION};
use kube::ResourceExt;

/// Whether `proxy` selects a pod with these labels.
pub fn selects(proxy: &GlobusAuthProxy, labels: &BTreeMap<String, String>) -> bool {
    let wanted = proxy.spec.pod_labels(&proxy.name_any());
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
    let wanted = other.spec.pod_labels(&other.name_any());
    let labels = one.spec.pod_labels(&one.name_any());
    labels
        .iter()
        .all(|(key, value)| wanted.get(key).is_none_or(|other| other == value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::fixtures::proxy_with;
    use globus_auth_crds::proxy::Selector;

    fn texts(pairs: &Value) -> BTreeMap<String, String> {
        serde_json::from_value(pairs.clone()).unwrap()
    }

    fn selecting(labels: &Value) -> GlobusAuthProxy {
        let mut proxy = proxy_with(&json!({}));
        proxy.spec.selector = Some(Selector {
            match_labels: texts(labels),
        });
        proxy
    }

    fn proxy(name: &str, day: u32, labels: &Value) -> Arc<GlobusAuthProxy> {
        let mut proxy = selecting(labels);
        proxy.metadata.name = Some(name.to_owned());
        let created = format!("2026-03-{day:02}T00:00:00Z");
        proxy.metadata.creation_timestamp =
            Some(serde_json::from_value(Value::from(created)).unwrap());
        Arc::new(proxy)
    }

    #[rstest]
    #[case::the_label(json!({"app": "a"}), json!({"app": "a"}), true)]
    #[case::more_labels(json!({"app": "a"}), json!({"app": "a", "tier": "web"}), true)]
    #[case::another_value(json!({"app": "a"}), json!({"app": "b"}), false)]
    #[case::another_key(json!({"app": "a"}), json!({"name": "a"}), false)]
    #[case::not_all(json!({"app": "a", "tier": "web"}), json!({"app": "a"}), false)]
    #[case::no_labels(json!({"app": "a"}), json!({}), false)]
    #[case::a_selector_without_labels(json!({}), json!({"app": "a"}), false)]
    fn a_pod_needs_every_label_of_the_selector(
        #[case] selector: Value,
        #[case] labels: Value,
        #[case] selected: bool,
    ) {
        assert_eq!(selects(&selecting(&selector), &texts(&labels)), selected);
    }

    #[rstest]
    #[case::none(vec![], None, None)]
    #[case::none_that_selects(vec![("a", 1, "other")], None, None)]
    #[case::the_oldest(vec![("a", 2, "x"), ("b", 1, "x"), ("c", 3, "x")], None, Some("b"))]
    #[case::the_oldest_that_selects(vec![("a", 2, "x"), ("b", 1, "other")], None, Some("a"))]
    #[case::the_first_by_name_of_one_age(vec![("b", 1, "x"), ("a", 1, "x")], None, Some("a"))]
    #[case::the_chosen(vec![("a", 1, "x"), ("b", 2, "x")], Some("b"), Some("b"))]
    #[case::one_that_is_not_there(vec![("a", 1, "x")], Some("b"), None)]
    #[case::one_that_does_not_select(vec![("a", 1, "x"), ("b", 2, "other")], Some("b"), None)]
    fn a_pod_is_protected_by_the_chosen_or_the_oldest_proxy_that_selects_it(
        #[case] proxies: Vec<(&str, u32, &str)>,
        #[case] chosen: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let proxies: Vec<Arc<GlobusAuthProxy>> = proxies
            .into_iter()
            .map(|(name, day, app)| proxy(name, day, &json!({"app": app})))
            .collect();
        let annotations = chosen.map(|name| (PROXY_ANNOTATION.to_owned(), name.to_owned()));
        let labels = texts(&json!({"app": "x"}));
        let found = protector(&proxies, &labels, &annotations.into_iter().collect());
        assert_eq!(found.map(|proxy| proxy.name_any()).as_deref(), expected);
    }

    #[rstest]
    #[case::the_same(json!({"app": "a"}), json!({"app": "a"}), true)]
    #[case::other_keys(json!({"app": "a"}), json!({"tier": "web"}), true)]
    #[case::one_more_label(json!({"app": "a"}), json!({"app": "a", "tier": "web"}), true)]
    #[case::other_values(json!({"app": "a"}), json!({"app": "b"}), false)]
    #[case::one_other_value(json!({"app": "a", "tier": "web"}), json!({"app": "a", "tier": "db"}), false)]
    fn selectors_overlap_unless_a_label_tells_them_apart(
        #[case] one: Value,
        #[case] other: Value,
        #[case] overlap: bool,
    ) {
        let (one, other) = (selecting(&one), selecting(&other));
        assert_eq!(can_overlap(&one, &other), overlap);
        assert_eq!(can_overlap(&other, &one), overlap);
    }
}
