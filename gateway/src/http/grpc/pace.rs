//! When a connection has to be given up: what it waits for, and until when.

use std::time::{Duration, Instant};

/// Time for the first frame, and for the client to read `STEP_ANSWER_BYTES_MIN` of what waits for it, as in HTTP/1.1.
const STEP_DURATION_MAX: Duration = Duration::from_secs(10);
const STEP_ANSWER_BYTES_MIN: usize = 32 << 10;
/// Time for a client to read that the connection ends.
const GOODBYE_DURATION_MAX: Duration = Duration::from_secs(2);

/// The deadlines of a connection.
pub struct Pace {
    begun: Instant,
    keep_alive: Duration,
    /// When, at the latest, the client must have read `STEP_ANSWER_BYTES_MIN` of what waits for it.
    write_deadline: Option<Instant>,
    /// Bytes of what waits for the client that the socket has taken since that deadline was set.
    taken: usize,
    /// When the connection ends whose client was told of its end.
    goodbye: Option<Instant>,
}

/// What a connection does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doing {
    pub has_calls: bool,
    /// Whether a frame has come.
    pub has_begun: bool,
    /// When the last call ended, or else when the connection began.
    pub idle_since: Instant,
}

impl Pace {
    /// A connection that begins now, and waits so long for its next call.
    pub fn new(begun: Instant, keep_alive: Duration) -> Self {
        Self { begun, keep_alive, write_deadline: None, taken: 0, goodbye: None }
    }

    /// The socket has taken so many bytes of what waits for the client. `owes` says whether the client still has to read
    /// something.
    pub fn has_written(&mut self, bytes: usize, owes: bool, now: Instant) {
        self.taken += bytes;
        if !owes || self.taken >= STEP_ANSWER_BYTES_MIN {
            self.write_deadline = None;
        }
        if owes && self.write_deadline.is_none() {
            (self.write_deadline, self.taken) = (Some(now + STEP_DURATION_MAX), 0);
        }
    }

    /// The client is told that the connection ends. Returns false if it was told before.
    pub fn says_goodbye(&mut self, now: Instant) -> bool {
        let is_first = self.goodbye.is_none();
        self.goodbye.get_or_insert(now + GOODBYE_DURATION_MAX);
        is_first
    }

    /// When the connection is given up, or has to say goodbye. `None` while it has calls: they have their own deadlines.
    pub fn deadline(&self, doing: Doing) -> Option<Instant> {
        let idle = match self.goodbye {
            Some(end) => end,
            None if doing.has_begun => doing.idle_since + self.keep_alive,
            None => self.begun + STEP_DURATION_MAX,
        };
        self.write_deadline.or((!doing.has_calls).then_some(idle))
    }

    /// Whether the client has an answer that it reads too slowly.
    pub fn is_read_too_slowly(&self, now: Instant) -> bool {
        self.write_deadline.is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    #[test]
    fn each_wait_has_its_deadline() {
        let now = Instant::now();
        let mut pace = Pace::new(now, KEEP_ALIVE);
        let idle = Doing { has_calls: false, has_begun: true, idle_since: now };
        assert_eq!(pace.deadline(Doing { has_begun: false, ..idle }), Some(now + STEP_DURATION_MAX));
        assert_eq!(pace.deadline(idle), Some(now + KEEP_ALIVE));
        assert_eq!(pace.deadline(Doing { has_calls: true, ..idle }), None);
        assert!(pace.says_goodbye(now) && !pace.says_goodbye(now + KEEP_ALIVE));
        assert_eq!(pace.deadline(idle), Some(now + GOODBYE_DURATION_MAX));
        assert_eq!(pace.deadline(Doing { has_calls: true, ..idle }), None);
    }

    #[test]
    fn an_answer_must_be_read_at_the_least_rate() {
        let now = Instant::now();
        let mut pace = Pace::new(now, KEEP_ALIVE);
        let doing = Doing { has_calls: true, has_begun: true, idle_since: now };
        pace.has_written(1 << 20, true, now);
        let deadline = now + STEP_DURATION_MAX;
        assert_eq!(pace.deadline(doing), Some(deadline));
        pace.has_written(STEP_ANSWER_BYTES_MIN - 1, true, now + Duration::from_secs(1));
        assert!(pace.is_read_too_slowly(deadline) && !pace.is_read_too_slowly(now));
        pace.has_written(1, true, now + Duration::from_secs(2));
        assert!(!pace.is_read_too_slowly(deadline), "enough: the next part has its own time");
        pace.has_written(0, false, now + Duration::from_secs(3));
        assert_eq!(pace.deadline(doing), None);
    }
}
