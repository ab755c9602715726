//! Messages that have expired. Readers never see them, because each read of a channel begins at its floor: the first id
//! that has not expired. So a read costs the same however many have. Merges drop them.
//!
//! A merge reaches a table only when there is reason to merge it. So from time to time everything is merged for this alone
//! (`Rewriting`): memory is written out, moved down, and merged level by level into the last one.
//!
//! The newest message of a channel is the place from which its ids and sequence numbers go on. If it has expired, a merge
//! takes its text away and keeps the rest.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::id::{ChannelId, MessageId};
use parking_lot::Mutex;

use super::tiers::{LEVELS, Level};
use crate::keys;
use crate::record;
use crate::retention::Retention;

/// Everything is merged so often within the shortest time for which messages are kept.
const REWRITINGS_PER_RETENTION: u32 = 16;
const REWRITING_INTERVAL_MIN: Duration = Duration::from_secs(60);
const REWRITING_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Merges of one rewriting below level 1, at most: runs may come to level 2 meanwhile.
const MERGES_MAX: usize = 2 * LEVELS;

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of the system.
pub fn wall_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64))
}

/// Looks up the key of a channel's last row; `None` if there is none, or it cannot be read.
pub type LastKey = Box<dyn Fn(&ChannelId) -> Option<Vec<u8>> + Send + Sync>;

/// What has expired, and how far everything is merged for it.
pub struct Expiry {
    retention: Retention,
    clock: Clock,
    /// Looks up the key of a channel's last row. Set when the tables are open.
    last_key: OnceLock<LastKey>,
    rewriting: Mutex<Rewriting>,
}

/// How far everything is merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rewriting {
    /// The next begins at this time, in milliseconds since 1970.
    Due(u64),
    /// What is in memory is being written out.
    WritingOut,
    /// Level 0 is to be merged into level 1, once.
    Merging,
    /// Level 1 is to be moved to level 2.
    Moving,
    /// The levels from 2 on are merged; so many merges are left.
    Deep(usize),
}

/// A step of rewriting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// Write memory out.
    WriteOut,
    /// Merge all of one level with another, or with itself.
    Merge { from: u8, to: u8 },
    /// Move level 1 to level 2.
    Move,
}

impl Expiry {
    /// Nothing is merged for the first interval.
    pub fn new(retention: Retention, clock: Clock) -> Self {
        let expiry = Self { retention, clock, last_key: OnceLock::new(), rewriting: Mutex::new(Rewriting::Due(0)) };
        *expiry.rewriting.lock() = expiry.next_due();
        expiry
    }

    /// From now on a merge can look up which message of a channel is the newest. Call it once.
    pub fn look_up_by(&self, last_key: LastKey) {
        let is_first = self.last_key.set(last_key).is_ok();
        debug_assert!(is_first, "the tables are opened once");
    }

    /// The first id of the channel that has not expired; `None` if nothing expires.
    pub fn floor(&self, channel: &ChannelId) -> Option<MessageId> {
        self.retention.floor(channel, (self.clock)())
    }

    /// Whether this message has expired.
    pub fn is_over(&self, channel: &ChannelId, id: MessageId) -> bool {
        self.floor(channel).is_some_and(|floor| id < floor)
    }

    fn next_due(&self) -> Rewriting {
        let kept = self.retention.shortest();
        let interval = kept.map(|kept| {
            (kept / REWRITINGS_PER_RETENTION).clamp(REWRITING_INTERVAL_MIN, REWRITING_INTERVAL_MAX).as_millis() as u64
        });
        Rewriting::Due(interval.map_or(u64::MAX, |interval| (self.clock)().saturating_add(interval)))
    }

    /// The next step near the top of the tree of messages, if one is due. `in_memory`: memory is being written out.
    pub fn next_shallow(&self, levels: &[Level; LEVELS], in_memory: bool) -> Option<Rewrite> {
        let mut rewriting = self.rewriting.lock();
        match *rewriting {
            Rewriting::Due(time) if (self.clock)() >= time => {
                *rewriting = Rewriting::WritingOut;
                return Some(Rewrite::WriteOut);
            }
            Rewriting::WritingOut if !in_memory => *rewriting = Rewriting::Merging,
            _ => {}
        }
        if *rewriting == Rewriting::Merging {
            *rewriting = Rewriting::Moving;
            if levels[0].tables > 0 {
                return Some(Rewrite::Merge { from: 0, to: 1 });
            }
        }
        if *rewriting == Rewriting::Moving {
            if levels[1].tables > 0 {
                return Some(Rewrite::Move);
            }
            *rewriting = Rewriting::Deep(MERGES_MAX);
        }
        None
    }

    /// The next step from level 2 on, if one is due.
    pub fn next_deep(&self, levels: &[Level; LEVELS]) -> Option<Rewrite> {
        let mut rewriting = self.rewriting.lock();
        let Rewriting::Deep(left) = *rewriting else { return None };
        let mut filled = (2..LEVELS).filter(|&level| levels[level].tables > 0);
        match (filled.next(), filled.next()) {
            (Some(from), Some(to)) if left > 1 => {
                *rewriting = Rewriting::Deep(left - 1);
                Some(Rewrite::Merge { from: from as u8, to: to as u8 })
            }
            (Some(from), _) => {
                *rewriting = self.next_due();
                Some(Rewrite::Merge { from: from as u8, to: (LEVELS - 1) as u8 })
                    .filter(|_| (from + 1..LEVELS - 1).all(|level| levels[level].tables == 0))
            }
            (None, _) => {
                *rewriting = self.next_due();
                None
            }
        }
    }

    /// Ends a rewriting for which there is no room. The next begins after an interval.
    pub fn leave_out(&self) {
        tracing::warn!("expired messages stay on the disk: there is no room to merge their tables");
        *self.rewriting.lock() = self.next_due();
    }

    /// What one merge drops, with the time at which it begins.
    pub fn sieve(self: &Arc<Self>) -> Sieve {
        Sieve { expiry: self.clone(), now: (self.clock)(), channel: None }
    }

    /// The key of the channel's last row.
    fn last_key(&self, channel: &ChannelId) -> Option<Vec<u8>> {
        self.last_key.get().and_then(|last_key| last_key(channel))
    }
}

/// Tells of each row of a merge whether it has expired. Rows of a channel come one after another.
pub struct Sieve {
    expiry: Arc<Expiry>,
    now: u64,
    channel: Option<SievedChannel>,
}

struct SievedChannel {
    prefix: Vec<u8>,
    channel: ChannelId,
    floor: Option<MessageId>,
    /// The key of the last row, once it was looked up.
    last: Option<Option<Vec<u8>>>,
}

/// What becomes of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sieved {
    Stays,
    Goes,
    /// It gets this value.
    Becomes(Vec<u8>),
}

impl Sieve {
    /// What becomes of this row of `messages`. A row that cannot be understood stays.
    pub fn sieve(&mut self, key: &[u8], value: &[u8], is_mark: bool) -> Sieved {
        if self.channel.as_ref().is_none_or(|channel| !key.starts_with(&channel.prefix)) {
            let Some(channel) = keys::message_channel(key) else { return Sieved::Stays };
            let floor = self.expiry.retention.floor(&channel, self.now);
            self.channel = Some(SievedChannel { prefix: keys::channel_prefix(&channel), channel, floor, last: None });
        }
        let Some(SievedChannel { channel, floor: Some(floor), last, .. }) = &mut self.channel else {
            return Sieved::Stays;
        };
        match keys::message_id(key) {
            Some(id) if id < *floor => {}
            _ => return Sieved::Stays,
        }
        if is_mark {
            // Its head is stored already.
            return Sieved::Goes;
        }
        match last.get_or_insert_with(|| self.expiry.last_key(channel)) {
            Some(last) if last.as_slice() != key => Sieved::Goes,
            // The last row of its channel; or it is unknown which is the last.
            _ => match keys::message_id(key).map(|id| record::decode_message(channel, id, value)) {
                Some(Ok(message)) if !message.content.is_empty() => {
                    let message = engine::message::Message { content: "".into(), username: "".into(), ..message };
                    Sieved::Becomes(record::encode_message(&message))
                }
                _ => Sieved::Stays,
            },
        }
    }
}
