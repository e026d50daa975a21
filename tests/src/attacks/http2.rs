//! Requests over HTTP/2 that no library would send: frames by hand (RFC 9113), headers as literals
//! (RFC 7541 §6.2.2).

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::wire::Wire;

use super::target::Target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A length, and the text as it is.
fn literal(text: &str) -> Vec<u8> {
    let mut bytes = match u8::try_from(text.len()) {
        Ok(length) if length < 127 => vec![length],
        _ => {
            // RFC 7541 §5.1, for what 14 bits hold.
            let rest = text.len() - 127;
            let low = u8::try_from(rest & 127).expect("seven bits");
            let high = u8::try_from(rest >> 7).expect("a short text");
            vec![127, low | 128, high]
        }
    };
    bytes.extend(text.as_bytes());
    bytes
}

/// Sends one request with these fields, pseudo-fields among them, and returns the body of the answer;
/// nothing if the stream or the connection was refused.
///
/// # Panics
/// If the proxy keeps silent.
pub async fn ask(address: std::net::SocketAddr, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        block.extend(literal(name));
        block.extend(literal(value));
    }
    let mut wire = Wire::connect(address).await;
    wire.send(PREFACE).await;
    wire.send(&frame(SETTINGS, 0, 0, &[])).await;
    wire.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
        .await;
    let body = timeout(PATIENCE, answer(&mut wire)).await;
    body.unwrap_or_else(|_elapsed| panic!("{fields:?} got no answer"))
}

async fn answer(wire: &mut Wire) -> Vec<u8> {
    let mut body = Vec::new();
    // A connection that ends is a refusal like any other.
    while let Ok(head) = wire.bytes(9).await {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let Ok(payload) = wire
            .bytes(usize::try_from(length).unwrap_or_default())
            .await
        else {
            break;
        };
        match kind {
            SETTINGS if flags & ACK == 0 => wire.send(&frame(SETTINGS, ACK, 0, &[])).await,
            DATA => body.extend(payload),
            RST_STREAM | GOAWAY => break,
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            break;
        }
    }
    body
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn get<'a>(host: &'a str, path: &'a str) -> Fields<'a> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", host),
        (":path", path),
    ]
}

async fn reaches(target: &Target, fields: &[(&str, &str)]) -> bool {
    let body = ask(target.address, fields).await;
    String::from_utf8_lossy(&body).contains("\"body_sha256\"")
}

/// Fields that contradict a request, or that HTTP/2 does not have (RFC 9113 §8.2 and §8.3).
const EXTRA: &[(&str, &str)] = &[
    (":path", "/public/x"),
    (":method", "POST"),
    (":authority", "evil.test"),
    (":unknown", "x"),
    ("Host", "evil.test"),
    ("host", "evil.test\r\nX: y"),
    ("x y", "z"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("content-length", "5"),
    ("te", "gzip"),
];

pub(super) async fn a_pseudo_header_makes_nothing_public(target: &Target) -> Result<(), String> {
    let (host, public) = (target.host(), &target.public);
    if !reaches(target, &get(&host, &format!("{public}/x"))).await {
        return Err("a public path is not public over HTTP/2".to_owned());
    }
    let paths = [
        format!("{public}/../private"),
        format!("{public}/%2e%2e/private"),
        format!("/private#{public}"),
        format!("/private?{public}"),
        format!("http://{host}{public}/../private"),
        format!("http://{host}/private"),
        format!("//{host}{public}/x"),
        public.trim_start_matches('/').to_owned(),
        format!("{public}/x HTTP/1.1\r\nHost: {host}\r\n\r\nGET /private"),
        format!("{public}/x\r\nX: y"),
        format!("{public} /x"),
        format!("{public}\t/x"),
        format!("{public}/\0"),
        "*".to_owned(),
        String::new(),
    ];
    let before = target.reached().await;
    for path in &paths {
        if reaches(target, &get(&host, path)).await {
            return Err(format!(":path {path:?} reached the workload"));
        }
    }
    for extra in EXTRA {
        let mut fields = get(&host, "/private");
        fields.push(*extra);
        if reaches(target, &fields).await {
            return Err(format!("{extra:?} reached the workload"));
        }
    }
    if target.reached().await > before {
        return Err("a request over HTTP/2 reached the workload".to_owned());
    }
    Ok(())
}

/// A refusal comes at once.
const PATIENCE: Duration = Duration::from_secs(10);
