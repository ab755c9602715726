//! Whether the process should get new clients: `GET /readyz`, on the clients' address and on the operators' one.
//!
//! A server that is not ready serves the clients that it has. Each shard writes its own number of connections, and readers
//! never wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The answer of `/healthz`.
pub const ALIVE: &str = "alive\n";
/// The answer of `/readyz` when new clients may come.
pub const READY: &str = "ready\n";
/// Why a server that is to stop is not ready.
pub const DRAINING: &str = "draining: the server is about to stop";

/// Percent of the connections that fit at which the process is full.
const FULL_PERCENT: usize = 98;
/// Percent of them at which a process that was full is ready again. The distance keeps a balancer from changing its mind
/// with each connection.
const READY_AGAIN_PERCENT: usize = 90;

/// The connections of all shards, how many fit, and whether the server is to stop.
pub struct Health {
    shards: Box<[ShardHealth]>,
    capacity: usize,
    full: AtomicBool,
    /// Whether `/readyz` was ever asked: then a balancer may look at it again.
    asked: AtomicBool,
    draining: AtomicBool,
    /// Shards that open no session any more.
    closed_shards: AtomicUsize,
}

#[derive(Default)]
struct ShardHealth {
    connections: AtomicUsize,
    sessions: AtomicUsize,
    /// How often the shard has told them: ten times a second, as long as it turns.
    ticks: AtomicU64,
}

impl Health {
    /// So many shards without connections. `capacity` connections fit, all shards together.
    pub fn new(shards: usize, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..shards).map(|_| ShardHealth::default()).collect(),
            capacity,
            full: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            closed_shards: AtomicUsize::new(0),
        })
    }

    /// Why new clients should go elsewhere, or `None` if they may come: the answer of `/readyz`. `store` is why the store
    /// takes no requests.
    pub fn unready(&self, store: Option<String>) -> Option<String> {
        self.asked.store(true, Ordering::Relaxed);
        self.why_unready(store)
    }

    /// The same for an operator, who is no balancer.
    pub fn why_unready(&self, store: Option<String>) -> Option<String> {
        if self.is_draining() {
            return Some(DRAINING.to_owned());
        }
        store.or_else(|| self.is_full().then(|| format!("nearly all of {} connections are in use", self.capacity)))
    }

    /// From now on the server is not ready, and HTTP connections close after their next answer.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether a client or a balancer may see that the server is not ready: a client is connected, or `/readyz` was asked before.
    pub fn is_watched(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.connections() > 0
    }

    /// The open sessions of all shards, up to a tick ago.
    pub fn sessions(&self) -> usize {
        self.shards.iter().map(|shard| shard.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Whether every shard has begun its drain and no session is left.
    pub fn has_drained(&self) -> bool {
        // A shard tells its sessions before it tells that it has begun.
        self.closed_shards.load(Ordering::Acquire) == self.shards.len() && self.sessions() == 0
    }

    /// How often each shard has told of itself. A shard whose number stays the same does not turn.
    pub fn ticks(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.ticks.load(Ordering::Relaxed)).collect()
    }

    fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.connections.load(Ordering::Relaxed)).sum()
    }

    fn is_full(&self) -> bool {
        let open = self.connections();
        let was_full = self.full.load(Ordering::Relaxed);
        let percent = if was_full { READY_AGAIN_PERCENT } else { FULL_PERCENT };
        let is_full = open.saturating_mul(100) >= self.capacity.saturating_mul(percent);
        self.full.store(is_full, Ordering::Relaxed);
        is_full
    }
}

/// What one shard tells of its connections.
pub struct HealthReporter {
    health: Arc<Health>,
    shard: usize,
}

impl HealthReporter {
    /// The reporter of this shard, which is one of the shards that `health` was made for.
    pub fn new(health: Arc<Health>, shard: usize) -> Self {
        assert!(shard < health.shards.len(), "shard {shard} of {}", health.shards.len());
        Self { health, shard }
    }

    /// Takes in how many connections the shard has, and how many of them are sessions.
    pub fn tell(&self, connections: usize, sessions: usize) {
        let shard = &self.health.shards[self.shard];
        shard.connections.store(connections, Ordering::Relaxed);
        shard.sessions.store(sessions, Ordering::Relaxed);
        // Only this shard writes.
        shard.ticks.store(shard.ticks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes in that the shard opens no session any more. Call it once, after `tell`.
    pub fn tell_of_drain(&self) {
        self.health.closed_shards.fetch_add(1, Ordering::Release);
    }

    /// As [`Health::is_draining`].
    pub fn is_draining(&self) -> bool {
        self.health.is_draining()
    }

    /// As [`Health::unready`].
    pub fn unready(&self, store: Option<String>) -> Option<String> {
        self.health.unready(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_process_is_ready_again_when_a_tenth_is_free() {
        let health = Health::new(2, 1000);
        let shards = [0, 1].map(|shard| HealthReporter::new(health.clone(), shard));
        for (connections, expected) in [
            ([0, 0], true),
            ([979, 0], true),
            ([490, 490], false),
            ([450, 470], false),
            ([449, 450], true),
            ([500, 479], true),
        ] {
            shards.iter().zip(connections).for_each(|(shard, connections)| shard.tell(connections, 0));
            assert_eq!(health.unready(None).is_none(), expected, "{connections:?}");
        }
    }

    #[test]
    fn a_store_that_takes_no_requests_is_named_first() {
        let health = Health::new(1, 0);
        assert_eq!(health.unready(Some("no disk".into())).as_deref(), Some("no disk"));
        assert!(health.unready(None).is_some(), "no connection fits");
        health.begin_drain();
        assert_eq!(health.unready(Some("no disk".into())).as_deref(), Some(DRAINING));
    }

    #[test]
    fn a_server_is_watched_once_a_client_is_there_or_readiness_was_asked_for() {
        let health = Health::new(2, 1000);
        assert!(!health.is_watched());
        let shard = HealthReporter::new(health.clone(), 1);
        shard.tell(1, 0);
        assert!(health.is_watched());
        shard.tell(0, 0);
        assert!(!health.is_watched());
        assert_eq!(shard.unready(None), None);
        assert!(health.is_watched());
    }

    #[test]
    fn drained_when_every_shard_has_begun_and_no_session_is_left() {
        let health = Health::new(2, 1000);
        let shards = [0, 1].map(|shard| HealthReporter::new(health.clone(), shard));
        assert!(!health.has_drained(), "no shard has begun");
        shards[0].tell(3, 2);
        shards.iter().for_each(HealthReporter::tell_of_drain);
        assert!(!health.has_drained());
        assert_eq!(health.sessions(), 2);
        shards[0].tell(3, 0);
        assert!(health.has_drained(), "other connections do not count");
    }
}
