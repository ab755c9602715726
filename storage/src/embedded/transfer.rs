//! An embedded store as one end of a move. As a source it is read table by table in the order of its keys. As a target
//! it writes rows together with the note of how far the move has come, in one group of writes, so that the two always
//! agree.

use engine::id::{ChannelId, ChannelKind, Epoch};

use super::commit_cache::CommitCache;
use super::draft::Draft;
use super::failures::decoded;
use super::tables::{FORMAT, Tables, View};
use super::{Embedded, failed};
use crate::keys::{self, Table};
use crate::record::{self, StoreMeta};
use crate::rows::Rows;
use crate::transfer::{Item, Movable, Note, Origin, Page, Source, Target};
use crate::{Failure, Store};

/// The tables of a move, in the order of the move.
const MOVED: [Table; 15] = [
    Table::Accounts,
    Table::Credentials,
    Table::Revocations,
    Table::Groups,
    Table::Members,
    Table::Edges,
    Table::FriendCounts,
    Table::Notifications,
    Table::Inboxes,
    Table::Authored,
    Table::AccountDeletions,
    Table::Messages,
    Table::Heads,
    Table::Objects,
    Table::ObjectCounts,
];

const _: () = assert!(MOVED.len() <= 1 << u8::BITS, "a place has the table's number in one byte");

/// The most rows of a page, and the bytes after which it ends.
const PAGE_ROWS_MAX: usize = 4096;
const PAGE_BYTES_MAX: usize = 4 << 20;

impl Movable for Embedded {
    fn source(&self) -> Box<dyn Source + '_> {
        Box::new(self)
    }

    fn target(&self) -> Box<dyn Target + '_> {
        Box::new(self)
    }
}

impl Source for &Embedded {
    fn begin(&self) -> Result<Origin, Failure> {
        let epoch = self.next_epoch()?.0;
        let path = self.directory.path();
        let path = path.canonicalize().map_err(|error| failed("finding", path, &error))?;
        let source = path.display().to_string();
        if !self.is_only_read() {
            return Ok(Origin { source, epoch, last: epoch - 1 });
        }
        self.write_memory_out()?;
        // Reading leaves no trace in the store. Each life of a server does.
        Ok(Origin { source, epoch: epoch - 1, last: epoch - 1 })
    }

    fn size(&self) -> Result<Option<u64>, Failure> {
        if self.is_only_read() {
            return Ok(None);
        }
        let tables = self.tables()?;
        MOVED.iter().map(|table| rows_of(tables, *table)).sum::<Result<u64, Failure>>().map(Some)
    }

    /// A place is a table's number in the order of the move, and a key.
    fn rows(&self, after: &[u8]) -> Result<Option<Page>, Failure> {
        let view = self.tables()?.view();
        let (first, mut key) = after.split_first().map_or((0, None), |(table, key)| (usize::from(*table), Some(key)));
        let mut unreadable = if after.is_empty() { self.damages()? } else { Vec::new() };
        for (number, table) in MOVED.iter().enumerate().skip(first) {
            let page = match self.is_only_read() {
                true => self.sound_page(&view, number as u8, *table, key.take())?,
                false => page(&view, number as u8, *table, key.take())?,
            };
            if let Some(mut page) = page {
                page.unreadable.append(&mut unreadable);
                return Ok(Some(page));
            }
        }
        // There is no row at all, but what cannot be read is told of nevertheless.
        let place = vec![MOVED.len() as u8];
        Ok((!unreadable.is_empty()).then_some(Page { items: Vec::new(), left: 0, place, unreadable }))
    }
}

fn rows_of(tables: &Tables, table: Table) -> Result<u64, Failure> {
    let mut rows = 0;
    for key in tables.view().keys(table, keys::beginning_with(&[], None)) {
        key?;
        rows += 1;
    }
    Ok(rows)
}

/// The rows of a table after a key; `None` if there are no more.
fn page(view: &View<'_>, number: u8, table: Table, after: Option<&[u8]>) -> Result<Option<Page>, Failure> {
    let (mut items, mut left, mut place, mut bytes) = (Vec::new(), 0, Vec::new(), 0);
    let mut channels = Channels { view, last: None };
    for row in view.rows(table, keys::beginning_with(&[], after)).take(PAGE_ROWS_MAX) {
        let (key, value) = row?;
        place.clear();
        place.push(number);
        place.extend_from_slice(&key);
        bytes += key.len() + value.len();
        let item = Item::of(table, &key, &value)?;
        if is_left_over(view, &mut channels, &item)? {
            left += 1;
        } else {
            items.push(item);
        }
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    debug_assert!(items.len() as u64 + left <= PAGE_ROWS_MAX as u64, "a page is bounded");
    Ok((!place.is_empty()).then_some(Page { items, left, place, unreadable: Vec::new() }))
}

impl Embedded {
    /// Like [`page`], but goes on behind what cannot be read, and says what that was.
    fn sound_page(
        &self,
        view: &View<'_>,
        number: u8,
        table: Table,
        after: Option<&[u8]>,
    ) -> Result<Option<Page>, Failure> {
        let (mut items, mut left, mut place, mut bytes) = (Vec::new(), 0, Vec::new(), 0);
        let (mut channels, mut unreadable) = (Channels { view, last: None }, Vec::new());
        let mut rows = self.sound_rows(table, after)?;
        for (key, value) in rows.by_ref().take(PAGE_ROWS_MAX) {
            place.clear();
            place.push(number);
            place.extend_from_slice(&key);
            bytes += key.len() + value.len();
            match Item::of(table, &key, &value) {
                // A row that cannot be looked at says nothing: then this one is moved.
                Ok(item) if is_left_over(view, &mut channels, &item).unwrap_or(false) => left += 1,
                Ok(item) => items.push(item),
                Err(failure) => unreadable.push(failure.to_string()),
            }
            if bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        unreadable.extend(rows.take_damages());
        if place.is_empty() && !unreadable.is_empty() {
            // Only damage was left in this table: the next page begins with the next.
            place.push(number + 1);
        }
        Ok((!place.is_empty()).then_some(Page { items, left, place, unreadable }))
    }
}

/// Whether this row is a leftover of something deleted.
fn is_left_over(view: &View<'_>, channels: &mut Channels<'_>, item: &Item) -> Result<bool, Failure> {
    let is_there = |user| view.contains(Table::Accounts, &keys::account(user));
    Ok(match item {
        Item::Member(group, ..) => !view.contains(Table::Groups, &keys::group(*group))?,
        Item::Edge(user, other, _) => !is_there(*user)? || !is_there(*other)?,
        Item::Notification(user, _) | Item::Inbox(user, _) | Item::FriendCounts(user, _) => !is_there(*user)?,
        Item::Object(object) => !is_there(object.id.owner)?,
        Item::ObjectCounts(user, _) => !is_there(*user)?,
        Item::Message(message) => channels.is_gone(&message.channel)?,
        Item::Head(channel, _) => channels.is_gone(channel)?,
        _ => false,
    })
}

/// Tells whether the group of a channel has been deleted. Caches the last answer, because many messages of one channel
/// follow each other.
struct Channels<'v> {
    view: &'v View<'v>,
    last: Option<(ChannelId, bool)>,
}

impl Channels<'_> {
    fn is_gone(&mut self, channel: &ChannelId) -> Result<bool, Failure> {
        let ChannelKind::Group(group) = channel.kind() else { return Ok(false) };
        if let Some((_, gone)) = self.last.as_ref().filter(|(last, _)| last == channel) {
            return Ok(*gone);
        }
        let gone = !self.view.contains(Table::Groups, &keys::group(group))?;
        self.last = Some((channel.clone(), gone));
        Ok(gone)
    }
}

impl Target for &Embedded {
    fn begun(&self) -> Result<Option<Note>, Failure> {
        let tables = self.tables()?;
        if let Some(note) = tables.read(Table::Meta, keys::MOVE, record::decode_note)? {
            return Ok(Some(note));
        }
        if tables.meta(self.directory.path())?.epoch == Epoch(0) {
            return Ok(None);
        }
        let path = self.directory.path().display();
        Err(Failure::InUse(format!("a server has used {path} already: a store is moved into an empty one")))
    }

    fn put(&mut self, items: Vec<Item>, note: &Note) -> Result<(), Failure> {
        self.room.check()?;
        self.write_with(|draft| {
            for item in &items {
                put(draft, item)?;
            }
            draft.put(Table::Meta, keys::MOVE.into(), record::encode_note(note));
            Ok(())
        })
    }

    fn end(&mut self, note: &Note) -> Result<(), Failure> {
        let tables = self.tables()?;
        for table in MOVED {
            note.counts.check(table, rows_of(tables, table)?)?;
        }
        let epoch = Epoch(note.epoch);
        self.write_with(|draft| {
            draft.put(Table::Meta, keys::META.into(), record::encode_meta(&StoreMeta { format: FORMAT, epoch }));
            draft.put(Table::Meta, keys::MOVE.into(), record::encode_note(note));
            Ok(())
        })
    }
}

impl Embedded {
    fn write_with(&self, change: impl FnOnce(&mut Draft<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut cache = CommitCache::default();
        let mut draft = Draft::new(self.tables()?, &mut cache);
        change(&mut draft)?;
        self.write(draft)
    }

    /// Refuses to work with a store whose move is not finished.
    pub(super) fn check_moved(&self) -> Result<(), Failure> {
        let note = self.tables()?.get(Table::Meta, keys::MOVE)?;
        match note.map(|note| decoded(Table::Meta, record::decode_note(&note))).transpose()? {
            Some(note) if !note.done => Err(Failure::InUse(format!(
                "the move of {} into {} is not finished: go on with it first",
                note.source,
                self.directory.path().display()
            ))),
            _ => Ok(()),
        }
    }
}

/// Writes a row, and the rows derived from it.
fn put(draft: &mut Draft<'_>, item: &Item) -> Result<(), Failure> {
    match item {
        Item::Account(account) => {
            draft.put(Table::Usernames, keys::username(&account.username), record::encode_username(account.id));
        }
        Item::Group(group) => {
            draft.put_group(None, group);
            return Ok(());
        }
        Item::Member(group, user, membership) => return draft.set_membership(*group, *user, None, Some(*membership)),
        Item::Revocation(revocation) => {
            draft.put_revocation(None, revocation);
            return Ok(());
        }
        // Each page of a move notes its passages anew: that is more than are needed, and no fewer.
        Item::Message(message) => drop(draft.note_passage(message)),
        Item::Edge(user, other, edge) => {
            draft.set_edge(*user, *other, None, Some(edge.clone()));
            return Ok(());
        }
        Item::Object(object) => {
            draft.put_object(None, object);
            return Ok(());
        }
        _ => {}
    }
    let (table, key, value) = item.row();
    draft.put(table, key, value);
    Ok(())
}
