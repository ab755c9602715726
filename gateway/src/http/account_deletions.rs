//! Accounts that are being deleted (docs/protocol.md, section 8.3): their users leave every group, then the account goes
//! with all that is kept beside it, then the sessions end, and at last every message goes, channel by channel.
//!
//! One task of the shard does this, not the handler that was asked for it: who hangs up half-way has asked for the whole. All
//! that are under way take turns, a page of groups or messages each, so a user of few words does not wait for one of many.
//! From the account's end on the store remembers that there are messages left to delete. What a stop or a crash leaves over
//! is taken up again at the next start, one at a time, while there is nothing else to do.

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

/// Accounts that may be deleted at the same time on a shard.
const UNDER_WAY_MAX: usize = 1024;

/// Those that a start takes up: as many as may be under way on 64 shards. If there are more, the next start takes up the
/// others.
const LEFT_OVER_MAX: usize = 64 * UNDER_WAY_MAX;

/// Messages that are looked at in one go, and so the most that an owner is asked to delete at once.
const PAGE_MESSAGES: usize = 256;

const GROUPS_AT_ONCE: usize = 16;
const CHANNELS_AT_ONCE: usize = 100;

/// How long whoever has asked is kept waiting for the last message to go. Clients give up after 7 s, and the account is
/// gone whatever they are told.
const WAIT_MAX: Timestamp = Timestamp(3_000_000_000);

/// From a failure that may pass to the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// The account deletions under way on one shard.
#[derive(Default)]
pub struct AccountDeletions {
    bell: Bell,
    closing: Cell<bool>,
    queue: RefCell<VecDeque<AccountDeletion>>,
    /// Whether the store is to be asked what was left over.
    taking_up: Cell<bool>,
    left_over: RefCell<Vec<UserId>>,
}

struct AccountDeletion {
    user: UserId,
    stage: Stage,
    /// Whoever waits for an answer.
    asker: Option<flume::Sender<Result<(), Refusal>>>,
}

enum Stage {
    /// The account is there, and in groups behind this place.
    Leaving(Option<RosterPlace>),
    /// It is gone, its messages are not.
    Sweeping(Sweep),
}

/// What there is to do now.
enum Next {
    Step(AccountDeletion),
    TakeUp,
    Wait,
    End,
}

impl AccountDeletions {
    /// Deletes an account. Answers when all of it is gone, or when that takes long.
    pub async fn depart(&self, user: UserId) -> Result<(), Refusal> {
        let too_much = || Refusal::new(Code::Unavailable, "too many accounts are being deleted, try again");
        if self.closing.get() || self.queue.borrow().len() >= UNDER_WAY_MAX {
            return Err(too_much());
        }
        let (asker, answer) = flume::bounded(1);
        self.put(AccountDeletion { user, stage: Stage::Leaving(None), asker: Some(asker) });
        answer.recv_async().await.unwrap_or_else(|_| Err(too_much()))
    }

    /// Goes on with what a former life of the server has left over. For one shard of all.
    pub fn take_up(&self) {
        self.taking_up.set(true);
        self.bell.ring();
    }

    /// Begins the end: accounts that have been asked to be deleted still are, what remains of them waits for the next start.
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

/// Works on the account deletions of a shard until it closes.
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
            // Whoever has hung up needs no answer.
            let _ = asker.try_send(outcome);
        }
    }

    fn answer_if_gone(&mut self) {
        if let Stage::Sweeping(_) = self.stage {
            self.answer(Ok(()));
        }
    }
}

/// Leaves some of the groups; without any, ends what else the user is in this server: account, tokens, sessions.
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
            // Without the group, or thrown out of it meanwhile, there is nothing left to leave.
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
    // The account's end has waited for the store, and a sign-in may have been answered meanwhile.
    if let Err(refusal) = log_out_everywhere(services, user, None).await {
        tracing::warn!(reason = %refusal.message, "tokens issued while their account was deleted stay good");
    }
    services.channel_queries().tell(Broadcast::Expelled(user));
    Ok(())
}

/// The way through all channels that the user has written in. It is gone twice: the second time for what a session said
/// while it was being ended.
struct Sweep {
    begun: Timestamp,
    /// Ahead of all messages that are looked at in this round.
    floor: Option<MessageId>,
    /// The last channel of this round that is known.
    listed: Option<ChannelId>,
    /// Those of them that are not done.
    channels: VecDeque<ChannelId>,
    /// How far the first of these has been gone through.
    seen: Option<MessageId>,
}

/// How far a sweep has come.
enum Swept {
    Part,
    All,
}

impl Sweep {
    fn begin(now: Timestamp) -> Self {
        Self { begun: now, floor: None, listed: None, channels: VecDeque::new(), seen: None }
    }

    /// Deletes what is the user's on one page. Done once more, it does no harm.
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

/// Has the channel's owner delete these messages of the user, in memory and in the store.
async fn purge(services: &Services, channel: &ChannelId, user: UserId, ids: Vec<MessageId>) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    match services.channel_queries().ask(channel.clone(), ChannelQuery::Purge { sender: user, ids }).await {
        ChannelAnswer::Done => Ok(()),
        // Done once more, a purge does no harm.
        ChannelAnswer::Failed | ChannelAnswer::OutcomeUnknown => {
            Err(Failure::Passing("the channel's owner could not do it".into()))
        }
        other => unreachable!("{other:?} answers no change"),
    }
}

/// Below all ids that are made from a moment on. An id is never behind the clock, and clocks of two shards differ by less
/// than a second.
fn floor_at(time: Timestamp) -> MessageId {
    let milliseconds = u64::try_from(time.milliseconds() - 1_000).unwrap_or(0);
    MessageId(Uuid::from_u128(u128::from(milliseconds) << 80))
}
