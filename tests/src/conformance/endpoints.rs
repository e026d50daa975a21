//! The endpoints of the proxy itself.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::harness::Page;

use super::{Observed, Subject};

fn content_type(page: &Page) -> &str {
    page.header("content-type")
        .split(';')
        .next()
        .unwrap_or_default()
}

fn location_of(page: &Page) -> &'static str {
    if page.location().is_empty() {
        "no redirect"
    } else {
        "a redirect"
    }
}

/// `/ping` and `/ready`.
pub(super) async fn health(subject: Rc<Subject>, path: &'static str) -> Observed {
    let page = subject.as_program(path).await;
    Ok(format!(
        "{} {}, {} cookies",
        page.status.as_u16(),
        page.text().trim(),
        page.set_cookies().len()
    ))
}

pub(super) async fn robots(subject: Rc<Subject>) -> Observed {
    let page = subject.as_program("/robots.txt").await;
    let forbids = page.text().lines().any(|line| line.trim() == "Disallow: /");
    Ok(format!(
        "{}, {}",
        page.status.as_u16(),
        if forbids { "disallows all" } else { "allows" }
    ))
}

pub(super) async fn auth_without_session(subject: Rc<Subject>) -> Observed {
    let page = subject.browser().open("/oauth2/auth").send().await;
    Ok(format!(
        "{} {}, {}",
        page.status.as_u16(),
        page.text().trim(),
        location_of(&page)
    ))
}

pub(super) async fn auth_with_session(subject: Rc<Subject>) -> Observed {
    let page = subject.logged_in().await.get("/oauth2/auth").send().await;
    let body = if page.body.is_empty() {
        "empty"
    } else {
        "a body"
    };
    let is_named = page.header("x-auth-request-email") == subject.allowed
        && !page.header("x-auth-request-user").is_empty();
    let named = if is_named {
        "e-mail and user"
    } else {
        "no identity"
    };
    let cached = if page.header("cache-control").is_empty() {
        "no Cache-Control"
    } else {
        "Cache-Control"
    };
    Ok(format!(
        "{}, {body}, {named}, {cached}",
        page.status.as_u16()
    ))
}

/// Asks `/oauth2/auth` with a query that names who may pass.
pub(super) async fn auth_among(subject: Rc<Subject>, queries: &'static [&'static str]) -> Observed {
    let browser = subject.logged_in().await;
    let mut answers = Vec::new();
    for query in queries {
        let page = browser.get(&format!("/oauth2/auth?{query}")).send().await;
        answers.push(page.status.as_str().to_owned());
    }
    Ok(answers.join(", "))
}

pub(super) async fn userinfo(subject: Rc<Subject>) -> Observed {
    let page = subject
        .logged_in()
        .await
        .get("/oauth2/userinfo")
        .send()
        .await;
    let body: BTreeMap<String, String> = page.json();
    let is_right = body.get("email") == Some(&subject.allowed) && body.contains_key("user");
    let right = if is_right {
        "e-mail and user"
    } else {
        "somebody else"
    };
    let nobody = subject.as_program("/oauth2/userinfo").await;
    Ok(format!(
        "{} {} {right}; {}",
        page.status.as_u16(),
        content_type(&page),
        nobody.status.as_u16()
    ))
}

pub(super) async fn sign_out(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let thief = browser.thief();
    let page = browser.open("/oauth2/sign_out?rd=/bye").send().await;
    let with_copy = thief.get("/").send().await;
    let copy = if with_copy.status == 200 {
        "a copy lives"
    } else {
        "a copy is dead"
    };
    Ok(format!(
        "{} {}, {}, {copy}",
        page.status.as_u16(),
        subject.leads(&page),
        subject.session_after(&page)
    ))
}
