//! What wakes a shard that waits. Everything that has work for the shard rings its bell, and the shard's one turning
//! task waits for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A bell within one executor. If no task waits when it is rung, the ring is remembered.
#[derive(Clone, Default)]
pub struct Bell(Rc<State>);

#[derive(Default)]
struct State {
    rung: Cell<bool>,
    listener: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wakes the shard if it waits. Otherwise its next wait ends at once, so that no ring is lost.
    pub fn ring(&self) {
        self.0.rung.set(true);
        if let Some(listener) = self.0.listener.borrow_mut().take() {
            listener.wake();
        }
    }

    /// Ready if the bell was rung since this was last ready.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.0.rung.take() {
            return Poll::Ready(());
        }
        *self.0.listener.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the bell is rung.
    pub async fn heard(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }
}
