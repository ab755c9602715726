//! Inputs that HTTP handlers have for the shards: queries to the owners of channels and to their own shard, and
//! broadcasts for the sessions of users. The shard's next turn takes them, and a later turn answers the queries.
//!
//! Bounded by the number of HTTP connections of a shard, and its task for operators: each has at most one open query and one
//! broadcast. If a
//! handler is dropped, its query is still carried out, and the answer is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use engine::id::{ChannelId, UserId};
use engine::parcel::Broadcast;
use engine::query::{ChannelQuery, Inspection, OnlineQuery, QueryAnswer, Question};
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
    answer: Option<QueryAnswer>,
}

impl ChannelQueries {
    /// Asks the owner of a channel and waits for the answer.
    pub async fn ask<Q: Question + Into<ChannelQuery>>(&self, channel: ChannelId, question: Q) -> Q::Answer {
        let query = question.into();
        self.answer_to::<Q>(|number| Input::ChannelQuery { number, channel, query }).await
    }

    /// For each of these users, whether any of the user's sessions is visible to followers.
    pub async fn online(&self, users: &[UserId]) -> Vec<bool> {
        if users.is_empty() {
            return Vec::new();
        }
        let query = OnlineQuery { users: users.to_vec() };
        let online = self.answer_to::<OnlineQuery>(|number| Input::Online { number, query }).await;
        assert_eq!(online.len(), users.len(), "each user is either online or not");
        online
    }

    /// Asks this shard about itself.
    pub async fn inspect<Q: Question + Into<Inspection>>(&self, question: Q) -> Q::Answer {
        let query = question.into();
        self.answer_to::<Q>(|number| Input::Inspect { number, query }).await
    }

    /// Sends a broadcast to the sessions of users, on every shard.
    pub fn tell(&self, broadcast: Broadcast) {
        self.put(Input::Broadcast(broadcast));
    }

    fn put(&self, input: Input) {
        self.asked.borrow_mut().push_back(input);
        self.bell.ring();
    }

    /// Gives the shard an input that asks a `Q`, and waits for the answer.
    async fn answer_to<Q: Question>(&self, input: impl FnOnce(u64) -> Input) -> Q::Answer {
        let number = self.next.replace(self.next.get() + 1);
        let before = self.open.borrow_mut().insert(number, Open::default());
        assert!(before.is_none(), "a query's number is given once");
        let _open = Forget { channel_queries: self, number };
        self.put(input(number));
        let answer = poll_fn(|context| {
            let mut open = self.open.borrow_mut();
            let Some(open) = open.get_mut(&number) else { return Poll::Pending };
            match open.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    open.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        Q::answer_in(answer).expect("each query gets the answer that belongs to it")
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
    pub fn found(&self, number: u64, answer: QueryAnswer) {
        let waiting = self.open.borrow_mut().get_mut(&number).and_then(|open| {
            let before = open.answer.replace(answer);
            assert!(before.is_none(), "query {number} is answered once");
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
