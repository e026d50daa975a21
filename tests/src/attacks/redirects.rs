//! Where a browser is led after login and sign-out.

use std::collections::BTreeSet;

use url::{Url, form_urlencoded};

use super::target::Target;

/// A corpus, and how to ask with its strings.
#[derive(Clone, Debug)]
pub struct Redirects {
    /// As they stand in a query.
    pub encoded: BTreeSet<String>,
}

const HOSTS: &[&str] = &["evil.test", "EVIL.test", "evil.test.", "ev\u{ec}l.test"];
const SLASHES: &[&str] = &["/", "\\", "%2f", "%5c"];
const DROPPED: &[&str] = &[
    "\t", "\n", "\r", "\u{b}", "\u{c}", " ", "\u{a0}", "\u{2028}", "\u{200b}", "\u{feff}", "\0",
    "\u{8}",
];

/// The strings of `redirects.txt`, with everything put in that its placeholders stand for.
pub fn corpus(own: &str) -> Redirects {
    let mut encoded = BTreeSet::new();
    let mut is_encoded = false;
    for line in include_str!("redirects.txt").lines() {
        match line {
            "" => {}
            "[encoded]" => is_encoded = true,
            _ if line.starts_with("# ") || line == "#" => {}
            _ if line.starts_with('[') && line.ends_with(']') && line.contains(' ') => {}
            "[code]" => {}
            _ => {
                for text in expand(&line.replace("{o}", own)) {
                    encoded.insert(if is_encoded { text } else { encode(&text) });
                }
            }
        }
    }
    Redirects { encoded }
}

fn expand(line: &str) -> Vec<String> {
    let mut texts = vec![line.to_owned()];
    for (placeholder, values) in [("{s}", SLASHES), ("{w}", DROPPED), ("{e}", HOSTS)] {
        while texts.iter().any(|text| text.contains(placeholder)) {
            let put = |text: String| {
                if text.contains(placeholder) {
                    let fill = |value: &&str| text.replacen(placeholder, value, 1);
                    values.iter().map(fill).collect()
                } else {
                    vec![text]
                }
            };
            texts = texts.into_iter().flat_map(put).collect();
        }
    }
    texts
}

fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn address(target: &Target, path: &str) -> Url {
    target.url.join(path).expect("a URL")
}

/// Where a browser goes that reads `location` in an answer to `/oauth2/…`.
fn stays(target: &Target, location: &str, asked: &str) -> Result<(), String> {
    let base = address(target, "/oauth2/callback");
    let led = base.join(location);
    match led {
        Ok(led) if led.origin() == base.origin() && led.username().is_empty() => Ok(()),
        _ => Err(format!("{asked:?} leads to {location:?}")),
    }
}

pub(super) async fn a_sign_out_leads_nobody_away(target: &Target) -> Result<(), String> {
    for rd in corpus(&target.host()).encoded {
        let answer = target
            .ask(&format!("GET /oauth2/sign_out?rd={rd}"), "")
            .await;
        match answer.status {
            302 | 303 => stays(target, answer.header("location"), &rd)?,
            200 | 400 => {}
            status => return Err(format!("{rd:?} got {status}")),
        }
        if answer.header("set-cookie").contains("a=b") {
            return Err(format!("{rd:?} set a cookie"));
        }
    }
    Ok(())
}

/// A login each, so only with a part of the corpus: enough of every class.
pub(super) async fn a_login_leads_nobody_away(target: &Target) -> Result<(), String> {
    let corpus = corpus(&target.host()).encoded;
    for rd in corpus.iter().step_by(corpus.len() / LOGINS) {
        let browser = target.browser();
        let started = browser.open(&format!("/oauth2/start?rd={rd}")).send().await;
        if started.status != 302 {
            return Err(format!("{rd:?} got {}", started.status));
        }
        let page = browser
            .log_in_until_callback(&format!("/oauth2/start?rd={rd}"), "alice@example.org")
            .await;
        stays(target, page.location(), rd)?;
    }
    Ok(())
}

pub(super) async fn a_header_leads_nobody_away(target: &Target) -> Result<(), String> {
    let away = "https://evil.test/x";
    let headers = [
        format!("X-Auth-Request-Redirect: {away}\r\n"),
        format!("X_Auth_Request_Redirect: {away}\r\n"),
        "X-Forwarded-Host: evil.test\r\nX-Forwarded-Uri: /x\r\n".to_owned(),
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.test\r\n".to_owned(),
        "X-Original-URL: //evil.test/x\r\n".to_owned(),
        "Forwarded: host=evil.test;proto=http\r\n".to_owned(),
        format!("Referer: {away}\r\nOrigin: https://evil.test\r\n"),
    ];
    for headers in headers {
        for path in ["/", "/private", "/oauth2/start", "/oauth2/sign_out"] {
            let person = format!("Accept: text/html\r\n{headers}");
            let answer = target.ask(&format!("GET {path}"), &person).await;
            let told = format!("{:?} {}", answer.headers, answer.text());
            if told.contains("evil.test") {
                return Err(format!("{headers:?} to {path} is in {told}"));
            }
        }
    }
    Ok(())
}

/// What a proxy that refuses too much would lose.
pub(super) async fn addresses_of_our_own_are_kept(target: &Target) -> Result<(), String> {
    let origin = target.url.origin().ascii_serialization();
    let own = [
        "/x?next=https://a//b",
        "/a//b",
        "/a/b;c=d?e=f&g=h%26i",
        "/x#/deep/link?y",
        "/~user/%2f%5c",
        "/?x=//evil.test",
        "/caf%C3%A9",
    ];
    for path in own {
        for rd in [path.to_owned(), format!("{origin}{path}")] {
            let line = format!("GET /oauth2/sign_out?rd={}", encode(&rd));
            let answer = target.ask(&line, "").await;
            let kept = target.url.join(answer.header("location"));
            let expected = address(target, path);
            if kept != Ok(expected) {
                return Err(format!("{rd:?} leads to {:?}", answer.header("location")));
            }
        }
    }
    Ok(())
}

const LOGINS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_has_several_hundred_strings_and_every_class() {
        let corpus = corpus("app.test").encoded;
        assert!(corpus.len() > 700, "{}", corpus.len());
        for one in [
            "%2F%2Fevil.test",
            "%2F%09%2Fevil.test",
            "javascript%3Aalert%281%29",
            "%252f%252fevil.test",
        ] {
            assert!(corpus.contains(one), "{one}");
        }
        assert!(corpus.iter().all(|one| !one.contains(['{', '\n', ' '])));
    }
}
