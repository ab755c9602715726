//! The simulated cluster: nodes of links, the bus between them, and what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use engine::id::{Life, Monotonic};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::super::{Counters, Links};
use crate::limits::{Limits, PROBE_INTERVAL};
use crate::link::{Event, Reason};
use crate::packet::{Content, LinkNumber, Packet};

const NODES: usize = 3;
/// Packets that the system keeps for a node that does not read.
const UNREAD_MAX: usize = 40;
/// What says which parcel it is, before its filling.
const PARCEL_HEAD_BYTES: usize = 16;

const LIMITS: Limits = Limits {
    frame_bytes_max: 400,
    window_bytes: 1_600,
    store_bytes_max: 8_000,
    parcel_bytes_max: 2_000,
    inbox_bytes_max: 2_500,
    unfinished_bytes_max: 2_500,
    waiting_bytes_high: 800,
};

/// A bound that is not reached.
const AMPLE: usize = usize::MAX / 2;

/// What may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storm {
    /// Nodes die, freeze, do not take what arrives, and forget each other; the bus does its worst; stores are full.
    Everything,
    /// The bus does its worst, nodes freeze and lag, and the store has room for everything.
    BusAlone,
}

struct Node {
    life: Life,
    links: Links,
    peers: BTreeMap<Life, Peer>,
    connected: bool,
    frozen: bool,
    /// The shards take nothing.
    lags: bool,
    unread: VecDeque<Packet>,
}

/// What a node's shards know of another life, and what its links may do.
#[derive(Default)]
struct Peer {
    open: Option<LinkNumber>,
    /// The last number that the shards were told, open or reset.
    last: LinkNumber,
    /// Bytes of frames and probes sent since a packet of the peer arrived, and when it arrived.
    silent_bytes: usize,
    silent_probes: u64,
    heard: Monotonic,
}

/// From, to, and the number of the link.
type Way = (Life, Life, LinkNumber);

pub struct World {
    storm: Storm,
    limits: Limits,
    chance: ChaCha8Rng,
    now: Monotonic,
    next_life: u16,
    nodes: Vec<Node>,
    /// Packets under way, by the time of their arrival.
    flying: BTreeMap<(Monotonic, u64), Packet>,
    packets: u64,
    /// The last arrival from one life at another: the bus keeps the order of what it carries.
    arrivals: BTreeMap<(Life, Life), Monotonic>,
    quiet: bool,
    /// Parcels accepted and delivered on each way.
    sent: BTreeMap<Way, u64>,
    delivered: BTreeMap<Way, u64>,
    resets: BTreeMap<&'static str, u64>,
    /// The counters of nodes that have died.
    dead: Vec<Counters>,
}

impl World {
    pub fn new(storm: Storm, seed: u64) -> Self {
        let limits = match storm {
            Storm::Everything => LIMITS,
            Storm::BusAlone => Limits { store_bytes_max: AMPLE, unfinished_bytes_max: AMPLE, ..LIMITS },
        };
        let mut world = Self {
            storm,
            limits,
            chance: ChaCha8Rng::seed_from_u64(seed),
            now: Monotonic(0),
            next_life: 1,
            nodes: Vec::new(),
            flying: BTreeMap::new(),
            packets: 0,
            arrivals: BTreeMap::new(),
            quiet: false,
            sent: BTreeMap::new(),
            delivered: BTreeMap::new(),
            resets: BTreeMap::new(),
            dead: Vec::new(),
        };
        for _ in 0..NODES {
            let node = world.newborn();
            world.nodes.push(node);
        }
        (0..NODES).for_each(|at| world.read_chart(at));
        world
    }

    fn newborn(&mut self) -> Node {
        let life = Life(self.next_life);
        self.next_life += 1;
        let mut links = Links::new(life, self.limits);
        links.connected(self.now);
        let peers = BTreeMap::new();
        Node { life, links, peers, connected: true, frozen: false, lags: false, unread: VecDeque::new() }
    }

    fn below(&mut self, end: usize) -> usize {
        (self.chance.next_u64() % end as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Runs so many steps in which anything may happen.
    pub fn storm(&mut self, steps: usize) {
        self.quiet = false;
        for _ in 0..steps {
            let pause_ms = if self.one_in(50) { 700 } else { 15 };
            let pause_ms = 1 + self.below(pause_ms) as u64;
            self.pass(pause_ms);
            let at = self.below(NODES);
            match self.below(100) {
                0..60 => self.send_some(at),
                // What is down comes back sooner than what is up goes down.
                60..66 if !self.nodes[at].connected || self.one_in(4) => self.cut_or_join(at),
                66..70 if self.nodes[at].frozen || self.one_in(4) => self.nodes[at].frozen = !self.nodes[at].frozen,
                70..73 if self.nodes[at].lags || self.one_in(2) => self.nodes[at].lags = !self.nodes[at].lags,
                73..75 if self.storm == Storm::Everything => self.read_chart(at),
                75 if self.storm == Storm::Everything && self.one_in(3) => self.forget_one(at),
                76 if self.storm == Storm::Everything && self.one_in(3) => self.die(at),
                77 if self.storm == Storm::Everything && self.one_in(3) => self.flood(at),
                _ => {}
            }
            self.work();
        }
    }

    /// Lets everything be sound, and checks that it recovers.
    pub fn quiet(&mut self) {
        self.quiet = true;
        for at in 0..NODES {
            (self.nodes[at].frozen, self.nodes[at].lags) = (false, false);
            if !self.nodes[at].connected {
                self.cut_or_join(at);
            }
            self.read_chart(at);
        }
        self.rest(Duration::from_secs(20));
        self.check_recovered();
        (0..NODES).for_each(|at| self.send_some(at));
        self.rest(Duration::from_secs(2));
        self.check_recovered();
    }

    fn rest(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.pass(5);
            self.work();
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let packet = entry.remove();
            // Now and then one comes to the wrong node as well.
            if !self.quiet && self.one_in(50) {
                let (at, now) = (self.below(NODES), self.now);
                if self.nodes[at].life != packet.to && !self.nodes[at].frozen {
                    self.nodes[at].links.receive(packet.clone(), now);
                }
            }
            let Some(node) = self.nodes.iter_mut().find(|node| node.life == packet.to && node.connected) else {
                continue;
            };
            if !node.frozen {
                let now = self.now;
                node.hear(packet, now);
            } else if node.unread.len() < UNREAD_MAX {
                node.unread.push_back(packet);
            }
        }
    }

    /// Every node does what there is to do.
    fn work(&mut self) {
        for at in 0..NODES {
            if self.nodes[at].frozen {
                continue;
            }
            while let Some(packet) = self.nodes[at].unread.pop_front() {
                let now = self.now;
                self.nodes[at].hear(packet, now);
            }
            self.nodes[at].links.tick(self.now);
            self.take(at);
            self.transmit(at);
            self.check_bounds(at);
        }
    }

    fn take(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.lags {
            return;
        }
        for from in node.links.readable().collect::<Vec<_>>() {
            while let Some(event) = node.links.take(from, self.now) {
                let peer = node.peers.entry(from).or_default();
                match event {
                    Event::Opened(number) => {
                        assert!(peer.open.is_none() && number > peer.last, "{number:?} opens after {:?}", peer.last);
                        (peer.open, peer.last) = (Some(number), number);
                    }
                    Event::Reset(number, reason) => {
                        assert_eq!(peer.open.take(), Some(number), "a link is reset once, and only if it is open");
                        let name = match reason {
                            Reason::StoreFull => "full",
                            Reason::Peer => "peer",
                            Reason::Gone => "gone",
                            Reason::UnfinishedFull => "unfinished",
                            Reason::ParcelTooLong | Reason::Unreadable => "length",
                        };
                        *self.resets.entry(name).or_default() += 1;
                    }
                    Event::Parcel(parcel) => {
                        let way = (from, node.life, peer.open.expect("parcels come while the link is open"));
                        let index = self.delivered.entry(way).or_default();
                        assert_eq!(parcel, made(way, *index, parcel.len()), "parcel {index} of {way:?}");
                        *index += 1;
                        assert!(*index <= self.sent[&way], "what arrives was sent");
                    }
                }
            }
        }
    }

    fn transmit(&mut self, at: usize) {
        while let Some(packet) = self.nodes[at].links.transmit(self.now) {
            assert!(self.nodes[at].connected, "nothing is sent while the bus is away");
            self.check_restraint(at, &packet);
            // What a packet means crosses the bus as bytes.
            let packet = Packet::decode(packet.encode()).unwrap();
            if !self.quiet && self.one_in(12) {
                continue;
            }
            let delay = Duration::from_millis(if self.quiet { 1 } else { self.below(40) as u64 });
            let way = (packet.from, packet.to);
            let arrival = self.now.plus(delay).max(self.arrivals.get(&way).copied().unwrap_or_default());
            self.arrivals.insert(way, arrival);
            if !self.quiet && self.one_in(20) {
                let later = self.below(3_000) as u64;
                self.fly(arrival.plus(Duration::from_millis(later)), packet.clone());
            }
            self.fly(arrival, packet);
        }
    }

    fn fly(&mut self, arrival: Monotonic, packet: Packet) {
        self.packets += 1;
        self.flying.insert((arrival, self.packets), packet);
    }

    fn send_some(&mut self, at: usize) {
        for _ in 0..1 + self.below(6) {
            let to = self.below(NODES);
            let to = self.nodes[to].life;
            let longest = if self.one_in(10) { self.limits.parcel_bytes_max } else { 150 };
            self.send(at, to, longest);
        }
    }

    /// Sends a parcel, as the shards do that know of a link.
    fn send(&mut self, at: usize, to: Life, longest: usize) {
        let length = PARCEL_HEAD_BYTES + self.below(longest - PARCEL_HEAD_BYTES);
        let stale = self.one_in(10);
        let node = &mut self.nodes[at];
        let Some(number) = node.peers.get(&to).and_then(|peer| peer.open).filter(|_| !node.frozen) else { return };
        if stale {
            assert!(node.links.send(to, LinkNumber(number.0 - 1), &[], self.now).is_err());
        }
        if node.links.is_full(self.now) {
            return;
        }
        let way = (node.life, to, number);
        let sent = self.sent.entry(way).or_default();
        if node.links.send(to, number, &made(way, *sent, length), self.now).is_ok() {
            *sent += 1;
        }
        self.check_bounds(at);
    }

    /// Sends more than the store holds, whether the links are full or not.
    fn flood(&mut self, at: usize) {
        let to = self.below(NODES);
        let to = self.nodes[to].life;
        for _ in 0..8 {
            self.send(at, to, self.limits.parcel_bytes_max);
        }
    }

    fn cut_or_join(&mut self, at: usize) {
        let life = self.nodes[at].life;
        if !self.nodes[at].connected {
            self.nodes[at].connected = true;
            self.nodes[at].links.connected(self.now);
            self.nodes[at].peers.values_mut().for_each(|peer| peer.silent_probes = 0);
            return;
        }
        self.nodes[at].connected = false;
        self.nodes[at].links.disconnected();
        // What is under way to and from the node is lost, comes as it was, or comes much later.
        for (time, packet) in std::mem::take(&mut self.flying) {
            let touched = packet.from == life || packet.to == life;
            match self.below(3) {
                0 if touched => {}
                1 if touched => {
                    let later = self.below(5_000) as u64;
                    self.flying.insert((time.0.plus(Duration::from_millis(later)), time.1), packet);
                }
                _ => drop(self.flying.insert(time, packet)),
            }
        }
    }

    fn die(&mut self, at: usize) {
        self.dead.push(self.nodes[at].links.counters());
        self.nodes[at] = self.newborn();
        self.read_chart(at);
    }

    fn read_chart(&mut self, at: usize) {
        let lives = self.nodes.iter().map(|node| node.life).collect();
        self.nodes[at].set_peers(&lives, self.now);
    }

    /// The node reads a chart that lacks a life, which may be alive.
    fn forget_one(&mut self, at: usize) {
        let forgotten = self.below(NODES);
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != forgotten);
        let lives = others.map(|(_, node)| node.life).collect();
        self.nodes[at].set_peers(&lives, self.now);
    }

    fn check_bounds(&self, at: usize) {
        let [counted, measured] = self.nodes[at].links.measured();
        assert_eq!(counted, measured, "held, arrived and unfinished");
        let Limits { store_bytes_max, inbox_bytes_max, unfinished_bytes_max, .. } = self.limits;
        let bounds = [store_bytes_max, inbox_bytes_max, unfinished_bytes_max];
        assert!(counted.iter().zip(bounds).all(|(held, bound)| *held <= bound), "{counted:?} of {bounds:?}");
    }

    /// A silent peer is sent a window of frames at most, and then a probe a second.
    fn check_restraint(&mut self, at: usize, packet: &Packet) {
        let Some(peer) = self.nodes[at].peers.get_mut(&packet.to) else { return };
        match &packet.content {
            Content::Frame { payload, .. } => peer.silent_bytes += payload.bytes().len(),
            Content::Probe { .. } => peer.silent_probes += 1,
            _ => {}
        }
        let frames = self.limits.window_bytes + self.limits.frame_bytes_max;
        assert!(peer.silent_bytes <= frames, "{} bytes to a silent peer", peer.silent_bytes);
        let seconds = self.now.since(peer.heard).as_millis() as u64 / PROBE_INTERVAL.as_millis() as u64;
        assert!(peer.silent_probes <= seconds + 2, "{} probes in {seconds} s", peer.silent_probes);
    }

    fn check_recovered(&self) {
        for (node, other) in pairs(&self.nodes) {
            let (here, there) = (node.peers[&other.life].open, other.peers[&node.life].open);
            assert!(here.is_some() && here == there, "{:?} {here:?}, {:?} {there:?}", node.life, other.life);
            let way = (node.life, other.life, here.unwrap());
            let counts = (self.sent.get(&way), self.delivered.get(&way));
            assert_eq!(counts.0.filter(|sent| **sent > 0), counts.1, "parcels of {way:?}");
        }
        for node in &self.nodes {
            assert_eq!((node.links.held(), node.links.is_full(self.now)), (0, false), "{:?}", node.life);
        }
    }

    /// What tells one run from another.
    pub fn trace(&self) -> String {
        let counters: Vec<_> = self.nodes.iter().map(|node| node.links.counters()).collect();
        format!("{:?} {:?} {:?} {counters:?}", self.sent, self.delivered, self.resets)
    }
}

impl Node {
    fn hear(&mut self, packet: Packet, now: Monotonic) {
        let peer = self.peers.entry(packet.from).or_default();
        (peer.silent_bytes, peer.silent_probes, peer.heard) = (0, 0, now);
        self.links.receive(packet, now);
    }

    fn set_peers(&mut self, lives: &BTreeSet<Life>, now: Monotonic) {
        self.links.set_peers(lives, now).unwrap();
        self.peers.values_mut().for_each(|peer| peer.silent_probes = 0);
    }
}

fn pairs(nodes: &[Node]) -> impl Iterator<Item = (&Node, &Node)> {
    nodes
        .iter()
        .flat_map(move |node| nodes.iter().filter(move |other| other.life != node.life).map(move |other| (node, other)))
}

/// The parcel with this index on its way.
fn made(way: Way, index: u64, length: usize) -> Vec<u8> {
    let (from, to, number) = way;
    let mut bytes = [&from.0.to_le_bytes()[..], &to.0.to_le_bytes(), &number.0.to_le_bytes()].concat();
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.resize(length.max(PARCEL_HEAD_BYTES), index as u8);
    bytes
}

/// What happened in all runs, so that a storm that is too mild is noticed.
#[derive(Default, Debug)]
pub struct Seen {
    delivered: u64,
    resets: BTreeMap<&'static str, u64>,
    resent: u64,
    duplicates: u64,
    gaps: u64,
    no_room: u64,
    stale: u64,
}

impl Seen {
    pub fn add(&mut self, world: &World) {
        self.delivered += world.delivered.values().sum::<u64>();
        for (reason, count) in &world.resets {
            *self.resets.entry(reason).or_default() += count;
        }
        for counters in world.nodes.iter().map(|node| node.links.counters()).chain(world.dead.iter().copied()) {
            self.resent += counters.frames_resent;
            self.duplicates += counters.duplicates;
            self.gaps += counters.gaps;
            self.no_room += counters.no_room;
            self.stale += counters.stale;
        }
    }

    pub fn assert_enough(&self, storm: Storm) {
        println!("{storm:?}: {self:?}");
        let common = [self.delivered, self.resent, self.duplicates, self.gaps, self.no_room];
        assert!(common.iter().all(|count| *count > 50), "{self:?}");
        match storm {
            Storm::BusAlone => assert!(self.resets.is_empty(), "{self:?}"),
            Storm::Everything => {
                let reasons = ["full", "peer", "gone", "unfinished"];
                assert!(reasons.iter().all(|reason| self.resets.contains_key(reason)), "{self:?}");
                assert!(self.stale > 50, "{self:?}");
            }
        }
    }
}
