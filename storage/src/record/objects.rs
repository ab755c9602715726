//! Records of objects.

use engine::id::Timestamp;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, access, encode};
use crate::object::{Object, ObjectCounts, ObjectId, ObjectVersion, ReadPermission, WritePermission};

/// An object without the parts that its key contains: its names and who may read it.
#[derive(Archive, Serialize)]
struct ObjectV1<'a> {
    version: [u8; 16],
    create_time: i64,
    update_time: i64,
    write: u8,
    #[rkyv(with = InlineAsBox)]
    value: &'a str,
}

#[derive(Archive, Serialize, Deserialize)]
struct ObjectCountsV1 {
    objects: u32,
    bytes: u64,
}

pub(crate) fn encode_object(object: &Object) -> Vec<u8> {
    encode(
        Kind::Object,
        &ObjectV1 {
            version: object.version.0,
            create_time: object.create_time.0,
            update_time: object.update_time.0,
            write: object.write as u8,
            value: &object.value,
        },
    )
}

/// The object under the key of these names.
pub(crate) fn decode_object((id, read): (ObjectId, ReadPermission), bytes: &[u8]) -> Result<Object, Damage> {
    let record = access::<ArchivedObjectV1>(Kind::Object, bytes)?;
    let number = i32::from(record.write);
    Ok(Object {
        id,
        value: record.value.to_string(),
        version: ObjectVersion(record.version),
        read,
        write: WritePermission::from_number(number).ok_or(Damage::Number { what: "write permission", number })?,
        create_time: Timestamp(record.create_time.to_native()),
        update_time: Timestamp(record.update_time.to_native()),
    })
}

pub(crate) fn encode_object_counts(counts: ObjectCounts) -> Vec<u8> {
    encode(Kind::ObjectCounts, &ObjectCountsV1 { objects: counts.objects, bytes: counts.bytes })
}

pub(crate) fn decode_object_counts(bytes: &[u8]) -> Result<ObjectCounts, Damage> {
    let record = access::<ArchivedObjectCountsV1>(Kind::ObjectCounts, bytes)?;
    Ok(ObjectCounts { objects: record.objects.to_native(), bytes: record.bytes.to_native() })
}

#[cfg(test)]
mod tests {
    use engine::id::UserId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn objects_come_back(
            names in (".{1,9}", ".{1,9}"),
            value in ".{0,300}",
            version in any::<[u8; 16]>(),
            (read, write) in (0..3, 0..2),
            (create, update) in any::<(i64, i64)>(),
            counts in any::<(u32, u64)>(),
        ) {
            let id = ObjectId { owner: UserId(Uuid::nil()), collection: names.0, key: names.1 };
            let read = ReadPermission::from_number(read).unwrap();
            let object = Object {
                id: id.clone(),
                value,
                version: ObjectVersion(version),
                read,
                write: WritePermission::from_number(write).unwrap(),
                create_time: Timestamp(create),
                update_time: Timestamp(update),
            };
            prop_assert_eq!(decode_object((id, read), &encode_object(&object)), Ok(object));
            let counts = ObjectCounts { objects: counts.0, bytes: counts.1 };
            prop_assert_eq!(decode_object_counts(&encode_object_counts(counts)), Ok(counts));
        }
    }
}
