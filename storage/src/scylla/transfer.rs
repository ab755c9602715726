//! Moves a whole embedded store into the database: with its ids, orders and heads, so that every cursor stays good. What is
//! moved is noted in the database now and then, and a move that is begun again goes on from there. Moving a row twice
//! comes to the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, MessageId};
use engine::message::Message;
use engine::persist::ChannelHead;
use scylla::statement::batch::BatchType;
use scylla::value::CqlValue;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Scylla;
use super::channel::milliseconds;
use super::keeper::Keeper;
use super::lane::{bytes_of, message_row, place_of};
use super::link::Mutation;
use super::mutations as rows;
use super::mutations::shards_of;
use super::statements::{Statement, big, bytes, flag, id, int, text};
use crate::embedded::Embedded;
use crate::embedded::export::{Item, Keyed, MOVED};
use crate::group::Group;
use crate::keys::Table;
use crate::{Failure, Store};

/// Rows that are moved between two notes of how far the move has come.
const ROWS_BETWEEN_NOTES: usize = 4096;
/// Writes under way.
const WRITES_AT_ONCE: usize = 64;
/// Messages of one batch.
const BATCH_ROWS_MAX: usize = 100;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How long one write may take: nobody waits for it but an operator.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a move has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    pub rows: u64,
    /// Of these, what was left over from things deleted stayed behind.
    pub orphans: u64,
    /// Rows that were there already, from a move that was interrupted.
    pub before: u64,
}

/// Rows that the source has, for whoever shows how far a move has come.
pub fn size_of_move(source: &Embedded) -> Result<u64, Failure> {
    MOVED.iter().map(|table| source.rows_of(*table)).sum()
}

impl Scylla {
    /// Moves everything, and counts it in the end. `moved` hears how many rows have been.
    pub fn import(&self, source: &Embedded, name: &str, moved: &mut dyn FnMut(u64)) -> Result<Moved, Failure> {
        let (first, after, mut done) = self.move_begun(source, name)?;
        moved(done.rows);
        for (number, table) in MOVED.iter().enumerate().skip(first) {
            let mut after = after.clone().filter(|_| number == first);
            loop {
                let items = source.export(*table, after.as_deref(), ROWS_BETWEEN_NOTES)?;
                let Some((last, _)) = items.last() else { break };
                after = Some(last.clone());
                let (count, orphans) = (items.len() as u64, orphans(&items));
                self.wait(self.keeper.move_items(source, items))?;
                done.rows += count;
                done.orphans += orphans;
                self.note(name, number, after.as_deref(), done, false)?;
                moved(done.rows);
            }
        }
        let epoch = source.next_epoch()?;
        self.wait(self.keeper.raise_epoch(epoch.0))?;
        self.check_counts(source)?;
        self.note(name, MOVED.len(), None, done, true)?;
        Ok(done)
    }

    /// Where the move goes on. A database that has something else in it takes none.
    fn move_begun(&self, source: &Embedded, name: &str) -> Result<(usize, Option<Vec<u8>>, Moved), Failure> {
        type Note = (String, Vec<u8>, i64, bool);
        let note: Option<Note> = self.row(Statement::Transfer, vec![])?;
        let Some((from, place, rows, finished)) = note else {
            if self.wait(self.keeper.link.decided_row::<(i64, Uuid, i64)>(Statement::Server, vec![]))?.is_some() {
                return Err(Failure::InUse(
                    "a server has used this keyspace already: a store is moved into an empty one".into(),
                ));
            }
            source.rows_of(Table::Meta)?;
            self.note(name, 0, None, Moved::default(), false)?;
            return Ok((0, None, Moved::default()));
        };
        if from != name {
            return Err(Failure::InUse(format!("the move of {from} into this keyspace was begun: finish it first")));
        }
        if finished {
            return Err(Failure::InUse(format!("{name} has been moved into this keyspace already")));
        }
        let (table, after) = place.split_first().map_or((0, None), |(table, after)| (usize::from(*table), Some(after)));
        let moved = Moved { rows: rows as u64, orphans: 0, before: rows as u64 };
        Ok((table, after.filter(|after| !after.is_empty()).map(<[u8]>::to_vec), moved))
    }

    fn note(&self, name: &str, table: usize, after: Option<&[u8]>, moved: Moved, done: bool) -> Result<(), Failure> {
        let mut place = vec![table as u8];
        place.extend(after.unwrap_or_default());
        let values = [text(name), bytes(&place), big(moved.rows as i64), flag(done)];
        let row = Mutation::new(Statement::PutTransfer, values);
        self.wait(self.keeper.move_rows(vec![row]))
    }

    /// Counts what is there, table by table.
    fn check_counts(&self, source: &Embedded) -> Result<(), Failure> {
        for (table, statement) in [
            (Table::Accounts, Statement::CountUsers),
            (Table::Credentials, Statement::CountCredentials),
            (Table::Usernames, Statement::CountUsernames),
            (Table::Groups, Statement::CountGroups),
            (Table::GroupNames, Statement::CountGroupNames),
            (Table::Members, Statement::CountMembers),
            (Table::Edges, Statement::CountEdges),
            (Table::Notifications, Statement::CountNotifications),
            (Table::Messages, Statement::CountMessages),
        ] {
            let (mut expected, mut after) = (0_u64, None);
            loop {
                let items = source.export(table, after.as_deref(), ROWS_BETWEEN_NOTES)?;
                let Some((last, _)) = items.last() else { break };
                after = Some(last.clone());
                expected += items.len() as u64 - if names(table) { 0 } else { orphans(&items) };
            }
            let found = self.wait(self.keeper.link.count_rows(statement))?;
            if found != expected {
                return Err(Failure::Corrupt(format!(
                    "{} {} were to be moved, and {found} are there",
                    expected,
                    table.name()
                )));
            }
        }
        Ok(())
    }
}

/// Tables whose rows are made from others.
fn names(table: Table) -> bool {
    matches!(table, Table::Usernames | Table::GroupNames)
}

fn orphans(items: &[Keyed]) -> u64 {
    items.iter().filter(|(_, item)| *item == Item::Orphan).count() as u64
}

impl Keeper {
    async fn move_items(self: &Arc<Self>, source: &Embedded, items: Vec<Keyed>) -> Result<(), Failure> {
        let mut under_way: JoinSet<Result<(), Failure>> = JoinSet::new();
        let mut items = items.into_iter().map(|(_, item)| item).peekable();
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
                    let shards = source.group(group)?.map_or(1, |group: Group| shards_of(&group));
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

    async fn spawn_rows(
        self: &Arc<Self>,
        under_way: &mut JoinSet<Result<(), Failure>>,
        rows: Vec<Mutation>,
    ) -> Result<(), Failure> {
        make_room(under_way).await?;
        let keeper = self.clone();
        under_way.spawn(async move { keeper.move_rows(rows).await });
        Ok(())
    }

    async fn spawn_claim(
        self: &Arc<Self>,
        under_way: &mut JoinSet<Result<(), Failure>>,
        claim: Mutation,
    ) -> Result<(), Failure> {
        make_room(under_way).await?;
        let keeper = self.clone();
        under_way.spawn(async move {
            // Claimed again it is refused, because it is there.
            let decided = keeper.link.decide(&claim, Instant::now() + PATIENCE, || async { Ok(false) }).await;
            decided.map(|_| ()).map_err(|missed| missed.failure())
        });
        Ok(())
    }

    /// Rows of any partitions, each on its own.
    async fn move_rows(&self, rows: Vec<Mutation>) -> Result<(), Failure> {
        for row in rows {
            let written = self.link.write(&[row], BatchType::Unlogged, Instant::now() + PATIENCE).await;
            written.map_err(|missed| missed.failure())?;
        }
        Ok(())
    }

    /// Messages of one channel, in order, in batches of one bucket.
    async fn move_history(
        self: &Arc<Self>,
        messages: Vec<Message>,
        under_way: &mut JoinSet<Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let channel = self.channels.get(&messages[0].channel);
        let mut known = channel.known(&self.link).await?;
        let mut messages = messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let bucket = self.home(&channel, &mut known, &message, Instant::now() + PATIENCE).await?;
            let (mut batch, mut size) = (vec![message_row(&self.link, &message, bucket)], bytes_of(&message));
            known.count(bucket, place_of(&message), bytes_of(&message));
            let bounds = super::channel::bounds_of(&self.link, &channel.id);
            while batch.len() < BATCH_ROWS_MAX
                && size < BATCH_BYTES_MAX
                && let Some(message) =
                    messages.next_if(|message| known.home_of(message.id, &bounds) == super::channel::Home::In(bucket))
            {
                known.count(bucket, place_of(&message), bytes_of(&message));
                size += bytes_of(&message);
                batch.push(message_row(&self.link, &message, bucket));
            }
            batch.extend(known.head_row(&channel.id, bucket));
            make_room(under_way).await?;
            let (link, first) = (self.link.clone(), self.link.clock.reserve(batch.len()));
            under_way.spawn(async move {
                let written = link.write_at(first, &batch, BatchType::Unlogged, Instant::now() + PATIENCE).await;
                written.map_err(|missed| missed.failure())
            });
        }
        channel.learn(known).await;
        Ok(())
    }

    /// Where a channel's history ends, if its newest message has been removed.
    async fn move_head_of(self: &Arc<Self>, channel: &ChannelId, head: ChannelHead) -> Result<(), Failure> {
        let channel = self.channels.get(channel);
        let mut known = channel.known(&self.link).await?;
        if known.head.is_some_and(|kept| kept.id >= head.id) {
            return Ok(());
        }
        if known.starts.is_empty() {
            let bucket = milliseconds(MessageId(head.id.0));
            channel.begin_bucket(&self.link, &mut known, bucket, self.epoch(), Instant::now() + PATIENCE).await?;
        }
        known.head = Some(head);
        let newest = known.starts.last().copied().unwrap_or_default();
        self.move_rows(known.head_row(&channel.id, newest).into_iter().collect()).await?;
        channel.learn(known).await;
        Ok(())
    }

    /// The next life's epoch comes after all of the store's that was moved.
    async fn raise_epoch(&self, epoch: u64) -> Result<(), Failure> {
        let values = [big(epoch as i64), id(Uuid::nil())];
        let claim = Mutation::new(Statement::ClaimServer, values);
        let decided = self.link.decide(&claim, Instant::now() + PATIENCE, || async { Ok(false) }).await;
        decided.map(|_| ()).map_err(|missed| missed.failure())
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

/// The rows of one item, and what it claims.
fn rows_of(item: Item) -> (Vec<Mutation>, Vec<Mutation>) {
    let none = Vec::new;
    match item {
        Item::Account(account) => {
            (vec![rows::put_user(&account)], vec![rows::claim_username(&account.username, account.id)])
        }
        Item::Credential(credential, owner) => {
            (none(), vec![rows::claim_credential(&credential, owner.user, &owner.secret)])
        }
        Item::Revocation(revocation) => (vec![rows::put_revocation(&revocation)], none()),
        Item::Group(group) => {
            let seats: [CqlValue; 3] = [id(group.id.0), int(group.edge_count as i32), big(1)];
            let claims =
                vec![rows::claim_group_name(&group.name, group.id), Mutation::new(Statement::ClaimSeats, seats)];
            (vec![rows::put_group(&group), rows::put_listing(&group)], claims)
        }
        Item::Edge(user, other, edge) => (rows::put_edge(user, other, edge), none()),
        Item::Circle(user, circle) => (vec![rows::put_circle(user, circle)], none()),
        Item::Notification(user, notification) => (vec![rows::put_notification(user, &notification)], none()),
        Item::Inbox(user, inbox) => (vec![rows::put_inbox(user, inbox)], none()),
        Item::Authored(user, channel) => (vec![rows::author_row(user, &channel)], none()),
        Item::Departure(user) => (vec![Mutation::new(Statement::PutDeparture, [id(user.0)])], none()),
        Item::Message(_) | Item::Head(..) | Item::Member(..) | Item::Orphan => (none(), none()),
    }
}
