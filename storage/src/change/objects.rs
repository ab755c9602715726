//! Writes and deletes objects, all that a request names or none. The rules are those of `object.rs`.

use std::collections::BTreeMap;

use engine::id::{Timestamp, UserId};

use crate::Failure;
use crate::object::{
    OBJECT_BYTES_PER_USER_MAX, OBJECT_VALUE_BYTES_MAX, OBJECTS_PER_USER_MAX, OBJECTS_PER_WRITE_MAX, Object, ObjectAck,
    ObjectDelete, ObjectId, ObjectWrite, ObjectsDeleted, ObjectsWritten, is_object_name,
};
use crate::rows::Rows;

/// The objects that a request names: as they are stored, and as they will be.
struct Changes<'r, R> {
    rows: &'r mut R,
    owner: UserId,
    objects: BTreeMap<ObjectId, Change>,
}

struct Change {
    before: Option<Object>,
    after: Option<Object>,
}

impl<'r, R: Rows> Changes<'r, R> {
    fn new(rows: &'r mut R, owner: UserId) -> Self {
        Self { rows, owner, objects: BTreeMap::new() }
    }

    /// The object with this name, after what the request has done to it so far.
    fn of(&mut self, collection: &str, key: &str) -> Result<&mut Option<Object>, Failure> {
        let id = ObjectId { owner: self.owner, collection: collection.to_owned(), key: key.to_owned() };
        if !self.objects.contains_key(&id) {
            // What cannot have been written is not looked up.
            let before = if id.can_exist() { self.rows.object(&id)? } else { None };
            self.objects.insert(id.clone(), Change { after: before.clone(), before });
        }
        let change = self.objects.get_mut(&id);
        change.map(|change| &mut change.after).ok_or_else(|| Failure::Unfit("an object without a name".into()))
    }

    /// Writes what has changed, unless the user would have too much.
    fn carry_out(self) -> Result<Result<(), ObjectsWritten>, Failure> {
        let before = self.rows.object_counts(self.owner)?;
        let changes = self.objects.values().filter(|change| change.before != change.after);
        let moved = changes.fold(before, |counts, change| counts.moved(change.before.as_ref(), change.after.as_ref()));
        if moved.objects > OBJECTS_PER_USER_MAX.max(before.objects) {
            return Ok(Err(ObjectsWritten::TooMany));
        }
        if moved.bytes > OBJECT_BYTES_PER_USER_MAX.max(before.bytes) {
            return Ok(Err(ObjectsWritten::TooLarge));
        }
        for Change { before, after } in self.objects.into_values().filter(|change| change.before != change.after) {
            match (before, after) {
                (before, Some(after)) => self.rows.put_object(before.as_ref(), &after),
                (Some(before), None) => self.rows.remove_object(&before),
                (None, None) => {}
            }
        }
        if moved != before {
            self.rows.set_object_counts(self.owner, moved);
        }
        Ok(Ok(()))
    }
}

/// Writes objects of a user. Fails if no store takes one of them; the caller has checked that before.
pub fn write(
    rows: &mut impl Rows,
    owner: UserId,
    writes: &[ObjectWrite],
    time: Timestamp,
) -> Result<ObjectsWritten, Failure> {
    check_count(writes.len())?;
    writes.iter().try_for_each(check)?;
    if rows.username(owner)?.is_none() {
        return Ok(ObjectsWritten::UnknownUser);
    }
    let mut changes = Changes::new(rows, owner);
    let mut acks: Vec<Option<ObjectAck>> = vec![None; writes.len()];
    for place in in_order_of_names(writes, |write| (&write.collection, &write.key)) {
        let write = &writes[place];
        let object = changes.of(&write.collection, &write.key)?;
        match write.over(object.as_ref(), owner, time) {
            Ok(written) => {
                acks[place] = Some(ObjectAck::from(&written));
                *object = Some(written);
            }
            Err(refusal) => return Ok(ObjectsWritten::Refused(refusal)),
        }
    }
    match changes.carry_out()? {
        Ok(()) => Ok(ObjectsWritten::Done(acks.into_iter().flatten().collect())),
        Err(refused) => Ok(refused),
    }
}

/// Deletes objects of a user.
pub fn delete(rows: &mut impl Rows, owner: UserId, deletes: &[ObjectDelete]) -> Result<ObjectsDeleted, Failure> {
    check_count(deletes.len())?;
    let mut changes = Changes::new(rows, owner);
    for delete in deletes {
        let object = changes.of(&delete.collection, &delete.key)?;
        if !object.as_ref().is_some_and(|stored| delete.may_delete(stored)) {
            return Ok(ObjectsDeleted::Refused);
        }
        *object = None;
    }
    // There is less than before, so there is not too much.
    changes.carry_out().map(|_| ObjectsDeleted::Done)
}

/// The places of writes in the order of their names: the first that is refused decides what the client is told.
fn in_order_of_names<'w, T>(writes: &'w [T], name: impl Fn(&'w T) -> (&'w String, &'w String)) -> Vec<usize> {
    let mut places: Vec<usize> = (0..writes.len()).collect();
    places.sort_by_key(|&place| name(&writes[place]));
    places
}

fn check_count(objects: usize) -> Result<(), Failure> {
    match objects {
        0..=OBJECTS_PER_WRITE_MAX => Ok(()),
        more => Err(Failure::Unfit(format!("{more} objects at once; {OBJECTS_PER_WRITE_MAX} are possible"))),
    }
}

fn check(write: &ObjectWrite) -> Result<(), Failure> {
    if !is_object_name(&write.collection) || !is_object_name(&write.key) {
        return Err(Failure::Unfit("the name of an object is empty or too long, or has NUL in it".into()));
    }
    match write.value.len() {
        0..=OBJECT_VALUE_BYTES_MAX => Ok(()),
        bytes => Err(Failure::Unfit(format!("a value of {bytes} bytes; {OBJECT_VALUE_BYTES_MAX} are possible"))),
    }
}
