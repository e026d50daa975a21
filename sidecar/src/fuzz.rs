//! Requests of strangers, made up by a generator that knows the formats: `make fuzz` for as long as one likes, a
//! short run with the other tests. What once failed is kept in `proptest-regressions` and tried first.

use globus_auth_core::sidecar_config::{Access, PathMatch, PublicRoute};
use globus_auth_core::url::ExternalUrl;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use url::Url;

use crate::redirect::ReturnTo;
use crate::rules::Rules;
use crate::{bearer, cookie, headers};

fn external() -> ExternalUrl {
    "https://app.test".parse().unwrap()
}

/// Pieces of which addresses that lead away are made.
fn address() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "(/|//|\\\\|%2f|%5c|%2F%2F|\u{ff0f}|\u{2044})",
        "(https:|http:|HTTPS:|javascript:|data:|:)",
        "(app\\.test|evil\\.test|APP\\.test|evil\\.app\\.test|app\\.test\\.evil)",
        "(@|#|\\?|;|&|:443|:80|\\.|\\.\\.|%2e|x|user:pass@)",
        "[\t\n\r \u{b}\u{c}\u{0}\u{a0}\u{200b}\u{2028}\u{feff}]",
        ".",
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

/// Pieces of which paths are made that servers read differently.
fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "/(public|private|x|a|\\.|\\.\\.|\\.\\.\\.)?",
        1 => "(%2e|%2E|%2f|%5c|%252e|%252f|%00|%3b|%23|%3f|;|;x|\\\\|\\.|~|@|%)",
        1 => "[!-~]",
    ];
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn rules() -> Rules {
    Rules::new(&Access {
        public: vec![PublicRoute {
            path: "/public".to_owned(),
            path_match: PathMatch::Prefix,
            methods: vec!["GET".to_owned()],
        }],
        ..Access::default()
    })
}

/// What a server may make of a path that decodes, resolves dots, merges slashes, and drops parameters.
fn read_leniently(path: &str) -> String {
    let once = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
    let plain = twice.replace('\\', "/");
    let plain = plain.split(['?', '#']).next().unwrap_or_default();
    let mut segments: Vec<&str> = Vec::new();
    for segment in plain.split('/') {
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[xX][-_](forwarded|Forwarded|FORWARDED)[-_][a-zA-Z_-]{1,8}",
        "[xX][-_](auth|Auth)[-_](request|REQUEST)[-_][a-zA-Z_-]{1,8}",
        "(remote|Remote|REMOTE)[-_](user|USER|email|groups)",
        "[xX][-_](real|REAL)[-_](ip|IP)",
        "(forwarded|Forwarded|x-original-url|X_Original_URL|x-email|X_USER)",
        "[a-z][a-z_-]{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_address_leads_away(text in address()) {
        let location = ReturnTo::parse(&text, &external()).location(&external());
        prop_assert!(HeaderValue::from_str(&location).is_ok(), "{location:?} is no header");
        let base = Url::parse("https://app.test/oauth2/callback").unwrap();
        let led = base.join(&location).unwrap();
        prop_assert_eq!(led.origin(), base.origin());
        prop_assert!(led.username().is_empty() && led.password().is_none());
        prop_assert!(!led.path().starts_with("/oauth2/"), "{location:?} is one of ours");
        // What was kept once is kept again.
        let again = ReturnTo::parse(&location, &external()).location(&external());
        prop_assert_eq!(again, location);
    }

    #[test]
    fn no_request_leads_away(text in path()) {
        if let Ok(uri) = text.parse::<Uri>() {
            let location = ReturnTo::from_request(&uri, &external()).location(&external());
            let base = Url::parse("https://app.test/oauth2/callback").unwrap();
            prop_assert_eq!(base.join(&location).unwrap().origin(), base.origin());
        }
    }

    #[test]
    fn a_public_path_is_public_in_every_reading(path in path()) {
        if rules().is_public(&Method::GET, &path) {
            let read = read_leniently(&path);
            let is_below = read == "/public" || read.starts_with("/public/");
            prop_assert!(is_below, "{path:?} may be read as {read:?}");
        }
        prop_assert!(!rules().is_public(&Method::POST, &path));
    }

    #[test]
    fn of_the_cookies_ours_go_and_no_others(
        cookies in proptest::collection::vec("( ?(__Host-globus-auth|__Host-globus-auth-login-x|a|b|__host-globus-auth)=?[!-:<-~]{0,8};?){0,5}", 1..3),
    ) {
        let mut headers = HeaderMap::new();
        for value in &cookies {
            headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
        }
        let is_ours = |name: &[u8]| name.starts_with(b"__Host-globus-auth");
        let all = |headers: &HeaderMap| -> Vec<(Vec<u8>, Vec<u8>)> {
            cookie::all(headers).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
        };
        let mut expected = all(&headers);
        expected.retain(|(name, _)| !is_ours(name));
        cookie::strip_ours(&mut headers);
        prop_assert_eq!(all(&headers), expected);
    }

    #[test]
    fn no_claim_of_a_client_is_left(names in proptest::collection::vec(names(), 0..12)) {
        let mut map = HeaderMap::new();
        for name in &names {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
        }
        headers::remove_claims_of_clients(&mut map);
        for name in map.keys() {
            let normal = name.as_str().replace('_', "-");
            let claims = ["x-forwarded-", "x-auth-request-", "x-remote-", "remote-user", "remote-email", "remote-groups", "x-real-ip", "x-original-url"];
            prop_assert!(normal != "forwarded" && normal != "x-email" && normal != "x-user");
            prop_assert!(!claims.iter().any(|claim| normal.starts_with(claim)), "{normal} is left");
        }
    }

    #[test]
    fn what_belongs_to_a_hop_goes_with_it(
        listed in "[a-zA-Z, _-]{0,30}",
        te in "(trailers|gzip|Trailers;q=1|, ){0,3}",
        authorization in "(Bearer|bearer|Basic|BEARER)?[ \t]{0,2}[!-~]{0,20}[ ]?[!-~]{0,5}",
    ) {
        let mut map = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        map.insert(CONNECTION, value(&listed));
        map.insert(TE, value(&te));
        map.insert(AUTHORIZATION, value(&authorization));
        if let Some(token) = bearer::token(&map) {
            prop_assert!(authorization.to_ascii_lowercase().starts_with("bearer "));
            prop_assert!(authorization.contains(token));
        }
        headers::remove_hop_by_hop(&mut map);
        prop_assert!(!map.contains_key(CONNECTION));
        prop_assert!(map.get(TE).is_none_or(|te| te == "trailers"));
        for name in listed.split(',').map(str::trim).filter(|name| !name.eq_ignore_ascii_case("te")) {
            prop_assert!(!map.contains_key(name.to_ascii_lowercase().as_str()), "{name} is left");
        }
    }
}
