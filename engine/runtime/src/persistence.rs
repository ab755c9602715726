//! The shard's end of the bridge to storage: requests are sent without waiting, and receipts ring the shard's bell.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::Task;

use super::bell::Bell;
use engine::persist::{Receipt, StoreFailure, StoreRequest, Ticket};
use storage::bridge::{NotTaken, StoreQueue};

/// One shard's connection to the store.
pub struct Persistence {
    end: Rc<StoreQueue>,
    /// Receipts that the receiving task has taken from the queue, and receipts of requests that the queue did not take.
    /// Bounded by the number of requests under way.
    arrived: Rc<RefCell<VecDeque<Receipt>>>,
    /// A detached task would be leaked when the executor ends. This one ends when `Persistence` is dropped.
    _receiving: Task<()>,
}

impl Persistence {
    /// Binds the queue to this executor. `bell` is rung when a receipt arrives.
    pub fn new(end: StoreQueue, bell: &Bell) -> Self {
        let (end, arrived) = (Rc::new(end), Rc::new(RefCell::new(VecDeque::new())));
        let receiving = {
            let (end, arrived, bell) = (end.clone(), arrived.clone(), bell.clone());
            glommio::spawn_local(async move {
                while let Some(receipt) = end.receive().await {
                    arrived.borrow_mut().push_back(receipt);
                    bell.ring();
                }
            })
        };
        Self { end, arrived, _receiving: receiving }
    }

    /// Sends these requests to the store. If its queue is full or the store has stopped, the request gets a receipt
    /// that says so.
    pub fn request(&self, requests: impl Iterator<Item = (Ticket, StoreRequest)>) {
        let mut asked = false;
        for (ticket, request) in requests {
            asked = true;
            if let Err(reason) = self.end.put(ticket, request) {
                let message = match reason {
                    NotTaken::Full => "the store has too much to do",
                    NotTaken::Gone => "the store has stopped",
                };
                self.arrived.borrow_mut().push_back((ticket, Err(StoreFailure::nothing_done(message))));
            }
        }
        if asked {
            self.end.ring();
        }
    }

    /// The next receipt. Receipts are identified by their tickets, so their order does not matter.
    pub fn take(&self) -> Option<Receipt> {
        // Reading the queue directly saves waiting for the reactor to run the receiving task while a pass keeps the
        // shard busy.
        let arrived = self.arrived.borrow_mut().pop_front();
        arrived.or_else(|| self.end.try_receive())
    }

    /// How many receipts are here that `take` has not returned yet, without those in the queue.
    pub fn arrived(&self) -> usize {
        self.arrived.borrow().len()
    }

    /// Whether a receipt is here that `take` has not returned yet. The shard must ask, because the receipts that
    /// `request` makes itself ring no bell.
    pub fn has_arrived(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }
}
