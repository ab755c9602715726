//! The bus that carries packets between nodes: NATS core, on a thread with a runtime of its own, as the driver of the
//! database has it. Behind it the links (`links.rs`) lose nothing.
//!
//! A shard's end looks like a ring: what is put into `to_bus` comes out of `from_bus` of the shard it is for, in order and
//! once, or both shards are told of a reset. Queues are bounded. While a peer that makes progress is behind, nothing is
//! taken out of `to_bus`, so it fills and holds the shard back as a full ring does.
//!
//! A node counts as connected only after a probe has come back over its own subject, again for each connection: a server
//! that has answered may not know of the subscription yet. A connection that is lost is given up with what it holds, and
//! another one is made; the client's own reconnection is not relied on.

mod connection;
mod heartbeats;
mod pump;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::id::{Life, Monotonic};
use engine::limits::RING_PARCELS;
use tokio::sync::watch;

use crate::ends::BusEnd;
use crate::limits::Limits;
use crate::links::Counters;

/// The longest name of a cluster, in bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// Beats of other nodes that wait to be read: a second of `PEERS_MAX` of them. Beyond it the newest are dropped.
const BEATS_MAX: usize = crate::limits::PEERS_MAX;

/// Where the bus is, and who may use it.
#[derive(Clone)]
pub struct BusOptions {
    /// The cluster's name, a part of each subject: letters, digits, `-` and `_`.
    pub cluster: String,
    /// Servers of the bus, such as `nats://127.0.0.1:4222`. One of them is enough.
    pub servers: Vec<String>,
    /// The user and the password.
    pub login: Option<(String, String)>,
    /// A file with the certificates that may vouch for the servers. With it, connections without TLS are refused.
    pub ca: Option<PathBuf>,
    /// The bounds of the links.
    pub limits: Limits,
}

/// A sign of life of another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    pub life: Life,
    /// When it arrived, by the bus's monotonic clock.
    pub at: Monotonic,
}

/// How the bus is, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Whether packets go out and come in.
    pub connected: bool,
    /// Connections that came to be connected.
    pub connections: u64,
    /// Connections that were lost or could not be made.
    pub troubles: u64,
    /// Bytes held for all peers.
    pub held: usize,
    /// Packets that could not be read.
    pub damaged: u64,
    pub links: Counters,
}

/// Why the bus does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    #[error("a cluster's name has 1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, - and _")]
    ClusterName,
    #[error("{0:?} is no address of a server of the bus")]
    Server(String),
    #[error("no server of the bus is named")]
    NoServer,
    #[error("the bus's thread does not start")]
    Thread(#[from] io::Error),
}

/// The bus of a node. It ends when this is dropped or stopped.
pub struct Bus {
    charts: Option<watch::Sender<BTreeSet<Life>>>,
    figures: watch::Receiver<Figures>,
    beats: flume::Receiver<Beat>,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// Starts the bus of this life, with an end for each of its shards. Connects, and connects again, in the background.
    pub fn start(options: &BusOptions, own: Life, shards: u16) -> Result<(Self, Vec<BusEnd>), StartFailure> {
        let servers = connection::Servers::read(options)?;
        let (to_bus, outgoing) = flume::bounded(RING_PARCELS);
        let (inboxes, ends): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (inbox, from_bus) = flume::bounded(RING_PARCELS);
                (inbox, BusEnd { to_bus: to_bus.clone(), from_bus })
            })
            .unzip();
        let (charts, charts_read) = watch::channel(BTreeSet::new());
        let (figures, figures_read) = watch::channel(Figures::default());
        let (beats, beats_read) = flume::bounded(BEATS_MAX);
        // The queue stays open while the bus runs, whatever shards end.
        let pump = pump::Pump::new(servers.clone(), own, options.limits, inboxes, (to_bus, outgoing), figures);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let beating = tokio::spawn(heartbeats::beat(servers, own, beats));
                pump.run(charts_read).await;
                beating.abort();
            });
            // The client's tasks must not hold the thread.
            runtime.shutdown_timeout(Duration::ZERO);
        })?;
        let bus = Self { charts: Some(charts), figures: figures_read, beats: beats_read, thread: Some(thread) };
        Ok((bus, ends))
    }

    /// The lives that are alive by the newest chart. The links of all others end.
    pub fn set_peers(&self, lives: BTreeSet<Life>) {
        if let Some(charts) = &self.charts {
            charts.send_replace(lives);
        }
    }

    /// How the bus is now.
    pub fn figures(&self) -> Figures {
        *self.figures.borrow()
    }

    /// The beats of other nodes. They come over a connection of their own, so a bus full of frames does not delay them.
    pub fn beats(&self) -> &flume::Receiver<Beat> {
        &self.beats
    }

    /// Ends the bus and waits for its thread. What is held is gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.charts = None;
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.end();
    }
}
