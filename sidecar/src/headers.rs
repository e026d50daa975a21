//! Which headers pass: what clients may not say, what hops may not see, and who the user is.

use axum::body::Bytes;
use globus_auth_core::email::Email;
use globus_auth_core::identity::Identity;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::rules::Rules;

/// Where a workload, such as a plugin of MLflow, reads who the user is: subject, address, user name and
/// groups.
static FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-forwarded-email"),
    HeaderName::from_static("x-forwarded-preferred-username"),
    HeaderName::from_static("x-forwarded-groups"),
];
/// The same, in the names that nginx copies.
static AUTH_REQUEST: [HeaderName; 4] = [
    HeaderName::from_static("x-auth-request-user"),
    HeaderName::from_static("x-auth-request-email"),
    HeaderName::from_static("x-auth-request-preferred-username"),
    HeaderName::from_static("x-auth-request-groups"),
];

/// Names, with `-` for `_`, by which a workload may learn who the user is, where the request came
/// from, or what was asked for. A client's word on these never counts, whether we set them or not.
const NOT_FOR_CLIENTS: [&str; 14] = [
    "client-ip",
    "forwarded",
    "remote-email",
    "remote-groups",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-email",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-user",
];
const NOT_FOR_CLIENTS_PREFIXES: [&str; 4] = [
    "x-auth-request-",
    "x-forwarded-",
    "x-globus-auth-",
    "x-remote-",
];

/// Removes every header that is not for clients to set.
///
/// Case never matters; `_` counts as `-`, because CGI, WSGI and PHP make both into the same variable
/// (CVE-2025-64484 of another proxy).
pub(crate) fn remove_claims_of_clients(headers: &mut HeaderMap) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !is_for_clients(name.as_str()))
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
}

fn is_for_clients(name: &str) -> bool {
    // Most names are decided by their first letter, without a copy.
    if !matches!(
        name.as_bytes().first(),
        Some(b'c' | b'f' | b'r' | b't' | b'x')
    ) {
        return true;
    }
    let first = name.as_bytes().first();
    let normal = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let equals = |known: &&str| {
        known.as_bytes().first() == first
            && known.len() == name.len()
            && known.bytes().eq(name.bytes().map(normal))
    };
    let starts_with = |prefix: &&str| {
        name.len() >= prefix.len()
            && prefix
                .bytes()
                .eq(name.bytes().take(prefix.len()).map(normal))
    };
    let is_known = NOT_FOR_CLIENTS.iter().any(equals);
    !is_known && (first != Some(&b'x') || !NOT_FOR_CLIENTS_PREFIXES.iter().any(starts_with))
}

/// Removes what belongs to one connection (RFC 9110 §7.6.1): the headers that `Connection` lists,
/// `Connection` itself, and those that older senders forget to list.
///
/// `TE: trailers` stays, because gRPC needs it and we do pass trailers on.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most requests and answers have none of them: that is seen without hashing each name.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let accepts_trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    for name in listed.iter().chain(HOP_BY_HOP.iter()) {
        headers.remove(name);
    }
    if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Tells the workload who the user is. Called after everything of the same name was removed.
pub(crate) fn set_identity(headers: &mut HeaderMap, identity: &Identity, rules: &Rules) {
    let values = values(identity, rules);
    insert_all(headers, FORWARDED.iter().zip(values.clone()));
    insert_all(headers, AUTH_REQUEST.iter().zip(values));
}

/// The answer of `/oauth2/auth` to an nginx that asks, in the names that it copies from there.
pub(crate) fn set_auth_request(headers: &mut HeaderMap, identity: &Identity, rules: &Rules) {
    insert_all(headers, AUTH_REQUEST.iter().zip(values(identity, rules)));
}

/// Subject, address, user name and groups, as far as there are any: parts of one piece of memory.
fn values(identity: &Identity, rules: &Rules) -> [Option<HeaderValue>; 4] {
    let groups = groups(identity, rules).unwrap_or_default();
    let texts = [
        identity.subject.as_str(),
        identity.email.as_ref().map_or("", Email::as_str),
        identity.username.as_str(),
        groups.as_str(),
    ];
    let mut all = Bytes::from(texts.concat());
    texts.map(|text| {
        let value = all.split_to(text.len());
        (!text.is_empty()).then(|| HeaderValue::from_maybe_shared(value).ok())?
    })
}

/// The groups that rules name, joined by commas as oauth2-proxy does.
fn groups(identity: &Identity, rules: &Rules) -> Option<String> {
    let is_member = !identity.groups.names.is_empty();
    is_member.then(|| rules.group_names(identity).join(","))
}

/// Inserts or removes, so that nothing of an earlier value can survive.
fn insert_all<'a>(
    headers: &mut HeaderMap,
    pairs: impl Iterator<Item = (&'a HeaderName, Option<HeaderValue>)>,
) {
    for (name, value) in pairs {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[rstest]
    #[case("X-Forwarded-Email")]
    #[case("x_forwarded_email")]
    #[case("X_FORWARDED-Email")]
    #[case("X-Forwarded-User")]
    #[case("X-Forwarded-Groups")]
    #[case("X-Forwarded-Access-Token")]
    #[case("X-Auth-Request-Redirect")]
    #[case("X-Auth-Request-Anything")]
    #[case("X-Forwarded-Host")]
    #[case("X-Forwarded-For")]
    #[case("Forwarded")]
    #[case("X-Original-URL")]
    #[case("X_Original_URI")]
    #[case("X-Rewrite-Url")]
    #[case("X-Real-IP")]
    #[case("X-Email")]
    #[case("Remote-User")]
    #[case("X-Remote-User")]
    #[case("X-Globus-Auth-Session")]
    fn a_client_cannot_claim(#[case] name: &str) {
        let mut headers = headers(&[(name, "mallory"), (name, "again"), ("accept", "*/*")]);
        remove_claims_of_clients(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["accept"]
        );
    }

    #[test]
    fn an_ingress_learns_who_it_is_with_the_groups_of_rules() {
        use globus_auth_core::identity::{Groups, NameDigest};
        use globus_auth_core::sidecar_config::{Access, GroupAccess};

        let rules = Rules::new(&Access {
            groups: Some(GroupAccess {
                names: vec!["physics".to_owned(), "art".to_owned()],
                max_age_seconds: 900,
            }),
            ..Access::default()
        });
        let identity = |groups: &[&str]| Identity {
            subject: "c2f5".to_owned(),
            email: Some("alice@example.org".parse().unwrap()),
            groups: Groups {
                names: groups.iter().map(|name| NameDigest::of(name)).collect(),
                ..Groups::default()
            },
            ..Identity::default()
        };
        let mut told = headers(&[("x-auth-request-groups", "forged")]);
        set_auth_request(&mut told, &identity(&["physics", "art", "chess"]), &rules);
        assert_eq!(told["x-auth-request-user"], "c2f5");
        assert_eq!(told["x-auth-request-email"], "alice@example.org");
        assert_eq!(told["x-auth-request-groups"], "art,physics");
        // What is not known is not there, whatever was there before.
        assert!(!told.contains_key("x-auth-request-preferred-username"));
        set_auth_request(&mut told, &identity(&[]), &rules);
        assert!(!told.contains_key("x-auth-request-groups"));
    }

    #[rstest]
    #[case("X-Requested-With")]
    #[case("X-CSRF-Token")]
    #[case("Traceparent")]
    #[case("Referer")]
    #[case("From")]
    #[case("Cookie")]
    #[case("Content-Type")]
    #[case("X-Forwarded")]
    fn other_headers_pass(#[case] name: &str) {
        let mut headers = headers(&[(name, "value")]);
        remove_claims_of_clients(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn hop_by_hop_headers_go_and_trailers_stay_possible() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Private"),
            ("connection", "upgrade"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(
            headers,
            self::headers(&[("accept", "*/*"), ("te", "trailers")])
        );
    }

    #[test]
    fn a_connection_header_cannot_remove_our_identity() {
        let identity = Identity {
            subject: "s".to_owned(),
            email: Some("alice@example.org".parse().unwrap()),
            username: "alice".to_owned(),
            name: None,
            ..Identity::default()
        };
        let mut headers = headers(&[
            ("connection", "X-Forwarded-Email"),
            ("x-forwarded-email", "m@x"),
        ]);
        remove_claims_of_clients(&mut headers);
        remove_hop_by_hop(&mut headers);
        set_identity(&mut headers, &identity, &Rules::default());
        assert_eq!(headers["x-forwarded-email"], "alice@example.org");
        assert!(!headers.contains_key("connection"));
    }

    #[test]
    fn an_identity_without_address_leaves_no_old_address() {
        let identity = Identity {
            subject: "s".to_owned(),
            email: None,
            username: "s".to_owned(),
            name: None,
            ..Identity::default()
        };
        let mut headers = headers(&[("x-forwarded-email", "m@x")]);
        set_identity(&mut headers, &identity, &Rules::default());
        assert!(!headers.contains_key("x-forwarded-email"));
    }
}
