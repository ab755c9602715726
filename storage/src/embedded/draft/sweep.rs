//! Removes the remaining rows of deleted things, a bounded number with each group of writes. So a deletion costs the
//! same however many rows belong to what is deleted.

use engine::id::{ChannelId, GroupId, UserId};
use uuid::Uuid;

use super::Draft;
use crate::Failure;
use crate::embedded::failures::parsed;
use crate::keys::{self, Listed, Span, Table};
use crate::object::ReadPermission;
use crate::record::{self, Leftover};
use crate::rows::Rows;

/// Rows removed with one group of writes, each with up to three counterparts: this takes a millisecond or two.
pub const SWEEP_ROWS_MAX: usize = 256;

/// The remaining rows of something deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remains {
    /// The group's memberships and its channel's history. The notes that its members have written there stay until the
    /// members are deleted.
    Group(GroupId),
    /// Bans, friends and blocks (both sides), notifications, objects.
    User(UserId),
    /// The notes of where a user has written, and in which passages.
    Author(UserId),
}

impl Remains {
    fn key(self) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Group(group) => (0, group.0),
            Self::User(user) => (1, user.0),
            Self::Author(user) => (2, user.0),
        };
        let key = [&[kind], id.as_bytes().as_slice()].concat();
        debug_assert_eq!(Self::of(&key), Some(self), "the key of a leftover says what it was");
        key
    }

    fn of(key: &[u8]) -> Option<Self> {
        let (kind, id) = key.split_first()?;
        let id = Uuid::from_bytes(id.try_into().ok()?);
        match kind {
            0 => Some(Self::Group(GroupId(id))),
            1 => Some(Self::User(UserId(id))),
            2 => Some(Self::Author(UserId(id))),
            _ => None,
        }
    }

    /// The tables of its rows, and the prefixes of their keys.
    fn places(self) -> Vec<(Table, Vec<u8>)> {
        match self {
            Self::Group(group) => vec![
                (Table::Rosters, keys::group(group)),
                (Table::Messages, keys::channel_prefix(&ChannelId::group(group))),
            ],
            Self::User(user) => {
                // Kept leftovers have a place in this list: a new table comes at its end.
                let tables = [Table::UserGroups, Table::Friends, Table::Notifications, Table::Objects];
                tables.map(|table| (table, keys::user(user))).into()
            }
            Self::Author(user) => vec![(Table::Authored, keys::user(user)), (Table::Passages, keys::user(user))],
        }
    }

    /// Single rows that are removed last.
    fn last_rows(self) -> Vec<(Table, Vec<u8>)> {
        match self {
            Self::Group(group) => vec![(Table::Heads, keys::head(&ChannelId::group(group)))],
            Self::User(user) => {
                [Table::FriendCounts, Table::Inboxes, Table::ObjectCounts].map(|table| (table, keys::user(user))).into()
            }
            Self::Author(_) => vec![],
        }
    }
}

/// How a walk over rows to be swept ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// At the end of the rows, or with as many as were asked for.
    Ended,
    /// It has examined as many rows as a walk may.
    Stopped,
}

impl Draft<'_> {
    /// Notes that there is something to sweep.
    pub fn leave_over(&mut self, remains: Remains) {
        self.put(Table::Leftovers, remains.key(), record::encode_leftover(&Leftover::default()));
        self.cache.sweeping = true;
    }

    /// Removes rows up to the bound, and notes the rest.
    pub fn sweep_first(&mut self, remains: Remains) -> Result<(), Failure> {
        self.leave_over(remains);
        match self.sweep_one(remains, Leftover::default(), SWEEP_ROWS_MAX) {
            // Too many removed rows come first: the rest is noted, and later writes find the way past them.
            Err(Failure::Passing(_)) => Ok(()),
            swept => swept.map(|_| ()),
        }
    }

    /// Removes leftover rows up to the bound. If some are damaged, sweeping stops until there are new leftovers or
    /// until the next start; writes are not affected.
    pub fn sweep(&mut self) {
        let mut rows = SWEEP_ROWS_MAX;
        while self.cache.sweeping && rows > 0 {
            match self.attempt(|draft| draft.sweep_next(rows)) {
                Ok(Some(swept)) => {
                    assert!(swept <= rows, "{swept} rows were swept, and {rows} was the bound");
                    rows -= swept;
                }
                Ok(None) => self.cache.sweeping = false,
                // Later writes find the way past removed rows.
                Err(Failure::Passing(_)) => return,
                Err(failure) => {
                    tracing::warn!(%failure, "rows that nothing leads to cannot be removed");
                    self.cache.sweeping = false;
                }
            }
        }
    }

    /// Returns how much of the bound is used up, or `None` if there are no leftovers.
    fn sweep_next(&mut self, rows_max: usize) -> Result<Option<usize>, Failure> {
        let Some(row) = self.rows(Table::Leftovers, keys::beginning_with(&[], None)).next().transpose()? else {
            return Ok(None);
        };
        let remains = parsed(Table::Leftovers, Remains::of(&row.0))?;
        let leftover = super::decoded(Table::Leftovers, record::decode_leftover(&row.1))?;
        self.sweep_one(remains, leftover, rows_max).map(Some)
    }

    fn sweep_one(&mut self, remains: Remains, mut leftover: Leftover, rows_max: usize) -> Result<usize, Failure> {
        let mut swept = 0;
        for (table, prefix) in remains.places().into_iter().skip(usize::from(leftover.step)) {
            let after = Some(leftover.from.as_slice()).filter(|from| !from.is_empty());
            let (keys, way) = self.rows_to_sweep(table, keys::beginning_with(&prefix, after), rows_max - swept)?;
            for key in &keys {
                self.sweep_row(table, key)?;
            }
            swept += keys.len();
            if let Some(last) = keys.last().filter(|_| swept == rows_max || way == Way::Stopped) {
                leftover.from.clone_from(last);
                self.put(Table::Leftovers, remains.key(), record::encode_leftover(&leftover));
                return Ok(if way == Way::Stopped { rows_max } else { swept });
            }
            leftover = Leftover { step: leftover.step + 1, from: Vec::new() };
        }
        for (table, key) in remains.last_rows() {
            self.delete(table, key);
        }
        self.delete(Table::Leftovers, remains.key());
        Ok(swept)
    }

    /// The first rows of a span, and whether the walk came to their end. Fails only if the walk stopped before it found
    /// one: then all that it has examined is a hollow, and the next walk jumps over it.
    fn rows_to_sweep(&self, table: Table, span: Span, rows_max: usize) -> Result<(Vec<Vec<u8>>, Way), Failure> {
        let mut keys = Vec::new();
        for row in self.rows(table, span).take(rows_max) {
            match row {
                Ok((key, _)) => keys.push(key),
                Err(Failure::Passing(_)) if !keys.is_empty() => return Ok((keys, Way::Stopped)),
                Err(failure) => return Err(failure),
            }
        }
        Ok((keys, Way::Ended))
    }

    /// Removes a row with its counterparts.
    fn sweep_row(&mut self, table: Table, key: &[u8]) -> Result<(), Failure> {
        let listed = || parsed(table, Listed::of(key));
        match table {
            Table::Rosters => {
                let listed = listed()?;
                self.sweep_membership(GroupId(listed.owner), UserId(listed.id))?;
            }
            Table::UserGroups => {
                let listed = listed()?;
                self.sweep_membership(GroupId(listed.id), UserId(listed.owner))?;
            }
            Table::Friends => {
                let listed = listed()?;
                self.sweep_pair(UserId(listed.owner), UserId(listed.id))?;
            }
            Table::Objects => {
                let (id, read) = parsed(table, keys::object_id(key))?;
                if read == ReadPermission::Public {
                    self.delete(Table::PublicObjects, keys::public_object(&id));
                }
            }
            _ => {}
        }
        self.delete(table, key.to_vec());
        Ok(())
    }

    fn sweep_membership(&mut self, group: GroupId, user: UserId) -> Result<(), Failure> {
        let membership = self.membership(group, user)?;
        self.set_membership(group, user, membership, None)
    }

    /// Removes both sides of a pair of which one user is deleted, and corrects the other user's friend counts.
    fn sweep_pair(&mut self, gone: UserId, other: UserId) -> Result<(), Failure> {
        let own = self.edge(gone, other)?;
        self.set_edge(gone, other, own, None);
        let Some(others) = self.edge(other, gone)? else {
            return Ok(());
        };
        let friend_counts = self.friend_counts(other)?;
        let state = others.state;
        self.set_edge(other, gone, Some(others), None);
        self.set_friend_counts(other, friend_counts.moved(Some(state), None));
        Ok(())
    }
}
