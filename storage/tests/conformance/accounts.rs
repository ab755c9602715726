//! Tests credentials, and the deletion of accounts.

use engine::id::{ChannelId, Timestamp};
use engine::persist::{StoreReceipt, StoreWrite};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, Role};
use storage::account::{
    Account, Credential, CredentialKind, CredentialOwner, DEVICES_MAX, Linked, Revocation, Unlinked,
};
use storage::{PageStart, Store, Write, Written};

use crate::common::people::*;
use crate::common::*;

laws! {
    a_way_to_sign_in_opens_one_account
    the_last_way_to_sign_in_stays
    devices_are_bounded
    a_deleted_account_leaves_nothing_but_its_messages
    a_deletion_hands_over_what_the_owner_did_not_hear_of
    messages_of_the_departed_are_purged_channel_by_channel
    where_one_has_written_is_known
    what_one_has_written_is_found
}

fn custom(ident: &str) -> Credential {
    Credential { kind: CredentialKind::Custom, ident: ident.into() }
}

fn email(ident: &str) -> Credential {
    Credential { kind: CredentialKind::Email, ident: ident.into() }
}

fn link(one: u32, credential: &Credential, secret: &str) -> Write {
    Write::Link { user: user(one), credential: credential.clone(), secret: secret.into(), time: Timestamp(50) }
}

fn unlink(one: u32, credential: &Credential) -> Write {
    Write::Unlink { user: user(one), credential: credential.clone(), time: Timestamp(60) }
}

fn owner(store: &dyn Store, credential: &Credential) -> Option<(u32, String)> {
    store.credential(credential).unwrap().map(|CredentialOwner { user, secret }| (number(user), secret))
}

fn a_way_to_sign_in_opens_one_account<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    for (write, expected) in [
        (link(1, &device("second"), ""), Linked::Done),
        (link(1, &device("second"), ""), Linked::Done),
        (link(2, &device("second"), ""), Linked::Taken),
        (link(2, &device("device-1"), ""), Linked::Taken),
        (link(3, &device("third"), ""), Linked::NotFound),
        (link(1, &custom("custom"), ""), Linked::Done),
        (link(2, &custom("custom"), ""), Linked::Taken),
        (link(2, &email("custom"), "$two"), Linked::Done),
        (link(1, &email("a@b.c"), "$one"), Linked::Done),
        (link(2, &email("a@b.c"), "$forged"), Linked::Taken),
    ] {
        assert_eq!(world.write(write.clone()), Written::Linked(expected), "{write:?}");
    }
    let check = |world: &World<S>, devices: &[&str], custom_id: &str, email: &str| {
        let expected = Account {
            devices: devices.iter().map(|&ident| ident.to_owned()).collect(),
            custom_id: custom_id.into(),
            email: email.into(),
            update_time: Timestamp(50),
            ..account(1, "name-1")
        };
        assert_eq!(world.store().account(user(1)).unwrap(), Some(expected));
    };
    check(&world, &["device-1", "second"], "custom", "a@b.c");
    assert_eq!(owner(world.store(), &device("second")), Some((1, String::new())));
    assert_eq!(owner(world.store(), &email("a@b.c")), Some((1, "$one".into())));
    assert_eq!(owner(world.store(), &email("custom")), Some((2, "$two".into())));

    // Another custom id or email replaces the first, which is then free; the same email replaces the secret.
    for write in [link(1, &email("a@b.c"), "$new"), link(1, &custom("other"), ""), link(2, &custom("custom"), "")] {
        assert_eq!(world.write(write.clone()), Written::Linked(Linked::Done), "{write:?}");
    }
    assert_eq!(owner(world.store(), &email("a@b.c")), Some((1, "$new".into())));
    assert_eq!(world.write(link(1, &email("d@e.f"), "$moved")), Written::Linked(Linked::Done));
    world.tested.reopen();
    check(&world, &["device-1", "second"], "other", "d@e.f");
    assert_eq!(owner(world.store(), &email("a@b.c")), None);
    assert_eq!(owner(world.store(), &email("d@e.f")), Some((1, "$moved".into())));
    assert_eq!(owner(world.store(), &custom("custom")), Some((2, String::new())));
    assert!(is_unfit(commit_one(world.store(), link(1, &device(""), ""))));
}

fn the_last_way_to_sign_in_stays<S: StoreUnderTest>() {
    let world = World::<S>::of(2);
    let first = device("device-1");
    assert_eq!(world.write(unlink(1, &first)), Written::Unlinked(Unlinked::LastCredential));
    world.write(link(1, &custom("custom"), ""));
    world.write(link(1, &email("a@b.c"), "$one"));
    for (write, expected) in [
        (unlink(2, &custom("custom")), Unlinked::NotFound),
        (unlink(1, &device("device-2")), Unlinked::NotFound),
        (unlink(3, &device("device-1")), Unlinked::NotFound),
        (unlink(1, &custom("unknown")), Unlinked::NotFound),
        (unlink(1, &first), Unlinked::Done),
        (unlink(1, &first), Unlinked::NotFound),
        (unlink(1, &custom("custom")), Unlinked::Done),
        (unlink(1, &email("a@b.c")), Unlinked::LastCredential),
    ] {
        assert_eq!(world.write(write.clone()), Written::Unlinked(expected), "{write:?}");
    }
    let expected =
        Account { devices: vec![], email: "a@b.c".into(), update_time: Timestamp(60), ..account(1, "name-1") };
    assert_eq!(world.store().account(user(1)).unwrap(), Some(expected));
    for free in [&first, &custom("custom")] {
        assert_eq!(owner(world.store(), free), None);
    }
    assert_eq!(world.write(link(2, &first, "")), Written::Linked(Linked::Done));
}

fn devices_are_bounded<S: StoreUnderTest>() {
    let world = World::<S>::of(1);
    for number in 1..DEVICES_MAX {
        assert_eq!(world.write(link(1, &device(&format!("more-{number}")), "")), Written::Linked(Linked::Done));
    }
    assert_eq!(world.write(link(1, &device("last"), "")), Written::Linked(Linked::TooManyDevices));
    assert_eq!(owner(world.store(), &device("last")), None);
    assert_eq!(world.write(link(1, &custom("custom"), "")), Written::Linked(Linked::Done));
    world.write(unlink(1, &device("more-1")));
    assert_eq!(world.write(link(1, &device("last"), "")), Written::Linked(Linked::Done));
}

fn a_deleted_account_leaves_nothing_but_its_messages<S: StoreUnderTest>() {
    let mut world = World::<S>::of(6);
    let lobby = room("lobby");
    world.write(link(1, &custom("custom"), ""));
    world.write(link(1, &email("a@b.c"), "$one"));
    commit(world.store(), &[insert(&lobby, 1, 1), insert(&lobby, 2, 2)]);
    // A friend, an open invitation each way, a block each way, a ban, a request, notifications.
    world.relate(FriendAct::Add, 1, &[2, 3]);
    world.relate(FriendAct::Add, 2, &[1]);
    world.relate(FriendAct::Add, 4, &[1]);
    world.relate(FriendAct::Block, 1, &[5]);
    world.relate(FriendAct::Block, 6, &[1]);
    world.make_as(group(1, 2));
    world.make_as(group(2, 2));
    let added = world.outcome(1, 2, GroupAct::Add(users(&[1]))).unwrap();
    assert_eq!(added.messages.len(), 1);
    world.outcome(1, 2, GroupAct::Ban(users(&[1]))).unwrap();
    world.outcome(2, 1, GroupAct::Join).unwrap();
    assert_eq!(world.notified(1), [-3, -2, -4]);

    let time = world.now();
    let delete = Write::DeleteAccount { user: user(1), time };
    assert_eq!(world.write(delete.clone()), Written::AccountDeleted(true));
    for _ in 0..2 {
        let store = world.store();
        assert_eq!(store.account(user(1)).unwrap(), None);
        assert_eq!(store.user_by_username("name-1").unwrap(), None);
        for credential in [device("device-1"), custom("custom"), email("a@b.c")] {
            assert_eq!(owner(store, &credential), None);
        }
        assert_eq!((1..=6).map(|one| world.friends(one)).collect::<Vec<_>>().concat(), "");
        assert_eq!(store.edge_count(user(2)).unwrap(), 0);
        assert_eq!(world.notified(1), [0; 0]);
        assert_eq!([world.roster(1), world.roster(2)], ["2:0", "2:0"]);
        assert_eq!(store.revocations().unwrap(), [Revocation::User { id: user(1), issued_before: time }]);
        assert_eq!(store.account_deletions(9).unwrap(), [user(1)]);
        let mut written = store.channels_written(user(1), None, 9).unwrap();
        written.sort();
        assert_eq!(written, [lobby.clone(), channel_of(1)]);
        assert_eq!(
            store.messages(&lobby, PageStart::Oldest, 9).unwrap().len(),
            2,
            "its messages are still to be purged"
        );
        check_sound(store, 2, 6);
        world.tested.reopen();
    }
    assert_eq!(world.write(delete), Written::AccountDeleted(false));
    assert_eq!(world.relate(FriendAct::Add, 2, &[1]), Default::default());
    let again = commit_one(world.store(), register(7, "name-1", device("device-1"))).unwrap();
    assert_eq!(again, Written::Registered(storage::account::Registered::Created), "name and device are free");
    assert_eq!(world.write(Write::FinishAccountDeletion { user: user(1) }), Written::Done);
    world.tested.reopen();
    assert_eq!(world.store().account_deletions(9).unwrap(), []);
    assert_eq!(world.store().channels_written(user(1), None, 9).unwrap(), []);
    assert_eq!(world.write(Write::FinishAccountDeletion { user: user(1) }), Written::Done);
}

fn a_deletion_hands_over_what_the_owner_did_not_hear_of<S: StoreUnderTest>() {
    let mut world = World::<S>::of(4);
    world.make(1, 1);
    world.make(2, 1);
    world.make(3, 2);
    world.cast(1, &[(2, Role::Member), (3, Role::Admin)]);
    let added = Write::Request(StoreWrite::ChangeGroup {
        change: engine::social::group::GroupChange {
            group: group_id(3),
            actor: user(2),
            act: GroupAct::Add(users(&[1])),
        },
        time: world.now(),
        places: vec![world.place()],
    });
    let time = world.now();
    let delete = Write::DeleteAccount { user: user(1), time };
    let written = commit(world.store(), &[added, delete]);
    assert_eq!(written[1], Written::AccountDeleted(true));
    let before = world.store().head(&channel_of(1)).unwrap();
    assert_eq!([world.roster(1), world.roster(2), world.roster(3)], ["3:0 2:2", "", "2:0"]);
    assert_eq!(world.store().group(group_id(2)).unwrap(), None, "nobody is left in it");
    let newest = world.store().messages(&channel_of(1), PageStart::Newest, 1).unwrap().remove(0);
    assert_eq!((Some(newest.id), number(newest.sender)), (before.map(|head| head.id), 3), "nothing is said of it");
    check_sound(world.store(), 3, 4);
}

fn messages_of_the_departed_are_purged_channel_by_channel<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    let (lobby, stage) = (room("lobby"), room("stage"));
    commit(world.store(), &[insert(&lobby, 1, 1), insert(&lobby, 2, 2), insert(&lobby, 3, 1), insert(&stage, 4, 1)]);
    let purge = |channel: &ChannelId, numbers: &[u32]| {
        let ids = numbers.iter().map(|&number| message_id(number)).collect();
        Write::Request(StoreWrite::Purge { channel: channel.clone(), sender: user(1), ids })
    };
    let written =
        commit(world.store(), &[purge(&lobby, &[1, 2, 3, 4, 9]), purge(&room("empty"), &[1]), purge(&stage, &[])]);
    assert!(written.iter().all(|written| *written == Written::Receipt(StoreReceipt::Purged)), "{written:?}");
    world.tested.reopen();
    assert_eq!(world.store().messages(&lobby, PageStart::Oldest, 9).unwrap(), [message(&lobby, 2, 2)], "others' stay");
    assert_eq!(world.store().messages(&stage, PageStart::Oldest, 9).unwrap().len(), 1);
    assert_eq!(world.store().head(&lobby).unwrap(), Some(place(3)), "the head never moves back");
}

fn where_one_has_written_is_known<S: StoreUnderTest>() {
    let mut world = World::<S>::of(2);
    let channels: Vec<_> = (0..20).map(|number| room(&format!("room-{number:02}"))).collect();
    let writes: Vec<_> = channels.iter().map(|channel| insert(channel, 1, 1)).collect();
    commit(world.store(), &writes);
    commit(world.store(), &writes);
    commit(world.store(), &[insert(&channels[3], 2, 2), remove(&channels[3], 2, 2), insert(&room("last"), 1, 2)]);
    world.tested.reopen();
    commit(world.store(), &writes);
    let store = world.store();
    assert_eq!(store.channels_written(user(1), None, 99).unwrap(), pages(store, 1, 99));
    assert_eq!(pages(store, 1, 7), pages(store, 1, 1));
    let mut found = pages(store, 1, 99);
    found.sort();
    assert_eq!(found, channels);
    let mut found = pages(store, 2, 99);
    found.sort();
    assert_eq!(found, [room("last"), channels[3].clone()], "a removed message was written there");
    assert_eq!(store.channels_written(user(3), None, 9).unwrap(), []);
}

/// All channels that a user has written in, page by page.
fn pages(store: &dyn Store, one: u32, limit: usize) -> Vec<ChannelId> {
    let mut all: Vec<ChannelId> = Vec::new();
    loop {
        let page = store.channels_written(user(one), all.last(), limit).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn what_one_has_written_is_found<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let channels = ["a", "ab", "b"].map(room);
    for channel in &channels[..2] {
        let writes: Vec<_> = (1..=40).map(|number| insert(channel, number, 1 + number % 2)).collect();
        commit(world.store(), &writes);
    }
    commit(world.store(), &[insert(&channels[2], 7, 2), remove(&channels[0], 5, 2), remove(&channels[0], 4, 1)]);
    world.tested.reopen();
    commit(world.store(), &[insert(&channels[1], 41, 1)]);
    let store = world.store();
    let expected = |channel: usize, numbers: &[u32]| -> Vec<_> {
        numbers.iter().map(|number| (channels[channel].clone(), message_id(*number))).collect()
    };
    let even: Vec<_> = (2..=40).step_by(2).collect();
    let of_one = [expected(0, &even[..1]), expected(0, &even[2..]), expected(1, &even), expected(1, &[41])].concat();
    for limit in [1, 3, 99] {
        assert_eq!(written(store, 1, None, limit), of_one);
        assert_eq!(written(store, 2, None, limit).len(), 19 + 20 + 1);
        assert_eq!(
            written(store, 1, Some(message_id(39)), limit),
            [expected(0, &[40]), expected(1, &[40, 41])].concat()
        );
        assert_eq!(written(store, 1, Some(message_id(41)), limit), []);
        assert_eq!(written(store, 3, None, limit), []);
    }
}
