//! What `GET /v1/status` tells.

use std::time::Instant;

use serde::Serialize;
use storage::DiskRoom;

use crate::drain::DrainStatus;
use crate::metrics::Overview;
use crate::version;

/// What does not change while the process lives.
pub struct Facts {
    /// The kind of store, as `--store` names it.
    pub store: &'static str,
    pub shards: usize,
    /// Connections that fit.
    pub capacity: usize,
    pub begun: Instant,
}

/// How the server is.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    commit: &'static str,
    uptime_seconds: u64,
    ready: bool,
    /// Why new clients should go elsewhere.
    unready: Option<String>,
    shards: Shards,
    connections: Connections,
    sessions: u64,
    channels: u64,
    memberships: u64,
    store: Store,
    drain: DrainStatus,
}

#[derive(Serialize)]
struct Shards {
    running: usize,
    /// Those that answered in time.
    up: usize,
}

#[derive(Serialize)]
struct Connections {
    open: u64,
    fit: usize,
}

#[derive(Serialize)]
struct Store {
    kind: &'static str,
    ready: bool,
    /// Why it takes no requests.
    unready: Option<String>,
    disk_free_bytes: Option<u64>,
    disk_reserve_bytes: Option<u64>,
}

impl Status {
    /// The status by the newest reports of the shards. `store_unready` is why the store takes no requests.
    pub fn new(
        facts: &Facts,
        overview: &Overview,
        unready: Option<String>,
        store_unready: Option<String>,
        disk: Option<DiskRoom>,
        drain: DrainStatus,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: version::COMMIT,
            uptime_seconds: facts.begun.elapsed().as_secs(),
            ready: unready.is_none(),
            unready,
            shards: Shards { running: facts.shards, up: overview.shards_up() },
            connections: Connections {
                open: overview.sum(|report| report.sockets.stages.iter().sum()),
                fit: facts.capacity,
            },
            sessions: overview.sum(|report| report.sockets.sessions()),
            channels: overview.sum(|report| report.levels.channels),
            memberships: overview.sum(|report| report.levels.members),
            store: Store {
                kind: facts.store,
                ready: store_unready.is_none(),
                unready: store_unready,
                disk_free_bytes: disk.map(|disk| disk.free),
                disk_reserve_bytes: disk.map(|disk| disk.reserve),
            },
            drain,
        }
    }
}
