//! Tests the bridge's calls about people, by handlers and by shards, on the embedded store.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::people::*;
use common::*;
use engine::id::Timestamp;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::social::friend::{FriendAct, FriendState};
use engine::social::group::{GroupAct, GroupChange, GroupRefusal, Role};
use storage::Write;
use storage::account::{Linked, Unlinked};
use storage::bridge::{Bridge, StoreQueue};
use storage::friend::Related;
use storage::group::{GroupCreated, GroupEdit, GroupEdited, GroupFilter};

const NOW: Timestamp = Timestamp(9);

/// A bridge over a store with users 1 to 5.
fn begin() -> (Bridge, StoreQueue, tempfile::TempDir) {
    let directory = scratch();
    let store = open_shared(&directory);
    let registrations: Vec<_> =
        (1..=5).map(|n| register(n, &format!("name-{n}"), device(&format!("device-{n}")))).collect();
    commit(&*store, &registrations);
    let (bridge, mut ends) = Bridge::start(store, 1).unwrap();
    (bridge, ends.remove(0), directory)
}

/// The receipt for a shard's request, when no other request is in flight.
fn ask(end: &StoreQueue, request: impl Into<StoreRequest>) -> StoreReceipt {
    end.try_send(Ticket(7), request).unwrap();
    pollster::block_on(end.receive()).unwrap().1.unwrap()
}

#[test]
fn handlers_use_every_call() {
    let (bridge, end, _directory) = begin();
    let client = bridge.client();
    pollster::block_on(async {
        assert_eq!(client.create_group(group(1, 1)).await, Ok(GroupCreated::Created));
        assert_eq!(client.create_group(group(1, 9)).await.map_err(|_| ()), Err(()), "one id, two groups");
        let edit = GroupEdit { open: Some(true), ..GroupEdit::default() };
        assert_eq!(client.update_group(group_id(1), user(1), edit, NOW).await, Ok(GroupEdited::Done));
        assert!(client.group(group_id(1)).await.unwrap().unwrap().open);
        assert_eq!(client.groups(GroupFilter::default(), None, 9).await.unwrap().groups.len(), 1);
        assert_eq!(client.group_role(group_id(1), user(1)).await, Ok(Some(Role::Superadmin)));
        assert_eq!(client.group_members(group_id(1), None, None, 9).await.unwrap().items.len(), 1);
        assert_eq!(client.user_groups(user(1), None, None, 9).await.unwrap().items.len(), 1);

        let related = client.relate(FriendAct::Add, user(1), users(&[2, 99]), "".into(), NOW).await.unwrap();
        assert_eq!((related.notices.len(), related.full), (1, false));
        assert_eq!(
            client.relate(FriendAct::Delete, user(3), users(&[2]), "".into(), NOW).await,
            Ok(Related::default())
        );
        assert_eq!(client.friends(user(2), Some(FriendState::InviteReceived), None, 9).await.unwrap().items.len(), 1);
        assert_eq!(client.edge_count(user(2)).await, Ok(0));
        let told = client.notifications(user(2), None, 9).await.unwrap().items;
        assert_eq!(told, [related.notices[0].notification.clone()]);
        client.delete_notifications(user(2), vec![told[0].id]).await.unwrap();
        assert_eq!(client.notifications(user(2), None, 9).await, Ok(storage::Part::whole(vec![])));

        assert_eq!(client.link(user(4), device("more"), String::new(), NOW).await, Ok(Linked::Done));
        assert_eq!(client.unlink(user(4), device("more"), NOW).await, Ok(Unlinked::Done));
        assert_eq!(ask(&end, StoreWrite::Insert(message(&room("lobby"), 1, 4))), StoreReceipt::Inserted);
        assert_eq!(client.delete_account(user(4), NOW).await, Ok(true));
        assert_eq!(client.delete_account(user(4), NOW).await, Ok(false));
        assert_eq!(client.account_deletions(9).await, Ok(users(&[4])));
        let (mut written, mut from) = (Vec::new(), None);
        loop {
            let part = client.written(user(4), None, from, 9).await.unwrap();
            written.extend(part.items);
            from = part.stopped;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(written, [(room("lobby"), message_id(1))]);
        client.finish_departure(user(4)).await.unwrap();
        assert_eq!(client.account_deletions(9).await, Ok(vec![]));
    });
    drop(end);
    bridge.stop().unwrap();
}

#[test]
fn shards_change_groups_and_are_told_who_may_join() {
    let (bridge, end, _directory) = begin();
    let client = bridge.client();
    pollster::block_on(client.create_group(group(1, 1))).unwrap();
    let change = |actor, act, first_place: u32| {
        let places = (first_place..first_place + 4).map(place).collect();
        let change = GroupChange { group: group_id(1), actor: user(actor), act };
        StoreWrite::ChangeGroup { change, time: NOW, places }
    };
    let may_join = |number| StoreQuestion::MayJoinGroup { group: group_id(1), user: user(number) };
    let told = |receipt| match receipt {
        StoreReceipt::GroupChanged(Ok(outcome)) => tell(&outcome),
        other => format!("{other:?}"),
    };
    assert_eq!(told(ask(&end, change(1, GroupAct::Add(users(&[2, 3])), 1))), {
        "message 4 of 2, message 4 of 3, notice -4 to 2, notice -4 to 3"
    });
    let refused = StoreReceipt::GroupChanged(Err(GroupRefusal::NotFound));
    assert_eq!(ask(&end, change(2, GroupAct::Kick(users(&[3])), 5)), refused);
    assert_eq!(told(ask(&end, change(4, GroupAct::Join, 5))), "notice -5 to 1");
    for (number, admitted) in [(1, true), (2, true), (4, false), (5, false), (9, false)] {
        let expected = if admitted { StoreReceipt::Admitted(None) } else { StoreReceipt::NotAdmitted };
        assert_eq!(ask(&end, may_join(number)), expected, "{number}");
    }
    // A query sent after a kick sees the kick.
    end.try_send(Ticket(1), change(1, GroupAct::Kick(users(&[2])), 9)).unwrap();
    end.try_send(Ticket(2), may_join(2)).unwrap();
    for _ in 0..2 {
        let (ticket, receipt) = pollster::block_on(end.receive()).unwrap();
        match ticket {
            Ticket(1) => assert_eq!(told(receipt.unwrap()), "message 6 of 2, 2 is removed"),
            _ => assert_eq!(receipt, Ok(StoreReceipt::NotAdmitted)),
        }
    }
    drop(end);
    bridge.stop().unwrap();
}

#[test]
fn shards_are_told_who_may_write_to_whom_and_who_there_is() {
    let (bridge, end, _directory) = begin();
    let request_chat = |one, other| -> StoreRequest {
        StoreWrite::RequestChat { user: user(one), username: "x".into(), other: user(other), time: NOW }.into()
    };
    let may_join =
        |one, other| -> StoreRequest { StoreQuestion::MayJoinDirect { user: user(one), other: user(other) }.into() };
    let block = StoreWrite::Block { user: user(2), other: user(1), time: NOW };
    assert!(matches!(ask(&end, request_chat(1, 2)), StoreReceipt::Admitted(Some(_))));
    assert_eq!(ask(&end, may_join(1, 2)), StoreReceipt::Admitted(None));
    assert_eq!(ask(&end, block), StoreReceipt::Blocked);
    for admit in [&request_chat as &dyn Fn(u32, u32) -> StoreRequest, &may_join] {
        assert_eq!(ask(&end, admit(1, 2)), StoreReceipt::NotAdmitted);
        assert_eq!(ask(&end, admit(2, 1)), StoreReceipt::Admitted(None));
        assert_eq!(ask(&end, admit(1, 9)), StoreReceipt::NotAdmitted);
        assert_eq!(ask(&end, admit(9, 1)), StoreReceipt::NotAdmitted);
    }
    // A blocked user does not find the user who blocks, by id or by name; the user who blocks still finds the other.
    for (follower, found) in [(4, vec![3, 1, 5, 2]), (2, vec![3, 1, 5, 2]), (1, vec![3, 1, 5])] {
        let asked = StoreQuestion::Users {
            follower: user(follower),
            ids: users(&[3, 9, 1, 3]),
            usernames: ["name-5", "nobody", "name-1", "name-2", ""].map(String::from).into(),
        };
        assert_eq!(ask(&end, asked), StoreReceipt::Users(users(&found)));
        let by_id = StoreQuestion::Users { follower: user(follower), ids: users(&[2]), usernames: Vec::new() };
        let expected = if follower == 1 { users(&[]) } else { users(&[2]) };
        assert_eq!(ask(&end, by_id), StoreReceipt::Users(expected));
    }
    let Write::Request(message) = insert(&room("lobby"), 1, 3) else { panic!() };
    ask(&end, message);
    let purge = StoreWrite::Purge { channel: room("lobby"), sender: user(3), ids: vec![message_id(1)] };
    assert_eq!(ask(&end, purge), StoreReceipt::Purged);
    assert_eq!(ask(&end, StoreQuestion::Newest { channel: room("lobby"), limit: 9 }), StoreReceipt::Newest(vec![]));
    drop(end);
    bridge.stop().unwrap();
}
