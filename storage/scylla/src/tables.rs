//! The tables, one file each, and all statements that read and write them.
//!
//! A table's file has its definition, its statements, the type of its rows, how a row is written and read, what may be
//! wrong with a stored row, and a test that takes a row to the bytes of the wire and back. What is written in several
//! tables at once is above this folder, in `linked_rows.rs`.
//!
//! | tables | key | what |
//! | --- | --- | --- |
//! | `messages` | channel, bucket; id | messages, and where a channel's history ends |
//! | `channels`, `channel_epochs`, `channel_buckets` | channel | which buckets a channel has |
//! | `author_buckets` | user; channel, bucket | where a user has written |
//! | `authored` | user; channel | where a user had written before version 4 of the schema |
//! | `users`, `usernames`, `credentials` | user; name; credential | accounts, and which of them has a name or credential |
//! | `revocations` | kind, id | logouts |
//! | `groups`, `group_names`, `group_seats` | group; name; group | groups, their names, and the seats taken |
//! | `group_list` | shard; name and id | all groups in the order of their names |
//! | `group_members` | group, shard; user | roles |
//! | `group_rosters` | group, shard; role, time, user | a group's members in order |
//! | `user_groups` | user; role, time, group | a user's groups in order |
//! | `group_counts` | user | in how many groups a user is |
//! | `edges`, `blocked_by` | user; other user | how two users stand to each other |
//! | `friends` | user; state, time, other user | a user's friends in order |
//! | `circles` | user | how many friends a user has (`friend_counts.rs`) |
//! | `inboxes`, `notifications` | user; id | notifications, and facts about them as a whole |
//! | `objects`, `object_counts` | user; collection, permission, key | objects, and how many they are |
//! | `public_objects` | collection, shard; key and user | which objects all may read, in order |
//! | `departures` | user | deleted accounts whose messages are still there (`account_deletions.rs`) |
//! | `leftovers` | kind; id | deleted things whose rows are still there |
//! | `intents` | slot; part | how to undo changes in flight |
//! | `servers`, `transfers` | one row | the server that has the keyspace; how far a move has come |
//! | `installation` | one row | what all servers of the keyspace must agree on |

pub mod account_deletions;
pub mod author_buckets;
pub mod authored;
pub mod blocked_by;
pub mod channels;
pub mod credentials;
pub mod edges;
pub mod friend_counts;
pub mod friends;
pub mod group_counts;
pub mod group_list;
pub mod group_members;
pub mod group_names;
pub mod group_rosters;
pub mod group_seats;
pub mod groups;
pub mod inboxes;
pub mod installation;
pub mod intents;
pub mod leftovers;
pub mod messages;
mod mutation;
pub mod notifications;
pub mod object_counts;
pub mod objects;
pub mod public_objects;
mod query;
pub mod revocations;
pub mod servers;
mod shards;
#[cfg(test)]
mod tests;
pub mod transfers;
pub mod user_groups;
pub mod usernames;
pub mod users;
mod values;

use scylla::value::CqlValue;
use storage::Failure;

pub use mutation::Mutation;
pub use query::Query;
pub use shards::{shard_of, shards_of};
pub use values::{big, bytes, flag, id, int, limit_of, roster_places, text, texts};

macro_rules! statements {
    ($($name:ident = $cql:expr,)*) => {
        /// One of the statements.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Statement { $($name),* }

        /// All statements, each with its text, in the order of their numbers.
        pub const ALL: &[(Statement, &str)] = &[$((Statement::$name, $cql)),*];
    };
}

// The names of statements that write are in stored intents: they never change.
statements! {
    // Messages.
    PutMessage = messages::PUT,
    EditMessage = messages::EDIT,
    DeleteMessage = messages::DELETE,
    DeleteBucket = messages::DELETE_BUCKET,
    SetHead = messages::SET_HEAD,
    Head = messages::HEAD,
    Message = messages::ONE,
    PageFalling = messages::PAGE_FALLING,
    PageRising = messages::PAGE_RISING,
    Senders = messages::SENDERS,
    // The index of a channel's partitions.
    Epochs = channels::EPOCHS,
    Buckets = channels::BUCKETS,
    PutEpoch = channels::PUT_EPOCH,
    PutBucket = channels::PUT_BUCKET,
    DeleteEpochs = channels::DELETE_EPOCHS,
    DeleteBuckets = channels::DELETE_BUCKETS,
    Channel = channels::NEWEST,
    ClaimChannel = channels::CLAIM,
    MoveChannel = channels::MOVE,
    ReleaseChannel = channels::RELEASE,
    // Where a user has written.
    PutAuthorBucket = author_buckets::PUT,
    DeleteAuthorBuckets = author_buckets::DELETE,
    AuthorBuckets = author_buckets::PAGE,
    OlderAuthorBucket = author_buckets::OLDER,
    PutAuthored = authored::PUT,
    DeleteAuthored = authored::DELETE,
    Authored = authored::PAGE,
    // Accounts.
    User = users::ONE,
    UserProfile = users::PROFILE,
    UserExists = users::USERNAME,
    PutUser = users::PUT,
    DeleteUser = users::DELETE,
    Username = usernames::OWNER,
    ClaimUsername = usernames::CLAIM,
    TakeUsername = usernames::TAKE,
    ReleaseUsername = usernames::RELEASE,
    Credential = credentials::OWNER,
    ClaimCredential = credentials::CLAIM,
    TakeCredential = credentials::TAKE,
    ReleaseCredential = credentials::RELEASE,
    // Logouts.
    Revocations = revocations::ALL,
    Revocation = revocations::ONE,
    PutRevocation = revocations::PUT,
    DeleteRevocation = revocations::DELETE,
    // Groups.
    Group = groups::ONE,
    PutGroup = groups::PUT,
    DeleteGroup = groups::DELETE,
    GroupName = group_names::OWNER,
    ClaimGroupName = group_names::CLAIM,
    TakeGroupName = group_names::TAKE,
    ReleaseGroupName = group_names::RELEASE,
    Seats = group_seats::ONE,
    ClaimSeats = group_seats::CLAIM,
    MoveSeats = group_seats::MOVE,
    ReleaseSeats = group_seats::RELEASE,
    GroupList = group_list::PAGE,
    PutGroupList = group_list::PUT,
    DeleteGroupList = group_list::DELETE,
    Member = group_members::ONE,
    PutMember = group_members::PUT,
    DeleteMember = group_members::DELETE,
    DeleteMembers = group_members::DELETE_ALL,
    Roster = group_rosters::BETWEEN,
    PutRoster = group_rosters::PUT,
    DeleteRoster = group_rosters::DELETE,
    DeleteRosters = group_rosters::DELETE_ALL,
    UserGroups = user_groups::BETWEEN,
    PutUserGroup = user_groups::PUT,
    DeleteUserGroup = user_groups::DELETE,
    DeleteUserGroups = user_groups::DELETE_ALL,
    GroupCount = group_counts::ONE,
    PutGroupCount = group_counts::PUT,
    DeleteGroupCount = group_counts::DELETE,
    // Friends and blocks.
    Edge = edges::ONE,
    Edges = edges::PAGE,
    PutEdge = edges::PUT_WITHOUT_METADATA,
    PutEdgeNoted = edges::PUT,
    DeleteEdge = edges::DELETE,
    DeleteEdges = edges::DELETE_ALL,
    Friends = friends::BETWEEN,
    PutFriend = friends::PUT_WITHOUT_METADATA,
    PutFriendNoted = friends::PUT,
    DeleteFriend = friends::DELETE,
    DeleteFriends = friends::DELETE_ALL,
    BlockedBy = blocked_by::PAGE,
    PutBlockedBy = blocked_by::PUT,
    DeleteBlockedBy = blocked_by::DELETE,
    FriendCounts = friend_counts::ONE,
    PutCircle = friend_counts::PUT,
    DeleteCircle = friend_counts::DELETE,
    // Notifications.
    Inbox = inboxes::ONE,
    PutInbox = inboxes::PUT,
    DeleteInbox = inboxes::DELETE,
    Notifications = notifications::PAGE,
    Notification = notifications::ONE,
    PutNotification = notifications::PUT,
    DeleteNotification = notifications::DELETE,
    DeleteNotifications = notifications::DELETE_ALL,
    // Objects.
    Object = objects::ONE,
    ObjectsBetween = objects::BETWEEN,
    Objects = objects::PAGE,
    ObjectNames = objects::NAMES,
    PutObject = objects::PUT,
    DeleteObject = objects::DELETE,
    DeleteObjects = objects::DELETE_ALL,
    PublicObjects = public_objects::PAGE,
    PutPublicObject = public_objects::PUT,
    DeletePublicObject = public_objects::DELETE,
    ObjectCounts = object_counts::ONE,
    PutObjectCounts = object_counts::PUT,
    DeleteObjectCounts = object_counts::DELETE,
    // Work that is still to be done.
    AccountDeletions = account_deletions::FIRST,
    PutDeparture = account_deletions::PUT,
    DeleteDeparture = account_deletions::DELETE,
    Leftovers = leftovers::OF_KIND,
    PutLeftover = leftovers::PUT,
    DeleteLeftover = leftovers::DELETE,
    // Changes of more than one batch that are in flight.
    Intent = intents::STATE,
    IntentPart = intents::PART,
    SetIntent = intents::SET,
    PutIntentPart = intents::PUT_PART,
    ClearIntent = intents::CLEAR,
    // The server that has the keyspace.
    Server = servers::ONE,
    Installation = installation::ONE,
    ClaimInstallation = installation::CLAIM,
    ServerWritten = servers::WRITTEN,
    ClaimServer = servers::CLAIM,
    TakeServer = servers::TAKE,
    BeatServer = servers::BEAT,
    LeaveServer = servers::LEAVE,
    Transfer = transfers::ONE,
    PutTransfer = transfers::PUT,
    // Counting, page by page.
    CountUsers = users::COUNT,
    CountUsernames = usernames::COUNT,
    CountCredentials = credentials::COUNT,
    CountGroups = groups::COUNT,
    CountGroupNames = group_names::COUNT,
    CountMembers = group_members::COUNT,
    CountEdges = edges::COUNT,
    CountNotifications = notifications::COUNT,
    CountMessages = messages::COUNT,
    CountRevocations = revocations::COUNT,
    CountFriendCounts = friend_counts::COUNT,
    CountInboxes = inboxes::COUNT,
    CountAuthorsMoved = author_buckets::COUNT_MOVED,
    CountAccountDeletions = account_deletions::COUNT,
    CountObjects = objects::COUNT,
    CountObjectCounts = object_counts::COUNT,
    // Whole tables, in the order in which the database stores them.
    UserIdsFrom = users::IDS_FROM,
    CredentialsFrom = credentials::FROM,
    RevocationsFrom = revocations::FROM,
    GroupIdsFrom = groups::IDS_FROM,
    AuthorsFrom = authored::USERS_FROM,
    BucketAuthorsFrom = author_buckets::USERS_FROM,
    ChannelsFrom = channels::FROM,
    AccountDeletionsFrom = account_deletions::PAGE,
}

impl Statement {
    /// The text that is prepared.
    pub fn cql(self) -> &'static str {
        ALL[self as usize].1
    }

    /// The statement's name in records. It must never change, because a newer program may have to read the records.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The statement that [`Self::name`] names, or `None` if this program has none.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().map(|(statement, _)| *statement).find(|statement| statement.name() == name)
    }

    /// Whether it only reads, so that repeating it does no harm.
    pub fn is_read(self) -> bool {
        self.cql().starts_with("SELECT")
    }

    /// Whether a lightweight transaction runs this statement.
    pub fn is_conditional(self) -> bool {
        self.cql().contains(" IF ")
    }

    /// How many values the statement takes, the timestamp not counted.
    pub fn values(self) -> usize {
        let markers = self.cql().matches('?').count();
        markers - usize::from(self.cql().contains("TIMESTAMP ?"))
    }

    /// Adds the timestamp to the values: the last value for insertions, the first for all others.
    pub fn stamped(self, mut values: Vec<CqlValue>, timestamp: i64) -> Vec<CqlValue> {
        debug_assert!(self.cql().contains("TIMESTAMP ?"), "{self:?} takes no timestamp");
        let place = if self.cql().starts_with("INSERT") { values.len() } else { 0 };
        values.insert(place, big(timestamp));
        values
    }
}

/// A value that a number in the database stands for. Fails with [`Failure::Corrupt`] if it stands for none.
fn known<T>(what: &str, number: i32, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| Failure::Corrupt(format!("{what} in the database is {number}, which is none")))
}
