//! Which pod a sidecar speaks for, as its ServiceAccount token says.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use globus_auth_core::report::AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

/// The pod that a token names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reporter {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
}

/// The pod that the token in `headers` names, which must be there.
///
/// # Errors
/// [`NotAReporter`].
pub async fn of(client: &Client, headers: &HeaderMap) -> Result<(Reporter, Pod), NotAReporter> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or(NotAReporter::Unauthenticated)?;
    let reporter = authenticate(client, token).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &reporter.namespace);
    let pod = pods
        .get_opt(&reporter.pod)
        .await
        .map_err(NotAReporter::Read)?
        .filter(|pod| pod.uid().as_deref() == Some(&reporter.uid))
        .ok_or(NotAReporter::OtherPod)?;
    Ok((reporter, pod))
}

async fn authenticate(client: &Client, token: &str) -> Result<Reporter, NotAReporter> {
    let review = TokenReview {
        metadata: ObjectMeta::default(),
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![AUDIENCE.to_owned()]),
        },
        status: None,
    };
    let reviewed = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(NotAReporter::Review)?;
    let status = reviewed.status.ok_or(NotAReporter::Unauthenticated)?;
    let is_for_us = status
        .audiences
        .iter()
        .flatten()
        .any(|audience| audience == AUDIENCE);
    if status.authenticated != Some(true) || !is_for_us {
        return Err(NotAReporter::Unauthenticated);
    }
    status
        .user
        .as_ref()
        .and_then(reporter)
        .ok_or(NotAReporter::Unauthenticated)
}

/// A token that is bound to a pod names it in the user's extra fields.
fn reporter(user: &UserInfo) -> Option<Reporter> {
    let service_account = user
        .username
        .as_ref()?
        .strip_prefix("system:serviceaccount:")?;
    let (namespace, _name) = service_account.split_once(':')?;
    let extra = |key: &str| user.extra.as_ref()?.get(key)?.first().cloned();
    Some(Reporter {
        namespace: namespace.to_owned(),
        pod: extra("authentication.kubernetes.io/pod-name")?,
        uid: extra("authentication.kubernetes.io/pod-uid")?,
    })
}

/// Why nobody knows who speaks.
#[derive(Debug, thiserror::Error)]
pub enum NotAReporter {
    /// The pod is not there, or another one of its name is.
    #[error("the pod of the token is gone")]
    OtherPod,
    /// The API server did not tell about the pod.
    #[error("failed to read the pod")]
    Read(#[source] kube::Error),
    /// The API server did not review the token.
    #[error("failed to review the token")]
    Review(#[source] kube::Error),
    /// The token is none of a pod for us.
    #[error("no token of a pod for this audience")]
    Unauthenticated,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
    const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

    fn user(username: Option<&str>, extra: &[(&str, &[&str])]) -> UserInfo {
        let values = |(key, values): &(&str, &[&str])| {
            let values = values.iter().map(|&value| value.to_owned()).collect();
            ((*key).to_owned(), values)
        };
        UserInfo {
            username: username.map(str::to_owned),
            extra: Some(
                extra
                    .iter()
                    .map(values)
                    .collect::<BTreeMap<_, Vec<String>>>(),
            ),
            ..UserInfo::default()
        }
    }

    #[test]
    fn a_token_that_is_bound_to_a_pod_names_it() {
        let user = user(
            Some("system:serviceaccount:ml:trainer"),
            &[(POD_NAME, &["mlflow-0"]), (POD_UID, &["p-1"])],
        );
        assert_eq!(
            reporter(&user),
            Some(Reporter {
                namespace: "ml".to_owned(),
                pod: "mlflow-0".to_owned(),
                uid: "p-1".to_owned(),
            })
        );
    }

    #[rstest]
    #[case::nobody(user(None, &[(POD_NAME, &["mlflow-0"]), (POD_UID, &["p-1"])]))]
    #[case::a_person(user(Some("ml:trainer"), &[(POD_NAME, &["mlflow-0"]), (POD_UID, &["p-1"])]))]
    #[case::no_account(user(Some("system:serviceaccount:ml"), &[(POD_NAME, &["mlflow-0"]), (POD_UID, &["p-1"])]))]
    #[case::no_pod(user(Some("system:serviceaccount:ml:trainer"), &[(POD_UID, &["p-1"])]))]
    #[case::no_uid(user(Some("system:serviceaccount:ml:trainer"), &[(POD_NAME, &["mlflow-0"])]))]
    #[case::an_empty_uid_list(user(Some("system:serviceaccount:ml:trainer"), &[(POD_NAME, &["mlflow-0"]), (POD_UID, &[])]))]
    #[case::no_extra(UserInfo { extra: None, ..user(Some("system:serviceaccount:ml:trainer"), &[]) })]
    fn any_other_token_names_no_pod(#[case] user: UserInfo) {
        assert_eq!(reporter(&user), None);
    }
}
