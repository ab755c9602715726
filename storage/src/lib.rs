//! Remembers: messages, accounts, sessions. One promise (`Store`), several keepers.
//!
//! The laws every keeper obeys, whatever it is made of:
//!
//! 1. **Durable when it says so.** When `commit` returns, all that it reports as done survives `kill -9` and power loss.
//! 2. **A group is applied in order**, each write seeing those before it, and becomes visible to reads as a whole or later
//!    than its parts' order; never the other way round.
//! 3. **A failure is total.** If `commit` fails, none of its writes is or will ever be in history.
//! 4. **History is ordered by message id**, bytewise, within a channel; the owner makes ids that rise.
//! 5. **The head never moves back**: removing the newest message leaves the channel's head where it was.

pub mod account;

use engine::id::{ChannelId, Epoch, MessageId, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreReceipt, StoreRequest};

use account::{Account, AccountChange, Changed, Credential, CredentialOwner, Registered, Registration, Revocation};

/// A keeper. Its calls may block on the disk, so they run on the bridge's threads, never on a shard's.
pub trait Store: Send + Sync + 'static {
    /// Begins a new life of the server: a number greater than any given before on this store.
    fn next_epoch(&self) -> Result<Epoch, Failure>;

    /// Applies a group of writes in order and makes them durable, all or none; answers one by one.
    /// Called by one thread at a time.
    fn commit(&self, writes: &[Write]) -> Result<Vec<Written>, Failure>;

    /// Where the channel's history ends, counting removed messages.
    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure>;

    /// One stored message.
    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure>;

    /// At most `limit` messages of a channel from one side of a place.
    fn messages(&self, channel: &ChannelId, from: Place, limit: usize) -> Result<Vec<Message>, Failure>;

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;

    /// All revocations that still matter; read once at start.
    fn revocations(&self) -> Result<Vec<Revocation>, Failure>;
}

/// From where, and in which direction, messages are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Rising from the first.
    Oldest,
    /// Falling from the last.
    Newest,
    /// Rising, from the first whose id is greater. The id itself need not exist.
    After(MessageId),
    /// Falling, from the last whose id is smaller. The id itself need not exist.
    Before(MessageId),
}

/// One write of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// `Insert`, `Update` or `Remove`.
    Message(StoreRequest),
    Register(Registration),
    ChangeAccount {
        id: UserId,
        change: AccountChange,
        update_time: engine::id::Timestamp,
    },
    Revoke(Revocation),
}

/// What became of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// `Inserted`, `Updated`, `Removed` or `NotFound`.
    Message(StoreReceipt),
    Registered(Registered),
    Changed(Changed),
    Revoked,
}

/// The world failed: disk, file system, database.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was done, and later calls may succeed.
    #[error("the store could not do it, try again: {0}")]
    Passing(String),
    /// The store will not work again in this process: stop, look, start anew.
    #[error("the store has failed and this process must stop: {0}")]
    Final(String),
    /// What is on disk is not what a keeper of this version wrote.
    #[error("the data is damaged or not ours: {0}")]
    Corrupt(String),
}
