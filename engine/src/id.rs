//! Identifiers and times: users, sessions, channels, messages, shards, connections, and readings of the clocks.
//!
//! Each is a type of its own, so that code which swaps two of them does not compile. Nothing here does I/O or reads a
//! clock.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Longest room name, in bytes of UTF-8 (docs/protocol.md, section 3).
pub const ROOM_NAME_BYTES_MAX: usize = 64;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_newtype!(
    /// An account. Written in lower case with hyphens, as all ids on the wire.
    UserId
);
uuid_newtype!(
    /// One WebSocket connection's identity on the wire, new with each connection.
    SessionId
);
uuid_newtype!(
    /// A group of users.
    GroupId
);
uuid_newtype!(
    /// A stored notification: UUID version 7, rising strictly for each user, given by the store when it is written.
    NotificationId
);
uuid_newtype!(
    /// A message: UUID version 7, rising strictly within its channel (`message_id.rs`), so its order is its place in history.
    MessageId
);

impl MessageId {
    /// The greatest id that is less than this one. As a bound, it includes this message and none before it.
    pub fn just_below(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128().saturating_sub(1)))
    }
}

/// A point in time: nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The beginning of this time's second: clients see the times of accounts, groups and notifications in whole
    /// seconds.
    pub fn whole_seconds(self) -> Self {
        const NANOSECONDS: i64 = 1_000_000_000;
        Self(self.0 - self.0.rem_euclid(NANOSECONDS))
    }

    /// Whole milliseconds since the Unix epoch.
    pub fn milliseconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// A reading of the monotonic clock, in nanoseconds since some time before the server began. It measures elapsed time,
/// and says nothing about the date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Monotonic(pub i64);

impl Monotonic {
    /// The reading after this much more time.
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The reading before this much less time.
    pub fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The time since an earlier reading; zero if that reading is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0).cast_unsigned())
    }
}

/// Both clocks, read at the same time: the wall clock says what time it is; the monotonic clock serves pacing and
/// limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: Monotonic,
}

/// A message's place in its channel, given by the owner when it accepts the message. If the message fails, its place
/// stays empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sequence(pub u64);

/// The number of the owner's run: it rises with every start of the server on the same store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// One run of a node. A node gets a new number when it starts, which no other run has had for a day, so what is meant for an
/// earlier run never reaches a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life(pub u16);

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Life {
    /// The run of a server that is alone: nothing outside its process names it.
    pub const ALONE: Self = Self(0);
}

/// A shard: one core's executor, in one run of a node. Cores are numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId {
    pub life: Life,
    pub core: u16,
}

impl ShardId {
    /// A shard of a server that is alone.
    pub const fn alone(core: u16) -> Self {
        Self { life: Life::ALONE, core }
    }

    /// The shard as a number, in which the order of shards is that of the numbers.
    pub fn to_bits(self) -> u32 {
        u32::from(self.life.0) << 16 | u32::from(self.core)
    }

    /// The shard with this number. Every number is one.
    pub fn from_bits(bits: u32) -> Self {
        Self { life: Life((bits >> 16) as u16), core: bits as u16 }
    }
}

/// A connection on its home shard. The generation distinguishes the connections that use the same slot one after the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// A chat channel's id in its one normal form (docs/protocol.md, section 3), such as `2...lobby`.
///
/// Cheap to clone. A value of this type is always well formed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

/// What a channel id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelKind<'a> {
    Room(&'a str),
    Group(GroupId),
    Direct(UserId, UserId),
}

/// The text is not a channel id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidChannelId;

impl ChannelId {
    /// The channel of the room called `name`, which must be 1 to 64 bytes long. Fails for any other length.
    pub fn room(name: &str) -> Result<Self, InvalidChannelId> {
        if name.is_empty() || name.len() > ROOM_NAME_BYTES_MAX {
            return Err(InvalidChannelId);
        }
        Ok(Self(format!("2...{name}").into()))
    }

    /// The channel of a group.
    pub fn group(group: GroupId) -> Self {
        Self(format!("3.{group}..").into())
    }

    /// The channel between two users, the same in either order.
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (smaller, larger) = if one <= other { (one, other) } else { (other, one) };
        Self(format!("4.{smaller}.{larger}.").into())
    }

    /// Reads `mode.subject.subcontext.label`. Changes UUIDs to lower case, and puts the two users of a direct channel
    /// in order.
    ///
    /// Empty UUID parts mean the nil UUID, as in Nakama. Fails if the text is no channel id in this form.
    pub fn parse(text: &str) -> Result<Self, InvalidChannelId> {
        let mut parts = text.splitn(4, '.');
        let (Some(mode), Some(subject), Some(subcontext), Some(label)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidChannelId);
        };
        match mode {
            "2" if subject.is_empty() && subcontext.is_empty() => Self::room(label),
            "3" if subcontext.is_empty() && label.is_empty() => Ok(Self::group(GroupId(parse_part(subject)?))),
            "4" if label.is_empty() => Ok(Self::direct(UserId(parse_part(subject)?), UserId(parse_part(subcontext)?))),
            _ => Err(InvalidChannelId),
        }
    }

    /// What this id names.
    pub fn kind(&self) -> ChannelKind<'_> {
        let mut parts = self.0.splitn(4, '.');
        let mut next = || parts.next().unwrap_or_default();
        let (mode, subject, subcontext, label) = (next(), next(), next(), next());
        let uuid = |part: &str| Uuid::parse_str(part).unwrap_or_default();
        match mode {
            "2" => ChannelKind::Room(label),
            "3" => ChannelKind::Group(GroupId(uuid(subject))),
            _ => ChannelKind::Direct(UserId(uuid(subject)), UserId(uuid(subcontext))),
        }
    }

    /// The id as it is written on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_part(part: &str) -> Result<Uuid, InvalidChannelId> {
    if part.is_empty() {
        return Ok(Uuid::nil());
    }
    parse_uuid(part).ok_or(InvalidChannelId)
}

/// Reads a UUID in the forms that Nakama reads: with hyphens or without them, each also in braces or behind `urn:uuid:`
/// (docs/protocol.md, its introduction).
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ChannelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A network that clients come from. The gateway makes the keys; the engine only compares them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NetworkKey(pub NonZeroU64);

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "65aea872-a336-4029-90c9-6f507b75281c";
    const B: &str = "8764eaba-85b6-4c62-88f1-c205fa39b581";

    fn check(text: &str, expected: Option<&str>) {
        let parsed = ChannelId::parse(text).ok();
        assert_eq!(parsed.as_ref().map(ChannelId::as_str), expected, "{text:?}");
    }

    #[test]
    fn parses_exactly_the_well_formed() {
        check("2...lobby", Some("2...lobby"));
        check("2...a.b..c", Some("2...a.b..c"));
        check("2...a/b c", Some("2...a/b c"));
        check(&format!("2...{}", "x".repeat(64)), Some(&format!("2...{}", "x".repeat(64))));
        check(&format!("2...{}", "x".repeat(65)), None);
        check("2...", None);
        check("2..x.lobby", None);
        check("2.x..lobby", None);
        check("lobby", None);
        check("", None);
        check("1...lobby", None);
        check("02...lobby", None);
        check(&format!("3.{A}.."), Some(&format!("3.{A}..")));
        check(&format!("3.{}..", A.to_uppercase()), Some(&format!("3.{A}..")));
        check(&format!("3.{A}..x"), None);
        check(&format!("3.{A}.{B}."), None);
        check("3.nonsense..", None);
        check("3...", Some("3.00000000-0000-0000-0000-000000000000.."));
        check(&format!("4.{A}.{B}."), Some(&format!("4.{A}.{B}.")));
        check(&format!("4.{B}.{A}."), Some(&format!("4.{A}.{B}.")));
        check(&format!("4.{A}.{B}.x"), None);
        check(&format!("4.{A}.{B}"), None);
    }

    #[test]
    fn ids_are_read_in_every_form_and_written_in_one() {
        let bare = A.replace('-', "");
        for text in [A.to_uppercase(), bare.clone(), format!("{{{A}}}"), format!("urn:uuid:{A}")] {
            assert_eq!(parse_uuid(&text).map(|id| id.to_string()).as_deref(), Some(A), "{text}");
            check(&format!("3.{text}.."), Some(&format!("3.{A}..")));
        }
        for text in ["", "nonsense", &A[1..], &format!("{{{A}"), &format!("{A} "), &bare[1..]] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn a_shards_number_has_its_life_in_the_upper_half() {
        let shard = ShardId { life: Life(0x1234), core: 0x5678 };
        assert_eq!((shard.to_bits(), shard.life.to_string()), (0x1234_5678, "4660".to_owned()));
        for bits in [0, 1, 0xffff, 0x1_0000, 0x1234_5678, u32::MAX] {
            assert_eq!(ShardId::from_bits(bits).to_bits(), bits);
        }
        assert!(ShardId::from_bits(0x1_0000) > ShardId::from_bits(0xffff));
    }

    #[test]
    fn kind_is_the_inverse_of_construction() {
        assert_eq!(ChannelId::room("a.b").unwrap().kind(), ChannelKind::Room("a.b"));
        let (a, b) = (parse_uuid(A).unwrap(), parse_uuid(B).unwrap());
        assert_eq!(ChannelId::group(GroupId(a)).kind(), ChannelKind::Group(GroupId(a)));
        assert_eq!(ChannelId::direct(UserId(b), UserId(a)).kind(), ChannelKind::Direct(UserId(a), UserId(b)));
    }
}
