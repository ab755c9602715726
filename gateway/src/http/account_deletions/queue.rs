//! The account deletions under way on one shard, and how far each has got. The task beside this file works on them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};

use engine::fair_queue::{FairQueue, Turns};
use engine::id::{MessageId, Timestamp, UserId};
use runtime::bell::Bell;
use storage::WrittenPlace;
use storage::group::RosterPlace;

use crate::client_network::{ClientNetwork, ClientSite};
use crate::http::error::{Code, Refusal};
use crate::log_limit;

/// Account deletions that may be under way at the same time on a shard.
pub const UNDER_WAY_MAX: usize = 1024;

/// Unfinished deletions that a shard continues when it has nothing else to do: as many as may be under way on 64 shards.
/// If there are more, the next start continues the others.
pub const LEFT_OVER_MAX: usize = 64 * UNDER_WAY_MAX;

/// By site and network.
type Queue = FairQueue<Turns<ClientSite, Turns<ClientNetwork, VecDeque<AccountDeletion>>>>;

/// The account deletions under way on one shard.
pub struct AccountDeletions {
    pub bell: Bell,
    closing: Cell<bool>,
    queue: RefCell<Queue>,
    /// The users whose deletions are in the queue.
    queued: RefCell<HashSet<UserId>>,
    /// The user whose deletion the task works on.
    stepping: Cell<Option<UserId>>,
    /// Whether the store is still to be asked for unfinished deletions.
    taking_up: Cell<bool>,
    /// Users whose accounts are gone and whose messages are not. Their deletions are in the store, too.
    left_over: RefCell<Vec<UserId>>,
    /// What keeps the messages of deleted accounts from being deleted, by user. There are at most as many as deletions that
    /// are under way or left over; beyond it the others are not told of.
    troubles: RefCell<HashMap<UserId, Trouble>>,
}

/// Why the messages of an account are not deleted.
struct Trouble {
    since: Timestamp,
    reason: String,
}

/// A trouble that has lasted for so long is told to an operator who waits.
pub const TROUBLE_MAX: Timestamp = Timestamp(60_000_000_000);

/// One account deletion, from the request or from what an earlier life of the server left, to its end.
pub struct AccountDeletion {
    pub user: UserId,
    /// The network of the client that asked for it.
    pub from: ClientNetwork,
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

impl Default for AccountDeletions {
    fn default() -> Self {
        Self {
            bell: Bell::default(),
            closing: Cell::default(),
            queue: RefCell::new(Queue::new(UNDER_WAY_MAX)),
            queued: RefCell::default(),
            stepping: Cell::default(),
            taking_up: Cell::default(),
            left_over: RefCell::default(),
            troubles: RefCell::default(),
        }
    }
}

impl AccountDeletions {
    /// Deletes an account. Returns when everything is deleted, or after `WAIT_MAX` once the account itself is gone. Fails
    /// if the network that the request comes from has its share of the places, and others need the rest.
    pub async fn depart(&self, user: UserId, from: ClientNetwork) -> Result<(), Refusal> {
        if self.closing.get() {
            return Err(too_many());
        }
        if self.is_under_way(user) {
            return Err(Refusal::new(Code::Unavailable, "this account is being deleted"));
        }
        let (asker, answer) = flume::bounded(1);
        let deletion = AccountDeletion { user, from, stage: Stage::Leaving(None), asker: Some(asker) };
        self.queued.borrow_mut().insert(user);
        let displaced = self.queue.borrow_mut().put(path(from), deletion);
        if let Some(displaced) = displaced {
            self.give_way(displaced);
        }
        debug_assert_eq!(self.queued.borrow().len(), self.queue.borrow().len(), "each user is in the queue once");
        self.bell.ring();
        answer.recv_async().await.unwrap_or_else(|_| Err(too_many()))
    }

    /// Whether the user's deletion is under way on this shard.
    pub fn is_under_way(&self, user: UserId) -> bool {
        self.stepping.get() == Some(user) || self.queued.borrow().contains(&user)
    }

    /// Ends a deletion that has lost its place. If the account still exists, its user can ask again. If it is gone, its
    /// messages are deleted later.
    fn give_way(&self, mut displaced: AccountDeletion) {
        let was_queued = self.queued.borrow_mut().remove(&displaced.user);
        debug_assert!(was_queued, "a deletion that gives way was in the queue");
        match displaced.stage {
            Stage::Leaving(_) => displaced.answer(Err(too_many())),
            Stage::Sweeping(_) => {
                displaced.answer(Ok(()));
                self.leave_over(vec![displaced.user]);
            }
        }
    }

    /// Continues these users' deletions when there is nothing else to do. Their accounts are gone.
    pub fn leave_over(&self, users: Vec<UserId>) {
        let mut left_over = self.left_over.borrow_mut();
        let room = LEFT_OVER_MAX.saturating_sub(left_over.len());
        if users.len() > room {
            log_limit::warn!("messages of deleted accounts stay until the next start: too many at once");
        }
        left_over.extend(users.into_iter().take(room));
        debug_assert!(left_over.len() <= LEFT_OVER_MAX, "{} deletions are left over", left_over.len());
    }

    /// A step of the user's deletion has failed and is tried again.
    pub fn meet_trouble(&self, user: UserId, reason: &str, now: Timestamp) {
        let mut troubles = self.troubles.borrow_mut();
        if troubles.len() < LEFT_OVER_MAX {
            let trouble = || Trouble { since: now, reason: reason.to_owned() };
            troubles.entry(user).or_insert_with(trouble);
        }
    }

    /// A step of the user's deletion was taken, or it does not go on before the next start.
    pub fn end_trouble(&self, user: UserId) {
        self.troubles.borrow_mut().remove(&user);
    }

    /// Why the user's messages are not deleted soon, for an operator.
    pub fn lasting_trouble(&self, user: UserId, now: Timestamp) -> Option<String> {
        let troubles = self.troubles.borrow();
        let Trouble { since, reason } = troubles.get(&user)?;
        (now.0 - since.0 >= TROUBLE_MAX.0).then(|| format!("{reason}. The server goes on trying"))
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

    /// Puts a deletion that has taken a step at the end of its line. Wakes the task.
    pub fn put_back(&self, account_deletion: AccountDeletion) {
        let stepped = self.stepping.take();
        debug_assert_eq!(stepped, Some(account_deletion.user), "the task puts back what it has taken");
        self.queued.borrow_mut().insert(account_deletion.user);
        let mut queue = self.queue.borrow_mut();
        queue.put_back(path(account_deletion.from), account_deletion);
        // The task works on one at a time.
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
        if self.closing.get() {
            return self.take_not_gone().map_or(Next::End, Next::Step);
        }
        if self.taking_up.take() {
            return Next::TakeUp;
        }
        let left_over = || {
            let (user, from) = (self.left_over.borrow_mut().pop()?, ClientNetwork::UNKNOWN);
            Some(AccountDeletion { user, from, stage: Stage::Sweeping(Sweep::begin(now)), asker: None })
        };
        self.take().or_else(left_over).map_or(Next::Wait, Next::Step)
    }

    fn take(&self) -> Option<AccountDeletion> {
        let taken = self.queue.borrow_mut().take();
        if let Some(taken) = &taken {
            self.queued.borrow_mut().remove(&taken.user);
        }
        debug_assert_eq!(self.queued.borrow().len(), self.queue.borrow().len(), "each user is in the queue once");
        taken
    }

    /// Takes the next deletion of an account that still exists. Ends all others, and answers their clients.
    fn take_not_gone(&self) -> Option<AccountDeletion> {
        let mut queue = self.queue.borrow_mut();
        let mut remaining = Vec::with_capacity(queue.len());
        while let Some(mut deletion) = queue.take() {
            match deletion.stage {
                Stage::Leaving(_) => remaining.push(deletion),
                Stage::Sweeping(_) => {
                    deletion.answer_if_gone();
                    self.queued.borrow_mut().remove(&deletion.user);
                }
            }
        }
        for deletion in remaining {
            queue.put_back(path(deletion.from), deletion);
        }
        drop(queue);
        self.take()
    }
}

/// The line of deletions that clients of this network asked for.
fn path(from: ClientNetwork) -> (ClientSite, (ClientNetwork, ())) {
    (from.site(), (from, ()))
}

fn too_many() -> Refusal {
    Refusal::new(Code::Unavailable, "too many accounts are being deleted, try again")
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use uuid::Uuid;

    use super::*;

    type Asked<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + 'a>>;

    fn network(number: u64) -> ClientNetwork {
        ClientNetwork::V6(number << 16)
    }

    fn user(number: usize) -> UserId {
        UserId(Uuid::from_u128(number as u128))
    }

    /// What the client has heard until now: `Some(true)` if the account is gone.
    fn heard(asked: &mut Asked<'_>) -> Option<bool> {
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer.is_ok()),
            Poll::Pending => None,
        }
    }

    /// Clients of one network ask for the deletions of accounts with these numbers.
    fn ask(deletions: &AccountDeletions, numbers: std::ops::Range<usize>, from: u64) -> Vec<Asked<'_>> {
        let mut all: Vec<Asked<'_>> =
            numbers.map(|number| Box::pin(deletions.depart(user(number), network(from))) as Asked<'_>).collect();
        all.iter_mut().for_each(|asked| assert_eq!(heard(asked), None));
        all
    }

    fn step(deletions: &AccountDeletions) -> AccountDeletion {
        match deletions.next(Timestamp(0)) {
            Next::Step(deletion) => deletion,
            _ => panic!("there is nothing to do"),
        }
    }

    #[test]
    fn one_network_leaves_places_to_others() {
        let deletions = AccountDeletions::default();
        let mut flood = ask(&deletions, 0..UNDER_WAY_MAX, 1);
        let mut further: Asked<'_> = Box::pin(deletions.depart(user(UNDER_WAY_MAX), network(1)));
        assert_eq!(heard(&mut further), Some(false), "of the network that has all places");
        let _others = ask(&deletions, 10_000..10_100, 2);
        let refused = flood.iter_mut().filter_map(heard);
        assert_eq!(refused.count(), 100);
        let turns: Vec<_> = (0..4).map(|_| step(&deletions).user).collect();
        assert_eq!(turns, [user(0), user(10_000), user(1), user(10_001)], "networks take turns");
    }

    #[test]
    fn messages_of_a_displaced_deletion_are_deleted_later() {
        let deletions = AccountDeletions::default();
        let mut flood = ask(&deletions, 0..UNDER_WAY_MAX, 1);
        let mut gone = step(&deletions);
        gone.stage = Stage::Sweeping(Sweep::begin(Timestamp(0)));
        let _further = ask(&deletions, 5_000..5_001, 1);
        deletions.put_back(gone);
        assert!(deletions.is_under_way(user(0)));
        let _other = ask(&deletions, 10_000..10_001, 2);
        assert_eq!(heard(&mut flood[0]), Some(true));
        assert!(!deletions.is_under_way(user(0)));
        assert_eq!(deletions.queue.borrow().len(), UNDER_WAY_MAX + 1);
        let steps = (0..=UNDER_WAY_MAX).map(|_| step(&deletions)).filter(|taken| taken.user == user(0));
        assert_eq!(steps.count(), 0);
        let later = step(&deletions);
        assert!(later.user == user(0) && matches!(later.stage, Stage::Sweeping(_)));
        assert!(matches!(deletions.next(Timestamp(0)), Next::Wait));
    }
}
