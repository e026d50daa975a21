//! What scopes mean, in words, for pages. A scope that nobody here knows is shown as it is.

/// What a token with `scope` lets its holder do, for those scopes that many people meet.
pub(crate) fn words(scope: &str) -> Option<String> {
    let known = match scope {
        "openid" => "know who you are",
        "email" => "see your e-mail address",
        "profile" => "see your name",
        "offline_access" => "go on while you are not looking",
        "urn:globus:auth:scope:transfer.api.globus.org:all" => {
            "see, move, share and delete your files with Globus Transfer"
        }
        "urn:globus:auth:scope:auth.globus.org:view_identity_set" => "see your linked identities",
        "urn:globus:auth:scope:groups.api.globus.org:view_my_groups_and_memberships" => {
            "see your groups and who is in them"
        }
        "urn:globus:auth:scope:search.api.globus.org:all" => "search, and change your indexes",
        "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all" => {
            "run functions with Globus Compute"
        }
        _ => return storage(scope).or_else(|| flows(scope)),
    };
    Some(known.to_owned())
}

/// Paths of a storage service (WLCG Common JWT Profiles).
fn storage(scope: &str) -> Option<String> {
    let (right, path) = scope.strip_prefix("storage.")?.split_once(':')?;
    let right = match right {
        "read" => "read files below",
        "create" => "create files below",
        "modify" => "read, change and delete files below",
        "stage" => "bring files from tape below",
        _ => return None,
    };
    Some(format!("{right} {path}"))
}

/// Rights of Globus Flows.
fn flows(scope: &str) -> Option<String> {
    let rest = scope
        .strip_prefix("https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/")?;
    let right = match rest {
        "manage_flows" => "create, change and delete your flows",
        "view_flows" => "see your flows",
        "run" | "run_manage" => "run flows, and stop them",
        "run_status" => "see how your runs of flows are",
        _ => return None,
    };
    Some(right.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("openid", Some("know who you are"))]
    #[case("storage.read:/nova/x", Some("read files below /nova/x"))]
    #[case("storage.format:/", None)]
    #[case("storage.read", None)]
    #[case(
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_status",
        Some("see how your runs of flows are")
    )]
    #[case(
        "https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/other",
        None
    )]
    #[case(
        "https://evil.test/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/run_status",
        None
    )]
    #[case("urn:globus:auth:scope:transfer.api.globus.org:all[*x]", None)]
    fn known_scopes_have_words_and_others_are_not_guessed_at(
        #[case] scope: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(words(scope).as_deref(), expected);
    }
}
