//! The law of an erasure: the writes by which an operator erases a user (and a user deletes an account) leave nothing of the
//! user that a reader can find. The gateway orders the same writes in the same order.

use engine::persist::StoreWrite;
use engine::social::friend::{FriendAct, Sides};
use engine::social::group::{GroupAct, Role};
use storage::object::{ObjectWrite, ReadPermission, WritePermission};
use storage::{PageStart, Store, Write, Written};

use crate::common::objects::*;
use crate::common::people::*;
use crate::common::*;

laws! {
    an_erased_user_leaves_no_trace
    an_erasure_may_be_repeated_at_any_step
}

/// The user that is erased.
const ERASED: u32 = 1;
const USERS: u32 = 5;

/// A world in which user 1 has left every kind of trace.
fn with_traces<S: StoreUnderTest>() -> World<S> {
    let mut world = World::<S>::of(USERS);
    for kind in [1, 2] {
        let (credential, time) = (credential(kind, ERASED), world.now());
        let secret = if kind == 2 { "$hash" } else { "" };
        world.write(Write::Link { user: user(ERASED), credential, secret: secret.into(), time });
    }
    // Friends, open requests and blocks, on both sides.
    world.relate(FriendAct::Add, ERASED, &[2, 3]);
    world.relate(FriendAct::Add, 2, &[ERASED]);
    world.relate(FriendAct::Add, 4, &[ERASED]);
    world.relate(FriendAct::Block, ERASED, &[5]);
    // A group that the user leads alone, one that it leads with others, and one in which it is a member.
    world.make(1, ERASED);
    world.make(2, ERASED);
    world.cast(2, &[(2, Role::Superadmin)]);
    world.make(3, 2);
    assert!(world.outcome(3, 2, GroupAct::Add(users(&[ERASED]))).is_ok());
    // A private object, a public object, and an object that no client may read or change.
    let read = [ReadPermission::Owner, ReadPermission::Public, ReadPermission::NoClient];
    let objects = read.map(|read| ObjectWrite {
        read,
        write: if read == ReadPermission::NoClient { WritePermission::NoClient } else { WritePermission::Owner },
        ..object("c", &format!("{read:?}"), "{}")
    });
    for owner in [ERASED, 2] {
        let (objects, time) = (objects.to_vec(), world.now());
        world.write(Write::WriteObjects { owner: user(owner), objects, time });
    }
    let direct = engine::id::ChannelId::direct(user(ERASED), user(2));
    for channel in [room("lobby"), direct, channel_of(1), channel_of(2)] {
        // Ids of a channel rise, those of its events too.
        let numbers: Vec<_> = (0..20).map(|_| world.place().sequence.0 as u32).collect();
        let writes: Vec<_> = numbers.iter().map(|&number| insert(&channel, number, 1 + number % 2)).collect();
        commit(world.store(), &writes);
    }
    assert_ne!(world.notified(ERASED), [0; 0]);
    world
}

/// Carries out the steps of an erasure, each so many times. The store is closed and opened after each step.
fn erase<S: StoreUnderTest>(world: &mut World<S>, times: usize) {
    for number in [1, 2, 3] {
        for _ in 0..times {
            // When it is repeated, there is nothing left to depart from.
            let _ = world.outcome(number, ERASED, GroupAct::Depart);
        }
    }
    world.tested.reopen();
    for time in 0..times {
        let now = world.now();
        let deleted = world.write(Write::DeleteAccount { user: user(ERASED), time: now });
        assert_eq!(deleted, Written::AccountDeleted(time == 0));
    }
    world.tested.reopen();
    for _ in 0..times {
        assert_eq!(world.store().account_deletions(9).unwrap(), [user(ERASED)], "it is known until the end");
        let mut place = None;
        loop {
            let part = world.store().written_part(user(ERASED), None, place, 7).unwrap();
            if let Some((channel, _)) = part.items.first() {
                let (channel, ids) = (channel.clone(), part.items.iter().map(|(_, id)| *id).collect());
                world.write(Write::Request(StoreWrite::Purge { channel, sender: user(ERASED), ids }));
            }
            place = part.stopped;
            if place.is_none() {
                break;
            }
        }
    }
    world.tested.reopen();
    for _ in 0..times {
        assert_eq!(world.write(Write::FinishAccountDeletion { user: user(ERASED) }), Written::Done);
    }
}

fn check_no_trace(store: &dyn Store, channels: &[engine::id::ChannelId]) {
    let erased = user(ERASED);
    assert_eq!((store.account(erased).unwrap(), store.profile(erased).unwrap()), (None, None));
    assert!(!store.has_account(erased).unwrap());
    assert_eq!(store.user_by_username("name-1").unwrap(), None);
    for kind in 0..3 {
        assert_eq!(store.credential(&credential(kind, ERASED)).unwrap(), None);
    }
    for role in [None, Some(Role::Banned)] {
        assert_eq!(store.user_groups(erased, role, None, 99).unwrap(), []);
    }
    for number in 1..=3 {
        assert_eq!(store.group_role(group_id(number), erased).unwrap(), None);
    }
    assert_eq!(store.group(group_id(1)).unwrap(), None, "a group that the user led alone");
    assert_eq!(store.friends(erased, None, None, 99).unwrap(), []);
    for other in 2..=USERS {
        assert_eq!(store.sides(user(other), erased).unwrap(), Sides { own: None, others: None }, "{other}");
        assert!(store.friends(user(other), None, None, 99).unwrap().iter().all(|(friend, _)| friend.user != erased));
        assert_eq!(store.edge_count(user(other)).unwrap(), 0);
    }
    assert_eq!(store.notifications(erased, None, 99).unwrap(), []);
    for listing in [own(ERASED, "c"), public_of(ERASED, "c")] {
        assert_eq!(store.object_list(&listing, None, 99).unwrap(), []);
    }
    assert_eq!(store.object_list(&public("c"), None, 99).unwrap().len(), 1, "what others have stays");
    assert_eq!(store.objects(&ReadPermission::ALL.map(|read| id(ERASED, "c", &format!("{read:?}")))).unwrap(), []);
    assert_eq!(store.channels_written(erased, None, 99).unwrap(), []);
    assert_eq!(store.written_part(erased, None, None, 99).unwrap().items, []);
    assert_eq!(store.account_deletions(9).unwrap(), []);
    for channel in channels {
        let left = store.messages(channel, PageStart::Oldest, 999).unwrap();
        assert!(left.iter().all(|message| message.sender != erased), "{channel}: {left:?}");
    }
}

fn an_erased_user_leaves_no_trace<S: StoreUnderTest>() {
    let mut world = with_traces::<S>();
    let direct = engine::id::ChannelId::direct(user(ERASED), user(2));
    let channels = [room("lobby"), direct, channel_of(1), channel_of(2), channel_of(3)];
    let heads = channels.each_ref().map(|channel| world.store().head(channel).unwrap());
    erase(&mut world, 1);
    for _ in 0..2 {
        check_no_trace(world.store(), &channels);
        check_sound(world.store(), 3, USERS);
        let lobby = world.store().messages(&channels[0], PageStart::Oldest, 99).unwrap();
        assert_eq!(lobby.len(), 10, "what others wrote stays");
        for (channel, before) in channels.iter().zip(&heads).take(2) {
            assert_eq!(world.store().head(channel).unwrap(), *before, "the head never moves back");
        }
        world.tested.reopen();
    }
    // The name and the ways to sign in are free for another person, who inherits nothing.
    let again = register(9, "name-1", device("device-1"));
    assert_eq!(world.write(again), Written::Registered(storage::account::Registered::Created));
    assert_eq!(world.friends(9), "");
    assert_eq!(world.notified(9), [0; 0]);
}

fn an_erasure_may_be_repeated_at_any_step<S: StoreUnderTest>() {
    let mut world = with_traces::<S>();
    erase(&mut world, 3);
    let direct = engine::id::ChannelId::direct(user(ERASED), user(2));
    check_no_trace(world.store(), &[room("lobby"), direct, channel_of(1), channel_of(2), channel_of(3)]);
    check_sound(world.store(), 3, USERS);
}
