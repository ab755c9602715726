//! The queues between a shard and the bridge.

use std::cell::Cell;

use engine::persist::{Receipt, StoreRequest, Ticket};

/// A shard's end of the queues to the store. Belongs to one thread.
///
/// It counts the requests in flight, from `try_send` until the shard has taken the receipt, and allows no more than
/// `in_flight_max`. Both queues have room for that many, so the storage threads never wait for a shard.
pub struct StoreQueue {
    requests: flume::Sender<(Ticket, StoreRequest)>,
    receipts: flume::Receiver<Receipt>,
    bell: flume::Sender<()>,
    in_flight: Cell<usize>,
    in_flight_max: usize,
}

/// The store's end: requests come out in the order in which they were sent, and each is answered once. The answers may
/// come in any order.
pub struct StoreQueueServer {
    pub requests: flume::Receiver<(Ticket, StoreRequest)>,
    pub receipts: flume::Sender<Receipt>,
}

/// Why a request was not taken. Nothing of it will ever be in history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The maximum is in flight: try again after receipts have come.
    Full,
    /// The store has stopped.
    Gone,
}

/// The two ends of a shard's queues. The bell is a queue with room for one item; it is rung after each burst of
/// requests. Many shards may share one bell, so that the committer waits at a single place.
pub fn store_queue(in_flight_max: usize, bell: flume::Sender<()>) -> (StoreQueue, StoreQueueServer) {
    assert!(in_flight_max > 0, "a queue has room for something");
    let (requests, requests_out) = flume::bounded(in_flight_max);
    let (receipts_in, receipts) = flume::bounded(in_flight_max);
    let near = StoreQueue { requests, receipts, bell, in_flight: Cell::new(0), in_flight_max };
    (near, StoreQueueServer { requests: requests_out, receipts: receipts_in })
}

impl StoreQueue {
    /// Whether a request would be taken now, as far as this end can see.
    pub fn has_room(&self) -> bool {
        self.in_flight.get() < self.in_flight_max
    }

    /// Sends a single request and rings the bell, or refuses at once.
    pub fn try_send(&self, ticket: Ticket, request: impl Into<StoreRequest>) -> Result<(), NotTaken> {
        self.put(ticket, request)?;
        self.ring();
        Ok(())
    }

    /// Like `try_send`, but does not ring the bell: for requests of a burst. The committer need not wake before `ring`,
    /// and then finds them together.
    pub fn put(&self, ticket: Ticket, request: impl Into<StoreRequest>) -> Result<(), NotTaken> {
        if !self.has_room() {
            return Err(NotTaken::Full);
        }
        self.requests.try_send((ticket, request.into())).map_err(|error| match error {
            flume::TrySendError::Full(_) => NotTaken::Full,
            flume::TrySendError::Disconnected(_) => NotTaken::Gone,
        })?;
        self.in_flight.set(self.in_flight.get() + 1);
        debug_assert!(self.in_flight.get() <= self.in_flight_max, "both queues have room for all that is in flight");
        Ok(())
    }

    /// Wakes the committer for what was put. Never waits.
    pub fn ring(&self) {
        // Full: the bell has already been rung. Disconnected: the store has stopped, and `put` has reported it.
        let _ = self.bell.try_send(());
    }

    /// The next receipt, if there is one.
    pub fn try_receive(&self) -> Option<Receipt> {
        self.taken(self.receipts.try_recv().ok())
    }

    /// Waits for the next receipt, on any executor. `None`: the store has stopped, and no more receipts will come.
    pub async fn receive(&self) -> Option<Receipt> {
        self.taken(self.receipts.recv_async().await.ok())
    }

    /// How many requests have no receipt yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    fn taken(&self, receipt: Option<Receipt>) -> Option<Receipt> {
        if let Some((ticket, _)) = &receipt {
            assert!(self.in_flight.get() > 0, "{ticket:?} is answered, and nothing was asked");
            self.in_flight.set(self.in_flight.get() - 1);
        }
        receipt
    }
}

#[cfg(test)]
mod tests {
    use engine::id::ChannelId;
    use engine::persist::{StoreQuestion, StoreReceipt};

    use super::*;

    fn head() -> StoreQuestion {
        StoreQuestion::Head { channel: ChannelId::room("lobby").unwrap() }
    }

    #[test]
    fn counts_until_the_receipt_is_taken() {
        let (bell, rung) = flume::bounded(1);
        let (near, far) = store_queue(2, bell);
        assert_eq!(near.try_send(Ticket(1), head()), Ok(()));
        assert_eq!(near.try_send(Ticket(2), head()), Ok(()));
        assert_eq!(near.try_send(Ticket(3), head()), Err(NotTaken::Full));
        assert_eq!(rung.len(), 1);

        let (ticket, _) = far.requests.try_recv().unwrap();
        assert_eq!(near.try_send(Ticket(3), head()), Err(NotTaken::Full), "taken out is not yet answered");
        far.receipts.try_send((ticket, Ok(StoreReceipt::Head(None)))).unwrap();
        assert!(!near.has_room(), "answered is not yet received");
        assert_eq!(near.try_receive(), Some((Ticket(1), Ok(StoreReceipt::Head(None)))));
        assert_eq!(near.try_receive(), None);
        assert_eq!(near.try_send(Ticket(3), head()), Ok(()));
        assert_eq!(near.in_flight(), 2);
    }

    #[test]
    fn says_when_the_store_is_gone() {
        let (bell, _rung) = flume::bounded(1);
        let (near, far) = store_queue(2, bell);
        drop(far);
        assert_eq!(near.try_send(Ticket(1), head()), Err(NotTaken::Gone));
        assert_eq!(near.in_flight(), 0);
    }
}
