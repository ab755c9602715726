//! Groups: their members, the messages and notices about changes, and the listing of groups.

use engine::id::Timestamp;
use engine::message::{Message, MessageCode};
use engine::persist::{StoreReceipt, StoreWrite};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange, Role};
use storage::account::AccountChange;
use storage::group::{
    ADMINS_NOTIFIED_MAX, GROUP_NAME_BYTES_MAX, GROUPS_ADDED_MAX, GROUPS_EXAMINED_MAX, GROUPS_PER_USER_MAX, Group,
    GroupCreated, GroupEdit, GroupEdited, GroupFilter, GroupPlace, RosterPlace,
};
use storage::repeats::{GROUP_NOTICES_MAX, REPEAT_INTERVAL_NS};
use storage::{PageStart, Store, Write, Written};
use uuid::Uuid;

use crate::common::people::*;
use crate::common::*;

laws! {
    repeated_requests_to_join_notify_once_a_minute
    new_groups_notify_a_user_so_often_only
    a_group_begins_with_its_creator
    joins_are_open_or_asked_for
    leaving_is_not_for_the_last_superadmin
    departures_hand_over
    adding_is_for_all_or_none
    a_change_about_very_many_is_like_any_other
    each_role_reaches_its_own
    messages_tell_of_members_in_their_own_names
    the_last_seat_is_taken_once
    a_deleted_group_leaves_nothing
    edits_are_of_admins_and_names_are_unique
    requests_are_told_to_the_longest_serving_admins
    a_user_is_in_a_bounded_number_of_groups
    others_can_add_a_user_to_so_many_groups_only
    lists_of_people_are_in_order_and_paged
    groups_are_found_by_what_is_asked
    looking_for_groups_is_bounded
    a_change_without_places_is_unfit_and_nothing
}

fn created(store: &dyn Store, group: Group) -> GroupCreated {
    match commit_one(store, Write::CreateGroup(group)) {
        Ok(Written::GroupCreated(created)) => created,
        other => panic!("{other:?}"),
    }
}

fn a_group_begins_with_its_creator<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let store = world.store();
    assert_eq!(created(store, group(1, 2)), GroupCreated::Created);
    let named = |number, creator, name: &str| Group { name: name.into(), ..group(number, creator) };
    assert_eq!(created(store, named(2, 3, "group-1")), GroupCreated::NameTaken);
    assert_eq!(created(store, named(2, 3, "Group-1")), GroupCreated::Created, "names differ byte for byte");
    assert_eq!(created(store, group(3, 4)), GroupCreated::UnknownUser);
    assert!(is_unfit(commit_one(store, Write::CreateGroup(group(1, 3)))), "the id is taken");
    assert!(is_unfit(commit_one(store, Write::CreateGroup(Group { max_count: 0, ..group(4, 1) }))));
    for length in [0, GROUP_NAME_BYTES_MAX + 1] {
        assert!(is_unfit(commit_one(store, Write::CreateGroup(named(4, 1, &"x".repeat(length))))));
    }
    let longest = named(4, 1, &"x".repeat(GROUP_NAME_BYTES_MAX));
    assert_eq!(created(store, Group { edge_count: 77, ..longest.clone() }), GroupCreated::Created);
    world.tested.reopen();
    let store = world.store();
    assert_eq!(store.group(group_id(1)).unwrap(), Some(group(1, 2)));
    assert_eq!(store.group(group_id(4)).unwrap(), Some(longest));
    assert_eq!(store.group(group_id(3)).unwrap(), None);
    assert_eq!(world.roster(1), "2:0");
    check_sound(store, 5, 4);
}

/// The users for the laws: 1 and 2 are superadmins, 3 and 4 admins, 5 and 6 members, 7 asks to join, 8 is banned, and 9
/// and 10 are strangers.
fn cast<S: StoreUnderTest>(open: bool) -> World<S> {
    let mut world = World::<S>::of(10);
    world.make_as(Group { open: false, ..group(1, 1) });
    use Role::*;
    world.cast(1, &[(2, Superadmin), (3, Admin), (4, Admin), (5, Member), (6, Member), (7, JoinRequest), (8, Banned)]);
    let edit = GroupEdit { open: Some(open), ..GroupEdit::default() };
    let written = world.write(Write::UpdateGroup { id: group_id(1), actor: user(3), edit, time: Timestamp(9) });
    assert_eq!(written, Written::GroupEdited(GroupEdited::Done));
    assert_eq!(world.roster(1), "1:0 2:0 3:1 4:1 5:2 6:2 7:3 8:4");
    world
}

/// Carries out one act on these users, and checks the outcome and all roles afterwards.
fn check<S: StoreUnderTest>(open: bool, actor: u32, act: GroupAct, expected: &str, roster: &str) {
    let mut world = cast::<S>(open);
    let what = format!("{actor}: {act:?}");
    assert_eq!(world.act(1, actor, act), expected, "{what}");
    assert_eq!(world.roster(1), roster, "{what}");
    check_sound(world.store(), 1, 10);
    world.tested.reopen();
    assert_eq!(world.roster(1), roster, "{what}");
}

const UNCHANGED: &str = "1:0 2:0 3:1 4:1 5:2 6:2 7:3 8:4";

fn joins_are_open_or_asked_for<S: StoreUnderTest>() {
    check::<S>(true, 9, GroupAct::Join, "message 3 of 9", "1:0 2:0 3:1 4:1 5:2 6:2 9:2 7:3 8:4");
    let told = "notice -5 to 1, notice -5 to 2, notice -5 to 3, notice -5 to 4";
    check::<S>(false, 9, GroupAct::Join, told, "1:0 2:0 3:1 4:1 5:2 6:2 7:3 9:3 8:4");
    for actor in [1, 3, 5, 7, 8] {
        check::<S>(true, actor, GroupAct::Join, "", UNCHANGED);
        check::<S>(false, actor, GroupAct::Join, "", UNCHANGED);
    }
    let mut world = World::<S>::of(3);
    world.make_as(Group { open: true, max_count: 2, ..group(1, 1) });
    assert_eq!(world.act(1, 2, GroupAct::Join), "message 3 of 2");
    for actor in [1, 2, 3] {
        assert_eq!(world.act(1, actor, GroupAct::Join), "Full", "even members hear it");
    }
    assert_eq!(world.act(2, 1, GroupAct::Join), "NotFound");
    assert_eq!(world.act(1, 2, GroupAct::Leave), "message 5 of 2, 2 is removed");
    assert_eq!(world.act(1, 99, GroupAct::Join), "UnknownUser");
}

fn leaving_is_not_for_the_last_superadmin<S: StoreUnderTest>() {
    check::<S>(true, 1, GroupAct::Leave, "message 5 of 1, 1 is removed", "2:0 3:1 4:1 5:2 6:2 7:3 8:4");
    check::<S>(true, 5, GroupAct::Leave, "message 5 of 5, 5 is removed", "1:0 2:0 3:1 4:1 6:2 7:3 8:4");
    check::<S>(true, 7, GroupAct::Leave, "", "1:0 2:0 3:1 4:1 5:2 6:2 8:4");
    for actor in [8, 9, 99] {
        check::<S>(true, actor, GroupAct::Leave, "", UNCHANGED);
    }
    let mut world = World::<S>::of(4);
    world.make(1, 1);
    assert_eq!(world.act(2, 1, GroupAct::Leave), "", "whoever is in no group has left it");
    world.cast(1, &[(2, Role::Member), (4, Role::Banned)]);
    assert_eq!(world.act(1, 1, GroupAct::Leave), "LastSuperadmin");
    assert_eq!(world.act(1, 2, GroupAct::Leave), "message 5 of 2, 2 is removed");
    assert_eq!(world.act(1, 1, GroupAct::Leave), "deleted");
    assert_eq!(world.store().group(group_id(1)).unwrap(), None);
    check_sound(world.store(), 1, 4);
}

fn departures_hand_over<S: StoreUnderTest>() {
    check::<S>(true, 1, GroupAct::Depart, "message 5 of 1, 1 is removed", "2:0 3:1 4:1 5:2 6:2 7:3 8:4");
    check::<S>(true, 7, GroupAct::Depart, "", "1:0 2:0 3:1 4:1 5:2 6:2 8:4");
    check::<S>(true, 8, GroupAct::Depart, "", "1:0 2:0 3:1 4:1 5:2 6:2 7:3");
    let mut world = World::<S>::of(6);
    world.make(1, 1);
    world.cast(1, &[(3, Role::Member), (2, Role::Member), (5, Role::Admin), (4, Role::Admin), (6, Role::Banned)]);
    let handed_over = "message 7 of 5, message 5 of 1, 1 is removed";
    assert_eq!(world.act(1, 1, GroupAct::Depart), handed_over, "rank, then time, then id");
    assert_eq!(world.roster(1), "5:0 4:1 3:2 2:2 6:4");
    for (actor, heir) in [(5, 4), (4, 3), (3, 2)] {
        let told = format!("message 7 of {heir}, message 5 of {actor}, {actor} is removed");
        assert_eq!(world.act(1, actor, GroupAct::Depart), told);
        check_sound(world.store(), 1, 6);
    }
    assert_eq!(world.act(1, 2, GroupAct::Depart), "deleted");
    assert_eq!(world.act(1, 2, GroupAct::Depart), "");
}

fn adding_is_for_all_or_none<S: StoreUnderTest>() {
    let told = "message 4 of 9, message 4 of 7, notice -4 to 9, notice -4 to 7";
    let roster = "1:0 2:0 3:1 4:1 5:2 6:2 7:2 9:2 8:4";
    check::<S>(false, 3, GroupAct::Add(users(&[9, 7, 8, 5, 1, 9])), told, roster);
    check::<S>(false, 3, GroupAct::Add(users(&[9, 99])), "UnknownUser", UNCHANGED);
    for actor in [5, 7, 8, 9] {
        check::<S>(true, actor, GroupAct::Add(users(&[9])), "NotFound", UNCHANGED);
    }
    let mut world = World::<S>::of(6);
    world.make_as(Group { max_count: 3, ..group(1, 1) });
    world.cast(1, &[(2, Role::Member)]);
    let before = world.store().group(group_id(1)).unwrap();
    assert_eq!(world.act(1, 1, GroupAct::Add(users(&[2, 3, 4]))), "Full");
    assert_eq!(world.roster(1), "1:0 2:2");
    assert_eq!(world.store().group(group_id(1)).unwrap(), before);
    assert_eq!(world.notified(3), [0; 0]);
    assert_eq!(world.store().messages(&channel_of(1), PageStart::Oldest, 9).unwrap().len(), 1);
    assert_eq!(world.store().channels_written(user(3), None, 9).unwrap(), []);
    assert_eq!(world.act(1, 1, GroupAct::Add(users(&[3]))), "message 4 of 3, notice -4 to 3");
    assert_eq!(world.act(1, 1, GroupAct::Add(users(&[3, 2]))), "");
    assert_eq!(world.act(2, 1, GroupAct::Add(users(&[3]))), "NotFound");
}

fn a_change_about_very_many_is_like_any_other<S: StoreUnderTest>() {
    const PEOPLE: u32 = 90;
    let mut world = World::<S>::of(PEOPLE);
    world.make(1, 1);
    let all: Vec<_> = (2..=PEOPLE).collect();
    let list = |of: &dyn Fn(u32) -> String| all.iter().map(|&number| of(number)).collect::<Vec<_>>();
    let told = [list(&|user| format!("message 4 of {user}")), list(&|user| format!("notice -4 to {user}"))].concat();
    assert_eq!(world.act(1, 1, GroupAct::Add(users(&all))), told.join(", "));
    assert_eq!(world.roster(1), format!("1:0 {}", list(&|user| format!("{user}:2")).join(" ")));
    assert_eq!(world.relate(FriendAct::Add, 1, &all).notices.len(), all.len());
    assert_eq!(world.relate(FriendAct::Block, 1, &all), Default::default());
    check_sound(world.store(), 1, PEOPLE);
    world.tested.reopen();
    let removed = [list(&|user| format!("message 8 of {user}")), list(&|user| format!("{user} is removed"))].concat();
    assert_eq!(world.act(1, 1, GroupAct::Ban(users(&all))), removed.join(", "));
    assert_eq!(world.roster(1), format!("1:0 {}", list(&|user| format!("{user}:4")).join(" ")));
    assert_eq!(world.friends(1), list(&|user| format!("{user}:3")).join(" "));
    for one in [2, 47, PEOPLE] {
        assert_eq!(world.notified(one), [-4, -2]);
    }
    check_sound(world.store(), 1, PEOPLE);
}

fn each_role_reaches_its_own<S: StoreUnderTest>() {
    let all = users(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 99]);
    type Named = fn(Vec<engine::id::UserId>) -> GroupAct;
    let cases: [(u32, Named, &str, &str); 8] = [
        (
            1,
            GroupAct::Kick,
            "message 6 of 2, message 6 of 3, message 6 of 4, message 6 of 5, message 6 of 6, \
             2 is removed, 3 is removed, 4 is removed, 5 is removed, 6 is removed",
            "1:0",
        ),
        (3, GroupAct::Kick, "message 6 of 5, message 6 of 6, 5 is removed, 6 is removed", "1:0 2:0 3:1 4:1"),
        (
            1,
            GroupAct::Ban,
            "message 8 of 2, message 8 of 3, message 8 of 4, message 8 of 5, message 8 of 6, \
             2 is removed, 3 is removed, 4 is removed, 5 is removed, 6 is removed",
            "1:0 8:4 2:4 3:4 4:4 5:4 6:4 7:4",
        ),
        (
            3,
            GroupAct::Ban,
            "message 8 of 5, message 8 of 6, 5 is removed, 6 is removed",
            "1:0 2:0 3:1 4:1 8:4 5:4 6:4 7:4",
        ),
        (
            1,
            GroupAct::Promote,
            "message 7 of 3, message 7 of 4, message 7 of 5, message 7 of 6",
            "1:0 2:0 3:0 4:0 5:1 6:1 7:3 8:4",
        ),
        (3, GroupAct::Promote, "message 7 of 5, message 7 of 6", "1:0 2:0 3:1 4:1 5:1 6:1 7:3 8:4"),
        (1, GroupAct::Demote, "message 9 of 2, message 9 of 3, message 9 of 4", "1:0 2:1 5:2 6:2 3:2 4:2 7:3 8:4"),
        (3, GroupAct::Demote, "message 9 of 4", "1:0 2:0 3:1 5:2 6:2 4:2 7:3 8:4"),
    ];
    for (actor, act, told, roster) in cases {
        check::<S>(true, actor, act(all.clone()), told, roster);
    }
    let acts: [Named; 4] = [GroupAct::Kick, GroupAct::Ban, GroupAct::Promote, GroupAct::Demote];
    for act in acts {
        for actor in [5, 7, 8, 9] {
            check::<S>(true, actor, act(all.clone()), "NotFound", UNCHANGED);
        }
        check::<S>(true, 3, act(vec![]), "", UNCHANGED);
    }
    let mut world = cast::<S>(true);
    assert_eq!(world.act(1, 3, GroupAct::Delete), "NotSuperadmin");
    assert_eq!(world.act(1, 9, GroupAct::Delete), "NotSuperadmin");
    assert_eq!(world.act(2, 1, GroupAct::Delete), "NotFound");
    assert_eq!(world.act(1, 8, GroupAct::Join), "", "banned");
    assert_eq!(world.act(1, 1, GroupAct::Kick(users(&[8]))), "", "the ban is lifted in silence");
    assert_eq!(world.act(1, 8, GroupAct::Join), "message 3 of 8");
}

fn messages_tell_of_members_in_their_own_names<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    world.make(1, 1);
    let rename = AccountChange { username: Some("Zoë".into()), ..AccountChange::default() };
    world.write(Write::ChangeAccount { id: user(2), change: rename, update_time: Timestamp(1) });
    let outcome = world.outcome(1, 1, GroupAct::Add(users(&[1, 2, 3]))).unwrap();
    // The act could have caused three messages; the third place stays empty.
    let expected = |number, sender, name: &str, time| Message {
        channel: channel_of(1),
        id: place(number).id,
        sequence: place(number).sequence,
        code: MessageCode::GroupAdd,
        sender: user(sender),
        username: name.into(),
        content: "{}".into(),
        create_time: Timestamp(time),
        update_time: Timestamp(time),
        persistent: true,
    };
    let time = outcome.messages[0].create_time.0;
    let expected = [expected(1, 2, "Zoë", time), expected(2, 3, "name-3", time)];
    assert_eq!(outcome.messages, expected);
    assert_eq!(world.store().messages(&channel_of(1), PageStart::Oldest, 9).unwrap(), expected);
    assert_eq!(world.store().head(&channel_of(1)).unwrap(), Some(place(2)));
    assert_eq!(world.store().channels_written(user(2), None, 9).unwrap(), [channel_of(1)]);

    let notice = &outcome.notices[0];
    assert_eq!((notice.user, notice.notification.sender), (user(2), user(1)));
    assert_eq!(&*notice.notification.subject, "You've been added to group group-1");
    assert_eq!(notice.notification.create_time, Timestamp(time));
    assert_eq!(world.store().notifications(user(2), None, 9).unwrap(), std::slice::from_ref(&notice.notification));

    let kicked = world.outcome(1, 1, GroupAct::Kick(users(&[2]))).unwrap();
    assert_eq!((kicked.messages[0].code, &*kicked.messages[0].username), (MessageCode::GroupKick, "Zoë"));
    let group = world.store().group(group_id(1)).unwrap().unwrap();
    assert_eq!((group.edge_count, group.update_time), (2, kicked.messages[0].create_time));
    world.tested.reopen();
    assert_eq!(world.store().messages(&channel_of(1), PageStart::Newest, 1).unwrap(), kicked.messages);
}

fn the_last_seat_is_taken_once<S: StoreUnderTest>() {
    let mut world = World::<S>::of(4);
    world.make_as(Group { open: true, max_count: 2, ..group(1, 1) });
    let together = [2, 3, 4].map(|actor| world.request(1, actor, GroupAct::Join));
    let told: Vec<_> = commit(world.store(), &together)
        .into_iter()
        .map(|written| match written {
            Written::Receipt(StoreReceipt::GroupChanged(changed)) => changed.map(|outcome| tell(&outcome)),
            other => panic!("{other:?}"),
        })
        .collect();
    use engine::social::group::GroupRefusal::Full;
    assert_eq!(told, [Ok("message 3 of 2".into()), Err(Full), Err(Full)]);
    check_sound(world.store(), 1, 4);
}

fn a_deleted_group_leaves_nothing<S: StoreUnderTest>() {
    let mut world = cast::<S>(true);
    world.make(2, 5);
    commit(world.store(), &[insert(&channel_of(1), 5000, 5)]);
    assert_eq!(world.act(1, 2, GroupAct::Delete), "deleted");
    for reopened in [false, true] {
        let store = world.store();
        assert_eq!(store.group(group_id(1)).unwrap(), None);
        assert_eq!(store.group_role(group_id(1), user(1)).unwrap(), None, "{reopened}");
        assert_eq!(world.roster(1), "");
        assert_eq!(store.user_groups(user(8), Some(Role::Banned), None, 9).unwrap(), []);
        let left: Vec<_> = store.user_groups(user(5), None, None, 9).unwrap().into_iter().map(|row| row.0.id).collect();
        assert_eq!(left, [group_id(2)]);
        assert_eq!(store.messages(&channel_of(1), PageStart::Oldest, 9).unwrap(), []);
        assert_eq!(store.head(&channel_of(1)).unwrap(), None);
        check_sound(store, 2, 10);
        world.tested.reopen();
    }
    for act in [GroupAct::Join, GroupAct::Add(users(&[9])), GroupAct::Delete, GroupAct::Kick(users(&[9]))] {
        assert_eq!(world.act(1, 2, act), "NotFound");
    }
    world.make_as(Group { name: "group-1".into(), ..group(3, 9) });
    check_sound(world.store(), 3, 10);
}

fn edits_are_of_admins_and_names_are_unique<S: StoreUnderTest>() {
    let mut world = cast::<S>(true);
    world.make(2, 1);
    let edit = |actor, number, edit: &GroupEdit, time| Write::UpdateGroup {
        id: group_id(number),
        actor: user(actor),
        edit: edit.clone(),
        time: Timestamp(time),
    };
    let name = |name: &str| GroupEdit { name: Some(name.into()), ..GroupEdit::default() };
    use GroupEdited::*;
    for (actor, number, change, expected) in [
        (5, 1, name("new"), NotFound),
        (7, 1, name("new"), NotFound),
        (8, 1, name("new"), NotFound),
        (9, 1, name("new"), NotFound),
        (1, 9, name("new"), NotFound),
        (3, 1, name("group-2"), NameTaken),
        (3, 1, name("group-1"), Done),
        (1, 1, name("Alpha"), Done),
        (1, 2, name("group-1"), Done),
        (1, 2, name("alpha"), Done),
        (1, 2, name("Alpha"), NameTaken),
    ] {
        let written = world.write(edit(actor, number, &change, 77));
        assert_eq!(written, Written::GroupEdited(expected), "{actor}, {number}, {change:?}");
        check_sound(world.store(), 2, 10);
    }
    for length in [0, GROUP_NAME_BYTES_MAX + 1] {
        assert!(is_unfit(commit_one(world.store(), edit(1, 1, &name(&"x".repeat(length)), 78))));
    }
    let before = world.store().group(group_id(1)).unwrap().unwrap();
    let rest = GroupEdit {
        name: None,
        description: Some("chess".into()),
        lang_tag: Some("de".into()),
        avatar_url: Some("a.png".into()),
        open: Some(false),
    };
    world.write(edit(3, 1, &rest, 99));
    world.tested.reopen();
    let after = Group {
        description: "chess".into(),
        lang_tag: "de".into(),
        avatar_url: "a.png".into(),
        open: false,
        update_time: Timestamp(99),
        ..before
    };
    assert_eq!(world.store().group(group_id(1)).unwrap(), Some(after));
}

fn requests_are_told_to_the_longest_serving_admins<S: StoreUnderTest>() {
    let admins = ADMINS_NOTIFIED_MAX as u32 + 3;
    let mut world = World::<S>::of(admins + 1);
    world.make_as(Group { max_count: 1000, ..group(1, 1) });
    let all: Vec<_> = (2..=admins).rev().collect();
    for chunk in all.chunks(40) {
        assert!(world.outcome(1, 1, GroupAct::Add(users(chunk))).is_ok());
        assert!(world.outcome(1, 1, GroupAct::Promote(users(chunk))).is_ok());
    }
    assert!(world.outcome(1, 1, GroupAct::Promote(users(&[5]))).is_ok());
    let outcome = world.outcome(1, admins + 1, GroupAct::Join).unwrap();
    let told: Vec<_> = outcome.notices.iter().map(|notice| number(notice.user)).collect();
    assert_eq!(told.len(), ADMINS_NOTIFIED_MAX);
    let list = world.store().group_members(group_id(1), None, None, ADMINS_NOTIFIED_MAX).unwrap();
    assert_eq!(told, list.iter().map(|(user, _)| number(*user)).collect::<Vec<_>>());
    assert_eq!(told[..2], [1, 5], "superadmins first, and of them the one who was it first");
    assert!(outcome.notices.iter().all(|notice| notice.notification.sender == user(admins + 1)));
}

fn a_user_is_in_a_bounded_number_of_groups<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let most = GROUPS_PER_USER_MAX as u32;
    let makes: Vec<_> = (1..most).map(|number| Write::CreateGroup(group(number, 1))).collect();
    commit(world.store(), &makes);
    world.make(most, 2);
    world.make(most + 1, 2);
    world.make(most + 2, 2);
    assert_eq!(world.act(most, 1, GroupAct::Join), "message 3 of 1");
    assert_eq!(world.act(most + 1, 1, GroupAct::Join), "TooManyGroups");
    assert_eq!(world.act(most + 1, 2, GroupAct::Add(users(&[3, 1]))), "TooManyGroups");
    assert_eq!(world.roster(most + 1), "2:0");
    assert_eq!(world.write(Write::CreateGroup(group(most + 3, 1))), Written::GroupCreated(GroupCreated::TooManyGroups));
    assert_eq!(world.act(most, 2, GroupAct::Ban(users(&[1]))), "message 8 of 1, 1 is removed");
    assert_eq!(world.act(most + 1, 1, GroupAct::Join), "message 3 of 1", "bans are not counted");
    assert_eq!(world.act(most + 2, 1, GroupAct::Join), "TooManyGroups");
    assert_eq!(world.act(1, 1, GroupAct::Delete), "deleted");
    assert_eq!(world.act(most + 2, 1, GroupAct::Join), "message 3 of 1", "nor groups that are gone");
}

fn others_can_add_a_user_to_so_many_groups_only<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let most = GROUPS_ADDED_MAX as u32;
    let makes: Vec<_> = (1..most).map(|number| Write::CreateGroup(group(number, 1))).collect();
    commit(world.store(), &makes);
    for number in most..most + 3 {
        world.make(number, 2);
    }
    assert_eq!(world.act(most, 2, GroupAct::Add(users(&[1]))), "message 4 of 1, notice -4 to 1");
    assert_eq!(world.act(most + 1, 2, GroupAct::Add(users(&[3, 1]))), "TooManyGroups");
    assert_eq!(world.act(most + 1, 1, GroupAct::Join), "message 3 of 1", "the user's own places are left");
    world.relate(FriendAct::Block, 3, &[2]);
    assert_eq!(world.act(most + 2, 2, GroupAct::Add(users(&[3]))), "", "a user who has blocked the admin stays out");
    assert_eq!(world.roster(most + 2), "2:0");
}

fn lists_of_people_are_in_order_and_paged<S: StoreUnderTest>() {
    let mut world = cast::<S>(true);
    for number in 2..=4 {
        world.make(number, 5);
    }
    let store = world.store();
    for role in [None, Some(Role::Superadmin), Some(Role::Member), Some(Role::JoinRequest), Some(Role::Banned)] {
        let whole = store.group_members(group_id(1), role, None, 99).unwrap();
        assert!(whole.is_sorted_by_key(|(_, place)| *place));
        assert!(whole.iter().all(|(_, place)| role.map_or(place.role != Role::Banned, |role| role == place.role)));
        for (index, (_, place)) in whole.iter().enumerate() {
            let rest = store.group_members(group_id(1), role, Some(*place), 2).unwrap();
            assert_eq!(rest, whole[index + 1..whole.len().min(index + 3)], "{role:?} behind {place:?}");
        }
        let whole = store.user_groups(user(5), role, None, 99).unwrap();
        assert!(whole.is_sorted_by_key(|(_, place)| *place));
        for (index, (_, place)) in whole.iter().enumerate() {
            assert_eq!(store.user_groups(user(5), role, Some(*place), 99).unwrap(), whole[index + 1..]);
        }
    }
    // Places that no list has returned.
    let forged = |role, since, id| RosterPlace { role, since: Timestamp(since), id: Uuid::from_u128(id) };
    for (role, after, expected) in [
        (None, forged(Role::Banned, i64::MAX, u128::MAX), 0),
        (None, forged(Role::Superadmin, i64::MIN, 0), 7),
        (Some(Role::Admin), forged(Role::Superadmin, 5, 7), 2),
        (Some(Role::Admin), forged(Role::Member, 5, 7), 0),
        (Some(Role::Admin), forged(Role::Admin, i64::MAX, u128::MAX), 0),
    ] {
        assert_eq!(store.group_members(group_id(1), role, Some(after), 99).unwrap().len(), expected, "{after:?}");
        store.user_groups(user(5), role, Some(after), 99).unwrap();
    }
    assert_eq!(store.group_members(group_id(1), None, None, 0).unwrap(), []);
    assert_eq!(store.group_members(group_id(9), None, None, 9).unwrap(), []);
    assert_eq!(store.user_groups(user(99), None, None, 9).unwrap(), []);
}

fn groups_are_found_by_what_is_asked<S: StoreUnderTest>() {
    let mut world = World::<S>::of(5);
    let texts =
        [("Chess", "en"), ("chess club", "de"), ("CHECKERS", "en"), ("go", "de"), ("Zug", "de"), ("ärger", "de")];
    for (number, (name, lang_tag)) in (1..).zip(texts) {
        let open = number % 2 == 0;
        world.make_as(Group { name: name.into(), lang_tag: lang_tag.into(), open, ..group(number, 1) });
    }
    world.cast(1, &[(2, Role::Member), (3, Role::Member)]);
    world.cast(4, &[(2, Role::Member), (4, Role::Banned)]);
    world.cast(5, &[(3, Role::JoinRequest)]);
    let check = |filter: GroupFilter, expected: &[u32]| {
        let found = |limit| {
            let (mut numbers, mut after) = (Vec::new(), None::<GroupPlace>);
            loop {
                let (page, next) = world.store().groups(&filter, after.as_ref(), limit).unwrap();
                assert!(page.len() <= limit);
                numbers.extend(page.iter().map(|group| group.id.0.as_u128() as u32));
                // Converts the place as a cursor does.
                after = next.map(|place| GroupPlace::from(Vec::from(place)));
                if after.is_none() {
                    return numbers;
                }
            }
        };
        for limit in [1, 2, 99] {
            assert_eq!(found(limit), expected, "{filter:?}, {limit}");
        }
    };
    let name = |name: &str| GroupFilter { name: Some(name.into()), ..GroupFilter::default() };
    check(GroupFilter::default(), &[3, 1, 2, 4, 5, 6]);
    check(name("chess"), &[1]);
    check(name("CHE%"), &[3, 1, 2]);
    check(name("%s%"), &[3, 1, 2]);
    check(name("%CLUB"), &[2]);
    check(name("Är%"), &[6]);
    check(name("x%"), &[]);
    check(name("%"), &[3, 1, 2, 4, 5, 6]);
    check(GroupFilter { lang_tag: Some("de".into()), ..GroupFilter::default() }, &[2, 4, 5, 6]);
    check(GroupFilter { open: Some(true), ..GroupFilter::default() }, &[2, 4, 6]);
    check(GroupFilter { members_max: Some(1), ..GroupFilter::default() }, &[3, 2, 5, 6]);
    check(GroupFilter { members_max: Some(2), ..GroupFilter::default() }, &[3, 2, 4, 5, 6]);
    let all = GroupFilter { name: None, lang_tag: Some("de".into()), open: Some(true), members_max: Some(2) };
    check(all, &[2, 4, 6]);
    let (last, next) = world.store().groups(&GroupFilter::default(), None, 6).unwrap();
    assert_eq!((last.len(), next), (6, None), "a page that ends at the end says so");
    for bytes in [vec![], vec![0], vec![255; 300], b"chess\0".to_vec()] {
        let forged = GroupPlace::from(bytes);
        world.store().groups(&name("che%"), Some(&forged), 9).unwrap();
        world.store().groups(&GroupFilter::default(), Some(&forged), 9).unwrap();
    }
}

fn looking_for_groups_is_bounded<S: StoreUnderTest>() {
    let world = World::<S>::of(2);
    let count = GROUPS_EXAMINED_MAX as u32 + 200;
    let makes: Vec<_> = (1..=count)
        .map(|number| {
            let lang_tag = if number.is_multiple_of(1000) { "de" } else { "en" };
            let name = format!("group {number:04}");
            Write::CreateGroup(Group { name, lang_tag: lang_tag.into(), ..group(number, 1 + number % 2) })
        })
        .collect();
    commit(world.store(), &makes);
    let german = GroupFilter { lang_tag: Some("de".into()), ..GroupFilter::default() };
    let (found, next) = world.store().groups(&german, None, 1).unwrap();
    assert_eq!(found.len(), 1, "the thousandth");
    let (found, next) = world.store().groups(&german, next.as_ref(), 1).unwrap();
    assert_eq!((found.len(), next), (0, None));
    let nobody = GroupFilter { members_max: Some(0), ..GroupFilter::default() };
    let (found, next) = world.store().groups(&nobody, None, 1).unwrap();
    assert_eq!(found, []);
    let (found, next) = world.store().groups(&nobody, Some(&next.unwrap()), 1).unwrap();
    assert_eq!((found.len(), next), (0, None));
}

fn a_change_without_places_is_unfit_and_nothing<S: StoreUnderTest>() {
    let mut world = cast::<S>(true);
    let Write::Request(StoreWrite::ChangeGroup { change, time, .. }) =
        world.request(1, 1, GroupAct::Ban(users(&[5, 6])))
    else {
        panic!()
    };
    let history = world.store().messages(&channel_of(1), PageStart::Oldest, 99).unwrap();
    let places = vec![world.place()];
    let unfit = Write::Request(StoreWrite::ChangeGroup { change, time, places });
    let good = world.request(1, 9, GroupAct::Join);
    let written = world.store().commit(&[unfit, good]).unwrap();
    assert!(is_unfit(written[0].clone()) && written[1].is_ok());
    assert_eq!(world.roster(1), "1:0 2:0 3:1 4:1 5:2 6:2 9:2 7:3 8:4");
    assert_eq!(world.store().messages(&channel_of(1), PageStart::Oldest, 99).unwrap().len(), history.len() + 1);
    check_sound(world.store(), 1, 10);
}

fn repeated_requests_to_join_notify_once_a_minute<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    world.make_as(group(1, 1));
    let begin = world.now().0;
    let mut act = |actor: u32, act: GroupAct, time: i64| {
        let places = (0..act.messages_max()).map(|_| world.place()).collect();
        let change = GroupChange { group: group_id(1), actor: user(actor), act };
        let request = StoreWrite::ChangeGroup { change, time: Timestamp(begin + time), places };
        match world.write(Write::Request(request)) {
            Written::Receipt(StoreReceipt::GroupChanged(Ok(outcome))) => tell(&outcome),
            other => panic!("{other:?}"),
        }
    };
    for (time, expected) in
        [(0, "notice -5 to 1"), (1, ""), (REPEAT_INTERVAL_NS - 1, ""), (REPEAT_INTERVAL_NS, "notice -5 to 1")]
    {
        assert_eq!(act(2, GroupAct::Join, time), expected, "{time}");
        act(2, GroupAct::Leave, time);
    }
    assert_eq!(act(3, GroupAct::Join, 1), "notice -5 to 1", "another user");
    for (time, notified) in [(0, true), (1, false), (REPEAT_INTERVAL_NS, true)] {
        let added = act(1, GroupAct::Add(users(&[2])), time);
        assert_eq!(added.contains("notice -4 to 2"), notified, "{added}");
        act(1, GroupAct::Kick(users(&[2])), time);
    }
    assert_eq!(world.notified(1), [-5, -5, -5]);
    assert_eq!(world.notified(2), [-4, -4]);
}

fn new_groups_notify_a_user_so_often_only<S: StoreUnderTest>() {
    let mut world = World::<S>::of(5);
    let begin = world.now().0;
    let mut groups = 0;
    // Makes a group, changes it so, and deletes it.
    let mut flood = |acts: &[(u32, GroupAct)], count: u32, time: i64| {
        for _ in 0..count {
            groups += 1;
            world.make_as(group(groups, acts[0].0));
            for (actor, act) in acts.iter().chain([&(acts[0].0, GroupAct::Delete)]) {
                let places = (0..act.messages_max()).map(|_| world.place()).collect();
                let change = GroupChange { group: group_id(groups), actor: user(*actor), act: act.clone() };
                let request = StoreWrite::ChangeGroup { change, time: Timestamp(begin + time), places };
                let written = world.write(Write::Request(request));
                assert!(matches!(written, Written::Receipt(StoreReceipt::GroupChanged(Ok(_)))), "{written:?}");
            }
        }
        [1, 2].map(|one| world.notified(one).len())
    };
    let most = usize::from(GROUP_NOTICES_MAX);
    let add = |actor| [(actor, GroupAct::Add(users(&[1])))];
    assert_eq!(flood(&add(3), 20, 0), [most, 0], "one stranger");
    assert_eq!(flood(&add(4), 2, 1), [most + 2, 0], "another one");
    assert_eq!(flood(&add(3), 20, REPEAT_INTERVAL_NS - 1), [most + 2, 0]);
    assert_eq!(flood(&add(3), 20, REPEAT_INTERVAL_NS), [2 * most + 2, 0]);
    // A stranger asks to join one new group of another user after another.
    let join = [(2, GroupAct::Add(users(&[3]))), (5, GroupAct::Join)];
    assert_eq!(flood(&join, 20, 0), [2 * most + 2, most]);
}
