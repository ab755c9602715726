//! Deletes accounts (docs/protocol.md, section 8.3). First the user leaves every group. Then the account is deleted
//! with everything stored beside it. Then the user's sessions end. At last every message is deleted, channel by
//! channel.
//!
//! A task of the shard does this, not the handler of the request: a client that hangs up half-way has still asked for
//! the whole deletion. All deletions under way take turns, a page of groups or messages each, so a user with few
//! messages does not wait for one with many. Once the account is deleted, the store records that there are messages
//! left to delete. Deletions that a stop or a crash leaves unfinished are continued at the next start, one at a time,
//! while the task has nothing else to do.
//!
//! Places are shared: sites take turns, and within a site its networks do (`client_network.rs`). When all places are taken,
//! a deletion of the site that has most gives way.

pub mod queue;

use std::rc::Rc;
use std::time::Duration;

use engine::id::{ChannelId, MessageId, Timestamp, UserId};
use engine::parcel::Broadcast;
use engine::query::Purge;
use engine::social::group::{GroupAct, GroupChange, GroupRefusal};
use glommio::timer::sleep;
use storage::Failure;
use storage::group::RosterPlace;
use uuid::Uuid;

use super::error::{Refusal, group_refused};
use super::services::Services;
use super::session::{log_out_everywhere, too_many_logouts};
use crate::client_network::ClientNetwork;
use crate::log_limit;
use crate::revocations::Maker;
use queue::{AccountDeletion, LEFT_OVER_MAX, Next, Stage, Sweep};

/// Messages that an owner is asked to delete at once.
const MESSAGES_AT_ONCE: usize = 256;

const GROUPS_AT_ONCE: usize = 16;

/// How long a client waits for the last message to be deleted. Clients give up after 7 s, and the account is gone
/// whatever answer they get.
const WAIT_MAX: Timestamp = Timestamp(3_000_000_000);

/// Time between a temporary failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

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
    match services.own_store().account_deletions(LEFT_OVER_MAX).await {
        Ok(users) => services.account_deletions().leave_over(users),
        Err(failure) => tracing::error!(%failure, "messages of deleted accounts stay until the next start"),
    }
}

async fn step(services: &Services, mut account_deletion: AccountDeletion) {
    match &mut account_deletion.stage {
        Stage::Leaving(after) => match leave(services, account_deletion.user, account_deletion.from, *after).await {
            Ok(stage) => account_deletion.stage = stage,
            Err(refusal) => return account_deletion.answer(Err(refusal)),
        },
        Stage::Sweeping(sweep) => match sweep.go_on(services, account_deletion.user).await {
            Ok(Swept::Part) => {
                services.account_deletions().end_trouble(account_deletion.user);
                if services.now().0 - sweep.begun.0 >= WAIT_MAX.0 {
                    account_deletion.answer_if_gone();
                }
            }
            Ok(Swept::All) => {
                services.account_deletions().end_trouble(account_deletion.user);
                return account_deletion.answer(Ok(()));
            }
            Err(Failure::Passing(reason) | Failure::Unknown(reason)) => {
                log_limit::warn!(%reason, "messages of a deleted account stay a little longer");
                services.account_deletions().meet_trouble(account_deletion.user, &reason, services.now());
                account_deletion.answer_if_gone();
                sleep(PAUSE).await;
            }
            Err(Failure::Full(reason)) => {
                services.account_deletions().meet_trouble(account_deletion.user, &reason, services.now());
                account_deletion.answer_if_gone();
                sleep(PAUSE).await;
            }
            Err(failure) => {
                log_limit::error!(%failure, "messages of a deleted account stay until the next start");
                services.account_deletions().end_trouble(account_deletion.user);
                return account_deletion.answer(Ok(()));
            }
        },
    }
    services.account_deletions().put_back(account_deletion);
}

/// Leaves some of the groups. When no group is left, deletes the account, refuses its tokens and ends its sessions.
async fn leave(
    services: &Services,
    user: UserId,
    from: ClientNetwork,
    after: Option<RosterPlace>,
) -> Result<Stage, Refusal> {
    let groups = services.store_for(user).user_groups(user, None, after, GROUPS_AT_ONCE).await?;
    let Some(last) = groups.stopped.or(groups.items.last().map(|(_, place)| *place)) else {
        end(services, user, from).await?;
        return Ok(Stage::Sweeping(Sweep::begin(services.now())));
    };
    for (group, _) in groups.items {
        let change = GroupChange { group: group.id, actor: user, act: GroupAct::Depart };
        match services.channel_queries().ask(ChannelId::group(group.id), change).await? {
            // If the group is gone, or the user was removed from it meanwhile, there is nothing to leave.
            Ok(()) | Err(GroupRefusal::NotFound) => {}
            Err(refusal) => return Err(group_refused(&GroupAct::Depart, refusal)),
        }
    }
    Ok(Stage::Leaving(Some(last)))
}

async fn end(services: &Services, user: UserId, from: ClientNetwork) -> Result<(), Refusal> {
    let (now, maker) = (services.now(), Maker { user, site: from.site().key() });
    let revocations = services.tokens.revocations();
    if !revocations.has_room_for_cutoff(maker, now) {
        return Err(too_many_logouts());
    }
    if !services.store_for(user).delete_account(user, now).await? {
        return Err(Refusal::not_found("account not found"));
    }
    revocations.add_cutoff(maker, now, now);
    // Deleting the account took time, and a sign-in may have been answered meanwhile.
    if let Err(refusal) = log_out_everywhere(services, maker, None).await {
        log_limit::warn!(reason = %refusal.message, "tokens issued while their account was deleted stay good");
    }
    services.channel_queries().tell(Broadcast::Expelled(user));
    Ok(())
}

/// How far a sweep has got.
pub(super) enum Swept {
    Part,
    All,
}

impl Sweep {
    /// Deletes some of the user's messages. Repeating that is harmless.
    pub(super) async fn go_on(&mut self, services: &Services, user: UserId) -> Result<Swept, Failure> {
        let part = services.store_for(user).written(user, self.floor, self.place.clone(), MESSAGES_AT_ONCE).await?;
        if let Some((channel, _)) = part.items.first() {
            purge(services, channel, user, part.items.iter().map(|(_, id)| *id).collect()).await?;
        }
        self.place = part.stopped;
        if self.place.is_some() {
            return Ok(Swept::Part);
        }
        if self.floor.is_none() {
            self.floor = Some(floor_at(self.begun));
            return Ok(Swept::Part);
        }
        services.own_store().finish_departure(user).await?;
        Ok(Swept::All)
    }
}

/// Asks the channel's owner to delete these messages of the user, in memory and in the store.
async fn purge(services: &Services, channel: &ChannelId, user: UserId, ids: Vec<MessageId>) -> Result<(), Failure> {
    let purged = services.channel_queries().ask(channel.clone(), Purge { sender: user, ids }).await;
    // Repeating a purge is harmless, so every failure of it counts as a temporary one.
    purged.map_err(|undone| Failure::Passing(Refusal::from(undone).message.into()))
}

/// An id below all ids that are made from this time on. An id is never behind the clock, and the clocks of two shards
/// differ by less than a second.
fn floor_at(time: Timestamp) -> MessageId {
    let milliseconds = u64::try_from(time.milliseconds() - 1_000).unwrap_or(0);
    MessageId(Uuid::from_u128(u128::from(milliseconds) << 80))
}
