//! Observes the measured server from outside, several times a second: its metrics, its memory, and the memory that the
//! kernel holds for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::cpu;
use crate::metrics::Metrics;

const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The phase before any other.
const START: &str = "start";

/// One observation of the server.
#[derive(Clone, Debug, Serialize)]
pub struct Look {
    pub at_secs: f64,
    pub phase: &'static str,
    pub levels: Levels,
    pub resident_bytes: u64,
    /// The most memory that was resident since the server started.
    pub resident_bytes_peak: u64,
    /// Memory that the kernel uses for all TCP connections of this machine, at both ends.
    pub kernel_tcp_bytes: u64,
    /// The longest turn of any shard since the look before.
    pub longest_turn_secs: f64,
}

/// What the server counts as present, and the connections that it closed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Levels {
    pub sessions: u64,
    /// Connections in any state.
    pub connections: u64,
    pub channels: u64,
    pub members: u64,
    pub subscriptions: u64,
    pub parked: u64,
    pub lag_bytes: u64,
    pub slow_readers_closed: u64,
    pub gaps: u64,
}

impl Levels {
    fn of(metrics: &Metrics) -> io::Result<Levels> {
        Ok(Levels {
            sessions: metrics.one(r#"stentor_connections{kind="session"}"#)?,
            connections: metrics.sum("stentor_connections")? as u64,
            channels: metrics.one("stentor_channels")?,
            members: metrics.one("stentor_members")?,
            subscriptions: metrics.one("stentor_subscriptions")?,
            parked: metrics.one("stentor_readers_parked")?,
            lag_bytes: metrics.one("stentor_reader_lag_bytes")?,
            slow_readers_closed: metrics.one(r#"stentor_slow_readers_closed_total{kind="1013"}"#)?,
            gaps: metrics.one("stentor_gaps_total")?,
        })
    }

    /// Whether no connection is left, and no state of any.
    pub fn nobody(&self) -> bool {
        let Levels { connections, channels, members, subscriptions, parked, lag_bytes, .. } = *self;
        [connections, channels, members, subscriptions, parked, lag_bytes] == [0; 6]
    }
}

/// The thread that observes the server. It ends when this is dropped.
pub struct Watch {
    shared: Arc<Mutex<Shared>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    phase: &'static str,
    looks: Vec<Look>,
    failed: Option<String>,
}

impl Watch {
    pub fn start(admin: SocketAddr, pid: u32) -> Watch {
        let shared = Arc::new(Mutex::new(Shared { phase: START, looks: Vec::new(), failed: None }));
        let (stop, stopped) = mpsc::channel();
        let of_thread = shared.clone();
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let looked = Look::take(admin, pid, begun);
                let mut shared = of_thread.lock();
                match looked {
                    Ok(look) => {
                        let phase = shared.phase;
                        let last = shared.looks.last().map_or(0.0, |last| last.at_secs);
                        assert!(last <= look.at_secs, "a look at {} s comes after one at {last} s", look.at_secs);
                        shared.looks.push(Look { phase, ..look });
                    }
                    Err(error) => {
                        shared.failed = Some(error.to_string());
                        return;
                    }
                }
            }
        });
        Watch { shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Says the phase that begins, and records it with each look from now on.
    pub fn enter(&self, phase: &'static str) {
        eprintln!("· {phase}");
        self.shared.lock().phase = phase;
    }

    /// The looks so far.
    pub fn looks(&self) -> io::Result<Vec<Look>> {
        let shared = self.shared.lock();
        match &shared.failed {
            Some(error) => Err(io::Error::other(format!("the server could not be looked at: {error}"))),
            None => Ok(shared.looks.clone()),
        }
    }

    /// The newest look, if it began after `since` looks.
    pub fn newest(&self, since: usize) -> io::Result<Option<Look>> {
        let looks = self.looks()?;
        Ok(if looks.len() > since { looks.last().cloned() } else { None })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        // A look takes a second at most. A thread that panicked has already printed its message.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Look {
    fn take(admin: SocketAddr, pid: u32, begun: Instant) -> io::Result<Look> {
        let metrics = Metrics::read(admin)?;
        Ok(Look {
            at_secs: begun.elapsed().as_secs_f64(),
            phase: START,
            levels: Levels::of(&metrics)?,
            resident_bytes: cpu::resident_bytes(pid)?,
            resident_bytes_peak: cpu::resident_bytes_peak(pid)?,
            kernel_tcp_bytes: cpu::kernel_tcp_bytes()?,
            longest_turn_secs: metrics.most("stentor_longest_turn_seconds")?,
        })
    }
}
