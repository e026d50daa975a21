//! Where a user may be sent after login or sign-out: this origin, and nowhere else.

use globus_auth_core::transaction::MAX_RETURN_TO;
use globus_auth_core::url::ExternalUrl;
use url::{Position, Url};

use crate::{CONNECTIONS_PATH, RESERVED_PREFIX};

/// A path, query and fragment on our own origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// The start page.
    pub(crate) fn start_page() -> Self {
        Self("/".to_owned())
    }

    /// Reads the `rd` of a request: a path, or an address on our own origin. Anything else becomes `/`.
    pub(crate) fn parse(text: &str, external: &ExternalUrl) -> Self {
        Self::resolve(text, external).unwrap_or_else(Self::start_page)
    }

    fn resolve(text: &str, external: &ExternalUrl) -> Option<Self> {
        // Browsers drop tabs and newlines from addresses and read a backslash as a slash (WHATWG URL
        // §4.4). The parser below does the same; what it would have to mend is refused beforehand.
        let is_suspicious = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
        if text.contains(is_suspicious) {
            return None;
        }
        let own = Url::parse(&external.origin()).ok()?;
        let target = if text.starts_with('/') {
            // Appended, not resolved: `//evil.test` is a path with two slashes on our origin.
            Url::parse(&external.join(text)).ok()?
        } else {
            Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"))?
        };
        let has_user = !target.username().is_empty() || target.password().is_some();
        let is_ours = is_reserved(target.path()) && target.path() != CONNECTIONS_PATH;
        if target.origin() != own.origin() || has_user || is_ours {
            return None;
        }
        let path = &target[Position::BeforePath..];
        (path.len() <= MAX_RETURN_TO).then(|| Self(path.to_owned()))
    }

    /// The path and query of the request that a login interrupts.
    pub(crate) fn from_request(uri: &http::Uri, external: &ExternalUrl) -> Self {
        let path = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        if path.starts_with('/') {
            Self::parse(path, external)
        } else {
            Self::start_page()
        }
    }

    /// The path that this is, to be kept until the callback.
    pub(crate) fn into_path(self) -> String {
        self.0
    }

    /// The value of a `Location` header. A path that a browser could take for a host (`//evil.test`)
    /// is written with our origin in front.
    pub(crate) fn location(&self, external: &ExternalUrl) -> String {
        if self.0.starts_with("//") {
            external.join(&self.0)
        } else {
            self.0.clone()
        }
    }
}

fn is_reserved(path: &str) -> bool {
    path.strip_prefix(RESERVED_PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn external() -> ExternalUrl {
        "https://app.test".parse().unwrap()
    }

    fn location(text: &str) -> String {
        ReturnTo::parse(text, &external()).location(&external())
    }

    #[rstest]
    #[case("/foo", "/foo")]
    #[case("/deep?x=1#part", "/deep?x=1#part")]
    #[case("/foo?next=http://x/y", "/foo?next=http://x/y")] // lost by others that forbid // anywhere
    #[case("/a//b", "/a//b")]
    #[case("/a%2Fb?c=%2F", "/a%2Fb?c=%2F")]
    #[case("/#/experiments/1", "/#/experiments/1")]
    #[case("https://app.test/x?y", "/x?y")]
    #[case("https://APP.test:443/x", "/x")]
    #[case("/caf\u{e9}", "/caf%C3%A9")]
    #[case("//evil.test/x", "https://app.test//evil.test/x")]
    #[case("/oauth2x", "/oauth2x")]
    fn our_own_addresses_are_kept(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(location(text), expected);
    }

    #[rstest]
    #[case("")]
    #[case("https://evil.test/x")]
    #[case("http://app.test/x")]
    #[case("https://app.test:8443/x")]
    #[case("https://app.test@evil.test/x")]
    #[case("https://user@app.test/x")]
    #[case("https://:secret@app.test/x")]
    #[case("https://app.test.evil.test/x")]
    #[case("https://evilapp.test/x")]
    #[case("javascript:alert(1)")]
    #[case("data:text/html,x")]
    #[case("/\\evil.test")]
    #[case("\\/evil.test")]
    #[case("\\\\evil.test")]
    #[case("/\t/evil.test")]
    #[case("/\n/evil.test")]
    #[case("/\u{b}/evil.test")]
    #[case(" /evil.test")]
    #[case("/ /evil.test")]
    #[case("/x\r\nSet-Cookie: a=b")]
    #[case("evil.test")]
    #[case("?x")]
    #[case("/oauth2/sign_out")]
    #[case("/oauth2")]
    #[case("/x/../oauth2/sign_out")]
    #[case("/x/%2e%2e/oauth2/sign_out")]
    fn everything_else_becomes_the_start_page(#[case] text: &str) {
        assert_eq!(location(text), "/");
    }

    #[test]
    fn an_endless_address_becomes_the_start_page() {
        let longest = format!("/{}", "x".repeat(MAX_RETURN_TO - 1));
        assert_eq!(location(&longest), longest);
        assert_eq!(location(&format!("{longest}x")), "/");
    }

    #[test]
    fn the_path_is_kept_until_the_callback() {
        let kept = ReturnTo::parse("https://app.test/deep?x=1#part", &external());
        assert_eq!(kept.into_path(), "/deep?x=1#part");
    }

    proptest! {
        #[test]
        fn no_text_leads_away(text in "[/\\\\a-z.:@?#%\t\n\u{2025}\u{ff0f} ]{0,24}") {
            let base = Url::parse("https://app.test/oauth2/callback").unwrap();
            let target = base.join(&location(&text)).unwrap();
            prop_assert_eq!(target.origin(), base.origin());
        }
    }
}
