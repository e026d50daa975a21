//! What passes through, and what reaches the workload.

use std::rc::Rc;

use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::echo::Reflection;
use crate::harness::wait::{eventually, in_time};
use crate::harness::websocket::WebSocket;

use super::{Observed, Order, Subject};

/// Identities that a client may not choose, in ways that workloads read as the same field.
const FORGED: &[(&str, &str)] = &[
    ("X-Forwarded-Email", "forged@example.org"),
    ("x-forwarded-email", "forged@example.org"),
    ("X-FORWARDED-EMAIL", "forged@example.org"),
    ("x_forwarded_email", "forged@example.org"),
    ("X_Forwarded-Email", "forged@example.org"),
    ("X-Forwarded-User", "forged"),
    ("X-Forwarded-Groups", "forged"),
    ("X-Forwarded-Preferred-Username", "forged"),
    ("X-Auth-Request-Email", "forged@example.org"),
    ("Connection", "X-Forwarded-Email, X-Forwarded-User"),
];

/// Whether the workload, which may take `_` for `-`, sees the allowed user and nobody else.
fn identity_in(seen: &Reflection, allowed: &str) -> String {
    let emails: Vec<&str> = seen
        .headers
        .iter()
        .filter(|(name, _)| name.to_ascii_lowercase().replace('_', "-") == "x-forwarded-email")
        .map(|(_, value)| value.as_str())
        .collect();
    let forged = seen
        .headers
        .iter()
        .filter(|(_, value)| value.contains("forged"))
        .count();
    let email = if emails == [allowed] {
        "one e-mail, the user's".to_owned()
    } else {
        format!("{emails:?}")
    };
    format!("{email}, {forged} forged")
}

pub(super) async fn identity_headers(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let mut request = browser.get("/headers-seen");
    for (name, value) in FORGED {
        request = request.header(name, value);
    }
    let seen = request.send().await.reflection();
    Ok(identity_in(&seen, &subject.allowed))
}

pub(super) async fn upstream_cookies(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let session = browser.cookie_field();
    let others = "a=1; b=\"2 3\"; c==; a=4";
    let page = browser
        .stranger()
        .get("/")
        .header("cookie", &format!("a=1; {session}; b=\"2 3\"; c==; a=4"))
        .send()
        .await;
    let seen = page.reflection();
    let cookies: Vec<&str> = seen.values("cookie").collect();
    Ok(if cookies == [others] {
        "others only, unchanged"
    } else if cookies.iter().any(|field| field.contains(&subject.cookie)) {
        "with the session"
    } else {
        "changed"
    }
    .to_owned())
}

pub(super) async fn websocket(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let cookies = browser.cookie_field();
    let (address, host) = (subject.address(), subject.authority());
    let open = WebSocket::connect(address, &host, "/", &[("Cookie", &cookies)]).await;
    let with_session = match open {
        Ok(mut socket) => {
            socket.echo("hello").await;
            "101 and an echo".to_owned()
        }
        Err(answer) => answer.status.to_string(),
    };
    let without = match WebSocket::connect(address, &host, "/", &[]).await {
        Ok(_) => "101".to_owned(),
        Err(answer) => answer.status.to_string(),
    };
    Ok(format!("{with_session}; {without}"))
}

pub(super) async fn upstream_down(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    subject.order(Order::StopUpstream).await?;
    let page = browser.get("/").send().await;
    subject.order(Order::StartUpstream).await?;
    let back = eventually("the workload to be back", async || {
        let page = browser.get("/").send().await;
        (page.status == 200).then_some(page.status)
    })
    .await;
    Ok(format!("{}, then {}", page.status.as_u16(), back.as_u16()))
}

pub(super) async fn large_upload(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let page = browser.post("/upload", vec![b'x'; UPLOAD]).send().await;
    let length = page.reflection().body_length;
    let whole = usize::try_from(length).is_ok_and(|length| length == UPLOAD);
    Ok(if whole {
        "whole".to_owned()
    } else {
        format!("{length} bytes")
    })
}

/// Events one second apart must come one second apart.
pub(super) async fn server_sent_events(subject: Rc<Subject>) -> Observed {
    let browser = subject.logged_in().await;
    let mut body = browser
        .get("/sse?count=2&interval_ms=1500")
        .stream()
        .await
        .into_body();
    let first = in_time("an event", body.frame()).await;
    let first_came = Instant::now();
    drop(first);
    let rest = in_time("the end of the events", body.collect()).await;
    drop(rest);
    Ok(if first_came.elapsed().as_millis() > 700 {
        "as they come"
    } else {
        "at the end"
    }
    .to_owned())
}

/// A path, as it reaches the workload.
pub(super) async fn path(subject: Rc<Subject>, path: &'static str) -> Observed {
    let page = subject.logged_in().await.get(path).send().await;
    Ok(if page.status.is_redirection() {
        format!("{} to {}", page.status.as_u16(), page.location())
    } else {
        format!("reaches the workload as {}", page.reflection().target)
    })
}

/// 200 MB, as the figure is known.
const UPLOAD: usize = 200 * 1000 * 1000;
