//! Who is asking: a person whose browser can go and log in, or a program that needs a status.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Request};

/// What an unauthenticated request is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Intent {
    /// A page that a browser is opening: it can be sent to log in and come back.
    Navigation,
    /// Anything else. A redirect would lose its body, or be followed into a login page that it cannot
    /// read.
    Program,
}

impl Intent {
    /// Reads the fetch metadata that browsers send (W3C Fetch Metadata §2), else `Accept`.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        // Only what brings a page can be a navigation.
        let is_navigation = wants_page(headers)
            && matches!(*request.method(), Method::GET | Method::HEAD)
            && !headers.contains_key(header::UPGRADE)
            // A login inside a frame would be refused by the provider.
            && (text(headers, &SEC_FETCH_MODE).is_none()
                || matches!(text(headers, &SEC_FETCH_DEST), None | Some("document")));
        if is_navigation {
            Self::Navigation
        } else {
            Self::Program
        }
    }
}

/// Whether an answer should be a page to read.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    match text(headers, &SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => accepts_html(headers) && !headers.contains_key(&X_REQUESTED_WITH),
    }
}

/// Whether a page of another site made the browser send this request.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    matches!(
        text(headers, &SEC_FETCH_SITE),
        Some("cross-site" | "same-site")
    )
}

/// Whether something else than a person who sends a form on a page of ours made the browser send this: a page of another
/// site, a script, a frame. A script of the workload is of the same origin as our pages.
pub(crate) fn is_unseen(headers: &HeaderMap) -> bool {
    let is_navigation = match text(headers, &SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate" && text(headers, &SEC_FETCH_DEST) == Some("document"),
        // No browser, or one that sends none of it.
        None => !headers.contains_key(&SEC_FETCH_DEST),
    };
    is_cross_site(headers) || !is_navigation
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        // Shorter ones, such as `*/*`, do not name it.
        .filter(|value| value.len() >= "text/html".len())
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').any(|range| {
                let media_type = range.split(';').next().unwrap_or_default().trim();
                media_type.eq_ignore_ascii_case("text/html")
                    || media_type.eq_ignore_ascii_case("application/xhtml+xml")
            })
        })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::form(&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], false)]
    #[case::program(&[], false)]
    #[case::other_site(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], true)]
    #[case::script(&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], true)]
    #[case::frame(&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], true)]
    #[case::beacon(&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty")], true)]
    fn a_form_is_sent_by_a_person_who_sees_it(
        #[case] headers: &[(&'static str, &'static str)],
        #[case] expected: bool,
    ) {
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        assert_eq!(is_unseen(&headers.collect()), expected);
    }

    #[rstest]
    #[case::curl(&[("accept", "*/*")], Intent::Program)]
    #[case::nothing(&[], Intent::Program)]
    #[case::mlflow_client(&[("accept", "*/*"), ("user-agent", "mlflow-python-client/3.1")], Intent::Program)]
    #[case::api_client(&[("accept", "application/json")], Intent::Program)]
    #[case::old_browser(&[("accept", "text/html, application/json;q=0.9")], Intent::Navigation)]
    #[case::jquery(&[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], Intent::Program)]
    #[case::browser(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html")], Intent::Navigation)]
    #[case::frame(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("accept", "text/html")], Intent::Program)]
    #[case::fetch(&[("sec-fetch-mode", "cors"), ("accept", "text/html")], Intent::Program)]
    #[case::image(&[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")], Intent::Program)]
    #[case::websocket(&[("sec-fetch-mode", "navigate"), ("upgrade", "websocket")], Intent::Program)]
    fn a_login_is_for_people(#[case] headers: &[(&str, &str)], #[case] intent: Intent) {
        let request = |method: Method| {
            let mut request = Request::builder().method(method);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap()
        };
        assert_eq!(Intent::of(&request(Method::GET)), intent);
        // A body would be lost on the way.
        assert_eq!(Intent::of(&request(Method::POST)), Intent::Program);
    }
}
