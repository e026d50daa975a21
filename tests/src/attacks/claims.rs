//! What a client says about itself.

use crate::echo::Reflection;

use super::target::{Target, reflection};

const FORGED: &str = "forged@evil.test";

/// Names by which workloads, frameworks and proxies learn who a user is.
const IDENTITY: &[&str] = &[
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Anything-Else",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Access-Token",
    "X-Auth-Request-Redirect",
    "X-Globus-Auth-User",
    "X-Globus-Auth-Login-Url",
    "Remote-User",
    "Remote-Email",
    "Remote-Groups",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Extra-Scopes",
    "X-Email",
    "X-User",
];

/// Names by which they learn where a request comes from and what it was for.
const ORIGIN: &[&str] = &[
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-Server",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-Real-IP",
    "Client-IP",
    "X-Client-IP",
    "True-Client-IP",
    "X-Cluster-Client-IP",
];

/// The name in every spelling that some server reads as the same.
fn spellings(name: &str) -> Vec<String> {
    let mixed: String = name
        .chars()
        .enumerate()
        .map(|(at, c)| match at % 2 {
            0 => c.to_ascii_lowercase(),
            _ => c.to_ascii_uppercase(),
        })
        .collect();
    vec![
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        mixed,
        name.replace('-', "_"),
        name.replacen('-', "_", 1),
        name.to_uppercase().replace('-', "_"),
    ]
}

/// Every spelling of every name, twice over, as header lines; in portions, because servers refuse more
/// than about a hundred.
fn portions(names: &[&str], value: &str) -> Vec<String> {
    let spelled: Vec<String> = names.iter().flat_map(|name| spellings(name)).collect();
    let lines = |portion: &[String]| {
        portion.iter().fold(String::new(), |lines, name| {
            format!("{lines}{name}: {value}\r\n{name}: {value}\r\n")
        })
    };
    spelled.chunks(NAMES_AT_ONCE).map(lines).collect()
}

/// No header or trailer that the workload saw is the client's invention, and the user is named once.
fn untouched(seen: &Reflection, users: usize) -> Result<(), String> {
    let fields = seen.headers.iter().chain(&seen.trailers);
    for (name, value) in fields.clone() {
        if value.contains(FORGED) {
            return Err(format!("{name}: {value} reached the workload"));
        }
    }
    let named = |wanted: &str| {
        let normal = |name: &str| name.to_ascii_lowercase().replace('_', "-");
        fields
            .clone()
            .filter(|(name, _)| normal(name) == wanted)
            .count()
    };
    for name in ["x-forwarded-user", "x-forwarded-email"] {
        if named(name) != users {
            return Err(format!("the workload saw {name} {} times", named(name)));
        }
    }
    Ok(())
}

pub(super) async fn an_identity_that_a_client_claims_reaches_nobody(
    target: &Target,
) -> Result<(), String> {
    for headers in portions(IDENTITY, FORGED) {
        untouched(&target.seen("GET /", &headers).await?, 1)?;
    }
    // One at a time as well: what hides behind another header must not come out without it.
    for name in IDENTITY.iter().flat_map(|name| spellings(name)) {
        let seen = target
            .seen("GET /", &format!("{name}: {FORGED}\r\n"))
            .await?;
        untouched(&seen, 1)?;
    }
    Ok(())
}

pub(super) async fn an_identity_on_a_public_path_reaches_nobody(
    target: &Target,
) -> Result<(), String> {
    let line = format!("GET {}/x", target.public);
    for headers in portions(IDENTITY, FORGED) {
        let answer = target.ask(&line, &headers).await;
        let seen = reflection(&answer);
        let seen = seen.ok_or_else(|| format!("a public path got {}", answer.status))?;
        untouched(&seen, 0)?;
    }
    Ok(())
}

pub(super) async fn addresses_and_names_that_a_client_claims_do_not_count(
    target: &Target,
) -> Result<(), String> {
    for value in [
        FORGED,
        "::ffff:127.0.0.1, forged@evil.test",
        "for=127.0.0.1;host=forged@evil.test",
    ] {
        for headers in portions(ORIGIN, value) {
            let seen = target.seen("GET /", &headers).await?;
            untouched(&seen, 1)?;
            let count = |name| seen.values(name).count();
            if ["x-forwarded-for", "x-forwarded-host", "host"].map(count) != [1, 1, 1] {
                return Err(format!("the workload saw {:?}", seen.headers));
            }
        }
    }
    // Without a session they open nothing, whoever they claim to come from.
    let trusted = [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "::ffff:127.0.0.1",
        "127.0.0.1, 203.0.113.9",
        "",
    ];
    let headers = trusted.iter().flat_map(|value| portions(ORIGIN, value));
    let requests: Vec<String> = headers
        .map(|headers| target.request("GET /", &headers))
        .collect();
    target.keeps_out(&requests).await
}

pub(super) async fn a_connection_header_removes_no_identity(target: &Target) -> Result<(), String> {
    let listed = [
        "x-forwarded-email, x-forwarded-user",
        "X-Forwarded-Email,X-Forwarded-User,Host,Cookie",
        "close, X_Forwarded_Email",
        "keep-alive, x-forwarded-email;q=1",
    ];
    for listed in listed {
        let seen = target
            .seen("GET /", &format!("Connection: {listed}\r\n"))
            .await?;
        untouched(&seen, 1)?;
        if seen.values("connection").count() > 0 || seen.values("host").count() != 1 {
            return Err(format!("the workload saw {:?}", seen.headers));
        }
    }
    // Nor does it hide a claim from whoever looks for it.
    let hidden = format!("Connection: X-Forwarded-Email\r\nX-Forwarded-Email: {FORGED}\r\n");
    untouched(&target.seen("GET /", &hidden).await?, 1)
}

pub(super) async fn a_trailer_claims_no_identity(target: &Target) -> Result<(), String> {
    let names = [IDENTITY, ORIGIN].concat();
    for trailers in portions(&names, FORGED) {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\n{}TE: trailers\r\nTrailer: {}, X-Checksum\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Checksum: 1\r\n{trailers}\r\n",
            target.host(),
            target.cookie_line(),
            names.join(", "),
        );
        // To refuse so many trailers is as good as to drop them.
        for answer in target.send(request.as_bytes()).await {
            match reflection(&answer) {
                Some(seen) => untouched(&seen, 1)?,
                None if matches!(answer.status, 400..500) => {}
                None => return Err(format!("trailers got {}", answer.status)),
            }
        }
    }
    Ok(())
}

const NAMES_AT_ONCE: usize = 40;
