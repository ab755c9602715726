//! Every bound of the engine, why it is what it is, and what happens when it is reached.

use std::num::NonZeroU32;
use std::time::Duration;

/// How far behind the end of a channel's log a member may fall, in bytes, before it is let go with a close code.
///
/// At the most that one core can fan out (about 14 million deliveries of 100 bytes a second to 5,000 members, so 280 kB/s
/// of log) this is a quarter of a minute; a reader that far behind reads history faster than it would catch up.
pub const SUBSCRIBER_LAG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes one member is handed in one write. A longer range goes on at the member's next visit, so that one write never
/// holds up the rest of the pass for more than about 50 µs.
pub const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Log bytes that the pass itself still owes before the channel's owner is asked to hold back its publishers.
///
/// Half of what a member may owe: a server that is slow must never let go of readers that are not.
pub const BACKLOG_BYTES_HIGH: u64 = SUBSCRIBER_LAG_BYTES_MAX / 4;

/// Where publishers are let on again.
pub const BACKLOG_BYTES_LOW: u64 = BACKLOG_BYTES_HIGH / 2;

/// Visits of one slice of a pass: the shard looks at its other inputs after each, so this, times about 6.5 µs a write,
/// is what anybody else waits.
pub const PASS_VISITS_MAX: usize = 128;

/// From the start of one rotation through an audience to the start of the next, while messages keep coming.
///
/// A rotation through 1,000 members takes 6 to 7 ms, so at 1,000 messages a second rotations without a pause would fill
/// the core with small writes. This halves the cost there for 6 ms of latency; larger audiences take longer than this
/// anyway, and an audience that has been told everything is told the next message at once.
pub const ROTATION_INTERVAL: Duration = Duration::from_millis(20);

/// Requests of one connection that may be unanswered. Beyond it the connection is not read.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// Bytes of answers that may wait for one connection's socket. Beyond it the connection is not read.
pub const OUTBOX_BYTES_MAX: usize = 64 * 1024;

/// Pieces (ranges of logs and private frames) handed to the system in one vectored write.
pub const WRITE_PIECES_MAX: usize = 32;

/// Messages of one channel that wait for the store. Beyond it sends are refused with a clear error.
///
/// At one group commit of 1,024 writes a millisecond or so, this is what keeps the store's committer busy.
pub const CHANNEL_PENDING_MAX: usize = 4096;

/// Content bytes of one channel that wait for the store. Beyond it sends are refused with a clear error.
pub const CHANNEL_PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests of one shard that the store has not answered. Beyond it sends are refused with a clear error.
/// Also the capacity of a shard's receipts queue, so that the store never waits for a shard.
pub const STORE_REQUESTS_MAX: usize = 16 * 1024;

/// Sends of one session in a second, unless configured otherwise: none, because only the operator knows how fast people,
/// and not programs, talk in this place. Beyond it sends are refused with a clear error.
pub const SENDS_PER_SECOND_MAX: Option<NonZeroU32> = None;

/// Bytes of what concerns no channel (notifications, statuses) that may wait for one connection's socket, with its answers.
/// Beyond it the connection is let go with a close code: notifications are stored, and statuses are told anew.
pub const NEWS_BYTES_MAX: usize = 1024 * 1024;

/// Users whose statuses one connection may follow. Beyond it requests to follow are refused.
pub const FOLLOWS_MAX: usize = 1024;

/// Users who may block a user between one request to follow and the store's answer to it. Beyond it the request is refused.
pub const BLOCKS_AT_ONCE_MAX: usize = 1024;

/// Bytes of one session's status. Beyond it the request is refused.
pub const STATUS_BYTES_MAX: usize = 2048;

/// Longest username, in bytes. Longer ones are nobody's.
pub const USERNAME_BYTES_MAX: usize = 128;

/// Channels one connection may be in. Beyond it joins are refused.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Visible members up to which a channel's presence is exact, unless configured otherwise.
///
/// At 150 bytes a presence, a joiner's list is 150 KB then, and a second of 100 joins costs each member 15 KB.
pub const ROOM_MEMBERS_MAX: usize = 1000;

/// Presences a joiner of a crowd is told of, and arrivals one event of a crowd tells of: enough to show some faces, and
/// some kilobytes.
pub const CROWD_LIST_MAX: usize = 100;
pub const CROWD_SAMPLE_MAX: usize = 20;

/// How often a crowd's members are told how many they are.
pub const CROWD_EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// Members on one page of a channel's presence.
pub const PRESENCE_PAGE_MAX: usize = 1000;

/// Messages kept in memory of a channel that is read: two pages.
pub const RECENT_MAX: usize = 200;

/// Messages a channel may show while the store reads its newest; beyond it the read is given up and begun anew.
pub const RECENT_CHANGES_MAX: usize = 1024;

/// Parcels that fit a ring between two shards. When it is full, parcels ride a later turn, and sockets are not read
/// meanwhile.
pub const RING_PARCELS: usize = 1024;

const _: () = {
    assert!(BACKLOG_BYTES_LOW < BACKLOG_BYTES_HIGH);
    assert!(BACKLOG_BYTES_HIGH * 2 <= SUBSCRIBER_LAG_BYTES_MAX);
    assert!(CHANNEL_PENDING_MAX <= STORE_REQUESTS_MAX);
};
