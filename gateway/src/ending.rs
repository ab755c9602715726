//! Waits for what ends the server, and goes through the stages of a drain (`drain.rs`).
//!
//! SIGTERM begins a drain, and so may an operator. SIGINT, a second SIGTERM and a store that has failed end the wait at
//! once. A SIGTERM during a drain that an operator has begun is the first one, and changes nothing: container platforms send
//! it after the command that they run before a stop.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flume::{Receiver, RecvTimeoutError};

use crate::drain::{Drain, Event, Terms};
use crate::health::Health;
use crate::supervisor::Supervisor;

/// How often the end of the sessions is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How much longer than its time a drain may take, for sessions whose last requests are not answered yet. Those that are
/// left are closed at the stop.
const OVERTIME_MAX: Duration = Duration::from_secs(5);

/// The longest time between two lines that tell how far the drain is.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How the wait ends.
type Outcome = ControlFlow<Result<(), String>>;

/// Waits until the server is to stop, and tells the supervisor then. If there is a drain, this returns when it is over. `close_sessions` is called with
/// the time over which sessions are to be closed. Fails with what the store has failed with.
pub fn wait(
    events: &Receiver<Event>,
    drain: &Arc<Drain>,
    health: &Health,
    supervisor: &Supervisor,
    close_sessions: impl FnOnce(Duration),
) -> Result<(), String> {
    let mut ending = Ending { events, drain, was_terminated: false };
    let waited = ending.wait_for_drain();
    supervisor.stops();
    let outcome = match waited {
        ControlFlow::Break(outcome) => outcome,
        ControlFlow::Continue(()) => match ending.go_through(health, close_sessions) {
            ControlFlow::Break(outcome) => outcome,
            ControlFlow::Continue(()) => Ok(()),
        },
    };
    drain.begin_stopping();
    tracing::info!("stopping: no new work, everything acknowledged is kept");
    outcome
}

struct Ending<'a> {
    events: &'a Receiver<Event>,
    drain: &'a Drain,
    /// Whether SIGTERM has come.
    was_terminated: bool,
}

impl Ending<'_> {
    fn wait_for_drain(&mut self) -> Outcome {
        while self.drain.times().is_none() {
            match self.events.recv() {
                Ok(event) => self.take_in(event)?,
                Err(_) => return ControlFlow::Break(Ok(())),
            }
        }
        ControlFlow::Continue(())
    }

    fn take_in(&mut self, event: Event) -> Outcome {
        match event {
            Event::Terminate if self.was_terminated => ControlFlow::Break(Ok(())),
            Event::Terminate => {
                self.was_terminated = true;
                if !self.drain.begin("SIGTERM", Terms::default()) {
                    tracing::info!("SIGTERM: the drain goes on; a second SIGTERM stops at once");
                }
                ControlFlow::Continue(())
            }
            Event::DrainBegun => ControlFlow::Continue(()),
            Event::Interrupt => ControlFlow::Break(Ok(())),
            Event::Fatal(failure) => ControlFlow::Break(Err(failure)),
        }
    }

    /// Takes in events until then.
    fn wait_until(&mut self, deadline: Instant) -> Outcome {
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(event) => self.take_in(event)?,
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(Ok(())),
            }
        }
    }

    /// Goes through the stages of the drain that has begun.
    fn go_through(&mut self, health: &Health, close_sessions: impl FnOnce(Duration)) -> Outcome {
        let (wait, time) = self.drain.times().unwrap_or_default();
        let begun_by = self.drain.status().begun_by.unwrap_or_default();
        let until = if wait.is_zero() { String::new() } else { format!("for {wait:?}, then ") };
        let spread = if time.is_zero() { "at once".to_owned() } else { format!("over {time:?}") };
        tracing::info!(
            begun_by,
            "draining: /readyz is 503, {until}the sessions are closed {spread}; SIGINT or a second SIGTERM stops at once"
        );
        self.wait_until(Instant::now() + wait)?;
        self.drain.begin_closing();
        close_sessions(time);
        let begun = Instant::now();
        let sessions = self.drain.status().sessions_at_closing;
        tracing::info!(sessions, "draining: no new connections, and the sessions are being closed");
        let mut lines = Lines { tenth: 0, newest: begun };
        while !health.has_drained() && begun.elapsed() < time + OVERTIME_MAX {
            self.wait_until(Instant::now() + LOOK_INTERVAL)?;
            let left = health.sessions();
            if lines.is_due(sessions, left, Instant::now()) {
                let elapsed = begun.elapsed().as_secs();
                tracing::info!(sessions_left = left, sessions, "draining: {elapsed} s of {time:?}");
            }
        }
        let elapsed = begun.elapsed().as_secs_f32();
        tracing::info!(sessions_left = health.sessions(), "drained: the sessions were closed in {elapsed:.1} s");
        ControlFlow::Continue(())
    }
}

/// When a line tells how far the drain is: at each tenth of the sessions, and every `LINE_INTERVAL`.
struct Lines {
    /// Tenths that were told.
    tenth: usize,
    newest: Instant,
}

impl Lines {
    fn is_due(&mut self, sessions: usize, left: usize, now: Instant) -> bool {
        let tenth = sessions.saturating_sub(left) * 10 / sessions.max(1);
        let is_due = tenth > self.tenth || now.saturating_duration_since(self.newest) >= LINE_INTERVAL;
        if is_due {
            (self.tenth, self.newest) = (self.tenth.max(tenth), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::DrainStage;
    use crate::health::HealthReporter;

    /// The outcome of a wait in which these events have come, the time for which sessions were to be closed if they were,
    /// and the last stage.
    fn ended(terms: Terms, by_call: bool, events: &[Event]) -> (Result<(), String>, Option<Duration>, DrainStage) {
        let (told, heard) = flume::unbounded();
        let health = Health::new(1, 100);
        let drain = Arc::new(Drain::new(health.clone(), terms, told.clone()));
        if by_call {
            drain.begin_by_call(Terms::default());
        }
        events.iter().for_each(|event| told.send(event.clone()).unwrap());
        let shard = HealthReporter::new(health.clone(), 0);
        let mut closed = None;
        let outcome = wait(&heard, &drain, &health, &Supervisor::begin().unwrap(), |time| {
            closed = Some(time);
            shard.tell_of_drain();
        });
        (outcome, closed, drain.status().state)
    }

    const LONG: Terms = Terms { wait: Some(Duration::from_secs(3600)), time: Some(Duration::from_secs(3600)) };
    const AT_ONCE: Terms = Terms { wait: Some(Duration::ZERO), time: Some(Duration::from_secs(7)) };

    #[test]
    fn a_first_termination_drains_and_a_second_one_or_an_interrupt_ends_it() {
        use Event::{DrainBegun, Interrupt, Terminate};
        let drained = (Ok(()), Some(Duration::from_secs(7)), DrainStage::Stopping);
        assert_eq!(ended(AT_ONCE, false, &[Terminate]), drained);
        assert_eq!(ended(AT_ONCE, true, &[]), drained);
        let at_once = (Ok(()), None, DrainStage::Stopping);
        assert_eq!(ended(LONG, false, &[Terminate, Terminate]), at_once);
        assert_eq!(ended(LONG, false, &[Terminate, Interrupt]), at_once);
        assert_eq!(ended(LONG, true, &[Terminate, DrainBegun, Terminate]), at_once);
        assert_eq!(ended(LONG, false, &[Interrupt]).1, None);
    }

    #[test]
    fn a_termination_during_a_drain_that_an_operator_has_begun_changes_nothing() {
        let (told, heard) = flume::unbounded();
        let health = Health::new(1, 100);
        let drain = Drain::new(health, LONG, told);
        drain.begin_by_call(Terms::default());
        let mut ending = Ending { events: &heard, drain: &drain, was_terminated: false };
        assert_eq!(ending.take_in(Event::Terminate), ControlFlow::Continue(()));
        assert_eq!(drain.status().begun_by, Some("admin call"));
        assert_eq!(ending.take_in(Event::Terminate), ControlFlow::Break(Ok(())));
    }

    #[test]
    fn a_store_that_has_failed_ends_the_wait_and_the_drain() {
        let fatal = Event::Fatal("no disk".to_owned());
        assert_eq!(ended(LONG, false, std::slice::from_ref(&fatal)).0, Err("no disk".to_owned()));
        assert_eq!(ended(LONG, false, &[Event::Terminate, fatal]).0, Err("no disk".to_owned()));
    }

    #[test]
    fn a_line_at_each_tenth_and_after_a_while() {
        let begun = Instant::now();
        let mut lines = Lines { tenth: 0, newest: begun };
        let second = Duration::from_secs(1);
        for (left, after, expected) in [
            (100, 0, false),
            (91, 1, false),
            (90, 2, true),
            (81, 3, false),
            (55, 4, true),
            (54, 8, false),
            (54, 9, true),
        ] {
            assert_eq!(lines.is_due(100, left, begun + after * second), expected, "{left} left after {after} s");
        }
        assert!(!Lines { tenth: 0, newest: begun }.is_due(0, 0, begun), "no sessions");
    }
}
