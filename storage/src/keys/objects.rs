//! The keys of objects: their own, which are also the lists of their owners, and those of the list of public ones.
//!
//! Collections and keys of objects have no NUL, so a NUL ends them.

use std::ops::Bound;

use engine::id::UserId;
use uuid::Uuid;

use super::{ID_BYTES, Span, forwards};
use crate::object::{
    Object, ObjectId, ObjectListing, ObjectPlace, ReadPermission, public_place, split_public_place, until_nul,
};

/// The key in `objects` of an object that these users may read.
pub fn object(id: &ObjectId, read: ReadPermission) -> Vec<u8> {
    let key = [&collection(id.owner, &id.collection)[..], &[read as u8], id.key.as_bytes()].concat();
    debug_assert!(
        !id.can_exist() || object_id(&key).as_ref() == Some(&(id.clone(), read)),
        "an object's key says it all"
    );
    key
}

/// What a key of `objects` names, and who may read it.
pub fn object_id(key: &[u8]) -> Option<(ObjectId, ReadPermission)> {
    let (owner, rest) = key.split_first_chunk::<ID_BYTES>()?;
    let (collection, rest) = until_nul(rest)?;
    let (read, key) = rest.split_first()?;
    let id = ObjectId {
        owner: UserId(Uuid::from_bytes(*owner)),
        collection,
        key: std::str::from_utf8(key).ok()?.to_owned(),
    };
    Some((id, ReadPermission::from_number(i32::from(*read))?))
}

/// The key in `public_objects`.
pub fn public_object(id: &ObjectId) -> Vec<u8> {
    let key = [id.collection.as_bytes(), &[0], &public_place(&id.key, id.owner)].concat();
    debug_assert!(
        !id.can_exist() || public_object_id(&key).as_ref() == Some(id),
        "an entry says which object it is of"
    );
    key
}

/// The object that a key of `public_objects` names.
pub fn public_object_id(key: &[u8]) -> Option<ObjectId> {
    let (collection, rest) = until_nul(key)?;
    let (key, owner) = split_public_place(rest)?;
    Some(ObjectId { owner, collection, key })
}

/// The rows of a list in its table, after a place; `None` if there are none.
pub fn objects(listing: &ObjectListing, after: Option<&ObjectPlace>) -> Option<Span> {
    let [first, end] = match listing {
        ObjectListing::Own { owner, collection } | ObjectListing::PublicOf { owner, collection } => {
            let [first, last] = [listing.first_permission(), ReadPermission::Public].map(|read| read as u8);
            [first, last + 1].map(|read| [&self::collection(*owner, collection)[..], &[read]].concat())
        }
        ObjectListing::Public { collection } => [0, 1].map(|end| [collection.as_bytes(), &[end]].concat()),
    };
    let after = after.map(|ObjectPlace { read, key, owner }| match listing {
        ObjectListing::Own { owner, collection } | ObjectListing::PublicOf { owner, collection } => {
            [&self::collection(*owner, collection)[..], &[*read as u8], key.as_bytes()].concat()
        }
        ObjectListing::Public { collection } => [collection.as_bytes(), &[0], &public_place(key, *owner)].concat(),
    });
    let from = match after {
        Some(after) if after >= end => return None,
        Some(after) if after >= first => Bound::Excluded(after),
        _ => Bound::Included(first),
    };
    Some(forwards((from, Bound::Excluded(end))))
}

/// The place of an object in a list that has this key in its table.
pub fn object_place(listing: &ObjectListing, key: &[u8]) -> Option<ObjectPlace> {
    let (id, read) = match listing {
        ObjectListing::Own { .. } | ObjectListing::PublicOf { .. } => object_id(key)?,
        ObjectListing::Public { .. } => (public_object_id(key)?, ReadPermission::Public),
    };
    Some(ObjectPlace { read, key: id.key, owner: id.owner })
}

/// The key of a public object's entry; `None` if the object is not public.
pub fn entry_of(object: &Object) -> Option<Vec<u8>> {
    (object.read == ReadPermission::Public).then(|| public_object(&object.id))
}

/// The common prefix of the keys of a user's objects in a collection.
fn collection(owner: UserId, collection: &str) -> Vec<u8> {
    [owner.0.as_bytes(), collection.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn ids()(owner in 0u128..3, collection in "[ab\u{1}é]{1,3}", key in "[ab\u{1}\u{2}é]{1,3}") -> ObjectId {
            ObjectId { owner: UserId(Uuid::from_u128(owner)), collection, key }
        }
    }

    fn reads() -> impl Strategy<Value = ReadPermission> {
        (0..3).prop_filter_map("a permission", ReadPermission::from_number)
    }

    fn listings() -> impl Strategy<Value = ObjectListing> {
        (0..3, ids()).prop_map(|(kind, ObjectId { owner, collection, .. })| match kind {
            0 => ObjectListing::Own { owner, collection },
            1 => ObjectListing::PublicOf { owner, collection },
            _ => ObjectListing::Public { collection },
        })
    }

    proptest! {
        #[test]
        fn a_key_says_what_it_is_of(id in ids(), read in reads()) {
            prop_assert_eq!(object_id(&object(&id, read)), Some((id.clone(), read)));
            prop_assert_eq!(public_object_id(&public_object(&id)), Some(id));
        }

        #[test]
        fn a_list_has_its_rows_after_a_place_and_no_others(
            listing in listings(),
            (id, read) in (ids(), reads()),
            after in prop::option::of((reads(), ids())),
        ) {
            let after = after.map(|(read, id)| ObjectPlace { read, key: id.key, owner: id.owner });
            let has = |key: Vec<u8>| objects(&listing, after.as_ref()).is_some_and(|span| span.contains(&key));
            let place = ObjectPlace { read, key: id.key.clone(), owner: id.owner };
            let in_collection = id.collection == listing.collection();
            let expected = |is_behind: bool| in_collection && (after.is_none() || is_behind);
            match listing.owner() {
                Some(owner) => {
                    let behind = after.as_ref().is_none_or(|after| (read, &id.key) > (after.read, &after.key));
                    let listed = owner == id.owner && read >= listing.first_permission();
                    prop_assert_eq!(has(object(&id, read)), listed && expected(behind));
                    prop_assert_eq!(object_place(&listing, &object(&id, read)), Some(place));
                }
                None => {
                    let behind = after.as_ref().is_none_or(|after| (&id.key, id.owner) > (&after.key, after.owner));
                    prop_assert_eq!(has(public_object(&id)), expected(behind));
                }
            }
        }

        #[test]
        fn byte_order_is_the_order_of_keys_and_owners(one in ids(), other in ids()) {
            let of = |id: &ObjectId| (id.collection.clone(), id.key.clone(), id.owner);
            prop_assert_eq!(public_object(&one).cmp(&public_object(&other)), of(&one).cmp(&of(&other)));
        }

        #[test]
        fn arbitrary_keys_do_not_panic(key in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..60)) {
            let (_, _, _) = (object_id(&key), public_object_id(&key), split_public_place(&key));
        }
    }
}
