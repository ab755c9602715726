//! Objects: writes with conditions, permissions, lists, bounds, and what a deletion leaves.

use storage::object::{
    OBJECT_BYTES_PER_USER_MAX, OBJECT_NAME_CHARS_MAX, OBJECT_VALUE_BYTES_MAX, OBJECTS_AT_ONCE_MAX,
    OBJECTS_PART_BYTES_MAX, OBJECTS_PER_USER_MAX, OBJECTS_PER_WRITE_MAX, Object, ObjectCondition, ObjectCounts,
    ObjectListing, ObjectRefusal, ObjectWrite, ObjectsDeleted, ObjectsWritten, ReadPermission, WritePermission,
};
use storage::{Store, Write, Written};

use crate::common::objects::*;
use crate::common::people::*;
use crate::common::*;

laws! {
    a_write_is_found_as_it_was_written
    a_condition_decides_about_each_write
    what_clients_may_not_change_stays
    all_objects_of_a_request_are_written_or_none
    one_object_twice_in_a_request_is_two_writes
    a_write_that_changes_nothing_keeps_the_times
    of_many_conditional_writes_one_wins
    deletes_are_all_or_none
    lists_have_what_their_readers_may_read
    pages_of_a_list_are_the_list
    a_part_ends_when_it_has_many_bytes
    objects_of_a_user_are_bounded
    names_that_cannot_be_are_refused_and_not_found
    objects_of_a_deleted_account_are_gone
}

/// The result of a write of one object: its version, or why not.
fn put<S: StoreUnderTest>(world: &mut World<S>, owner: u32, write: ObjectWrite) -> ObjectsWritten {
    let time = world.now();
    written(world.write(Write::WriteObjects { owner: user(owner), objects: vec![write], time }))
}

fn written(written: Written) -> ObjectsWritten {
    match written {
        Written::ObjectsWritten(written) => written,
        other => panic!("{other:?}"),
    }
}

fn is_done(written: &ObjectsWritten) -> bool {
    matches!(written, ObjectsWritten::Done(_))
}

fn delete<S: StoreUnderTest>(world: &World<S>, owner: u32, deletes: &[(&str, &str, Option<&str>)]) -> ObjectsDeleted {
    match world.write(delete_objects(owner, deletes)) {
        Written::ObjectsDeleted(deleted) => deleted,
        other => panic!("{other:?}"),
    }
}

/// The keys of a list, each with its owner.
fn listed(store: &dyn Store, listing: &ObjectListing) -> String {
    let objects = store.object_list(listing, None, 9999).unwrap();
    let texts = objects.iter().map(|object| format!("{}:{}", object.id.key, number(object.id.owner)));
    texts.collect::<Vec<_>>().join(" ")
}

fn a_write_is_found_as_it_was_written<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    let time = world.now();
    let first = ObjectWrite { read: ReadPermission::Public, ..object("settings", "théme", r#"{"dark":true}"#) };
    let second = ObjectWrite { write: WritePermission::NoClient, ..object("a", "b\u{1}\n", "{}") };
    let objects = vec![first.clone(), second.clone()];
    let done = written(world.write(Write::WriteObjects { owner: user(1), objects, time }));
    let expected = [&first, &second].map(|write| write.over(None, user(1), time).unwrap());
    assert_eq!(done, ObjectsWritten::Done(expected.each_ref().map(|object| object.into()).to_vec()));
    assert_eq!((expected[0].create_time, expected[0].update_time), (time, time));
    for _ in 0..2 {
        let ids = [id(1, "a", "b\u{1}\n"), id(1, "a", "none"), id(2, "settings", "théme"), id(1, "settings", "théme")];
        assert_eq!(world.store().objects(&ids).unwrap(), [expected[1].clone(), expected[0].clone()]);
        let bytes = expected.iter().map(Object::bytes).sum();
        assert_eq!(world.store().object_counts(user(1)).unwrap(), ObjectCounts { objects: 2, bytes });
        world.tested.reopen();
    }
    assert_eq!(world.store().objects(&[]).unwrap(), []);
    assert_eq!(put(&mut world, 9, object("a", "b", "{}")), ObjectsWritten::UnknownUser);
}

fn a_condition_decides_about_each_write<S: StoreUnderTest>() {
    use ObjectCondition::{Absent, Anything, Version};
    let mut world = World::<S>::of(1);
    let refused = ObjectsWritten::Refused(ObjectRefusal::Version);
    let with = |condition, value: &str| ObjectWrite { condition, ..object("c", "k", value) };
    let text = |value: &str| Version(version(value).to_string());
    for (condition, value, done) in [
        (text("1"), "1", false),
        (Version(String::new()), "1", false),
        (Absent, "1", true),
        (Absent, "1", false),
        (text("2"), "2", false),
        (text("1"), "2", true),
        (text("1"), "3", false),
        (Anything, "3", true),
        (Version("nonsense".into()), "4", false),
        (Version(version("3").to_string().to_uppercase()), "4", false),
        (text("3"), "3", true),
    ] {
        let before = world.store().objects(&[id(1, "c", "k")]).unwrap();
        let outcome = put(&mut world, 1, with(condition.clone(), value));
        assert_eq!(is_done(&outcome), done, "{condition:?}");
        let after = world.store().objects(&[id(1, "c", "k")]).unwrap();
        if done {
            assert_eq!((after[0].value.as_str(), after[0].version), (value, version(value)));
            let created = before.first().unwrap_or(&after[0]).create_time;
            assert_eq!(after[0].create_time, created, "it was created once");
            assert!(after[0].update_time > created || before.is_empty(), "a condition makes it a change");
        } else {
            assert_eq!((outcome, before), (refused.clone(), after), "{condition:?}");
        }
    }
}

fn what_clients_may_not_change_stays<S: StoreUnderTest>() {
    use ObjectCondition::{Absent, Anything, Version};
    let mut world = World::<S>::of(1);
    let fixed = ObjectWrite { write: WritePermission::NoClient, ..object("c", "k", "{}") };
    assert!(is_done(&put(&mut world, 1, fixed)));
    let good = version("{}").to_string();
    for (condition, refusal) in [
        (Anything, ObjectRefusal::Permission),
        (Version(good.clone()), ObjectRefusal::Permission),
        (Version("other".into()), ObjectRefusal::Permission),
        (Absent, ObjectRefusal::Version),
    ] {
        let write = ObjectWrite { condition: condition.clone(), ..object("c", "k", "{}") };
        assert_eq!(put(&mut world, 1, write), ObjectsWritten::Refused(refusal), "{condition:?}");
    }
    for version in [None, Some(good.as_str())] {
        assert_eq!(delete(&world, 1, &[("c", "k", version)]), ObjectsDeleted::Refused);
    }
    assert_eq!(world.store().objects(&[id(1, "c", "k")]).unwrap().len(), 1);
}

fn all_objects_of_a_request_are_written_or_none<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    assert!(is_done(&put(&mut world, 1, object("c", "k2", "old"))));
    let taken = ObjectWrite { condition: ObjectCondition::Absent, ..object("c", "k2", "new") };
    let fixed = ObjectWrite { write: WritePermission::NoClient, ..object("b", "k", "{}") };
    assert!(is_done(&put(&mut world, 1, fixed)));
    let writes = [
        vec![object("c", "k1", "new"), taken.clone(), object("c", "k3", "new")],
        vec![taken.clone(), object("d", "k1", "new")],
        vec![object("a", "k1", "new"), object("b", "k", "new"), taken.clone()],
    ];
    let before = world.store().object_counts(user(1)).unwrap();
    for (objects, refusal) in
        writes.into_iter().zip([ObjectRefusal::Version, ObjectRefusal::Version, ObjectRefusal::Permission])
    {
        let time = world.now();
        let outcome = written(world.write(Write::WriteObjects { owner: user(1), objects, time }));
        assert_eq!(outcome, ObjectsWritten::Refused(refusal), "the first in the order of names is told of");
    }
    for _ in 0..2 {
        let own = |collection: &str| listed(world.store(), &own(1, collection));
        assert_eq!([own("a"), own("b"), own("c"), own("d")], ["", "k:1", "k2:1", ""]);
        assert_eq!(world.store().objects(&[id(1, "c", "k2")]).unwrap()[0].value, "old");
        assert_eq!(world.store().object_counts(user(1)).unwrap(), before);
        world.tested.reopen();
    }
    // Another user has a name of the user's own.
    assert!(is_done(&put(&mut world, 2, taken)));
}

fn one_object_twice_in_a_request_is_two_writes<S: StoreUnderTest>() {
    let mut world = World::<S>::of(1);
    let then = ObjectWrite {
        condition: ObjectCondition::Version(version("1").to_string()),
        read: ReadPermission::Public,
        ..object("c", "k", "22")
    };
    let time = world.now();
    let objects = vec![object("c", "k", "1"), then];
    let ObjectsWritten::Done(acks) = written(world.write(Write::WriteObjects { owner: user(1), objects, time })) else {
        panic!("it is refused");
    };
    assert_eq!(acks.iter().map(|ack| ack.version).collect::<Vec<_>>(), [version("1"), version("22")]);
    assert_eq!(listed(world.store(), &public("c")), "k:1");
    assert_eq!(world.store().object_counts(user(1)).unwrap(), ObjectCounts { objects: 1, bytes: 4 });
    let twice = [("c", "k", None), ("c", "k", None)];
    assert_eq!(delete(&world, 1, &twice), ObjectsDeleted::Refused, "the second finds none");
    assert_eq!(listed(world.store(), &public("c")), "k:1");
}

fn a_write_that_changes_nothing_keeps_the_times<S: StoreUnderTest>() {
    let mut world = World::<S>::of(1);
    let write = object("c", "k", "{}");
    let first = put(&mut world, 1, write.clone());
    assert_eq!(put(&mut world, 1, write.clone()), first);
    let public = ObjectWrite { read: ReadPermission::Public, ..write.clone() };
    let changed = put(&mut world, 1, public);
    assert!(is_done(&changed) && changed != first, "the permission is another");
    assert_eq!(listed(world.store(), &crate::common::objects::public("c")), "k:1");
    assert_eq!(world.store().object_list(&own(1, "c"), None, 9).unwrap().len(), 1, "it is in one place");
    assert!(is_done(&put(&mut world, 1, write)));
    assert_eq!(listed(world.store(), &crate::common::objects::public("c")), "");
}

fn of_many_conditional_writes_one_wins<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    let mut condition = ObjectCondition::Absent;
    for round in 0..3 {
        let write = |number: u32| {
            let object = ObjectWrite { condition: condition.clone(), ..object("c", "k", &format!("{round}-{number}")) };
            Write::WriteObjects {
                owner: user(1),
                objects: vec![object],
                time: engine::id::Timestamp(i64::from(number)),
            }
        };
        let writes: Vec<_> = (0..20).map(write).collect();
        let outcomes: Vec<_> = commit(world.store(), &writes).into_iter().map(written).collect();
        let won: Vec<_> = outcomes.iter().filter(|outcome| is_done(outcome)).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let kept = world.store().objects(&[id(1, "c", "k")]).unwrap().remove(0);
        assert_eq!(*won[0], ObjectsWritten::Done(vec![(&kept).into()]));
        condition = ObjectCondition::Version(kept.version.to_string());
    }
    assert!(is_done(&put(&mut world, 2, object("c", "k", "{}"))));
}

fn deletes_are_all_or_none<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    let time = world.now();
    let objects = ["k1", "k2", "k3"].map(|key| ObjectWrite { read: ReadPermission::Public, ..object("c", key, "{}") });
    world.write(Write::WriteObjects { owner: user(1), objects: objects.into(), time });
    let good = version("{}").to_string();
    for deletes in [
        vec![("c", "k1", None), ("c", "none", None)],
        vec![("c", "k1", Some(good.as_str())), ("c", "k2", Some("another"))],
        vec![("c", "k1", None), ("", "", None)],
    ] {
        assert_eq!(delete(&world, 1, &deletes), ObjectsDeleted::Refused, "{deletes:?}");
    }
    assert_eq!(delete(&world, 2, &[("c", "k1", None)]), ObjectsDeleted::Refused, "of another user");
    assert_eq!(listed(world.store(), &public("c")), "k1:1 k2:1 k3:1");
    assert_eq!(delete(&world, 1, &[("c", "k3", Some(good.as_str())), ("c", "k1", None)]), ObjectsDeleted::Done);
    assert_eq!(delete(&world, 1, &[]), ObjectsDeleted::Done);
    for _ in 0..2 {
        assert_eq!([listed(world.store(), &public("c")), listed(world.store(), &own(1, "c"))], ["k2:1", "k2:1"]);
        assert_eq!(world.store().object_counts(user(1)).unwrap(), ObjectCounts { objects: 1, bytes: 5 });
        world.tested.reopen();
    }
    // What was deleted may be written again.
    let again = ObjectWrite { condition: ObjectCondition::Absent, ..object("c", "k1", "{}") };
    assert!(is_done(&put(&mut world, 1, again)));
    assert_eq!(listed(world.store(), &own(1, "c")), "k1:1 k2:1");
}

fn lists_have_what_their_readers_may_read<S: StoreUnderTest>() {
    use ReadPermission::{NoClient, Owner, Public};
    let mut world = World::<S>::of(3);
    for (owner, key, read) in [
        (1, "d", Owner),
        (1, "b", Public),
        (1, "c", NoClient),
        (1, "a", Public),
        (1, "e", Owner),
        (2, "b", Public),
        (2, "a", Owner),
        (3, "ab", Public),
    ] {
        for collection in ["c", "cc"] {
            assert!(is_done(&put(&mut world, owner, ObjectWrite { read, ..object(collection, key, "{}") })));
        }
    }
    for _ in 0..2 {
        let store = world.store();
        assert_eq!(listed(store, &own(1, "c")), "d:1 e:1 a:1 b:1", "by permission, then by key");
        assert_eq!(listed(store, &public_of(1, "c")), "a:1 b:1");
        assert_eq!(listed(store, &own(2, "c")), "a:2 b:2");
        assert_eq!(listed(store, &public("c")), "a:1 ab:3 b:1 b:2", "by key, then by owner");
        assert_eq!(
            [listed(store, &public("d")), listed(store, &own(9, "c")), listed(store, &public_of(9, "c"))],
            [""; 3]
        );
        let read = store.objects(&[id(1, "c", "c"), id(1, "c", "d"), id(1, "c", "a")]).unwrap();
        let may = |reader| read.iter().map(|object| object.is_readable_by(user(reader))).collect::<Vec<_>>();
        assert_eq!([may(1), may(2)], [[false, true, true], [false, false, true]]);
        world.tested.reopen();
    }
}

fn pages_of_a_list_are_the_list<S: StoreUnderTest>() {
    let mut world = World::<S>::of(5);
    for owner in 1..=5 {
        let read = |number| if number % 3 == 0 { ReadPermission::Owner } else { ReadPermission::Public };
        let objects =
            (0..14).map(|number| ObjectWrite { read: read(number), ..object("c", &format!("key-{number:02}"), "{}") });
        let time = world.now();
        world.write(Write::WriteObjects { owner: user(owner), objects: objects.collect(), time });
    }
    let store = world.store();
    for (listing, count) in [(own(2, "c"), 14), (public_of(2, "c"), 9), (public("c"), 45)] {
        let whole = store.object_list(&listing, None, 9999).unwrap();
        assert_eq!(whole.len(), count);
        assert!(whole.is_sorted_by(|one, other| one.place() < other.place()));
        for limit in [1, 4, 100] {
            let (mut pages, mut after) = (Vec::new(), None);
            loop {
                let page = store.object_list(&listing, after.clone(), limit).unwrap();
                after = page.last().map(Object::place).or(after);
                let ended = page.len() < limit;
                pages.extend(page);
                if ended {
                    break;
                }
            }
            assert_eq!(pages, whole, "pages of {limit}");
        }
        let forged = |key: &str| Some(storage::object::ObjectPlace { key: key.into(), ..whole[0].place() });
        assert_eq!(store.object_list(&listing, forged(""), 9999).unwrap(), whole);
        assert_eq!(store.object_list(&listing, None, 0).unwrap(), []);
    }
    let last = storage::object::ObjectPlace { read: ReadPermission::Public, key: "z".into(), owner: user(1) };
    assert_eq!(store.object_list(&public("c"), Some(last), 9).unwrap(), []);
}

fn a_part_ends_when_it_has_many_bytes<S: StoreUnderTest>() {
    const OBJECTS: usize = 20;
    let mut world = World::<S>::of(1);
    let value = "x".repeat(OBJECT_VALUE_BYTES_MAX);
    for number in 0..OBJECTS {
        let write = ObjectWrite { read: ReadPermission::Public, ..object("c", &format!("{number:02}"), &value) };
        assert!(is_done(&put(&mut world, 1, write)));
    }
    for listing in [own(1, "c"), public("c")] {
        let (mut seen, mut after) = (0, None);
        loop {
            let part = world.store().objects_part(&listing, after.as_ref(), 101).unwrap();
            let bytes: usize = part.items.iter().map(|object| object.value.len()).sum();
            assert!(bytes < OBJECTS_PART_BYTES_MAX + OBJECT_VALUE_BYTES_MAX, "{bytes} bytes");
            seen += part.items.len();
            match part.stopped {
                Some(stopped) => after = Some(stopped),
                None => break,
            }
            assert!(!part.items.is_empty(), "a part has at least one");
        }
        assert_eq!(seen, OBJECTS, "{listing:?}");
    }
    let ids: Vec<_> = (0..OBJECTS_AT_ONCE_MAX).map(|number| id(1, "c", &format!("{number:02}"))).collect();
    assert_eq!(world.store().objects(&ids).unwrap().len(), OBJECTS_AT_ONCE_MAX);
}

fn objects_of_a_user_are_bounded<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let keys: Vec<_> = (0..OBJECTS_PER_USER_MAX).map(|number| format!("{number}")).collect();
    for some in keys.chunks(OBJECTS_PER_WRITE_MAX) {
        let (objects, time) = (some.iter().map(|key| object("c", key, "{}")).collect(), world.now());
        assert!(is_done(&written(world.write(Write::WriteObjects { owner: user(1), objects, time }))));
    }
    assert_eq!(put(&mut world, 1, object("d", "more", "{}")), ObjectsWritten::TooMany);
    assert!(is_done(&put(&mut world, 1, object("c", "7", "{ }"))), "those that are there may change");
    assert!(is_done(&put(&mut world, 2, object("d", "more", "{}"))), "another user has room");
    assert_eq!(delete(&world, 1, &[("c", "8", None)]), ObjectsDeleted::Done);
    assert!(is_done(&put(&mut world, 1, object("d", "more", "{}"))));
    assert_eq!(world.store().object_counts(user(1)).unwrap().objects, OBJECTS_PER_USER_MAX);

    let value = "x".repeat(OBJECT_VALUE_BYTES_MAX);
    let fits = (OBJECT_BYTES_PER_USER_MAX as usize - 1) / OBJECT_VALUE_BYTES_MAX;
    for number in 0..fits {
        assert!(is_done(&put(&mut world, 3, object("c", &format!("{number}"), &value))));
    }
    assert_eq!(put(&mut world, 3, object("c", "more", &value)), ObjectsWritten::TooLarge);
    assert!(is_done(&put(&mut world, 3, object("c", "0", "{}"))), "what takes less room is written");
    assert!(is_done(&put(&mut world, 3, object("c", "more", &value))));
    assert!(world.store().object_counts(user(3)).unwrap().bytes <= OBJECT_BYTES_PER_USER_MAX);
}

fn names_that_cannot_be_are_refused_and_not_found<S: StoreUnderTest>() {
    let mut world = World::<S>::of(1);
    let longest = "é".repeat(OBJECT_NAME_CHARS_MAX);
    assert!(is_done(&put(&mut world, 1, object(&longest, &longest, "{}"))));
    assert_eq!(world.store().objects(&[id(1, &longest, &longest)]).unwrap().len(), 1);
    let bad = [String::new(), "a\0b".into(), format!("{longest}x"), "x".repeat(5000)];
    for name in &bad {
        for (collection, key) in [(name.as_str(), "k"), ("c", name.as_str())] {
            let objects = vec![object("c", "good", "{}"), object(collection, key, "{}")];
            let write = Write::WriteObjects { owner: user(1), objects, time: world.now() };
            assert!(is_unfit(commit_one(world.store(), write)), "{name:?}");
            assert_eq!(world.store().objects(&[id(1, collection, key)]).unwrap(), []);
            assert_eq!(delete(&world, 1, &[(collection, key, None)]), ObjectsDeleted::Refused);
        }
        assert_eq!([listed(world.store(), &own(1, name)), listed(world.store(), &public(name))], [""; 2]);
    }
    let time = world.now();
    let large = vec![object("c", "k", &"x".repeat(OBJECT_VALUE_BYTES_MAX + 1))];
    let many = vec![object("c", "k", "{}"); OBJECTS_PER_WRITE_MAX + 1];
    for objects in [large, many] {
        let write = Write::WriteObjects { owner: user(1), objects, time };
        assert!(is_unfit(commit_one(world.store(), write)));
    }
    assert_eq!(listed(world.store(), &own(1, "c")), "");
}

fn objects_of_a_deleted_account_are_gone<S: StoreUnderTest>() {
    // More than the deletion itself removes.
    const OBJECTS: usize = 300;
    let mut world = World::<S>::of(2);
    for owner in 1..=2 {
        for first in (0..OBJECTS).step_by(OBJECTS_PER_WRITE_MAX) {
            let read = |number| if number % 2 == 0 { ReadPermission::Public } else { ReadPermission::Owner };
            let objects = (first..first + OBJECTS_PER_WRITE_MAX)
                .map(|number| ObjectWrite { read: read(number), ..object("c", &format!("{number:03}"), "{}") });
            let (objects, time) = (objects.collect(), world.now());
            assert!(is_done(&written(world.write(Write::WriteObjects { owner: user(owner), objects, time }))));
        }
    }
    let time = world.now();
    assert_eq!(world.write(Write::DeleteAccount { user: user(1), time }), Written::AccountDeleted(true));
    for _ in 0..2 {
        let store = world.store();
        assert_eq!([listed(store, &own(1, "c")), listed(store, &public_of(1, "c"))], [""; 2]);
        let left = store.object_list(&public("c"), None, 9999).unwrap();
        assert_eq!(left.len(), OBJECTS / 2);
        assert!(left.iter().all(|object| object.id.owner == user(2)));
        assert_eq!(store.objects(&[id(1, "c", "000"), id(2, "c", "000")]).unwrap().len(), 1);
        world.tested.reopen();
    }
    assert_eq!(put(&mut world, 1, object("c", "late", "{}")), ObjectsWritten::UnknownUser);
}
