//! The HTTP connections of a shard: counts them, bounds their number, and tells them when to end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Waker};

/// Most connections of one shard: at some 18 KiB each, 150 MB. The shard refuses more.
const OPEN_MAX: usize = 8192;

/// Beyond this many, a connection closes after its answer and does not wait for the next request. So many users that
/// send one request each do not hold memory that others need.
const KEPT_MAX: usize = 1024;

/// A shard's connections.
#[derive(Default)]
pub struct Connections {
    closing: Cell<bool>,
    /// Whether the shard has little room left for connections of any kind.
    crowded: Cell<bool>,
    next_number: Cell<u64>,
    open: RefCell<HashMap<u64, Option<Waker>>>,
}

/// One open connection. It counts until it is dropped.
pub struct Entered<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Connections {
    /// Counts one more connection. Returns `None` if there are too many or the stop has begun.
    pub fn enter(&self) -> Option<Entered<'_>> {
        if self.closing.get() || self.open.borrow().len() >= OPEN_MAX {
            return None;
        }
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let before = self.open.borrow_mut().insert(number, None);
        assert!(before.is_none(), "a connection's number is given once");
        debug_assert!(self.open.borrow().len() <= OPEN_MAX, "{} connections are open", self.open.borrow().len());
        Some(Entered { connections: self, number })
    }

    /// Whether the stop has not begun.
    pub fn are_open(&self) -> bool {
        !self.closing.get()
    }

    /// Whether a connection may stay open for its next request.
    pub fn may_keep(&self) -> bool {
        !self.closing.get() && !self.crowded.get() && self.open.borrow().len() <= KEPT_MAX
    }

    /// Says whether the shard is crowded. If it is, no connection stays open for a next request.
    pub fn be_crowded(&self, crowded: bool) {
        self.crowded.set(crowded);
    }

    /// Begins the stop: lets no further connection in, and wakes the open ones so that they end.
    pub fn close(&self) {
        self.closing.set(true);
        // The wakers are called without the borrow, because a waker may run code that borrows again.
        let wakers: Vec<Waker> = self.open.borrow_mut().values_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Entered<'_> {
    /// Whether the connection must end. If not, its task is woken when it must.
    pub fn shall_close(&self, context: &Context<'_>) -> bool {
        if self.connections.closing.get() {
            return true;
        }
        if let Some(waker) = self.connections.open.borrow_mut().get_mut(&self.number)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        false
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let left = self.connections.open.borrow_mut().remove(&self.number);
        debug_assert!(left.is_some(), "a connection leaves once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_counted() {
        let connections = Connections::default();
        let mut entered: Vec<_> = (0..OPEN_MAX).filter_map(|_| connections.enter()).collect();
        assert_eq!(entered.len(), OPEN_MAX);
        assert!(connections.enter().is_none());
        assert!(!connections.may_keep());
        entered.truncate(KEPT_MAX);
        assert!(connections.may_keep());
        assert!(connections.enter().is_some());
    }

    #[test]
    fn closing_is_told() {
        let connections = Connections::default();
        let entered = connections.enter().unwrap();
        let context = &mut Context::from_waker(Waker::noop());
        assert!(!entered.shall_close(context));
        connections.close();
        assert!(entered.shall_close(context));
        assert!(connections.enter().is_none());
    }
}
