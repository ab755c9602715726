//! The table `objects`: a user's objects, in the order of their lists. `object_counts` has how many they are, and
//! `public_objects` which of them are public.

use engine::id::{Timestamp, UserId};
use scylla::DeserializeRow;
use scylla::value::CqlValue;
use storage::Failure;
use storage::object::{Object, ObjectId, ObjectListing, ObjectPlace, ObjectVersion, ReadPermission, WritePermission};

use super::{Mutation, Query, Statement, big, bytes, id, int, known, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS objects (
  user_id uuid, collection text, may_read int, object_key text, value text, version blob, may_write int,
  create_ns bigint, update_ns bigint, PRIMARY KEY ((user_id), collection, may_read, object_key))";

pub(super) const ONE: &str = "SELECT collection, may_read, object_key, value, version, may_write, create_ns, update_ns FROM objects WHERE user_id = ? AND collection = ? AND may_read IN (0, 1, 2) AND object_key = ?";
pub(super) const BETWEEN: &str = "SELECT collection, may_read, object_key, value, version, may_write, create_ns, update_ns FROM objects WHERE user_id = ? AND (collection, may_read, object_key) > (?, ?, ?) AND (collection, may_read, object_key) < (?, ?, ?) LIMIT ?";
pub(super) const PAGE: &str = "SELECT collection, may_read, object_key, value, version, may_write, create_ns, update_ns FROM objects WHERE user_id = ? AND (collection, may_read, object_key) > (?, ?, ?) LIMIT ?";
pub(super) const NAMES: &str = "SELECT collection, may_read, object_key FROM objects WHERE user_id = ? AND (collection, may_read, object_key) > (?, ?, ?) LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO objects (user_id, collection, may_read, object_key, value, version, may_write, create_ns, update_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str =
    "DELETE FROM objects USING TIMESTAMP ? WHERE user_id = ? AND collection = ? AND may_read = ? AND object_key = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM objects USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM objects";

/// An object's columns, without its owner.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    collection: String,
    may_read: i32,
    object_key: String,
    value: String,
    version: Vec<u8>,
    may_write: i32,
    create_ns: i64,
    update_ns: i64,
}

/// The columns that name an object, without its owner.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct NameRow {
    pub collection: String,
    may_read: i32,
    pub object_key: String,
}

/// A place among the objects of a user: a collection, a number of a permission, and a key.
#[derive(Clone, Debug)]
pub struct Name {
    pub collection: String,
    pub read: i32,
    pub key: String,
}

impl Row {
    /// The object of this user. Fails with [`Failure::Corrupt`] if a permission or the version is none.
    pub fn object(self, owner: UserId) -> Result<Object, Failure> {
        let version = <[u8; 16]>::try_from(self.version.as_slice());
        let version = version.map_err(|_| Failure::Corrupt("an object's version in the database is none".into()))?;
        let write = WritePermission::from_number(self.may_write);
        Ok(Object {
            id: ObjectId { owner, collection: self.collection, key: self.object_key },
            value: self.value,
            version: ObjectVersion(version),
            read: read(self.may_read)?,
            write: known("a permission to write", self.may_write, write)?,
            create_time: Timestamp(self.create_ns),
            update_time: Timestamp(self.update_ns),
        })
    }
}

impl NameRow {
    /// The permission. Fails with [`Failure::Corrupt`] if it is none.
    pub fn read(&self) -> Result<ReadPermission, Failure> {
        read(self.may_read)
    }

    /// The place of this object.
    pub fn name(self) -> Name {
        Name { collection: self.collection, read: self.may_read, key: self.object_key }
    }
}

impl Name {
    /// Before all objects: their collections have names.
    pub const FIRST: Self = Self { collection: String::new(), read: 0, key: String::new() };

    /// The place of an object.
    pub fn of(object: &Object) -> Self {
        let ObjectId { collection, key, .. } = object.id.clone();
        Self { collection, read: object.read as i32, key }
    }

    /// The places before and after the objects of a listing of one owner that follow a place.
    pub fn span(listing: &ObjectListing, after: Option<&ObjectPlace>) -> [Self; 2] {
        let of = |read: i32, key: &str| Self { collection: listing.collection().into(), read, key: key.into() };
        // No key is empty.
        let first = (listing.first_permission(), "");
        let from = after.map_or(first, |after| first.max((after.read, &after.key)));
        [of(from.0 as i32, from.1), of(ReadPermission::Public as i32 + 1, "")]
    }

    fn values(&self) -> [CqlValue; 3] {
        [text(&self.collection), int(self.read), text(&self.key)]
    }
}

fn read(number: i32) -> Result<ReadPermission, Failure> {
    known("a permission to read", number, ReadPermission::from_number(number))
}

/// Writes an object.
pub fn put(object: &Object) -> Mutation {
    let rest = [
        text(&object.value),
        bytes(&object.version.0),
        int(object.write as i32),
        big(object.create_time.0),
        big(object.update_time.0),
    ];
    Mutation::new(Statement::PutObject, key(object).into_iter().chain(rest).collect::<Vec<_>>())
}

/// Deletes an object. It must be as it was when it was written.
pub fn delete(object: &Object) -> Mutation {
    Mutation::new(Statement::DeleteObject, key(object))
}

/// Deletes all objects of a user.
pub fn delete_all(owner: UserId) -> Mutation {
    Mutation::new(Statement::DeleteObjects, [id(owner.0)])
}

fn key(object: &Object) -> [CqlValue; 4] {
    let [collection, read, key] = Name::of(object).values();
    [id(object.id.owner.0), collection, read, key]
}

/// The object with these names, whatever its permission is.
pub fn one(of: &ObjectId) -> Query<Row> {
    Query::new(Statement::Object, [id(of.owner.0), text(&of.collection), text(&of.key)])
}

/// Objects of a user between two places, without these two.
pub fn between(owner: UserId, places: &[Name; 2], limit: usize) -> Query<Row> {
    let places = places.iter().flat_map(Name::values);
    let values = [id(owner.0)].into_iter().chain(places).chain([int(limit_of(limit))]);
    Query::new(Statement::ObjectsBetween, values.collect::<Vec<_>>())
}

/// Objects of a user in all collections, after a place.
pub fn page(owner: UserId, after: &Name, limit: usize) -> Query<Row> {
    Query::new(Statement::Objects, after_place(owner, after, limit))
}

/// The names of a user's objects in all collections, after a place.
pub fn names(owner: UserId, after: &Name, limit: usize) -> Query<NameRow> {
    Query::new(Statement::ObjectNames, after_place(owner, after, limit))
}

fn after_place(owner: UserId, after: &Name, limit: usize) -> Vec<CqlValue> {
    [id(owner.0)].into_iter().chain(after.values()).chain([int(limit_of(limit))]).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_object_comes_back() {
        for (number, write) in [(0, 0), (1, 1), (2, 1)] {
            let id = ObjectId { owner: UserId(Uuid::from_u128(7)), collection: "c".into(), key: "k".into() };
            let object = Object {
                id: id.clone(),
                value: "{}".into(),
                version: ObjectVersion([7; 16]),
                read: ReadPermission::from_number(number).unwrap(),
                write: WritePermission::from_number(write).unwrap(),
                create_time: Timestamp(-1),
                update_time: Timestamp(i64::MAX),
            };
            let mut row = put(&object);
            let places = [Name::FIRST, Name { read: 3, ..Name::of(&object) }];
            for found in [one(&id), between(id.owner, &places, 1), page(id.owner, &Name::FIRST, 1)] {
                assert_eq!(read_back(TABLE, &row, found).object(id.owner).as_ref(), Ok(&object));
            }
            let name = read_back(TABLE, &row, names(id.owner, &Name::FIRST, 1));
            assert_eq!((name.read(), name.name().key), (Ok(object.read), id.key.clone()));
            check_delete(&row, &delete(&object));
            check_delete(&row, &delete_all(id.owner));
            row.values[5] = bytes(&[7; 15]);
            assert!(matches!(read_back(TABLE, &row, one(&id)).object(id.owner), Err(Failure::Corrupt(_))));
        }
    }

    #[test]
    fn a_list_begins_with_its_first_permission() {
        let owner = UserId(Uuid::nil());
        let span = |listing: &ObjectListing, after: Option<(ReadPermission, &str)>| {
            let after = after.map(|(read, key)| ObjectPlace { read, key: key.into(), owner });
            Name::span(listing, after.as_ref()).map(|name| (name.read, name.key))
        };
        let own = ObjectListing::Own { owner, collection: "c".into() };
        let public = ObjectListing::PublicOf { owner, collection: "c".into() };
        let end = || (3, String::new());
        assert_eq!(span(&own, None), [(1, String::new()), end()]);
        assert_eq!(span(&own, Some((ReadPermission::Owner, "k"))), [(1, "k".into()), end()]);
        assert_eq!(span(&public, Some((ReadPermission::Owner, "k"))), [(2, String::new()), end()]);
        assert_eq!(span(&public, Some((ReadPermission::Public, "k"))), [(2, "k".into()), end()]);
    }
}
