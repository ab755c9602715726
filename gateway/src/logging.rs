//! The log: lines on standard error, as text or as JSON.
//!
//! A thread of its own writes them, from a queue. So a shard never waits for a terminal, a pipe or a disk. If lines come
//! faster than they can be written, those beyond the queue are left out and counted (`stentor_log_lines_left_out`). A standard
//! error that is closed or full is no failure either: its lines count as left out.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use flume::{Receiver, Sender, TrySendError};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::log_levels::LogLevels;
use crate::log_limit;

/// Lines that wait to be written.
const LINES_MAX: usize = 1024;

/// Longest line. Nothing that clients send is in a line but names, so lines are far shorter.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// How long the end of the process waits for lines to be written.
const FLUSH_DURATION_MAX: Duration = Duration::from_secs(1);

/// The form of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    /// An object a line.
    Json,
}

/// The log of the process.
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
    levels: ArcSwap<LogLevels>,
    queue: LineQueue,
}

impl Logging {
    /// Starts the log. Fails if no thread can be had, or if the process has a log already.
    pub fn start(levels: &LogLevels, format: LogFormat) -> Result<Arc<Self>, String> {
        let (sender, waiting) = flume::bounded(LINES_MAX);
        let write = move || write_lines(&waiting, io::stderr());
        let failed = |error: &dyn std::fmt::Display| format!("the log cannot be started: {error}");
        thread::Builder::new().name("log".into()).spawn(write).map_err(|error| failed(&error))?;
        let queue = LineQueue(sender);
        let (filter, handle) = reload::Layer::new(levels.filter());
        // The library would say on standard error that it cannot write, and panic if it cannot say so.
        let lines = fmt::layer().with_writer(queue.clone()).log_internal_errors(false);
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().map_err(|error| failed(&error))?;
        Ok(Arc::new(Self { filter: handle, levels: ArcSwap::from_pointee(levels.clone()), queue }))
    }

    /// The levels in force.
    pub fn levels(&self) -> Arc<LogLevels> {
        self.levels.load_full()
    }

    /// Puts other levels in force, for all threads.
    pub fn set_levels(&self, levels: &LogLevels) {
        // It fails only if the log is gone, which lives as long as the process.
        let _ = self.filter.reload(levels.filter());
        self.levels.store(Arc::new(levels.clone()));
    }

    /// Waits until all lines so far are written, for a second at most.
    pub fn flush(&self) {
        let (done, written) = flume::bounded(1);
        if self.queue.0.send_timeout(Entry::Mark(done), FLUSH_DURATION_MAX).is_ok() {
            let _ = written.recv_timeout(FLUSH_DURATION_MAX);
        }
    }
}

/// What stands in the queue.
enum Entry {
    Line(Vec<u8>),
    /// All lines before it are written when this is answered.
    Mark(Sender<()>),
}

/// Takes lines and never waits.
#[derive(Clone)]
struct LineQueue(Sender<Entry>);

impl Write for LineQueue {
    /// Takes a whole line. The library hands each line over at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() > LINE_BYTES_MAX {
            log_limit::count_left_out();
        } else if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.0.try_send(Entry::Line(line.to_vec()))
        {
            log_limit::count_left_out();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn write_lines(waiting: &Receiver<Entry>, mut output: impl Write) {
    for entry in waiting {
        match entry {
            Entry::Line(line) => {
                if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                    log_limit::count_left_out();
                }
            }
            // If this fails, the caller no longer waits.
            Entry::Mark(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails at each write.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_queue_that_is_full_and_an_output_that_fails_cost_lines_and_nothing_else() {
        let (sender, waiting) = flume::bounded(2);
        let mut queue = LineQueue(sender);
        let before = log_limit::left_out();
        for _ in 0..5 {
            assert_eq!(queue.write(b"line\n").unwrap(), 5);
        }
        assert!(log_limit::left_out() >= before + 3);
        assert_eq!(queue.write(&[b'x'; LINE_BYTES_MAX + 1]).unwrap(), LINE_BYTES_MAX + 1);
        drop(queue);
        let before = log_limit::left_out();
        write_lines(&waiting, Full);
        assert!(log_limit::left_out() >= before + 2);
    }

    #[test]
    fn lines_come_whole_and_in_order() {
        let (sender, waiting) = flume::bounded(4);
        let mut queue = LineQueue(sender);
        for line in ["one\n", "two\n"] {
            queue.write_all(line.as_bytes()).unwrap();
        }
        let (done, written) = flume::bounded(1);
        queue.0.send(Entry::Mark(done)).unwrap();
        drop(queue);
        let mut output = Vec::new();
        write_lines(&waiting, &mut output);
        assert_eq!((output.as_slice(), written.recv()), (&b"one\ntwo\n"[..], Ok(())));
    }
}
