//! Standard output, written by a thread of its own, many lines at once.
//!
//! A line for each request is a system call for each request if it is written at once. So those lines
//! are collected for a moment. All others are written without waiting, with everything before them; what
//! is left is written when the program ends.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where lines are collected.
#[derive(Clone, Debug)]
pub(super) struct Output(Arc<Shared>);

/// Writes what is left when it is dropped. To be kept until the program ends.
#[derive(Debug)]
#[must_use = "what is logged last is lost without it"]
pub struct Flushing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// There is something to write, or to write at once.
    work: Condvar,
    /// There is room again.
    room: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    pending: Vec<u8>,
    urgent: bool,
    ended: bool,
}

/// Starts a thread that writes to `target`.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(target: impl Write + Send + 'static) -> io::Result<(Output, Flushing)> {
    let shared = Arc::new(Shared::default());
    let of_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || of_thread.write_to(target))?;
    let output = Output(Arc::clone(&shared));
    let flushing = Flushing {
        shared,
        thread: Some(thread),
    };
    Ok((output, flushing))
}

impl Shared {
    fn add(&self, line: &[u8], urgent: bool) {
        let mut lines = self.lines.lock();
        // A reader that does not read stops the program, as it would without a buffer: nothing is lost.
        while lines.pending.len() >= MAX_PENDING && !lines.ended {
            self.room.wait(&mut lines);
        }
        let was_empty = lines.pending.is_empty();
        let was_full = lines.pending.len() >= ENOUGH;
        lines.pending.extend_from_slice(line);
        let is_news = (urgent && !lines.urgent) || (lines.pending.len() >= ENOUGH && !was_full);
        lines.urgent |= urgent;
        if was_empty || is_news {
            self.work.notify_one();
        }
    }

    fn write_to(&self, mut target: impl Write) {
        let mut taken = Vec::new();
        loop {
            let ended = self.take(&mut taken);
            // Nobody reads any more: there is nowhere to say so.
            let written = target.write_all(&taken).and_then(|()| target.flush());
            written.unwrap_or_default();
            taken.clear();
            if ended {
                return;
            }
        }
    }

    /// Waits for lines and takes them; true if there will be no more.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let mut lines = self.lines.lock();
        while lines.pending.is_empty() && !lines.ended {
            self.work.wait(&mut lines);
        }
        let waits =
            |lines: &mut Lines| !lines.urgent && !lines.ended && lines.pending.len() < ENOUGH;
        // Whether the time is over or somebody is in a hurry, it is the same now.
        let _timeout = self.work.wait_while_for(&mut lines, waits, COLLECT);
        std::mem::swap(&mut lines.pending, taken);
        lines.urgent = false;
        self.room.notify_all();
        lines.ended
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        self.shared.lines.lock().ended = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nowhere to say so.
            thread.join().unwrap_or_default();
        }
    }
}

/// One line on its way.
#[derive(Debug)]
pub(super) struct Line<'a> {
    shared: &'a Shared,
    urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.add(bytes, self.urgent);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            shared: &self.0,
            urgent: true,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Line {
            shared: &self.0,
            urgent: metadata.target() != ACCESS || *metadata.level() <= Level::WARN,
        }
    }
}

/// The target of the lines that may wait.
const ACCESS: &str = "access";
/// How long lines are collected: short for whoever watches the log, long for a processor.
const COLLECT: Duration = Duration::from_millis(50);
/// Written at once: about 300 requests.
const ENOUGH: usize = 64 * 1024;
/// No more than this is kept for a reader that is slow.
const MAX_PENDING: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows what was written, and how often.
    #[derive(Clone, Debug, Default)]
    struct Target(Arc<(Mutex<Vec<Vec<u8>>>, Condvar)>);

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.0.lock().push(bytes.to_vec());
            self.0.1.notify_all();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target {
        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().concat()).unwrap()
        }

        /// Waits until so many bytes were written.
        fn wait(&self, length: usize) {
            let mut pieces = self.0.0.lock();
            let lacks = |pieces: &mut Vec<Vec<u8>>| pieces.concat().len() < length;
            let deadline = Duration::from_secs(20);
            let waited = self.0.1.wait_while_for(&mut pieces, lacks, deadline);
            assert!(!waited.timed_out(), "{pieces:?}");
        }
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let target = Target::default();
        let (output, flushing) = start(target.clone()).unwrap();
        for number in 0..1000 {
            output.0.add(format!("{number}\n").as_bytes(), false);
        }
        drop(flushing);
        let expected = (0..1000)
            .map(|number| number.to_string() + "\n")
            .collect::<String>();
        assert_eq!(target.text(), expected);
    }

    #[test]
    fn lines_are_written_before_the_end_and_together() {
        let target = Target::default();
        let (output, _flushing) = start(target.clone()).unwrap();
        output.0.add(b"first\n", false);
        output.0.add(b"second\n", false);
        target.wait(13);
        assert_eq!(target.text(), "first\nsecond\n");
    }

    #[test]
    fn what_is_urgent_takes_everything_before_it_along() {
        let target = Target::default();
        let (output, _flushing) = start(target.clone()).unwrap();
        output.0.add(b"access\n", false);
        output.0.add(b"warning\n", true);
        target.wait(15);
        assert_eq!(target.text(), "access\nwarning\n");
    }

    /// Writes nothing until it is let.
    struct Stuck(std::sync::mpsc::Receiver<()>, Target);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_slow_bounds_what_is_kept_and_loses_nothing() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let target = Target::default();
        let (output, flushing) = start(Stuck(stuck, target.clone())).unwrap();
        let line = vec![b'x'; ENOUGH];
        let lines = 3 * MAX_PENDING / ENOUGH;
        let shared = Arc::clone(&output.0);
        let writer = std::thread::spawn(move || {
            let mut most = 0;
            for _ in 0..lines {
                output.0.add(&line, false);
                most = most.max(shared.lines.lock().pending.len());
            }
            most
        });
        drop(let_go);
        let most = writer.join().unwrap();
        drop(flushing);
        assert!(most < MAX_PENDING + 2 * ENOUGH, "{most}");
        assert_eq!(target.text().len(), lines * ENOUGH);
    }
}
