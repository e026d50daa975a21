//! Our cookies among those of the workload.

use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use memchr::{memchr, memmem};

/// Everything that starts with this is ours and never reaches the workload.
///
/// `__Host-` makes browsers refuse the cookie unless it is `Secure`, has `Path=/` and no `Domain`, so
/// no other host, not even a subdomain, can set it (RFC 6265bis §4.1.3.2).
const OURS: &[u8] = b"__Host-globus-auth";
/// The session.
pub(crate) const SESSION: &str = "__Host-globus-auth";
/// One login attempt each; the start of the state follows.
pub(crate) const LOGIN_PREFIX: &str = "__Host-globus-auth-login-";

/// The cookies of a request, in order, as bytes (RFC 6265 §4.2.1).
pub(crate) fn all(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| pairs(value.as_bytes()))
        .filter_map(|pair| {
            let separator = memchr(b'=', pair)?;
            let (name, value) = pair.split_at_checked(separator)?;
            Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
        })
}

/// A header value, cut at each semicolon.
fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let all = rest?;
        let cut = memchr(b';', all).and_then(|at| all.split_at_checked(at));
        let (pair, after) = cut.map_or((all, None), |(pair, after)| (pair, after.get(1..)));
        rest = after;
        Some(pair)
    })
}

/// The first cookie called `name`.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    all(headers)
        .find(|(found, _)| *found == name.as_bytes())
        .map(|(_, value)| value)
}

/// Removes our cookies and leaves the bytes of all others as they are: a cookie with JSON in it must
/// arrive as it was sent.
pub(crate) fn strip_ours(headers: &mut HeaderMap) {
    // Wherever it stands: what is ours is told apart below.
    let has_ours = |value: &HeaderValue| memmem::find(value.as_bytes(), OURS).is_some();
    if !headers.get_all(COOKIE).iter().any(has_ours) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| without_ours(value.as_bytes()))
        .collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

fn without_ours(value: &[u8]) -> Option<HeaderValue> {
    let is_foreign = |pair: &&[u8]| !pair.trim_ascii_start().starts_with(OURS);
    let kept: Vec<&[u8]> = pairs(value).filter(is_foreign).collect();
    let joined = kept.join(&b';');
    let joined = joined.trim_ascii_start();
    if joined.is_empty() {
        None
    } else {
        HeaderValue::from_bytes(joined).ok()
    }
}

/// Removes `Set-Cookie` headers of the workload that touch our cookies.
pub(crate) fn strip_ours_from_response(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| value.as_bytes().trim_ascii_start().starts_with(OURS);
    if !headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| !is_ours(value))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

/// A `Set-Cookie` header. `Lax`, because the provider's redirect back to us is a navigation from
/// another site.
///
/// # Errors
/// A value that is no header value; sealed values always are.
pub(crate) fn set(
    name: &str,
    value: &str,
    max_age: Duration,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut header = HeaderValue::try_from(format!(
        "{name}={value}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax",
        max_age.as_secs()
    ))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A `Set-Cookie` header that makes the browser forget `name`.
pub(crate) fn clear(name: &str) -> Option<(HeaderName, HeaderValue)> {
    set(name, "", Duration::ZERO)
        .ok()
        .map(|value| (SET_COOKIE, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies
            .iter()
            .map(|value| (COOKIE, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[rstest]
    #[case("__Host-globus-auth=v", Some("v"))]
    #[case("a=b; __Host-globus-auth=v; c=d", Some("v"))]
    #[case("a=b;__Host-globus-auth=v", Some("v"))]
    #[case("__Host-globus-auth=first; __Host-globus-auth=second", Some("first"))]
    #[case("__Host-globus-auth-login-x=v", None)]
    #[case("x__Host-globus-auth=v", None)]
    #[case("__host-globus-auth=v", None)]
    #[case("__Host-globus-auth", None)]
    #[case("", None)]
    fn the_session_is_found_by_its_exact_name(#[case] cookie: &str, #[case] value: Option<&str>) {
        let headers = headers(&[cookie]);
        assert_eq!(find(&headers, SESSION), value.map(str::as_bytes));
    }

    #[rstest]
    #[case(&["a=b"], &["a=b"])]
    #[case(&["a=b; __Host-globus-auth=v; c={\"x\": [1, 2]}"], &["a=b; c={\"x\": [1, 2]}"])]
    #[case(&["__Host-globus-auth=v; a=b"], &["a=b"])]
    #[case(&["__Host-globus-auth=v"], &[])]
    #[case(&["a=1;__Host-globus-auth-login-abc=v;  b=2"], &["a=1;  b=2"])]
    #[case(&["a=1", "__Host-globus-auth=v", "b=2"], &["a=1", "b=2"])]
    #[case(&["a=\"1;2\"; b==; =c; d"], &["a=\"1;2\"; b==; =c; d"])]
    fn ours_are_cut_out_and_others_stay_byte_for_byte(
        #[case] before: &[&str],
        #[case] after: &[&str],
    ) {
        let mut headers = headers(before);
        strip_ours(&mut headers);
        let kept: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(
            kept,
            after.iter().map(|text| text.as_bytes()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_workload_cannot_set_ours() {
        let mut headers: HeaderMap = [
            "a=b; Path=/",
            "__Host-globus-auth=planted; Path=/; Secure",
            "c=d",
        ]
        .into_iter()
        .map(|value| (SET_COOKIE, HeaderValue::from_static(value)))
        .collect();
        strip_ours_from_response(&mut headers);
        let kept: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(kept, ["a=b; Path=/", "c=d"]);
    }

    #[test]
    fn a_cookie_has_every_attribute_that_the_prefix_demands() {
        let header = set(SESSION, "v", Duration::from_mins(1)).unwrap();
        assert_eq!(
            header,
            "__Host-globus-auth=v; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
    }

    proptest! {
        #[test]
        fn nothing_of_ours_ever_survives(value in "[ -~]{0,80}") {
            let mixed = format!("{value};__Host-globus-auth=secret;{value}");
            let mut headers = headers(&[&mixed]);
            strip_ours(&mut headers);
            for value in headers.get_all(COOKIE) {
                prop_assert!(!value.as_bytes().windows(7).any(|part| part == b"=secret"));
            }
        }
    }
}
