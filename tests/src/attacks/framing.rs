//! Requests whose parts are not where they seem to be.

use super::target::{Target, reflection, refused};

/// What an attacker wants to get past the proxy behind a request that may pass.
const HIDDEN: &str = "hidden-request";

/// Sends an outer request with a session and what hides behind it. Whatever the proxy makes of it: the
/// workload sees no request that was not answered on this connection, and none of the hidden one.
async fn hides_nothing(target: &Target, head: &str, body: &str) -> Result<(), String> {
    let request = format!(
        "{head}Host: {}\r\n{}\r\n{body}",
        target.host(),
        target.cookie_line()
    );
    let before = target.reached().await;
    let answers = target.send(request.as_bytes()).await;
    let mut forwarded = 0;
    for answer in &answers {
        match reflection(answer) {
            Some(seen) if seen.target.contains(HIDDEN) => {
                return Err(format!("{request:?} let the hidden request in"));
            }
            Some(seen) => {
                forwarded += 1;
                let (lengths, codings) = (
                    seen.values("content-length").count(),
                    seen.values("transfer-encoding").count(),
                );
                if lengths + codings > 1 {
                    return Err(format!("{request:?} was passed on as {:?}", seen.headers));
                }
            }
            None => refused(&request, answer)?,
        }
    }
    let reached = target.reached().await - before;
    // One may have been cut off by what followed; more are smuggled.
    if reached > forwarded.max(1) {
        return Err(format!("{request:?} reached the workload {reached} times"));
    }
    Ok(())
}

fn hidden(target: &Target) -> String {
    format!(
        "GET /{HIDDEN} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        target.host()
    )
}

/// Header lines that two servers may read as two lengths.
const TWO_LENGTHS: &[&str] = &[
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: Chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding:\tchunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding : chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n",
    "Content-Length: 4\r\n Transfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked, identity\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: identity, chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: gzip, chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: \"chunked\"\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked;x=y\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\u{b}\r\n",
    "Content-Length: 4\r\nTransfer_Encoding: chunked\r\n",
    "Content-Length: 4\r\nX: y\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nX: y\rTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nConnection: Content-Length\r\n",
    "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
    "Content-Length: 4\r\nContent-Length: 0\r\n",
    "Content-Length: 0\r\nContent-Length: 4\r\n",
    "Content-Length: 4, 0\r\n",
    "Content-Length: 4, 4\r\n",
    "Content-Length: +4\r\n",
    "Content-Length: -4\r\n",
    "Content-Length: 0x4\r\n",
    "Content-Length: 4 \r\n",
    "Content-Length: 4.0\r\n",
    "Content-Length: 4e0\r\n",
    "Content-Length:\r\n",
    "Content-Length: \r\n",
    "Content-Length: 18446744073709551620\r\n",
    "Content-Length : 4\r\n",
    "Content_Length: 4\r\n",
    "Content-Length: \u{664}\r\n",
];

pub(super) async fn a_request_with_two_lengths_hides_no_other(
    target: &Target,
) -> Result<(), String> {
    let hidden = hidden(target);
    for lengths in TWO_LENGTHS {
        for body in [format!("0\r\n\r\n{hidden}"), format!("abcd{hidden}")] {
            hides_nothing(target, &format!("POST /outer HTTP/1.1\r\n{lengths}"), &body).await?;
        }
    }
    // Bodies where nobody expects one, and sizes of chunks that are none.
    let chunked = "POST /outer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n";
    for size in [
        "0x0",
        "-0",
        "+0",
        " 0",
        "0 ",
        "00000000000000000000",
        "fffffffffffffffff",
        "0;\n",
        "0\n",
        "1;x=\r\n\r\n",
        "",
        "g",
        "0,0",
        "\u{b}0",
    ] {
        hides_nothing(target, chunked, &format!("{size}\r\n\r\n{hidden}")).await?;
    }
    hides_nothing(target, chunked, &format!("1\r\nab\r\n0\r\n\r\n{hidden}")).await?;
    hides_nothing(target, chunked, &format!("1\r\na0\r\n\r\n{hidden}")).await?;
    hides_nothing(target, chunked, &format!("0\r\nX: y\r\n\r\n{hidden}")).await?;
    for line in [
        "GET /outer HTTP/1.1",
        "DELETE /outer HTTP/1.1",
        "POST /outer HTTP/1.0",
    ] {
        let head = format!("{line}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n");
        hides_nothing(target, &head, &format!("0\r\n\r\n{hidden}")).await?;
    }
    hides_nothing(target, "GET /outer HTTP/1.1\r\n", &hidden).await
}

/// A second request on the connection of a first one that may pass is not let in by it.
pub(super) async fn a_hidden_request_is_authenticated_by_itself(
    target: &Target,
) -> Result<(), String> {
    let (host, hidden) = (target.host(), hidden(target));
    let first = format!(
        "GET /outer HTTP/1.1\r\nHost: {host}\r\n{}\r\n{hidden}",
        target.cookie_line()
    );
    let answers = target.send(first.as_bytes()).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    match statuses[..] {
        [200, 401 | 302] => Ok(()),
        _ => Err(format!("two requests on one connection got {statuses:?}")),
    }
}

pub(super) async fn a_malformed_request_is_refused(target: &Target) -> Result<(), String> {
    let host = target.host();
    let malformed = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX : y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n: y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX\0: y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: \0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: y\r\n folded\r\n\r\n"),
        format!("GET /\0 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET  / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.2\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/3.0\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/0.9\r\nHost: {host}\r\n\r\n"),
        format!("GET / http/1.1\r\nHost: {host}\r\n\r\n"),
        "GET /\r\n\r\n".to_owned(),
        format!("G\u{e9}T / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /\u{e9} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        "\r\n\r\n\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
        "NONSENSE\r\n\r\n".to_owned(),
    ];
    let before = target.reached().await;
    for request in malformed {
        for answer in target.send(request.as_bytes()).await {
            refused(&request, &answer)?;
        }
        // A session makes nothing of it acceptable, but may let it pass where it is harmless.
        let with = request.replacen("\r\n", &format!("\r\n{}", target.cookie_line()), 1);
        for answer in target.send(with.as_bytes()).await {
            if answer.status >= 500 {
                return Err(format!("{request:?} got {} with a session", answer.status));
            }
        }
    }
    // Only what is no more than unusual may have passed, and only with a session: no `Host`, two of
    // them, or letters that are not ASCII.
    let reached = target.reached().await - before;
    if reached > 3 {
        return Err(format!("{reached} malformed requests reached the workload"));
    }
    Ok(())
}

pub(super) async fn an_upgrade_needs_a_session(target: &Target) -> Result<(), String> {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let host = target.host();
    let ask = |line: &str, headers: &str| format!("{line}\r\nHost: {host}\r\n{headers}\r\n");
    let hidden = hidden(target);
    let requests = [
        ask("GET /ws HTTP/1.1", websocket),
        ask(
            "GET /ws HTTP/1.1",
            &format!("{websocket}Origin: https://{host}\r\n"),
        ),
        ask("GET /ws HTTP/1.1", &websocket.replace("13", "12")) + &hidden,
        ask("GET /ws HTTP/1.1", websocket) + &hidden,
        ask("GET /oauth2/auth HTTP/1.1", websocket) + &hidden,
        ask("POST /ws HTTP/1.1", websocket),
        ask(
            "GET /ws HTTP/1.1",
            &websocket.replace("websocket", "anything"),
        ),
        ask(
            "GET /ws HTTP/1.1",
            &websocket.replace("websocket", "h2c, websocket"),
        ),
    ];
    target.keeps_out(&requests).await?;
    // A page of another site that uses somebody's session (cross-site WebSocket hijacking).
    let foreign = format!(
        "{websocket}Origin: https://evil.test\r\n{}",
        target.cookie_line()
    );
    for answer in target
        .send(ask("GET /ws HTTP/1.1", &foreign).as_bytes())
        .await
    {
        refused("a WebSocket of another site", &answer)?;
    }
    Ok(())
}

pub(super) async fn h2c_is_not_switched_to(target: &Target) -> Result<(), String> {
    for upgrade in ["h2c", "H2C", "h2c-14", "h2c, websocket"] {
        let headers = format!(
            "Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        );
        let host = target.host();
        for cookies in [String::new(), target.cookie_line()] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{cookies}{headers}\r\n");
            for answer in target.send(request.as_bytes()).await {
                let upgraded = reflection(&answer).map(|seen| seen.values("upgrade").count());
                if answer.status == 101 || upgraded.is_some_and(|count| count > 0) {
                    return Err(format!("{request:?} got {}", answer.status));
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn headers_without_end_are_refused(target: &Target) -> Result<(), String> {
    let host = target.host();
    let large = "x".repeat(100_000);
    let many = "X: y\r\n".repeat(5000);
    let requests = [
        format!("GET /{large} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {large}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n{large}: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {large}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {large}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        format!("{large} / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ];
    for request in requests {
        let shown: String = request.chars().take(60).collect();
        for answer in target.send(request.as_bytes()).await {
            match answer.status {
                400 | 413 | 414 | 431 => {}
                status => return Err(format!("{shown:?}… got {status}")),
            }
        }
    }
    let answer = target.ask("GET /requests", &target.cookie_line()).await;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("afterwards, a session got {status}")),
    }
}

/// A body that never ends, from somebody without a session: the answer comes all the same.
pub(super) async fn a_body_without_end_is_not_waited_for(target: &Target) -> Result<(), String> {
    let host = target.host();
    let chunks = "1000\r\n".to_owned() + &"x".repeat(0x1000) + "\r\n";
    for length in ["Transfer-Encoding: chunked", "Content-Length: 99999999999"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\n") + &chunks.repeat(64);
        let answers = target.send(request.as_bytes()).await;
        match answers.first().map(|answer| answer.status) {
            Some(401 | 403) | None => {}
            Some(status) => return Err(format!("an endless body got {status}")),
        }
    }
    Ok(())
}

/// `100 Continue` would invite the body of somebody who may not send one.
pub(super) async fn an_expectation_is_not_met_before_authentication(
    target: &Target,
) -> Result<(), String> {
    let host = target.host();
    for expectation in [
        "100-continue",
        "100-Continue",
        "nonsense",
        "100-continue, x",
        "",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: {expectation}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        );
        let answers = target.send(request.as_bytes()).await;
        match answers.first().map(|answer| answer.status) {
            Some(401 | 403 | 417) => {}
            other => return Err(format!("Expect: {expectation} got {other:?}")),
        }
    }
    Ok(())
}

/// Neither markup nor anything else of a request is in an answer of ours.
pub(super) async fn nothing_that_was_sent_is_reflected(target: &Target) -> Result<(), String> {
    let canary = "canary'\"><b>x";
    let encoded = "canary%27%22%3E%3Cb%3Ex";
    let lines = [
        format!("GET /{encoded}"),
        format!("GET /?{encoded}"),
        format!("POST /{encoded}"),
        format!("GET /oauth2/{encoded}"),
        format!("GET /oauth2/callback?error={encoded}&error_description={encoded}&state={encoded}"),
        format!("GET /oauth2/callback?code={encoded}&state={encoded}&iss={encoded}"),
        format!("GET /oauth2/auth?allowed_emails={encoded}"),
        format!("GET /oauth2/sign_out?x={encoded}"),
        "CONNECT canary:1".to_owned(),
        "CANARY /".to_owned(),
    ];
    let headers = format!(
        "User-Agent: {canary}\r\nX-Request-Id: {canary}\r\nAuthorization: Bearer {canary}\r\n\
         Referer: {canary}\r\nCookie: {canary}={canary}; {}={canary}\r\n",
        target.cookie
    );
    for line in lines {
        for accept in ["text/html", "application/json"] {
            let headers = format!("Accept: {accept}\r\n{headers}");
            let answer = target.ask(&line, &headers).await;
            refused(&line, &answer).or_else(|error| match answer.status {
                200 | 501 if line.contains("sign_out") => Ok(()),
                _ => Err(error),
            })?;
            let told = format!("{:?}{}", answer.headers, answer.text());
            if told.contains("canary'") || told.contains("<b>x") {
                return Err(format!("{line} is reflected in {told}"));
            }
        }
    }
    Ok(())
}
