//! The table `messages`: a message is in the partition of its channel and bucket. The static columns say where the
//! channel's history ends, and how full the partition is.

use engine::id::{ChannelId, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::ChannelHead;
use scylla::DeserializeRow;
use storage::Failure;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, known, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS messages (
  channel_id text, bucket bigint, message_id uuid,
  seq bigint, code int, sender_id uuid, username text, content text, create_ns bigint, update_ns bigint,
  head_id uuid static, head_seq bigint static, fill_rows int static, fill_bytes bigint static,
  PRIMARY KEY ((channel_id, bucket), message_id)
) WITH CLUSTERING ORDER BY (message_id DESC)";

pub(super) const PUT: &str = "INSERT INTO messages (channel_id, bucket, message_id, seq, code, sender_id, username, content, create_ns, update_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
pub(super) const EDIT: &str = "UPDATE messages USING TIMESTAMP ? AND TTL ? SET username = ?, content = ?, update_ns = ? WHERE channel_id = ? AND bucket = ? AND message_id = ?";
pub(super) const DELETE: &str =
    "DELETE FROM messages USING TIMESTAMP ? WHERE channel_id = ? AND bucket = ? AND message_id = ?";
pub(super) const DELETE_BUCKET: &str = "DELETE FROM messages USING TIMESTAMP ? WHERE channel_id = ? AND bucket = ?";
pub(super) const SET_HEAD: &str = "UPDATE messages USING TIMESTAMP ? SET head_id = ?, head_seq = ?, fill_rows = ?, fill_bytes = ? WHERE channel_id = ? AND bucket = ?";
pub(super) const HEAD: &str = "SELECT head_id, head_seq, fill_rows, fill_bytes, WRITETIME(head_seq) FROM messages WHERE channel_id = ? AND bucket = ? LIMIT 1";
pub(super) const ONE: &str = "SELECT message_id, seq, code, sender_id, username, content, create_ns, update_ns, TTL(content), WRITETIME(content) FROM messages WHERE channel_id = ? AND bucket = ? AND message_id = ?";
pub(super) const PAGE_FALLING: &str = "SELECT message_id, seq, code, sender_id, username, content, create_ns, update_ns FROM messages WHERE channel_id = ? AND bucket = ? AND message_id >= ? AND message_id <= ? LIMIT ?";
pub(super) const PAGE_RISING: &str = "SELECT message_id, seq, code, sender_id, username, content, create_ns, update_ns FROM messages WHERE channel_id = ? AND bucket = ? AND message_id >= ? AND message_id <= ? ORDER BY message_id ASC LIMIT ?";
pub(super) const SENDERS: &str = "SELECT message_id, sender_id FROM messages WHERE channel_id = ? AND bucket = ? AND message_id >= ? AND message_id <= ? ORDER BY message_id ASC LIMIT ?";
pub(super) const COUNT: &str = "SELECT message_id FROM messages";

/// A message's columns, as pages read them.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct PageRow {
    message_id: Uuid,
    seq: i64,
    code: i32,
    sender_id: Uuid,
    username: String,
    content: String,
    create_ns: i64,
    update_ns: i64,
}

/// The same, with the remaining time to live, and the time of the last write. Servers name these two columns themselves.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct MessageRow {
    message_id: Uuid,
    seq: i64,
    code: i32,
    sender_id: Uuid,
    username: String,
    content: String,
    create_ns: i64,
    update_ns: i64,
    ttl: Option<i32>,
    written_us: Option<i64>,
}

/// The static columns of a partition, and the time at which the head was written. All are null until a head is written.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct HeadRow {
    head_id: Option<Uuid>,
    head_seq: Option<i64>,
    fill_rows: Option<i32>,
    fill_bytes: Option<i64>,
    written_us: Option<i64>,
}

/// A stored message, with the facts that only its row has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredMessage {
    pub message: Message,
    pub bucket: i64,
    /// Seconds until it expires; 0: never.
    pub ttl: i32,
    pub written_us: i64,
}

/// Where history ends, and how full the partition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredHead {
    pub head: ChannelHead,
    pub rows: u32,
    pub bytes: u64,
    pub written_us: i64,
}

impl PageRow {
    /// The message of this row. Fails with [`Failure::Corrupt`] if the code is unknown.
    pub fn message(self, channel: &ChannelId) -> Result<Message, Failure> {
        Ok(Message {
            channel: channel.clone(),
            id: MessageId(self.message_id),
            sequence: Sequence(self.seq as u64),
            code: known("a message's code", self.code, MessageCode::from_number(self.code))?,
            sender: UserId(self.sender_id),
            username: self.username.into(),
            content: self.content.into(),
            create_time: Timestamp(self.create_ns),
            update_time: Timestamp(self.update_ns),
            persistent: true,
        })
    }
}

impl MessageRow {
    /// The message, with what the database knows of its row. Fails with [`Failure::Corrupt`] if the code is unknown.
    pub fn stored(self, channel: &ChannelId, bucket: i64) -> Result<StoredMessage, Failure> {
        let Self { message_id, seq, code, sender_id, username, content, create_ns, update_ns, ttl, written_us } = self;
        let row = PageRow { message_id, seq, code, sender_id, username, content, create_ns, update_ns };
        let message = row.message(channel)?;
        Ok(StoredMessage { message, bucket, ttl: ttl.unwrap_or(0), written_us: written_us.unwrap_or(0) })
    }
}

impl HeadRow {
    /// `None` if the partition has no head.
    pub fn stored(self) -> Option<StoredHead> {
        Some(StoredHead {
            head: ChannelHead { id: MessageId(self.head_id?), sequence: Sequence(self.head_seq? as u64) },
            rows: self.fill_rows.unwrap_or(0) as u32,
            bytes: self.fill_bytes.unwrap_or(0) as u64,
            written_us: self.written_us.unwrap_or(0),
        })
    }
}

impl StoredMessage {
    /// Writes the message unchanged.
    pub fn put_again(&self) -> Mutation {
        put(&self.message, self.bucket, self.ttl)
    }

    /// Replaces the text by that of `after`, which expires when the message does.
    pub fn edit(&self, after: &Message) -> Mutation {
        debug_assert_eq!(self.message.id, after.id, "an edit is of the same message");
        Mutation::new(
            Statement::EditMessage,
            [
                int(self.ttl),
                text(&after.username),
                text(&after.content),
                big(after.update_time.0),
                text(after.channel.as_str()),
                big(self.bucket),
                id(after.id.0),
            ],
        )
    }
}

/// A message that expires after `ttl` seconds; 0: never.
pub fn put(message: &Message, bucket: i64, ttl: i32) -> Mutation {
    debug_assert!(message.persistent, "only persistent messages are stored");
    debug_assert!(ttl >= 0, "a message cannot have expired before it is written");
    Mutation::new(
        Statement::PutMessage,
        [
            text(message.channel.as_str()),
            big(bucket),
            id(message.id.0),
            big(message.sequence.0 as i64),
            int(message.code as i32),
            id(message.sender.0),
            text(&message.username),
            text(&message.content),
            big(message.create_time.0),
            big(message.update_time.0),
            int(ttl),
        ],
    )
}

/// Deletes the row of a message in the bucket in which it lies.
pub fn delete(channel: &ChannelId, bucket: i64, message: MessageId) -> Mutation {
    Mutation::new(Statement::DeleteMessage, [text(channel.as_str()), big(bucket), id(message.0)])
}

/// Deletes all messages of a bucket, and its head.
pub fn delete_bucket(channel: &ChannelId, bucket: i64) -> Mutation {
    Mutation::new(Statement::DeleteBucket, [text(channel.as_str()), big(bucket)])
}

/// Writes where history ends, and how many rows and bytes the bucket has.
pub fn set_head(channel: &ChannelId, bucket: i64, head: ChannelHead, rows: u32, bytes: u64) -> Mutation {
    Mutation::new(
        Statement::SetHead,
        [
            id(head.id.0),
            big(head.sequence.0 as i64),
            int(i32::try_from(rows).unwrap_or(i32::MAX)),
            big(i64::try_from(bytes).unwrap_or(i64::MAX)),
            text(channel.as_str()),
            big(bucket),
        ],
    )
}

/// The head in a bucket.
pub fn head(channel: &ChannelId, bucket: i64) -> Query<HeadRow> {
    Query::new(Statement::Head, [text(channel.as_str()), big(bucket)])
}

/// One message in a bucket.
pub fn one(channel: &ChannelId, bucket: i64, message: MessageId) -> Query<MessageRow> {
    Query::new(Statement::Message, [text(channel.as_str()), big(bucket), id(message.0)])
}

/// The first messages of a bucket between two ids, both included.
pub fn rising(channel: &ChannelId, bucket: i64, [low, high]: [Uuid; 2], limit: usize) -> Query<PageRow> {
    page(Statement::PageRising, channel, bucket, [low, high], limit)
}

/// The last messages of a bucket between two ids, both included, newest first.
pub fn falling(channel: &ChannelId, bucket: i64, [low, high]: [Uuid; 2], limit: usize) -> Query<PageRow> {
    page(Statement::PageFalling, channel, bucket, [low, high], limit)
}

/// Ids and senders of the first messages of a bucket between two ids, both included.
pub fn senders(channel: &ChannelId, bucket: i64, ids: [Uuid; 2], limit: usize) -> Query<(Uuid, Uuid)> {
    page(Statement::Senders, channel, bucket, ids, limit)
}

fn page<R>(statement: Statement, channel: &ChannelId, bucket: i64, [low, high]: [Uuid; 2], limit: usize) -> Query<R> {
    debug_assert!(low <= high, "a page begins before it ends");
    Query::new(statement, [text(channel.as_str()), big(bucket), id(low), id(high), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    fn message() -> Message {
        Message {
            channel: ChannelId::room("lobby").unwrap(),
            id: MessageId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
            sequence: Sequence(u64::MAX),
            code: MessageCode::GroupBan,
            sender: UserId(Uuid::max()),
            username: "ann".into(),
            content: "{\"text\":\"ü\"}".into(),
            create_time: Timestamp(-1),
            update_time: Timestamp(i64::MAX),
            persistent: true,
        }
    }

    #[test]
    fn a_message_comes_back_in_every_read() {
        let message = message();
        let (channel, row) = (&message.channel, put(&message, -9, 0));
        let ids = [Uuid::nil(), Uuid::max()];
        for query in [rising(channel, -9, ids, 5), falling(channel, -9, ids, 5)] {
            assert_eq!(read_back(TABLE, &row, query).message(channel).as_ref(), Ok(&message));
        }
        assert_eq!(read_back(TABLE, &row, senders(channel, -9, ids, 5)), (message.id.0, message.sender.0));
        let stored = read_back(TABLE, &row, one(channel, -9, message.id)).stored(channel, -9).unwrap();
        assert_eq!(stored, StoredMessage { message: message.clone(), bucket: -9, ttl: 7, written_us: 8 });
        assert_eq!(stored.put_again(), put(&message, -9, 7));
        check_delete(&row, &delete(channel, -9, message.id));
        check_delete(&row, &delete_bucket(channel, -9));
        check_delete(&row, &stored.edit(&message));
    }

    #[test]
    fn a_head_comes_back() {
        let lobby = ChannelId::room("lobby").unwrap();
        let expected = ChannelHead { id: message().id, sequence: Sequence(u64::MAX) };
        let row = set_head(&lobby, 5, expected, 7, u64::from(u32::MAX));
        let found = read_back(TABLE, &row, head(&lobby, 5)).stored();
        assert_eq!(found, Some(StoredHead { head: expected, rows: 7, bytes: u64::from(u32::MAX), written_us: 8 }));
        let none = read_back(TABLE, &put(&message(), 5, 0), head(&lobby, 5)).stored();
        assert_eq!(none, None, "a bucket without a head");
    }

    #[test]
    fn an_unknown_code_is_damage() {
        let lobby = ChannelId::room("lobby").unwrap();
        let mut row = put(&message(), 5, 0);
        row.values[4] = int(99);
        let found = read_back(TABLE, &row, one(&lobby, 5, message().id)).stored(&lobby, 5);
        assert!(matches!(&found, Err(Failure::Corrupt(text)) if text.contains("99")), "{found:?}");
    }
}
