//! Log lines that requests cause, so many in a time and no more: a client that repeats a refused request must not fill
//! the disk with lines, nor hold a thread with writing them.
//!
//! Each call site has a limit of its own, so a line that repeats hides no other. A line that is left out is counted. The
//! next line from the same call site says how many were left out, and `/metrics` has the sum.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lines that one call site may write in an interval.
pub const LINES_MAX: u64 = 5;

/// The length of an interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes a line at a level (`info`, `warn` or `error`), with the members and the text of tracing's macros, unless this call
/// site has told enough for now.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($line:tt)+) => {{
        static CALL_SITE: $crate::log_limit::CallSite = $crate::log_limit::CallSite::new();
        if let $crate::log_limit::Line::Written { left_out } = CALL_SITE.next() {
            tracing::$level!(lines_left_out_before = left_out, $($line)+)
        }
    }};
}

/// The lines left out at all call sites since the process began.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// The number of lines that were left out since the process began.
pub fn left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Takes in that a line was left out elsewhere: it could not be written.
pub fn count_left_out() {
    LEFT_OUT.fetch_add(1, Relaxed);
}

/// A line of the source that writes to the log. Its counts are shared by all threads, and nothing depends on them but
/// whether a line is written. When an interval begins, two threads at the same moment may write a line more.
pub struct CallSite {
    /// The number of the interval of the newest line.
    interval: AtomicU64,
    /// Lines of that interval, written or not.
    lines: AtomicU64,
    /// Lines that were left out since the last line that was written.
    left_out: AtomicU64,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Write it. `left_out` is the number of lines before it that were not written, or `None` if there are none.
    Written {
        left_out: Option<u64>,
    },
    LeftOut,
}

impl CallSite {
    /// A call site that has told nothing yet.
    #[allow(clippy::new_without_default, reason = "call sites are statics")]
    pub const fn new() -> Self {
        Self { interval: AtomicU64::new(0), lines: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// What becomes of a line now.
    pub fn next(&self) -> Line {
        static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.next_in(BEGUN.elapsed().as_secs() / INTERVAL.as_secs())
    }

    /// What becomes of a line in this interval.
    fn next_in(&self, interval: u64) -> Line {
        if self.interval.fetch_max(interval, Relaxed) < interval {
            self.lines.store(0, Relaxed);
        }
        if self.lines.fetch_add(1, Relaxed) < LINES_MAX {
            let left_out = self.left_out.swap(0, Relaxed);
            return Line::Written { left_out: (left_out > 0).then_some(left_out) };
        }
        self.left_out.fetch_add(1, Relaxed);
        LEFT_OUT.fetch_add(1, Relaxed);
        Line::LeftOut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_an_interval_and_the_next_line_tells_of_the_others() {
        let site = CallSite::new();
        let before = left_out();
        let lines = |interval: u64, count: u64| (0..count).map(|_| site.next_in(interval)).collect::<Vec<_>>();
        let written = |left_out| Line::Written { left_out };
        assert_eq!(lines(0, LINES_MAX), vec![written(None); LINES_MAX as usize]);
        assert_eq!(lines(0, 7), [Line::LeftOut; 7]);
        assert_eq!(lines(3, 2), [written(Some(7)), written(None)]);
        // A thread that looked at the clock earlier begins no new interval.
        assert_eq!(lines(2, LINES_MAX)[LINES_MAX as usize - 2..], [Line::LeftOut; 2]);
        assert_eq!(lines(4, 1), [written(Some(2))]);
        assert!(left_out() >= before + 9);
    }
}
