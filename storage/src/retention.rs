//! How long messages are kept.

use std::time::Duration;

use engine::id::{ChannelId, ChannelKind, MessageId};
use uuid::Uuid;

/// How long messages are kept, by kind of channel. `None`: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    pub room: Option<Duration>,
    pub group: Option<Duration>,
    pub direct: Option<Duration>,
}

impl Retention {
    /// How long messages of this channel are kept.
    pub fn of(&self, channel: &ChannelId) -> Option<Duration> {
        match channel.kind() {
            ChannelKind::Room(_) => self.room,
            ChannelKind::Group(_) => self.group,
            ChannelKind::Direct(..) => self.direct,
        }
    }

    /// The shortest of these times.
    pub fn shortest(&self) -> Option<Duration> {
        [self.room, self.group, self.direct].into_iter().flatten().min()
    }

    /// All messages of this channel with lower ids have expired when the clock reads `now_ms`, in milliseconds since 1970.
    /// `None`: none has. An id begins with the time at which it was made.
    pub fn floor(&self, channel: &ChannelId, now_ms: u64) -> Option<MessageId> {
        let kept = u64::try_from(self.of(channel)?.as_millis()).unwrap_or(u64::MAX);
        let oldest = now_ms.saturating_sub(kept);
        (oldest > 0).then(|| MessageId(Uuid::from_u128(u128::from(oldest) << 80)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_channel_has_its_own_time() {
        let retention = Retention { room: Some(Duration::from_secs(60)), ..Retention::default() };
        let (room, group) = (ChannelId::room("a").unwrap(), ChannelId::group(engine::id::GroupId(Uuid::nil())));
        assert_eq!(retention.floor(&group, u64::MAX), None);
        assert_eq!(retention.floor(&room, 60_000), None, "nothing is older than the clock");
        assert_eq!(retention.floor(&room, 60_001), Some(MessageId(Uuid::from_u128(1 << 80))));
        assert_eq!(retention.shortest(), Some(Duration::from_secs(60)));
        assert_eq!(Retention::default().shortest(), None);
    }
}
