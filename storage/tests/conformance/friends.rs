//! Friends, blocks, and who may write to whom.

use engine::id::{Timestamp, UserId};
use engine::persist::{StoreReceipt, StoreWrite};
use engine::social::friend::{FriendAct, FriendState, Sides};
use storage::friend::{ACT_METADATA_BYTES_MAX, FRIEND_METADATA_BYTES_MAX, FRIENDS_MAX, FriendPlace, INVITABLE_MAX};
use storage::repeats::REPEAT_INTERVAL_NS;
use storage::{Write, Written};

use crate::common::people::*;
use crate::common::*;

laws! {
    a_request_that_is_repeated_within_a_minute_notifies_once
    acts_change_both_sides_and_tell_the_other
    each_of_many_is_looked_at
    lists_of_friends_are_in_order_and_paged
    metadata_stays_with_the_user_who_has_given_it
    metadata_is_bounded
    friends_are_bounded_and_blocks_are_not
    whom_the_other_has_blocked_is_not_admitted
}

/// Two users in one of the possible states of a pair.
fn pair<S: StoreUnderTest>(state: &str) -> World<S> {
    let mut world = World::<S>::of(2);
    let acts: &[(FriendAct, u32)] = match state {
        "strangers" => &[],
        "friends" => &[(FriendAct::Add, 1), (FriendAct::Add, 2)],
        "asking" => &[(FriendAct::Add, 1)],
        "asked" => &[(FriendAct::Add, 2)],
        "blocking" => &[(FriendAct::Block, 1)],
        "blocked" => &[(FriendAct::Block, 2)],
        "both block" => &[(FriendAct::Block, 1), (FriendAct::Block, 2)],
        _ => panic!("{state}"),
    };
    for &(act, one) in acts {
        world.relate(act, one, &[3 - one]);
    }
    world
}

fn acts_change_both_sides_and_tell_the_other<S: StoreUnderTest>() {
    use FriendAct::*;
    for (before, act, own, others, told) in [
        ("strangers", Add, "2:1", "1:2", "-2"),
        ("friends", Add, "2:0", "1:0", ""),
        ("asking", Add, "2:1", "1:2", ""),
        ("asked", Add, "2:0", "1:0", "-3"),
        ("blocking", Add, "2:3", "", ""),
        ("blocked", Add, "", "1:3", ""),
        ("both block", Add, "2:3", "1:3", ""),
        ("strangers", Delete, "", "", ""),
        ("friends", Delete, "", "", "-9"),
        ("asking", Delete, "", "", "-9"),
        ("asked", Delete, "", "", "-9"),
        ("blocking", Delete, "", "", ""),
        ("blocked", Delete, "", "1:3", ""),
        ("both block", Delete, "", "1:3", ""),
        ("strangers", Block, "2:3", "", ""),
        ("friends", Block, "2:3", "", ""),
        ("asking", Block, "2:3", "", ""),
        ("asked", Block, "2:3", "", ""),
        ("blocking", Block, "2:3", "", ""),
        ("blocked", Block, "2:3", "1:3", ""),
        ("both block", Block, "2:3", "1:3", ""),
    ] {
        let mut world = pair::<S>(before);
        let notified = world.notified(2).len();
        if act == Block {
            let block = StoreWrite::Block { user: user(1), other: user(2), time: world.now() };
            assert_eq!(world.write(Write::Request(block)), Written::Receipt(StoreReceipt::Blocked));
        } else {
            let related = world.relate(act, 1, &[2]);
            let codes: Vec<_> =
                related.notices.iter().map(|notice| (notice.notification.code as i32).to_string()).collect();
            assert_eq!((codes.join(" "), related.full), (told.to_owned(), false), "{before}, {act:?}");
            let kept = world.store().notifications(user(2), None, 99).unwrap().split_off(notified);
            let given: Vec<_> = related.notices.iter().map(|notice| notice.notification.clone()).collect();
            assert_eq!(kept, given);
            for notice in &related.notices {
                assert_eq!((notice.user, notice.notification.sender), (user(2), user(1)));
                assert_eq!(&*notice.notification.content, r#"{"username":"name-1"}"#);
            }
        }
        for _ in 0..2 {
            assert_eq!([world.friends(1), world.friends(2)], [own, others], "{before}, {act:?}");
            check_sound(world.store(), 0, 2);
            world.tested.reopen();
        }
    }
}

fn each_of_many_is_looked_at<S: StoreUnderTest>() {
    let mut world = World::<S>::of(5);
    world.relate(FriendAct::Block, 4, &[1]);
    let related = world.relate(FriendAct::Add, 1, &[1, 2, 99, 3, 4, 2]);
    let told: Vec<_> = related.notices.iter().map(tell_notice).collect();
    assert_eq!(told, ["notice -2 to 2", "notice -2 to 3"]);
    assert_eq!(world.friends(1), "2:1 3:1");
    assert_eq!(world.relate(FriendAct::Delete, 1, &[1, 3, 99, 4, 2]).notices.len(), 2);
    assert_eq!(world.friends(1), "");
    for act in [FriendAct::Add, FriendAct::Delete, FriendAct::Block] {
        assert_eq!(world.relate(act, 99, &[1, 2]), Default::default(), "a user that does not exist does nothing");
        assert_eq!(world.relate(act, 1, &[]), Default::default());
    }
    check_sound(world.store(), 0, 5);
}

fn lists_of_friends_are_in_order_and_paged<S: StoreUnderTest>() {
    let mut world = World::<S>::of(12);
    world.relate(FriendAct::Add, 1, &[9, 2, 5, 3]);
    for one in [3, 9, 7, 8] {
        world.relate(FriendAct::Add, one, &[1]);
    }
    world.relate(FriendAct::Block, 1, &[10]);
    world.relate(FriendAct::Block, 1, &[4]);
    assert_eq!(world.friends(1), "3:0 9:0 2:1 5:1 7:2 8:2 10:3 4:3");
    assert_eq!(world.store().edge_count(user(1)).unwrap(), 2);
    let store = world.store();
    for state in [None, Some(0), Some(1), Some(2), Some(3)].map(|state| state.and_then(FriendState::from_number)) {
        let whole = store.friends(user(1), state, None, 99).unwrap();
        assert_eq!(whole.len(), if state.is_none() { 8 } else { 2 });
        for (index, (friend, place)) in whole.iter().enumerate() {
            assert_eq!((friend.user, friend.state, friend.update_time), (place.user, place.state, place.since));
            let rest = store.friends(user(1), state, Some(*place), 3).unwrap();
            assert_eq!(rest, whole[index + 1..whole.len().min(index + 4)]);
        }
    }
    let forged = |state, since| FriendPlace { state, since: Timestamp(since), user: user(5) };
    assert_eq!(store.friends(user(1), None, Some(forged(FriendState::Friend, i64::MIN)), 99).unwrap().len(), 8);
    assert_eq!(store.friends(user(1), None, Some(forged(FriendState::Blocked, i64::MAX)), 99).unwrap(), []);
    let other_state = store.friends(user(1), Some(FriendState::Friend), Some(forged(FriendState::Blocked, 0)), 99);
    assert_eq!(other_state.unwrap(), []);
    let other_state = store.friends(user(1), Some(FriendState::Blocked), Some(forged(FriendState::Friend, 0)), 99);
    assert_eq!(other_state.unwrap().len(), 2);
}

fn metadata_stays_with_the_user_who_has_given_it<S: StoreUnderTest>() {
    use FriendAct::*;
    let [_, first, other] = NOTES;
    let mut world = World::<S>::of(4);
    // Each line: an act with metadata, and what users 1 and 2 have noted afterwards.
    for (act, one, note, [own, others]) in [
        (Add, 1, first, [format!("2:{first}"), "1:".into()]),
        (Add, 1, other, [format!("2:{first}"), "1:".into()]),
        (Add, 2, other, [format!("2:{first}"), format!("1:{other}")]),
        (Add, 1, other, [format!("2:{first}"), format!("1:{other}")]),
        (Block, 1, "", [format!("2:{first}"), String::new()]),
        (Add, 2, other, [format!("2:{first}"), String::new()]),
        (Delete, 1, "", [String::new(), String::new()]),
        (Add, 2, "", ["2:".into(), "1:".into()]),
        (Add, 1, "", ["2:".into(), "1:".into()]),
        (Delete, 2, "", [String::new(), String::new()]),
        (Add, 2, other, ["2:".into(), format!("1:{other}")]),
        (Add, 1, "", ["2:".into(), format!("1:{other}")]),
        (Block, 1, "", ["2:".into(), String::new()]),
        (Block, 2, "", ["2:".into(), "1:".into()]),
    ] {
        world.relate_and_note(act, one, &[3 - one], note);
        for _ in 0..2 {
            assert_eq!([world.notes(1), world.notes(2)], [own.as_str(), &others], "{act:?} by {one}");
            check_sound(world.store(), 0, 4);
            world.tested.reopen();
        }
    }
    world.relate_and_note(Add, 1, &[3, 4], first);
    assert_eq!(world.notes(1), format!("3:{first} 4:{first} 2:"));
    let block = StoreWrite::Block { user: user(1), other: user(3), time: world.now() };
    world.write(Write::Request(block));
    assert_eq!(world.notes(1), format!("4:{first} 2: 3:{first}"));
}

fn metadata_is_bounded<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let note = |bytes: usize| -> Box<str> { format!("{{\"n\":\"{}\"}}", "x".repeat(bytes - 8)).into() };
    let relate = |others: Vec<UserId>, bytes, time| Write::Relate {
        act: FriendAct::Add,
        user: user(1),
        others,
        metadata: note(bytes),
        time,
    };
    let longest = FRIEND_METADATA_BYTES_MAX;
    let many = vec![user(2); ACT_METADATA_BYTES_MAX / longest + 1];
    for (others, bytes) in [(users(&[2]), longest + 1), (many.clone(), longest)] {
        let write = relate(others, bytes, world.now());
        let written = world.store().commit(&[write]).unwrap().remove(0);
        assert!(is_unfit(written), "{bytes} bytes");
        assert_eq!(world.friends(1), "");
    }
    for (others, given) in [(many[1..].to_vec(), 2), (users(&[3]), 3)] {
        let write = relate(others, longest, world.now());
        let related = world.write(write);
        assert!(matches!(&related, Written::Related(related) if related.notices.len() == 1), "{given}");
    }
    assert_eq!(world.notes(1), format!("2:{0} 3:{0}", note(longest)));
}

fn friends_are_bounded_and_blocks_are_not<S: StoreUnderTest>() {
    let last = FRIENDS_MAX + 3;
    let mut world = World::<S>::of(last);
    let many: Vec<_> = (3..=FRIENDS_MAX + 2).collect();
    // More than one request may name, but few enough for the time that one request has.
    for (number, some) in many.chunks(500).enumerate() {
        let related = world.relate(FriendAct::Add, 1, some);
        assert_eq!((related.notices.len(), related.full), (some.len(), false));
        if (number + 1) * 500 == INVITABLE_MAX as usize {
            assert!(world.relate(FriendAct::Add, 2, &[1]).full, "others cannot use up the rest");
        }
    }
    let related = world.relate(FriendAct::Add, 1, &[2, 3]);
    assert_eq!((related.notices.len(), related.full), (0, true));
    assert!(world.relate(FriendAct::Add, 2, &[1]).full, "nor may others ask one who has so many");
    assert_eq!(world.friends(2), "");
    assert!(!world.relate(FriendAct::Add, 3, &[1]).full, "an answer takes no more room");
    world.relate(FriendAct::Block, 1, &[last]);
    assert_eq!(
        world.store().sides(user(1), user(last)).unwrap(),
        Sides { own: Some(FriendState::Blocked), others: None }
    );
    assert!(world.relate(FriendAct::Add, 1, &[2]).full);
    world.relate(FriendAct::Block, 1, &[4]);
    let related = world.relate(FriendAct::Add, 1, &[2]);
    assert_eq!((related.notices.len(), related.full), (1, false), "a block has made room");
}

fn whom_the_other_has_blocked_is_not_admitted<S: StoreUnderTest>() {
    for (before, admitted) in [
        ("strangers", Some(true)),
        ("friends", Some(true)),
        ("asked", Some(true)),
        ("blocking", Some(false)),
        ("blocked", None),
        ("both block", None),
    ] {
        let mut world = pair::<S>(before);
        let notified = world.notified(2);
        let (username, time) = ("session name".into(), world.now());
        let knock = StoreWrite::RequestChat { user: user(1), username, other: user(2), time };
        let written = world.write(Write::Request(knock));
        let Written::Receipt(receipt) = written else { panic!("{written:?}") };
        match (receipt, admitted) {
            (StoreReceipt::NotAdmitted, None) | (StoreReceipt::Admitted(None), Some(false)) => {
                assert_eq!(world.notified(2), notified, "{before}");
            }
            (StoreReceipt::Admitted(Some(notice)), Some(true)) => {
                assert_eq!(tell_notice(&notice), "notice -1 to 2");
                assert_eq!(&*notice.notification.subject, "session name wants to chat");
                assert_eq!(world.store().notifications(user(2), None, 99).unwrap().pop(), Some(notice.notification));
            }
            (receipt, _) => panic!("{before}: {receipt:?}"),
        }
    }
    let mut world = World::<S>::of(1);
    for (other, expected) in [(1, StoreReceipt::Admitted(None)), (2, StoreReceipt::NotAdmitted)] {
        let (username, time) = ("name-1".into(), world.now());
        let knock = StoreWrite::RequestChat { user: user(1), username, other: user(other), time };
        let written = world.write(Write::Request(knock));
        assert_eq!(written, Written::Receipt(expected));
    }
}

fn a_request_that_is_repeated_within_a_minute_notifies_once<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let begin = world.now().0;
    let told = |world: &World<S>, act, one: u32, other: u32, time: i64| {
        let relate = Write::Relate {
            act,
            user: user(one),
            others: users(&[other]),
            metadata: "".into(),
            time: Timestamp(begin + time),
        };
        match world.write(relate) {
            Written::Related(related) => related.notices.len(),
            other => panic!("{other:?}"),
        }
    };
    for (time, expected) in [
        (0, 1),
        (1, 0),
        (REPEAT_INTERVAL_NS - 1, 0),
        (REPEAT_INTERVAL_NS, 1),
        (REPEAT_INTERVAL_NS + 1, 0),
        (2 * REPEAT_INTERVAL_NS, 1),
    ] {
        assert_eq!(told(&world, FriendAct::Add, 1, 2, time), expected, "{time}");
        assert_eq!(world.friends(2), "1:2", "the request itself is there");
        assert_eq!(told(&world, FriendAct::Delete, 1, 2, time), expected, "{time}");
    }
    assert_eq!(world.notified(2), [-2, -9, -2, -9, -2, -9]);
    // Neither other users nor other news count as a repetition.
    let late = 2 * REPEAT_INTERVAL_NS + 1;
    assert_eq!(told(&world, FriendAct::Add, 3, 2, late), 1);
    assert_eq!(told(&world, FriendAct::Add, 2, 1, late), 1);
    assert_eq!(told(&world, FriendAct::Add, 1, 2, late), 1, "an acceptance");
    assert_eq!(world.notified(1), [-2]);
    // After an acceptance all is new.
    for (act, one, other) in [(FriendAct::Delete, 2, 1), (FriendAct::Add, 2, 1), (FriendAct::Add, 1, 2)] {
        assert_eq!(told(&world, act, one, other, late), 1);
    }
    for (act, one, other, expected) in [
        (FriendAct::Delete, 1, 2, 1),
        (FriendAct::Add, 1, 2, 1),
        (FriendAct::Delete, 1, 2, 0),
        (FriendAct::Add, 1, 2, 0),
    ] {
        assert_eq!(told(&world, act, one, other, late), expected, "{act:?}");
    }
    // A request that notified no user does not count: here the other has blocked the user.
    assert_eq!(told(&world, FriendAct::Block, 1, 3, late), 0);
    assert_eq!(told(&world, FriendAct::Add, 3, 1, late), 0);
    assert_eq!(told(&world, FriendAct::Delete, 1, 3, late), 0);
    assert_eq!(told(&world, FriendAct::Add, 3, 1, late), 1);
}
