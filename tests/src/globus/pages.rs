//! The pages that people see: plain HTML without script, each labelled as a stand-in.

use askama::Template;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use url::form_urlencoded;

use super::Realm;
use super::accounts::{Account, new_id};
use super::authorize::{AuthorizationRequest, session_cookie};
use super::catalog::Catalog;
use super::failure::Reason;
use super::form::Query;
use super::scope::ScopeTree;

/// Asks who is there, and for consent.
pub(crate) fn login(
    realm: &Realm,
    request: &AuthorizationRequest,
    lacking: Option<String>,
) -> Response {
    let hint = request.login_hint.as_deref().unwrap_or_default();
    let directory = realm.directory();
    let mut people: Vec<PersonButton> = directory
        .all()
        .iter()
        .flat_map(|account| buttons(account, hint))
        .collect();
    // The hinted identity comes first, and still has to be chosen.
    people.sort_by_key(|person| !person.hinted);
    let page = LoginPage {
        client: request.client.display_name(),
        message: request.message.as_deref(),
        lacking,
        asked: asked(realm.catalog(), &request.scopes, 0),
        offline: request.offline,
        request: &request.query,
        people,
    };
    html(StatusCode::OK, &page)
}

/// Asks somebody who is logged in for consent.
pub(crate) fn consent(
    realm: &Realm,
    request: &AuthorizationRequest,
    account: &Account,
) -> Response {
    let others =
        form_urlencoded::parse(request.query.as_bytes()).filter(|(name, _)| name != "prompt");
    let switch = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair("prompt", "login")
        .finish();
    let page = ConsentPage {
        client: request.client.display_name(),
        message: request.message.as_deref(),
        username: &account.primary.username,
        asked: asked(realm.catalog(), &request.scopes, 0),
        offline: request.offline,
        request: &request.query,
        switch,
    };
    html(StatusCode::OK, &page)
}

/// The page instead of a redirect, with the words of Globus.
pub(crate) fn error(realm: &Realm, detail: &'static str) -> Response {
    let error_id = new_id();
    let page = ErrorPage {
        detail,
        error_id: &error_id,
        home: realm.browser_url(),
    };
    let mut response = html(StatusCode::BAD_REQUEST, &page);
    response.extensions_mut().insert(Reason(detail.into()));
    response
}

/// `GET /v2/web/auth-code`: shows the code of a native application for copying.
pub(crate) async fn auth_code(query: Query) -> Response {
    let code = query.get("code");
    let error = query.get("error");
    html(StatusCode::OK, &AuthCodePage { code, error })
}

/// Says that the session is over, with a way back.
pub(crate) fn logged_out(uri: Option<&str>, name: &str) -> Response {
    html(StatusCode::OK, &LoggedOutPage { uri, name })
}

/// `GET /`: says what this is, and who is logged in.
pub(crate) async fn home(State(realm): State<Realm>, headers: HeaderMap) -> Response {
    let cookie = session_cookie(&headers);
    let session = cookie.and_then(|cookie| realm.store().session(&cookie, realm.now()).cloned());
    let account = session.and_then(|session| realm.account(&session.account));
    let username = account.map(|account| account.primary.username);
    html(
        StatusCode::OK,
        &HomePage {
            username: username.as_deref(),
        },
    )
}

#[derive(Template)]
#[template(path = "globus/login.html")]
struct LoginPage<'a> {
    client: &'a str,
    message: Option<&'a str>,
    lacking: Option<String>,
    asked: Vec<AskedScope>,
    offline: bool,
    request: &'a str,
    people: Vec<PersonButton>,
}

#[derive(Template)]
#[template(path = "globus/consent.html")]
struct ConsentPage<'a> {
    client: &'a str,
    message: Option<&'a str>,
    username: &'a str,
    asked: Vec<AskedScope>,
    offline: bool,
    request: &'a str,
    switch: String,
}

#[derive(Template)]
#[template(path = "globus/error.html")]
struct ErrorPage<'a> {
    detail: &'a str,
    error_id: &'a str,
    home: &'a str,
}

#[derive(Template)]
#[template(path = "globus/auth_code.html")]
struct AuthCodePage<'a> {
    code: Option<&'a str>,
    error: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "globus/logged_out.html")]
struct LoggedOutPage<'a> {
    uri: Option<&'a str>,
    name: &'a str,
}

#[derive(Template)]
#[template(path = "globus/home.html")]
struct HomePage<'a> {
    username: Option<&'a str>,
}

/// One identity to log in as.
struct PersonButton {
    sub: String,
    username: String,
    name: String,
    organization: String,
    /// The primary identity, if this is another one.
    linked_to: Option<String>,
    hinted: bool,
}

/// One line of what is asked for.
struct AskedScope {
    scope: String,
    description: String,
    optional: bool,
    depth: usize,
}

fn buttons<'a>(account: &'a Account, hint: &'a str) -> impl Iterator<Item = PersonButton> + 'a {
    let primary = &account.primary;
    account.identities().map(move |identity| PersonButton {
        sub: identity.sub.clone(),
        username: identity.username.clone(),
        name: identity.name.clone(),
        organization: identity.organization.clone(),
        linked_to: (identity.sub != primary.sub).then(|| primary.username.clone()),
        hinted: identity.is(hint),
    })
}

fn asked(catalog: &Catalog, trees: &[ScopeTree], depth: usize) -> Vec<AskedScope> {
    let lines = trees.iter().flat_map(|tree| {
        let known = catalog.scope(&tree.scope);
        let line = AskedScope {
            scope: tree.scope.clone(),
            description: known
                .map_or(&*tree.scope, |known| known.description())
                .to_owned(),
            optional: tree.optional,
            depth,
        };
        std::iter::once(line).chain(asked(catalog, &tree.dependencies, depth + 1))
    });
    lines.collect()
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // No `form-action`: browsers apply it to the redirect after the form, which leaves this origin.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                  frame-ancestors 'none'";
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, Html(text)).into_response()
}
