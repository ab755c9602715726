//! What HTTP handlers have for the shards: questions to the owners of channels and to their own shard, and news for the
//! sessions of users. Put down here, taken up by the shard's next turn; questions are answered in one of those that follow.
//!
//! Bounded by the HTTP connections of a shard, each of which asks one thing at a time and has one thing to tell at most. If
//! a handler is dropped, what it asked for is done all the same, and the answer let go.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use engine::id::{ChannelId, UserId};
use engine::parcel::{Broadcast, ChannelAnswer, ChannelQuery};
use engine::shard::Input;
use runtime::bell::Bell;

/// The questions and news of one shard's handlers.
#[derive(Default)]
pub struct ChannelQueries {
    bell: Bell,
    next: Cell<u64>,
    asked: RefCell<VecDeque<Input>>,
    open: RefCell<HashMap<u64, Open>>,
}

/// A question whose answer is waited for, or has come.
#[derive(Default)]
struct Open {
    waiting: Option<Waker>,
    channel_answer: Option<ChannelAnswer>,
}

impl ChannelQueries {
    /// Asks the owner of a channel.
    pub async fn ask(&self, channel: ChannelId, query: ChannelQuery) -> ChannelAnswer {
        self.answer_to(|number| Input::ChannelQuery { number, channel, query }).await
    }

    /// For each of these users, whether any session shows itself to followers.
    pub async fn online(&self, users: &[UserId]) -> Vec<bool> {
        if users.is_empty() {
            return Vec::new();
        }
        match self.answer_to(|number| Input::Online { number, users: users.to_vec() }).await {
            ChannelAnswer::Online(online) if online.len() == users.len() => online,
            other => unreachable!("{other:?} answers who of {} is online", users.len()),
        }
    }

    /// Tells something to the sessions of users, on every shard.
    pub fn tell(&self, broadcast: Broadcast) {
        self.put(Input::Broadcast(broadcast));
    }

    fn put(&self, input: Input) {
        self.asked.borrow_mut().push_back(input);
        self.bell.ring();
    }

    async fn answer_to(&self, question: impl FnOnce(u64) -> Input) -> ChannelAnswer {
        let number = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().insert(number, Open::default());
        let _open = Forget { channel_queries: self, number };
        self.put(question(number));
        poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let Some(open) = open.get_mut(&number) else { return Poll::Pending };
            match open.channel_answer.take() {
                Some(channel_answer) => Poll::Ready(channel_answer),
                None => {
                    open.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next of what was put down, for the shard.
    pub fn take(&self) -> Option<Input> {
        self.asked.borrow_mut().pop_front()
    }

    /// Ready when there is something to take.
    pub fn poll_asked(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }

    /// The answer to a question. If nobody waits for it any more, it is let go.
    pub fn found(&self, number: u64, channel_answer: ChannelAnswer) {
        let waiting = self.open.borrow_mut().get_mut(&number).and_then(|open| {
            open.channel_answer = Some(channel_answer);
            open.waiting.take()
        });
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Forgets a question when its asker is done, or gone.
struct Forget<'a> {
    channel_queries: &'a ChannelQueries,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.channel_queries.open.borrow_mut().remove(&self.number);
    }
}
