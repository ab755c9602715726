//! Every bound of the links, with its reason, and what happens when it is reached.

use std::time::Duration;

/// Bytes of parcels in one frame. A server of the bus takes packets of 1 MiB unless configured otherwise; half of it
/// leaves room for servers that are set lower, and a stall of one packet stays short. A longer parcel goes in pieces.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;

/// Bytes sent to a peer that it has not acknowledged. Beyond it the peer is sent only a probe, once in `PROBE_INTERVAL`.
/// The last frame may exceed it. A subscriber that has stopped makes the bus's server stall other publishers once about
/// as much as this waits for it.
pub const WINDOW_BYTES: usize = 4 * FRAME_BYTES_MAX;

/// Bytes that all links of a node hold for their peers, sent or not: `ResendStore`. It is what one node sends in a fifth
/// of a second at full load, and eight peers may be behind by a window. When it is full, the link that holds most of it
/// is reset.
pub const STORE_BYTES_MAX: usize = 8 * WINDOW_BYTES;

/// Bytes of one encoded parcel. The longest that is made holds what one turn releases of a channel: contents of
/// `CHANNEL_PENDING_BYTES_MAX` (4 MiB), and some hundred bytes for each of `CHANNEL_PENDING_MAX` messages. The link of a
/// longer one is reset, because parcels behind it must not overtake it.
pub const PARCEL_BYTES_MAX: usize = STORE_BYTES_MAX / 2;

/// Bytes that arrived over all links and were not taken yet. What does not fit is dropped like a packet that was lost, and
/// is sent again later. Peers keep to their windows, so this is reached only if eight of them send to a node that is behind.
pub const INBOX_BYTES_MAX: usize = 8 * WINDOW_BYTES;

/// Bytes of parcels over all links of which pieces are missing. The link whose piece does not fit is reset. It is enough
/// for eight of the longest parcels at once.
pub const UNFINISHED_BYTES_MAX: usize = 8 * PARCEL_BYTES_MAX;

/// Bytes that wait for the window of one peer that answers. Beyond it `Links::is_full` holds the senders back.
pub const WAITING_BYTES_HIGH: usize = WINDOW_BYTES / 2;

/// Other lives that a node has links to. It leaves each a place in the store for a frame of 16 KiB.
pub const PEERS_MAX: usize = 1024;

/// What is held for a frame beside its bytes.
pub const FRAME_COST: usize = 64;

/// For how long an acknowledgement waits for a frame to ride on. A quiet peer costs at most this many packets a second
/// beside the frames: 20.
pub const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(50);

/// The time without progress after which what a peer has not acknowledged is doubted: the peer is asked by a probe, and
/// what it misses is sent again.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How often a peer is asked that does not answer.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The time from one opening of a link to the next that this side asks for. It bounds what a pair of nodes spends on a
/// parcel that one of them cannot read, and that is sent again after each reset.
pub const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a peer without progress holds senders back. Four times `ACKNOWLEDGE_AFTER`: a peer that is alive makes
/// progress in it. A frozen peer holds no sender back for longer; what waits for it fills the store instead.
pub const HOLD_PATIENCE: Duration = Duration::from_millis(200);

/// The bounds in bytes, which a test may set lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub frame_bytes_max: usize,
    pub window_bytes: usize,
    pub store_bytes_max: usize,
    pub parcel_bytes_max: usize,
    pub inbox_bytes_max: usize,
    pub unfinished_bytes_max: usize,
    pub waiting_bytes_high: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            window_bytes: WINDOW_BYTES,
            store_bytes_max: STORE_BYTES_MAX,
            parcel_bytes_max: PARCEL_BYTES_MAX,
            inbox_bytes_max: INBOX_BYTES_MAX,
            unfinished_bytes_max: UNFINISHED_BYTES_MAX,
            waiting_bytes_high: WAITING_BYTES_HIGH,
        }
    }
}

const _: () = {
    assert!(STORE_BYTES_MAX == 16 * 1024 * 1024 && WINDOW_BYTES == 2 * 1024 * 1024);
    // The longest parcel fits into an empty store with its frames, and so does a window behind it.
    assert!(PARCEL_BYTES_MAX + WINDOW_BYTES + FRAME_BYTES_MAX <= STORE_BYTES_MAX);
    assert!(PARCEL_BYTES_MAX >= engine::limits::CHANNEL_PENDING_BYTES_MAX + 1024 * engine::limits::CHANNEL_PENDING_MAX);
    // A window and its last frame fit into an empty inbox.
    assert!(WINDOW_BYTES + FRAME_BYTES_MAX <= INBOX_BYTES_MAX);
    assert!(PEERS_MAX * 16 * 1024 <= STORE_BYTES_MAX);
    assert!(HOLD_PATIENCE.as_millis() < PATIENCE.as_millis());
};
