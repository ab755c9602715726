//! What requests and writes look at: a bounded number of rows, whatever was removed and whatever others have.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::objects::*;
use common::people::*;
use common::*;
use engine::id::Timestamp;
use engine::persist::{StoreQuestion, StoreReceipt};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, Role};
use storage::group::{GROUPS_PER_USER_MAX, GroupFilter};
use storage::inbox::NOTIFICATIONS_MAX;
use storage::object::{ObjectWrite, ObjectsWritten, ReadPermission};
use storage::{PageStart, Part, Store, Write, Written};

/// Most rows that one request may look at, beyond what it finds.
const ROWS_MAX: u64 = 2_200;
/// Most rows that a write, or a request without removed rows in its way, may look at.
const FEW: u64 = 40;

/// Does something, and returns the rows that the store has looked at for it.
fn rows<T>(store: &dyn Store, act: impl FnOnce() -> T) -> (T, u64) {
    let before = store.rows_read();
    let done = act();
    (done, store.rows_read() - before)
}

/// Reads a list part by part, checks that no part looks at too many rows, and returns the items and the parts' count.
fn read_whole<T, P: Copy + std::fmt::Debug>(
    store: &dyn Store,
    read: impl Fn(Option<P>) -> Part<T, P>,
) -> (Vec<T>, usize) {
    let (mut items, mut after, mut parts) = (Vec::new(), None, 0);
    loop {
        let (part, rows) = rows(store, || read(after));
        assert!(rows <= ROWS_MAX, "{rows} rows from {after:?}");
        items.extend(part.items);
        parts += 1;
        match part.stopped {
            Some(stopped) => after = Some(stopped),
            None => return (items, parts),
        }
        assert!(parts < 1000);
    }
}

fn of_room(store: &dyn Store, from: PageStart) -> (Vec<u32>, usize) {
    let (messages, parts) = read_whole(store, |after| {
        store.messages_part(&room("lobby"), after.map_or(from, |id| from.behind(id)), 101).unwrap()
    });
    (messages.iter().map(|message| message.sequence.0 as u32).collect(), parts)
}

/// A room of some thousand messages, all removed but a few.
fn room_of_the_removed(kept: &[u32], count: u32) -> World<OnDisk> {
    let world = World::<OnDisk>::of(2);
    let lobby = room("lobby");
    for start in (1..=count).step_by(1000) {
        let numbers = start..=(start + 999).min(count);
        commit(world.store(), &numbers.clone().map(|number| insert(&lobby, number, 1)).collect::<Vec<_>>());
        let removed: Vec<_> = numbers.filter(|number| !kept.contains(number)).collect();
        commit(world.store(), &removed.iter().map(|number| remove(&lobby, *number, 1)).collect::<Vec<_>>());
    }
    world
}

#[test]
fn a_page_of_a_room_whose_messages_were_removed() {
    let kept = [1, 5_000, 9_000];
    let world = room_of_the_removed(&kept, 9_500);
    let store = world.store();
    let (head, read) = rows(store, || store.head(&room("lobby")).unwrap());
    assert_eq!((head.unwrap().sequence.0, read), (9_500, 2), "the last row and the kept head");
    let (found, parts) = of_room(store, PageStart::Oldest);
    assert_eq!(found, kept);
    assert!(parts >= 4, "{parts} parts");
    // Later readers jump over what was found to be empty, in both directions and from any place.
    for (from, expected) in [
        (PageStart::Oldest, vec![1, 5_000, 9_000]),
        (PageStart::Newest, vec![9_000, 5_000, 1]),
        (PageStart::After(message_id(4_000)), vec![5_000, 9_000]),
        (PageStart::Before(message_id(4_000)), vec![1]),
        (PageStart::After(message_id(9_400)), vec![]),
    ] {
        let (part, read) = rows(store, || store.messages_part(&room("lobby"), from, 101).unwrap());
        let found: Vec<_> = part.items.iter().map(|message| message.sequence.0 as u32).collect();
        assert_eq!((found, part.stopped), (expected, None));
        assert!(read <= FEW, "{read} rows from {from:?}");
    }
    commit(store, &[insert(&room("lobby"), 9_501, 1)]);
    assert_eq!(of_room(store, PageStart::Newest).0, [9_501, 9_000, 5_000, 1]);
}

#[test]
fn a_page_that_is_found_empty_helps_the_next_one_without_a_cursor() {
    let world = room_of_the_removed(&[1], 9_500);
    let store = world.store();
    let newest = || store.messages_part(&room("lobby"), PageStart::Newest, 101).unwrap();
    let attempts = (0..).take_while(|_| newest().stopped.is_some()).count();
    assert!((4..=5).contains(&attempts), "{attempts} attempts");
    assert_eq!(newest().items.len(), 1);
}

#[test]
fn what_a_channel_asks_for_is_all_or_nothing() {
    let world = room_of_the_removed(&[1], 30_000);
    let store = world.store();
    let question = StoreQuestion::Newest { channel: room("lobby"), limit: 200 };
    let mut refused = 0;
    let newest = loop {
        let (found, read) = rows(store, || storage::bridge::look_up(store, &question));
        assert!(read <= 4 * ROWS_MAX, "{read} rows");
        match found {
            Ok(newest) => break newest,
            Err(failure) => assert!(failure.to_string().contains("removed messages"), "{failure}"),
        }
        refused += 1;
        assert!(refused < 9);
    };
    assert!(refused >= 2, "{refused} refused");
    assert_eq!(newest, StoreReceipt::Newest(vec![message(&room("lobby"), 1, 1)]));
}

#[test]
fn what_a_channel_asks_for_is_found_between_sparse_messages() {
    let kept: Vec<u32> = (1..=300).map(|number| 50 * number).collect();
    let world = room_of_the_removed(&kept, 15_000);
    let question = StoreQuestion::Newest { channel: room("lobby"), limit: 200 };
    assert!(storage::bridge::look_up(world.store(), &question).is_err(), "it must look at 10,000 rows");
    let (found, read) = rows(world.store(), || storage::bridge::look_up(world.store(), &question));
    let StoreReceipt::Newest(newest) = found.unwrap() else { panic!("another answer") };
    let found: Vec<_> = newest.iter().map(|message| message.sequence.0 as u32).collect();
    assert_eq!(found, kept.iter().rev().take(200).copied().collect::<Vec<_>>());
    assert!(read <= 4 * ROWS_MAX, "{read} rows");
}

#[test]
fn groups_that_are_gone() {
    let mut world = World::<OnDisk>::of(1);
    for number in 1..=5_000 {
        world.make(number, 1);
        if number % 2_500 != 0 {
            assert_eq!(world.act(number, 1, GroupAct::Delete), "deleted");
        }
    }
    let store = world.store();
    let (mut found, mut after, mut parts) = (Vec::new(), None, 0);
    loop {
        let (page, read) = rows(store, || store.groups(&GroupFilter::default(), after.as_ref(), 10).unwrap());
        assert!(read <= ROWS_MAX, "{read} rows");
        found.extend(page.0.into_iter().map(|group| group.name));
        (after, parts) = (page.1, parts + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["group-2500", "group-5000"]);
    assert!(parts > 2);
    let none = GroupFilter { open: Some(false), ..GroupFilter::default() };
    let (page, read) = rows(store, || store.groups(&none, None, 10).unwrap());
    assert_eq!(page, (vec![], None));
    assert!(read <= FEW, "{read} rows");
}

/// Of a group's messages nine in ten were removed, so between two that are left there are few marks.
#[test]
fn what_is_left_of_a_group_goes_with_later_writes_whatever_was_removed_before() {
    const MESSAGES: u32 = 6_000;
    let mut world = World::<OnDisk>::of(2);
    (1..=2).for_each(|number| world.make(number, 1));
    let channel = channel_of(1);
    for start in (1..=MESSAGES).step_by(1000) {
        let numbers = start..start + 1000;
        commit(world.store(), &numbers.clone().map(|number| insert(&channel, number, 1)).collect::<Vec<_>>());
        let removed = numbers.filter(|number| number % 10 != 0);
        commit(world.store(), &removed.map(|number| remove(&channel, number, 1)).collect::<Vec<_>>());
    }
    assert_eq!(world.act(1, 1, GroupAct::Delete), "deleted");
    assert_eq!(world.act(2, 1, GroupAct::Delete), "deleted");
    let store = world.store();
    let left = || {
        read_whole(store, |after| {
            let from = after.map_or(PageStart::Oldest, |id| PageStart::Oldest.behind(id));
            store.messages_part(&channel, from, 101).unwrap()
        })
        .0
    };
    assert!(!left().is_empty(), "the first write removes only a part");
    for number in 1..=30 {
        let (_, read) = rows(store, || commit(store, &[insert(&room("lobby"), number, 2)]));
        assert!(read <= ROWS_MAX + 2 * FEW, "{read} rows for a write");
    }
    assert_eq!(left(), []);
    let (_, read) = rows(store, || commit(store, &[insert(&room("lobby"), 31, 2)]));
    assert!(read <= FEW, "{read} rows when nothing is left");
}

#[test]
fn comings_and_goings_in_a_group() {
    let mut world = World::<OnDisk>::of(5);
    for number in 1..=3 {
        world.make(number, 1);
    }
    world.cast(1, &[(3, Role::Member), (4, Role::JoinRequest), (5, Role::Admin)]);
    world.cast(2, &[(2, Role::Member)]);
    for _ in 0..4_000 {
        assert_eq!(world.act(1, 2, GroupAct::Join), "message 3 of 2");
        let leave = world.request(1, 2, GroupAct::Leave);
        let (_, read) = rows(world.store(), || world.write(leave));
        assert!(read <= FEW, "{read} rows for a leave");
    }
    let join = world.request(1, 2, GroupAct::Join);
    let (_, read) = rows(world.store(), || world.write(join));
    assert!(read <= FEW, "{read} rows for a join");
    let store = world.store();
    let members = |after| store.group_members_part(group_id(1), None, after, 101).unwrap();
    let (people, parts) = read_whole(store, members);
    assert_eq!(people.iter().map(|(user, _)| number(*user)).collect::<Vec<_>>(), [1, 5, 3, 4, 2]);
    assert!(parts > 1, "{parts}");
    let groups = |after| store.user_groups_part(user(2), None, after, 101).unwrap();
    let (found, _) = read_whole(store, groups);
    assert_eq!(found.iter().map(|(group, _)| group.name.as_str()).collect::<Vec<_>>(), ["group-2", "group-1"]);
    for (of, read) in [("members", rows(store, || members(None)).1), ("groups", rows(store, || groups(None)).1)] {
        assert!(read <= FEW, "{read} rows of {of}");
    }
    check_sound(store, 3, 5);
}

#[test]
fn superadmins_who_come_and_go_hinder_no_other_user() {
    let mut world = World::<OnDisk>::of(4);
    world.make(1, 1);
    world.cast(1, &[(2, Role::Member), (3, Role::Member)]);
    for _ in 0..2_500 {
        for act in [GroupAct::Promote(users(&[2])), GroupAct::Demote(users(&[2]))] {
            let act = world.request(1, 1, act);
            let (_, read) = rows(world.store(), || world.write(act));
            assert!(read <= FEW, "{read} rows");
        }
    }
    // The first removed rows are in the way of these writes. Each attempt looks at a bounded number of them.
    let mut attempts = 0;
    loop {
        let depart = world.request(1, 1, GroupAct::Depart);
        let (done, read) = rows(world.store(), || commit_one(world.store(), depart));
        assert!(read <= ROWS_MAX, "{read} rows");
        attempts += 1;
        if done.is_ok() {
            break;
        }
        assert!(attempts < 5);
    }
    assert_eq!(world.roster(1), "3:0 2:2");
}

#[test]
fn joins_of_who_is_in_almost_too_many_groups() {
    let mut world = World::<OnDisk>::of(3);
    let most = GROUPS_PER_USER_MAX as u32;
    let makes: Vec<_> = (1..most).map(|number| Write::CreateGroup(group(number, 1))).collect();
    commit(world.store(), &makes);
    world.make_as(storage::group::Group { open: true, max_count: 1, ..group(most, 2) });
    world.make(most + 1, 2);
    for (group, told) in [(most, "Full"), (most + 1, "message 3 of 1"), (most, "Full")] {
        let join = world.request(group, 1, GroupAct::Join);
        let (done, read) = rows(world.store(), || world.write(join));
        assert!(read <= FEW, "{read} rows");
        let refused = format!("{done:?}").contains("Full");
        assert_eq!(refused, told == "Full");
    }
    let make = Write::CreateGroup(group(most + 2, 1));
    let (done, read) = rows(world.store(), || world.write(make));
    assert!(format!("{done:?}").contains("TooManyGroups") && read <= FEW, "{read} rows, {done:?}");
}

#[test]
fn friends_who_come_and_go() {
    let mut world = World::<OnDisk>::of(4);
    world.relate(FriendAct::Add, 1, &[3]);
    world.relate(FriendAct::Add, 3, &[1]);
    for round in 0..5_000 {
        world.relate(FriendAct::Add, 2, &[1]);
        let delete = Write::Relate {
            act: FriendAct::Delete,
            user: user(2),
            others: users(&[1]),
            metadata: "".into(),
            time: world.now(),
        };
        let (_, read) = rows(world.store(), || world.write(delete));
        assert!(read <= FEW, "{read} rows in round {round}");
    }
    world.relate(FriendAct::Add, 2, &[1]);
    let store = world.store();
    let friends = |after| store.friends_part(user(1), None, after, 1001).unwrap();
    let (found, parts) = read_whole(store, friends);
    assert_eq!(found.iter().map(|(friend, _)| number(friend.user)).collect::<Vec<_>>(), [3, 2]);
    assert!(parts > 1, "{parts}");
    let (_, read) = rows(store, || friends(None));
    assert!(read <= FEW, "{read} rows");
}

#[test]
fn notifications_behind_those_that_were_removed_to_make_room() {
    let mut world = World::<OnDisk>::of(2);
    let adds: Vec<_> = (0..NOTIFICATIONS_MAX + 5_000)
        .flat_map(|_| {
            let time = world.now();
            let relate = |act| Write::Relate { act, user: user(2), others: users(&[1]), metadata: "".into(), time };
            [relate(FriendAct::Add), relate(FriendAct::Delete)]
        })
        .collect();
    for some in adds.chunks(1000) {
        let (_, read) = rows(world.store(), || commit(world.store(), some));
        assert!(read <= FEW * some.len() as u64, "{read} rows for {} writes", some.len());
    }
    let store = world.store();
    let (part, read) = rows(store, || store.notifications_part(user(1), None, 100).unwrap());
    assert_eq!((part.items.len(), part.stopped), (100, None));
    assert!(read <= 100 + FEW, "{read} rows");
}

/// The numbers of a user's messages in the lobby, and the rows that were looked at to find them.
fn own_messages(store: &dyn Store, one: u32) -> (Vec<u32>, u64) {
    let (mut all, mut from, mut read) = (Vec::new(), None, 0);
    loop {
        let (part, rows) = rows(store, || store.written_part(user(one), None, from.clone(), 256).unwrap());
        assert!(rows <= ROWS_MAX, "{rows} rows from {from:?}");
        all.extend(part.items.into_iter().map(|(_, id)| (id.0.as_u128() >> 96) as u32));
        (from, read) = (part.stopped, read + rows);
        if from.is_none() {
            return (all, read);
        }
    }
}

#[test]
fn the_messages_of_who_said_a_word_in_a_large_room() {
    const PASSAGE: u64 = 1 << 14;
    let mut world = World::<OnDisk>::of(3);
    let said = [20_001, 55_000];
    let sender = |number| if said.contains(&number) { 2 } else { 1 };
    for start in (1..=60_000).step_by(1000) {
        let writes: Vec<_> =
            (start..start + 1000).map(|number| insert(&room("lobby"), number, sender(number))).collect();
        commit(world.store(), &writes);
    }
    let (found, read) = own_messages(world.store(), 2);
    assert_eq!(found, said);
    assert!(read <= 2 * (PASSAGE + FEW), "{read} rows");
    let (found, read) = own_messages(world.store(), 1);
    assert_eq!(found.len(), 60_000 - 2);
    assert!(read <= 62_000, "{read} rows: each once");
    assert_eq!(own_messages(world.store(), 3), (vec![], 0));
    world.tested.reopen();
    commit(world.store(), &[insert(&room("lobby"), 60_001, 2), insert(&room("lobby"), 60_002, 1)]);
    assert_eq!(own_messages(world.store(), 2).0, [20_001, 55_000, 60_001]);
    let removes: Vec<_> = (20_002..54_000).map(|number| remove(&room("lobby"), number, 1)).collect();
    commit(world.store(), &removes);
    let (found, read) = own_messages(world.store(), 2);
    assert_eq!(found, [20_001, 55_000, 60_001]);
    assert!(read <= 3 * (PASSAGE + FEW), "{read} rows");
}

fn write_objects(store: &dyn Store, owner: u32, objects: Vec<ObjectWrite>) {
    let write = Write::WriteObjects { owner: user(owner), objects, time: Timestamp(5) };
    let written = commit_one(store, write).unwrap();
    assert!(matches!(written, Written::ObjectsWritten(ObjectsWritten::Done(_))), "{written:?}");
}

#[test]
fn objects_are_found_without_a_look_at_those_of_others() {
    const USERS: u32 = 30;
    let world = World::<OnDisk>::of(USERS);
    let store = world.store();
    for owner in 1..=USERS {
        for collection in ["c", "d"] {
            let read = |number| if number % 3 == 0 { ReadPermission::Public } else { ReadPermission::Owner };
            let object =
                |number| ObjectWrite { read: read(number), ..object(collection, &format!("{number:02}"), "{}") };
            write_objects(store, owner, (0..90).map(object).collect());
        }
    }
    // A page of eleven: a row of the list, and for public ones of all users the object and its owner.
    for (listing, most) in [(own(7, "c"), 14), (public_of(7, "c"), 14), (public("c"), 36)] {
        let (part, read) = rows(store, || store.objects_part(&listing, None, 11).unwrap());
        assert_eq!(part.items.len(), 11);
        assert!(read <= most, "{read} rows for {listing:?}");
    }
    let (found, read) = rows(store, || store.objects(&[id(7, "c", "00"), id(8, "c", "01"), id(8, "c", "x")]).unwrap());
    assert_eq!(found.len(), 2);
    assert!(read <= 9, "{read} rows");
    let ((), read) = rows(store, || write_objects(store, 7, vec![object("c", "00", "{}"), object("c", "new", "{}")]));
    assert!(read <= 9, "{read} rows");
    let (_, read) = rows(store, || commit_one(store, delete_objects(7, &[("c", "00", None)])));
    assert!(read <= 9, "{read} rows");
}

#[test]
fn a_list_of_objects_that_were_deleted() {
    let world = World::<OnDisk>::of(2);
    let store = world.store();
    let public_object = |key: &str| ObjectWrite { read: ReadPermission::Public, ..object("c", key, "{}") };
    write_objects(store, 1, vec![public_object("zz")]);
    for round in 0..60 {
        let keys: Vec<_> = (0..100).map(|number| format!("{round:02}-{number:02}")).collect();
        write_objects(store, 2, keys.iter().map(|key| public_object(key)).collect());
        let deletes: Vec<_> = keys.iter().map(|key| ("c", key.as_str(), None)).collect();
        commit(store, &[delete_objects(2, &deletes)]);
    }
    for listing in [public("c"), own(2, "c")] {
        let (mut found, mut after, mut parts) = (Vec::new(), None, 0);
        loop {
            let (part, read) = rows(store, || store.objects_part(&listing, after.as_ref(), 11).unwrap());
            assert!(read <= ROWS_MAX, "{read} rows");
            found.extend(part.items.into_iter().map(|object| object.id.key));
            parts += 1;
            match part.stopped {
                Some(stopped) => after = Some(stopped),
                None => break,
            }
        }
        let expected = if listing.owner().is_none() { vec!["zz"] } else { vec![] };
        assert_eq!(found, expected);
        assert!((2..9).contains(&parts), "{parts} parts");
        let (_, read) = rows(store, || store.objects_part(&listing, None, 11).unwrap());
        assert!(read <= FEW, "{read} rows, as what is empty is known");
    }
}
