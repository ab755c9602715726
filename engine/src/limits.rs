//! Every bound of the engine: the reason for its value, and what happens when it is reached.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::process_rates::ProcessRates;
use crate::routing::PlacementKey;

/// How many bytes a member may be behind the end of a channel's log before it is closed with a close code.
///
/// At the highest rate that one core can fan out (about 14 million deliveries of 100 bytes a second to 5,000 members,
/// so 280 kB/s of log) this is a quarter of a minute. A client that is so far behind reads history faster than it would
/// catch up.
pub const SUBSCRIBER_LAG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of all logs of one shard. As they grow beyond half of this, members may be less and less behind, down to
/// nothing. So what slow readers of many channels hold together is bounded, and those that are furthest behind go first.
pub const LOGS_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Bytes of a channel's log that the pass has not offered yet. Beyond it the channel's owner holds back its messages.
///
/// A quarter of what a member may be owed, so that a slow server never closes a member that reads.
pub const BACKLOG_BYTES_HIGH: u64 = SUBSCRIBER_LAG_BYTES_MAX / 4;

/// Below this backlog the owner announces messages again.
pub const BACKLOG_BYTES_LOW: u64 = BACKLOG_BYTES_HIGH / 2;

/// Visits in one slice of a pass. The shard looks at its other inputs after each slice, so they wait at most for this
/// many writes of about 6.5 µs.
pub const PASS_VISITS_MAX: usize = 128;

/// Bytes that one visit to a connection writes. What the connection is owed beyond it waits until its socket has been
/// asked for room, so that one member that is far behind takes no more of a slice than a quarter.
pub const WRITE_BYTES_MAX: usize = PASS_BYTES_MAX / 4;

/// Bytes written in one slice of a pass. The slice ends when its next write could exceed this. The system copies so many
/// in about the time of `PASS_VISITS_MAX` small writes.
pub const PASS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The time from the start of one rotation through an audience to the start of the next, while messages keep coming.
///
/// A rotation through 1,000 members takes 6 to 7 ms, so at 1,000 messages a second rotations without a pause would fill
/// the core with small writes. This pause halves that cost, for 6 ms of latency. In larger audiences a rotation takes
/// longer than this anyway. An audience that has received everything gets the next message at once.
pub const ROTATION_INTERVAL: Duration = Duration::from_millis(20);

/// Unanswered requests of one connection. Beyond it the connection is not read.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// Bytes of memory that answers may hold while they wait for one connection's socket. Beyond it the connection is not
/// read.
pub const OUTBOX_BYTES_MAX: usize = 64 * 1024;

/// Bytes of memory that pongs may hold while they wait for one connection's socket. Beyond it only the newest ping is
/// answered (RFC 6455, section 5.5.3).
pub const PONGS_BYTES_MAX: usize = 4 * 1024;

/// Pieces (ranges of logs and private frames) handed to the system in one vectored write.
pub const WRITE_PIECES_MAX: usize = 32;

/// Messages of one channel that wait for the store. Beyond it sends are refused with a clear error.
///
/// With a group commit of 1,024 writes in about a millisecond, this keeps the store's committer busy.
pub const CHANNEL_PENDING_MAX: usize = 4096;

/// Content bytes of one channel that wait for the store. Beyond it sends are refused with a clear error.
pub const CHANNEL_PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Changes of a group by one user that wait in the group's channel. Beyond it changes are refused with a clear error, so
/// that one user fills only a small part of the channel's queue.
pub const GROUP_CHANGES_OF_USER_MAX: usize = 64;

/// Presences of a channel that one step ends, because a change of a group or a block ends them. The others end in the next
/// turns.
pub const ENDINGS_STEP_MAX: usize = 64;

/// Presences that a shard's channels end in one turn besides, if steps before have left them: some 3 ms for the shards that
/// are their homes.
pub const ENDINGS_TURN_MAX: usize = 1024;

/// Requests of one shard that the store has not answered. Beyond it sends are refused with a clear error. Users share them:
/// the requests of a user take at most as much as is free beside them. This is also the capacity of a shard's queue of receipts, so that the store never waits for a shard.
pub const STORE_REQUESTS_MAX: usize = 16 * 1024;

/// Sends of one session in a second, unless configured otherwise. There is no limit by default, because only the
/// operator knows how fast people (not programs) write on this server. Beyond it sends are refused with a clear error.
pub const SENDS_PER_SECOND_MAX: Option<NonZeroU32> = None;

/// Bytes of news that belong to no channel (notifications, statuses), together with answers, that may wait for one
/// connection whose socket was found full. Beyond it the connection is closed with a close code. Nothing is lost: notifications are
/// stored, and statuses are sent again when the client follows again.
pub const NEWS_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one event that tells of statuses, before they are escaped for JSON. More changes of a user make more events.
pub const STATUS_EVENT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of status events that a shard encodes in one turn. Beyond it further changes wait for the next turn. A quarter
/// of what may wait for one connection, so that a client that reads is never found slow because of one turn.
pub const STATUS_TURN_BYTES_MAX: usize = NEWS_BYTES_MAX / 4;

/// Bytes of news that a connection is sent in the time of one small push. Longer news count as several pushes: so one turn
/// sends 16 MiB at most, and one push more.
pub const PUSH_BYTES: usize = 16 << 10;

/// Connections to which a shard gives status events in one turn, each counted once for each event: some 7 ms of writes.
/// Beyond it the other connections of an event, and further changes, wait for the next turn.
pub const STATUS_TURN_PUSHES_MAX: usize = 1024;

/// Connections to which a shard pushes notifications in one turn, each counted once for each push: some 7 ms of writes.
/// Beyond it the other sessions of a user, and further notifications, wait for the next turn.
pub const NOTICE_TURN_PUSHES_MAX: usize = 1024;

/// Connections that a turn writes private frames to: some 28 ms. So many answers are to as much work as a turn reads
/// (`TURN_WORK_MAX`). Connections beyond it are written to in the next turn.
pub const FLUSH_WRITES_MAX: usize = 4096;

/// Pushes of notifications that wait on one shard, each for all sessions of a user. When it is full, the user that has
/// most waiting gives way: its newest notification is not pushed. The user finds it in the list.
pub const NOTICES_WAITING_MAX: usize = 16 * 1024;

/// Connections and their memberships that a shard ends in one turn because their clients have gone, and as many that it
/// closes itself: some milliseconds. Beyond it, the next connections to end wait for the next turn. The last one may
/// exceed it by its own memberships.
pub const ENDS_TURN_MAX: usize = 4096;

/// Slots of connections that a drain looks at in one turn: less than a millisecond. Beyond it the next ones wait for the next
/// turn.
pub const DRAIN_LOOKS_MAX: usize = 16 * 1024;

/// Memberships of connections that are gone of which a shard tells the channels' owners in one turn. The others wait for
/// the next turns. Each takes some 20 µs, with the event that tells the other members.
pub const DEPARTURES_TURN_MAX: usize = 256;

/// Users whose statuses one connection may follow. Beyond it requests to follow are refused.
pub const FOLLOWS_MAX: usize = 1024;

/// What all sessions of one user on one shard may follow together, a user counted once a session. Beyond it requests to
/// follow are refused. One follow takes some 100 bytes, so these take 3 MiB.
pub const FOLLOWS_PER_USER_MAX: usize = 32 * FOLLOWS_MAX;

/// Users that may block the follower between a request to follow and the store's answer to it. Beyond it the request is
/// refused.
pub const BLOCKS_AT_ONCE_MAX: usize = 1024;

/// Bytes of the statuses that answer one request to follow, before they are escaped for JSON. Beyond it the request is
/// refused, and the client follows fewer users at once. Seven hundred short names, as many as a message can hold, are
/// far below it unless each shows a long status in several sessions.
pub const STATUSES_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one user's statuses in the answer to a request to follow: eight of the longest. The sessions beyond it are
/// left out until they change, so one user with many sessions does not keep others from being followed.
pub const STATUSES_OF_USER_BYTES_MAX: usize = 8 * (STATUS_BYTES_MAX + STATUS_PRESENCE_BYTES);

/// Bytes in which a message tells of a status, beside the status itself.
pub const STATUS_PRESENCE_BYTES: usize = 256;

/// Bytes of one session's status. Beyond it the request is refused.
pub const STATUS_BYTES_MAX: usize = 2048;

/// Longest username, in bytes. No user has a longer one.
pub const USERNAME_BYTES_MAX: usize = 128;

/// Sessions of one user on one shard, unless configured otherwise. Beyond it openings are refused with 429.
///
/// What happens to a user is told to all of the user's sessions, so their number is a cost that the user's friends cause
/// for others. People have a few; a stand of kiosks that share an account has some hundreds.
pub const SESSIONS_PER_USER_MAX: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");

/// Work of one session in a second, in milliseconds of a shard, unless configured otherwise: a twentieth of a core. That
/// is 2,500 messages a second, where people write one in some seconds.
pub const WORK_PER_SESSION_MAX: NonZeroU32 = NonZeroU32::new(50).expect("it is not zero");

/// Work of all sessions and HTTP requests of one user on one shard in a second, in milliseconds of the shard, unless
/// configured otherwise: a tenth of a core.
pub const WORK_PER_USER_MAX: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");

/// The time whose work may come at once: a client that opens joins its channels and reads its lists together.
pub const BUDGET_BURST: Duration = Duration::from_secs(2);

/// The debt from which on sockets are read later, as the time in which it is paid. Requests that are never refused make
/// it, and refusals do.
pub const BUDGET_FAR: Duration = Duration::from_secs(1);

/// The debt of a budget, as the time in which it is paid. What goes beyond it is forgiven, so that no client waits for
/// longer until its requests are let in again.
pub const BUDGET_DEBT_MAX: Duration = Duration::from_secs(3);

/// For how long a socket is not read because its session or user is far beyond the budget. After it at least one request
/// is read, however the budget stands. The JavaScript client closes when a ping is not answered within 10 seconds.
pub const REST_DURATION: Duration = Duration::from_millis(250);

/// Connections that are read again in one turn because their time of rest is over. The others wait for the next turns.
pub const RESTED_TURN_MAX: usize = 256;

/// Budgets of users that a shard keeps, and budgets of networks, each for both purses. A user has one for some seconds
/// after the last request. Beyond the bound the budget that was looked at longest ago is forgotten, and its user starts
/// with a full one.
pub const BUDGETS_MAX: usize = 64 * 1024;

/// Budgets that a shard looks at in one turn, to forget those that are full again.
pub const BUDGETS_SWEPT_MAX: usize = 64;

/// The time over which clients are told to come back that a rate of the whole process refuses. Beyond it the times begin
/// again, because a person does not wait for longer.
pub const RETURNS_MAX: Duration = Duration::from_secs(60);

/// Openings of pages in browsers that one shard accepts in a second only to close them with a reason, because a page does not
/// see why an opening is refused. Each takes some 30 µs. Beyond it the openings are refused like those of other clients.
pub const CLOSED_OPENINGS_PER_SECOND: NonZeroU32 = NonZeroU32::new(500).expect("it is not zero");

/// Channels that one shard owns. With more, joins that would make one are refused. A channel with one member takes some
/// 2.3 KiB, so these take 2.3 GiB.
pub const CHANNELS_MAX: usize = 1 << 20;

/// Memberships of all sessions of one user on one shard, unless configured otherwise. Beyond it joins are refused. If each
/// is in a channel of its own, they take 19 MiB, and 128 users fill what a shard owns at most.
pub const MEMBERSHIPS_PER_USER_MAX: NonZeroU32 = NonZeroU32::new(8 * 1024).expect("it is not zero");

/// Channels that one connection may be in. Beyond it joins are refused.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Visible members up to which a channel's presence is exact, unless configured otherwise.
///
/// At 150 bytes a presence, the list that a joining member gets is then 150 KB, and a second with 100 joins costs each
/// member 15 KB.
pub const ROOM_MEMBERS_MAX: usize = 1000;

/// Presences that a member is told of when it joins a crowd, and joins that one event of a crowd tells of: enough to
/// show some names, in a few kilobytes.
pub const CROWD_LIST_MAX: usize = 100;
/// Joins of a crowd that one event names; the event counts all of them.
pub const CROWD_SAMPLE_MAX: usize = 20;

/// For how long after the first node has handed its members to a new owner others may. Charts are read every two seconds, and
/// most nodes hear of a new one sooner. Meanwhile no join and no leave is told, and a message is told with its sender's join.
pub const ENTER_GRACE: Duration = Duration::from_secs(3);
/// For how long a request waits for a channel that moves to another node, before it is refused as not done: as long as a dead
/// node keeps what it had.
pub const MOVE_PATIENCE: Duration = Duration::from_secs(12);
/// How often a shard that waits for a chart asks the owner again: most nodes hear of a new chart sooner.
pub const MOVE_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// For how long a channel that was given up in order waits for the homes of its members before it accepts messages.
pub const HOMES_PATIENCE: Duration = Duration::from_secs(1);
/// When a channel with a new owner asks the store again where its history ends, after the store has failed.
pub const HISTORY_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Members in one parcel that hands members to a new owner: about half a megabyte.
pub const ENTRANTS_MAX: usize = 4096;
/// Members of one channel on whom the store is asked at once when they enter again.
pub const ENTRIES_ASKED_MAX: usize = 64;

/// How often a crowd's members are told the count.
pub const CROWD_EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a crowd is small before it becomes a room again.
///
/// Then all members are told of all: at 150 bytes a presence, a room of 1,000 tells each of them 150 KB. Once in this
/// time, that is as much as each of them is told in a room where `PRESENCES_PER_SECOND` come and go. It is longer than
/// most clients wait before they connect again, so a crowd whose members were cut off stays a crowd.
pub const CROWD_LASTS_MIN: Duration = Duration::from_secs(10);

/// Joins and leaves of a room that are told at once in a second, as long as no more of them come. Beyond it the room's
/// presence is told as the net change, once in `CROWD_EVENT_INTERVAL`.
///
/// Each is told to every member, so sessions that come and go all the time would cost a large room more than its messages.
pub const PRESENCES_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");

/// How long a user who asks another to chat, again and again, has asked once.
///
/// Each request is stored and pushed, so a user who joins and leaves all the time would fill the other's notifications.
pub const REQUEST_TO_CHAT_INTERVAL: Duration = Duration::from_secs(10);

/// Direct channels without members whose requests to chat a shard remembers. Beyond it the oldest are forgotten, and
/// sent again at the next join.
pub const REQUESTS_TO_CHAT_KEPT_MAX: usize = 16 * 1024;

/// Members on one page of a channel's presence.
pub const PRESENCE_PAGE_MAX: usize = 1000;

/// Messages kept in memory for a channel that is read: two pages.
pub const RECENT_MAX: usize = 200;

/// Bytes of the newest messages that all channels of a shard keep in memory: those of 400 channels with pages of the longest
/// messages, and of tens of thousands with ordinary ones. Beyond it the channels forget them that have kept them longest
/// and were not asked since.
pub const RECENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Messages that a channel may show while the store reads its newest ones. Beyond it the reading is given up, and the
/// next reader begins another.
pub const RECENT_CHANGES_MAX: usize = 1024;

/// Leaves that a channel's owner remembers, to tell them again to a shard that has missed a batch. A shard that has
/// missed more of them closes its members.
pub const DEPARTURES_KEPT_MAX: usize = 100;

/// Batches of one channel that a shard sets aside until it has caught up. Further batches are dropped, and the owner is
/// asked again.
pub const ASIDE_BATCHES_MAX: usize = 256;

/// Bytes of the frames in the batches of one channel that are set aside. A batch that does not fit is dropped, and the
/// owner is asked again. All members are owed these bytes once the shard has caught up, so they are a quarter of what a
/// member may be owed.
pub const ASIDE_BYTES_MAX: usize = SUBSCRIBER_LAG_BYTES_MAX as usize / 4;

/// Requests that a turn takes in from parcels of other shards: at 2 to 10 µs each, up to 20 ms. The parcel with the last of
/// them is taken in whole. The others wait in their rings.
pub const PARCEL_REQUESTS_TURN_MAX: usize = 2048;
/// Answers of the store that a turn takes in. They may let go of as many messages, joins and changes, at about 5 µs each.
pub const RECEIPTS_TURN_MAX: usize = 2048;

/// Parcels that fit into a ring between two shards. When it is full, parcels wait for a later turn, and sockets are not
/// read meanwhile.
pub const RING_PARCELS: usize = 1024;

/// Channels of a shard that are ranked by members, and as many by messages, for operators. With more, the least are left out
/// until they change; by messages the last that begin to show some in a window. An entry takes some 100 bytes, so these
/// take 20 MB with those of an old window.
pub const RANKED_MAX: usize = 64 * 1024;

/// The time over which messages of a channel are counted for operators.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Channels of a window that a shard ranks in one turn, and entries of an old window that it forgets: some 100 µs. A window
/// has more turns than it takes.
pub const RANKED_TURN_MAX: usize = 512;

/// Channels on one page for operators.
pub const CHANNELS_PAGE_MAX: usize = 1000;

/// Sessions of a user on one shard that are listed to operators. All of them are counted.
pub const SESSIONS_LISTED_MAX: usize = 100;

/// Channels of a session that are listed to operators. All of them are counted.
pub const CHANNELS_LISTED_MAX: usize = 100;

/// Slots of connections that a request to disconnect looks at in one turn, and connections of a user that it closes: less than
/// a millisecond.
pub const DISCONNECT_LOOKS_MAX: usize = 4096;

/// The limits of channels and sessions that an operator or a test may set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The visible members of a room. With more, the channel is a crowd, whose presence is counted and sampled.
    pub room_members_max: usize,
    /// Messages, updates and removals that one session may send in a second; `None`: any number.
    pub sends_per_second: Option<NonZeroU32>,
    /// Milliseconds of work a second of one session; `None`: any number.
    pub work_per_session: Option<NonZeroU32>,
    /// Milliseconds of work a second of one user on one shard; `None`: any number.
    pub work_per_user: Option<NonZeroU32>,
    /// Milliseconds of work a second of one client address on one shard; `None`: any number.
    pub work_per_address: Option<NonZeroU32>,
    /// What the whole process lets in in a second.
    pub process_rates: ProcessRates,
    /// Bytes that a subscriber may be behind in one channel.
    pub lag_bytes_max: u64,
    /// Bytes of all logs of one shard.
    pub logs_bytes_max: u64,
    /// Visits in one slice of a pass.
    pub pass_visits_max: usize,
    /// Bytes of one visit: not zero, and at most `WRITE_BYTES_MAX`.
    pub write_bytes_max: usize,
    /// Sessions of one user on one shard; `None`: any number.
    pub sessions_per_user_max: Option<NonZeroU32>,
    /// Memberships of all sessions of one user on one shard; `None`: any number.
    pub memberships_per_user_max: Option<NonZeroU32>,
    /// Channels that a shard owns.
    pub channels_max: usize,
    /// Where channels are placed: the same for all shards.
    pub placement_key: PlacementKey,
}

/// Those of the rules for clients that may change while the server runs. `Rules` says what each is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    pub sends_per_second: Option<NonZeroU32>,
    pub work_per_session: Option<NonZeroU32>,
    pub work_per_user: Option<NonZeroU32>,
    pub work_per_address: Option<NonZeroU32>,
    pub sessions_per_user_max: Option<NonZeroU32>,
    pub memberships_per_user_max: Option<NonZeroU32>,
}

impl Rules {
    /// The same rules, with these limits.
    pub fn with(self, limits: ClientLimits) -> Self {
        let ClientLimits { sends_per_second, work_per_session, work_per_user, work_per_address, .. } = limits;
        let ClientLimits { sessions_per_user_max, memberships_per_user_max, .. } = limits;
        Self {
            sends_per_second,
            work_per_session,
            work_per_user,
            work_per_address,
            sessions_per_user_max,
            memberships_per_user_max,
            ..self
        }
    }

    /// Bytes of memory that answers and news may hold while they wait for all full sockets of one shard: a half of what logs
    /// may hold. Beyond it the user whose connections hold most gives way: the connection that holds most is cut off.
    pub fn outboxes_bytes_max(&self) -> u64 {
        self.logs_bytes_max / 2
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            room_members_max: ROOM_MEMBERS_MAX,
            sends_per_second: SENDS_PER_SECOND_MAX,
            work_per_session: Some(WORK_PER_SESSION_MAX),
            work_per_user: Some(WORK_PER_USER_MAX),
            // One address may be a whole venue.
            work_per_address: None,
            // Only the operator knows what the machine takes.
            process_rates: ProcessRates::default(),
            lag_bytes_max: SUBSCRIBER_LAG_BYTES_MAX,
            logs_bytes_max: LOGS_BYTES_MAX,
            pass_visits_max: PASS_VISITS_MAX,
            write_bytes_max: WRITE_BYTES_MAX,
            sessions_per_user_max: Some(SESSIONS_PER_USER_MAX),
            memberships_per_user_max: Some(MEMBERSHIPS_PER_USER_MAX),
            channels_max: CHANNELS_MAX,
            placement_key: PlacementKey::default(),
        }
    }
}

const _: () = {
    assert!(BACKLOG_BYTES_LOW < BACKLOG_BYTES_HIGH);
    assert!(BACKLOG_BYTES_HIGH * 2 <= SUBSCRIBER_LAG_BYTES_MAX);
    // A member whose socket takes everything is not too slow because one visit leaves it a rest.
    assert!(BACKLOG_BYTES_HIGH * 2 + WRITE_BYTES_MAX as u64 <= SUBSCRIBER_LAG_BYTES_MAX);
    assert!(CHANNEL_PENDING_MAX <= STORE_REQUESTS_MAX);
    assert!(BUDGET_FAR.as_millis() < BUDGET_DEBT_MAX.as_millis());
};
