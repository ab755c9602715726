//! Remembers: messages, accounts, groups, friends, notifications, logouts. One promise (`Store`), several keepers.
//!
//! The laws every keeper obeys, whatever it is made of:
//!
//! 1. **Durable when it says so.** When `commit` returns, all that it reports as done survives `kill -9` and power loss.
//! 2. **A group is applied in order**, each write seeing those before it, and becomes visible to reads as a whole.
//! 3. **A failure is total.** If `commit` fails, no reader in this process ever sees any of its writes, and they will never
//!    exist, unless the failure says that the outcome is unknown (`Failure::outcome_is_unknown`). After a `Failure::Broken`
//!    the next start finds the group as a whole or nothing of it. After a `Failure::Unknown` a write may be found done, as
//!    a whole, at any time.
//! 4. **A write may fail alone**, when it is unfit or what it builds on is damaged: it then changes nothing, and its
//!    neighbours in the group are not harmed.
//! 5. **History is ordered by message id**, bytewise, within a channel; the owner makes ids that rise.
//! 6. **The head never moves back**: removing the newest message leaves the channel's head where it was.
//! 7. **Names are unique**: one account a username, one group a name, one owner a credential, compared byte for byte.
//! 8. **Each list agrees with its other side.** Whoever has a role is in the group's list and has the group in their own;
//!    seats taken are counted in the write that takes them; a group that has no superadmin left is gone.
//! 9. **A change is decided when it is written**, by the rules of `engine` on what the writes before it have left. So of two
//!    who want the last seat one gets it. What it says to a channel or a user is stored in the same write.
//! 10. **Notifications have rising ids**, for each user, so that nothing new ever appears before a place that was read. A
//!     user has `NOTIFICATIONS_MAX` of them at most; the oldest makes room.
//! 11. **What is deleted is gone at once, its remains by and by.** Of a deleted group nobody finds members or name any
//!     more; of a deleted account nothing opens it and nobody has its name. Rows that nothing leads to any more (the
//!     history and members of such a group, the friends, bans and notifications of such a user) are removed in bounded
//!     batches, with the writes that follow. Messages of a deleted account are to be purged by whoever finds it among the
//!     account deletions; where it has written is kept until then.

pub mod account;
pub mod bridge;
mod change;
pub mod embedded;
pub mod friend;
pub mod group;
pub mod inbox;
mod keys;
pub mod memory;
mod record;
mod rows;
pub mod scylla;
pub mod transfer;

use std::ops::Bound;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreReceipt, StoreRequest};
use engine::social::friend::{FriendAct, FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;

use account::{
    Account, AccountChange, Changed, Credential, CredentialOwner, Expiry, Linked, Registered, Registration, Revocation,
    RevocationPlace, Unlinked,
};
use friend::{Friend, FriendPlace, Related};
use group::{Group, GroupCreated, GroupEdit, GroupEdited, GroupFilter, GroupPlace, RosterPlace};

/// A keeper. Its calls may block on the disk, so they run on the bridge's threads, never on a shard's.
pub trait Store: Send + Sync + 'static {
    /// Begins a new life of the server: a number greater than any given before on this store.
    fn next_epoch(&self) -> Result<Epoch, Failure>;

    /// Applies a group of writes in order and makes them durable; answers one by one, in the same order.
    /// Called by one thread at a time.
    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure>;

    /// The other way in, of a keeper that carries out many writes at once.
    fn lanes(&self) -> Option<&dyn Lanes> {
        None
    }

    /// How many threads may wait for answers to questions at a time. Pages on a disk come mostly from memory; the second
    /// reader is for the one that does not.
    fn readers(&self) -> usize {
        2
    }

    /// The same keeper for one question, which then fails if it is not answered by that time. For a keeper whose questions may
    /// have to wait.
    fn until(&self, _deadline: Instant) -> Option<Box<dyn Store>> {
        None
    }

    /// Why what is asked now has no chance, if it has none: a database may be away for a while, a disk may be full.
    fn unready(&self) -> Option<String> {
        None
    }

    /// How much room there is where the data is kept, if this store keeps it on a disk of this machine.
    fn disk_room(&self) -> Option<DiskRoom> {
        None
    }

    /// Where the channel's history ends, counting removed messages.
    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure>;

    /// One stored message.
    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure>;

    /// At most `limit` messages of a channel from one side of a place.
    fn messages(&self, channel: &ChannelId, from: Place, limit: usize) -> Result<Vec<Message>, Failure>;

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure>;

    /// Groups by name without regard to case, then by id; and where to go on, if there may be more. Looks at no more than
    /// `GROUPS_EXAMINED_MAX`, so a page may be short, or empty, and yet not the last.
    fn groups(
        &self,
        filter: &GroupFilter,
        after: Option<&GroupPlace>,
        limit: usize,
    ) -> Result<(Vec<Group>, Option<GroupPlace>), Failure>;

    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure>;

    /// Who has this role in a group, or any but `Banned`: by role, then the time of entering it, then id.
    fn group_members(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(UserId, RosterPlace)>, Failure>;

    /// The groups in which a user has this role, or any but `Banned`, in the same order.
    fn user_groups(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(Group, RosterPlace)>, Failure>;

    /// How a user and another stand to each other.
    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure>;

    /// Those to whom a user stands in this way, or in any: by state, then since when, then id.
    fn friends(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Vec<(Friend, FriendPlace)>, Failure>;

    /// How many friends a user has.
    fn edge_count(&self, user: UserId) -> Result<u32, Failure>;

    /// A user's notifications, oldest first.
    fn notifications(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<Notification>, Failure>;

    /// The channels in whose history there is, or was, something by this user; in some order that does not change.
    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure>;

    /// Users whose accounts were deleted and whose messages are still to be, at most `limit` of them.
    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure>;

    /// All revocations, but for those that were forgotten; read once at start.
    fn revocations(&self) -> Result<Vec<Revocation>, Failure>;

    /// At most `limit` revocations that need no remembering any more, and where to go on, if there may be more. A keeper
    /// that has them in the order of time gives them in that order; one that has not looks at no more than some thousands,
    /// so a page may be short, or empty, and yet not the last.
    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure>;

    /// Ends this keeper in order: all that was committed is on disk, and later calls fail.
    fn close(&self) -> Result<(), Failure>;
}

/// Hears what became of a write, once, on any thread; it must not wait.
pub type Answer = Box<dyn FnOnce(Result<Written, Failure>) + Send>;

/// How a keeper takes writes that need not wait for each other: each is a group of its own, and is answered when it is
/// decided. Writes that are about the same channel, user or group are applied in the order in which they were taken, and
/// laws that speak of order hold for those.
pub trait Lanes: Send + Sync {
    /// Takes writes on their way that came together, in this order. A shard's question may be taken in the same manner: it is
    /// answered when those writes are decided that were taken before it and are about the same. Never waits: a write that
    /// finds no room in time is answered with `Failure::Passing`. Called by one thread at a time.
    fn take(&self, writes: Vec<(Write, Answer)>);

    /// Waits until all that was taken is answered.
    fn drain(&self);
}

/// From where, and in which direction, messages are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

/// One write of a group of writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// A channel owner's, if it is a write at all.
    Request(StoreRequest),
    Register(Registration),
    ChangeAccount {
        id: UserId,
        change: AccountChange,
        update_time: Timestamp,
    },
    Link {
        user: UserId,
        credential: Credential,
        /// As in a registration.
        secret: String,
        time: Timestamp,
    },
    Unlink {
        user: UserId,
        credential: Credential,
        time: Timestamp,
    },
    /// The account goes, and what is its own; tokens issued before this time are refused. Its messages are not yet touched:
    /// the user is among the account deletions from now on.
    DeleteAccount {
        user: UserId,
        time: Timestamp,
    },
    /// The messages of a deleted account have been purged.
    FinishDeparture {
        user: UserId,
    },
    /// The creator becomes its superadmin, and takes its first seat.
    CreateGroup(Group),
    UpdateGroup {
        id: GroupId,
        actor: UserId,
        edit: GroupEdit,
        time: Timestamp,
    },
    /// A user does this about each of the others. Those who do not exist are passed over.
    Relate {
        act: FriendAct,
        user: UserId,
        others: Vec<UserId>,
        time: Timestamp,
    },
    /// Of these, the user's own are deleted.
    DeleteNotifications {
        user: UserId,
        ids: Vec<NotificationId>,
    },
    /// A later revocation of the same token or user replaces an earlier one; it never moves back.
    Revoke(Revocation),
    /// Revocations that need no remembering any more, at most `FORGOTTEN_AT_ONCE_MAX`. One that has been replaced by a later
    /// one meanwhile stays.
    ForgetRevocations(Vec<Revocation>),
}

/// What became of one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// The answer to a channel owner's request.
    Receipt(StoreReceipt),
    Registered(Registered),
    Changed(Changed),
    Linked(Linked),
    Unlinked(Unlinked),
    /// Whether there was such an account.
    AccountDeleted(bool),
    GroupCreated(GroupCreated),
    GroupEdited(GroupEdited),
    Related(Related),
    /// There is nothing to say about it.
    Done,
}

/// The longest that a question, or a write to a database, may wait for its answer, from the moment of asking; operators are
/// told of it.
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(10);

/// The room on a store's disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskRoom {
    pub free: u64,
    /// How much of it must stay free: with less, writes are refused.
    pub reserve: u64,
}

/// Most revocations that one write may forget: some milliseconds of the committer, for which other writes wait.
pub const FORGOTTEN_AT_ONCE_MAX: usize = 1000;

/// Longest username or credential, in bytes. The gateway's own limits are well below; the key space relies on this one.
pub const NAME_BYTES_MAX: usize = 1024;

/// The world failed: disk, file system, database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was done, and later calls may succeed.
    #[error("the store could not do it, try again: {0}")]
    Passing(String),
    /// Nothing was done, because the disk is full. Later calls may succeed. The store has said so in the log.
    #[error("{0}")]
    Full(String),
    /// Nothing was done, and the store will not work again in this process: stop, look, start anew.
    #[error("the store has failed and this process must stop: {0}")]
    Final(String),
    /// The write may have been done or may yet be found done. Later calls may succeed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The store failed while it wrote: the outcome is unknown until the next start, and this process must stop.
    #[error("the store has failed while it wrote and this process must stop: {0}")]
    Broken(String),
    /// What is on disk is not what a keeper of this version wrote.
    #[error("the data is damaged or not ours: {0}")]
    Corrupt(String),
    /// Another process has the data.
    #[error("{0}")]
    InUse(String),
    /// No keeper takes such a write, as when a name is empty or too long. Nothing was done.
    #[error("the store does not take this: {0}")]
    Unfit(String),
}

impl Failure {
    /// Whether the write that failed may have been done all the same.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Broken(_))
    }

    /// What later calls fail with, if no later call can succeed.
    pub fn last_word(&self) -> Option<Self> {
        match self {
            Self::Final(reason) | Self::Broken(reason) => Some(Self::Final(reason.clone())),
            _ => None,
        }
    }
}

/// Refuses names that the key space has no room for.
fn check_name(name: &str) -> Result<(), Failure> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        length => Err(Failure::Unfit(format!("a name of {length} bytes; 1 to {NAME_BYTES_MAX} are possible"))),
    }
}

/// Refuses to forget so much at once that other writes would wait for it.
fn check_forgotten(revocations: &[Revocation]) -> Result<(), Failure> {
    if revocations.len() <= FORGOTTEN_AT_ONCE_MAX {
        return Ok(());
    }
    let length = revocations.len();
    Err(Failure::Unfit(format!("{length} revocations at once; {FORGOTTEN_AT_ONCE_MAX} are possible")))
}

/// Questions change nothing, so they have no place in a group of writes.
fn not_a_write() -> Failure {
    Failure::Unfit("a read among the writes".into())
}

/// The part of a list between its first and last possible place that lies behind a place, if there is such a part. The
/// place may come from a client, and be any.
fn span<P: Ord>([first, last]: [P; 2], after: Option<P>) -> Option<(Bound<P>, Bound<P>)> {
    match after {
        Some(after) if after >= last => None,
        Some(after) if after >= first => Some((Bound::Excluded(after), Bound::Included(last))),
        _ => Some((Bound::Included(first), Bound::Included(last))),
    }
}
