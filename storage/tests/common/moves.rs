//! Moves between stores under test: a store with data of every kind, moves that are interrupted at every step, and
//! checks of what must be the same afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::id::{ChannelId, Timestamp};
use engine::persist::{StoreReceipt, StoreWrite};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange, Role};
use storage::account::{AccountChange, Credential, CredentialKind, Registered, Revocation};
use storage::friend::Related;
use storage::group::{Group, GroupCreated, GroupFilter};
use storage::object::{ObjectWrite, ObjectsDeleted, ObjectsWritten, ReadPermission};
use storage::transfer::{self, End, Moved};
use storage::{PageStart, Store, Write, Written};
use uuid::Uuid;

use super::objects;
use super::people;
use super::*;

/// Runs a move up to the given number of notes, and interrupts it there.
pub fn interrupt(from: End<'_>, to: End<'_>, notes: usize) {
    let mut noted = 0;
    let interrupted = catch_unwind(AssertUnwindSafe(|| {
        transfer::run(from, to, &mut |_, _| {
            noted += 1;
            assert!(noted < notes, "interrupted on purpose");
        })
    }));
    assert!(interrupted.is_err(), "it was over before note {notes}: {interrupted:?}");
}

/// Repeats a move until it is done, while each attempt may take only two steps.
pub fn move_in_steps(from: End<'_>, to: End<'_>) {
    for attempt in 1.. {
        assert!(attempt < 100, "it does not get on");
        let mut noted = 0;
        let moved = catch_unwind(AssertUnwindSafe(|| {
            transfer::run(from, to, &mut |_, _| {
                noted += 1;
                assert!(noted < 3, "interrupted on purpose");
            })
        }));
        if let Ok(moved) = moved {
            let moved = moved.unwrap();
            let Moved { rows, left, before, unreadable } = moved;
            assert_eq!(unreadable, 0, "everything can be read");
            assert!(attempt > 4 && before > 0 && before <= rows + left, "{attempt} attempts: {moved:?}");
            return;
        }
    }
}

/// Fills a store with data of every kind, and with more than one item where one would test little.
pub fn fill(store: &dyn Store) {
    let lobby = room("lobby");
    let mut writes: Vec<_> = (1..=40).map(|number| insert(&lobby, number, number % 3 + 1)).collect();
    writes.push(remove(&lobby, 40, 2));
    writes.push(update(&lobby, 39, 1, "edited"));
    writes.push(insert(&room("gone"), 1, 1));
    writes.push(remove(&room("gone"), 1, 1));
    writes.push(insert(&ChannelId::direct(user(1), user(2)), 7, 2));
    writes
        .extend((1..=9).map(|number| register(number, &format!("name-{number}"), device(&format!("device-{number}")))));
    let email = Credential { kind: CredentialKind::Email, ident: "ann@example.org".into() };
    writes.push(Write::Link { user: user(1), credential: email, secret: "$hash".into(), time: Timestamp(4) });
    let renamed = AccountChange { display_name: Some("Ann".into()), ..AccountChange::default() };
    writes.push(Write::ChangeAccount { id: user(1), change: renamed, update_time: Timestamp(6) });
    writes.push(Write::Revoke(Revocation::Token { id: Uuid::from_u128(5), expires: Timestamp(77) }));
    writes.push(Write::Revoke(Revocation::User { id: user(2), issued_before: Timestamp(78) }));
    writes.push(Write::CreateGroup(Group { open: true, ..people::group(1, 1) }));
    writes.push(Write::CreateGroup(people::group(2, 2)));
    for (act, one, other) in
        [(FriendAct::Add, 1, 2), (FriendAct::Add, 2, 1), (FriendAct::Add, 3, 1), (FriendAct::Block, 1, 4)]
    {
        writes.push(relate(act, one, other));
    }
    writes.push(relate(FriendAct::Block, 3, 5));
    for owner in [1, 2, 4] {
        let public = |key| ObjectWrite { read: ReadPermission::Public, ..objects::object("c", key, "{}") };
        let own = objects::object("cc", "settings", r#"{"dark":true}"#);
        let objects = vec![own, public("picture"), public("state")];
        writes.push(Write::WriteObjects { owner: user(owner), objects, time: Timestamp(8) });
    }
    commit(store, &writes);
    for ((act, actor), number) in
        [(GroupAct::Join, 2), (GroupAct::Join, 3), (GroupAct::Add(vec![user(5)]), 1), (GroupAct::Ban(vec![user(3)]), 1)]
            .into_iter()
            .zip(1..)
    {
        change(store, 1, act, actor, number);
    }
    change(store, 2, GroupAct::Join, 6, 1);
    commit(store, &[Write::DeleteAccount { user: user(4), time: Timestamp(9) }]);
}

pub fn change(store: &dyn Store, group: u32, act: GroupAct, actor: u32, number: u32) {
    let places = (0..act.messages_max() as u32).map(|more| people::place(number + more)).collect();
    let change = GroupChange { group: people::group_id(group), actor: user(actor), act };
    let time = Timestamp(i64::from(number) + 20);
    match commit(store, &[Write::Request(StoreWrite::ChangeGroup { change, time, places })]).remove(0) {
        Written::Receipt(StoreReceipt::GroupChanged(Ok(_))) => {}
        other => panic!("{other:?}"),
    }
}

fn relate(act: FriendAct, one: u32, other: u32) -> Write {
    match act {
        FriendAct::Block => {
            Write::Request(StoreWrite::Block { user: user(one), other: user(other), time: Timestamp(3) })
        }
        act => {
            // Some users note something of others.
            let metadata = if other.is_multiple_of(2) { format!(r#"{{"of":{other}}}"#) } else { String::new() }.into();
            Write::Relate { act, user: user(one), others: vec![user(other)], metadata, time: Timestamp(3) }
        }
    }
}

/// Checks that both stores answer every query in the same way.
pub fn check_same(one: &dyn Store, other: &dyn Store) {
    let direct = ChannelId::direct(user(1), user(2));
    for channel in [room("lobby"), room("gone"), direct, people::channel_of(1), people::channel_of(2)] {
        assert_eq!(one.head(&channel), other.head(&channel));
        for place in
            [PageStart::Oldest, PageStart::Newest, PageStart::After(message_id(7)), PageStart::Before(message_id(7))]
        {
            assert_eq!(one.messages(&channel, place, 100), other.messages(&channel, place, 100));
        }
    }
    for number in 1..=9 {
        let (user, name, device) = (user(number), format!("name-{number}"), device(&format!("device-{number}")));
        assert_eq!(one.account(user), other.account(user));
        assert_eq!(one.credential(&device), other.credential(&device));
        assert_eq!(one.friends(user, None, None, 99), other.friends(user, None, None, 99));
        assert_eq!(one.edge_count(user), other.edge_count(user));
        assert_eq!(one.notifications(user, None, 99), other.notifications(user, None, 99));
        for role in [None, Some(Role::Banned)] {
            assert_eq!(one.user_groups(user, role, None, 99), other.user_groups(user, role, None, 99));
        }
        assert_eq!(one.channels_written(user, None, 99), other.channels_written(user, None, 99));
        assert_eq!(super::written(one, number, None, 99), super::written(other, number, None, 99));
        assert_eq!(one.user_by_username(&name), other.user_by_username(&name));
        for another in 1..=9 {
            let another = super::user(another);
            assert_eq!(one.sides(user, another), other.sides(user, another));
        }
    }
    let email = Credential { kind: CredentialKind::Email, ident: "ann@example.org".into() };
    assert_eq!(one.credential(&email), other.credential(&email));
    for group in [1, 2].map(people::group_id) {
        assert_eq!(one.group(group), other.group(group));
        for role in [None, Some(Role::Banned)] {
            assert_eq!(one.group_members(group, role, None, 9), other.group_members(group, role, None, 9));
        }
    }
    objects::compare_objects(one, other, 9);
    let all = GroupFilter::default();
    assert_eq!(one.groups(&all, None, 9), other.groups(&all, None, 9));
    assert_eq!(one.account_deletions(9), other.account_deletions(9));
    assert_eq!(one.revocations(), other.revocations());
}

/// Checks that later writes find everything as it was.
pub fn go_on(store: &dyn Store) {
    let lobby = room("lobby");
    let writes = [
        insert(&lobby, 50, 1),
        update(&lobby, 39, 1, "edited again"),
        relate(FriendAct::Delete, 1, 2),
        register(10, "name-1", device("device-10")),
        register(11, "name-11", device("device-1")),
        Write::CreateGroup(Group { name: "group-1".into(), ..people::group(3, 1) }),
        Write::FinishAccountDeletion { user: user(4) },
        Write::WriteObjects {
            owner: user(1),
            objects: vec![objects::object("c", "picture", "{}")],
            time: Timestamp(60),
        },
        objects::delete_objects(2, &[("c", "state", None)]),
    ];
    let written = commit(store, &writes);
    assert_eq!(written[0], Written::Receipt(StoreReceipt::Inserted));
    assert!(matches!(&written[1], Written::Receipt(StoreReceipt::Updated(_))));
    assert!(matches!(&written[2], Written::Related(Related { full: false, .. })));
    assert_eq!(written[3], Written::Registered(Registered::UsernameTaken));
    assert!(matches!(&written[4], Written::Registered(Registered::Existing(_))));
    assert_eq!(written[5], Written::GroupCreated(GroupCreated::NameTaken));
    assert!(matches!(&written[7], Written::ObjectsWritten(ObjectsWritten::Done(_))));
    assert_eq!(written[8], Written::ObjectsDeleted(ObjectsDeleted::Done));
    assert_eq!(store.object_counts(user(1)).unwrap().objects, 3);
    change(store, 1, GroupAct::Kick(vec![user(2)]), 1, 30);
}
