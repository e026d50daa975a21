//! Whose request this is: by session cookie, else by bearer token.

use globus_auth_core::clock::UnixSeconds;
use globus_auth_core::session::Session;
use http::header::{HeaderMap, HeaderValue};

use crate::bearer;
use crate::cookie;
use crate::decide::Credentials;
use crate::ended::EndedSessions;
use crate::live::Live;

/// What was found.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) credentials: Credentials,
    /// A session cookie with a newer time, to be set with the answer.
    pub(crate) renewal: Option<HeaderValue>,
    /// Whether there was a session cookie that counts.
    pub(crate) has_session: bool,
    /// Whether there was one that does not.
    pub(crate) is_cookie_useless: bool,
}

/// Reads the credentials of a request.
///
/// A session that counts wins over an `Authorization` header, which is then the workload's: its pages
/// may use tokens of its own. Without one, a bearer token is ours to judge.
pub(crate) async fn authenticate(
    headers: &HeaderMap,
    live: &Live,
    ended: &EndedSessions,
    now: UnixSeconds,
) -> Authenticated {
    if let Some(session) = session(headers, live, ended, now) {
        let renewal = session
            .renewed(live.limits, now)
            .and_then(|renewed| session_cookie(&renewed, live, now));
        return Authenticated {
            renewal,
            has_session: true,
            is_cookie_useless: false,
            credentials: Credentials::Session(session),
        };
    }
    let credentials = match bearer::token(headers) {
        // Boxed: most requests have a session.
        Some(token) => Box::pin(live.bearer.verify(token, &live.rules)).await,
        None => Credentials::Absent,
    };
    Authenticated {
        credentials,
        renewal: None,
        has_session: false,
        is_cookie_useless: cookie::find(headers, cookie::SESSION).is_some(),
    }
}

/// The session of a request, if it counts.
pub(crate) fn session(
    headers: &HeaderMap,
    live: &Live,
    ended: &EndedSessions,
    now: UnixSeconds,
) -> Option<Session> {
    let cookie = cookie::find(headers, cookie::SESSION)?;
    match Session::open(&live.sessions, cookie, live.limits, now) {
        Ok(session) if !ended.contains(&session) => Some(session),
        Ok(_) => None,
        Err(reason) => {
            tracing::debug!(%reason, "ignored a session cookie");
            None
        }
    }
}

/// The header that gives `session` to the browser, until its absolute limit.
pub(crate) fn session_cookie(
    session: &Session,
    live: &Live,
    now: UnixSeconds,
) -> Option<HeaderValue> {
    let max_age = session.ends_at(live.limits).since(now);
    let value = session.seal(&live.sessions).ok()?;
    cookie::set(cookie::SESSION, &value, max_age).ok()
}
