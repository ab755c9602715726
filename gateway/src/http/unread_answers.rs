//! A bound on the bytes of the answers that a shard holds because their clients have not read them.
//!
//! An answer counts from the moment it is made until the kernel has all of it: only then is its memory free. When all
//! answers together would hold more than the bound, others give way as in `byte_shares.rs`: of the network that holds
//! most, and there of the user that holds most, the oldest. Its connection is closed, because the answer has begun and
//! cannot be taken back. If the new answer is itself the first to give way, its client is told to try again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use engine::counters::ANSWER_CUTS;
use engine::id::UserId;
use tracing::field::display;

use crate::byte_shares::{ByteShares, Holder};
use crate::client_network::ClientNetwork;
use crate::log_limit;

/// All unread answers of a shard: some 75 of the longest pages of messages, or 1,300 of ordinary ones. Answers that a
/// socket takes at once (128 KiB fit) hold their bytes for a moment only.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Why a connection is closed before its answer is read, in the order of `ANSWER_CUTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerCut {
    /// The answer gave way to others.
    Full,
    /// Its client read too slowly.
    Slow,
}

const _: () = assert!(AnswerCut::Slow as usize + 1 == ANSWER_CUTS.len());

/// The answers of a shard that are made and not yet with the kernel.
pub struct UnreadAnswers {
    held: RefCell<HeldAnswers>,
    cuts: [Cell<u64>; ANSWER_CUTS.len()],
}

struct HeldAnswers {
    shares: ByteShares,
    /// The most bytes since the last look.
    most: usize,
    /// What wakes the connection of each answer when the answer gives way.
    wakers: HashMap<Holder, Option<Waker>>,
}

/// An answer that counts until this is dropped.
pub struct UnreadAnswer {
    answers: Rc<UnreadAnswers>,
    holder: Holder,
    reader: Reader,
}

/// Who is to read an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader {
    pub client: ClientNetwork,
    pub user: Option<UserId>,
}

impl Reader {
    /// The client at this network, of which no user is known.
    pub fn unknown(client: ClientNetwork) -> Self {
        Self { client, user: None }
    }
}

impl UnreadAnswers {
    /// Room for `bytes_max` bytes of answers.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        let held = HeldAnswers { shares: ByteShares::new(bytes_max), most: 0, wakers: HashMap::new() };
        Rc::new(Self { held: RefCell::new(held), cuts: Default::default() })
    }

    /// Counts an answer of so many bytes. Returns `None` if it is the first of all answers to give way.
    pub fn hold(self: &Rc<Self>, from: ClientNetwork, user: Option<UserId>, bytes: usize) -> Option<UnreadAnswer> {
        let held = &mut *self.held.borrow_mut();
        let holder = held.shares.enter(from, user);
        let before = held.wakers.insert(holder, None);
        debug_assert!(before.is_none(), "a holder's number is given once");
        let given_way = held.shares.grow(holder, bytes);
        held.most = held.most.max(held.shares.bytes());
        for displaced in &given_way {
            let displaced = held.wakers.remove(displaced);
            debug_assert!(displaced.is_some(), "an answer that gives way was held");
            if let Some(waker) = displaced.flatten() {
                waker.wake();
            }
        }
        // An answer that has just been made has no `UnreadAnswer` yet, and its connection is not closed.
        let reader = Reader { client: from, user };
        (!given_way.contains(&holder)).then(|| UnreadAnswer { answers: self.clone(), holder, reader })
    }

    /// The bytes that answers hold now.
    pub fn bytes(&self) -> usize {
        self.held.borrow().shares.bytes()
    }

    /// The most bytes that answers have held since the last call.
    pub fn take_most_bytes(&self) -> usize {
        let held = &mut *self.held.borrow_mut();
        let now = held.shares.bytes();
        std::mem::replace(&mut held.most, now)
    }

    /// Takes in that a connection was closed before its answer was read.
    pub fn was_cut(&self, cut: AnswerCut, reader: Reader) {
        let count = &self.cuts[cut as usize];
        count.set(count.get() + 1);
        let Reader { client, user } = reader;
        let user = || user.map(|user| display(user.0));
        match cut {
            AnswerCut::Full => log_limit::warn!(
                %client, user = user(), "unread HTTP answers fill their memory: the connection of one is closed"
            ),
            AnswerCut::Slow => log_limit::warn!(
                %client, user = user(), "a client reads its HTTP answer too slowly: its connection is closed"
            ),
        }
    }

    /// How many connections were closed before their answer was read, in the order of `ANSWER_CUTS`.
    pub fn cuts(&self) -> [u64; ANSWER_CUTS.len()] {
        self.cuts.each_ref().map(Cell::get)
    }
}

impl UnreadAnswer {
    /// Who is to read it.
    pub fn reader(&self) -> Reader {
        self.reader
    }

    /// Ready when the answer has given way: its connection is to be closed.
    pub fn poll_displaced(&self, context: &Context<'_>) -> Poll<()> {
        let held = &mut *self.answers.held.borrow_mut();
        let Some(waker) = held.wakers.get_mut(&self.holder) else { return Poll::Ready(()) };
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for UnreadAnswer {
    fn drop(&mut self) {
        let held = &mut *self.answers.held.borrow_mut();
        held.shares.leave(self.holder);
        debug_assert!(held.most >= held.shares.bytes(), "the most bytes since the last look are no fewer than now");
        held.wakers.remove(&self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ClientNetwork = ClientNetwork::V6(1);
    const THERE: ClientNetwork = ClientNetwork::V6(2);

    fn is_displaced(answer: &UnreadAnswer) -> bool {
        answer.poll_displaced(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_of_the_network_that_holds_most_gives_way() {
        let answers = UnreadAnswers::new(100);
        let others = answers.hold(THERE, None, 30).unwrap();
        let held = [30, 40].map(|bytes| answers.hold(HERE, None, bytes).unwrap());
        assert!(!held.iter().any(is_displaced));
        let newest = answers.hold(HERE, None, 10).unwrap();
        assert!(is_displaced(&held[0]) && !is_displaced(&held[1]) && !is_displaced(&newest) && !is_displaced(&others));
        assert_eq!(answers.bytes(), 80);
    }

    #[test]
    fn an_answer_that_would_be_the_first_to_give_way_is_not_held() {
        let answers = UnreadAnswers::new(100);
        let other = answers.hold(THERE, None, 40).unwrap();
        assert!(answers.hold(HERE, None, 70).is_none());
        assert!(!is_displaced(&other));
        assert_eq!(answers.bytes(), 40);
    }

    #[test]
    fn what_is_dropped_holds_nothing() {
        let answers = UnreadAnswers::new(100);
        let held: Vec<_> = (0..4).map(|_| answers.hold(HERE, None, 40).unwrap()).collect();
        assert_eq!(answers.bytes(), 80, "two have given way");
        drop(held);
        assert_eq!(answers.bytes(), 0);
        assert!(answers.held.borrow().wakers.is_empty());
    }
}
