//! An API server for tests: it answers as it is told, and remembers what it was asked.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The method and the path, without the query.
    pub(crate) line: String,
    /// The body; null if there was none.
    pub(crate) body: Value,
}

/// Everything that was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// What was asked, in its order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let calls = self.0.lock();
        calls.iter().map(|call| call.line.clone()).collect()
    }

    /// The body of the only call with this line.
    pub(crate) fn body(&self, line: &str) -> Value {
        let calls = self.0.lock();
        let mut found = calls.iter().filter(|call| call.line == line);
        let body = found.next().unwrap().body.clone();
        assert!(found.next().is_none(), "{line}");
        body
    }
}

/// A client of an API server that gives these answers.
pub(crate) fn client<Answering>(
    answer: impl Fn(Call) -> Answering + Clone + Send + Sync + 'static,
) -> (Client, Calls)
where
    Answering: Future<Output = (u16, Value)> + Send + 'static,
{
    let calls = Calls::default();
    let asked = calls.clone();
    let handler = async move |method: Method, uri: Uri, body: Bytes| {
        let call = Call {
            line: format!("{method} {}", uri.path()),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        asked.0.lock().push(call.clone());
        let (status, answer) = answer(call).await;
        (StatusCode::from_u16(status).unwrap(), answer.to_string())
    };
    (
        Client::new(Router::new().fallback(handler), "default"),
        calls,
    )
}

/// The answer of an API server that refuses.
pub(crate) fn failure(status: u16, reason: &str) -> (u16, Value) {
    let failure = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "reason": reason,
        "message": reason,
    });
    (status, failure)
}
