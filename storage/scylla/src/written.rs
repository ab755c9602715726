//! Where users have written. The store notes it before the message is written: user, channel, bucket, once for each of
//! them as long as the note is cached. The deletion of an account reads the buckets that are noted, and no others. Before
//! version 4 of the schema the notes had no bucket: of those channels it reads everything.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use engine::id::{ChannelId, MessageId, UserId};
use scylla::statement::batch::BatchType;
use storage::{Failure, PageStart, Part, WrittenPlace};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::channel::{index_ttl, milliseconds, retention_seconds};
use crate::cluster_store::ClusterStore;
use crate::database::DatabaseSession;
use crate::history_span::{Span, first_at};
use crate::outcome::FailedAttempt;
use crate::tables::author_buckets::{self, NO_BUCKET};
use crate::tables::{Mutation, authored, messages};

/// Rows of a bucket that one step reads: of each the id and the sender only.
const ROWS_AT_ONCE: usize = 2_048;

/// Messages of the user that a step has found, and the last row that it has looked at, if there may be more behind it.
type Found = (Vec<MessageId>, Option<MessageId>);

/// The note that the user has written in a bucket of the channel.
pub fn author_row(database: &DatabaseSession, user: UserId, channel: &ChannelId, bucket: i64) -> Mutation {
    author_buckets::put(user, channel, bucket, retention_seconds(database, channel), index_ttl(database, channel))
}

impl ClusterStore {
    /// Notes that these users have written in a bucket of the channel, except for users already known to be noted.
    pub async fn note_authors(
        &self,
        channel: &ChannelId,
        bucket: i64,
        users: HashSet<UserId>,
        deadline: Instant,
    ) -> Result<(), FailedAttempt> {
        let mut writing = JoinSet::new();
        for user in users.into_iter().filter(|&user| !self.authors.has(user, channel, bucket)) {
            let (database, row) = (self.database.clone(), author_row(&self.database, user, channel, bucket));
            writing.spawn(async move { (user, database.write(&[row], BatchType::Unlogged, deadline).await) });
        }
        let mut done = Ok(());
        while let Some(written) = writing.join_next().await {
            match written {
                Ok((user, Ok(()))) => self.authors.note(user, channel, bucket),
                Ok((_, Err(failed))) => done = Err(failed),
                Err(error) => {
                    done = Err(FailedAttempt { nothing_done: false, passing: true, reason: error.to_string() });
                }
            }
        }
        done
    }

    /// Names of at most `limit` channels in which a user has written, after a name, in their order.
    pub async fn channels_written(&self, user: UserId, after: &str, limit: usize) -> Result<Vec<String>, Failure> {
        let before = self.database.all(authored::page(user, after, limit)).await?;
        let mut names: BTreeSet<String> = before.into_iter().map(|(name,)| name).collect();
        let (mut after, mut noted) = (after.to_owned(), 0);
        while noted < limit {
            let rows = self.database.all(author_buckets::page(user, &after, limit)).await?;
            let is_last = rows.len() < limit;
            for (name, _) in rows {
                if name != after {
                    noted += 1;
                    names.insert(name.clone());
                    after = name;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(names.into_iter().take(limit).collect())
    }

    /// See [`Store::written_part`](storage::Store::written_part). Channels come in the order of their names, and a
    /// channel's buckets from the newest on.
    pub async fn written_part(
        self: &Arc<Self>,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        let from = match from {
            Some(from) => Some(from),
            None => self.next_channel_written(user, "").await?,
        };
        let Some(from) = from.filter(|_| limit > 0) else { return Ok(Part::whole(Vec::new())) };
        let (items, seen) = self.own_messages(user, floor, &from, limit).await?;
        let stopped = match seen {
            Some(seen) => Some(WrittenPlace { seen: Some(seen), ..from.clone() }),
            None => self.next_place(user, floor, &from).await?,
        };
        Ok(Part { items: items.into_iter().map(|id| (from.channel.clone(), id)).collect(), stopped })
    }

    /// Messages of the user from a place on, at most `limit`.
    async fn own_messages(
        self: &Arc<Self>,
        user: UserId,
        floor: Option<MessageId>,
        from: &WrittenPlace,
        limit: usize,
    ) -> Result<Found, Failure> {
        let start = from.seen.max(floor).map_or(PageStart::Oldest, PageStart::After);
        match (from.passage, Span::of(start)) {
            (Some(passage), Some(span)) => {
                self.channels.get(&from.channel).check_settled()?;
                self.own_in_bucket(user, &from.channel, milliseconds(passage), span, limit).await
            }
            (None, _) if from.left > 0 => self.own_in_channel(user, &from.channel, start, limit).await,
            _ => Ok((Vec::new(), None)),
        }
    }

    async fn own_in_bucket(
        &self,
        user: UserId,
        channel: &ChannelId,
        bucket: i64,
        span: Span,
        limit: usize,
    ) -> Result<Found, Failure> {
        let ids = [span.low, span.high].map(Uuid::from_u128);
        let rows = self.database.all(messages::senders(channel, bucket, ids, ROWS_AT_ONCE)).await?;
        let own = rows.iter().filter(|(_, sender)| *sender == user.0).take(limit);
        let own: Vec<_> = own.map(|(id, _)| MessageId(*id)).collect();
        let seen = match own.len() == limit {
            true => own.last().copied(),
            false => rows.last().filter(|_| rows.len() == ROWS_AT_ONCE).map(|(id, _)| MessageId(*id)),
        };
        Ok((own, seen))
    }

    async fn own_in_channel(
        self: &Arc<Self>,
        user: UserId,
        channel: &ChannelId,
        start: PageStart,
        limit: usize,
    ) -> Result<Found, Failure> {
        let page = self.shared_page(channel, start, limit).await?;
        let last = page.items.last().filter(|_| page.items.len() == limit).map(|last| last.id);
        let own = page.items.iter().filter(|message| message.sender == user).map(|message| message.id);
        Ok((own.collect(), page.stopped.or(last)))
    }

    /// Where the search goes on behind a bucket or a channel that has been read.
    async fn next_place(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: &WrittenPlace,
    ) -> Result<Option<WrittenPlace>, Failure> {
        // All messages of older buckets are older than this bucket's beginning.
        let may_have_more = |bucket: &i64| floor.is_none_or(|floor| *bucket > milliseconds(floor));
        if let Some(bucket) = from.passage.map(milliseconds).filter(may_have_more) {
            let older = self.database.one(author_buckets::older(user, &from.channel, bucket)).await?;
            if let Some((older,)) = older.filter(|(older,)| *older != NO_BUCKET) {
                return Ok(Some(bucket_place(from.channel.clone(), older)));
            }
        }
        self.next_channel_written(user, from.channel.as_str()).await
    }

    /// The beginning of the next channel in which the user has written.
    async fn next_channel_written(&self, user: UserId, after: &str) -> Result<Option<WrittenPlace>, Failure> {
        let before = self.database.one(authored::page(user, after, 1)).await?.map(|(name,)| name);
        let noted = self.database.one(author_buckets::page(user, after, 1)).await?;
        let place = |name: &str, left| {
            Ok(Some(WrittenPlace { channel: authored::channel(name)?, passage: None, seen: None, left }))
        };
        let is_next = |before: &String| noted.as_ref().is_none_or(|(name, _)| before <= name);
        if let Some(before) = before.filter(is_next) {
            // Some of what the user has written there may be in buckets that are not noted.
            return place(&before, u64::MAX);
        }
        match noted {
            Some((name, NO_BUCKET)) => place(&name, 0),
            Some((name, bucket)) => Ok(Some(bucket_place(authored::channel(&name)?, bucket))),
            None => Ok(None),
        }
    }
}

/// The beginning of a bucket.
fn bucket_place(channel: ChannelId, bucket: i64) -> WrittenPlace {
    let passage = Some(MessageId(Uuid::from_u128(first_at(bucket))));
    WrittenPlace { channel, passage, seen: None, left: u64::MAX }
}
