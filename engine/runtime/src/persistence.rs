//! The shard's end of the bridge to storage: requests go out without waiting, receipts ring the shard's bell.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::Task;

use super::bell::Bell;
use engine::persist::{Receipt, StoreFailure, StoreRequest, Ticket};
use storage::bridge::{NotTaken, StoreQueue};

/// One shard's way to the store.
pub struct Persistence {
    end: Rc<StoreQueue>,
    /// Receipts that were waited for, and refusals of our own. Bounded by the requests under way.
    arrived: Rc<RefCell<VecDeque<Receipt>>>,
    /// Detached tasks would be leaked when the executor ends; this one ends with us.
    _receiving: Task<()>,
}

impl Persistence {
    /// Binds the end to this executor; `bell` is rung when something arrives.
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

    /// Requests the store for all of this. When it takes no more, the receipt says so.
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

    /// The next receipt. Tickets tell them apart, so their order does not matter.
    pub fn take(&self) -> Option<Receipt> {
        // Looking into the queue itself spares a turn of the reactor while a pass keeps the shard busy.
        let arrived = self.arrived.borrow_mut().pop_front();
        arrived.or_else(|| self.end.try_receive())
    }

    /// Whether a receipt is here that nothing else will announce.
    pub fn has_arrived(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }
}
