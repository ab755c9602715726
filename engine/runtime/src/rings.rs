//! Parcels between shards, over glommio's lock-free rings, one for each ordered pair of shards.
//!
//! Only `try_send` is used: waiting for room never ends when the receiver has gone. A parcel that does not fit stays here
//! and rides a later turn; meanwhile `is_full` tells the shard not to read its sockets, so what waits is bounded by what
//! had been read. Parcels are always received, or two full shards would wait for each other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::channels::shared_channel::{self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender};
use glommio::{GlommioError, ResourceType, Task};

use super::bell::Bell;
use engine::id::ShardId;
use engine::limits::RING_PARCELS;
use engine::parcel::Parcel;

/// One shard's ends, not yet bound to its executor. The place of the shard itself is empty: it needs no ring.
pub struct RingEnds {
    senders: Vec<Option<SharedSender<Parcel>>>,
    receivers: Vec<Option<SharedReceiver<Parcel>>>,
}

/// All rings between so many shards: the ends of each, in the order of their numbers.
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
    /// Parcels that found their ring full, in order, by receiver.
    waiting: Vec<VecDeque<Parcel>>,
    /// One for each ring. They do not share one, because a bell is heard by one listener: a ring that waited for room
    /// beside another would never be told.
    inboxes: Vec<Rc<Inbox>>,
    /// Detached tasks would be leaked with their descriptors when the executor ends; these end with us.
    _receiving: Vec<Task<()>>,
}

/// What has arrived over one ring and was not yet taken in.
#[derive(Default)]
struct Inbox {
    parcels: RefCell<VecDeque<Parcel>>,
    taken: Bell,
}

impl Rings {
    /// Binds the ends to this executor; `bell` is rung when something arrives.
    pub async fn connect(ends: RingEnds, bell: &Bell) -> Self {
        let shards = ends.senders.len();
        let receivers: Vec<_> = ends.receivers.into_iter().flatten().collect();
        let inboxes: Vec<Rc<Inbox>> = receivers.iter().map(|_| Rc::default()).collect();
        // Each end waits for its opposite, so all of a shard's ends are bound side by side.
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

    /// Hands a parcel to another shard, now or in a later turn, behind those that wait already.
    pub fn send(&mut self, to: ShardId, parcel: Parcel) {
        self.waiting[usize::from(to.0)].push_back(parcel);
    }

    /// Moves on what waits, as far as there is room.
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
                    // The other shard has ended, which only happens when all of them do.
                    Err(_) => waiting.clear(),
                }
            }
        }
    }

    /// Whether parcels wait for room.
    pub fn is_full(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// Parcels that wait for room.
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

/// Moves parcels from a ring to the inbox, which takes one ring's worth and then waits until the shard has taken them.
async fn receive(ring: ConnectedReceiver<Parcel>, inbox: &Inbox, bell: &Bell) {
    while let Some(parcel) = ring.recv().await {
        inbox.parcels.borrow_mut().push_back(parcel);
        bell.ring();
        while inbox.parcels.borrow().len() >= RING_PARCELS {
            inbox.taken.heard().await;
        }
    }
}
