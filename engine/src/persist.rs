//! What a channel's owner asks of the store, and what it is told.
//!
//! The owner numbers its requests with tickets and may have many under way; receipts may come in any order.
//! `storage` carries these out; it knows nothing of members or subscribers.

use std::sync::Arc;

use crate::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use crate::message::Message;

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
    /// Change the content of a stored message, if it is in this channel and of this sender.
    Update(UpdateMessage),
    /// Delete a stored message, if it is in this channel and of this sender.
    Remove { channel: ChannelId, id: MessageId, sender: UserId },
    /// Whose message this is, if it is stored in this channel.
    Sender { channel: ChannelId, id: MessageId },
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

/// What became of a request. Writes are on disk and synced when this is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreReceipt {
    Head(Option<ChannelHead>),
    Inserted,
    /// The message as it now stands in history.
    Updated(Message),
    /// The message as it last stood in history.
    Removed(Message),
    /// No message with this id in this channel by this sender. Nothing was changed.
    NotFound,
    Sender(Option<UserId>),
}

/// Where a channel's history ends. Kept apart from the messages, so that removing the newest does not move it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelHead {
    pub id: MessageId,
    pub sequence: Sequence,
}

/// The store could not do it: nothing of the request is, or will ever be, in history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFailure {
    pub message: String,
}
