//! The log of requests that the emulator received, and counters, for tests to assert on.

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::digest;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::faults::{Endpoint, Fault};
use super::form::Params;

/// The answer of `GET /_emulator/requests`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RequestLog {
    /// By endpoint, or by `token/<grant type>`; since the start or the last clearing.
    pub counters: BTreeMap<String, Counter>,
    /// The newest requests, oldest first.
    pub requests: Vec<RequestRecord>,
}

impl RequestLog {
    /// How many requests one counter counted.
    pub fn count(&self, counter: &str) -> u64 {
        self.counters
            .get(counter)
            .map_or(0, |counter| counter.requests)
    }
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counter {
    /// All that arrived.
    pub requests: u64,
    /// Those that were answered with a status below 400.
    pub succeeded: u64,
}

/// One request. Values that are or may be secret are replaced by `sha256:` and the first 16 digits
/// of their digest, so that tests can tell whether two are the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RequestRecord {
    /// Counts from 1.
    pub number: u64,
    /// Seconds since 1970, by the emulator's clock.
    pub at: i64,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The parameters of the query.
    pub query: Vec<(String, String)>,
    /// The parameters of the form.
    pub form: Vec<(String, String)>,
    /// The scheme of the `Authorization` field.
    pub authorization: Option<String>,
    /// The client, if the request names one.
    pub client_id: Option<String>,
    /// The status of the answer; absent while there is none, or when the connection was reset.
    pub status: Option<u16>,
    /// Why the request was refused.
    pub reason: Option<String>,
    /// The fault that was ordered for it.
    pub fault: Option<Fault>,
}

impl RequestRecord {
    pub(crate) fn of(parts: &Parts, form: &Params, at: i64) -> Self {
        let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let (scheme, credentials) = header.and_then(|value| value.split_once(' ')).unzip();
        let named = form
            .get("client_id")
            .or_else(|| query.get("client_id"))
            .map(str::to_owned);
        Self {
            number: 0,
            at,
            endpoint: Endpoint::of(parts.uri.path()),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: redacted(&query),
            form: redacted(form),
            authorization: scheme.map(str::to_owned),
            client_id: named.or_else(|| basic_user(scheme?, credentials?)),
            status: None,
            reason: None,
            fault: None,
        }
    }
}

/// Collects records; see [`RequestLog`].
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last_number: u64,
    counters: BTreeMap<String, Counter>,
    records: VecDeque<RequestRecord>,
}

impl Requests {
    /// Adds a request that has no answer yet; returns its number.
    pub(crate) fn arrived(&mut self, record: RequestRecord, grant_type: Option<&str>) -> u64 {
        self.last_number += 1;
        for key in counters_of(record.endpoint, grant_type) {
            self.counters.entry(key).or_default().requests += 1;
        }
        if self.records.len() >= RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(RequestRecord {
            number: self.last_number,
            ..record
        });
        self.last_number
    }

    /// Adds the answer.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        grant_type: Option<&str>,
        status: u16,
        reason: Option<String>,
    ) {
        let Some(record) = self
            .records
            .iter_mut()
            .find(|record| record.number == number)
        else {
            return;
        };
        (record.status, record.reason) = (Some(status), reason);
        if status < 400 {
            for key in counters_of(record.endpoint, grant_type) {
                self.counters.entry(key).or_default().succeeded += 1;
            }
        }
    }

    pub(crate) fn log(&self) -> RequestLog {
        let requests = self.records.iter().cloned().collect();
        RequestLog {
            counters: self.counters.clone(),
            requests,
        }
    }

    /// Empties log and counters.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.counters.clear();
    }
}

fn counters_of(endpoint: Endpoint, grant_type: Option<&str>) -> impl Iterator<Item = String> {
    // Only known grant types are told apart, so that nobody can make counters without end.
    let known = grant_type.and_then(|sent| GRANT_TYPES.iter().find(|(uri, _)| *uri == sent));
    let detail = known.map(|(_, name)| format!("token/{name}"));
    let detail = detail.filter(|_| endpoint == Endpoint::Token);
    std::iter::once(endpoint.name().to_owned()).chain(detail)
}

fn basic_user(scheme: &str, credentials: &str) -> Option<String> {
    let decoded = STANDARD.decode(credentials.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, _) = text.split_once(':')?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| user.to_owned())
}

fn redacted(params: &Params) -> Vec<(String, String)> {
    let pairs = params.pairs().iter().map(|(name, value)| {
        let open = OPEN_PARAMETERS.contains(&name.as_str());
        let short: String = value.chars().take(VALUE_LENGTH_MAX).collect();
        (name.clone(), if open { short } else { fingerprint(value) })
    });
    pairs.collect()
}

/// What stands for a secret in the log.
pub fn fingerprint(value: &str) -> String {
    let digest = digest::digest(&digest::SHA256, value.as_bytes());
    let start = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("sha256:{:016x}", u64::from_be_bytes(start))
}

const RECORDS_MAX: usize = 1000;
const VALUE_LENGTH_MAX: usize = 2000;
/// Everything else is shown as a fingerprint: a new parameter is secret until it is listed here.
const OPEN_PARAMETERS: &[&str] = &[
    "access_type",
    "all",
    "authentication_policies",
    "client_id",
    "code_challenge_method",
    "decision",
    "grant_type",
    "identity",
    "ids",
    "include",
    "login_hint",
    "prompt",
    "redirect_name",
    "redirect_uri",
    "response_type",
    "scope",
    "session_message",
    "session_required_identities",
    "session_required_mfa",
    "session_required_policies",
    "session_required_single_domain",
    "statuses",
    "token_type_hint",
    "usernames",
];
const GRANT_TYPES: &[(&str, &str)] = &[
    ("authorization_code", "authorization_code"),
    ("client_credentials", "client_credentials"),
    ("refresh_token", "refresh_token"),
    (
        "urn:globus:auth:grant_type:dependent_token",
        "dependent_token",
    ),
];
