//! The storage of messages, accounts, groups, friends, notifications, objects and logouts: one trait (`Store`), several
//! stores.
//!
//! The laws that every store obeys, whatever it is made of:
//!
//! 1. **Durable when it says so.** When `commit` returns, every write that it reports as done survives `kill -9` and
//!    power loss.
//! 2. **A group of writes is applied in order.** Each write sees those before it. The group becomes visible to reads as
//!    a whole.
//! 3. **A failure is total.** If `commit` fails, no reader in this process ever sees any of its writes, and the writes
//!    will never exist, unless the failure says that the outcome is unknown (`Failure::outcome_is_unknown`). After a
//!    `Failure::Broken` the next start finds the whole group of writes or nothing of it. After a `Failure::Unknown` a
//!    write may be found done, as a whole, at any later time.
//! 4. **A write may fail alone**, when it is invalid or when the data that it builds on is damaged. It then changes
//!    nothing, and the other writes of the group are not affected.
//! 5. **History is ordered by message id**, bytewise, within a channel. The channel's owner makes ids that rise.
//! 6. **The head never moves back**: removing the newest message leaves the channel's head where it was.
//! 7. **Names are unique**: one account per username, one group per name, one owner per credential. They are compared
//!    byte for byte.
//! 8. **Both sides of a list agree.** A user with a role in a group is in the group's list, and the group is in the
//!    user's list. The count of seats taken changes in the same write as the seats. A group that has no superadmin left
//!    is deleted.
//! 9. **A change is decided when it is written**, by the rules of `engine`, on the data that the writes before it have
//!    left. So if two users want the last seat, one of them gets it. What the change tells a channel or a user is
//!    stored in the same write.
//! 10. **Notifications have rising ids**, for each user, so that a new notification never appears before a position
//!     that was already read. A user has at most `NOTIFICATIONS_MAX` of them; the oldest is removed to make room.
//! 11. **What is deleted disappears at once; its rows are removed later.** No request finds the members or the name of a
//!     deleted group any more. No credential opens a deleted account, its name is free, and its objects are in no answer. Rows that can no longer be
//!     reached (the history and members of such a group; the friends, bans, notifications and objects of such a user) are
//!     removed in bounded batches, with the writes that follow. The caller that reads `account_deletions` purges the
//!     messages of a deleted account; the list of channels in which the user has written is kept until then.
//! 12. **Objects are written all or none.** A write that names several objects of a user is carried out for each of
//!     them, or for none. The counts of a user's objects change in the same write.

pub mod account;
pub mod backup;
pub mod bridge;
pub mod change;
pub mod embedded;
pub mod friend;
pub mod generations;
pub mod group;
pub mod inbox;
mod keys;
pub mod log_limit;
pub mod memory;
pub mod object;
mod part;
pub mod record;
pub mod repeats;
pub mod retention;
pub mod rows;
pub mod transfer;
mod written;

use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreQuestion, StoreReceipt, StoreWrite};
use engine::social::friend::{FriendAct, FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;

use account::{
    Account, AccountChange, Credential, CredentialOwner, Expiry, Profile, Registration, Revocation, RevocationPlace,
};
use backup::BackedUp;
use friend::{Friend, FriendPlace};
use group::{Group, GroupEdit, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use object::{Object, ObjectCounts, ObjectDelete, ObjectId, ObjectListing, ObjectPlace, ObjectWrite};

use part::read_on;
pub use part::{Part, WrittenPlace};
pub use written::Written;

/// Bytes of the key by which channels are placed.
pub const PLACEMENT_KEY_BYTES: usize = 16;

/// A store. Its calls may block on the disk, so they run on the bridge's threads, never on a shard's.
pub trait Store: Send + Sync + 'static {
    /// Begins a new life of the server. Returns an epoch greater than any that this store has returned before.
    fn next_epoch(&self) -> Result<Epoch, Failure>;

    /// The key by which all servers of this installation place channels. A store that several servers share keeps the first
    /// candidate that it is offered; another store leaves this to its server, whose candidate it returns.
    fn placement_key(&self, candidate: [u8; PLACEMENT_KEY_BYTES]) -> Result<[u8; PLACEMENT_KEY_BYTES], Failure> {
        Ok(candidate)
    }

    /// Applies a group of writes in order and makes them durable. Returns one result per write, in the same order.
    /// Called by one thread at a time.
    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure>;

    /// The other way to write, for a store that carries out many writes at once.
    fn lanes(&self) -> Option<&dyn Lanes> {
        None
    }

    /// How many threads may wait for answers to queries at a time. Pages on a disk come mostly from memory; the second
    /// reader is for the page that does not.
    fn readers(&self) -> usize {
        2
    }

    /// The same store for one query, which fails if it is not answered by the deadline. For a store whose queries may
    /// have to wait.
    fn until(&self, _deadline: Instant) -> Option<Box<dyn Store>> {
        None
    }

    /// How many rows the store has looked at since its start, removed ones included, if it counts them.
    fn rows_read(&self) -> u64 {
        0
    }

    /// How many damaged blocks the store has met since its start, if it looks for them. Requests that need one fail with
    /// [`Failure::Corrupt`].
    fn damaged_blocks(&self) -> usize {
        0
    }

    /// Why a request made now must fail, or `None`: for example, a database is away for a while, or a disk is full.
    fn unready(&self) -> Option<String> {
        None
    }

    /// How much room there is where the data is kept, if this store keeps it on a disk of this machine.
    fn disk_room(&self) -> Option<DiskRoom> {
        None
    }

    /// The channel's last message ever stored, even if it was removed since.
    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure>;

    /// One stored message.
    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure>;

    /// At most `limit` messages of a channel, from a place on, in the direction that the place says. A store in which
    /// removed rows cost something looks at a bounded number of rows, and says where it has stopped. The same holds for
    /// the other parts.
    fn messages_part(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure>;

    /// The messages of a channel as [`Self::messages_part`] has them, however many rows the store must look at.
    fn messages(&self, channel: &ChannelId, from: PageStart, limit: usize) -> Result<Vec<Message>, Failure> {
        read_on(None, limit, |stopped, limit| {
            self.messages_part(channel, stopped.map_or(from, |id| from.behind(id)), limit)
        })
    }

    /// The account that has this credential, with its secret, or `None`.
    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    /// The account with this id, or `None`.
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    /// What others see of the account with this id, or `None`. Does not read the account's credentials, which may be much
    /// more.
    fn profile(&self, id: UserId) -> Result<Option<Profile>, Failure>;
    /// Whether there is an account with this id. Reads nothing else of it.
    fn has_account(&self, id: UserId) -> Result<bool, Failure>;
    /// The user with exactly this username, or `None`.
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;

    /// The group with this id, or `None`.
    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure>;

    /// Groups by name without regard to case, then by id; and the place to continue from, if there may be more.
    /// Examines no more than `GROUPS_EXAMINED_MAX` groups, so a page may be short, or empty, and yet not be the last.
    fn group_page(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure>;

    /// The groups of [`Self::group_page`], and the place to continue from.
    fn groups(
        &self,
        filter: &GroupFilter,
        after: Option<&GroupPlace>,
        limit: usize,
    ) -> Result<(Vec<Group>, Option<GroupPlace>), Failure> {
        self.group_page(filter, after, limit).map(|page| (page.groups, page.next))
    }

    /// The user's role in the group, which may be [`Role::Banned`], or `None` if it has none or there is no such group.
    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure>;

    /// Users with this role in a group, or with any role but `Banned` if there is no role given. Sorted by role, then
    /// by the time at which the user got the role, then by id.
    fn group_members_part(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure>;

    /// The whole list of which [`Self::group_members_part`] reads parts.
    fn group_members(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(UserId, RosterPlace)>, Failure> {
        read_on(after, limit, |after, limit| self.group_members_part(group, role, after, limit))
    }

    /// The groups in which a user has this role, or any role but `Banned`, in the same order.
    fn user_groups_part(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure>;

    /// The whole list of which [`Self::user_groups_part`] reads parts.
    fn user_groups(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(Group, RosterPlace)>, Failure> {
        read_on(after, limit, |after, limit| self.user_groups_part(user, role, after, limit))
    }

    /// How two users stand to each other, as seen from either side.
    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure>;

    /// Users to whom this user stands in the given state, or in any. Sorted by state, then by the time at which it
    /// began, then by id.
    fn friends_part(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure>;

    /// The whole list of which [`Self::friends_part`] reads parts.
    fn friends(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Vec<(Friend, FriendPlace)>, Failure> {
        read_on(after, limit, |after, limit| self.friends_part(user, state, after, limit))
    }

    /// How many friends a user has.
    fn edge_count(&self, user: UserId) -> Result<u32, Failure>;

    /// A user's notifications, oldest first.
    fn notifications_part(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure>;

    /// The whole list of which [`Self::notifications_part`] reads parts.
    fn notifications(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<Notification>, Failure> {
        read_on(after, limit, |after, limit| self.notifications_part(user, after, limit))
    }

    /// Those of these objects that exist and whose owners have accounts, in the order asked for. At most
    /// `OBJECTS_AT_ONCE_MAX` may be asked for. The caller asks who may read them.
    fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure>;

    /// Some objects of a list, whose owners have accounts. A part also ends after `OBJECTS_PART_BYTES_MAX` bytes of values.
    fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure>;

    /// The whole list of which [`Self::objects_part`] reads parts.
    fn object_list(
        &self,
        listing: &ObjectListing,
        after: Option<ObjectPlace>,
        limit: usize,
    ) -> Result<Vec<Object>, Failure> {
        read_on(after, limit, |after, limit| self.objects_part(listing, after.as_ref(), limit))
    }

    /// How many objects a user has, private ones too.
    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure>;

    /// The channels in whose history there is, or was, a message by this user. The order is unspecified but does not
    /// change.
    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure>;

    /// Messages of a user, at most `limit`, from a place on, for the deletion of the account. Only those after `floor`,
    /// if it is given. The order is unspecified; all messages of a part are in one channel. A part has a place where it
    /// stopped, unless no message is left.
    fn written_part(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        part::written_in_channels(self, user, floor, from, limit)
    }

    /// At most `limit` users whose accounts were deleted and whose messages are still to be purged.
    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure>;

    /// All revocations that have not been forgotten; read once at start.
    fn revocations(&self) -> Result<Vec<Revocation>, Failure>;

    /// At most `limit` revocations that have expired, and the place to continue from, if there may be more. A store
    /// that keeps them in the order of time returns them in that order. A store that does not examines no more than
    /// some thousands, so a page may be short, or empty, and yet not be the last.
    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure>;

    /// Copies everything that was committed before this call into a directory, which must not be there and whose parent
    /// must be. Writes go on meanwhile. Fails if the store has no backup of its own, or the copy cannot be written; what
    /// it has written by then stays.
    fn back_up(&self, _target: &Path) -> Result<BackedUp, Failure> {
        Err(Failure::Unfit("this store has no backup of its own".into()))
    }

    /// Closes this store in order: everything that was committed is on disk, and later calls fail.
    fn close(&self) -> Result<(), Failure>;
}

/// Receives the result of a write, once, on any thread. It must not block.
pub type Answer = Box<dyn FnOnce(Result<Written, Failure>) + Send>;

/// Receives the answer to a shard's question, once, on any thread. It must not block.
pub type QuestionAnswer = Box<dyn FnOnce(Result<StoreReceipt, Failure>) + Send>;

/// What a store with lanes takes, with the callback for the result.
pub enum Submission {
    Write(Write, Answer),
    Question(StoreQuestion, QuestionAnswer),
}

impl Submission {
    /// Answers that it was not carried out.
    pub fn fail(self, failure: Failure) {
        match self {
            Self::Write(_, answer) => answer(Err(failure)),
            Self::Question(_, answer) => answer(Err(failure)),
        }
    }
}

/// How a store takes writes that need not wait for each other. Each write is a group of its own, and is answered when
/// it is decided. Writes about the same channel, user or group are applied in the order in which they were taken; the
/// laws about order hold for those. A write may notify users whom it does not name (a request to join a closed group
/// notifies the group's admins). For these users it may be applied after writes that were taken later.
pub trait Lanes: Send + Sync {
    /// Accepts what arrived together, in this order, and starts it. A question is answered after all writes that were
    /// taken before it and are about the same. Never blocks: a submission for which there is no room in time is answered
    /// with `Failure::Passing`. Called by one thread at a time.
    fn take(&self, submissions: Vec<Submission>);

    /// Waits until everything that was taken is answered.
    fn drain(&self);
}

/// The position from which, and the direction in which, messages are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageStart {
    /// Rising, from the first message.
    Oldest,
    /// Falling, from the last message.
    Newest,
    /// Rising, from the first message whose id is greater. The id itself need not exist.
    After(MessageId),
    /// Falling, from the last message whose id is smaller. The id itself need not exist.
    Before(MessageId),
}

/// One write of a group of writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// A write of a shard.
    Request(StoreWrite),
    Register(Registration),
    ChangeAccount {
        id: UserId,
        change: AccountChange,
        update_time: Timestamp,
    },
    Link {
        user: UserId,
        credential: Credential,
        /// The password's hash for an email, and empty otherwise, as in a registration.
        secret: String,
        time: Timestamp,
    },
    Unlink {
        user: UserId,
        credential: Credential,
        time: Timestamp,
    },
    /// Deletes the account and everything that belongs to it only; tokens issued before this time are refused. Its
    /// messages are not touched yet: from now on the user is among the account deletions.
    DeleteAccount {
        user: UserId,
        time: Timestamp,
    },
    /// The messages of a deleted account have been purged: the store forgets where they were.
    FinishAccountDeletion {
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
    /// A user does this to each of the others. Others that do not exist are skipped. Where a request or a friendship
    /// begins, the user's own side gets the metadata: a JSON object, or nothing. Metadata that is longer than
    /// `FRIEND_METADATA_BYTES_MAX`, or than `ACT_METADATA_BYTES_MAX` for all others together, is unfit.
    Relate {
        act: FriendAct,
        user: UserId,
        others: Vec<UserId>,
        metadata: Box<str>,
        time: Timestamp,
    },
    /// Deletes those of these notifications that belong to the user.
    DeleteNotifications {
        user: UserId,
        ids: Vec<NotificationId>,
    },
    /// Writes objects of a user: all of them, or none.
    WriteObjects {
        owner: UserId,
        objects: Vec<ObjectWrite>,
        time: Timestamp,
    },
    /// Deletes objects of a user: all of them, or none.
    DeleteObjects {
        owner: UserId,
        objects: Vec<ObjectDelete>,
    },
    /// A later revocation of the same token or user replaces an earlier one; the time of a revocation never moves back.
    Revoke(Revocation),
    /// Removes revocations that have expired, at most `FORGOTTEN_AT_ONCE_MAX`. A revocation that has since been
    /// replaced by a later one stays.
    ForgetRevocations(Vec<Revocation>),
}

/// The longest time that a query, or a write to a database, may wait for its answer, counted from the request.
/// Operators are told this bound.
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(10);

/// The room on a store's disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskRoom {
    pub free: u64,
    /// How much of it must stay free: with less, writes are refused.
    pub reserve: u64,
    /// How much the store itself takes: its tables and journals.
    pub used: u64,
}

/// Most revocations that one write may remove: this takes the committer some milliseconds, and other writes wait for
/// that long.
pub const FORGOTTEN_AT_ONCE_MAX: usize = 1000;

/// Longest username or credential, in bytes. The gateway's own limits are well below; the key space relies on this one.
pub const NAME_BYTES_MAX: usize = 1024;

/// Failures of the outside world: disk, file system, database.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was done, and later calls may succeed.
    #[error("the store could not do it, try again: {0}")]
    Passing(String),
    /// Nothing was done, because the disk is full. Later calls may succeed. The store has logged it.
    #[error("{0}")]
    Full(String),
    /// Nothing was done, and the store will not work again in this process: stop it, find the cause, start it again.
    #[error("the store has failed and this process must stop: {0}")]
    Final(String),
    /// The write may have been done, or may yet be found done. Later calls may succeed.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The store failed while it wrote: the outcome is unknown until the next start, and this process must stop.
    #[error("the store has failed while it wrote and this process must stop: {0}")]
    Broken(String),
    /// The data on disk was not written by a store of this version.
    #[error("the data is damaged or not ours: {0}")]
    Corrupt(String),
    /// Another process has the data open.
    #[error("{0}")]
    InUse(String),
    /// Nothing was done, because the server was started only to read.
    #[error("{0}")]
    ReadOnly(String),
    /// No store takes such a write, for example because a name is empty or too long. Nothing was done.
    #[error("the store does not take this: {0}")]
    Unfit(String),
}

impl Failure {
    /// Whether the write that failed may have been done nevertheless.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Broken(_))
    }

    /// The failure of all later calls, if no later call can succeed.
    pub fn last_word(&self) -> Option<Self> {
        match self {
            Self::Final(reason) | Self::Broken(reason) => Some(Self::Final(reason.clone())),
            _ => None,
        }
    }
}

/// The range of a list between its first and last possible place that follows the place `after`. `None` if no place
/// follows. The place may come from a client, so it can have any value.
pub fn span<P: Ord>([first, last]: [P; 2], after: Option<P>) -> Option<(Bound<P>, Bound<P>)> {
    debug_assert!(first <= last, "a list begins before it ends");
    match after {
        Some(after) if after >= last => None,
        Some(after) if after >= first => Some((Bound::Excluded(after), Bound::Included(last))),
        _ => Some((Bound::Included(first), Bound::Included(last))),
    }
}
