//! Storage objects: `PUT` and `POST /v2/storage`, `PUT /v2/storage/delete`, `GET /v2/storage/{collection}` and
//! `GET /v2/storage/{collection}/{user_id}` (docs/protocol.md, section 11). The refusals that Nakama knows have its words,
//! because clients may compare them.

use std::collections::HashSet;

use engine::budget::Work;
use engine::id::{UserId, parse_uuid};
use engine::wire::json::{Int32, TimestampText, is_json_object, timestamp};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize, Serializer};
use storage::Part;
use storage::object::{
    OBJECT_BYTES_PER_USER_MAX, OBJECT_NAME_CHARS_MAX, OBJECT_VALUE_BYTES_MAX, OBJECTS_AT_ONCE_MAX,
    OBJECTS_PART_BYTES_MAX, OBJECTS_PER_USER_MAX, OBJECTS_PER_WRITE_MAX, Object, ObjectAck, ObjectCondition,
    ObjectDelete, ObjectId, ObjectListing, ObjectPlace, ObjectRefusal, ObjectVersion, ObjectWrite, ObjectsDeleted,
    ObjectsWritten, ReadPermission, WritePermission, is_object_name,
};
use uuid::Uuid;

use super::answer::{self, Answer};
use super::body::null_is_empty;
use super::costs::{ENTRY, NAMED, WRITTEN_KIB, of_limit, of_part};
use super::error::Refusal;
use super::listing::{ResumePoint, Stretch};
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::users::whole_seconds;

/// Most objects that a request may name.
pub const NAMED_MAX: usize = OBJECTS_PER_WRITE_MAX;

const LIMIT_DEFAULT: i32 = 1;
const LIMIT_MAX: i32 = 100;

const NAMES_MISSING: &str = "Invalid collection or key value supplied. They must be set.";
const NO_COLLECTION: &str = "Invalid collection - the path is not percent-encoded UTF-8.";
const NO_USER_ID: &str = "Invalid user ID - make sure user ID is a valid UUID.";

/// Writes objects of the caller: all of them, or none. Refused if one is malformed, a condition is not met, clients may
/// not change a stored one, or the caller would have too many.
pub async fn write(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Acks<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        acks: Vec<AckBody<'a>>,
    }
    let owner = request.user(services)?;
    let WriteBody { objects } = request.read()?;
    let objects = objects.unwrap_or_default();
    check_count(objects.len())?;
    let objects = objects.into_iter().map(NewObject::checked).collect::<Result<Vec<_>, _>>()?;
    if objects.is_empty() {
        return Ok(answer::done());
    }
    let kib = objects.iter().map(|object| object.value.len()).sum::<usize>().div_ceil(1024);
    request.charge(services, NAMED.times(objects.len()) + WRITTEN_KIB.times(kib));
    match services.store_for(owner).write_objects(owner, objects, services.now()).await? {
        ObjectsWritten::Done(acks) => Ok(answer::json(&Acks { acks: acks.iter().map(AckBody::from).collect() })),
        ObjectsWritten::Refused(ObjectRefusal::Version) => {
            Err(Refusal::invalid("Storage write rejected - version check failed."))
        }
        ObjectsWritten::Refused(ObjectRefusal::Permission) => {
            Err(Refusal::invalid("Storage write rejected - permission denied."))
        }
        ObjectsWritten::TooMany => {
            Err(Refusal::invalid(format!("a user has at most {OBJECTS_PER_USER_MAX} objects: delete some first")))
        }
        ObjectsWritten::TooLarge => {
            let bytes = OBJECT_BYTES_PER_USER_MAX;
            Err(Refusal::invalid(format!("a user's objects have at most {bytes} bytes: delete some first")))
        }
        ObjectsWritten::UnknownUser => Err(Refusal::not_found("account not found")),
    }
}

/// Deletes objects of the caller: all of them, or none. Refused if one of them is not there, has another version, or may
/// not be changed by clients.
pub async fn delete(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let owner = request.user(services)?;
    let DeleteBody { object_ids } = request.read()?;
    let ids = object_ids.unwrap_or_default();
    check_count(ids.len())?;
    let objects = ids.into_iter().map(|DeletedId { collection, key, version }| {
        named(&collection, &key)?;
        Ok(ObjectDelete { collection, key, version: Some(version).filter(|version| !version.is_empty()) })
    });
    let objects = objects.collect::<Result<Vec<_>, Refusal>>()?;
    if objects.is_empty() {
        return Ok(answer::done());
    }
    request.charge(services, NAMED.times(objects.len()));
    match services.store_for(owner).delete_objects(owner, objects).await? {
        ObjectsDeleted::Done => Ok(answer::done()),
        ObjectsDeleted::Refused => {
            Err(Refusal::invalid("Storage delete rejected - not found, version check failed, or permission denied."))
        }
    }
}

/// The objects with these names that the caller may read; others are left out. The answer has no cursor, so it is refused
/// if it would be too long.
pub async fn read(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let ReadBody { object_ids } = request.read()?;
    let object_ids = object_ids.unwrap_or_default();
    check_count(object_ids.len())?;
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for ReadId { collection, key, user_id } in object_ids {
        named(&collection, &key)?;
        // An object without a user is the server's own, and this server has none.
        if user_id.is_empty() {
            continue;
        }
        let owner = parse_uuid(&user_id).filter(|id| !id.is_nil()).ok_or_else(|| Refusal::invalid(NO_USER_ID))?;
        let id = ObjectId { owner: UserId(owner), collection, key };
        if id.can_exist() && seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    request.charge(services, NAMED.times(ids.len()));
    let (mut objects, mut bytes) = (Vec::new(), 0);
    for some in ids.chunks(OBJECTS_AT_ONCE_MAX) {
        let found = services.store_for(caller).objects(some.to_vec()).await?;
        request.charge(services, Work::bytes(found.iter().map(|object| object.value.len()).sum()));
        let readable = found.into_iter().filter(|object| object.is_readable_by(caller));
        objects.extend(readable.inspect(|object| bytes += object.value.len()));
        if bytes > OBJECTS_PART_BYTES_MAX {
            let reason = format!("these objects have more than {OBJECTS_PART_BYTES_MAX} bytes: ask for fewer at once");
            return Err(Refusal::invalid(reason));
        }
    }
    Ok(answer::json(&Objects { objects: objects.iter().map(ObjectBody::from).collect(), cursor: None }))
}

/// Objects of a collection: the caller's own that the caller may read, the public ones of another user, or the public ones
/// of all users. `in_path` is the user whom the path names, if it does; else the query may name one. What the path names
/// is an inner `None` if it cannot be decoded. Refused if the path has that, or if there is a wrong user, limit or cursor.
pub async fn list(
    services: &Services,
    request: &ResourceRequest,
    collection: Option<String>,
    in_path: Option<Option<String>>,
) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let limit = match query.number("limit")?.unwrap_or(LIMIT_DEFAULT) {
        limit if (1..=LIMIT_MAX).contains(&limit) => limit as usize,
        _ => return Err(Refusal::invalid("Invalid limit - limit must be between 1 and 100.")),
    };
    let collection = collection.ok_or_else(|| Refusal::invalid(NO_COLLECTION))?;
    let named = match &in_path {
        Some(named) => named.as_deref().ok_or_else(|| Refusal::invalid(NO_USER_ID))?,
        None => query.text("user_id")?.unwrap_or_default(),
    };
    let owner = match named {
        "" => None,
        named => Some(UserId(parse_uuid(named).ok_or_else(|| Refusal::invalid(NO_USER_ID))?)),
    };
    let listing = match owner {
        None => ObjectListing::Public { collection },
        Some(owner) if owner == caller => ObjectListing::Own { owner, collection },
        Some(owner) => ObjectListing::PublicOf { owner, collection },
    };
    let asked: Stretch<ObjectPlace> = Stretch::asked(services, &query, format!("storage/{listing:?}"), limit)
        .map_err(|_| Refusal::invalid("Malformed cursor was used."))?;
    let reserved = request.reserve(services, of_limit(limit, ENTRY));
    let read = services.store_for(caller).list_objects(listing, asked.after.clone(), asked.read_limit()).await?;
    services.settle(reserved, of_part(&read, ENTRY));
    let items = read.items.into_iter().map(|object| {
        let place = object.place();
        (object, place)
    });
    let items = items.collect();
    let (objects, cursor) = asked.page(services, Part { items, stopped: read.stopped });
    Ok(answer::json(&Objects { objects: objects.iter().map(ObjectBody::from).collect(), cursor }))
}

fn check_count(objects: usize) -> Result<(), Refusal> {
    match objects {
        0..=NAMED_MAX => Ok(()),
        _ => Err(Refusal::invalid(format!("a request may name {NAMED_MAX} objects"))),
    }
}

fn named(collection: &str, key: &str) -> Result<(), Refusal> {
    if collection.is_empty() || key.is_empty() { Err(Refusal::invalid(NAMES_MISSING)) } else { Ok(()) }
}

/// The version of a value: its MD5, which clients may compute themselves.
fn version_of(value: &str) -> ObjectVersion {
    ObjectVersion(Md5::digest(value).into())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WriteBody {
    objects: Option<Vec<NewObject>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewObject {
    #[serde(deserialize_with = "null_is_empty")]
    collection: String,
    #[serde(deserialize_with = "null_is_empty")]
    key: String,
    #[serde(deserialize_with = "null_is_empty")]
    value: String,
    #[serde(deserialize_with = "null_is_empty")]
    version: String,
    #[serde(alias = "permissionRead")]
    permission_read: Option<Int32>,
    #[serde(alias = "permissionWrite")]
    permission_write: Option<Int32>,
}

impl NewObject {
    fn checked(self) -> Result<ObjectWrite, Refusal> {
        let Self { collection, key, value, version, permission_read, permission_write } = self;
        named(&collection, &key)?;
        if value.is_empty() {
            return Err(Refusal::invalid(NAMES_MISSING));
        }
        let read = permission_read.map_or(Some(ReadPermission::Owner), |number| ReadPermission::from_number(number.0));
        let read =
            read.ok_or_else(|| Refusal::invalid("Invalid Read permission supplied. It must be either 0, 1 or 2."))?;
        let write =
            permission_write.map_or(Some(WritePermission::Owner), |number| WritePermission::from_number(number.0));
        let write =
            write.ok_or_else(|| Refusal::invalid("Invalid Write permission supplied. It must be either 0 or 1."))?;
        if value.len() > OBJECT_VALUE_BYTES_MAX {
            return Err(Refusal::invalid(format!("a value has at most {OBJECT_VALUE_BYTES_MAX} bytes")));
        }
        if !is_json_object(&value) {
            return Err(Refusal::invalid("Value must be a JSON object."));
        }
        if !is_object_name(&collection) || !is_object_name(&key) {
            let form = format!("collection and key must be 1 to {OBJECT_NAME_CHARS_MAX} characters without NUL");
            return Err(Refusal::invalid(form));
        }
        let condition = match version.as_str() {
            "" => ObjectCondition::Anything,
            "*" => ObjectCondition::Absent,
            _ => ObjectCondition::Version(version),
        };
        let version = version_of(&value);
        Ok(ObjectWrite { collection, key, value, version, condition, read, write })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeleteBody {
    #[serde(alias = "objectIds")]
    object_ids: Option<Vec<DeletedId>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeletedId {
    #[serde(deserialize_with = "null_is_empty")]
    collection: String,
    #[serde(deserialize_with = "null_is_empty")]
    key: String,
    #[serde(deserialize_with = "null_is_empty")]
    version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadBody {
    #[serde(alias = "objectIds")]
    object_ids: Option<Vec<ReadId>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadId {
    #[serde(deserialize_with = "null_is_empty")]
    collection: String,
    #[serde(deserialize_with = "null_is_empty")]
    key: String,
    #[serde(alias = "userId", deserialize_with = "null_is_empty")]
    user_id: String,
}

#[derive(Serialize)]
struct Objects<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<ObjectBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// An object on the wire, with its members in the order of their protobuf numbers.
#[derive(Serialize)]
struct ObjectBody<'a> {
    collection: &'a str,
    key: &'a str,
    user_id: UserId,
    value: &'a str,
    #[serde(serialize_with = "as_text")]
    version: ObjectVersion,
    #[serde(skip_serializing_if = "is_zero")]
    permission_read: u8,
    #[serde(skip_serializing_if = "is_zero")]
    permission_write: u8,
    create_time: TimestampText,
    update_time: TimestampText,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn as_text<S: Serializer>(version: &ObjectVersion, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

impl<'a> From<&'a Object> for ObjectBody<'a> {
    fn from(object: &'a Object) -> Self {
        Self {
            collection: &object.id.collection,
            key: &object.id.key,
            user_id: object.id.owner,
            value: &object.value,
            version: object.version,
            permission_read: object.read as u8,
            permission_write: object.write as u8,
            create_time: whole_seconds(object.create_time),
            update_time: whole_seconds(object.update_time),
        }
    }
}

/// What a writer is told, with its members in the order of their protobuf numbers.
#[derive(Serialize)]
struct AckBody<'a> {
    collection: &'a str,
    key: &'a str,
    #[serde(serialize_with = "as_text")]
    version: ObjectVersion,
    user_id: UserId,
    create_time: TimestampText,
    update_time: TimestampText,
}

impl<'a> From<&'a ObjectAck> for AckBody<'a> {
    fn from(ack: &'a ObjectAck) -> Self {
        Self {
            collection: &ack.id.collection,
            key: &ack.id.key,
            version: ack.version,
            user_id: ack.id.owner,
            create_time: timestamp(ack.create_time),
            update_time: timestamp(ack.update_time),
        }
    }
}

/// The permission in one byte, the owner's id, and the key.
impl ResumePoint for ObjectPlace {
    fn to_bytes(&self) -> Vec<u8> {
        [&[self.read as u8][..], self.owner.0.as_bytes(), self.key.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (read, rest) = bytes.split_first()?;
        let (owner, key) = rest.split_first_chunk()?;
        let key = std::str::from_utf8(key).ok().filter(|key| is_object_name(key))?;
        let read = ReadPermission::from_number(i32::from(*read))?;
        Some(Self { read, key: key.to_owned(), owner: UserId(Uuid::from_bytes(*owner)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_of_a_value_is_its_md5() {
        // RFC 1321, appendix A.5.
        assert_eq!(version_of("").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(version_of("abc").to_string(), "900150983cd24fb0d6963f7d28e17f72");
    }

    proptest! {
        #[test]
        fn places_come_back(read in 0..3, key in "[^\u{0}]{1,128}", owner in any::<u128>()) {
            let read = ReadPermission::from_number(read).unwrap();
            let place = ObjectPlace { read, key, owner: UserId(Uuid::from_u128(owner)) };
            prop_assert_eq!(ObjectPlace::from_bytes(&place.to_bytes()), Some(place));
        }

        #[test]
        fn any_bytes_are_a_place_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(place) = ObjectPlace::from_bytes(&bytes) {
                prop_assert_eq!(place.to_bytes(), bytes);
            }
        }
    }
}
