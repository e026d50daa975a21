//! A browser without script: it keeps cookies, presses buttons, and follows a redirect when told to.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use url::Url;

use super::form::Form;
use super::jar::Jar;
use super::secrets::Secrets;
use super::wait::in_time;
use super::wire::Wire;
use crate::echo::Reflection;

/// A browser, or with [`Browser::get`] any program that keeps cookies. Clones share their cookies, as
/// tabs do.
#[derive(Clone, Debug)]
pub struct Browser {
    home: Url,
    address: SocketAddr,
    jar: Jar,
    secrets: Secrets,
}

/// A request in the making.
#[derive(Debug)]
pub struct Sending<'a> {
    browser: &'a Browser,
    method: Method,
    /// As it will be sent: nothing in it is normalised.
    address: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was asked for.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The header.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Browser {
    /// A browser that finds the site `home` at `address`, and sites on loopback where they are. It
    /// reaches nobody else.
    ///
    /// # Panics
    /// If `home` is not a URL.
    pub fn new(home: &str, address: SocketAddr, secrets: Secrets) -> Self {
        Self {
            home: home.parse().expect("a URL"),
            address,
            jar: Jar::default(),
            secrets,
        }
    }

    /// The same browser on another machine: no cookies.
    #[must_use]
    pub fn stranger(&self) -> Self {
        Self {
            jar: Jar::default(),
            ..self.clone()
        }
    }

    /// Somebody who copied all cookies just now.
    #[must_use]
    pub fn thief(&self) -> Self {
        Self {
            jar: self.jar.copy(),
            ..self.clone()
        }
    }

    /// The same cookies, at a sidecar that listens elsewhere by now.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// A request with these cookies on a connection of its own, as far as its header, to which `fields` are
    /// added. What follows is the test's.
    pub async fn begin(&self, method_and_target: &str, fields: &str) -> Wire {
        let mut wire = Wire::connect(self.address).await;
        let (host, cookies) = (self.home.authority(), self.cookie_field());
        let head = format!(
            "{method_and_target} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n{fields}\r\n"
        );
        wire.send(head.as_bytes()).await;
        wire
    }

    /// A request as a program would send it.
    pub fn get(&self, address: &str) -> Sending<'_> {
        self.request(Method::GET, address)
    }

    /// A request with a body, as a program would send it.
    pub fn post(&self, address: &str, body: impl Into<Bytes>) -> Sending<'_> {
        let mut sending = self.request(Method::POST, address);
        sending.body = body.into();
        sending
    }

    /// A request to a path of the site, or to a whole address.
    pub fn request(&self, method: Method, address: &str) -> Sending<'_> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]);
        Sending {
            browser: self,
            method,
            address: address.to_owned(),
            headers,
            body: Bytes::new(),
        }
    }

    /// What happens when a person opens an address.
    pub fn open(&self, address: &str) -> Sending<'_> {
        self.get(address).navigating()
    }

    /// Follows a redirect, once.
    ///
    /// # Panics
    /// If the page is none.
    pub async fn follow(&self, page: &Page) -> Page {
        assert!(page.status.is_redirection(), "not a redirect: {page:?}");
        self.open(page.target().as_str()).send().await
    }

    /// Presses the button whose label has this word, or is this text.
    ///
    /// # Panics
    /// If there is none.
    pub async fn press(&self, page: &Page, label: &str) -> Page {
        let forms = Form::all(&page.text());
        let pressed = forms
            .iter()
            .find_map(|form| Some((form.press(label)?, &form.action)));
        let (body, action) =
            pressed.unwrap_or_else(|| panic!("no button {label:?} on {}", page.text()));
        let address = page.url.join(action).expect("an action is an address");
        let content_type = "application/x-www-form-urlencoded";
        self.post(address.as_str(), body)
            .navigating()
            .header(CONTENT_TYPE.as_str(), content_type)
            .header("sec-fetch-site", "same-origin")
            .send()
            .await
    }

    /// Opens `path`, logs in at the provider as `username`, and returns the answer of the callback.
    ///
    /// # Panics
    /// If there is no login page on the way.
    pub async fn log_in_until_callback(&self, path: &str, username: &str) -> Page {
        let callback = self.log_in_at_provider(path, username).await;
        self.open(&callback).send().await
    }

    /// Opens `path`, logs in at the provider as `username`, and returns the address of the callback,
    /// which is not opened.
    ///
    /// # Panics
    /// If there is no login page on the way.
    pub async fn log_in_at_provider(&self, path: &str, username: &str) -> String {
        let mut page = self.open(path).send().await;
        // By way of the external name, perhaps; and a provider that knows the user shows no page.
        while !self.is_callback(&page) {
            page = if page.status.is_redirection() {
                self.follow(&page).await
            } else {
                self.press(&page, username).await
            };
        }
        page.target().into()
    }

    fn is_callback(&self, page: &Page) -> bool {
        let to_callback = |target: Url| {
            target.origin() == self.home.origin() && target.path().ends_with("/callback")
        };
        page.status.is_redirection() && to_callback(page.target())
    }

    /// Logs in as `username`, lets the workload use what it asks for, and returns the page that was asked for.
    ///
    /// # Panics
    /// If the login fails.
    pub async fn log_in(&self, path: &str, username: &str) -> Page {
        let page = self.log_in_until_callback(path, username).await;
        assert_eq!(
            page.status,
            StatusCode::FOUND,
            "refused: {page:?} {}",
            page.text()
        );
        let page = self.follow(&page).await;
        if page.url.path() != "/oauth2/consent" {
            return page;
        }
        let allowed = self.press(&page, "Allow").await;
        self.follow(&allowed).await
    }

    /// The value of a cookie of the site.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.get(&self.home, name)
    }

    /// The names of the site's cookies.
    pub fn cookie_names(&self) -> Vec<String> {
        self.jar.names(&self.home)
    }

    /// The `Cookie` field for the site.
    pub fn cookie_field(&self) -> String {
        self.jar.field(&self.home).unwrap_or_default()
    }

    /// Sets a cookie of the site by hand.
    pub fn put_cookie(&self, name: &str, value: &str) {
        self.jar.put(&self.home, name, value);
    }

    /// Forgets the site's cookies.
    pub fn clear_cookies(&self) {
        self.jar.clear(&self.home);
    }

    /// The site.
    pub fn home(&self) -> &Url {
        &self.home
    }

    /// Where the site is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What must not be in the log.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn locate(&self, url: &Url) -> SocketAddr {
        if url.origin() == self.home.origin() {
            return self.address;
        }
        let host = match url.host() {
            Some(url::Host::Ipv4(address)) if address.is_loopback() => address,
            _ => panic!("a browser was sent away, to {url}"),
        };
        SocketAddr::from((host, url.port_or_known_default().unwrap_or_default()))
    }

    /// Remembers what passes by and is secret: our cookies, and what logins are made of.
    fn note_secrets(&self, url: &Url, headers: &HeaderMap) {
        let location = headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        let location = location.and_then(|location| url.join(location).ok());
        for (name, value) in location.iter().chain([url]).flat_map(Url::query_pairs) {
            if SECRET_PARAMETERS.contains(&name.as_ref()) {
                self.secrets.add(&value);
            }
        }
        for field in headers.get_all(SET_COOKIE) {
            let pair = field
                .to_str()
                .unwrap_or_default()
                .split(';')
                .next()
                .unwrap_or_default();
            if let Some((_, value)) = pair.split_once('=') {
                self.secrets.add(value);
            }
        }
    }
}

impl Sending<'_> {
    /// Adds a header field.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        self.headers.append(name, value);
        self
    }

    /// Sets a header field that may be there already.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.remove(name);
        self.header(name, value)
    }

    /// Sends a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.browser.secrets.add(token);
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Says what a browser says that opens a page.
    #[must_use]
    pub fn navigating(self) -> Self {
        self.with("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("upgrade-insecure-requests", "1")
    }

    /// Sends the request, and reads the whole answer.
    ///
    /// # Panics
    /// If there is no whole answer in time.
    pub async fn send(self) -> Page {
        let browser = self.browser;
        let (url, response) = self.send_head().await;
        let (parts, body) = response.into_parts();
        let body = in_time("a body", body.collect())
            .await
            .expect("a whole body")
            .to_bytes();
        for field in parts.headers.get_all(SET_COOKIE) {
            browser
                .jar
                .set(&url, field.to_str().expect("a cookie is ASCII"));
        }
        browser.note_secrets(&url, &parts.headers);
        Page {
            url,
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Sends the request, and leaves the body of the answer to be read.
    ///
    /// # Panics
    /// If there is no answer in time.
    pub async fn stream(self) -> Response<Incoming> {
        self.send_head().await.1
    }

    async fn send_head(mut self) -> (Url, Response<Incoming>) {
        let browser = self.browser;
        let (url, path) = self.target();
        if let Some(cookies) = browser.jar.field(&url) {
            let cookies = HeaderValue::from_str(&cookies).expect("cookies are ASCII");
            self.headers.append(COOKIE, cookies);
        }
        if !self.headers.contains_key(HOST) {
            let host = HeaderValue::from_str(url.authority()).expect("a host");
            self.headers.insert(HOST, host);
        }
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = path
            .parse()
            .unwrap_or_else(|error| panic!("{path:?}: {error}"));
        *request.headers_mut() = self.headers;
        let response = in_time("an answer", exchange(browser.locate(&url), request)).await;
        (url, response)
    }

    /// The address as a URL, and the path as it was written.
    fn target(&self) -> (Url, String) {
        if self.address.starts_with('/') {
            let whole = format!(
                "{}{}",
                self.browser.home.origin().ascii_serialization(),
                self.address
            );
            return (whole.parse().expect("a URL"), self.address.clone());
        }
        let url: Url = self.address.parse().expect("a URL");
        let origin = url.origin().ascii_serialization();
        let path = self.address.strip_prefix(&origin).unwrap_or_default();
        let path = path
            .split('#')
            .next()
            .filter(|path| !path.is_empty())
            .unwrap_or("/");
        let path = path.to_owned();
        (url, path)
    }
}

impl Page {
    /// The first field with this name, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// `Location`, as it was sent.
    pub fn location(&self) -> &str {
        self.header("location")
    }

    /// Where `Location` leads.
    ///
    /// # Panics
    /// If it leads nowhere.
    pub fn target(&self) -> Url {
        let target = self.url.join(self.location());
        target.unwrap_or_else(|error| panic!("{:?}: {error}", self.location()))
    }

    /// A parameter of the address in `Location`.
    pub fn sent_on(&self, name: &str) -> Option<String> {
        let target = self.target();
        let pair = target.query_pairs().find(|(found, _)| found == name);
        pair.map(|(_, value)| value.into_owned())
    }

    /// Every `Set-Cookie` field.
    ///
    /// # Panics
    /// If one is not ASCII.
    pub fn set_cookies(&self) -> Vec<&str> {
        let fields = self.headers.get_all(SET_COOKIE).iter();
        fields
            .map(|field| field.to_str().expect("a cookie is ASCII"))
            .collect()
    }

    /// The `Set-Cookie` field of one cookie.
    pub fn set_cookie(&self, name: &str) -> Option<&str> {
        self.set_cookies().into_iter().find(|field| {
            field
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('='))
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none of this type.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// What the echo upstream received.
    ///
    /// # Panics
    /// If the answer is not the upstream's.
    pub fn reflection(&self) -> Reflection {
        self.json()
    }
}

/// One request on a connection of its own.
///
/// # Panics
/// If nobody listens, or no answer comes.
pub async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.set_nodelay(true).expect("a socket option");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a connection speaks HTTP");
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended with an error");
        }
    });
    sender.send_request(request).await.expect("an answer")
}

const SECRET_PARAMETERS: [&str; 4] = ["code", "code_challenge", "nonce", "state"];
