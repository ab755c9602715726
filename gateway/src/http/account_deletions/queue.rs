//! The account deletions under way on one shard, and how far each has got. The task beside this file works on them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use engine::id::{MessageId, Timestamp, UserId};
use runtime::bell::Bell;
use storage::WrittenPlace;
use storage::group::RosterPlace;

use crate::http::error::{Code, Refusal};

/// Account deletions that may be under way at the same time on a shard.
pub const UNDER_WAY_MAX: usize = 1024;

/// The account deletions under way on one shard.
#[derive(Default)]
pub struct AccountDeletions {
    pub bell: Bell,
    closing: Cell<bool>,
    queue: RefCell<VecDeque<AccountDeletion>>,
    /// The user whose deletion the task works on.
    stepping: Cell<Option<UserId>>,
    /// Whether the store is still to be asked for unfinished deletions.
    taking_up: Cell<bool>,
    pub left_over: RefCell<Vec<UserId>>,
}

/// One account deletion, from the request or from what an earlier life of the server left, to its end.
pub struct AccountDeletion {
    pub user: UserId,
    pub stage: Stage,
    /// The client that waits for an answer.
    asker: Option<flume::Sender<Result<(), Refusal>>>,
}

/// How far a deletion has got.
pub enum Stage {
    /// The account exists, and its user may still be in groups after this place.
    Leaving(Option<RosterPlace>),
    /// The account is deleted, its messages are not.
    Sweeping(Sweep),
}

/// What to do now.
pub enum Next {
    Step(AccountDeletion),
    TakeUp,
    Wait,
    End,
}

impl AccountDeletions {
    /// Deletes an account. Returns when everything is deleted, or after `WAIT_MAX` once the account itself is gone.
    pub async fn depart(&self, user: UserId) -> Result<(), Refusal> {
        let too_much = || Refusal::new(Code::Unavailable, "too many accounts are being deleted, try again");
        if self.closing.get() || self.queue.borrow().len() >= UNDER_WAY_MAX {
            return Err(too_much());
        }
        if self.is_under_way(user) {
            return Err(Refusal::new(Code::Unavailable, "this account is being deleted"));
        }
        let (asker, answer) = flume::bounded(1);
        self.put(AccountDeletion { user, stage: Stage::Leaving(None), asker: Some(asker) });
        answer.recv_async().await.unwrap_or_else(|_| Err(too_much()))
    }

    fn is_under_way(&self, user: UserId) -> bool {
        self.stepping.get() == Some(user) || self.queue.borrow().iter().any(|deletion| deletion.user == user)
    }

    /// Continues deletions that an earlier run of the server left unfinished. Call it for one shard only.
    pub fn take_up(&self) {
        self.taking_up.set(true);
        self.bell.ring();
    }

    /// Begins the stop: accounts whose deletion was requested are still deleted, and their remaining messages wait for
    /// the next start.
    pub fn close(&self) {
        self.closing.set(true);
        self.bell.ring();
    }

    /// Puts a new deletion, or a deletion that has taken a step, at the end of the queue. Wakes the task.
    pub fn put(&self, account_deletion: AccountDeletion) {
        let mut queue = self.queue.borrow_mut();
        queue.push_back(account_deletion);
        // The deletion that the task works on is not in the queue, and comes back beside those that came meanwhile.
        assert!(queue.len() <= UNDER_WAY_MAX + 1, "{} deletions are under way", queue.len());
        drop(queue);
        self.bell.ring();
    }

    /// What the task is to do, in this order: stop, ask the store for unfinished deletions, take a step, wait. A
    /// deletion that is returned is no longer in the queue. After [`Self::close`], clients whose account is gone are
    /// answered.
    pub fn next(&self, now: Timestamp) -> Next {
        let next = self.find_next(now);
        self.stepping.set(match &next {
            Next::Step(deletion) => Some(deletion.user),
            Next::TakeUp | Next::Wait | Next::End => None,
        });
        next
    }

    fn find_next(&self, now: Timestamp) -> Next {
        let mut queue = self.queue.borrow_mut();
        if self.closing.get() {
            queue.iter_mut().for_each(AccountDeletion::answer_if_gone);
            queue.retain(|account_deletion| matches!(account_deletion.stage, Stage::Leaving(_)));
            return queue.pop_front().map_or(Next::End, Next::Step);
        }
        if self.taking_up.take() {
            return Next::TakeUp;
        }
        let left_over = || {
            let user = self.left_over.borrow_mut().pop()?;
            Some(AccountDeletion { user, stage: Stage::Sweeping(Sweep::begin(now)), asker: None })
        };
        queue.pop_front().or_else(left_over).map_or(Next::Wait, Next::Step)
    }
}

impl AccountDeletion {
    /// Answers the client that waits, once: later calls do nothing.
    pub fn answer(&mut self, outcome: Result<(), Refusal>) {
        if let Some(asker) = self.asker.take() {
            // A client that has hung up needs no answer.
            let _ = asker.try_send(outcome);
        }
    }

    /// Answers the client that waits, if the account itself is deleted.
    pub fn answer_if_gone(&mut self) {
        if let Stage::Sweeping(_) = self.stage {
            self.answer(Ok(()));
        }
    }
}

/// The pass over all messages of the user. It runs twice: the second time deletes messages that a
/// session sent while it was being ended.
pub struct Sweep {
    pub begun: Timestamp,
    /// Older than all messages that this round looks at.
    pub floor: Option<MessageId>,
    /// How far this round has come.
    pub place: Option<WrittenPlace>,
}

impl Sweep {
    /// The first round, at its beginning.
    pub fn begin(now: Timestamp) -> Self {
        Self { begun: now, floor: None, place: None }
    }
}
