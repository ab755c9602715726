//! Objects for the tests of the laws, named by short texts.

use storage::object::{
    ObjectCondition, ObjectDelete, ObjectId, ObjectListing, ObjectVersion, ObjectWrite, ReadPermission, WritePermission,
};
use storage::{Store, Write};

use super::user;

/// An object that its owner alone may read and write, whatever is stored.
pub fn object(collection: &str, key: &str, value: &str) -> ObjectWrite {
    ObjectWrite {
        collection: collection.into(),
        key: key.into(),
        value: value.into(),
        version: version(value),
        condition: ObjectCondition::Anything,
        read: ReadPermission::Owner,
        write: WritePermission::Owner,
    }
}

/// A version that differs for the few values of the tests: their beginnings.
pub fn version(value: &str) -> ObjectVersion {
    let mut bytes = [0xa7; 16];
    bytes.iter_mut().zip(value.bytes()).for_each(|(to, from)| *to = from);
    ObjectVersion(bytes)
}

pub fn id(owner: u32, collection: &str, key: &str) -> ObjectId {
    ObjectId { owner: user(owner), collection: collection.into(), key: key.into() }
}

/// Deletes objects by collection, key and version.
pub fn delete_objects(owner: u32, deletes: &[(&str, &str, Option<&str>)]) -> Write {
    let delete = |(collection, key, version): &(&str, &str, Option<&str>)| ObjectDelete {
        collection: (*collection).into(),
        key: (*key).into(),
        version: version.map(str::to_owned),
    };
    Write::DeleteObjects { owner: user(owner), objects: deletes.iter().map(delete).collect() }
}

pub fn own(owner: u32, collection: &str) -> ObjectListing {
    ObjectListing::Own { owner: user(owner), collection: collection.into() }
}

pub fn public_of(owner: u32, collection: &str) -> ObjectListing {
    ObjectListing::PublicOf { owner: user(owner), collection: collection.into() }
}

pub fn public(collection: &str) -> ObjectListing {
    ObjectListing::Public { collection: collection.into() }
}

/// The collections of the tests that compare stores.
pub const COLLECTIONS: [&str; 2] = ["c", "cc"];

/// Compares the objects of these users in both stores.
pub fn compare_objects(model: &dyn Store, other: &dyn Store, users: u32) {
    for collection in COLLECTIONS {
        for one in 1..=users {
            for listing in [own(one, collection), public_of(one, collection)] {
                assert_eq!(model.object_list(&listing, None, 9999), other.object_list(&listing, None, 9999));
            }
            assert_eq!(model.object_counts(user(one)), other.object_counts(user(one)));
        }
        let all = model.object_list(&public(collection), None, 9999);
        assert_eq!(all, other.object_list(&public(collection), None, 9999));
        let middle = all.ok().and_then(|all| all.get(1).map(|object| object.place()));
        let rest = |store: &dyn Store| store.object_list(&public(collection), middle.clone(), 2);
        assert_eq!(rest(model), rest(other));
    }
}
