//! A drain: how a server stops without a stampede of its clients.
//!
//! First it waits, so that balancers see `/readyz` and send new clients elsewhere. Then it accepts no new connection, and
//! closes its sessions evenly over a time. Then it stops like any server. `ending.rs` goes through these stages. This
//! file has what is known of them: by the thread that goes through them, and by the operators' one, which may begin a drain
//! and tells how far it is. Shards only see that it has begun (`health.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::health::Health;

/// How long the first stage takes, unless configured otherwise. Balancers ask every few seconds, and want to hear it two or
/// three times.
pub const WAIT: Duration = Duration::from_secs(10);

/// How much longer than its wait and its time a stop may take: requests under way, close frames, and clients that hang up.
const REST: Duration = Duration::from_secs(15);

/// What ends a server, or begins its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// An operator has begun a drain.
    DrainBegun,
    /// The store has failed for good.
    Fatal(String),
}

/// How long a drain takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The first stage. Without it, [`WAIT`], or no time if no client and no balancer can see that the server is not ready.
    pub wait: Option<Duration>,
    /// The time over which sessions are closed. Without it, they are closed at once.
    pub time: Option<Duration>,
}

impl Terms {
    /// These terms, and where they are silent, the others.
    pub fn or(self, others: Self) -> Self {
        Self { wait: self.wait.or(others.wait), time: self.time.or(others.time) }
    }

    /// The longest time that a stop takes. A supervisor must have more patience, or it kills the server in the middle.
    pub fn stop_max(self) -> Duration {
        self.wait.unwrap_or(WAIT) + self.time.unwrap_or_default() + REST
    }
}

/// The drain of a process, before it has begun and after.
pub struct Drain {
    health: Arc<Health>,
    /// What the configuration says.
    terms: Terms,
    /// `None` until a drain has begun.
    begun: Mutex<Option<Begun>>,
    /// Where to say that an operator has begun it.
    events: flume::Sender<Event>,
}

/// A drain that has begun.
#[derive(Clone, Debug)]
struct Begun {
    stage: DrainStage,
    /// What has begun it.
    by: &'static str,
    at: Instant,
    wait: Duration,
    time: Duration,
    /// When the sessions began to be closed, and how many there were.
    closing: Option<(Instant, usize)>,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainStage {
    /// No drain has begun.
    None,
    /// `/readyz` is 503, and everything else goes on.
    Waiting,
    /// No connection is accepted, and sessions are being closed.
    Closing,
    /// What was accepted is being finished. Then the process ends.
    Stopping,
}

/// How far a drain is, as operators read it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DrainStatus {
    /// The stage.
    pub state: DrainStage,
    /// What has begun it: a signal, or an admin call.
    pub begun_by: Option<&'static str>,
    /// Since it began.
    pub elapsed_seconds: f64,
    pub wait_seconds: f64,
    pub time_seconds: f64,
    /// Since the first session was to be closed.
    pub closing_seconds: f64,
    /// The sessions when they began to be closed.
    pub sessions_at_closing: usize,
    pub sessions_left: usize,
}

impl Drain {
    /// A drain that has not begun. `terms` are the configured ones. The receiver of `events` goes through the stages.
    pub fn new(health: Arc<Health>, terms: Terms, events: flume::Sender<Event>) -> Self {
        Self { health, terms, begun: Mutex::new(None), events }
    }

    /// Begins the drain: from now on the server is not ready. Returns `false` if it has begun before: then nothing changes.
    pub fn begin(&self, by: &'static str, terms: Terms) -> bool {
        let mut begun = self.begun.lock();
        if begun.is_some() {
            return false;
        }
        let terms = terms.or(self.terms);
        let wait = terms.wait.unwrap_or(if self.health.is_watched() { WAIT } else { Duration::ZERO });
        let (stage, time) = (DrainStage::Waiting, terms.time.unwrap_or_default());
        self.health.begin_drain();
        *begun = Some(Begun { stage, by, at: Instant::now(), wait, time, closing: None });
        true
    }

    /// The same for an operator who calls.
    pub fn begin_by_call(&self, terms: Terms) -> bool {
        let begins = self.begin("admin call", terms);
        if begins {
            // A full queue has events that wake the receiver too, and it is gone only when the process ends anyway.
            let _ = self.events.try_send(Event::DrainBegun);
        }
        begins
    }

    /// The times of the stages, once it has begun: the wait, and the time over which sessions are closed.
    pub fn times(&self) -> Option<(Duration, Duration)> {
        self.begun.lock().as_ref().map(|begun| (begun.wait, begun.time))
    }

    /// Begins the stage in which sessions are closed.
    pub fn begin_closing(&self) {
        if let Some(begun) = self.begun.lock().as_mut() {
            begun.stage = DrainStage::Closing;
            begun.closing = Some((Instant::now(), self.health.sessions()));
        }
    }

    /// Begins the last stage.
    pub fn begin_stopping(&self) {
        if let Some(begun) = self.begun.lock().as_mut() {
            begun.stage = DrainStage::Stopping;
        }
    }

    /// How far it is.
    pub fn status(&self) -> DrainStatus {
        let sessions_left = self.health.sessions();
        let none = DrainStatus {
            state: DrainStage::None,
            begun_by: None,
            elapsed_seconds: 0.0,
            wait_seconds: 0.0,
            time_seconds: 0.0,
            closing_seconds: 0.0,
            sessions_at_closing: 0,
            sessions_left,
        };
        let Some(Begun { stage, by, at, wait, time, closing }) = self.begun.lock().clone() else { return none };
        DrainStatus {
            state: stage,
            begun_by: Some(by),
            elapsed_seconds: seconds(at.elapsed()),
            wait_seconds: seconds(wait),
            time_seconds: seconds(time),
            closing_seconds: closing.map_or(0.0, |(since, _)| seconds(since.elapsed())),
            sessions_at_closing: closing.map_or(0, |(_, sessions)| sessions),
            ..none
        }
    }
}

/// A time in seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthReporter;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(terms: Terms) -> (Drain, Arc<Health>, flume::Receiver<Event>) {
        let (events, heard) = flume::bounded(1);
        let health = Health::new(1, 100);
        (Drain::new(health.clone(), terms, events), health, heard)
    }

    #[test]
    fn begins_once_and_the_server_is_not_ready_at_once() {
        let (drain, health, events) = drain(Terms::default());
        assert_eq!((drain.status().state, drain.times()), (DrainStage::None, None));
        assert!(drain.begin_by_call(Terms { wait: Some(SECOND), time: Some(2 * SECOND) }));
        assert_eq!(events.try_recv(), Ok(Event::DrainBegun));
        assert!(health.unready(None).is_some());
        assert!(!drain.begin_by_call(Terms::default()) && !drain.begin("SIGTERM", Terms::default()));
        assert!(events.is_empty(), "what has begun is not begun again");
        assert_eq!(drain.times(), Some((SECOND, 2 * SECOND)));
        assert_eq!((drain.status().state, drain.status().begun_by), (DrainStage::Waiting, Some("admin call")));
    }

    #[test]
    fn what_an_operator_does_not_say_the_configuration_says() {
        let configured = Terms { wait: Some(3 * SECOND), time: Some(4 * SECOND) };
        let check = |asked: Terms, expected: (Duration, Duration)| {
            let (drain, ..) = drain(configured);
            assert!(drain.begin("SIGTERM", asked));
            assert_eq!(drain.times(), Some(expected), "{asked:?}");
        };
        check(Terms::default(), (3 * SECOND, 4 * SECOND));
        check(Terms { wait: Some(Duration::ZERO), time: None }, (Duration::ZERO, 4 * SECOND));
        check(Terms { wait: None, time: Some(Duration::ZERO) }, (3 * SECOND, Duration::ZERO));
    }

    #[test]
    fn a_server_that_nobody_watches_waits_only_if_it_is_told_to() {
        let wait = |terms: Terms, connections: usize| {
            let (drain, health, _events) = drain(terms);
            HealthReporter::new(health, 0).tell(connections, 0);
            drain.begin("SIGTERM", Terms::default());
            drain.times().unwrap().0
        };
        assert_eq!(wait(Terms::default(), 0), Duration::ZERO);
        assert_eq!(wait(Terms::default(), 1), WAIT);
        assert_eq!(wait(Terms { wait: Some(SECOND), time: None }, 0), SECOND);
    }

    #[test]
    fn the_status_tells_the_stages() {
        let (drain, health, _events) = drain(Terms::default());
        let shard = HealthReporter::new(health, 0);
        shard.tell(9, 7);
        drain.begin("SIGTERM", Terms::default());
        drain.begin_closing();
        shard.tell(6, 4);
        let status = drain.status();
        assert_eq!((status.state, status.sessions_at_closing, status.sessions_left), (DrainStage::Closing, 7, 4));
        drain.begin_stopping();
        let text = serde_json::to_string(&drain.status()).unwrap();
        assert!(text.contains(r#""state":"stopping","begun_by":"SIGTERM""#), "{text}");
    }
}
