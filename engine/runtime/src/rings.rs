//! Parcels between shards, over glommio's lock-free rings, one for each ordered pair of shards.
//!
//! Only `try_send` is used, because a send that waits for room never returns if the receiver has ended. A parcel that
//! does not fit stays in `waiting` until a later turn. Meanwhile `is_full` tells the shard not to read its sockets, so
//! the waiting parcels are bounded by what was read before. A shard always receives parcels: otherwise two shards with
//! full rings would wait for each other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::channels::shared_channel::{self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender};
use glommio::{GlommioError, ResourceType, Task};

use super::bell::Bell;
use engine::id::ShardId;
use engine::limits::RING_PARCELS;
use engine::parcel::Parcel;

/// One shard's ends of the rings, not yet bound to its executor. The shard's own place is empty: it needs no ring to
/// itself.
pub struct RingEnds {
    senders: Vec<Option<SharedSender<Parcel>>>,
    receivers: Vec<Option<SharedReceiver<Parcel>>>,
}

/// Makes all rings between `shards` shards. Returns each shard's ends, in the order of the shards' numbers.
pub fn rings(shards: u16) -> Vec<RingEnds> {
    let count = usize::from(shards);
    let none =
        || RingEnds { senders: (0..count).map(|_| None).collect(), receivers: (0..count).map(|_| None).collect() };
    let mut ends: Vec<RingEnds> = (0..count).map(|_| none()).collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (sender, receiver) = shared_channel::new_bounded(RING_PARCELS);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

/// One shard's rings.
pub struct Rings {
    senders: Vec<Option<ConnectedSender<Parcel>>>,
    /// Parcels that wait for room in their ring, in order, by receiver.
    waiting: Vec<VecDeque<Parcel>>,
    /// One inbox for each ring. Each has its own bell, because a bell wakes only one task: if several receiving tasks
    /// waited on the same bell, the others would never be woken.
    inboxes: Vec<Rc<Inbox>>,
    /// Detached tasks would be leaked with their file descriptors when the executor ends. These end when `Rings` is
    /// dropped.
    _receiving: Vec<Task<()>>,
}

/// Parcels that have arrived over one ring and were not taken in yet.
#[derive(Default)]
struct Inbox {
    parcels: RefCell<VecDeque<Parcel>>,
    taken: Bell,
}

impl Rings {
    /// Binds the ends to this executor. `bell` is rung when a parcel arrives.
    pub async fn connect(ends: RingEnds, bell: &Bell) -> Self {
        let shards = ends.senders.len();
        let pairs = ends.senders.iter().zip(&ends.receivers);
        assert!(
            shards == ends.receivers.len()
                && pairs.filter(|(to, from)| to.is_some() && from.is_some()).count() == shards - 1,
            "a shard has a ring to each other shard, and one from it"
        );
        let receivers: Vec<_> = ends.receivers.into_iter().flatten().collect();
        let inboxes: Vec<Rc<Inbox>> = receivers.iter().map(|_| Rc::default()).collect();
        // Each end waits until its opposite end is bound, so all of a shard's ends are bound concurrently.
        let connecting: Vec<_> = receivers
            .into_iter()
            .zip(&inboxes)
            .map(|(receiver, inbox)| {
                let (inbox, bell) = (inbox.clone(), bell.clone());
                glommio::spawn_local(async move { receive(receiver.connect().await, &inbox, &bell).await })
            })
            .collect();
        let sending: Vec<_> = ends
            .senders
            .into_iter()
            .map(|sender| sender.map(|sender| glommio::spawn_local(sender.connect())))
            .collect();
        let mut senders = Vec::with_capacity(shards);
        for sender in sending {
            senders.push(match sender {
                Some(sender) => Some(sender.await),
                None => None,
            });
        }
        Self { senders, waiting: (0..shards).map(|_| VecDeque::new()).collect(), inboxes, _receiving: connecting }
    }

    /// Queues a parcel for another shard, after those that wait already. `flush` sends it, in this turn or a later one.
    pub fn send(&mut self, to: ShardId, parcel: Parcel) {
        let place = usize::from(to.core);
        debug_assert!(self.senders[place].is_some(), "a shard sends no parcel to itself");
        self.waiting[place].push_back(parcel);
    }

    /// Sends waiting parcels, as far as their rings have room.
    pub fn flush(&mut self) {
        for (sender, waiting) in self.senders.iter().zip(&mut self.waiting) {
            let Some(sender) = sender else { continue };
            while let Some(parcel) = waiting.pop_front() {
                match sender.try_send(parcel) {
                    Ok(()) => {}
                    Err(GlommioError::WouldBlock(ResourceType::Channel(parcel))) => {
                        waiting.push_front(parcel);
                        break;
                    }
                    // The other shard has ended. This happens only when all shards end.
                    Err(_) => waiting.clear(),
                }
            }
        }
    }

    /// Whether parcels wait for room.
    pub fn is_full(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// The number of parcels that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The next parcel that has arrived.
    pub fn take(&self) -> Option<Parcel> {
        let parcel = self.inboxes.iter().find_map(|inbox| inbox.parcels.borrow_mut().pop_front());
        if parcel.is_none() {
            self.inboxes.iter().for_each(|inbox| inbox.taken.ring());
        }
        parcel
    }
}

/// Moves parcels from a ring to the inbox. When the inbox holds as many as a ring, waits until the shard has taken
/// them.
async fn receive(ring: ConnectedReceiver<Parcel>, inbox: &Inbox, bell: &Bell) {
    while let Some(parcel) = ring.recv().await {
        debug_assert!(inbox.parcels.borrow().len() < RING_PARCELS, "an inbox holds no more than a ring");
        inbox.parcels.borrow_mut().push_back(parcel);
        bell.ring();
        while inbox.parcels.borrow().len() >= RING_PARCELS {
            inbox.taken.heard().await;
        }
    }
}
