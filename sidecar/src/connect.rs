//! Services of issuers at which users do not log in: each is connected from `/oauth2/connections`, by a browser that goes
//! to the issuer and comes back here, or by a code that the user enters there.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use globus_auth_core::oauth::callback::{AuthorizationError, AuthorizationResponse};
use globus_auth_core::session::Session;
use globus_auth_core::vault_api::ConnectAnswer;
use http::request::Parts;
use http::{Response, StatusCode};
use url::Url;

use crate::app::App;
use crate::connections::{session, unavailable};
use crate::live::Live;
use crate::login::redirect;
use crate::pages::{Format, Page};
use crate::vault::{Vault, VaultError};
use crate::{CONNECTIONS_PATH, answers};

/// Begins to connect the token called `name`: the page that leads on, or none, if the user enters a code, which is
/// among the connections then.
pub(crate) async fn begin(
    live: &Live,
    vault: &Vault,
    session: &Session,
    name: &str,
) -> Option<Page> {
    let mut tokens = vault.deliveries_for_users();
    let token = tokens.find(|token| token.name == *name);
    let Some((token, issuer)) = token.and_then(|token| Some((token, token.issuer.as_ref()?)))
    else {
        return Some(answers::no_such_page());
    };
    let redirect_uri = live.external.join(&format!("{CALLBACK}{issuer}"));
    let user = &session.identity.subject;
    match vault.connect(session.id, token, redirect_uri).await {
        Ok(ConnectAnswer::EnterCode) => {
            tracing::info!(%user, issuer, "a user connects a service by a code");
            None
        }
        Ok(ConnectAnswer::Go { address }) => match page_of(&address) {
            Some(host) => {
                tracing::info!(%user, issuer, "a user connects a service");
                Some(answers::connect(live, &token.name, &host, address))
            }
            None => Some(unavailable(&VaultError::Answer)),
        },
        Err(error) => Some(unavailable(&error)),
    }
}

/// `GET /oauth2/connections/callback/ISSUER`: where that issuer sends the browser back to. Each has an address of its
/// own, so that none can pass for another (RFC 9700 §4.4.2).
pub(crate) async fn come_back(
    State(app): State<Arc<App>>,
    Path(issuer): Path<String>,
    request: Parts,
) -> Response<Body> {
    let live = app.live();
    let format = Format::of(&request.headers);
    let host = live.external.authority();
    let Some(vault) = &live.vault else {
        return answers::no_such_page().respond(format, host);
    };
    let Some(session) = session(&app, &live, &request) else {
        return redirect(&answers::start_address(CONNECTIONS_PATH));
    };
    let (state, code, response_issuer) =
        match AuthorizationResponse::parse(request.uri.query().unwrap_or_default()) {
            Ok(AuthorizationResponse::Code {
                state,
                code,
                issuer,
            }) => (state, code, issuer),
            Ok(AuthorizationResponse::Error { error, .. }) => {
                return answers::not_connected(error.as_str()).respond(format, host);
            }
            Err(reason) => {
                tracing::debug!(%reason, "refused a callback");
                let error = AuthorizationError::Other.as_str();
                return answers::not_connected(error).respond(format, host);
            }
        };
    let brought = (state, code);
    match vault
        .connected(session.id, issuer, brought, response_issuer)
        .await
    {
        Ok(()) => redirect(CONNECTIONS_PATH),
        Err(VaultError::Refused(StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST)) => {
            answers::not_connected("invalid_state").respond(format, host)
        }
        Err(error) => unavailable(&error).respond(format, host),
    }
}

/// Whose page an address is, to be shown before anybody goes there. A browser goes to no other kind of address.
fn page_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let is_plain = matches!(url.scheme(), "https" | "http")
        && url.username().is_empty()
        && url.password().is_none();
    is_plain.then(|| url.authority().to_owned())
}

/// Before the name of the issuer.
const CALLBACK: &str = "/oauth2/connections/callback/";
/// Where issuers send browsers back to.
pub(crate) const CALLBACK_ROUTE: &str = "/oauth2/connections/callback/{issuer}";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://as.test:8443/authorize?x=1", Some("as.test:8443"))]
    #[case("http://localhost:4000/authorize", Some("localhost:4000"))]
    #[case("javascript:alert(1)", None)]
    #[case("file:///etc/passwd", None)]
    #[case("https://as.test@evil.test/", None)]
    #[case("/authorize", None)]
    fn a_browser_is_sent_to_pages_that_can_be_named(
        #[case] address: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(page_of(address).as_deref(), expected);
    }
}
