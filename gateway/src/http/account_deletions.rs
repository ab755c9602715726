//! Deletes accounts (docs/protocol.md, section 8.3). First the user leaves every group. Then the account is deleted
//! with everything stored beside it. Then the user's sessions end. At last every message is deleted, channel by
//! channel.
//!
//! A task of the shard does this, not the handler of the request: a client that hangs up half-way has still asked for
//! the whole deletion. All deletions under way take turns, a page of groups or messages each, so a user with few
//! messages does not wait for one with many. Once the account is deleted, the store records that there are messages
//! left to delete. Deletions that a stop or a crash leaves unfinished are continued at the next start, one at a time,
//! while the task has nothing else to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use engine::id::{ChannelId, MessageId, Timestamp, UserId};
use engine::parcel::{Broadcast, ChannelAnswer, ChannelQuery};
use engine::social::group::{GroupAct, GroupChange, GroupRefusal};
use glommio::timer::sleep;
use runtime::bell::Bell;
use storage::account::Revocation;
use storage::group::RosterPlace;
use storage::{Failure, Place};
use uuid::Uuid;

use super::error::{Code, Refusal, group_refused, undone};
use super::services::Services;
use super::session::log_out_everywhere;

/// Account deletions that may be under way at the same time on a shard.
const UNDER_WAY_MAX: usize = 1024;

/// Unfinished deletions that a start continues: as many as may be under way on 64 shards. If there are more, the next
/// start continues the others.
const LEFT_OVER_MAX: usize = 64 * UNDER_WAY_MAX;

/// Messages read at once, and so the most that an owner is asked to delete at once.
const PAGE_MESSAGES: usize = 256;

const GROUPS_AT_ONCE: usize = 16;
const CHANNELS_AT_ONCE: usize = 100;

/// How long a client waits for the last message to be deleted. Clients give up after 7 s, and the account is gone
/// whatever answer they get.
const WAIT_MAX: Timestamp = Timestamp(3_000_000_000);

/// Time between a temporary failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// The account deletions under way on one shard.
#[derive(Default)]
pub struct AccountDeletions {
    bell: Bell,
    closing: Cell<bool>,
    queue: RefCell<VecDeque<AccountDeletion>>,
    /// Whether the store is still to be asked for unfinished deletions.
    taking_up: Cell<bool>,
    left_over: RefCell<Vec<UserId>>,
}

struct AccountDeletion {
    user: UserId,
    stage: Stage,
    /// The client that waits for an answer.
    asker: Option<flume::Sender<Result<(), Refusal>>>,
}

enum Stage {
    /// The account exists, and its user may still be in groups after this place.
    Leaving(Option<RosterPlace>),
    /// The account is deleted, its messages are not.
    Sweeping(Sweep),
}

/// What to do now.
enum Next {
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
        let (asker, answer) = flume::bounded(1);
        self.put(AccountDeletion { user, stage: Stage::Leaving(None), asker: Some(asker) });
        answer.recv_async().await.unwrap_or_else(|_| Err(too_much()))
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

    fn put(&self, account_deletion: AccountDeletion) {
        self.queue.borrow_mut().push_back(account_deletion);
        self.bell.ring();
    }

    fn next(&self, now: Timestamp) -> Next {
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

/// Works on the account deletions of a shard until the server stops.
pub async fn run(services: Rc<Services>) {
    let account_deletions = services.account_deletions();
    loop {
        match account_deletions.next(services.now()) {
            Next::Step(account_deletion) => step(&services, account_deletion).await,
            Next::TakeUp => take_up(&services).await,
            Next::Wait => account_deletions.bell.heard().await,
            Next::End => return,
        }
    }
}

async fn take_up(services: &Services) {
    match services.store.account_deletions(LEFT_OVER_MAX).await {
        Ok(users) => *services.account_deletions().left_over.borrow_mut() = users,
        Err(failure) => tracing::error!(%failure, "messages of deleted accounts stay until the next start"),
    }
}

async fn step(services: &Services, mut account_deletion: AccountDeletion) {
    match &mut account_deletion.stage {
        Stage::Leaving(after) => match leave(services, account_deletion.user, *after).await {
            Ok(stage) => account_deletion.stage = stage,
            Err(refusal) => return account_deletion.answer(Err(refusal)),
        },
        Stage::Sweeping(sweep) => match sweep.go_on(services, account_deletion.user).await {
            Ok(Swept::Part) if services.now().0 - sweep.begun.0 < WAIT_MAX.0 => {}
            Ok(Swept::Part) => account_deletion.answer_if_gone(),
            Ok(Swept::All) => return account_deletion.answer(Ok(())),
            Err(Failure::Passing(reason) | Failure::Unknown(reason)) => {
                tracing::warn!(%reason, "messages of a deleted account stay a little longer");
                account_deletion.answer_if_gone();
                sleep(PAUSE).await;
            }
            Err(Failure::Full(_)) => {
                account_deletion.answer_if_gone();
                sleep(PAUSE).await;
            }
            Err(failure) => {
                tracing::error!(%failure, "messages of a deleted account stay until the next start");
                return account_deletion.answer(Ok(()));
            }
        },
    }
    services.account_deletions().put(account_deletion);
}

impl AccountDeletion {
    fn answer(&mut self, outcome: Result<(), Refusal>) {
        if let Some(asker) = self.asker.take() {
            // A client that has hung up needs no answer.
            let _ = asker.try_send(outcome);
        }
    }

    fn answer_if_gone(&mut self) {
        if let Stage::Sweeping(_) = self.stage {
            self.answer(Ok(()));
        }
    }
}

/// Leaves some of the groups. When no group is left, deletes the account, refuses its tokens and ends its sessions.
async fn leave(services: &Services, user: UserId, after: Option<RosterPlace>) -> Result<Stage, Refusal> {
    let groups = services.store.user_groups(user, None, after, GROUPS_AT_ONCE).await?;
    let Some((_, last)) = groups.last() else {
        end(services, user).await?;
        return Ok(Stage::Sweeping(Sweep::begin(services.now())));
    };
    let after = Some(*last);
    for (group, _) in groups {
        let change = GroupChange { group: group.id, actor: user, act: GroupAct::Depart };
        match services.channel_queries().ask(ChannelId::group(group.id), ChannelQuery::ChangeGroup(change)).await {
            // If the group is gone, or the user was removed from it meanwhile, there is nothing to leave.
            ChannelAnswer::GroupChanged(Ok(()) | Err(GroupRefusal::NotFound)) => {}
            ChannelAnswer::GroupChanged(Err(refusal)) => return Err(group_refused(&GroupAct::Depart, refusal)),
            other => return Err(undone(other)),
        }
    }
    Ok(Stage::Leaving(after))
}

async fn end(services: &Services, user: UserId) -> Result<(), Refusal> {
    let now = services.now();
    let (revocations, revocation) = (services.tokens.revocations(), Revocation::User { id: user, issued_before: now });
    if !revocations.has_room(&revocation, now) {
        return Err(Refusal::new(Code::Unavailable, "too many logouts within the lifetime of tokens, try again later"));
    }
    if !services.store.delete_account(user, now).await? {
        return Err(Refusal::not_found("account not found"));
    }
    revocations.add(revocation, now);
    // Deleting the account took time, and a sign-in may have been answered meanwhile.
    if let Err(refusal) = log_out_everywhere(services, user, None).await {
        tracing::warn!(reason = %refusal.message, "tokens issued while their account was deleted stay good");
    }
    services.channel_queries().tell(Broadcast::Expelled(user));
    Ok(())
}

/// The pass over all channels that the user has written in. It runs twice: the second time deletes messages that a
/// session sent while it was being ended.
struct Sweep {
    begun: Timestamp,
    /// Older than all messages that this round looks at.
    floor: Option<MessageId>,
    /// The last channel that was listed in this round.
    listed: Option<ChannelId>,
    /// The listed channels that are not finished.
    channels: VecDeque<ChannelId>,
    /// The last message that was looked at in the first of these channels.
    seen: Option<MessageId>,
}

/// How far a sweep has got.
enum Swept {
    Part,
    All,
}

impl Sweep {
    fn begin(now: Timestamp) -> Self {
        Self { begun: now, floor: None, listed: None, channels: VecDeque::new(), seen: None }
    }

    /// Deletes the user's messages of one page. Repeating a page is harmless.
    async fn go_on(&mut self, services: &Services, user: UserId) -> Result<Swept, Failure> {
        let Some(channel) = self.channels.front() else {
            return self.list_channels(services, user).await;
        };
        let from = self.seen.max(self.floor).map_or(Place::Oldest, Place::After);
        let page = services.store.messages(channel.clone(), from, PAGE_MESSAGES).await?;
        let own = page.iter().filter(|message| message.sender == user);
        purge(services, channel, user, own.map(|message| message.id).collect()).await?;
        self.seen = page.last().map(|last| last.id);
        if page.len() < PAGE_MESSAGES {
            self.channels.pop_front();
            self.seen = None;
        }
        Ok(Swept::Part)
    }

    async fn list_channels(&mut self, services: &Services, user: UserId) -> Result<Swept, Failure> {
        let listed = services.store.channels_written(user, self.listed.clone(), CHANNELS_AT_ONCE).await?;
        if !listed.is_empty() {
            self.listed = listed.last().cloned();
            self.channels = listed.into();
        } else if self.floor.is_none() {
            (self.floor, self.listed) = (Some(floor_at(self.begun)), None);
        } else {
            services.store.finish_departure(user).await?;
            return Ok(Swept::All);
        }
        Ok(Swept::Part)
    }
}

/// Asks the channel's owner to delete these messages of the user, in memory and in the store.
async fn purge(services: &Services, channel: &ChannelId, user: UserId, ids: Vec<MessageId>) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    match services.channel_queries().ask(channel.clone(), ChannelQuery::Purge { sender: user, ids }).await {
        ChannelAnswer::Done => Ok(()),
        // Repeating a purge is harmless, so both count as a temporary failure.
        ChannelAnswer::Failed | ChannelAnswer::OutcomeUnknown => {
            Err(Failure::Passing("the channel's owner could not do it".into()))
        }
        other => unreachable!("{other:?} answers no change"),
    }
}

/// An id below all ids that are made from this time on. An id is never behind the clock, and the clocks of two shards
/// differ by less than a second.
fn floor_at(time: Timestamp) -> MessageId {
    let milliseconds = u64::try_from(time.milliseconds() - 1_000).unwrap_or(0);
    MessageId(Uuid::from_u128(u128::from(milliseconds) << 80))
}
