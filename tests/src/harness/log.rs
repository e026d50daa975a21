//! The sidecar's log, line by line as it is written.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::Value;

/// Collects the lines of one process on a thread of its own, so that the last ones can be read when no
/// runtime runs any more.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                collected.lock().push(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The first line with this message.
    pub(crate) fn find(&self, message: &str) -> Option<Value> {
        self.events()
            .into_iter()
            .find(|line| line["message"] == message)
    }

    /// Whether one of the last lines has this message.
    pub(crate) fn ends_with(&self, message: &str) -> bool {
        let message = format!("\"message\":\"{message}\"");
        let lines = self.lines.lock();
        lines
            .iter()
            .rev()
            .take(LAST)
            .any(|line| line.contains(&message))
    }

    /// Every line, as JSON.
    ///
    /// # Panics
    /// If a line is not JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        let parse = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.lines.lock().iter().map(parse).collect()
    }

    /// Waits until the process has closed its output, which it does when it ends.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader does not panic");
        }
    }
}

const LAST: usize = 20;
