//! An emulator of Globus Auth and of the part of Globus Groups that login needs.
//!
//! It behaves as Globus does where that is known, oddities included, and not as a standard would have
//! it: the discovery document lists neither PKCE nor introspection, keys have no `kid`, ID tokens are
//! RS512 and say nothing of `email_verified`, one answer carries one opaque token for each resource
//! server, `invalid_grant` is a 401, dependent tokens come as an array. `redirect_uri` mismatches end
//! on a page and never at the URI.
//!
//! | module | endpoint |
//! |---|---|
//! | `discovery` | `/.well-known/openid-configuration`, `/jwk.json` |
//! | `authorize` | `/v2/oauth2/authorize`, `/v2/web/login` |
//! | `token` | `/v2/oauth2/token` |
//! | `introspect`, `revoke`, `userinfo` | `/v2/oauth2/token/introspect`, `…/token/revoke`, `…/userinfo` |
//! | `identities`, `consents` | `/v2/api/identities`, `/v2/api/identities/{id}/consents` |
//! | `groups` | `/v2/groups/my_groups` |
//! | `logout`, `pages` | `/v2/web/logout`, `/v2/web/auth-code`, `/` |
//! | [`control`] | `/_emulator/…` |
//!
//! To log in without a browser, post `request` (the query of the authorization URL) and `identity` (a
//! user name) to `/v2/web/login`, which is what the buttons of the login page do; in a test, call
//! [`Emulator::approve`].

mod accounts;
mod authorize;
mod bearer;
mod catalog;
mod claims;
mod client_auth;
mod clock;
pub mod config;
mod consents;
pub mod control;
mod discovery;
mod failure;
pub mod faults;
mod form;
mod groups;
mod identities;
mod introspect;
mod logout;
mod observe;
mod pages;
mod random;
mod realm;
pub mod requests;
mod revoke;
mod scope;
mod session;
mod signing;
mod store;
mod token;
mod userinfo;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::middleware;
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::ServiceExt;
use url::{Url, form_urlencoded};

use crate::server::{Server, Socket};

pub use config::{Client, Config, ConfigError, User};
pub use control::{BadOrder, Issued, MintRequest, Minted, Revocation};
pub use faults::{Endpoint, Fault, FaultOrder, When};
pub use requests::{RequestLog, RequestRecord};

use realm::Realm;

/// One emulated Globus, with or without a listener. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Emulator {
    realm: Realm,
}

/// Why an emulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The configuration contradicts itself.
    #[error("failed to use the configuration")]
    Configure(#[source] ConfigError),
    /// The crypto library made no key.
    #[error("failed to generate a signing key")]
    GenerateKey,
}

impl Emulator {
    /// An emulator for [`Emulator::app`]. Without a configured issuer, it is `http://` and the address
    /// to listen on.
    ///
    /// # Errors
    /// [`StartError::Configure`] and [`StartError::GenerateKey`].
    pub fn new(config: Config) -> Result<Self, StartError> {
        config.check().map_err(StartError::Configure)?;
        let issuer = format!("http://{}", config.listen);
        let realm = Realm::new(config, &issuer).map_err(|_| StartError::GenerateKey)?;
        Ok(Self { realm })
    }

    /// An emulator that listens where the configuration says.
    ///
    /// # Errors
    /// Any [`StartError`].
    pub async fn start(config: Config) -> Result<RunningEmulator, StartError> {
        let address = config.listen;
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        let emulator = Self::new(Config { listen, ..config })?;
        let app = emulator.app();
        let server = Server::spawn(listener, move |socket| connection(socket, app.clone()));
        Ok(RunningEmulator {
            emulator,
            server: server.map_err(failed)?,
        })
    }

    /// All endpoints.
    pub fn app(&self) -> Router {
        let observed = middleware::from_fn_with_state(self.realm.clone(), observe::observe);
        routes()
            .layer(observed)
            .merge(control::routes(&self.realm))
            .with_state(self.realm.clone())
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        self.realm.issuer()
    }

    /// The requests that were received so far, those to the control API not counted.
    pub fn requests(&self) -> RequestLog {
        self.realm.requests().log()
    }

    /// Logs in as `username` at an authorization URL, allows all that is asked for, and returns where
    /// the browser is sent: the redirect URI with a code or an error. `None` when a page comes instead.
    ///
    /// The browser is a new one each time.
    pub async fn approve(&self, authorization_url: &str, username: &str) -> Option<String> {
        let url = Url::parse(authorization_url).ok()?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("request", url.query().unwrap_or_default())
            .append_pair("identity", username)
            .finish();
        let request = Request::post("/v2/web/login")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .ok()?;
        let response = match self.app().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response
            .headers()
            .get(LOCATION)?
            .to_str()
            .ok()
            .map(str::to_owned)
    }

    fn of(realm: Realm) -> Self {
        Self { realm }
    }

    fn realm(&self) -> &Realm {
        &self.realm
    }
}

/// An [`Emulator`] with a listener; it stops when it is dropped.
#[derive(Debug)]
pub struct RunningEmulator {
    emulator: Emulator,
    server: Server,
}

impl RunningEmulator {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://…` for a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Cuts every connection and frees the port.
    pub async fn stop(mut self) {
        self.server.stop().await;
    }
}

impl Deref for RunningEmulator {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.emulator
    }
}

fn routes() -> Router<Realm> {
    Router::new()
        .route("/", get(pages::home))
        .route(
            "/.well-known/openid-configuration",
            get(discovery::document),
        )
        .route("/jwk.json", get(discovery::key_set))
        .route("/v2/oauth2/authorize", get(authorize::authorize))
        .route("/v2/oauth2/token", post(token::token))
        .route("/v2/oauth2/token/introspect", post(introspect::introspect))
        .route("/v2/oauth2/token/revoke", post(revoke::revoke))
        .route("/v2/oauth2/userinfo", get(userinfo::userinfo))
        .route("/v2/api/identities", get(identities::list))
        .route("/v2/api/identities/{id}", get(identities::show))
        .route("/v2/api/identities/{id}/consents", get(consents::list))
        .route("/v2/groups/my_groups", get(groups::my_groups))
        .route("/v2/web/auth-code", get(pages::auth_code))
        .route("/v2/web/login", post(authorize::submit))
        .route("/v2/web/logout", get(logout::logout))
        .fallback(async || failure::ApiError::not_found())
        .method_not_allowed_fallback(async || failure::ApiError::method_not_allowed())
}

async fn connection(socket: Socket, app: Router) {
    let reset = socket.reset();
    let ordered = reset.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(reset.clone());
        let app = app.clone();
        app.oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    tokio::select! {
        // Dropping the connection then resets it.
        () = ordered.ordered() => {}
        ended = builder.serve_connection(TokioIo::new(socket), service) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended with an error");
            }
        }
    }
}

#[cfg(test)]
mod tests;
