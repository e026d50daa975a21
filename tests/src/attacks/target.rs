//! The proxy that is attacked, and raw requests to it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use crate::echo::Reflection;
use crate::harness::Browser;
use crate::harness::secrets::Secrets;
use crate::harness::wire::{Answer, Wire};

/// A running proxy, and a way in that an attacker does not have.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where users reach it.
    pub url: Url,
    /// Where it listens.
    pub address: SocketAddr,
    /// The name of its session cookie.
    pub cookie: String,
    /// The value of the cookie of a session that may enter.
    pub session: String,
    /// Below it, `GET` and `HEAD` are for everybody.
    pub public: String,
    /// What must not be in a log.
    pub secrets: Secrets,
}

impl Target {
    /// The host and port that users type.
    pub(super) fn host(&self) -> String {
        self.url.authority().to_owned()
    }

    /// The `Cookie` line of the session.
    pub(super) fn cookie_line(&self) -> String {
        format!("Cookie: {}={}\r\n", self.cookie, self.session)
    }

    /// A browser without cookies.
    pub(super) fn browser(&self) -> Browser {
        Browser::new(self.url.as_str(), self.address, self.secrets.clone())
    }

    /// A request of HTTP/1.1 that ends its connection, with further header lines.
    pub(super) fn request(&self, line: &str, headers: &str) -> String {
        let host = self.host();
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n")
    }

    /// Sends bytes on a connection of their own, and reads every answer until it ends. An attack is
    /// answered or cut off; the proxy does not wait for more than there is.
    pub(super) async fn send(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut wire = Wire::connect(self.address).await;
        wire.send(bytes).await;
        let mut answers = Vec::new();
        let mut is_finished = false;
        loop {
            match timeout(PATIENCE, wire.try_answer()).await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(_end)) => return answers,
                // A peer that waits for more is told that there is none. Only then, because closing one
                // side before the answer is giving up for many servers.
                Err(_elapsed) => {
                    assert!(!is_finished, "a connection is kept open that has ended");
                    wire.finish().await;
                    is_finished = true;
                }
            }
        }
    }

    /// The one answer to a request.
    pub(super) async fn ask(&self, line: &str, headers: &str) -> Answer {
        let request = self.request(line, headers);
        Wire::connect(self.address).await.ask(&request).await
    }

    /// What the workload saw of a request with the session.
    pub(super) async fn seen(&self, line: &str, headers: &str) -> Result<Reflection, String> {
        let headers = format!("{}{headers}", self.cookie_line());
        let answer = self.ask(line, &headers).await;
        reflection(&answer).ok_or_else(|| format!("{line} with a session got {}", answer.status))
    }

    /// How many requests reached the workload so far.
    pub(super) async fn reached(&self) -> u64 {
        let answer = self.ask("GET /requests", &self.cookie_line()).await;
        let count = answer.json::<Value>()["requests"].as_u64();
        count.expect("the workload is the echo upstream")
    }

    /// Sends each request on a connection of its own, without a session; none may reach the workload, and
    /// each gets an answer of the 4xx family, or a way to log in.
    pub(super) async fn keeps_out(&self, requests: &[String]) -> Result<(), String> {
        let before = self.reached().await;
        for request in requests {
            for answer in self.send(request.as_bytes()).await {
                refused(request, &answer)?;
            }
        }
        let reached = self.reached().await - before;
        if reached > 0 {
            return Err(format!("{reached} requests reached the workload"));
        }
        Ok(())
    }
}

/// Whether an answer lets nobody in and is no failure of ours.
pub(super) fn refused(request: &str, answer: &Answer) -> Result<(), String> {
    match answer.status {
        _ if reflection(answer).is_some() => Err(format!("{request:?} reached the workload")),
        302 | 400..500 => Ok(()),
        status => Err(format!("{request:?} got {status}")),
    }
}

/// What the workload saw, if it was the workload that answered.
pub(super) fn reflection(answer: &Answer) -> Option<Reflection> {
    serde_json::from_slice(&answer.body).ok()
}

/// Much longer than an answer takes that nobody is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
