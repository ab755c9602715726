//! Messages of a channel's members: accepted in order, shown when the store has written them.

use super::{Channel, Decision, MessageWork, Requester, StepContext, Work, busy, not_a_member, not_stored};
use crate::channel::presence::Telling;
use crate::command::{Event, Rejection, Reply};
use crate::id::{Monotonic, UserId};
use crate::message::{Message, MessageCode};
use crate::outbox::{Outbox, Purpose};
use crate::parcel::MessageAction;
use crate::persist::{StoreReceipt, StoreWrite, UpdateMessage};

impl Channel {
    /// Accepts a member's message, update or removal, and gives it its place in the channel.
    pub(super) fn accept_message(
        &mut self,
        requester: Requester,
        action: MessageAction,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        match self.numbered(requester, action, context) {
            Err(rejection) => self.refuse(requester, rejection),
            Ok(message) => {
                let bytes = message.content.len();
                let (sender, request) = (message.sender, store_write(&message));
                let work = match (message.code, message.persistent) {
                    (MessageCode::Chat, _) => MessageWork::Send(message),
                    (_, true) => MessageWork::Change,
                    (_, false) => MessageWork::Live(message),
                };
                self.put_message(sender, Work::Message(requester, work), bytes, request, context, outbox);
            }
        }
    }

    /// The message with its id, its sequence number and its time, or why it is refused.
    fn numbered(
        &mut self,
        requester: Requester,
        action: MessageAction,
        context: &StepContext,
    ) -> Result<Message, Rejection> {
        let member = self.members.get(requester.address).ok_or_else(not_a_member)?;
        if !self.pending.has_room_for(member.presence.user, action.content().len()) {
            return Err(busy());
        }
        let numbering = self.history.numbering().ok_or_else(busy)?;
        let (id, sequence, code, content) = match action {
            MessageAction::Send { content } => {
                let place = numbering.place(context)?;
                (place.id, place.sequence, MessageCode::Chat, content)
            }
            MessageAction::Update { id, content } => (id, numbering.next(), MessageCode::Update, content),
            MessageAction::Remove { id } => (id, numbering.next(), MessageCode::Remove, "{}".into()),
        };
        let time = numbering.time(context);
        Ok(Message {
            channel: self.id.clone(),
            id,
            sequence,
            code,
            sender: member.presence.user,
            username: member.presence.username.clone(),
            content,
            create_time: time,
            update_time: time,
            persistent: member.presence.persistence,
        })
    }

    /// Puts a message into the queue. A message that is not stored is decided already.
    fn put_message(
        &mut self,
        sender: UserId,
        work: Work,
        bytes: usize,
        write: Option<StoreWrite>,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        let Some(write) = write else {
            let place = self.pending.push(work, bytes, Some(sender));
            self.pending.decide(place, Ok(StoreReceipt::Inserted));
            return self.let_go(context);
        };
        let place = self.pending.push(work, bytes, Some(sender));
        self.ask_store(Purpose::Decision(place, Some(sender)), write, outbox);
    }

    pub(super) fn release_message(
        &mut self,
        Requester { address, number }: Requester,
        work: MessageWork,
        decision: Decision,
        now: Monotonic,
    ) {
        debug_assert!(
            !matches!(work, MessageWork::Send(_)) || matches!(decision, Ok(StoreReceipt::Inserted) | Err(_)),
            "a new message is stored or not: {decision:?}"
        );
        let shown = match (work, decision) {
            (_, Err(failure)) => Err(not_stored(&failure)),
            (MessageWork::Send(message), Ok(_)) => Ok(message),
            (_, Ok(StoreReceipt::Updated(message))) => Ok(Message { code: MessageCode::Update, ..message }),
            (_, Ok(StoreReceipt::Removed(message))) => {
                Ok(Message { code: MessageCode::Remove, content: "{}".into(), ..message })
            }
            // The message was never stored, so the change is only announced.
            (MessageWork::Live(message), Ok(StoreReceipt::NotFound)) => Ok(message),
            _ => Err(Rejection::bad_input("no message of yours with this id in this channel")),
        };
        match shown {
            Err(rejection) => self.refuse(Requester { address, number }, rejection),
            Ok(message) => {
                // In a room, members are told of a sender's presence before they receive its message, even if the room's
                // presence waits otherwise.
                if self.members.get(address).is_some_and(|member| !member.known && !member.hidden) {
                    self.announce_presence(Telling::Now, now);
                }
                let code = message.code;
                self.show(message.clone());
                self.announcements.answer(address, number, Reply::Acknowledged { message, code });
            }
        }
    }

    /// Announces a message, an update or a removal to all members.
    pub(super) fn show(&mut self, message: Message) {
        if !matches!(message.code, MessageCode::Update | MessageCode::Remove) {
            self.announcements.last = message.sequence;
            if message.persistent {
                self.announcements.stored = Some(message.id);
            }
        }
        self.recent.show(&message);
        self.announcements.announce(&Event::Message(message), &self.members);
    }
}

/// The store's part of a message. An update or a removal goes to the store even if the presence is not persistent: a
/// stored message must be removable from any session of its sender.
fn store_write(message: &Message) -> Option<StoreWrite> {
    let (channel, id, sender) = (message.channel.clone(), message.id, message.sender);
    match message.code {
        MessageCode::Remove => Some(StoreWrite::Remove { channel, id, sender }),
        MessageCode::Update => {
            let Message { username, content, update_time, .. } = message.clone();
            let update = UpdateMessage { channel, id, sender, username, content, update_time };
            Some(StoreWrite::Update(update))
        }
        _ => message.persistent.then(|| StoreWrite::Insert(message.clone())),
    }
}
