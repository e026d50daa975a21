//! The questions in their order, and both columns of answers.

use std::rc::Rc;

use super::{Ask, Observed, Skipped, Subject, TokenKind, endpoints, entry, forwarding, login};

/// One row.
#[derive(Debug)]
pub struct Check {
    /// Its number, with a letter where one number asks several things.
    pub name: &'static str,
    /// What is asked.
    pub request: &'static str,
    /// What our sidecar answers.
    pub ours: &'static str,
    /// What an oauth2-proxy answers.
    pub theirs: &'static str,
    /// How to ask.
    pub ask: Ask,
}

/// A row. The last part is how to ask, with `it` as the subject.
macro_rules! check {
    ($name:literal, $request:literal, both: $both:literal, |$it:ident| $ask:expr) => {
        check!($name, $request, ours: $both, theirs: $both, |$it| $ask)
    };
    ($name:literal, $request:literal, ours: $ours:literal, theirs: $theirs:literal, |$it:ident| $ask:expr) => {
        Check {
            name: $name,
            request: $request,
            ours: $ours,
            theirs: $theirs,
            ask: |$it: Rc<Subject>| Box::pin($ask),
        }
    };
}

/// What is not built yet cannot be asked.
fn not_yet(_subject: Rc<Subject>) -> std::future::Ready<Observed> {
    std::future::ready(Err(Skipped(
        "no provider tokens are kept, so none is renewed",
    )))
}

/// Every check.
pub const CHECKS: &[Check] = &[
    check!("1", "GET /ping", both: "200 OK, 0 cookies", |it| endpoints::health(it, "/ping")),
    check!("2", "GET /ready", both: "200 OK, 0 cookies", |it| endpoints::health(it, "/ready")),
    check!("3", "GET /robots.txt", both: "200, disallows all", |it| endpoints::robots(it)),
    check!("4", "a person without session at /",
        ours: "302 to the provider",
        theirs: "403 page, with a way to log in",
        |it| entry::browser_without_session(it)),
    check!("5", "/oauth2/start",
        both: "302 to the provider, 1 of 1 cookies with HttpOnly, Secure, Max-Age=900",
        |it| login::start(it)),
    check!("6", "GET /api with Accept: application/json, no session", both: "401 JSON",
        |it| entry::without_session(it, "/api", &[("accept", "application/json")])),
    check!("7", "Accept: text/html, application/json;q=0.9, no session", both: "as a person",
        |it| entry::person_who_accepts_json(it)),
    check!("8", "GET /api/x by curl, no session", ours: "401 JSON", theirs: "403 page",
        |it| entry::without_session(it, "/api/x", &[("accept", "*/*")])),
    check!("9", "GET /api/x by a script of a page, no session", ours: "401 JSON", theirs: "403 page",
        |it| entry::without_session(it, "/api/x", &[("sec-fetch-mode", "cors"), ("accept", "*/*")])),
    check!("10", "/oauth2/auth, no session", both: "401 Unauthorized, no redirect",
        |it| endpoints::auth_without_session(it)),
    check!("11", "/oauth2/auth with a session", both: "202, empty, e-mail and user, no Cache-Control",
        |it| endpoints::auth_with_session(it)),
    check!("12", "/oauth2/auth?allowed_emails= somebody else; the user", both: "403, 202",
        |it| endpoints::auth_among(it, &["allowed_emails=bob@example.org", "allowed_emails=bob@example.org,alice@example.org"])),
    check!("13", "/oauth2/auth?allowed_groups= without groups", both: "403",
        |it| endpoints::auth_among(it, &["allowed_groups=g1,g2"])),
    check!("14", "taken off the list: /oauth2/auth and /",
        ours: "401 and 403 at once, session cookie cleared and session cookie cleared",
        theirs: "401 and 403 at once, session cookie cleared and session cookie cleared",
        |it| entry::allowlist_both_ways(it)),
    check!("15", "put on the list again", both: "403, then a login works",
        |it| entry::allowlist_regained(it)),
    check!("16", "the source of the list breaks",
        ours: "200 for who was listed, 403 for who was not",
        theirs: "200 for who was listed, 403 for who was not",
        |it| entry::allowlist_broken(it)),
    check!("17", "an entry in capitals", both: "a login works", |it| entry::allowlist_in_capitals(it)),
    check!("18", "rd=/deep?x=1", both: "to /deep?x=1", |it| login::return_to(it, "/deep?x=1")),
    check!("19", "rd=https://evil.test", both: "to /", |it| login::return_to(it, "https://evil.test")),
    check!("20", "rd of every hostile kind", both: "none leaves", |it| login::hostile_return_to(it)),
    check!("21", "rd=https://sub.example.com/", both: "to /",
        |it| login::return_to(it, "https://sub.example.com/")),
    check!("22", "rd=/x?next=http://y/z", ours: "to /x?next=http://y/z", theirs: "to /",
        |it| login::return_to(it, "/x?next=http://y/z")),
    check!("23", "a callback without state", ours: "400", theirs: "500",
        |it| login::callback_without_state(it)),
    check!("24", "a callback without the cookie of an attempt",
        ours: "403; with a session 302 to /",
        theirs: "403; with a session 403",
        |it| login::callback_without_attempt(it)),
    check!("25", "a callback with error=access_denied and a script", both: "403, no script",
        |it| login::callback_with_error(it)),
    check!("26", "a callback, twice", ours: "302, session cookie set, attempt forgotten, again 403",
        theirs: "302, session cookie set, attempt forgotten, again 500",
        |it| login::callback(it)),
    check!("27", "two tabs", ours: "in, in", theirs: "refused, in", |it| login::two_tabs(it)),
    check!("28", "a login of somebody who is not listed", both: "403 page, no session cookie",
        |it| entry::not_listed(it)),
    check!("29", "forged identities with a session",
        ours: "one e-mail, the user's, 0 forged",
        theirs: "[], 1 forged",
        |it| forwarding::identity_headers(it)),
    check!("30", "cookies at the workload", ours: "others only, unchanged", theirs: "with the session",
        |it| forwarding::upstream_cookies(it)),
    check!("31", "one byte of the cookie changed", both: "401, session cookie cleared",
        |it| entry::tampered_cookie(it)),
    check!("32", "how large a session is", ours: "1 cookie, small", theirs: "1 cookie, large",
        |it| login::cookie_size(it)),
    check!("33", "/oauth2/sign_out?rd=/bye, and a copy of the cookie",
        ours: "302 to /bye, session cookie cleared, a copy is dead",
        theirs: "302 to /bye, session cookie cleared, a copy lives",
        |it| endpoints::sign_out(it)),
    check!("34", "/oauth2/userinfo", both: "200 application/json e-mail and user; 401",
        |it| endpoints::userinfo(it)),
    check!("35", "paths and fields that look like a public path, no session",
        ours: "401, 401, 401, 401, 401, 401",
        theirs: "403, 403, 301, 403, 403, 401",
        |it| entry::paths_that_look_public(it)),
    check!("36", "OPTIONS /x, no session", ours: "401", theirs: "403", |it| entry::preflight(it)),
    check!("37a", "an opaque bearer token", ours: "200", theirs: "403",
        |it| entry::bearer(it, TokenKind::Opaque, "Bearer")),
    check!("37b", "the same, as `bearer`", ours: "200", theirs: "403",
        |it| entry::bearer(it, TokenKind::Opaque, "bearer")),
    check!("37c", "one that has expired", ours: "401, WWW-Authenticate", theirs: "403",
        |it| entry::bearer(it, TokenKind::Expired, "Bearer")),
    check!("37d", "one for another service", ours: "401, WWW-Authenticate", theirs: "403",
        |it| entry::bearer(it, TokenKind::Foreign, "Bearer")),
    check!("38", "20 requests when the session is due for renewal at the provider",
        ours: "1 renewal", theirs: "up to 20 renewals",
        |it| not_yet(it)),
    check!("39", "a WebSocket with a session; without", ours: "101 and an echo; 401", theirs: "101 and an echo; 403",
        |it| forwarding::websocket(it)),
    check!("40a", "the workload is down, and comes back", both: "502, then 200",
        |it| forwarding::upstream_down(it)),
    check!("40b", "an upload of 200 MB", both: "whole", |it| forwarding::large_upload(it)),
    check!("40c", "server-sent events", both: "as they come", |it| forwarding::server_sent_events(it)),
    check!("40d", "GET /a//b", ours: "reaches the workload as /a//b", theirs: "301 to /a/b",
        |it| forwarding::path(it, "/a//b")),
    check!("40e", "GET /a%2Fb?x=%2F", both: "reaches the workload as /a%2Fb?x=%2F",
        |it| forwarding::path(it, "/a%2Fb?x=%2F")),
];
