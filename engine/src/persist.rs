//! What a channel's owner asks of the store, and what it is told.
//!
//! The owner numbers its requests with tickets and may have many under way; receipts may come in any order.
//! `storage` carries these out; it knows nothing of members or subscribers.

use std::sync::Arc;

use crate::id::{ChannelId, GroupId, MessageId, Sequence, Timestamp, UserId};
use crate::message::{Message, MessageCode};
use crate::social::group::{GroupChange, GroupOutcome, GroupRefusal};
use crate::social::notification::Notice;

/// Numbers an owner's request, so that its receipt finds its way back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// One request of a channel's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRequest {
    /// The channel's newest place, read once before the first write of an owner.
    Head { channel: ChannelId },
    /// Keep a new message. Its id is unknown to the store.
    Insert(Message),
    /// Change the content of a stored message, if it is in this channel and this sender may change it.
    Update(UpdateMessage),
    /// Delete a stored message, if it is in this channel and this sender may change it.
    Remove { channel: ChannelId, id: MessageId, sender: UserId },
    /// The newest messages of the channel.
    Newest { channel: ChannelId, limit: usize },
    /// Whether somebody may join a group's or a direct channel.
    Admit(Admission),
    /// Change a group's members, with everything that goes with it, or nothing of it.
    ChangeGroup {
        change: GroupChange,
        time: Timestamp,
        /// Places for the event messages, as many as `GroupAct::messages_max`, rising. Those that are not needed stay
        /// empty.
        places: Vec<ChannelHead>,
    },
    /// The user blocks the other: nobody of the two is in their channel afterwards.
    Block { user: UserId, other: UserId, time: Timestamp },
    /// Delete these of a user's messages whose account is going.
    Purge { channel: ChannelId, sender: UserId, ids: Vec<MessageId> },
    /// Which of these users there are and may be followed by this one: those who block the follower are passed over, as if there
    /// were no such users.
    Users { follower: UserId, ids: Vec<UserId>, usernames: Vec<String> },
}

impl StoreRequest {
    /// Whether it changes something, and so has a place in a group of writes.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Insert(_)
            | Self::Update(_)
            | Self::Remove { .. }
            | Self::ChangeGroup { .. }
            | Self::Block { .. }
            | Self::Purge { .. } => true,
            Self::Admit(Admission::Direct { request, .. }) => *request == DirectRequest::Send,
            Self::Admit(Admission::Group { .. }) | Self::Head { .. } | Self::Newest { .. } | Self::Users { .. } => {
                false
            }
        }
    }
}

/// Who wants to join which channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Members of the group are admitted.
    Group { group: GroupId, user: UserId },
    /// Admitted is whom the other has not blocked, if there is such a user. The other is sent the request to chat, unless
    /// one of them has blocked the other, or they are the same.
    Direct { user: UserId, username: Arc<str>, other: UserId, request: DirectRequest, time: Timestamp },
}

/// Whether the other user of a direct channel is to be told that somebody wants to chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectRequest {
    Send,
    /// The other can be seen in the channel already.
    NotNeeded,
}

/// New content for a stored message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateMessage {
    pub channel: ChannelId,
    pub id: MessageId,
    pub sender: UserId,
    pub username: Arc<str>,
    pub content: Arc<str>,
    pub update_time: Timestamp,
}

impl UpdateMessage {
    /// Changes the stored message. Its update time never moves back, although the clock of the server that wrote it may have
    /// been ahead.
    pub fn apply_to(&self, message: &mut Message) {
        message.content = self.content.clone();
        message.username = self.username.clone();
        message.update_time = self.update_time.max(message.update_time);
    }
}

/// What became of a request. Writes are on disk and synced when this is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreReceipt {
    Head(Option<ChannelHead>),
    Inserted,
    /// The message as it now stands in history.
    Updated(Message),
    /// The message as it last stood in history.
    Removed(Message),
    /// No message with this id is stored in this channel.
    NotFound,
    /// The stored message with this id is another user's, or the server's own. Nothing was changed.
    NotOwn,
    /// Newest first.
    Newest(Vec<Message>),
    /// May join; and the request to chat, if one was sent.
    Admitted(Option<Notice>),
    NotAdmitted,
    GroupChanged(Result<GroupOutcome, GroupRefusal>),
    Blocked,
    Purged,
    /// In the order asked for, ids before names, each once.
    Users(Vec<UserId>),
}

impl StoreReceipt {
    /// Why this sender may not change what is stored under an id, if so. The server's messages about a user bear the user's
    /// name, but they are not the user's to change.
    pub fn refuse_change(stored: Option<&Message>, sender: UserId) -> Option<Self> {
        match stored {
            None => Some(Self::NotFound),
            Some(message) if message.sender == sender && message.code == MessageCode::Chat => None,
            Some(_) => Some(Self::NotOwn),
        }
    }
}

/// Where a channel's history ends. Kept apart from the messages, so that removing the newest does not move it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelHead {
    pub id: MessageId,
    pub sequence: Sequence,
}

/// The store could not do it. Nothing of the request is, or will ever be, in history, unless the outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFailure {
    pub message: String,
    /// The store failed while it wrote: the request may be found carried out as a whole, now or after the next start.
    pub outcome_unknown: bool,
}

impl StoreFailure {
    /// Nothing was done.
    pub fn nothing_done(message: impl Into<String>) -> Self {
        Self { message: message.into(), outcome_unknown: false }
    }
}

/// The answer to the request with this ticket.
pub type Receipt = (Ticket, Result<StoreReceipt, StoreFailure>);
