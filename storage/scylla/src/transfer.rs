//! A database as the target of a move. Rows are written concurrently, in such a way that writing a row twice is
//! harmless. Then the store notes how far the move has come.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, GroupId, MessageId};
use engine::message::Message;
use engine::persist::ChannelHead;
use scylla::statement::batch::BatchType;
use storage::Failure;
use storage::transfer::{Item, Movable, Note, Source, Table, Target};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Scylla;
use crate::channel::{bytes_of, message_row, milliseconds, place_of};
use crate::cluster_store::ClusterStore;
use crate::linked_rows as rows;
use crate::tables::author_buckets::NO_BUCKET;
use crate::tables::group_seats::{self, Seats};
use crate::tables::{
    Mutation, Statement, account_deletions, author_buckets, credentials, friend_counts, group_list, group_names,
    groups, inboxes, notifications, object_counts, objects, public_objects, revocations, servers, shards_of, transfers,
    usernames, users,
};

/// Writes in flight.
const WRITES_AT_ONCE: usize = 64;
/// Messages of one batch.
const BATCH_ROWS_MAX: usize = 100;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How long one write may take: only an operator waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

impl Movable for Scylla {
    fn source(&self) -> Box<dyn Source + '_> {
        Box::new(self)
    }

    fn target(&self) -> Box<dyn Target + '_> {
        Box::new(self)
    }
}

impl Target for &Scylla {
    fn begun(&self) -> Result<Option<Note>, Failure> {
        let note = self.wait(self.store.move_noted())?;
        if note.is_none() && self.wait(self.store.lease.server())?.is_some() {
            return Err(Failure::InUse(
                "a server has used this keyspace already: a store is moved into an empty one".into(),
            ));
        }
        Ok(note)
    }

    fn put(&mut self, items: Vec<Item>, note: &Note) -> Result<(), Failure> {
        self.wait(self.store.move_items(items))?;
        self.wait(self.store.note_move(note))
    }

    fn end(&mut self, note: &Note) -> Result<(), Failure> {
        self.wait(self.store.raise_epoch(note.epoch))?;
        for (table, statement) in [
            (Table::Accounts, Statement::CountUsers),
            (Table::Credentials, Statement::CountCredentials),
            (Table::Revocations, Statement::CountRevocations),
            (Table::Groups, Statement::CountGroups),
            (Table::Members, Statement::CountMembers),
            (Table::Edges, Statement::CountEdges),
            (Table::FriendCounts, Statement::CountFriendCounts),
            (Table::Notifications, Statement::CountNotifications),
            (Table::Inboxes, Statement::CountInboxes),
            (Table::Authored, Statement::CountAuthorsMoved),
            (Table::AccountDeletions, Statement::CountAccountDeletions),
            (Table::Messages, Statement::CountMessages),
            (Table::Objects, Statement::CountObjects),
            (Table::ObjectCounts, Statement::CountObjectCounts),
        ] {
            note.counts.check(table, self.wait(self.store.database.count_rows(statement))?)?;
        }
        // Names are derived from accounts and groups.
        for (of, statement) in
            [(Table::Accounts, Statement::CountUsernames), (Table::Groups, Statement::CountGroupNames)]
        {
            note.counts.check(of, self.wait(self.store.database.count_rows(statement))?)?;
        }
        self.wait(self.store.note_move(note))
    }
}

impl ClusterStore {
    /// How far the last move into this keyspace has come.
    async fn move_noted(&self) -> Result<Option<Note>, Failure> {
        let found = self.database.one(transfers::one()).await?;
        found.map(|(record,)| transfers::note(&record)).transpose()
    }

    /// Refuses to work with a store whose move is not finished.
    pub async fn check_moved(&self) -> Result<(), Failure> {
        match self.move_noted().await? {
            Some(note) if !note.done => Err(Failure::InUse(format!(
                "the move of {} into this keyspace is not finished: go on with it first",
                note.source
            ))),
            _ => Ok(()),
        }
    }

    async fn note_move(&self, note: &Note) -> Result<(), Failure> {
        self.move_rows(vec![transfers::put(note)]).await
    }

    async fn move_items(self: &Arc<Self>, items: Vec<Item>) -> Result<(), Failure> {
        let mut under_way: JoinSet<Result<(), Failure>> = JoinSet::new();
        let mut items = items.into_iter().peekable();
        let mut group_shards = None;
        while let Some(item) = items.next() {
            match item {
                Item::Message(message) => {
                    let mut messages = vec![message];
                    while let Some(Item::Message(message)) = items.next_if(
                        |item| matches!(item, Item::Message(message) if message.channel == messages[0].channel),
                    ) {
                        messages.push(message);
                    }
                    self.move_history(messages, &mut under_way).await?;
                }
                Item::Head(channel, head) => self.move_head_of(&channel, head).await?,
                Item::Member(group, user, membership) => {
                    let shards = self.shards_of_group(group, &mut group_shards).await?;
                    let rows = rows::put_membership(group, shards, user, membership).into();
                    self.spawn_rows(&mut under_way, rows).await?;
                }
                item => {
                    let (rows, claims) = rows_of(item);
                    for claim in claims {
                        self.spawn_claim(&mut under_way, claim).await?;
                    }
                    self.spawn_rows(&mut under_way, rows).await?;
                }
            }
        }
        while let Some(done) = under_way.join_next().await {
            done.map_err(|error| Failure::Passing(error.to_string()))??;
        }
        Ok(())
    }

    /// The number of partitions of a group's members. The last answer is cached, because many members of one group
    /// follow each other.
    async fn shards_of_group(&self, group: GroupId, last: &mut Option<(GroupId, i32)>) -> Result<i32, Failure> {
        if let Some((_, shards)) = last.filter(|(of, _)| *of == group) {
            return Ok(shards);
        }
        let shards = self.group_row(group).await?.map_or(1, |group| shards_of(&group));
        *last = Some((group, shards));
        Ok(shards)
    }

    async fn spawn_rows(
        self: &Arc<Self>,
        under_way: &mut JoinSet<Result<(), Failure>>,
        rows: Vec<Mutation>,
    ) -> Result<(), Failure> {
        make_room(under_way).await?;
        let store = self.clone();
        under_way.spawn(async move { store.move_rows(rows).await });
        Ok(())
    }

    async fn spawn_claim(
        self: &Arc<Self>,
        under_way: &mut JoinSet<Result<(), Failure>>,
        claim: Mutation,
    ) -> Result<(), Failure> {
        make_room(under_way).await?;
        let store = self.clone();
        under_way.spawn(async move {
            // A repeated claim is refused, because the row is there already.
            let decided = store.database.decide(&claim, Instant::now() + PATIENCE, || async { Ok(false) }).await;
            decided.map(|_| ()).map_err(|failed| failed.failure())
        });
        Ok(())
    }

    /// Writes rows of any partitions, each on its own.
    async fn move_rows(&self, rows: Vec<Mutation>) -> Result<(), Failure> {
        for row in rows {
            let written = self.database.write(&[row], BatchType::Unlogged, Instant::now() + PATIENCE).await;
            written.map_err(|failed| failed.failure())?;
        }
        Ok(())
    }

    /// Writes messages of one channel, in order, in batches of one bucket.
    async fn move_history(
        self: &Arc<Self>,
        messages: Vec<Message>,
        under_way: &mut JoinSet<Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let channel = self.channels.get(&messages[0].channel);
        let mut known = channel.known(&self.database).await?;
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let bucket = channel
                .bucket_for(&self.database, &mut known, &message, self.epoch(), Instant::now() + PATIENCE)
                .await?;
            let (mut batch, mut size) = (vec![message_row(&self.database, &message, bucket)], bytes_of(&message));
            let mut senders = HashSet::from([message.sender]);
            known.count(bucket, place_of(&message), bytes_of(&message));
            let bounds = crate::channel::bounds_of(&self.database, &channel.id);
            while batch.len() < BATCH_ROWS_MAX
                && size < BATCH_BYTES_MAX
                && let Some(message) = messages.next_if(|message| {
                    known.choose_bucket(message.id, &bounds) == crate::channel::BucketChoice::In(bucket)
                })
            {
                known.count(bucket, place_of(&message), bytes_of(&message));
                size += bytes_of(&message);
                batch.push(message_row(&self.database, &message, bucket));
                senders.insert(message.sender);
            }
            batch.extend(known.head_row(&channel.id, bucket));
            make_room(under_way).await?;
            let (store, first) = (self.clone(), self.database.clock.reserve(batch.len()));
            let (channel, deadline) = (channel.id.clone(), Instant::now() + PATIENCE);
            under_way.spawn(async move {
                let noted = store.note_authors(&channel, bucket, senders, deadline).await;
                noted.map_err(|failed| failed.failure())?;
                let written = store.database.write_at(first, batch, BatchType::Unlogged, deadline).await;
                written.map_err(|failed| failed.failure())
            });
        }
        channel.learn(known).await;
        Ok(())
    }

    /// Writes where a channel's history ends, if its newest message has been removed.
    async fn move_head_of(self: &Arc<Self>, channel: &ChannelId, head: ChannelHead) -> Result<(), Failure> {
        let channel = self.channels.get(channel);
        let mut known = channel.known(&self.database).await?;
        if known.head.is_some_and(|kept| kept.id >= head.id) {
            return Ok(());
        }
        if known.starts.is_empty() {
            let bucket = milliseconds(MessageId(head.id.0));
            channel.begin_bucket(&self.database, &mut known, bucket, self.epoch(), Instant::now() + PATIENCE).await?;
        }
        known.head = Some(head);
        let newest = known.starts.last().copied().unwrap_or_default();
        self.move_rows(known.head_row(&channel.id, newest).into_iter().collect()).await?;
        channel.learn(known).await;
        Ok(())
    }

    /// Ensures that the next life's epoch comes after all epochs of the source.
    async fn raise_epoch(&self, epoch: u64) -> Result<(), Failure> {
        let claim = servers::claim(epoch as i64, Uuid::nil());
        let decided = self.database.decide(&claim, Instant::now() + PATIENCE, || async { Ok(false) }).await;
        decided.map(|_| ()).map_err(|failed| failed.failure())
    }
}

async fn make_room(under_way: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while under_way.len() >= WRITES_AT_ONCE {
        if let Some(done) = under_way.join_next().await {
            done.map_err(|error| Failure::Passing(error.to_string()))??;
        }
    }
    Ok(())
}

/// The rows of one item, and its claims.
fn rows_of(item: Item) -> (Vec<Mutation>, Vec<Mutation>) {
    let none = Vec::new;
    match item {
        Item::Account(account) => (vec![users::put(&account)], vec![usernames::claim(&account.username, account.id)]),
        Item::Credential(credential, owner) => (none(), vec![credentials::claim(&credential, &owner)]),
        Item::Revocation(revocation) => (vec![revocations::put(&revocation)], none()),
        Item::Group(group) => {
            let seats = Seats { edge_count: group.edge_count as i32, version: group_seats::FIRST_VERSION };
            let claims = vec![group_names::claim(&group.name, group.id), group_seats::claim(group.id, seats)];
            (vec![groups::put(&group), group_list::put(&group)], claims)
        }
        Item::Edge(user, other, edge) => (rows::put_edge(user, other, &edge), none()),
        Item::FriendCounts(user, friend_counts) => (vec![friend_counts::put(user, friend_counts)], none()),
        Item::Notification(user, notification) => (vec![notifications::put(user, &notification)], none()),
        Item::Inbox(user, inbox) => (vec![inboxes::put(user, inbox)], none()),
        Item::Authored(user, channel) => (vec![author_buckets::put(user, &channel, NO_BUCKET, 0, 0)], none()),
        Item::AccountDeletion(user) => (vec![account_deletions::put(user)], none()),
        Item::Object(object) => {
            let entry = public_objects::entry_of(&object).map(public_objects::put);
            ([objects::put(&object)].into_iter().chain(entry).collect(), none())
        }
        Item::ObjectCounts(user, counts) => (vec![object_counts::put(user, counts)], none()),
        Item::Message(_) | Item::Head(..) | Item::Member(..) => (none(), none()),
    }
}
