//! Who may be in a group's or a direct channel: admissions, changes of a group's members, blocks, and the deletion of
//! the messages of a user whose account is deleted. The store decides; this file keeps the order in which the decisions
//! are shown.

use super::{Channel, Decision, Gate, Requester, StepContext, Submitted, Work, busy};
use crate::channel::members::{Address, Member};
use crate::channel::requests_to_chat::DirectRequest;
use crate::command::Rejection;
use crate::id::{MessageId, Monotonic, UserId};
use crate::limits::GROUP_CHANGES_OF_USER_MAX;
use crate::outbox::Outbox;
use crate::parcel::Broadcast;
use crate::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite};
use crate::query::{Block, ChannelChange, Purge, QueryAnswer, Undone, Visitor};
use crate::social::group::{GroupChange, GroupOutcome};
use crate::social::notification::Notice;

impl Channel {
    /// Accepts a join that the store must decide.
    pub(super) fn accept_join(
        &mut self,
        gate: Gate,
        member: Member,
        number: u32,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        if !self.pending.has_room(0) {
            return self.refuse(Requester { address: member.address, number }, busy());
        }
        let user = member.presence.user;
        let (store_request, request) = match gate {
            Gate::Group(group) => (StoreQuestion::MayJoinGroup { group, user }.into(), DirectRequest::NotNeeded),
            Gate::Direct(one, other) => {
                let other = if one == user { other } else { one };
                self.direct_join(&member, other, context)
            }
        };
        self.put(Work::Join { member, number, request }, Some(user), store_request, outbox);
    }

    /// What the store is asked when the member wants to join a direct channel, and whether this sends the other a request
    /// to chat. It sends none if the other is already a visible member.
    fn direct_join(&mut self, member: &Member, other: UserId, context: &StepContext) -> (StoreRequest, DirectRequest) {
        let user = member.presence.user;
        let there = self.members.visible_after(None).any(|member| member.presence.user == other);
        if there || other == user {
            return (StoreQuestion::MayJoinDirect { user, other }.into(), DirectRequest::NotNeeded);
        }
        let request = self.requests_to_chat.ask(user, context.now.monotonic);
        let store_request = match request {
            DirectRequest::NotNeeded => StoreQuestion::MayJoinDirect { user, other }.into(),
            DirectRequest::Send => {
                let username = member.presence.username.clone();
                StoreWrite::RequestChat { user, username, other, time: context.now.wall }.into()
            }
        };
        (store_request, request)
    }

    /// Notes whether the store has sent a join's request to chat. Between users of whom one blocks the other it sends none.
    pub(super) fn note_request(&mut self, user: UserId, request: DirectRequest, decision: &Decision, now: Monotonic) {
        match (request, decision) {
            (DirectRequest::NotNeeded, _) => {}
            (DirectRequest::Send, Ok(StoreReceipt::Admitted(Some(_)))) => self.requests_to_chat.sent(user, now),
            (DirectRequest::Send, _) => self.requests_to_chat.not_sent(user),
        }
    }

    pub(super) fn release_join(&mut self, member: Member, number: u32, decision: Decision, now: Monotonic) {
        let rejection = match decision {
            Ok(StoreReceipt::Admitted(notice)) => {
                self.notify(notice.into_iter().collect());
                return self.join(member, number, now);
            }
            Ok(_) => Rejection::bad_input(match self.gate() {
                Some(Gate::Group(_)) => "group not found, or you are not a member of it",
                _ => "user not found, or they do not wish to chat with you",
            }),
            Err(failure) if failure.outcome_unknown => Rejection::outcome_unknown(
                "the outcome is unknown: not joined, but the other user may have been told of the request",
            ),
            Err(failure) => Rejection::unavailable(format!("the channel could not be looked up: {}", failure.advice())),
        };
        self.refuse(Requester { address: member.address, number }, rejection);
    }

    /// The joins of a connection that has departed are not carried out: no home would end the membership if the answer
    /// to the join were lost.
    pub(super) fn abandon_joins(&mut self, address: Address) {
        if self.gate().is_none() {
            return;
        }
        let of_this = |member: &Member| member.address == address;
        self.waiting.end_joins(|work| matches!(work, Submitted::Join { member, .. } if of_this(member)));
        for work in self.pending.works_mut() {
            if let Work::Join { member, request, .. } = work
                && of_this(member)
            {
                *work = Work::AbandonedJoin(member.presence.user, *request);
            }
        }
    }

    /// The store may have sent the other user a request to chat.
    pub(super) fn release_abandoned_join(&mut self, decision: Decision) {
        if let Ok(StoreReceipt::Admitted(notice)) = decision {
            self.notify(notice.into_iter().collect());
        }
    }

    /// Accepts a visitor's change of the members or of the stored messages.
    pub(super) fn accept_change(
        &mut self,
        visitor: Visitor,
        change: ChannelChange,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        if !self.pending.has_room(0) {
            return self.afterwards.answer(visitor, change.undone(Undone::NothingDone));
        }
        match change {
            ChannelChange::Group(change) => self.accept_group_change(visitor, change, context, outbox),
            ChannelChange::Block(block) => {
                let write = StoreWrite::Block { user: block.user, other: block.other, time: context.now.wall };
                self.undecided_changes += 1;
                let user = Some(block.user);
                self.put(Work::Block(visitor, block), user, write, outbox);
            }
            ChannelChange::Purge(Purge { sender, ids }) => {
                let write = StoreWrite::Purge { channel: self.id.clone(), sender, ids: ids.clone() };
                self.put(Work::Purge(visitor, ids), None, write, outbox);
            }
        }
    }

    /// Gives a group's event messages their places now, so that they stand in history where the change stands in the
    /// queue.
    fn accept_group_change(
        &mut self,
        visitor: Visitor,
        change: GroupChange,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        let places = self.history.numbering().ok_or_else(busy).and_then(|numbering| {
            let places: Result<Vec<_>, _> = (0..change.act.messages_max()).map(|_| numbering.place(context)).collect();
            Ok((numbering.time(context), places?))
        });
        let Ok((time, places)) = places else {
            return self.afterwards.answer(visitor, QueryAnswer::GroupChanged(Err(Undone::NothingDone)));
        };
        let (actor, removes) = (change.actor, change.act.may_remove());
        self.undecided_changes += usize::from(removes);
        let write = StoreWrite::ChangeGroup { change, time, places };
        self.put(Work::ChangeGroup { visitor, actor, removes }, Some(actor), write, outbox);
    }

    /// Whether as many changes of the group by this user wait as may wait. Looks at the whole queue, which is bounded.
    pub(super) fn has_too_many_changes_like(&self, change: &ChannelChange) -> bool {
        let ChannelChange::Group(change) = change else { return false };
        let is_like = |work: &&Work| matches!(work, Work::ChangeGroup { actor, .. } if *actor == change.actor);
        let waits_like = |submitted: &&Submitted| matches!(submitted, Submitted::Change(_, ChannelChange::Group(other)) if other.actor == change.actor);
        let like = self.pending.works().filter(is_like).count() + self.waiting.iter().filter(waits_like).count();
        like >= GROUP_CHANGES_OF_USER_MAX
    }

    pub(super) fn release_group_change(&mut self, visitor: Visitor, decision: Decision) {
        let changed = match decision {
            Ok(StoreReceipt::GroupChanged(changed)) => Ok(changed.map(|outcome| self.show_group_change(outcome))),
            // No store answers so. If one did, the engine would not know what it has done.
            Ok(_) => Err(Undone::OutcomeUnknown),
            Err(failure) => Err(failure.into()),
        };
        self.afterwards.answer(visitor, QueryAnswer::GroupChanged(changed));
    }

    /// Shows the messages first, so that removed members still receive them; then ends their presences.
    fn show_group_change(&mut self, outcome: GroupOutcome) {
        let GroupOutcome { messages, removed, deleted, notices } = outcome;
        for message in messages {
            self.show(message);
        }
        if deleted {
            self.end_all();
        } else if !removed.is_empty() {
            self.end_presences_of(&removed);
        }
        self.notify(notices);
    }

    /// Does not answer the visitor if the block succeeded: the shard answers when all shards know of the block.
    pub(super) fn release_block(&mut self, visitor: Visitor, block: Block, decision: Decision) {
        // The block may have been stored even if the store has failed.
        self.requests_to_chat.forget();
        match decision {
            Ok(_) => {
                self.end_all();
                self.afterwards.blocked(visitor, block);
            }
            Err(failure) => self.afterwards.answer(visitor, QueryAnswer::Blocked(Err(failure.into()))),
        }
    }

    pub(super) fn release_purge(&mut self, visitor: Visitor, ids: &[MessageId], decision: Decision) {
        let purged = decision.map(|_| self.recent.forget(ids)).map_err(Undone::from);
        self.afterwards.answer(visitor, QueryAnswer::Purged(purged));
    }

    fn notify(&mut self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.afterwards.broadcast(Broadcast::Notices(notices));
        }
    }
}
