//! What the echo upstream tells about a request.

use aws_lc_rs::digest;
use bytes::Bytes;
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};

use super::body::hex;
use super::raw::{RawHead, text};

/// A request as the upstream received it: the JSON answer to any path that has no other meaning.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reflection {
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Every field line: over HTTP/1 in the case and order in which it was sent, over HTTP/2 grouped
    /// by name. Bytes that are not UTF-8 appear as U+0080 to U+00FF, one each.
    pub headers: Vec<(String, String)>,
    /// Bytes of the decoded body.
    pub body_length: u64,
    /// SHA-256 of the decoded body, in lower-case hexadecimal.
    pub body_sha256: String,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Reflection {
    /// The values of the fields with this name, in any case, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Describes a request whose body is not waited for.
    pub(crate) fn of_head(parts: &Parts, raw: Option<RawHead>) -> Self {
        let head = raw.unwrap_or_else(|| parsed_head(parts));
        Self {
            method: head.method,
            target: head.target,
            version: format!("{:?}", parts.version),
            headers: head.headers,
            body_length: 0,
            body_sha256: hex(&digest::digest(&digest::SHA256, b"")),
            trailers: Vec::new(),
        }
    }

    /// Adds what comes after the head, reading the body to its end.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub(crate) async fn with_body<B>(mut self, mut body: B) -> Result<Self, B::Error>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut context = digest::Context::new(&digest::SHA256);
        while let Some(frame) = body.frame().await.transpose()? {
            match frame.into_data() {
                Ok(data) => {
                    context.update(&data);
                    self.body_length = self.body_length.saturating_add(data.len() as u64);
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.trailers.extend(field_lines(&trailers));
                }
            }
        }
        self.body_sha256 = hex(&context.finish());
        Ok(self)
    }
}

/// Of HTTP/2, where case and order do not exist, what hyper parsed is all there is.
fn parsed_head(parts: &Parts) -> RawHead {
    RawHead {
        method: parts.method.to_string(),
        target: parts
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: field_lines(&parts.headers),
    }
}

fn field_lines(fields: &http::HeaderMap) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect()
}
