//! Questions of HTTP handlers to the owners of channels: put down here, taken up by the shard's next turn, answered in
//! one of those that follow.
//!
//! Bounded by the HTTP connections of a shard, each of which asks one thing at a time. A handler that is dropped takes its
//! question along.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use engine::id::ChannelId;
use engine::parcel::{Enquiry, Finding};
use engine::runtime::bell::Bell;
use engine::shard::Input;

/// The questions of one shard's handlers.
#[derive(Default)]
pub struct Enquiries {
    bell: Bell,
    next: Cell<u64>,
    asked: RefCell<VecDeque<Input>>,
    open: RefCell<HashMap<u64, Open>>,
}

/// A question whose answer is waited for, or has come.
#[derive(Default)]
struct Open {
    waiting: Option<Waker>,
    finding: Option<Finding>,
}

impl Enquiries {
    /// Asks the owner of a channel.
    pub async fn ask(&self, channel: ChannelId, enquiry: Enquiry) -> Finding {
        let number = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().insert(number, Open::default());
        let _open = Forget { enquiries: self, number };
        self.asked.borrow_mut().push_back(Input::Enquiry { number, channel, enquiry });
        self.bell.ring();
        poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let Some(open) = open.get_mut(&number) else { return Poll::Pending };
            match open.finding.take() {
                Some(finding) => Poll::Ready(finding),
                None => {
                    open.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next question, for the shard.
    pub fn take(&self) -> Option<Input> {
        self.asked.borrow_mut().pop_front()
    }

    /// Ready when there is a question to take.
    pub fn poll_asked(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }

    /// The answer to a question. If nobody waits for it any more, it is let go.
    pub fn found(&self, number: u64, finding: Finding) {
        let waiting = self.open.borrow_mut().get_mut(&number).and_then(|open| {
            open.finding = Some(finding);
            open.waiting.take()
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Forgets a question when its asker is done, or gone.
struct Forget<'a> {
    enquiries: &'a Enquiries,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.enquiries.open.borrow_mut().remove(&self.number);
    }
}
