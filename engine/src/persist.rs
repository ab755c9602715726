//! What a channel's owner asks of the store, and what it is told.
//!
//! The owner numbers its requests with tickets and may have many under way; receipts may come in any order.
//! `storage` carries these out; it knows nothing of members or subscribers.

use std::cell::Cell;
use std::sync::Arc;

use crate::group::{GroupChange, GroupOutcome, GroupRefusal};
use crate::id::{ChannelId, GroupId, MessageId, Sequence, Timestamp, UserId};
use crate::message::{Message, MessageCode};
use crate::notification::Notice;

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

/// A shard's end of the bridge to the store. Belongs to one thread.
///
/// It counts what is under way, from `try_send` to the receipt's being taken, and lets no more than `in_flight_max` be.
/// Both queues have room for that many, so the storage threads never wait for a shard.
pub struct StoreEnd {
    requests: flume::Sender<(Ticket, StoreRequest)>,
    receipts: flume::Receiver<Receipt>,
    bell: flume::Sender<()>,
    in_flight: Cell<usize>,
    in_flight_max: usize,
}

/// The other end: requests come out in the order in which they were sent, and each is answered once, in any order.
pub struct KeeperEnd {
    pub requests: flume::Receiver<(Ticket, StoreRequest)>,
    pub receipts: flume::Sender<Receipt>,
}

/// Why a request was not taken. Nothing of it will ever be in history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// As much is under way as may be: try again when receipts have come.
    Full,
    /// The store has stopped.
    Gone,
}

/// The two ends of a bridge. The bell, a queue with room for one, is rung after each burst of requests: the keeper may
/// wait at one bell for many shards.
pub fn store_ends(in_flight_max: usize, bell: flume::Sender<()>) -> (StoreEnd, KeeperEnd) {
    let (requests, requests_out) = flume::bounded(in_flight_max);
    let (receipts_in, receipts) = flume::bounded(in_flight_max);
    let near = StoreEnd { requests, receipts, bell, in_flight: Cell::new(0), in_flight_max };
    (near, KeeperEnd { requests: requests_out, receipts: receipts_in })
}

impl StoreEnd {
    /// Whether a request would be taken now, as far as this end can see.
    pub fn has_room(&self) -> bool {
        self.in_flight.get() < self.in_flight_max
    }

    /// Sends a lone request on its way, or refuses it at once.
    pub fn try_send(&self, ticket: Ticket, request: StoreRequest) -> Result<(), NotTaken> {
        self.put(ticket, request)?;
        self.ring();
        Ok(())
    }

    /// As `try_send`, one of a burst: the keeper need not wake before `ring`, and then finds them together.
    pub fn put(&self, ticket: Ticket, request: StoreRequest) -> Result<(), NotTaken> {
        if !self.has_room() {
            return Err(NotTaken::Full);
        }
        self.requests.try_send((ticket, request)).map_err(|error| match error {
            flume::TrySendError::Full(_) => NotTaken::Full,
            flume::TrySendError::Disconnected(_) => NotTaken::Gone,
        })?;
        self.in_flight.set(self.in_flight.get() + 1);
        Ok(())
    }

    pub fn ring(&self) {
        // A full bell has been rung already; a bell without an ear means that the requests' queue is gone, too.
        let _ = self.bell.try_send(());
    }

    /// The next receipt, if one is there.
    pub fn try_receive(&self) -> Option<Receipt> {
        self.taken(self.receipts.try_recv().ok())
    }

    /// Waits for the next receipt, on any executor. `None`: the store has stopped, and no receipt will come any more.
    pub async fn receive(&self) -> Option<Receipt> {
        self.taken(self.receipts.recv_async().await.ok())
    }

    /// How many requests have no receipt yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    fn taken(&self, receipt: Option<Receipt>) -> Option<Receipt> {
        if receipt.is_some() {
            self.in_flight.set(self.in_flight.get() - 1);
        }
        receipt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> StoreRequest {
        StoreRequest::Head { channel: ChannelId::room("lobby").unwrap() }
    }

    #[test]
    fn counts_until_the_receipt_is_taken() {
        let (bell, rung) = flume::bounded(1);
        let (near, far) = store_ends(2, bell);
        assert_eq!(near.try_send(Ticket(1), head()), Ok(()));
        assert_eq!(near.try_send(Ticket(2), head()), Ok(()));
        assert_eq!(near.try_send(Ticket(3), head()), Err(NotTaken::Full));
        assert_eq!(rung.len(), 1);

        let (ticket, _) = far.requests.try_recv().unwrap();
        assert_eq!(near.try_send(Ticket(3), head()), Err(NotTaken::Full), "taken out is not yet answered");
        far.receipts.try_send((ticket, Ok(StoreReceipt::Head(None)))).unwrap();
        assert!(!near.has_room(), "answered is not yet received");
        assert_eq!(near.try_receive(), Some((Ticket(1), Ok(StoreReceipt::Head(None)))));
        assert_eq!(near.try_receive(), None);
        assert_eq!(near.try_send(Ticket(3), head()), Ok(()));
        assert_eq!(near.in_flight(), 2);
    }

    #[test]
    fn says_when_the_store_is_gone() {
        let (bell, _rung) = flume::bounded(1);
        let (near, far) = store_ends(2, bell);
        drop(far);
        assert_eq!(near.try_send(Ticket(1), head()), Err(NotTaken::Gone));
        assert_eq!(near.in_flight(), 0);
    }
}
