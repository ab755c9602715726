//! Reads objects and their lists, each call from one snapshot.

use std::collections::HashMap;

use engine::id::UserId;

use super::failures::{decoded, parsed};
use super::tables::View;
use super::walk::Direction;
use crate::keys::{self, Table};
use crate::object::{Object, ObjectId, ObjectListing, ObjectPlace, ObjectsPart, ReadPermission, is_object_name};
use crate::{Failure, Part, record};

impl View<'_> {
    /// See [`Store::objects`](crate::Store::objects).
    pub fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        let (mut owners, mut objects) = (Owners::default(), Vec::new());
        for id in ids.iter().filter(|id| id.can_exist()) {
            if owners.has(self, id.owner)? {
                objects.extend(self.object(id)?);
            }
        }
        Ok(objects)
    }

    /// See [`Store::objects_part`](crate::Store::objects_part).
    pub fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        let mut part = ObjectsPart::of(limit);
        let span = keys::objects(listing, after).filter(|_| is_object_name(listing.collection()));
        let Some(span) = span else { return Ok(part.end(None)) };
        let table = if listing.owner().is_some() { Table::Objects } else { Table::PublicObjects };
        let mut walk = self.walk(table, span, Direction::Rising);
        let mut owners = Owners::default();
        part.add_all(walk.by_ref().map(|row| {
            let (key, value) = row?;
            let (id, read) = match table {
                Table::Objects => parsed(table, keys::object_id(&key))?,
                _ => (parsed(table, keys::public_object_id(&key))?, ReadPermission::Public),
            };
            if !owners.has(self, id.owner)? {
                return Ok(None);
            }
            match table {
                Table::Objects => decoded(table, record::decode_object((id, read), &value)).map(Some),
                _ => self.object_of(&id, read),
            }
        }))?;
        let stopped = walk.stopped().map(|key| parsed(table, keys::object_place(listing, key))).transpose()?;
        Ok(part.end(stopped))
    }

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Failure> {
        for read in ReadPermission::ALL {
            if let Some(object) = self.object_of(id, read)? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    fn object_of(&self, id: &ObjectId, read: ReadPermission) -> Result<Option<Object>, Failure> {
        let decode = |bytes: &[u8]| record::decode_object((id.clone(), read), bytes);
        self.read(Table::Objects, &keys::object(id, read), decode)
    }
}

/// Which owners have accounts, as far as they were looked up: the objects of deleted accounts are removed later.
#[derive(Default)]
struct Owners(HashMap<UserId, bool>);

impl Owners {
    fn has(&mut self, view: &View<'_>, owner: UserId) -> Result<bool, Failure> {
        if let Some(known) = self.0.get(&owner) {
            return Ok(*known);
        }
        let found = view.contains(Table::Accounts, &keys::account(owner))?;
        self.0.insert(owner, found);
        Ok(found)
    }
}
