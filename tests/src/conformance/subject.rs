//! What is asked, and what can be ordered around it.

use std::fmt;
use std::net::SocketAddr;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Mutex;

use crate::harness::secrets::Secrets;
use crate::harness::{Browser, Page};

/// A running proxy.
pub struct Subject {
    url: String,
    address: SocketAddr,
    /// The name of its session cookie.
    pub cookie: String,
    /// Somebody who may enter.
    pub allowed: String,
    /// Somebody who may not.
    pub refused: String,
    controls: Mutex<Box<dyn Controls>>,
    secrets: Secrets,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("url", &self.url)
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}

/// Something to be done to the proxy or around it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Make the allowlist these entries, as they are written.
    Allow(Vec<String>),
    /// Make the source of the allowlist something that is none.
    BreakAllowlist,
    /// Mint a token of [`Subject::allowed`]; the answer is the token.
    Token(TokenKind),
    /// Take the workload away.
    StopUpstream,
    /// Bring it back.
    StartUpstream,
}

/// A token, as programs send one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// Opaque, issued to the proxy's client.
    Opaque,
    /// As [`TokenKind::Opaque`], but it has expired.
    Expired,
    /// Opaque, issued to somebody else's service.
    Foreign,
}

/// A question that was not asked, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Skipped(pub &'static str);

/// Carries orders out.
pub trait Controls {
    /// Does it, and waits until it is done. An order without an answer answers with nothing.
    ///
    /// # Errors
    /// If this order cannot be carried out here.
    fn carry_out(&mut self, order: Order) -> LocalBoxFuture<'_, Result<String, Skipped>>;
}

impl Subject {
    /// The proxy that users know as `url`, which is at `address`.
    pub fn new(
        url: &str,
        address: SocketAddr,
        cookie: &str,
        [allowed, refused]: [&str; 2],
        controls: Box<dyn Controls>,
        secrets: Secrets,
    ) -> Self {
        Self {
            url: url.to_owned(),
            address,
            cookie: cookie.to_owned(),
            allowed: allowed.to_owned(),
            refused: refused.to_owned(),
            controls: Mutex::new(controls),
            secrets,
        }
    }

    /// A browser that nobody has used.
    pub(super) fn browser(&self) -> Browser {
        Browser::new(&self.url, self.address, self.secrets.clone())
    }

    /// A browser in which the allowed user has logged in.
    pub(super) async fn logged_in(&self) -> Browser {
        let browser = self.browser();
        let page = browser.log_in("/oauth2/start?rd=/", &self.allowed).await;
        assert_eq!(page.status, 200, "the login ended with {page:?}");
        browser
    }

    /// What a program without credentials gets at `path`.
    pub(super) async fn as_program(&self, path: &str) -> Page {
        self.browser().get(path).send().await
    }

    pub(super) async fn order(&self, order: Order) -> Result<String, Skipped> {
        self.controls.lock().await.carry_out(order).await
    }

    pub(super) async fn allow(&self, entries: &[&str]) -> Result<(), Skipped> {
        let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        self.order(Order::Allow(entries)).await.map(drop)
    }

    /// The host and port that users type.
    pub(super) fn authority(&self) -> String {
        self.browser().home().authority().to_owned()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the cookie of a session is set, forgotten, or left alone by this answer. A large session
    /// may be spread over cookies whose names end with numbers.
    pub(super) fn session_after(&self, page: &Page) -> &'static str {
        let mut after = "no session cookie";
        for field in page.set_cookies() {
            let pair = field.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let suffix = name.strip_prefix(&self.cookie);
            let is_session = suffix.is_some_and(|suffix| {
                suffix
                    .trim_start_matches('_')
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
            });
            if is_session {
                let is_set = !value.is_empty() && !field.contains("Max-Age=0");
                after = if is_set {
                    "session cookie set"
                } else {
                    "session cookie cleared"
                };
            }
        }
        after
    }

    /// In words, where a redirect leads.
    pub(super) fn leads(&self, page: &Page) -> String {
        if !page.status.is_redirection() {
            return "nowhere".to_owned();
        }
        let target = page.target();
        let home = self.browser().home().origin();
        if target.origin() != home {
            return "to the provider".to_owned();
        }
        let query = target.query().map(|query| format!("?{query}"));
        format!("to {}{}", target.path(), query.unwrap_or_default())
    }
}
