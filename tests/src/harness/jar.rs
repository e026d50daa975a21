//! The cookies of a browser, with the rules that ours rely on.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

/// Cookies by host; ports do not tell hosts apart (RFC 6265 §8.5). Clones are the same jar.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(Arc<Mutex<BTreeMap<String, BTreeMap<String, Cookie>>>>);

#[derive(Clone, Debug)]
struct Cookie {
    value: String,
    secure: bool,
}

impl Jar {
    /// A jar with the same content, which then changes on its own.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// Does what a `Set-Cookie` field at `url` asks for, unless a browser would refuse it.
    pub(crate) fn set(&self, url: &Url, field: &str) {
        let mut parts = field.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let attributes: Vec<(String, &str)> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let attribute = |name: &str| {
            let found = attributes.iter().rfind(|(found, _)| found == name);
            found.map(|(_, value)| *value)
        };
        let secure = attribute("secure").is_some();
        let host_only = attribute("domain").is_none() && attribute("path") == Some("/");
        let refused = (secure && !is_trustworthy(url))
            || (name.starts_with("__Host-") && !(secure && host_only));
        if refused {
            return;
        }
        let mut hosts = self.0.lock();
        let cookies = hosts.entry(host(url)).or_default();
        if attribute("max-age").map_or_else(
            || attribute("expires").is_some_and(is_past),
            |age| age.parse::<i64>().is_ok_and(|age| age <= 0),
        ) {
            cookies.remove(name);
        } else {
            let value = value.to_owned();
            cookies.insert(name.to_owned(), Cookie { value, secure });
        }
    }

    /// The `Cookie` field for a request to `url`.
    pub(crate) fn field(&self, url: &Url) -> Option<String> {
        let hosts = self.0.lock();
        let pairs: Vec<String> = hosts
            .get(&host(url))?
            .iter()
            .filter(|(_, cookie)| !cookie.secure || is_trustworthy(url))
            .map(|(name, cookie)| format!("{name}={}", cookie.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub(crate) fn get(&self, url: &Url, name: &str) -> Option<String> {
        let hosts = self.0.lock();
        Some(hosts.get(&host(url))?.get(name)?.value.clone())
    }

    pub(crate) fn names(&self, url: &Url) -> Vec<String> {
        let hosts = self.0.lock();
        hosts
            .get(&host(url))
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Puts a cookie there as if it had been set with every right attribute.
    pub(crate) fn put(&self, url: &Url, name: &str, value: &str) {
        let (value, secure) = (value.to_owned(), true);
        let mut hosts = self.0.lock();
        let cookies = hosts.entry(host(url)).or_default();
        cookies.insert(name.to_owned(), Cookie { value, secure });
    }

    pub(crate) fn clear(&self, url: &Url) {
        self.0.lock().remove(&host(url));
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// `Expires` (RFC 6265 §5.2.1), in the form of RFC 9110 §5.6.7.
fn is_past(date: &str) -> bool {
    jiff::fmt::rfc2822::parse(date).is_ok_and(|date| date.timestamp() <= jiff::Timestamp::now())
}

/// W3C Secure Contexts §3.1.
fn is_trustworthy(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_after(set: &[&str]) -> Option<String> {
        let (jar, url) = (Jar::default(), Url::parse("https://app.test/x").unwrap());
        for field in set {
            jar.set(&url, field);
        }
        jar.field(&url)
    }

    #[test]
    fn cookies_are_kept_as_browsers_keep_them() {
        for (set, expected) in [
            (&["a=1; Path=/", "b=2", "a=3"][..], Some("a=3; b=2")),
            (&["a=1", "a=; Max-Age=0"], None),
            (&["a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], None),
            (&["a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT"], Some("a=1")),
            (
                &["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=9"],
                Some("a=1"),
            ),
            (
                &["__Host-a=1; Path=/; Secure; HttpOnly"],
                Some("__Host-a=1"),
            ),
            (&["__Host-a=1; Path=/"], None),
            (&["__Host-a=1; Path=/x; Secure"], None),
            (&["__Host-a=1; Path=/; Secure; Domain=app.test"], None),
        ] {
            assert_eq!(field_after(set).as_deref(), expected, "{set:?}");
        }
    }

    #[test]
    fn a_secure_cookie_is_not_for_plain_http() {
        let jar = Jar::default();
        jar.set(&Url::parse("https://app.test/").unwrap(), "a=1; Secure");
        assert_eq!(jar.field(&Url::parse("http://app.test/").unwrap()), None);
    }
}
