//! What people and programs read when a request is not forwarded: a plain page or a line of JSON.

use std::borrow::Cow;
use std::sync::LazyLock;

use askama::Template;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::intent::wants_page;

/// A page in plain words. It works without script, with a keyboard and with a screen reader.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    /// The `error` of the JSON form: stable, for programs.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    /// Sentences. The first is the `message` of the JSON form.
    pub(crate) paragraphs: Vec<String>,
    /// Services that a user has connected, or could.
    pub(crate) services: Vec<Service>,
    pub(crate) actions: Vec<Action>,
    /// Found again in the log.
    pub(crate) reference: Option<String>,
    /// Further members of the JSON form.
    pub(crate) members: Map<String, Value>,
}

/// Who reads the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// A person.
    Html,
    /// A program.
    Json,
}

impl Format {
    /// What the sender of a request with these headers can read.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if wants_page(headers) {
            Self::Html
        } else {
            Self::Json
        }
    }
}

/// A service that a workload may use as a user.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) resource_server: String,
    /// How the connection is, in words.
    pub(crate) state: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) is_connected: bool,
    pub(crate) delegations: Vec<Delegation>,
    /// As whom, if it is not who is signed in here.
    pub(crate) account: Option<String>,
    /// What the button is called that connects it, if there is one.
    pub(crate) connect: Option<&'static str>,
    pub(crate) code: Option<Code>,
}

/// A code that the user enters elsewhere.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) text: String,
    /// The page where, as a person would type it.
    pub(crate) page: String,
    /// The page where, with the code in it if the issuer has that.
    pub(crate) address: String,
}

/// A ServiceAccount that acts for a user who is away, or could.
#[derive(Debug)]
pub(crate) struct Delegation {
    pub(crate) service_account: String,
    /// How it is, or what would be, in words.
    pub(crate) state: String,
    pub(crate) is_given: bool,
}

/// What a reader can do next.
#[derive(Debug)]
pub(crate) enum Action {
    /// Go somewhere.
    Link {
        label: Cow<'static, str>,
        href: String,
    },
    /// Go somewhere, which is not what the page is about.
    Aside { label: &'static str, href: String },
    /// Do something.
    Post { label: &'static str, href: String },
    /// Say yes or no to the services of the page, exactly as they are shown.
    Consent { return_to: String },
}

#[derive(Template)]
#[template(path = "page.html")]
struct Html<'a> {
    host: &'a str,
    page: &'a Page,
    style: &'static str,
}

impl Page {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self {
            status,
            code,
            title,
            paragraphs: vec![],
            services: vec![],
            actions: vec![],
            reference: None,
            members: Map::new(),
        }
    }

    #[must_use]
    pub(crate) fn paragraph(mut self, text: impl Into<String>) -> Self {
        self.paragraphs.push(text.into());
        self
    }

    #[must_use]
    pub(crate) fn link(
        mut self,
        label: impl Into<Cow<'static, str>>,
        href: impl Into<String>,
    ) -> Self {
        self.actions.push(Action::Link {
            label: label.into(),
            href: href.into(),
        });
        self
    }

    #[must_use]
    pub(crate) fn aside(mut self, label: &'static str, href: impl Into<String>) -> Self {
        self.actions.push(Action::Aside {
            label,
            href: href.into(),
        });
        self
    }

    #[must_use]
    pub(crate) fn post(mut self, label: &'static str, href: impl Into<String>) -> Self {
        self.actions.push(Action::Post {
            label,
            href: href.into(),
        });
        self
    }

    #[must_use]
    pub(crate) fn services(mut self, services: Vec<Service>) -> Self {
        self.services = services;
        self
    }

    #[must_use]
    pub(crate) fn members(mut self, members: Value) -> Self {
        if let Value::Object(members) = members {
            self.members = members;
        }
        self
    }

    #[must_use]
    pub(crate) fn reference(mut self, reference: String) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The answer in this format, under the name `host`.
    pub(crate) fn respond(&self, format: Format, host: &str) -> Response<Body> {
        match format {
            Format::Html => self.html(host),
            Format::Json => self.json(),
        }
    }

    fn html(&self, host: &str) -> Response<Body> {
        let html = Html {
            host,
            page: self,
            style: STYLE,
        }
        .render()
        .unwrap_or_default();
        let mut response =
            self.response(html, HeaderValue::from_static("text/html; charset=utf-8"));
        for (name, value) in [
            (
                header::CONTENT_SECURITY_POLICY,
                CONTENT_SECURITY_POLICY.clone(),
            ),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        ] {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn json(&self) -> Response<Body> {
        let message = self.paragraphs.first().map_or(self.title, String::as_str);
        let mut body = json!({"error": self.code, "message": message});
        if let Some(members) = body.as_object_mut() {
            members.extend(self.members.clone());
            if let Some(reference) = &self.reference {
                members.insert("request_id".to_owned(), json!(reference));
            }
        }
        self.response(
            format!("{body}\n"),
            HeaderValue::from_static("application/json"),
        )
    }

    fn response(&self, body: String, content_type: HeaderValue) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        protect(response.headers_mut());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// The headers of every answer that is ours: never cached, never guessed at, never a referrer.
pub(crate) fn protect(headers: &mut HeaderMap) {
    const FIXED: [(HeaderName, HeaderValue); 4] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            header::VARY,
            HeaderValue::from_static("accept, cookie, sec-fetch-mode"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    for (name, value) in FIXED {
        headers.insert(name, value);
    }
}

/// A provider that was down is asked again before this.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");
const STYLE: &str = include_str!("../templates/style.css");

/// No script, no frame, no form to another site, and no style but the one whose hash this is.
static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        STANDARD.encode(digest.as_ref())
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(response: Response<Body>) -> String {
        String::from_utf8(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap()
    }

    fn page() -> Page {
        Page::new(StatusCode::FORBIDDEN, "access_denied", "You may not enter")
            .paragraph("The account <b>mallory</b> is not on the list.")
            .link("Use another account", "/oauth2/start?rd=%2F%22x")
            .reference("abc".to_owned())
    }

    fn browser() -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/html"))])
    }

    #[tokio::test]
    async fn a_person_reads_a_page_in_which_nothing_is_markup() {
        let response = page().respond(Format::of(&browser()), "mlflow.example.org");
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let html = body(response).await;
        assert!(html.contains("The account &#60;b&#62;mallory"), "{html}");
        assert!(
            html.contains("mlflow.example.org") && html.contains("Use another account"),
            "{html}"
        );
        assert!(!html.contains("<script") && !html.contains("\"x"), "{html}");
    }

    #[tokio::test]
    async fn a_program_reads_json() {
        let response = page().respond(Format::of(&HeaderMap::new()), "mlflow.example.org");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let json: Value = serde_json::from_str(&body(response).await).unwrap();
        assert_eq!(
            json,
            json!({"error": "access_denied", "message": "The account <b>mallory</b> is not on the list.", "request_id": "abc"})
        );
    }
}
