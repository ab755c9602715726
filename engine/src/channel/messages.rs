//! Messages of a channel's members: accepted in order, shown when the store has written them.

use std::sync::Arc;

use super::{Act, Channel, Decision, Place, Requester, StepContext, Work, busy, not_a_member, not_stored};
use crate::channel::members::Address;
use crate::command::{Event, Rejection, Reply};
use crate::id::{Monotonic, UserId};
use crate::message::{Message, MessageCode};
use crate::outbox::Outbox;
use crate::parcel::ChannelAction;
use crate::persist::{StoreReceipt, StoreRequest, UpdateMessage};

impl Channel {
    /// Accepts a member's message, update or removal.
    pub(super) fn accept_message(
        &mut self,
        requester: Requester,
        address: Address,
        action: ChannelAction,
        context: &StepContext,
        outbox: &mut Outbox,
    ) {
        let Some(member) = self.members.get(address) else {
            return self.refuse(requester, not_a_member());
        };
        let author = Author {
            user: member.presence.user,
            username: member.presence.username.clone(),
            persistence: member.presence.persistence,
        };
        match self.give_place(author, action, context) {
            Err(rejection) => self.refuse(requester, rejection),
            Ok(Accepted { act, bytes, request: Some(request) }) => self.put(requester, act, bytes, request, outbox),
            Ok(Accepted { act, bytes, request: None }) => {
                let place = self.pending.push(Work { requester, act }, bytes);
                self.pending.decide(place, Ok(StoreReceipt::Inserted));
                self.let_go(context);
            }
        }
    }

    /// Gives a message its place in the channel, and says what the store must do for it.
    fn give_place(
        &mut self,
        author: Author,
        action: ChannelAction,
        context: &StepContext,
    ) -> Result<Accepted, Rejection> {
        let Place::Known { ids, next, newest } = &mut self.place else { unreachable!("the caller has looked") };
        *newest = context.now.wall.max(*newest);
        let (id, code, content) = match action {
            ChannelAction::Send { content } => {
                let id = ids.next(*newest, context.random).map_err(|_| busy())?;
                (id, MessageCode::Chat, content)
            }
            ChannelAction::Update { id, content } => (id, MessageCode::Update, content),
            ChannelAction::Remove { id } => (id, MessageCode::Remove, "{}".into()),
            _ => unreachable!("only messages are accepted"),
        };
        if !self.pending.has_room(content.len()) {
            return Err(busy());
        }
        let message = Message {
            channel: self.id.clone(),
            id,
            sequence: *next,
            code,
            sender: author.user,
            username: author.username,
            content,
            create_time: *newest,
            update_time: *newest,
            persistent: author.persistence,
        };
        if code == MessageCode::Chat {
            next.0 += 1;
        }
        Ok(Accepted::of(message))
    }

    pub(super) fn release_message(&mut self, requester: Requester, act: Act, decision: Decision, now: Monotonic) {
        let shown = match (act, decision) {
            (_, Err(failure)) => Err(not_stored(&failure)),
            (Act::Send(message), Ok(_)) => Ok(message),
            (_, Ok(StoreReceipt::Updated(message))) => Ok(Message { code: MessageCode::Update, ..message }),
            (_, Ok(StoreReceipt::Removed(message))) => {
                Ok(Message { code: MessageCode::Remove, content: "{}".into(), ..message })
            }
            // The message was never stored, so the change is only announced.
            (Act::Live(message), Ok(StoreReceipt::NotFound)) => Ok(message),
            _ => Err(Rejection::bad_input("no message of yours with this id in this channel")),
        };
        match shown {
            Err(rejection) => self.refuse(requester, rejection),
            Ok(message) => {
                let Requester::Connection(address, number) = requester else { unreachable!("only members write") };
                // In a room, members are told of a sender's presence before they receive its message.
                if self.members.get(address).is_some_and(|member| !member.known && !member.hidden) {
                    self.announce_presence(now);
                }
                let code = message.code;
                let message = self.show(message);
                self.announcements.answer(address, number, Reply::Acknowledged { message, code });
            }
        }
    }

    /// Announces a message, an update or a removal to all members. Returns the message.
    pub(super) fn show(&mut self, message: Message) -> Message {
        if !matches!(message.code, MessageCode::Update | MessageCode::Remove) {
            self.announcements.last = message.sequence;
        }
        self.recent.show(&message);
        let event = Event::Message(message);
        self.announcements.announce(&event, &self.members);
        let Event::Message(message) = event else { unreachable!("it was made two lines above") };
        message
    }
}

/// Work that has its place, and the request that the store must confirm before the work is shown.
struct Accepted {
    act: Act,
    bytes: usize,
    request: Option<StoreRequest>,
}

impl Accepted {
    fn of(message: Message) -> Self {
        let bytes = message.content.len();
        let request = Self::request(&message);
        let act = match (message.code, message.persistent) {
            (MessageCode::Chat, _) => Act::Send(message),
            (_, true) => Act::Change,
            (_, false) => Act::Live(message),
        };
        Self { act, bytes, request }
    }

    /// The store's part of a message. An update or a removal goes to the store even if the presence is not persistent:
    /// a stored message must be removable from any session of its sender.
    fn request(message: &Message) -> Option<StoreRequest> {
        let (channel, id, sender) = (message.channel.clone(), message.id, message.sender);
        match message.code {
            MessageCode::Remove => Some(StoreRequest::Remove { channel, id, sender }),
            MessageCode::Update => {
                let Message { username, content, update_time, .. } = message.clone();
                let update = UpdateMessage { channel, id, sender, username, content, update_time };
                Some(StoreRequest::Update(update))
            }
            _ => message.persistent.then(|| StoreRequest::Insert(message.clone())),
        }
    }
}

/// The author of a message.
struct Author {
    user: UserId,
    username: Arc<str>,
    persistence: bool,
}
