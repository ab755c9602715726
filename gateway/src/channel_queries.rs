//! Inputs that HTTP handlers have for the shards: queries to the owners of channels and to their own shard, and
//! broadcasts for the sessions of users. The shard's next turn takes them, and a later turn answers the queries.
//!
//! Bounded by the number of HTTP connections of a shard: each has at most one open query and one broadcast. If a
//! handler is dropped, its query is still carried out, and the answer is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use engine::id::{ChannelId, UserId};
use engine::parcel::{Broadcast, ChannelAnswer, ChannelQuery};
use engine::shard::Input;
use runtime::bell::Bell;

/// The queries and broadcasts of one shard's handlers.
#[derive(Default)]
pub struct ChannelQueries {
    bell: Bell,
    next: Cell<u64>,
    asked: RefCell<VecDeque<Input>>,
    open: RefCell<HashMap<u64, Open>>,
}

/// A query whose handler waits for the answer, or whose answer has come.
#[derive(Default)]
struct Open {
    waiting: Option<Waker>,
    channel_answer: Option<ChannelAnswer>,
}

impl ChannelQueries {
    /// Sends a query to the owner of a channel and waits for the answer.
    pub async fn ask(&self, channel: ChannelId, query: ChannelQuery) -> ChannelAnswer {
        self.answer_to(|number| Input::ChannelQuery { number, channel, query }).await
    }

    /// For each of these users, whether any of the user's sessions is visible to followers.
    pub async fn online(&self, users: &[UserId]) -> Vec<bool> {
        if users.is_empty() {
            return Vec::new();
        }
        match self.answer_to(|number| Input::Online { number, users: users.to_vec() }).await {
            ChannelAnswer::Online(online) if online.len() == users.len() => online,
            other => unreachable!("{other:?} answers who of {} is online", users.len()),
        }
    }

    /// Sends a broadcast to the sessions of users, on every shard.
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

    /// The next input for the shard, in the order of arrival.
    pub fn take(&self) -> Option<Input> {
        self.asked.borrow_mut().pop_front()
    }

    /// Ready when `take` has an input.
    pub fn poll_asked(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }

    /// Hands over the answer to a query. If no handler waits for it any more, the answer is dropped.
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

/// Removes a query from `open` when its handler has the answer, or is dropped.
struct Forget<'a> {
    channel_queries: &'a ChannelQueries,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.channel_queries.open.borrow_mut().remove(&self.number);
    }
}
