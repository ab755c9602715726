//! The table `author_buckets`: in which buckets of which channels a user has written. It came with version 4 of the
//! schema; what was noted before is in `authored`.

use engine::id::{ChannelId, UserId};
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, limit_of, text};

/// The definition. A note expires some time after the messages that its bucket may have. Notes that were made under
/// different retention times are different rows, so that none replaces one that must stay longer.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS author_buckets (
  user_id uuid, channel_id text, bucket bigint, kept_s bigint,
  PRIMARY KEY ((user_id), channel_id, bucket, kept_s)
) WITH CLUSTERING ORDER BY (channel_id ASC, bucket DESC, kept_s ASC)";

pub(super) const PUT: &str =
    "INSERT INTO author_buckets (user_id, channel_id, bucket, kept_s) VALUES (?, ?, ?, ?) USING TTL ? AND TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM author_buckets USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const PAGE: &str =
    "SELECT channel_id, bucket FROM author_buckets WHERE user_id = ? AND channel_id > ? LIMIT ?";
pub(super) const OLDER: &str =
    "SELECT bucket FROM author_buckets WHERE user_id = ? AND channel_id = ? AND bucket < ? LIMIT 1";
pub(super) const USERS_FROM: &str =
    "SELECT DISTINCT TOKEN(user_id), user_id FROM author_buckets WHERE TOKEN(user_id) > ? LIMIT ?";
pub(super) const COUNT_MOVED: &str = "SELECT user_id FROM author_buckets WHERE bucket = -1 ALLOW FILTERING";

/// The bucket of a note that says only that the user has written in the channel. A move makes such notes: it notes the
/// buckets of the messages themselves when it writes the messages. Every bucket that exists has a greater number.
pub const NO_BUCKET: i64 = -1;

/// Notes that the user has written in the bucket of the channel. `kept_s` is the channel's retention time in seconds;
/// the note expires after `ttl` seconds; 0: never, for both.
pub fn put(user: UserId, channel: &ChannelId, bucket: i64, kept_s: i64, ttl: i32) -> Mutation {
    debug_assert!(bucket >= NO_BUCKET, "bucket {bucket} is no time in milliseconds");
    let note = [id(user.0), text(channel.as_str()), big(bucket), big(kept_s), int(ttl)];
    Mutation::new(Statement::PutAuthorBucket, note)
}

/// Deletes all notes of a user.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteAuthorBuckets, [id(user.0)])
}

/// Notes of a user in the channels after a name, in the order of names, and in each channel from the newest bucket to
/// the oldest.
pub fn page(user: UserId, after: &str, limit: usize) -> Query<(String, i64)> {
    Query::new(Statement::AuthorBuckets, [id(user.0), text(after), int(limit_of(limit))])
}

/// The newest bucket before the given one in which a user has written in a channel.
pub fn older(user: UserId, channel: &ChannelId, bucket: i64) -> Query<(i64,)> {
    Query::new(Statement::OlderAuthorBucket, [id(user.0), text(channel.as_str()), big(bucket)])
}

/// Users of whom there are notes, each with the token, in the order of tokens, after a token.
pub fn users_after(token: i64, limit: usize) -> Query<(i64, Uuid)> {
    Query::new(Statement::BucketAuthorsFrom, [big(token), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_note_comes_back() {
        let user = UserId(Uuid::max());
        for channel in [ChannelId::room("lobby").unwrap(), ChannelId::direct(user, UserId(Uuid::nil()))] {
            let row = put(user, &channel, 1_795_338_279_575, 3_600, 9);
            let found = read_back(TABLE, &row, page(user, "", 1));
            assert_eq!(found, (channel.to_string(), 1_795_338_279_575));
            assert_eq!(read_back(TABLE, &row, older(user, &channel, i64::MAX)), (1_795_338_279_575,));
            assert_eq!(read_back(TABLE, &row, users_after(0, 1)), (8, user.0));
            check_delete(&row, &delete_all(user));
        }
    }

    #[test]
    fn a_move_counts_its_own_notes() {
        assert!(COUNT_MOVED.contains(&format!("bucket = {NO_BUCKET} ")));
    }
}
