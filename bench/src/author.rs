//! Writes the messages with which stores are measured. `store/author` chooses channels and senders, and writes through
//! this.

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::id::{ChannelId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::message_id::MessageIds;
use uuid::Uuid;

use crate::checker;
use crate::dialect::USERNAME;

/// Writes messages of any channels. All channels share one sequence of ids, so ids rise in each channel.
pub struct Author {
    ids: MessageIds,
    padding: String,
    content_bytes: usize,
    username: Arc<str>,
    pub written: u32,
}

impl Author {
    pub fn new(content_bytes: usize) -> Author {
        let padding = checker::padding(content_bytes);
        let content_bytes = checker::content(0, 0, &padding).len();
        Author { ids: MessageIds::after(None), padding, content_bytes, username: USERNAME.into(), written: 0 }
    }

    /// The next message, which is the channel's `sequence`-th. `random` goes into its id.
    pub fn write(&mut self, channel: ChannelId, sequence: u64, sender: UserId, random: u64) -> Message {
        let now = Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64);
        let content = checker::content(self.written, now.0.cast_unsigned(), &self.padding);
        assert_eq!(content.len(), self.content_bytes, "each message has the same length");
        self.written += 1;
        Message {
            channel,
            id: self.ids.next(now, random).expect("this is not the year 10889"),
            sequence: Sequence(sequence),
            code: MessageCode::Chat,
            sender,
            username: self.username.clone(),
            content: content.into(),
            create_time: now,
            update_time: now,
            persistent: true,
        }
    }
}

/// Writes the same messages as the publishers, in all rooms in turn.
pub struct RoomsAuthor {
    author: Author,
    rooms: Vec<ChannelId>,
}

impl RoomsAuthor {
    /// Writes in the rooms with these numbers.
    pub fn new(rooms: Range<usize>, content_bytes: usize) -> RoomsAuthor {
        let room = |number| ChannelId::room(&format!("durable-{number:04}")).expect("a short name");
        RoomsAuthor { author: Author::new(content_bytes), rooms: rooms.map(room).collect() }
    }

    pub fn write(&mut self) -> Message {
        let (written, count) = (self.author.written as usize, self.rooms.len());
        let channel = self.rooms[written % count].clone();
        let sender = UserId(Uuid::from_u128(1));
        self.author.write(channel, (written / count + 1) as u64, sender, written as u64)
    }
}
