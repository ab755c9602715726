//! A node with one shard, as a test sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::bus::{Bus, BusOptions};
use cluster::ends::{BusEnd, Incoming, Outgoing};
use cluster::limits::Limits;
use cluster::link::Reason;
use cluster::packet::LinkNumber;
use engine::id::{ChannelId, ConnectionId, Life, ShardId};
use engine::parcel::{ChannelAction, ChannelRequest, MessageAction, Parcel};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    pub life: Life,
    pub bus: Bus,
    end: BusEnd,
    pub open: BTreeMap<Life, LinkNumber>,
    /// How many parcels were put in for, and came from, each life under each number of its link.
    pub sent: BTreeMap<(Life, LinkNumber), u32>,
    pub received: BTreeMap<(Life, LinkNumber), u32>,
    pub resets: Vec<(Life, LinkNumber, Reason)>,
}

pub fn options(servers: Vec<String>) -> BusOptions {
    BusOptions { cluster: "test".to_owned(), servers, login: None, ca: None, limits: Limits::default() }
}

impl Node {
    pub fn start(options: &BusOptions, life: u16, peers: &[u16]) -> Self {
        let life = Life(life);
        let (bus, mut ends) = Bus::start(options, life, 1).expect("the options are good");
        let end = ends.remove(0);
        let (open, resets) = (BTreeMap::new(), Vec::new());
        let node = Self { life, bus, end, open, sent: BTreeMap::new(), received: BTreeMap::new(), resets };
        node.set_peers(peers);
        node
    }

    pub fn set_peers(&self, peers: &[u16]) {
        self.bus.set_peers(peers.iter().map(|life| Life(*life)).collect::<BTreeSet<_>>());
    }

    /// Takes in what has arrived, and checks that each parcel is the next one.
    pub fn poll(&mut self) {
        while let Ok(incoming) = self.end.from_bus.try_recv() {
            match incoming {
                Incoming::Opened { life, link } => assert_eq!(self.open.insert(life, link), None, "it was not open"),
                Incoming::Reset { life, link, reason } => {
                    assert_eq!(self.open.remove(&life), Some(link), "it was open");
                    self.resets.push((life, link, reason));
                }
                Incoming::Parcel { from, parcel: Parcel::Requests { requests, .. } } => {
                    let received = self.received.entry((from.life, self.open[&from.life])).or_default();
                    assert_eq!(requests[0].number, *received, "from {from:?}");
                    *received += 1;
                }
                Incoming::Parcel { parcel, .. } => panic!("{parcel:?}"),
            }
        }
    }

    /// Puts in the next parcel for a life, with so many bytes of content. Returns whether it had room.
    pub fn send(&mut self, to: u16, bytes: usize) -> bool {
        let life = Life(to);
        let Some(link) = self.open.get(&life).copied() else { return false };
        let number = self.sent.entry((life, link)).or_default();
        let action = ChannelAction::Message(MessageAction::Send { content: "x".repeat(bytes).into() });
        let connection = ConnectionId { slot: 0, generation: 0 };
        let requests = vec![ChannelRequest { connection, number: *number, action }];
        let from = ShardId { life: self.life, core: 0 };
        let parcel = Parcel::Requests { from, channel: ChannelId::room("lobby").expect("a name"), requests };
        let to = ShardId { life, core: 0 };
        let sent = self.end.to_bus.try_send(Outgoing { from, to, link, parcel }).is_ok();
        *number += u32::from(sent);
        sent
    }

    /// Whether everything that was sent to `other` over the open link has arrived.
    pub fn has_reached(&self, other: &Self) -> bool {
        let link = self.open[&other.life];
        self.sent.get(&(other.life, link)) == other.received.get(&(self.life, link))
    }
}

/// Polls all nodes until this holds.
pub fn until(nodes: &mut [&mut Node], what: &str, holds: impl Fn(&[&mut Node]) -> bool) {
    let begun = Instant::now();
    loop {
        nodes.iter_mut().for_each(|node| node.poll());
        if holds(nodes) {
            return;
        }
        let figures: Vec<_> = nodes.iter().map(|node| node.bus.figures()).collect();
        assert!(begun.elapsed() < PATIENCE, "{what}: {figures:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until every node has links to all others.
pub fn until_open(nodes: &mut [&mut Node]) {
    let others = nodes.len() - 1;
    until(nodes, "links open", |nodes| nodes.iter().all(|node| node.open.len() == others));
}
