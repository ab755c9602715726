//! The table `public_objects`: which objects of a collection all may read, in the order of their keys. The shard is a hash
//! of the owner's id. An entry may be older than its object, so a reader looks at the object.

use engine::id::UserId;
use storage::Failure;
use storage::object::{Object, ObjectId, ObjectPlace, ReadPermission, public_place, split_public_place};

use super::{Mutation, Query, Statement, bytes, int, limit_of, shard_of, text};

/// The definition. The place is the key, NUL and the owner's id.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS public_objects (
  collection text, shard int, place blob, PRIMARY KEY ((collection, shard), place))";

pub(super) const PAGE: &str =
    "SELECT place FROM public_objects WHERE collection = ? AND shard = ? AND place > ? LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO public_objects (collection, shard, place) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str =
    "DELETE FROM public_objects USING TIMESTAMP ? WHERE collection = ? AND shard = ? AND place = ?";

/// Shards of a collection.
pub const SHARDS: i32 = 16;

/// Writes the entry of a public object.
pub fn put(of: &ObjectId) -> Mutation {
    Mutation::new(Statement::PutPublicObject, key(of))
}

/// Deletes the entry of an object.
pub fn delete(of: &ObjectId) -> Mutation {
    Mutation::new(Statement::DeletePublicObject, key(of))
}

fn key(of: &ObjectId) -> [scylla::value::CqlValue; 3] {
    let place = public_place(&of.key, of.owner);
    [text(&of.collection), int(shard_of(of.owner.0, SHARDS)), bytes(&place)]
}

/// Entries of one shard of a collection after a place.
pub fn page(collection: &str, shard: i32, after: &[u8], limit: usize) -> Query<(Vec<u8>,)> {
    debug_assert!((0..SHARDS).contains(&shard), "there is no shard {shard}");
    Query::new(Statement::PublicObjects, [text(collection), int(shard), bytes(after), int(limit_of(limit))])
}

/// The key and the owner in an entry's place. Fails with [`Failure::Corrupt`] if it is none.
pub fn named(place: &[u8]) -> Result<(String, UserId), Failure> {
    split_public_place(place).ok_or_else(|| Failure::Corrupt("the place of a public object is none".into()))
}

/// The place of a public object in lists.
pub fn place_of(key: String, owner: UserId) -> ObjectPlace {
    ObjectPlace { read: ReadPermission::Public, key, owner }
}

/// The entry of an object, if it has one.
pub fn entry_of(object: &Object) -> Option<&ObjectId> {
    (object.read == ReadPermission::Public).then_some(&object.id)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_entry_comes_back() {
        let id = ObjectId { owner: UserId(Uuid::from_u128(7)), collection: "c".into(), key: "kéy".into() };
        let row = put(&id);
        let (place,) = read_back(TABLE, &row, page("c", shard_of(id.owner.0, SHARDS), b"", 1));
        assert_eq!(named(&place), Ok((id.key.clone(), id.owner)));
        check_delete(&row, &delete(&id));
        assert!(matches!(named(b"no place"), Err(Failure::Corrupt(_))));
    }
}
