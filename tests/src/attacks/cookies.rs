//! Session cookies that are nearly one.

use super::target::Target;

/// A request with these cookies must be treated as one without a session.
async fn is_nobody(target: &Target, cookies: &str) -> Result<(), String> {
    let request = target.request("GET /", &format!("Cookie: {cookies}\r\n"));
    let answers = target.send(request.as_bytes()).await;
    match answers.first().map(|answer| answer.status) {
        Some(302 | 400 | 401 | 431) | None => Ok(()),
        Some(status) => {
            let shown: String = cookies.chars().take(200).collect();
            Err(format!("the cookie {shown:?} got {status}"))
        }
    }
}

/// The session itself does enter; without this, the others would show nothing.
async fn is_somebody(target: &Target) -> Result<(), String> {
    target.seen("GET /", "").await.map(drop)
}

pub(super) async fn a_session_that_was_cut_anywhere_is_none(target: &Target) -> Result<(), String> {
    is_somebody(target).await?;
    let (name, session) = (&target.cookie, &target.session);
    for end in 0..session.len() {
        is_nobody(target, &format!("{name}={}", &session[..end])).await?;
        is_nobody(target, &format!("{name}={}", &session[end + 1..])).await?;
    }
    Ok(())
}

pub(super) async fn a_session_with_another_character_anywhere_is_none(
    target: &Target,
) -> Result<(), String> {
    is_somebody(target).await?;
    let (name, session) = (&target.cookie, &target.session);
    for at in 0..session.len() {
        // The last character of base64 may carry bits that mean nothing; a decoder must refuse those.
        let other = if session.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        let (before, after) = (&session[..at], &session[at + 1..]);
        is_nobody(target, &format!("{name}={before}{other}{after}")).await?;
        // A field boundary that moves by one must not go unnoticed.
        is_nobody(target, &format!("{name}={before}{other}{session}")).await?;
    }
    for noise in [
        "=", "==", "%3D", "+", "/", "~", "\u{e9}", "\\0", "%00", " x", "|0",
    ] {
        is_nobody(target, &format!("{name}={session}{noise}")).await?;
        is_nobody(target, &format!("{name}={noise}{session}")).await?;
    }
    Ok(())
}

pub(super) async fn a_session_by_another_name_is_none(target: &Target) -> Result<(), String> {
    is_somebody(target).await?;
    let (name, session) = (&target.cookie, &target.session);
    let names = [
        name.to_lowercase(),
        name.to_uppercase(),
        format!("{name}_0"),
        format!("{name}-login-AAAAAAAA"),
        format!("x{name}"),
        format!("{name}x"),
        format!("$Version=1; {name}x"),
        name.replace("__Host-", ""),
        name.replace("__Host-", "__Secure-"),
        name.replace('-', "_"),
        format!("\"{name}\""),
        String::new(),
    ];
    for other in names.iter().filter(|other| *other != name) {
        is_nobody(target, &format!("{other}={session}")).await?;
    }
    // Elsewhere than in `Cookie` it is nothing, either.
    for line in [
        format!("X-Cookie: {name}={session}\r\n"),
        format!("Cookie2: {name}={session}\r\n"),
        format!("Authorization: Bearer {session}\r\n"),
        format!("Set-Cookie: {name}={session}\r\n"),
    ] {
        target.keeps_out(&[target.request("GET /", &line)]).await?;
    }
    let query = format!("GET /?{name}={session}");
    target.keeps_out(&[target.request(&query, "")]).await
}

pub(super) async fn a_session_in_pieces_or_twice_over_is_none(
    target: &Target,
) -> Result<(), String> {
    is_somebody(target).await?;
    let (name, session) = (&target.cookie, &target.session);
    let (head, tail) = session.split_at(session.len() / 2);
    for cookies in [
        format!("{name}={session}{session}"),
        format!("{name}={session}.{session}"),
        format!("{name}={head}; {name}={tail}"),
        format!("{name}_0={head}; {name}_1={tail}"),
        format!("{name}_1={tail}; {name}_0={head}"),
        format!("{name}={head}; {name}_1={tail}"),
        format!("{name}={tail}{head}"),
        format!("{name}={head}\r\nCookie: {name}={tail}"),
        // A stale one before a good one: which of the two counts must not be for others to choose.
        format!("{name}={head}; {name}={session}"),
        format!("{name}=; {name}={session}"),
    ] {
        is_nobody(target, &cookies).await?;
    }
    Ok(())
}

pub(super) async fn an_endless_cookie_is_none(target: &Target) -> Result<(), String> {
    is_somebody(target).await?;
    let (name, session) = (&target.cookie, &target.session);
    for length in [1 << 10, 4 << 10, 16 << 10, 48 << 10] {
        let noise = "A".repeat(length);
        is_nobody(target, &format!("{name}={session}{noise}")).await?;
        is_nobody(target, &format!("{name}={noise}")).await?;
    }
    let many = format!("{name}=A; ").repeat(3000);
    is_nobody(target, &many).await?;
    // Nobody else's cookies keep the owner out.
    let others = format!("x={}; ", "A".repeat(20_000));
    let line = format!("Cookie: {others}{name}={session}\r\n");
    let answer = target.ask("GET /requests", &line).await;
    match answer.status {
        200 | 431 => Ok(()),
        status => Err(format!("a session among long cookies got {status}")),
    }
}
