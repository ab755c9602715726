//! A group of writes in the making. Its changes so far are laid over the stored rows, so that each write sees those
//! before it. Each key ends up in the batch once, because fjall gives all rows of a batch one sequence number.
//!
//! A write that fails leaves the draft as it was. Writes of messages read everything they need before they change
//! anything; those that `change/` carries out are undone.

mod rows;
pub mod sweep;

use std::collections::BTreeMap;
use std::ops::Deref;

use engine::id::{ChannelId, MessageId, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite, UpdateMessage};
use fjall::{PersistMode, Slice};

use super::commit_cache::CommitCache;
use super::dead::{MARK, leaves_marks};
use super::failures::decoded;
use super::tables::Tables;
use super::walk::{Direction, ROWS_EXAMINED_MAX, Walk};
use crate::keys::{self, Span, Table};
use crate::record::{self, Damage};
use crate::repeats::SentRequest;
use crate::{Failure, Write, Written, change};

/// Sequence numbers of a channel in one part. A user has one passage in each part in which the user has written, or
/// more if the cache has forgotten the first. The deletion of an account reads this many rows for each passage, and a
/// user who writes often has two more rows for each part.
pub const PASSAGE_MESSAGES: u64 = 1 << 14;

/// The changes of a group of writes that is not committed yet.
pub struct Draft<'a> {
    tables: &'a Tables,
    /// By table and in the order of keys, which is the order that suits fjall best; `None` is a removal.
    changes: [BTreeMap<Vec<u8>, Change>; Table::COUNT],
    /// The earlier changes that the running write has replaced so far, if it can be undone.
    undo: Option<Vec<Replaced>>,
    /// The requests that the running write has sent so far.
    sent: Vec<SentRequest>,
    cache: &'a mut CommitCache,
}

/// The new value of a key; `None` is a removal.
type Change = Option<Vec<u8>>;

/// A key, and the change drafted for it before, if there was one.
type Replaced = (Table, Vec<u8>, Option<Change>);

enum Found<'a> {
    Drafted(&'a [u8]),
    Stored(Slice),
}

impl Deref for Found<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Drafted(bytes) => bytes,
            Self::Stored(bytes) => bytes,
        }
    }
}

impl<'a> Draft<'a> {
    /// A draft without changes.
    pub fn new(tables: &'a Tables, cache: &'a mut CommitCache) -> Self {
        Self { tables, changes: Default::default(), undo: None, sent: Vec::new(), cache }
    }

    /// Writes all changes as one batch: first written to disk and synced, then visible.
    pub fn commit(self) -> fjall::Result<()> {
        assert!(self.undo.is_none(), "a draft is committed when no write is half done");
        let mut batch = self.tables.database.batch().durability(Some(PersistMode::SyncData));
        for (table, changes) in Table::ALL.into_iter().zip(&self.changes) {
            let keyspace = self.tables.keyspace(table);
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(keyspace, key.as_slice(), value.as_slice()),
                    None if leaves_marks(table) => batch.insert(keyspace, key.as_slice(), MARK),
                    None => batch.remove(keyspace, key.as_slice()),
                }
            }
        }
        self.tables.hollows.commit_begins(self.written());
        let committed = batch.commit();
        self.tables.hollows.commit_ends(self.written());
        committed
    }

    /// The rows that are written in tables with marks.
    fn written(&self) -> impl Iterator<Item = (Table, &[u8])> {
        let tables = Table::ALL.into_iter().zip(&self.changes).filter(|(table, _)| leaves_marks(*table));
        tables.flat_map(|(table, changes)| {
            changes.iter().filter(|(_, value)| value.is_some()).map(move |(key, _)| (table, key.as_slice()))
        })
    }

    /// Carries out one write on the draft. A write that fails leaves the draft as it was.
    pub fn apply(&mut self, write: &Write) -> Result<Written, Failure> {
        Ok(match write {
            Write::Request(StoreWrite::Insert(message)) => {
                self.insert(message);
                Written::Receipt(StoreReceipt::Inserted)
            }
            Write::Request(StoreWrite::Update(update)) => Written::Receipt(self.update(update)?),
            Write::Request(StoreWrite::Remove { channel, id, sender }) => {
                Written::Receipt(self.remove(channel, *id, *sender)?)
            }
            other => self.attempt(|draft| change::apply(draft, other))?,
        })
    }

    /// Writes a record, in place of the one under this key if there is one.
    pub fn put(&mut self, table: Table, key: Vec<u8>, record: Vec<u8>) {
        self.replace(table, key, Some(record));
    }

    fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.replace(table, key, None);
    }

    fn replace(&mut self, table: Table, key: Vec<u8>, change: Change) {
        let changes = &mut self.changes[table as usize];
        match &mut self.undo {
            None => drop(changes.insert(key, change)),
            Some(undo) => undo.push((table, key.clone(), changes.insert(key, change))),
        }
    }

    /// Runs several steps as one: if a step fails, the draft is as it was before the first.
    fn attempt<T>(&mut self, steps: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let outer = self.undo.replace(Vec::new());
        assert!(outer.is_none(), "an attempt within an attempt would undo too little");
        self.sent.clear();
        let done = steps(self);
        let undo = self.undo.take().unwrap_or_default();
        if done.is_err() {
            for request in self.sent.drain(..) {
                self.cache.sent.forget(request);
            }
            let noted = undo.iter().any(|(table, ..)| matches!(table, Table::Authored | Table::Passages));
            for (table, key, before) in undo.into_iter().rev() {
                let changes = &mut self.changes[table as usize];
                match before {
                    Some(change) => changes.insert(key, change),
                    None => changes.remove(&key),
                };
            }
            // What the cache has learnt of authors is undone, too.
            if noted {
                self.cache.authors.forget();
            }
        }
        done
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Found<'_>>, Failure> {
        if let Some(change) = self.changes[table as usize].get(key) {
            return Ok(change.as_deref().map(Found::Drafted));
        }
        Ok(self.tables.get(table, key)?.map(Found::Stored))
    }

    fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, Failure> {
        self.get(table, key)?.map(|bytes| decoded(table, decode(&bytes))).transpose()
    }

    /// Rows in the order of their keys: drafted changes laid over the stored rows. Fails with [`Failure::Passing`] when
    /// it has examined as many stored rows as a walk may. The marks that it has passed are a hollow from then on, so
    /// each attempt comes further.
    fn rows(&self, table: Table, span: Span) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Failure>> {
        self.rows_at_most(table, span, ROWS_EXAMINED_MAX)
    }

    /// Like [`Self::rows`], with another bound on the rows that are examined.
    fn rows_at_most(
        &self,
        table: Table,
        span: Span,
        rows_max: usize,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Failure>> {
        let mut drafted = self.changes[table as usize].range(span.clone()).peekable();
        let keyspace = self.tables.keyspace(table);
        let read = |span| keyspace.range(span);
        let walk = Walk::new(self.tables.for_walks(), table, (span, Direction::Rising), None, read);
        let mut walk = walk.at_most(rows_max);
        let stored = std::iter::from_fn(move || {
            let row = walk.next();
            let stopped = row.is_none() && walk.stopped().is_some();
            row.or_else(|| stopped.then(|| Err(too_many_removed(table))))
        });
        let mut stored = stored.peekable();
        in_order(std::iter::from_fn(move || {
            loop {
                let stored_is_next = match (stored.peek(), drafted.peek()) {
                    (None, None) => return None,
                    (None, Some(_)) => false,
                    (Some(Err(_)), _) | (Some(_), None) => true,
                    (Some(Ok((stored, _))), Some((drafted, _))) => stored[..] < drafted[..],
                };
                if stored_is_next {
                    return Some(stored.next()?.map(|(key, value)| (key.to_vec(), value.to_vec())));
                }
                let (key, change) = drafted.next()?;
                stored.next_if(|row| matches!(row, Ok((stored, _)) if stored[..] == key[..]));
                if let Some(value) = change {
                    return Some(Ok((key.clone(), value.clone())));
                }
            }
        }))
    }

    /// Stores a new message, and notes that its sender has written in the channel, and from where on in this part of
    /// it. Reads nothing: with a million channels each read would be a read from the disk.
    fn insert(&mut self, message: &Message) {
        if self.note_passage(message) {
            self.put(Table::Authored, keys::authored(message.sender, &message.channel), Vec::new());
        }
        self.put(Table::Messages, keys::message(&message.channel, message.id), record::encode_message(message));
    }

    /// Notes that a user has written in a channel, unless the cache knows that this is noted. A note that exists
    /// already is written again: that costs less than looking for it.
    pub fn note_author(&mut self, user: UserId, channel: &ChannelId) {
        if !self.cache.authors.note(user, channel) {
            self.put(Table::Authored, keys::authored(user, channel), Vec::new());
        }
    }

    /// Notes that a passage of its sender begins with this message, and returns true, unless the cache knows that one
    /// in the same part of the channel has begun.
    pub fn note_passage(&mut self, message: &Message) -> bool {
        let Message { sender, channel, id, sequence, .. } = message;
        let begins = !self.cache.authors.note_in(*sender, channel, sequence.0 / PASSAGE_MESSAGES);
        if begins {
            self.put(Table::Passages, keys::passage(*sender, channel, *id), Vec::new());
        }
        begins
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure> {
        let decode = |bytes: &[u8]| record::decode_message(channel, id, bytes);
        if self.tables.expiry.is_over(channel, id) {
            return Ok(None);
        }
        self.read(Table::Messages, &keys::message(channel, id), decode)
    }

    /// The stored message, if this sender may change it; otherwise the receipt that says why not.
    fn own_message(
        &self,
        channel: &ChannelId,
        id: MessageId,
        sender: UserId,
    ) -> Result<Result<Message, StoreReceipt>, Failure> {
        let stored = self.message(channel, id)?;
        let refusal = StoreReceipt::refuse_change(stored.as_ref(), sender);
        Ok(refusal.map_or_else(|| Ok(stored.expect("what is not stored was refused")), Err))
    }

    /// Removes a message and stores its position, which may be the channel's newest: `Embedded::head` takes the later
    /// of the newest existing message and the position stored here.
    fn remove_stored(&mut self, message: &Message) -> Result<(), Failure> {
        let key = keys::head(&message.channel);
        let kept = self.read(Table::Heads, &key, record::decode_head)?;
        if kept.is_none_or(|kept| kept.id < message.id) {
            let head = ChannelHead { id: message.id, sequence: message.sequence };
            self.put(Table::Heads, key, record::encode_head(&head));
        }
        self.delete(Table::Messages, keys::message(&message.channel, message.id));
        Ok(())
    }

    fn update(&mut self, update: &UpdateMessage) -> Result<StoreReceipt, Failure> {
        let mut message = match self.own_message(&update.channel, update.id, update.sender)? {
            Ok(message) => message,
            Err(refusal) => return Ok(refusal),
        };
        update.apply_to(&mut message);
        self.put(Table::Messages, keys::message(&update.channel, update.id), record::encode_message(&message));
        Ok(StoreReceipt::Updated(message))
    }

    fn remove(&mut self, channel: &ChannelId, id: MessageId, sender: UserId) -> Result<StoreReceipt, Failure> {
        let message = match self.own_message(channel, id, sender)? {
            Ok(message) => message,
            Err(refusal) => return Ok(refusal),
        };
        self.remove_stored(&message)?;
        Ok(StoreReceipt::Removed(message))
    }
}

fn too_many_removed(table: Table) -> Failure {
    Failure::Passing(format!("too many removed rows of {} are in the way", table.name()))
}

/// Checks, where assertions are on, that rows come in the order of their keys, each once. So both sides of a merge did.
fn in_order<E>(
    rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>> {
    let mut last = None;
    rows.inspect(move |row| {
        if cfg!(debug_assertions)
            && let Ok((key, _)) = row
        {
            assert!(last.as_ref() < Some(key), "{key:?} comes after {last:?}");
            last = Some(key.clone());
        }
    })
}
