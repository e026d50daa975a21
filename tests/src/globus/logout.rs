//! `GET /v2/web/logout`: ends the session at the emulator, and no token.

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use url::Url;

use super::Realm;
use super::authorize::{COOKIE_NAME, session_cookie};
use super::config::Client;
use super::form::Query;
use super::pages;

/// Takes `client_id` (or `client`), `redirect_uri` and `redirect_name`, and links to the URI; it does
/// not redirect.
pub(crate) async fn logout(
    State(realm): State<Realm>,
    headers: HeaderMap,
    query: Query,
) -> Response {
    if let Some(cookie) = session_cookie(&headers) {
        realm.store().forget_browser(&cookie);
    }
    let uri = query.get("redirect_uri").filter(|uri| is_web(uri));
    let client_id = query.get("client_id").or_else(|| query.get("client"));
    let client = client_id.and_then(|client_id| realm.catalog().client(client_id));
    let name = query
        .get("redirect_name")
        .or_else(|| client.map(Client::display_name));
    let mut response = pages::logged_out(uri, name.unwrap_or("the application"));
    let expired = format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&expired) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Keeps `javascript:` and the like out of the link.
fn is_web(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}
