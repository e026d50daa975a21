//! Public paths: what is decided on must be what is forwarded, byte for byte.

use crate::harness::wire::Wire;

use super::target::{Target, reflection};

/// Behind the public path, in the ways in which servers come to another path than the rule means. `{}`
/// stands for the public path.
const DISGUISED: &[&str] = &[
    "{}/../private",
    "{}/./../private",
    "{}/a/../../private",
    "{}/..",
    "{}/.",
    "{}/...",
    "{}/%2e%2e/private",
    "{}/%2E%2E/private",
    "{}/.%2e/private",
    "{}/%2e./private",
    "{}/%252e%252e/private",
    "{}/..%2fprivate",
    "{}/..%252fprivate",
    "{}/..%5cprivate",
    "{}/..\\private",
    "{}\\..\\private",
    "{}%2f..%2fprivate",
    "{}%2f%2e%2e%2fprivate",
    "{}%5c..%5cprivate",
    "{}/..;/private",
    "{}/..;x=y/private",
    "{}/%2e%2e;/private",
    "{};/../private",
    "{};x/../private",
    "{};x",
    "{}/x;y",
    "{}//x",
    "{}//../private",
    "{}/x//",
    "/{}",
    "/.{}/x",
    "/x/..{}/x",
    "{}.",
    "{}./x",
    "{}/x.",
    "{}/x./y",
    "{}%20/x",
    "{}/%20",
    "{}/x%00",
    "{}/x%00.svg",
    "{}/x%0a",
    "{}/x%0d%0aHost:evil.test",
    "{}%3f/../private",
    "{}%23/../private",
    "{}/x%23y",
    "{}/x%3fy",
    "{}/%c0%ae%c0%ae/private",
    "{}/%e0%80%ae%e0%80%ae/private",
    "{}/%u002e%u002e/private",
    "{}/%uff0e%uff0e/private",
    "{}/%ef%bc%8e%ef%bc%8e/private",
    "{}/%E2%80%A5/private",
    "{}/%ff",
    "{}/%",
    "{}/%2",
    "{}/%zz",
    "{}%",
    "{}/x:y",
    "{}/|x",
    "{}/x~*",
];

/// Not below the public path at all, although something in the request has its name.
const ELSEWHERE: &[&str] = &[
    "/private?x={}",
    "/private?{}",
    "/private?next={}/x",
    "/private#{}",
    "/private#/..{}",
    "/private%23{}",
    "/private%3f{}",
    "/private;{}",
    "/private{}",
    "/x{}",
    "{}x",
    "{}.html",
    "{}-x/y",
    "/?{}",
    "/#{}",
    "/",
    "/oauth2{}",
    "/oauth2/../private{}",
    "/%6fauth2/auth",
    "/OAUTH2/auth",
    "/ping/x",
    "/ping/../private",
    "/ready/x",
    "/robots.txt/x",
    "//ping",
    "/ping;x",
    "/%70ing",
];

fn at(target: &Target, path: &str) -> String {
    path.replace("{}", &target.public)
}

fn programs(target: &Target, paths: &[&str]) -> Vec<String> {
    let get = |path: &&str| target.request(&format!("GET {}", at(target, path)), "Accept: */*\r\n");
    paths.iter().map(get).collect()
}

/// Without this, the others would show nothing.
pub(super) async fn the_public_path_itself_is_public(target: &Target) -> Result<(), String> {
    for path in [
        "{}",
        "{}/",
        "{}/x",
        "{}/x?y=/../private",
        "{}/a/b-c_d~e.svg",
    ] {
        let path = at(target, path);
        let answer = target.ask(&format!("GET {path}"), "").await;
        let seen = reflection(&answer).ok_or_else(|| format!("{path} got {}", answer.status))?;
        if seen.target != path {
            return Err(format!("{path} was forwarded as {}", seen.target));
        }
    }
    Ok(())
}

pub(super) async fn nothing_but_the_path_makes_a_path_public(
    target: &Target,
) -> Result<(), String> {
    target.keeps_out(&programs(target, ELSEWHERE)).await?;
    let public = &target.public;
    let hints = [
        ("X-Forwarded-Uri", public.clone()),
        ("X-Forwarded-Path", public.clone()),
        ("X-Forwarded-Prefix", public.clone()),
        ("X-Original-URL", public.clone()),
        ("X-Original-URI", public.clone()),
        ("X-Rewrite-URL", public.clone()),
        ("X_Original_URL", public.clone()),
        ("X-Envoy-Original-Path", public.clone()),
        ("Referer", format!("{}{public}", target.url)),
        ("X-Forwarded-Method", "OPTIONS".to_owned()),
    ];
    let hinted =
        hints.map(|(name, value)| target.request("GET /private", &format!("{name}: {value}\r\n")));
    target.keeps_out(&hinted).await
}

pub(super) async fn a_path_that_servers_read_differently_is_not_public(
    target: &Target,
) -> Result<(), String> {
    target.keeps_out(&programs(target, DISGUISED)).await
}

pub(super) async fn a_target_in_another_form_is_not_public(target: &Target) -> Result<(), String> {
    let (host, public) = (target.host(), &target.public);
    let lines = [
        format!("GET http://{host}/private"),
        format!("GET http://{host}/private?{public}"),
        format!("GET http://{host}{public}/../private"),
        format!("GET http://{host}{public}%2f..%2fprivate"),
        format!("GET http://x{public}@{host}/private"),
        "GET http://public/private".to_owned(),
        format!("GET {}", public.trim_start_matches('/')),
        format!("GET ?{public}"),
        "GET *".to_owned(),
        "OPTIONS *".to_owned(),
        format!("CONNECT {host}:443"),
        format!("CONNECT {public}"),
        "GET file:///public/x".to_owned(),
    ];
    target
        .keeps_out(&lines.map(|line| target.request(&line, "")))
        .await
}

pub(super) async fn a_method_that_is_not_named_is_not_public(
    target: &Target,
) -> Result<(), String> {
    let public = &target.public;
    let methods = [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "Get", "GETX", "G",
    ];
    let mut requests: Vec<String> = methods
        .iter()
        .map(|method| target.request(&format!("{method} {public}/x"), "Content-Length: 0\r\n"))
        .collect();
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Forwarded-Method",
    ] {
        let headers = format!("{name}: GET\r\nContent-Length: 0\r\n");
        requests.push(target.request(&format!("DELETE {public}/x"), &headers));
    }
    for method in ["HEAD", "OPTIONS"] {
        let preflight = "Origin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x\r\n";
        let headers = format!("{preflight}Content-Length: 0\r\n");
        requests.push(target.request(&format!("{method} /private"), &headers));
    }
    // An answer to HEAD has a length and no body; waiting for it would be waiting for ever.
    let (heads, others): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .partition(|request| request.starts_with("HEAD"));
    target.keeps_out(&others).await?;
    let before = target.reached().await;
    for head in heads {
        let mut wire = Wire::connect(target.address).await;
        wire.send(head.as_bytes()).await;
        let bytes = wire.rest().await;
        if !bytes.starts_with(b"HTTP/1.1 401") {
            return Err(format!("{head:?} got {}", String::from_utf8_lossy(&bytes)));
        }
    }
    if target.reached().await > before {
        return Err("a HEAD reached the workload".to_owned());
    }
    Ok(())
}

pub(super) async fn what_was_decided_on_is_what_is_forwarded(
    target: &Target,
) -> Result<(), String> {
    for path in DISGUISED.iter().chain(ELSEWHERE) {
        let path = at(target, path);
        if path.starts_with("/oauth2") {
            continue;
        }
        let answer = target
            .ask(&format!("GET {path}"), &target.cookie_line())
            .await;
        // A fragment is no part of a request target; a server that sends one has it cut off.
        let expected = path.split('#').next().unwrap_or_default();
        match reflection(&answer) {
            Some(seen) if seen.target == expected => {}
            Some(seen) => return Err(format!("{path} was forwarded as {}", seen.target)),
            None if answer.status == 400 => {}
            None => return Err(format!("{path} got {}", answer.status)),
        }
    }
    Ok(())
}
