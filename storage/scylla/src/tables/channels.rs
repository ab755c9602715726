//! Three tables about the partitions of a channel's messages. `channels` has the newest bucket of each channel.
//! `channel_epochs` says which spans of 24.9 days have buckets, and `channel_buckets` which buckets these are.

use engine::id::ChannelId;
use scylla::DeserializeRow;

use super::{Mutation, Query, Statement, big, int, limit_of, text};

/// Conditional. The newest bucket of each channel; the server with this epoch has moved it there.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS channels (
  channel_id text PRIMARY KEY, owner_epoch bigint, head_bucket bigint)";
/// Which spans of 24.9 days (bucket >> 31) have buckets.
pub const EPOCHS_TABLE: &str = "CREATE TABLE IF NOT EXISTS channel_epochs (
  channel_id text, epoch int, PRIMARY KEY ((channel_id), epoch)
) WITH CLUSTERING ORDER BY (epoch DESC)";
/// Which buckets there are in each span.
pub const BUCKETS_TABLE: &str = "CREATE TABLE IF NOT EXISTS channel_buckets (
  channel_id text, epoch int, bucket bigint, PRIMARY KEY ((channel_id, epoch), bucket)
) WITH CLUSTERING ORDER BY (bucket DESC)";

pub(super) const NEWEST: &str = "SELECT owner_epoch, head_bucket FROM channels WHERE channel_id = ?";
pub(super) const CLAIM: &str =
    "INSERT INTO channels (channel_id, owner_epoch, head_bucket) VALUES (?, ?, ?) IF NOT EXISTS";
pub(super) const MOVE: &str =
    "UPDATE channels SET owner_epoch = ?, head_bucket = ? WHERE channel_id = ? IF owner_epoch = ? AND head_bucket = ?";
pub(super) const RELEASE: &str = "DELETE FROM channels WHERE channel_id = ? IF EXISTS";
pub(super) const FROM: &str = "SELECT TOKEN(channel_id), channel_id FROM channels WHERE TOKEN(channel_id) > ? LIMIT ?";
pub(super) const EPOCHS: &str = "SELECT epoch FROM channel_epochs WHERE channel_id = ?";
pub(super) const PUT_EPOCH: &str =
    "INSERT INTO channel_epochs (channel_id, epoch) VALUES (?, ?) USING TTL ? AND TIMESTAMP ?";
pub(super) const DELETE_EPOCHS: &str = "DELETE FROM channel_epochs USING TIMESTAMP ? WHERE channel_id = ?";
pub(super) const BUCKETS: &str = "SELECT bucket FROM channel_buckets WHERE channel_id = ? AND epoch = ?";
pub(super) const PUT_BUCKET: &str =
    "INSERT INTO channel_buckets (channel_id, epoch, bucket) VALUES (?, ?, ?) USING TTL ? AND TIMESTAMP ?";
pub(super) const DELETE_BUCKETS: &str =
    "DELETE FROM channel_buckets USING TIMESTAMP ? WHERE channel_id = ? AND epoch = ?";

/// The index groups buckets into spans (epochs) by dropping this many low bits of a bucket's number: 24.9 days.
const EPOCH_BITS: u32 = 31;

/// The newest bucket of a channel, and the epoch of the server that has moved it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Newest {
    pub owner_epoch: i64,
    pub head_bucket: i64,
}

fn epoch_of(bucket: i64) -> i32 {
    let epoch = bucket >> EPOCH_BITS;
    assert!(i32::try_from(epoch).is_ok(), "bucket {bucket} is no time in milliseconds");
    epoch as i32
}

/// The newest bucket of a channel.
pub fn newest(channel: &ChannelId) -> Query<Newest> {
    Query::new(Statement::Channel, [text(channel.as_str())])
}

/// A lightweight transaction that writes the newest bucket of a channel that has none.
pub fn claim(channel: &ChannelId, to: Newest) -> Mutation {
    Mutation::new(Statement::ClaimChannel, [text(channel.as_str()), big(to.owner_epoch), big(to.head_bucket)])
}

/// A lightweight transaction that replaces the newest bucket of a channel if it is still `from`.
pub fn move_newest(channel: &ChannelId, from: Newest, to: Newest) -> Mutation {
    debug_assert!(from.owner_epoch <= to.owner_epoch, "an epoch never moves back");
    debug_assert!(from.head_bucket < to.head_bucket, "the newest bucket never moves back");
    let values = [to.owner_epoch, to.head_bucket].map(big).into_iter().chain([text(channel.as_str())]);
    Mutation::new(Statement::MoveChannel, values.chain([from.owner_epoch, from.head_bucket].map(big)))
}

/// A lightweight transaction that forgets a channel.
pub fn release(channel: &ChannelId) -> Mutation {
    Mutation::new(Statement::ReleaseChannel, [text(channel.as_str())])
}

/// Names of channels, each with its token, in the order of tokens, after a token.
pub fn after(token: i64, limit: usize) -> Query<(i64, String)> {
    Query::new(Statement::ChannelsFrom, [big(token), int(limit_of(limit))])
}

/// Notes in both tables of the index that there is a bucket. Each row expires after `ttl` seconds; 0: never.
pub fn put_bucket(channel: &ChannelId, bucket: i64, ttl: i32) -> [Mutation; 2] {
    let (name, epoch) = (text(channel.as_str()), epoch_of(bucket));
    [
        Mutation::new(Statement::PutEpoch, [name.clone(), int(epoch), int(ttl)]),
        Mutation::new(Statement::PutBucket, [name, int(epoch), big(bucket), int(ttl)]),
    ]
}

/// The spans in which a channel has buckets.
pub fn epochs(channel: &ChannelId) -> Query<(i32,)> {
    Query::new(Statement::Epochs, [text(channel.as_str())])
}

/// The buckets of a channel in one span.
pub fn buckets(channel: &ChannelId, epoch: i32) -> Query<(i64,)> {
    Query::new(Statement::Buckets, [text(channel.as_str()), int(epoch)])
}

/// Deletes all spans of a channel.
pub fn delete_epochs(channel: &ChannelId) -> Mutation {
    Mutation::new(Statement::DeleteEpochs, [text(channel.as_str())])
}

/// Deletes all buckets of a channel in one span.
pub fn delete_buckets(channel: &ChannelId, epoch: i32) -> Mutation {
    Mutation::new(Statement::DeleteBuckets, [text(channel.as_str()), int(epoch)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn the_newest_bucket_comes_back() {
        let lobby = ChannelId::room("lobby").unwrap();
        let (first, second) =
            (Newest { owner_epoch: 1, head_bucket: -5 }, Newest { owner_epoch: i64::MAX, head_bucket: 1 << 42 });
        assert_eq!(read_back(TABLE, &claim(&lobby, first), newest(&lobby)), first);
        assert_eq!(read_back(TABLE, &move_newest(&lobby, first, second), newest(&lobby)), second);
        assert_eq!(read_back(TABLE, &claim(&lobby, first), after(3, 1)), (8, lobby.to_string()));
        check_delete(&claim(&lobby, first), &release(&lobby));
    }

    #[test]
    fn a_bucket_is_found_in_its_span() {
        let lobby = ChannelId::room("lobby").unwrap();
        for (bucket, span) in [(0, 0), ((1 << 31) - 1, 0), (1 << 31, 1), (-1, -1), (1_795_338_279_575, 836)] {
            let [epoch, row] = put_bucket(&lobby, bucket, 9);
            assert_eq!(read_back(EPOCHS_TABLE, &epoch, epochs(&lobby)), (span,));
            assert_eq!(read_back(BUCKETS_TABLE, &row, buckets(&lobby, span)), (bucket,));
            check_delete(&epoch, &delete_epochs(&lobby));
            check_delete(&row, &delete_buckets(&lobby, span));
        }
    }
}
