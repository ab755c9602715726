//! What wakes a shard that waits: rung by anything that has work for it, heard by its one turning task.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A bell within one executor. Ringing it when nobody listens is remembered.
#[derive(Clone, Default)]
pub struct Bell(Rc<State>);

#[derive(Default)]
struct State {
    rung: Cell<bool>,
    listener: RefCell<Option<Waker>>,
}

impl Bell {
    pub fn ring(&self) {
        self.0.rung.set(true);
        if let Some(listener) = self.0.listener.borrow_mut().take() {
            listener.wake();
        }
    }

    /// Ready once it was rung since it was last heard.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.0.rung.take() {
            return Poll::Ready(());
        }
        *self.0.listener.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until it is rung.
    pub async fn heard(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }
}
