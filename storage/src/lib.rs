//! Remembers: messages, accounts, sessions. One promise (`Store`), several keepers.
//!
//! The laws every keeper obeys, whatever it is made of:
//!
//! 1. **Durable when it says so.** When `commit` returns, all that it reports as done survives `kill -9` and power loss.
//! 2. **A group is applied in order**, each write seeing those before it, and becomes visible to reads as a whole.
//! 3. **A failure is total.** If `commit` fails, no reader in this process ever sees any of its writes. After a
//!    `Failure::Passing` they will never exist. After a `Failure::Final` the disk's word is unknown: the next start finds
//!    the group as a whole or nothing of it, and nobody has been told that it was done.
//! 4. **A write may fail alone**, when it is unfit or what it builds on is damaged: it then changes nothing, and its
//!    neighbours in the group are not harmed.
//! 5. **History is ordered by message id**, bytewise, within a channel; the owner makes ids that rise.
//! 6. **The head never moves back**: removing the newest message leaves the channel's head where it was.
//! 7. **Names are unique**: one account a username, one owner a credential, compared byte for byte.

pub mod account;
pub mod bridge;
pub mod embedded;
mod keys;
pub mod memory;
mod record;

use engine::id::{ChannelId, Epoch, MessageId, Timestamp, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreReceipt, StoreRequest};

use account::{Account, AccountChange, Changed, Credential, CredentialOwner, Registered, Registration, Revocation};

/// A keeper. Its calls may block on the disk, so they run on the bridge's threads, never on a shard's.
pub trait Store: Send + Sync + 'static {
    /// Begins a new life of the server: a number greater than any given before on this store.
    fn next_epoch(&self) -> Result<Epoch, Failure>;

    /// Applies a group of writes in order and makes them durable; answers one by one, in the same order.
    /// Called by one thread at a time.
    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure>;

    /// Where the channel's history ends, counting removed messages.
    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure>;

    /// One stored message.
    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure>;

    /// At most `limit` messages of a channel from one side of a place.
    fn messages(&self, channel: &ChannelId, from: Place, limit: usize) -> Result<Vec<Message>, Failure>;

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;

    /// All revocations, but for those that were forgotten; read once at start.
    fn revocations(&self) -> Result<Vec<Revocation>, Failure>;

    /// Ends this keeper in order: all that was committed is on disk, and later calls fail.
    fn close(&self) -> Result<(), Failure>;
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
        update_time: Timestamp,
    },
    /// A later revocation of the same token or user replaces an earlier one; it never moves back.
    Revoke(Revocation),
    /// Revoked tokens that have expired by now need no remembering.
    ForgetRevocations {
        expired_by: Timestamp,
    },
}

/// What became of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// `Inserted`, `Updated`, `Removed` or `NotFound`.
    Message(StoreReceipt),
    Registered(Registered),
    Changed(Changed),
    Revoked,
    Forgotten,
}

/// Longest username or credential, in bytes. The gateway's own limits are well below; the key space relies on this one.
pub const NAME_BYTES_MAX: usize = 1024;

/// The world failed: disk, file system, database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
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
    /// Another process has the data.
    #[error("{0}")]
    InUse(String),
    /// No keeper takes such a write: a name is empty or longer than `NAME_BYTES_MAX`. Nothing was done.
    #[error("the store does not take this: {0}")]
    Unfit(String),
}

/// Refuses names that the key space has no room for.
fn check_name(name: &str) -> Result<(), Failure> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        length => Err(Failure::Unfit(format!("a name of {length} bytes; 1 to {NAME_BYTES_MAX} are possible"))),
    }
}

/// `Head` and `Sender` change nothing, so they have no place in a group of writes.
fn not_a_write() -> Failure {
    Failure::Unfit("a read among the writes".into())
}
