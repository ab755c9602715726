//! Reads: pages of history over as many buckets as needed, single messages, and pages of lists.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::social::notification::Notification;
use storage::account::Account;
use storage::friend::FriendCounts;
use storage::group::{
    GROUPS_EXAMINED_MAX, Group, GroupFilter, GroupPage, GroupPlace, RosterPlace, browse, common_beginning,
};
use storage::inbox::Inbox;
use storage::{Failure, PageStart, Part};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::channel::{CachedChannel, milliseconds};
use crate::cluster_store::ClusterStore;
use crate::history_span::{Span, first_of_ours};
use crate::sharing::Page;
use crate::tables::group_list::{self, Entry};
use crate::tables::messages::{self, StoredMessage};
use crate::tables::{friend_counts, group_rosters, groups, inboxes, notifications, shards_of, user_groups, users};

/// Most buckets that are read at a time, if the buckets before them had too few messages.
const BUCKETS_AT_ONCE_MAX: usize = 16;
/// Most buckets that one part of a page reads: five rounds, of 1, 2, 4, 8 and 16.
const BUCKETS_OF_PART_MAX: usize = 31;
/// Parts of a channel's history that are read for its newest messages, at most.
const NEWEST_PARTS_MAX: usize = 4;
/// Most rows of the list of groups that are read from each shard at a time.
const LISTED_AT_ONCE_MAX: usize = 64;
/// Concurrent look-ups of listed groups, at most and at least.
const GROUPS_AT_ONCE: usize = 64;
const GROUPS_AT_ONCE_MIN: usize = 8;

impl ClusterStore {
    /// A page of history. Concurrent callers with the same query share one read.
    pub async fn shared_page(&self, channel: &ChannelId, from: PageStart, limit: usize) -> Page {
        let channel = self.channels.get(channel);
        channel.check_settled()?;
        let question = (channel.id.clone(), from, limit, channel.version.load(Ordering::Acquire));
        let (_forget, answer) = self.sharing.join(question)?;
        answer.get_or_init(|| self.page(&channel, from, limit)).await.clone()
    }

    /// Reads bucket after bucket from the place on, and doubles the number of buckets that are read at once. Passes the
    /// buckets that earlier reads have found empty, and stops after so many buckets as a part may read.
    pub async fn page(&self, channel: &Arc<CachedChannel>, from: PageStart, limit: usize) -> Page {
        let Some(span) = Span::of(from) else { return Ok(Part::whole(Vec::new())) };
        if limit == 0 {
            return Ok(Part::whole(Vec::new()));
        }
        let known = channel.known(&self.database).await?;
        let mut buckets = span.buckets(&known.starts);
        known.emptied.leave_out(&mut buckets);
        let (mut messages, mut next, mut at_once) = (Vec::new(), 0, 1);
        while messages.len() < limit && next < buckets.len().min(BUCKETS_OF_PART_MAX) {
            let these = &buckets[next..buckets.len().min(next + at_once)];
            for (&bucket, page) in these.iter().zip(self.buckets(channel, these, span, limit).await?) {
                if page.is_empty() && span.covers(bucket, &known.starts) {
                    known.emptied.note(bucket);
                }
                messages.extend(page);
            }
            next += these.len();
            at_once = (2 * at_once).min(BUCKETS_AT_ONCE_MAX);
        }
        messages.truncate(limit);
        debug_assert!(span.is_in_order(&messages), "a page of {} is not in the order of its ids", channel.id);
        let stopped = messages.len() < limit && next < buckets.len();
        Ok(Part { items: messages, stopped: stopped.then(|| span.border(buckets[next - 1], buckets[next])) })
    }

    /// The newest messages of a channel: exactly as many as asked for, or all. Fails if too many emptied buckets are in
    /// the way; the next attempt passes those.
    pub async fn newest(&self, channel: &Arc<CachedChannel>, limit: usize) -> Result<Vec<Message>, Failure> {
        let (mut messages, mut from) = (Vec::new(), PageStart::Newest);
        for _ in 0..NEWEST_PARTS_MAX {
            let part = self.page(channel, from, limit - messages.len()).await?;
            messages.extend(part.items);
            match part.stopped {
                Some(stopped) => from = from.behind(stopped),
                None => return Ok(messages),
            }
        }
        Err(Failure::Passing(format!("too many removed messages of {} are in the way", channel.id)))
    }

    /// A page of each of these buckets, in their order.
    async fn buckets(
        &self,
        channel: &Arc<CachedChannel>,
        buckets: &[i64],
        span: Span,
        limit: usize,
    ) -> Result<Vec<Vec<Message>>, Failure> {
        if let [bucket] = buckets {
            return Ok(vec![self.bucket(channel, *bucket, span, limit).await?]);
        }
        let mut reading = JoinSet::new();
        for (place, &bucket) in buckets.iter().enumerate() {
            let (database, channel) = (self.database.clone(), channel.clone());
            reading.spawn(async move { (place, read_bucket(&database, &channel.id, bucket, span, limit).await) });
        }
        let mut pages = vec![Vec::new(); buckets.len()];
        while let Some(read) = reading.join_next().await {
            let (place, page) = read.map_err(|error| Failure::Passing(error.to_string()))?;
            pages[place] = page?;
        }
        Ok(pages)
    }

    async fn bucket(
        &self,
        channel: &CachedChannel,
        bucket: i64,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Message>, Failure> {
        read_bucket(&self.database, &channel.id, bucket, span, limit).await
    }

    /// A stored message, with what is needed to write it again.
    pub async fn stored(&self, channel: &CachedChannel, id: MessageId) -> Result<Option<StoredMessage>, Failure> {
        let known = channel.known(&self.database).await?;
        let Some(bucket) = known.bucket_of(milliseconds(id)) else { return Ok(None) };
        self.stored_in(channel, bucket, id).await
    }

    /// One message in the given bucket, or `None` if it is not there.
    pub async fn stored_in(
        &self,
        channel: &CachedChannel,
        bucket: i64,
        id: MessageId,
    ) -> Result<Option<StoredMessage>, Failure> {
        let row = self.database.one(messages::one(&channel.id, bucket, id)).await?;
        row.map(|row| row.stored(&channel.id, bucket)).transpose()
    }

    /// A user's account, or `None`.
    pub async fn account_row(&self, user: UserId) -> Result<Option<Account>, Failure> {
        Ok(self.database.one(users::one(user)).await?.map(|row| row.account(user)))
    }

    /// How many friends and edges a user has, or `None` if that was never written.
    pub async fn friend_counts(&self, user: UserId) -> Result<Option<FriendCounts>, Failure> {
        Ok(self.database.one(friend_counts::one(user)).await?.map(friend_counts::Row::counts))
    }

    /// A group, or `None`.
    pub async fn group_row(&self, group: GroupId) -> Result<Option<Group>, Failure> {
        Ok(self.database.one(groups::one(group)).await?.map(|row| row.group(group)))
    }

    /// A part of a group's member list, merged from all shards. Members are spread evenly, so each shard is asked for
    /// little more than its share of the part, and again only if it had more than that.
    pub async fn roster(
        &self,
        group: GroupId,
        shards: i32,
        first: RosterPlace,
        last: RosterPlace,
        limit: usize,
    ) -> Result<Vec<RosterPlace>, Failure> {
        let each = share_of(limit, shards);
        // Each shard that may have more, and the place from which on.
        let mut unread: Vec<_> = (0..shards).map(|shard| (shard, first)).collect();
        let mut places = Vec::new();
        while !unread.is_empty() {
            let mut reading = JoinSet::new();
            for (shard, first) in unread.drain(..) {
                let database = self.database.clone();
                let query = group_rosters::between(group, shard, [first, last], each);
                reading.spawn(async move { (shard, database.all(query).await) });
            }
            while let Some(read) = reading.join_next().await {
                let (shard, rows) = read.map_err(|error| Failure::Passing(error.to_string()))?;
                let found = rows?.into_iter().map(group_rosters::Row::place).collect::<Result<Vec<_>, _>>()?;
                let next = found.last().filter(|_| found.len() == each).and_then(|place| place.next());
                unread.extend(next.filter(|next| *next <= last).map(|next| (shard, next)));
                places.extend(found);
            }
            places.sort_unstable();
            // Beyond the end of the part a shard's rest is not wanted.
            if let Some(end) = limit.checked_sub(1).and_then(|end| places.get(end)) {
                unread.retain(|(_, next)| next < end);
            }
        }
        debug_assert!(places.iter().all(|place| (first..=last).contains(place)), "{places:?}");
        debug_assert!(places.is_sorted_by(|one, next| one < next), "a member is in one shard: {places:?}");
        places.truncate(limit);
        Ok(places)
    }

    /// A part of a user's groups.
    pub async fn places_of_user(
        &self,
        user: UserId,
        first: RosterPlace,
        last: RosterPlace,
        limit: usize,
    ) -> Result<Vec<RosterPlace>, Failure> {
        let rows = self.database.all(user_groups::between(user, [first, last], limit)).await?;
        let mut places = rows.into_iter().map(user_groups::Row::place).collect::<Result<Vec<_>, _>>()?;
        debug_assert!(places.iter().all(|place| (first..=last).contains(place)), "{places:?}");
        places.sort_unstable();
        Ok(places)
    }

    /// At most `limit` members of a group between two places, both included. Empty if there is no such group.
    pub async fn group_members(
        &self,
        group: GroupId,
        first: RosterPlace,
        last: RosterPlace,
        limit: usize,
    ) -> Result<Vec<(UserId, RosterPlace)>, Failure> {
        let Some(kept) = self.group_row(group).await? else { return Ok(Vec::new()) };
        let places = self.roster(group, shards_of(&kept), first, last, limit).await?;
        Ok(places.into_iter().map(|place| (UserId(place.id), place)).collect())
    }

    /// A part of a user's groups, without those that no longer exist. Looks at no more than `limit` entries of the
    /// user's list.
    pub async fn user_groups(
        &self,
        user: UserId,
        first: RosterPlace,
        last: RosterPlace,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        let places = self.places_of_user(user, first, last, limit).await?;
        let groups = self.groups_by_id(places.iter().map(|place| GroupId(place.id)).collect()).await?;
        let end = places.last().copied().filter(|_| places.len() == limit);
        let items: Vec<_> = groups.into_iter().zip(places).filter_map(|(group, place)| Some((group?, place))).collect();
        let stopped = end.filter(|_| items.len() < limit);
        Ok(Part { items, stopped })
    }

    async fn groups_by_id(&self, ids: Vec<GroupId>) -> Result<Vec<Option<Group>>, Failure> {
        let mut groups = vec![None; ids.len()];
        for (number, some) in ids.chunks(GROUPS_AT_ONCE).enumerate() {
            let mut reading = JoinSet::new();
            for (place, &group) in some.iter().enumerate() {
                let database = self.database.clone();
                reading.spawn(async move {
                    let row = database.one(groups::one(group)).await;
                    (place, row.map(|row| row.map(|row| row.group(group))))
                });
            }
            while let Some(read) = reading.join_next().await {
                let (place, group) = read.map_err(|error| Failure::Passing(error.to_string()))?;
                groups[number * GROUPS_AT_ONCE + place] = group?;
            }
        }
        Ok(groups)
    }

    /// Groups in the order of their names, merged from all shards, piece by piece.
    pub async fn browse(
        &self,
        filter: &GroupFilter,
        after: Option<&GroupPlace>,
        limit: usize,
    ) -> Result<GroupPage, Failure> {
        let beginning = common_beginning(filter);
        // Every key with this prefix comes after `just_before(beginning)`.
        let before = after.map(|after| after.as_bytes().to_vec()).filter(|after| *after >= beginning);
        let mut shards: Vec<_> = (0..group_list::SHARDS).map(|_| (before.clone(), Vec::new(), false)).collect();
        let mut rows: Vec<(GroupPlace, Group)> = Vec::new();
        // Entries whose groups were looked up, those that no longer exist included, and the last of them.
        let (mut looked_up, mut last) = (0, None);
        // A page without a filter needs little more than its length; one whose filter few groups match needs more and
        // more.
        let mut at_once = limit.saturating_add(1).clamp(GROUPS_AT_ONCE_MIN, GROUPS_AT_ONCE);
        let mut listed_at_once = share_of(at_once, group_list::SHARDS);
        loop {
            self.refill(&mut shards, &beginning, listed_at_once).await?;
            let next = least(&shards);
            let enough = looked_up > GROUPS_EXAMINED_MAX;
            if next.is_none() || enough || fits(&rows, filter, limit)? {
                if next.is_none() {
                    last = None;
                }
                break;
            }
            let mut listed = Vec::new();
            while let Some(shard) = least(&shards).filter(|_| listed.len() < at_once) {
                let entry = shards[shard].1.remove(0);
                shards[shard].0 = Some(entry.place.clone());
                let drained = shards[shard].1.is_empty() && !shards[shard].2;
                listed.push(entry);
                if drained {
                    break;
                }
            }
            let groups =
                self.groups_by_id(listed.iter().map(|entry: &Entry| GroupId(entry.group_id)).collect()).await?;
            looked_up += listed.len();
            at_once = (2 * at_once).min(GROUPS_AT_ONCE);
            listed_at_once = (2 * listed_at_once).min(LISTED_AT_ONCE_MAX);
            last = listed.last().map(|entry| GroupPlace::from(entry.place.clone())).or(last);
            let known = listed.into_iter().zip(groups);
            rows.extend(known.filter_map(|(entry, group)| {
                // A list row may be older than its group's current name, or may not be deleted yet after its group was.
                let place = GroupPlace::from(entry.place);
                group.filter(|group| GroupPlace::of(group) == place).map(|group| (place, group))
            }));
        }
        let page = browse(rows.into_iter().map(Ok), filter, limit)?;
        // If all groups fit and more entries follow, the page goes on behind the last that was looked up.
        Ok(GroupPage { next: page.next.or(last), examined: 2 * looked_up, ..page })
    }

    /// Reads more from those shards whose rows are used up and which may have more.
    async fn refill(&self, shards: &mut [Listing], beginning: &[u8], at_once: usize) -> Result<(), Failure> {
        let mut reading = JoinSet::new();
        for (number, (after, waiting, ended)) in shards.iter().enumerate() {
            if waiting.is_empty() && !ended {
                let database = self.database.clone();
                let from = after.clone().unwrap_or_else(|| just_before(beginning));
                let query = group_list::page(number as i32, &from, at_once);
                reading.spawn(async move { (number, database.all(query).await) });
            }
        }
        while let Some(read) = reading.join_next().await {
            let (number, rows) = read.map_err(|error| Failure::Passing(error.to_string()))?;
            let rows = rows?;
            debug_assert!(rows.is_sorted_by(|one, next| one.place < next.place), "a shard's rows are merged in order");
            let (_, waiting, ended) = &mut shards[number];
            *ended = rows.len() < at_once;
            for row in rows {
                // After the first key with another prefix there are none with this one. One key may come before the
                // prefix.
                if row.place.starts_with(beginning) {
                    waiting.push(row);
                } else if row.place.as_slice() > beginning {
                    *ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The facts about a user's notifications as a whole, or `None` if there never was one.
    pub async fn inbox(&self, user: UserId) -> Result<Option<Inbox>, Failure> {
        Ok(self.database.one(inboxes::one(user)).await?.map(inboxes::Row::inbox))
    }

    /// One notification of a user, or `None`.
    pub async fn notification(&self, user: UserId, of: NotificationId) -> Result<Option<Notification>, Failure> {
        self.database.one(notifications::one(user, of)).await?.map(notifications::Row::notification).transpose()
    }

    /// Notifications whose ids are greater than `after`, byte for byte, even if `after` is not an id of version 7.
    pub async fn notifications_after(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<Notification>, Failure> {
        let after = after.map_or(Uuid::nil(), |after| after.0);
        let Some(first) = first_of_ours(after.as_u128().saturating_add(1)) else { return Ok(Vec::new()) };
        let before = Uuid::from_u128(first - 1);
        let rows = self.database.all(notifications::page(user, before, limit)).await?;
        rows.into_iter().map(notifications::Row::notification).collect()
    }
}

/// A shard of the list of groups: the place up to which it was read, the rows that wait, and whether there are no more.
type Listing = (Option<Vec<u8>>, Vec<Entry>, bool);

fn least(shards: &[Listing]) -> Option<usize> {
    let waiting =
        shards.iter().enumerate().filter_map(|(number, (_, waiting, _))| Some((&waiting.first()?.place, number)));
    waiting.min().map(|(_, number)| number)
}

/// How many entries of a shard are read at a time for a part of so many. Shards differ by chance, so it is a few more
/// than on average.
fn share_of(limit: usize, shards: i32) -> usize {
    const MORE: usize = 8;
    match usize::try_from(shards) {
        Ok(shards @ 2..) => limit.min(limit.div_ceil(shards) + MORE),
        _ => limit,
    }
}

/// Whether there are more matching groups than a page needs, so that the place to continue from is known.
fn fits(rows: &[(GroupPlace, Group)], filter: &GroupFilter, limit: usize) -> Result<bool, Failure> {
    let page = browse(rows.iter().cloned().map(Ok), filter, limit)?;
    Ok(page.groups.len() >= limit && page.next.is_some())
}

/// The greatest byte string that sorts before every string with this prefix.
fn just_before(beginning: &[u8]) -> Vec<u8> {
    let mut before = beginning.to_vec();
    match before.pop() {
        None | Some(0) => before,
        Some(last) => {
            before.extend([last - 1, u8::MAX]);
            before
        }
    }
}

async fn read_bucket(
    database: &crate::database::DatabaseSession,
    channel: &ChannelId,
    bucket: i64,
    span: Span,
    limit: usize,
) -> Result<Vec<Message>, Failure> {
    let ids = [span.low, span.high].map(Uuid::from_u128);
    let page = if span.rising { messages::rising } else { messages::falling };
    let rows = database.all(page(channel, bucket, ids, limit)).await?;
    rows.into_iter().map(|row| row.message(channel)).collect()
}

/// The next larger id, or `None` after the largest.
pub fn successor(id: Uuid) -> Option<Uuid> {
    id.as_u128().checked_add(1).map(Uuid::from_u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_begins_so_comes_before() {
        assert_eq!(just_before(b""), b"");
        assert_eq!(just_before(b"ab"), b"aa\xff");
        assert!(just_before(b"ab").as_slice() < b"ab".as_slice());
        assert_eq!(just_before(b"a\0"), b"a");
    }
}
