//! The loop of the bus's thread: takes parcels from the shards, carries packets between the links and the connection, and
//! hands the shards what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::id::{Life, Monotonic, ShardId};
use tokio::sync::watch;

use super::Figures;
use super::connection::{Connection, Servers, Trouble};
use super::heartbeats::sign;
use crate::codec;
use crate::ends::{Incoming, Outgoing};
use crate::limits::Limits;
use crate::link::{Event, Reason};
use crate::links::Links;
use crate::packet::Packet;

/// Parcels, and packets, that are taken in before packets are sent. So the parcels of a turn leave together, and no queue
/// waits for another one for long.
const ROUND_MAX: usize = 1024;

/// How often a shard whose queue is full is tried again, and how often a full link is looked at.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The time before a connection is tried again: the first, doubled up to the last. It begins anew when a connection has
/// lasted for longer than the last.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LAST: Duration = Duration::from_secs(2);

/// The way to the bus's server.
enum Line {
    Connecting(Pin<Box<dyn Future<Output = Result<Connection, Trouble>> + Send>>),
    Connected(Connection),
}

/// What happened on the line.
enum Change {
    Connected(Connection),
    Packet(Bytes),
    /// There is room for a packet again.
    Room,
    Lost(Trouble),
}

/// What the bus's thread keeps.
pub struct Pump {
    servers: Servers,
    own: Life,
    links: Links,
    inboxes: Vec<flume::Sender<Incoming>>,
    outgoing: flume::Receiver<Outgoing>,
    /// Keeps `outgoing` open when all shards have ended.
    _open: flume::Sender<Outgoing>,
    /// What a peer's link has handed out and a shard's queue had no room for. Nothing else is taken from that link meanwhile,
    /// so it holds at most one parcel, or one event for each shard.
    waiting: BTreeMap<Life, VecDeque<(usize, Incoming)>>,
    figures: Figures,
    told: watch::Sender<Figures>,
    begun: Instant,
    reconnect_after: Duration,
    connected_at: Option<Instant>,
    /// The newest trouble. It is told once, however often the same comes again.
    trouble: String,
}

impl Pump {
    /// Without peers. `queue` is what all shards put their parcels into.
    pub fn new(
        servers: Servers,
        own: Life,
        limits: Limits,
        inboxes: Vec<flume::Sender<Incoming>>,
        queue: (flume::Sender<Outgoing>, flume::Receiver<Outgoing>),
        told: watch::Sender<Figures>,
    ) -> Self {
        Self {
            servers,
            own,
            links: Links::new(own, limits),
            inboxes,
            outgoing: queue.1,
            _open: queue.0,
            waiting: BTreeMap::new(),
            figures: Figures::default(),
            told,
            begun: Instant::now(),
            reconnect_after: RECONNECT_FIRST,
            connected_at: None,
            trouble: String::new(),
        }
    }

    /// Runs until the sender of charts is gone.
    pub async fn run(mut self, mut charts: watch::Receiver<BTreeSet<Life>>) {
        let mut line = self.connect(Duration::ZERO);
        loop {
            let now = self.now();
            self.links.tick(now);
            self.deliver();
            let is_blocked = self.transmit(&line);
            self.tell();
            let is_full = self.links.is_full(now);
            let pause = self.pause(is_full || !self.waiting.is_empty());
            tokio::select! {
                changed = charts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let lives = charts.borrow_and_update().clone();
                    if let Err(error) = self.links.set_peers(&lives, self.now()) {
                        tracing::error!(%error, "the chart was not taken over");
                    }
                }
                Ok(outgoing) = self.outgoing.recv_async(), if !is_full => self.take_in(outgoing),
                change = line.next(is_blocked) => self.on_line(change, &mut line),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn now(&self) -> Monotonic {
        Monotonic::default().plus(self.begun.elapsed())
    }

    /// For how long nothing needs to be done unless something happens.
    fn pause(&self, retry: bool) -> Duration {
        /// Without links that wait for something, nothing needs to be done at all.
        const LONGEST: Duration = Duration::from_secs(60);
        let pause = self.links.timeout().map_or(LONGEST, |timeout| timeout.since(self.now()));
        pause.min(if retry { RETRY_INTERVAL } else { LONGEST })
    }

    fn connect(&self, after: Duration) -> Line {
        let connecting = self.servers.clone().connect(self.servers.subject(self.own), sign(self.own, 0));
        Line::Connecting(Box::pin(async move {
            tokio::time::sleep(after).await;
            connecting.await
        }))
    }

    fn on_line(&mut self, change: Change, line: &mut Line) {
        match change {
            Change::Connected(connection) => {
                tracing::info!("connected to the bus");
                *line = Line::Connected(connection);
                self.connected_at = Some(Instant::now());
                self.trouble.clear();
                self.figures.connections += 1;
                self.figures.connected = true;
                self.links.connected(self.now());
            }
            Change::Packet(bytes) => {
                self.hear(bytes);
                if let Line::Connected(connection) = line {
                    for bytes in (1..ROUND_MAX).map_while(|_| connection.arrived()) {
                        self.hear(bytes);
                    }
                }
            }
            Change::Room => {}
            Change::Lost(trouble) => *line = self.lost(&trouble),
        }
    }

    /// The connection is lost or could not be made. Returns the next one.
    fn lost(&mut self, trouble: &Trouble) -> Line {
        let trouble = trouble.to_string();
        if trouble != self.trouble {
            tracing::warn!(trouble, "the bus is away");
            self.trouble = trouble;
        }
        self.figures.troubles += 1;
        self.figures.connected = false;
        self.links.disconnected();
        if self.connected_at.take().is_some_and(|at| at.elapsed() > RECONNECT_LAST) {
            self.reconnect_after = RECONNECT_FIRST;
        }
        let after = self.reconnect_after;
        self.reconnect_after = (2 * after).min(RECONNECT_LAST);
        self.connect(after)
    }

    fn hear(&mut self, bytes: Bytes) {
        match Packet::decode(bytes) {
            // A probe over the own subject that came back once more.
            Ok(packet) if packet.from == self.own => {}
            Ok(packet) => self.links.receive(packet, self.now()),
            Err(damage) => {
                self.figures.damaged += 1;
                tracing::debug!(%damage, "a packet cannot be read");
            }
        }
    }

    /// Takes in a parcel, and those behind it.
    fn take_in(&mut self, outgoing: Outgoing) {
        let now = self.now();
        let mut next = Some(outgoing);
        for _ in 0..ROUND_MAX {
            let Some(outgoing) = next else { return };
            self.send(outgoing, now);
            next = if self.links.is_full(now) { None } else { self.outgoing.try_recv().ok() };
        }
        if let Some(outgoing) = next {
            self.send(outgoing, now);
        }
    }

    fn send(&mut self, Outgoing { from, to, link, parcel }: Outgoing, now: Monotonic) {
        // A parcel of a time before a reset need not be encoded.
        if self.links.open(to.life) != Some(link) {
            let _ = self.links.send(to.life, link, &[], now);
            return;
        }
        match codec::encode(from.core, to.core, &parcel) {
            // If it is not accepted, the shards are told of a reset.
            Ok(bytes) => drop(self.links.send(to.life, link, &bytes, now)),
            Err(error) => {
                debug_assert!(false, "{error}");
                tracing::error!(%error, "a parcel cannot cross: its link is reset");
                self.links.reset(to.life, Reason::Unreadable, now);
            }
        }
    }

    /// Hands packets to the connection, as far as it has room. Returns whether it has none.
    fn transmit(&mut self, line: &Line) -> bool {
        let Line::Connected(connection) = line else { return false };
        while let Some(place) = connection.place() {
            let Some(packet) = self.links.transmit(self.now()) else { return false };
            place.send((self.servers.subject(packet.to), packet.encode()));
        }
        true
    }

    /// Hands the shards what the links have for them, as far as their queues have room.
    fn deliver(&mut self) {
        let mut lives: BTreeSet<Life> = self.links.readable().collect();
        lives.extend(self.waiting.keys().copied());
        for life in lives {
            let mut waiting = self.waiting.remove(&life).unwrap_or_default();
            while self.hand_out(&mut waiting) {
                let now = self.now();
                let Some(event) = self.links.take(life, now) else { break };
                self.put(life, event, &mut waiting, now);
            }
            if !waiting.is_empty() {
                self.waiting.insert(life, waiting);
            }
        }
    }

    fn put(&mut self, life: Life, event: Event, waiting: &mut VecDeque<(usize, Incoming)>, now: Monotonic) {
        let shards = 0..self.inboxes.len();
        match event {
            Event::Opened(link) => waiting.extend(shards.map(|shard| (shard, Incoming::Opened { life, link }))),
            Event::Reset(link, reason) => {
                tracing::warn!(%life, ?reason, "a link was reset");
                waiting.extend(shards.map(|shard| (shard, Incoming::Reset { life, link, reason })));
            }
            Event::Parcel(bytes) => match codec::decode(&bytes) {
                Ok(sent) if usize::from(sent.to) < self.inboxes.len() => {
                    let from = ShardId { life, core: sent.from };
                    waiting.push_back((usize::from(sent.to), Incoming::Parcel { from, parcel: sent.parcel }));
                }
                damaged => {
                    let shard = damaged.as_ref().map_or(0, |sent| sent.to);
                    tracing::error!(%life, ?shard, damage = ?damaged.err(), "a parcel cannot be read: its link is reset");
                    self.links.reset(life, Reason::Unreadable, now);
                }
            },
        }
    }

    /// Hands out what waits for shards, in order. Returns whether all of it went.
    fn hand_out(&self, waiting: &mut VecDeque<(usize, Incoming)>) -> bool {
        while let Some((shard, incoming)) = waiting.pop_front() {
            match self.inboxes[shard].try_send(incoming) {
                // A shard ends only when all shards end.
                Ok(()) | Err(flume::TrySendError::Disconnected(_)) => {}
                Err(flume::TrySendError::Full(incoming)) => {
                    waiting.push_front((shard, incoming));
                    return false;
                }
            }
        }
        true
    }

    fn tell(&mut self) {
        (self.figures.held, self.figures.links) = (self.links.held(), self.links.counters());
        self.told.send_if_modified(|told| std::mem::replace(told, self.figures) != self.figures);
    }
}

impl Line {
    /// What happens next. May be dropped while it waits.
    async fn next(&mut self, is_blocked: bool) -> Change {
        let next = match self {
            Self::Connecting(connecting) => return connecting.await.map_or_else(Change::Lost, Change::Connected),
            Self::Connected(connection) if is_blocked => connection.next_or_room().await,
            Self::Connected(connection) => connection.next().await.map(Some),
        };
        next.map_or_else(Change::Lost, |packet| packet.map_or(Change::Room, Change::Packet))
    }
}
