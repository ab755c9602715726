//! The types of storage objects, as the stores keep them: small JSON values of a user under names that the user's client
//! chooses (docs/protocol.md, section 11). Here are the rules of one write; `change/objects.rs` applies them.

use std::fmt;

use engine::id::{Timestamp, UserId};
use uuid::Uuid;

use crate::{Failure, Part};

/// Longest collection and longest key, in characters. A name has at least one, and none of them is NUL.
pub const OBJECT_NAME_CHARS_MAX: usize = 128;

/// Longest collection and longest key, in bytes of UTF-8.
pub const OBJECT_NAME_BYTES_MAX: usize = 4 * OBJECT_NAME_CHARS_MAX;

/// Longest value of an object, in bytes.
pub const OBJECT_VALUE_BYTES_MAX: usize = 64 << 10;

/// Most objects that a user may have at a time.
pub const OBJECTS_PER_USER_MAX: u32 = 1000;

/// Most bytes that the names and values of a user's objects may have together.
pub const OBJECT_BYTES_PER_USER_MAX: u64 = 4 << 20;

/// Most objects that one write may write or delete.
pub const OBJECTS_PER_WRITE_MAX: usize = 100;

/// Most objects that one call of [`Store::objects`](crate::Store::objects) is asked for.
pub const OBJECTS_AT_ONCE_MAX: usize = 16;

/// Bytes of values after which a part of a list of objects ends.
pub const OBJECTS_PART_BYTES_MAX: usize = 512 << 10;

const _: () = {
    assert!(OBJECT_VALUE_BYTES_MAX <= OBJECTS_PART_BYTES_MAX, "a part has room for any object");
    assert!(OBJECTS_AT_ONCE_MAX * OBJECT_VALUE_BYTES_MAX <= 1 << 20, "so much memory one call takes");
};

/// What names an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    pub owner: UserId,
    pub collection: String,
    pub key: String,
}

impl ObjectId {
    /// Whether an object may have these names.
    pub fn can_exist(&self) -> bool {
        is_object_name(&self.collection) && is_object_name(&self.key)
    }
}

/// Whether a collection or a key may have this name: 1 to [`OBJECT_NAME_CHARS_MAX`] characters without NUL.
pub fn is_object_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= OBJECT_NAME_BYTES_MAX
        && !name.contains('\0')
        && name.chars().count() <= OBJECT_NAME_CHARS_MAX
}

/// The users that may read an object. The numbers are those of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReadPermission {
    NoClient = 0,
    Owner = 1,
    Public = 2,
}

impl ReadPermission {
    /// All permissions, those that most objects have first.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Public, Self::NoClient];

    /// The permission with this number, or `None`.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| *permission as i32 == number)
    }
}

/// The users that may change or delete an object. The numbers are those of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WritePermission {
    NoClient = 0,
    Owner = 1,
}

impl WritePermission {
    /// The permission with this number, or `None`.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::NoClient, Self::Owner].into_iter().find(|permission| *permission as i32 == number)
    }
}

/// What tells an object's value from its other values. The writer chooses it; as text it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObjectVersion(pub [u8; 16]);

impl fmt::Display for ObjectVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    pub id: ObjectId,
    /// A JSON object.
    pub value: String,
    pub version: ObjectVersion,
    pub read: ReadPermission,
    pub write: WritePermission,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Object {
    /// Whether a user may read it.
    pub fn is_readable_by(&self, user: UserId) -> bool {
        match self.read {
            ReadPermission::NoClient => false,
            ReadPermission::Owner => self.id.owner == user,
            ReadPermission::Public => true,
        }
    }

    /// The bytes that count against [`OBJECT_BYTES_PER_USER_MAX`].
    pub fn bytes(&self) -> u64 {
        (self.id.collection.len() + self.id.key.len() + self.value.len()) as u64
    }

    /// Its place in lists.
    pub fn place(&self) -> ObjectPlace {
        ObjectPlace { read: self.read, key: self.id.key.clone(), owner: self.id.owner }
    }
}

/// A list of objects of one collection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ObjectListing {
    /// Those that their owner may read, by permission, then by key.
    Own { owner: UserId, collection: String },
    /// A user's public ones, by key.
    PublicOf { owner: UserId, collection: String },
    /// The public ones of all users, by key, then by owner.
    Public { collection: String },
}

impl ObjectListing {
    /// The collection whose objects are listed.
    pub fn collection(&self) -> &str {
        match self {
            Self::Own { collection, .. } | Self::PublicOf { collection, .. } | Self::Public { collection } => {
                collection
            }
        }
    }

    /// The owner of all listed objects, if they have the same.
    pub fn owner(&self) -> Option<UserId> {
        match self {
            Self::Own { owner, .. } | Self::PublicOf { owner, .. } => Some(*owner),
            Self::Public { .. } => None,
        }
    }

    /// The lowest permission of the listed objects.
    pub fn first_permission(&self) -> ReadPermission {
        match self {
            Self::Own { .. } => ReadPermission::Owner,
            Self::PublicOf { .. } | Self::Public { .. } => ReadPermission::Public,
        }
    }
}

/// The place from which a list of objects continues. Keys are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectPlace {
    pub read: ReadPermission,
    pub key: String,
    pub owner: UserId,
}

/// The place of a public object in the list of its collection, as bytes in the order of the list: its key, NUL and the
/// owner's id.
pub fn public_place(key: &str, owner: UserId) -> Vec<u8> {
    [key.as_bytes(), &[0], owner.0.as_bytes()].concat()
}

/// The key and the owner in a place that [`public_place`] made.
pub fn split_public_place(place: &[u8]) -> Option<(String, UserId)> {
    let (key, owner) = until_nul(place)?;
    Some((key, UserId(Uuid::from_slice(owner).ok()?)))
}

/// The text before the first NUL, and what follows it.
pub(crate) fn until_nul(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((text.to_owned(), &bytes[end + 1..]))
}

/// What must be true of the stored object, so that it may be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObjectCondition {
    Anything,
    /// There is none.
    Absent,
    /// It has the version with this text.
    Version(String),
}

/// An object to be written. Its owner is the user who writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectWrite {
    pub collection: String,
    pub key: String,
    pub value: String,
    /// The version of this value.
    pub version: ObjectVersion,
    pub condition: ObjectCondition,
    pub read: ReadPermission,
    pub write: WritePermission,
}

/// An object to be deleted. Its owner is the user who deletes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectDelete {
    pub collection: String,
    pub key: String,
    /// The text of the version that it must have, if any.
    pub version: Option<String>,
}

/// Why an object is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectRefusal {
    /// The condition is not met.
    Version,
    /// Its owner may not change it.
    Permission,
}

impl ObjectWrite {
    /// The object after this write over the stored one. A write that changes nothing, and has no condition, leaves the
    /// stored one as it is, with its times.
    pub fn over(&self, stored: Option<&Object>, owner: UserId, time: Timestamp) -> Result<Object, ObjectRefusal> {
        let create_time = match (&self.condition, stored) {
            (ObjectCondition::Absent, Some(_)) | (ObjectCondition::Version(_), None) => {
                return Err(ObjectRefusal::Version);
            }
            (_, None) => time,
            (_, Some(stored)) if stored.write == WritePermission::NoClient => return Err(ObjectRefusal::Permission),
            (ObjectCondition::Version(version), Some(stored)) if *version != stored.version.to_string() => {
                return Err(ObjectRefusal::Version);
            }
            (ObjectCondition::Anything, Some(stored))
                if (stored.version, stored.read, stored.write) == (self.version, self.read, self.write) =>
            {
                return Ok(stored.clone());
            }
            (_, Some(stored)) => stored.create_time,
        };
        let id = ObjectId { owner, collection: self.collection.clone(), key: self.key.clone() };
        let Self { version, read, write, .. } = *self;
        Ok(Object { id, value: self.value.clone(), version, read, write, create_time, update_time: time })
    }
}

impl ObjectDelete {
    /// Whether the stored object may be deleted by this.
    pub fn may_delete(&self, stored: &Object) -> bool {
        stored.write == WritePermission::Owner
            && self.version.as_ref().is_none_or(|version| *version == stored.version.to_string())
    }
}

/// What a writer is told of a written object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectAck {
    pub id: ObjectId,
    pub version: ObjectVersion,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl From<&Object> for ObjectAck {
    fn from(object: &Object) -> Self {
        let Object { id, version, create_time, update_time, .. } = object;
        Self { id: id.clone(), version: *version, create_time: *create_time, update_time: *update_time }
    }
}

/// The result of writing objects: all of them, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObjectsWritten {
    /// In the order in which they were given.
    Done(Vec<ObjectAck>),
    Refused(ObjectRefusal),
    /// The user would have more than [`OBJECTS_PER_USER_MAX`] objects.
    TooMany,
    /// The user's objects would have more than [`OBJECT_BYTES_PER_USER_MAX`] bytes.
    TooLarge,
    /// The user has no account.
    UnknownUser,
}

/// The result of deleting objects: all of them, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectsDeleted {
    Done,
    /// One of them is not there, has another version, or may not be deleted by its owner.
    Refused,
}

/// How many objects a user has, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ObjectCounts {
    pub objects: u32,
    pub bytes: u64,
}

impl ObjectCounts {
    /// The counts after an object has become another.
    pub fn moved(self, before: Option<&Object>, after: Option<&Object>) -> Self {
        let of = |object: Option<&Object>| object.map_or((0, 0), |object| (1, object.bytes()));
        let ((objects, bytes), (more_objects, more_bytes)) = (of(before), of(after));
        Self {
            objects: self.objects.saturating_add(more_objects).saturating_sub(objects),
            bytes: self.bytes.saturating_add(more_bytes).saturating_sub(bytes),
        }
    }
}

/// A part of a list of objects while it is read: it is full when it has as many objects, or bytes, as it may have.
pub struct ObjectsPart {
    objects: Vec<Object>,
    bytes: usize,
    limit: usize,
}

impl ObjectsPart {
    /// A part of at most so many objects.
    pub fn of(limit: usize) -> Self {
        Self { objects: Vec::new(), bytes: 0, limit }
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How many objects it still takes, at most.
    pub fn room(&self) -> usize {
        if self.bytes >= OBJECTS_PART_BYTES_MAX { 0 } else { self.limit - self.objects.len() }
    }

    /// Adds the next object, unless it is full.
    pub fn add(&mut self, object: Object) {
        if !self.is_full() {
            self.bytes += object.value.len();
            self.objects.push(object);
        }
    }

    /// Adds objects until it is full. Fails with the first failure among them.
    pub(crate) fn add_all(
        &mut self,
        mut objects: impl Iterator<Item = Result<Option<Object>, Failure>>,
    ) -> Result<(), Failure> {
        while !self.is_full() {
            match objects.next().transpose()? {
                Some(object) => object.into_iter().for_each(|object| self.add(object)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// The part. `stopped` is where the store stopped for its own reasons, if it did.
    pub fn end(self, stopped: Option<ObjectPlace>) -> Part<Object, ObjectPlace> {
        let is_short = self.objects.len() < self.limit;
        debug_assert!(self.objects.len() <= self.limit, "a part has as many objects as were asked for, or fewer");
        let last = self.objects.last().filter(|_| is_short && self.bytes >= OBJECTS_PART_BYTES_MAX);
        Part { stopped: last.map(Object::place).or(stopped.filter(|_| is_short)), items: self.objects }
    }
}
