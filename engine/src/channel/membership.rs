//! Who may be in a group's or a direct channel: admissions, changes of a group's members, blocks, and the deletion of
//! the messages of a user whose account is deleted. The store decides; this file keeps the order in which the decisions
//! are shown.

use super::{Act, Channel, Decision, Place, Requester, StepContext, busy};
use crate::channel::members::{Address, Member};
use crate::channel::presence::PresenceChanges;
use crate::command::Rejection;
use crate::id::{ChannelKind, MessageId, Monotonic, UserId};
use crate::outbox::Outbox;
use crate::parcel::{Block, Broadcast, ChannelAnswer, ChannelQuery};
use crate::persist::{Admission, ChannelHead, DirectRequest, StoreReceipt, StoreRequest};
use crate::social::group::{GroupChange, GroupOutcome};
use crate::social::notification::Notice;

impl Channel {
    /// Accepts a join that the store must decide.
    pub(super) fn accept_join(
        &mut self,
        requester: Requester,
        member: Member,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        if !self.pending.has_room(0) {
            return self.refuse(requester, busy());
        }
        let user = member.presence.user;
        let admission = match self.id.kind() {
            ChannelKind::Group(group) => Admission::Group { group, user },
            ChannelKind::Direct(one, other) => {
                let other = if one == user { other } else { one };
                let there = self.members.visible_after(None).any(|member| member.presence.user == other);
                let request = if there { DirectRequest::NotNeeded } else { DirectRequest::Send };
                let username = member.presence.username.clone();
                Admission::Direct { user, username, other, request, time: context.now.wall }
            }
            ChannelKind::Room(_) => unreachable!("rooms let everybody in"),
        };
        self.put(requester, Act::Join(member), 0, StoreRequest::Admit(admission), outbox);
    }

    pub(super) fn release_join(&mut self, requester: Requester, member: Member, decision: Decision, now: Monotonic) {
        let Requester::Connection(_, number) = requester else { unreachable!("only connections join") };
        match decision {
            Ok(StoreReceipt::Admitted(notice)) => {
                self.notify(notice.into_iter().collect());
                self.join(member, number, now);
            }
            Ok(_) => {
                let reason = match self.id.kind() {
                    ChannelKind::Group(_) => "group not found, or you are not a member of it",
                    _ => "user not found, or they do not wish to chat with you",
                };
                self.refuse(requester, Rejection::bad_input(reason));
            }
            Err(failure) if failure.outcome_unknown => {
                let reason = "the outcome is unknown: not joined, but the other user may have been told of the request";
                self.refuse(requester, Rejection::outcome_unknown(reason));
            }
            Err(_) => self.refuse(requester, Rejection::unavailable("the channel could not be looked up: try again")),
        }
    }

    /// Accepts a visitor's query (a requester without a session) that changes the members or the stored messages.
    pub(super) fn accept_query(
        &mut self,
        requester: Requester,
        query: ChannelQuery,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        if !self.pending.has_room(0) {
            return self.refuse(requester, busy());
        }
        match query {
            ChannelQuery::ChangeGroup(change) => self.accept_group_change(requester, change, context, outbox),
            ChannelQuery::Block(block) => {
                let request = StoreRequest::Block { user: block.user, other: block.other, time: context.now.wall };
                self.undecided_changes += 1;
                self.put(requester, Act::Block(block), 0, request, outbox);
            }
            ChannelQuery::Purge { sender, ids } => {
                let request = StoreRequest::Purge { channel: self.id.clone(), sender, ids: ids.clone() };
                self.put(requester, Act::Purge(ids), 0, request, outbox);
            }
            ChannelQuery::Presence { .. } | ChannelQuery::Newest { .. } => unreachable!("these change nothing"),
        }
    }

    /// Gives a group's event messages their places now, so that they stand in history where the change stands in the
    /// queue.
    fn accept_group_change(
        &mut self,
        requester: Requester,
        change: GroupChange,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        let Place::Known { ids, next, newest } = &mut self.place else { unreachable!("the caller has looked") };
        *newest = context.now.wall.max(*newest);
        let mut places = Vec::with_capacity(change.act.messages_max());
        for _ in 0..change.act.messages_max() {
            let Ok(id) = ids.next(*newest, context.random) else {
                return self.refuse(requester, busy());
            };
            places.push(ChannelHead { id, sequence: *next });
            next.0 += 1;
        }
        let time = *newest;
        let removes = change.act.may_remove();
        self.undecided_changes += usize::from(removes);
        let request = StoreRequest::ChangeGroup { change, time, places };
        self.put(requester, Act::ChangeMembers { removes }, 0, request, outbox);
    }

    /// Shows the messages first, so that removed members still receive them; then ends their presences.
    pub(super) fn release_change(&mut self, requester: Requester, decision: Decision) {
        let answer = match decision {
            Ok(StoreReceipt::GroupChanged(Ok(outcome))) => {
                let GroupOutcome { messages, removed, deleted, notices } = outcome;
                for message in messages {
                    self.show(message);
                }
                for user in removed {
                    self.evict(user);
                }
                if deleted {
                    self.clear();
                }
                self.notify(notices);
                ChannelAnswer::GroupChanged(Ok(()))
            }
            Ok(StoreReceipt::GroupChanged(Err(refusal))) => ChannelAnswer::GroupChanged(Err(refusal)),
            Ok(_) => unreachable!("the store answers a change of a group"),
            Err(failure) if failure.outcome_unknown => ChannelAnswer::OutcomeUnknown,
            Err(_) => ChannelAnswer::Failed,
        };
        self.tell(requester, answer);
    }

    /// Does not answer the requester if the block succeeded: the shard answers when all shards know of the block.
    pub(super) fn release_block(&mut self, requester: Requester, block: Block, decision: &Decision) {
        if let Err(failure) = decision {
            let answer = if failure.outcome_unknown { ChannelAnswer::OutcomeUnknown } else { ChannelAnswer::Failed };
            return self.tell(requester, answer);
        }
        self.clear();
        let Requester::Visitor(visitor) = requester else { unreachable!("only visitors block") };
        self.afterwards.blocked(visitor, block);
    }

    pub(super) fn release_purge(&mut self, requester: Requester, ids: &[MessageId], decision: Decision) {
        let answer = match decision {
            Ok(_) => {
                self.recent.forget(ids);
                ChannelAnswer::Done
            }
            Err(failure) if failure.outcome_unknown => ChannelAnswer::OutcomeUnknown,
            Err(_) => ChannelAnswer::Failed,
        };
        self.tell(requester, answer);
    }

    fn tell(&mut self, requester: Requester, answer: ChannelAnswer) {
        let Requester::Visitor(visitor) = requester else { unreachable!("only visitors change members") };
        self.afterwards.answer(visitor, answer);
    }

    fn notify(&mut self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.afterwards.broadcast(Broadcast::Notices(notices));
        }
    }

    /// Ends all presences of a user, and tells the other members. Looks at every member, which is acceptable because it
    /// is rare.
    fn evict(&mut self, user: UserId) {
        let addresses: Vec<Address> = self.members.of_user(user).collect();
        if addresses.is_empty() {
            return;
        }
        self.announcements.seal(&self.members);
        for address in addresses {
            if let Some(member) = self.take_out(address) {
                self.presence_changes.depart(member);
                self.announcements.evicted(address);
            }
        }
    }

    /// Ends all presences without a presence event.
    fn clear(&mut self) {
        self.announcements.seal(&self.members);
        let addresses: Vec<Address> = self.members.addresses().collect();
        for address in addresses {
            self.take_out(address);
            self.announcements.evicted(address);
        }
        self.presence_changes = PresenceChanges::default();
    }
}
