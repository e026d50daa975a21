//! The way of a person through a login.

use std::rc::Rc;

use url::Url;

use crate::harness::Page;

use super::{Observed, Subject};

const CALLBACK: &str = "/oauth2/callback";

/// Where somebody lands who starts with `rd`, which is encoded here.
async fn lands(subject: &Subject, rd: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(rd.as_bytes()).collect();
    let start = format!("/oauth2/start?rd={encoded}");
    let page = subject
        .browser()
        .log_in_until_callback(&start, &subject.allowed)
        .await;
    subject.leads(&page)
}

pub(super) async fn start(subject: Rc<Subject>) -> Observed {
    let page = subject.browser().open("/oauth2/start?rd=/").send().await;
    let cookies = page.set_cookies();
    let has_all = |field: &&str| {
        ["HttpOnly", "Secure", "Max-Age=900"]
            .iter()
            .all(|wanted| field.split("; ").any(|found| found == *wanted))
    };
    let good = cookies.iter().filter(|field| has_all(field)).count();
    let attributes = "HttpOnly, Secure, Max-Age=900";
    Ok(format!(
        "{} {}, {good} of {} cookies with {attributes}",
        page.status.as_u16(),
        subject.leads(&page),
        cookies.len()
    ))
}

/// One `rd`.
pub(super) async fn return_to(subject: Rc<Subject>, rd: &'static str) -> Observed {
    Ok(lands(&subject, rd).await)
}

/// Strings that were open redirects somewhere.
pub(super) async fn hostile_return_to(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let mut escapes = Vec::new();
    for rd in HOSTILE {
        let encoded: String = url::form_urlencoded::byte_serialize(rd.as_bytes()).collect();
        let callback = browser
            .log_in_at_provider(&format!("/oauth2/start?rd={encoded}"), &subject.allowed)
            .await;
        let page = browser.open(&callback).send().await;
        let target = page.url.join(page.location());
        let stays = target.is_ok_and(|target: Url| target.origin() == browser.home().origin());
        if page.status != 302 || !stays || page.location().contains(['\\', '\t', '\r', '\n']) {
            escapes.push(format!("{rd:?} leads to {:?}", page.location()));
        }
    }
    Ok(if escapes.is_empty() {
        "none leaves".to_owned()
    } else {
        escapes.join("; ")
    })
}

pub(super) async fn callback_without_state(subject: Rc<Subject>) -> Observed {
    let page = subject
        .browser()
        .open(&format!("{CALLBACK}?code=x"))
        .send()
        .await;
    Ok(page.status.as_str().to_owned())
}

/// With a state, but without the cookie of an attempt; once as nobody, once with a session.
pub(super) async fn callback_without_attempt(subject: Rc<Subject>) -> Observed {
    let address = format!("{CALLBACK}?code=x&state=unknown:state");
    let nobody = subject.browser().open(&address).send().await;
    let alice = subject.logged_in().await.open(&address).send().await;
    let leads = if alice.status.is_redirection() {
        subject.leads(&alice)
    } else {
        String::new()
    };
    let session = format!("{} {leads}", alice.status.as_u16());
    Ok(format!(
        "{}; with a session {}",
        nobody.status.as_u16(),
        session.trim()
    ))
}

pub(super) async fn callback_with_error(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let started = browser.open("/oauth2/start?rd=/").send().await;
    let state = started.sent_on("state").unwrap_or_default();
    let state: String = url::form_urlencoded::byte_serialize(state.as_bytes()).collect();
    let text = "%3Cscript%3Ealert(1)%3C/script%3E";
    let address = format!("{CALLBACK}?error=access_denied&error_description={text}&state={state}");
    let page = browser.open(&address).send().await;
    let script = if page.text().contains("<script>alert") {
        "script"
    } else {
        "no script"
    };
    Ok(format!("{}, {script}", page.status.as_u16()))
}

pub(super) async fn callback(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let started = browser.open("/oauth2/start?rd=/").send().await;
    let attempts: Vec<&str> = started
        .set_cookies()
        .iter()
        .filter_map(|field| Some(field.split_once('=')?.0))
        .collect();
    let provider = started.target();
    let callback = browser
        .log_in_at_provider(provider.as_str(), &subject.allowed)
        .await;
    let thief = browser.thief();
    let page = browser.open(&callback).send().await;
    let forgotten = attempts.iter().all(|name| browser.cookie(name).is_none());
    let attempt = if forgotten {
        "attempt forgotten"
    } else {
        "attempt kept"
    };
    let again = thief.open(&callback).send().await;
    Ok(format!(
        "{}, {}, {attempt}, again {}",
        page.status.as_u16(),
        subject.session_after(&page),
        again.status.as_u16()
    ))
}

/// A refused login stays refused, whatever the second answer looks like.
fn is_in(page: &Page) -> &'static str {
    if page.status == 302 { "in" } else { "refused" }
}

pub(super) async fn two_tabs(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let first = browser
        .log_in_at_provider("/oauth2/start?rd=/first", &subject.allowed)
        .await;
    let second = browser
        .log_in_at_provider("/oauth2/start?rd=/second", &subject.allowed)
        .await;
    let first = browser.open(&first).send().await;
    let second = browser.open(&second).send().await;
    Ok(format!("{}, {}", is_in(&first), is_in(&second)))
}

pub(super) async fn cookie_size(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let page = browser
        .log_in_until_callback("/oauth2/start?rd=/", &subject.allowed)
        .await;
    let sizes: Vec<usize> = page.set_cookies().iter().map(|field| field.len()).collect();
    let session = browser
        .cookie_names()
        .iter()
        .filter(|name| name.starts_with(&subject.cookie))
        .count();
    let small = if sizes.iter().all(|size| *size < SMALL) {
        "small"
    } else {
        "large"
    };
    Ok(format!("{session} cookie, {small}"))
}

/// Bytes of a `Set-Cookie` field that no header limit on the way will mind.
const SMALL: usize = 1024;

const HOSTILE: &[&str] = &[
    "https://evil.test",
    "//evil.test",
    "///evil.test",
    "////evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "\\/evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "/\r\n/evil.test",
    " //evil.test",
    "\u{b}//evil.test",
    "/%09/evil.test",
    "/%5cevil.test",
    "/%2f%2fevil.test",
    "/./\\evil.test",
    "/.//evil.test",
    "/..//evil.test",
    "/x/..//evil.test",
    "https:evil.test",
    "https:/evil.test",
    "https:///evil.test",
    "http:\\\\evil.test",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\u{ff0f}evil.test",
    "/\u{200b}/evil.test",
    "https://app.test@evil.test",
    "https://app.test.evil.test",
    "https://evil.test#app.test",
    "https://evil.test\\@app.test",
    "@evil.test",
    ":80",
    "?//evil.test",
    "#//evil.test",
    "/x\r\nSet-Cookie: a=b",
    "/x%0d%0aSet-Cookie:%20a=b",
    "",
];
