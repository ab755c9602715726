//! Whether the process should get new clients: `GET /readyz`, on the clients' address and on the operators' one.
//!
//! A server that is not ready serves the clients that it has. Each shard writes its own number of connections, and readers
//! never wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The answer of `/healthz`.
pub const ALIVE: &str = "alive\n";
/// The answer of `/readyz` when new clients may come.
pub const READY: &str = "ready\n";

/// Percent of the connections that fit at which the process is full.
const FULL_PERCENT: usize = 98;
/// Percent of them at which a process that was full is ready again. The distance keeps a balancer from changing its mind
/// with each connection.
const READY_AGAIN_PERCENT: usize = 90;

/// The connections of all shards, and how many fit.
pub struct Health {
    connections: Box<[AtomicUsize]>,
    capacity: usize,
    full: AtomicBool,
}

impl Health {
    /// So many shards without connections. `capacity` connections fit, all shards together.
    pub fn new(shards: usize, capacity: usize) -> Arc<Self> {
        let connections = (0..shards).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { connections, capacity, full: AtomicBool::new(false) })
    }

    /// Why new clients should go elsewhere, or `None` if they may come. `store` is why the store takes no requests.
    pub fn unready(&self, store: Option<String>) -> Option<String> {
        store.or_else(|| self.is_full().then(|| format!("nearly all of {} connections are in use", self.capacity)))
    }

    fn is_full(&self) -> bool {
        let open: usize = self.connections.iter().map(|of_shard| of_shard.load(Ordering::Relaxed)).sum();
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
        assert!(shard < health.connections.len(), "shard {shard} of {}", health.connections.len());
        Self { health, shard }
    }

    /// Takes in how many connections the shard has.
    pub fn tell(&self, connections: usize) {
        self.health.connections[self.shard].store(connections, Ordering::Relaxed);
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
            shards.iter().zip(connections).for_each(|(shard, connections)| shard.tell(connections));
            assert_eq!(health.unready(None).is_none(), expected, "{connections:?}");
        }
    }

    #[test]
    fn a_store_that_takes_no_requests_is_named_first() {
        let health = Health::new(1, 0);
        assert_eq!(health.unready(Some("no disk".into())).as_deref(), Some("no disk"));
        assert!(health.unready(None).is_some(), "no connection fits");
    }
}
