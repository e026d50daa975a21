//! Who gets in: people, programs, and those whose session is not what it seems.

use std::rc::Rc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::harness::Page;
use crate::harness::wait::eventually;

use super::{Observed, Order, Subject, TokenKind};

/// Programs are told within this time that somebody was taken off the list.
const PROMPT: Duration = Duration::from_secs(2);

fn answer(page: &Page) -> String {
    let content_type = page
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default();
    let what = match content_type {
        "text/html" => " page",
        "application/json" | "application/problem+json" => " JSON",
        _ => "",
    };
    format!("{}{what}", page.status.as_u16())
}

fn join(pages: &[Page]) -> String {
    pages
        .iter()
        .map(|page| page.status.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) async fn browser_without_session(subject: Rc<Subject>) -> Observed {
    let page = subject.browser().open("/").send().await;
    Ok(if page.status.is_redirection() {
        format!("{} {}", page.status.as_u16(), subject.leads(&page))
    } else {
        let offers = page.text().contains("/oauth2/start");
        format!(
            "{}, {}",
            answer(&page),
            if offers {
                "with a way to log in"
            } else {
                "without a way in"
            }
        )
    })
}

/// A request of a script in a page, or of a program, with these fields.
pub(super) async fn without_session(
    subject: Rc<Subject>,
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> Observed {
    let browser = subject.browser();
    let mut request = browser.get(path);
    for (name, value) in fields {
        request = request.with(name, value);
    }
    let page = request.send().await;
    let redirect = if page.location().is_empty() {
        ""
    } else {
        ", a redirect"
    };
    Ok(format!("{}{redirect}", answer(&page)))
}

/// JSON that comes second in `Accept` does not make a script of a person.
pub(super) async fn person_who_accepts_json(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let ask = async |accept: &str| browser.get("/").with("accept", accept).send().await.status;
    let mixed = ask("text/html, application/json;q=0.9").await;
    let person = ask("text/html").await;
    Ok(if mixed == person {
        "as a person"
    } else {
        "as a script"
    }
    .to_owned())
}

pub(super) async fn preflight(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let request = browser.request(Method::OPTIONS, "/x");
    let request = request.header("origin", "https://elsewhere.example");
    let page = request
        .header("access-control-request-method", "PUT")
        .send()
        .await;
    Ok(page.status.as_str().to_owned())
}

/// Nothing that a client writes makes a path public.
pub(super) async fn paths_that_look_public(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let mut pages = vec![
        browser.get("/x?y=/ping").send().await,
        browser.get("/x%23/ping").send().await,
        browser.get("/x/../ping/x").send().await,
        browser
            .get("/x")
            .header("x-forwarded-uri", "/ping")
            .send()
            .await,
        browser
            .get("/x")
            .header("x-original-url", "/ping")
            .send()
            .await,
    ];
    pages.push(
        browser
            .get("/oauth2/auth")
            .header("x-forwarded-uri", "/ping/%2e%2e/x")
            .send()
            .await,
    );
    Ok(join(&pages))
}

pub(super) async fn tampered_cookie(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let cookie = browser.cookie(&subject.cookie).unwrap_or_default();
    let middle = cookie.len() / 2;
    let other = if cookie.as_bytes().get(middle) == Some(&b'A') {
        "B"
    } else {
        "A"
    };
    let mut tampered = cookie;
    tampered.replace_range(middle..=middle, other);
    browser.put_cookie(&subject.cookie, &tampered);
    let page = browser.thief().get("/oauth2/auth").send().await;
    let person = browser.open("/").send().await;
    Ok(format!(
        "{}, {}",
        page.status.as_u16(),
        subject.session_after(&person)
    ))
}

/// Removed from the list, and put back.
pub(super) async fn allowlist_both_ways(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    subject.allow(&["somebody.else@example.org"]).await?;
    let started = Instant::now();
    eventually("the removal to show", async || {
        let copy = browser.thief();
        (copy.get("/oauth2/auth").send().await.status != 202).then_some(())
    })
    .await;
    let prompt = if started.elapsed() < PROMPT {
        "at once"
    } else {
        "late"
    };
    let auth = browser.thief().get("/oauth2/auth").send().await;
    let page = browser.thief().open("/").send().await;
    let removed = format!(
        "{} and {} {prompt}, {} and {}",
        auth.status.as_u16(),
        page.status.as_u16(),
        subject.session_after(&auth),
        subject.session_after(&page)
    );
    subject.allow(&[&subject.allowed]).await?;
    Ok(removed)
}

pub(super) async fn allowlist_regained(subject: Rc<Subject>) -> Observed {
    subject.allow(&["somebody.else@example.org"]).await?;
    let refused = log_in_status(&subject, &subject.allowed).await;
    subject.allow(&[&subject.allowed]).await?;
    let admitted = eventually_admitted(&subject).await;
    Ok(format!("{refused}, then {admitted}"))
}

pub(super) async fn allowlist_broken(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    subject.order(Order::BreakAllowlist).await?;
    let refused = log_in_status(&subject, &subject.refused).await;
    let page = browser.get("/").send().await;
    subject.allow(&[&subject.allowed]).await?;
    Ok(format!(
        "{} for who was listed, {refused} for who was not",
        page.status.as_u16()
    ))
}

pub(super) async fn allowlist_in_capitals(subject: Rc<Subject>) -> Observed {
    subject.allow(&[&subject.allowed.to_uppercase()]).await?;
    let admitted = eventually_admitted(&subject).await;
    subject.allow(&[&subject.allowed]).await?;
    Ok(admitted)
}

async fn log_in_status(subject: &Subject, username: &str) -> String {
    let page = subject
        .browser()
        .log_in_until_callback("/oauth2/start?rd=/", username)
        .await;
    page.status.as_str().to_owned()
}

async fn eventually_admitted(subject: &Subject) -> String {
    let what = "a login after the list was changed";
    eventually(what, async || {
        let status = log_in_status(subject, &subject.allowed).await;
        (status == "302").then_some("a login works".to_owned())
    })
    .await
}

pub(super) async fn not_listed(subject: Rc<Subject>) -> Observed {
    let browser = subject.browser();
    let page = browser
        .log_in_until_callback("/oauth2/start?rd=/", &subject.refused)
        .await;
    Ok(format!(
        "{}, {}",
        answer(&page),
        subject.session_after(&page)
    ))
}

/// One kind of token, sent as `scheme`.
pub(super) async fn bearer(
    subject: Rc<Subject>,
    kind: TokenKind,
    scheme: &'static str,
) -> Observed {
    let token = subject.order(Order::Token(kind)).await?;
    let browser = subject.browser();
    browser.secrets().add(&token);
    let page = browser
        .get("/")
        .header("authorization", &format!("{scheme} {token}"))
        .send()
        .await;
    let challenge = if page.header("www-authenticate").is_empty() {
        ""
    } else {
        ", WWW-Authenticate"
    };
    Ok(format!("{}{challenge}", page.status.as_u16()))
}
