//! Notifications: their ids rise, their number is bounded, and only their own user deletes them.

use engine::id::{NotificationId, Timestamp};
use engine::persist::{StoreReceipt, StoreWrite};
use engine::social::friend::FriendAct;
use engine::social::notification::Notification;
use storage::inbox::NOTIFICATIONS_MAX;
use storage::repeats::FULL_INTERVAL_NS;
use storage::{Write, Written};
use uuid::Uuid;

use crate::common::people::*;
use crate::common::*;

laws! {
    a_cursor_never_skips_one_whatever_the_clock_does
    only_ones_own_are_deleted
    the_oldest_makes_room
    a_stranger_removes_one_of_a_full_inbox_a_day
}

/// A user wants to chat with user 1, at this time.
fn knock(from: u32, time: i64) -> Write {
    let username = format!("name-{from}").into();
    Write::Request(StoreWrite::RequestChat { user: user(from), username, other: user(1), time: Timestamp(time) })
}

fn given(written: Written) -> Notification {
    match written {
        Written::Receipt(StoreReceipt::Admitted(Some(notice))) => notice.notification,
        other => panic!("{other:?}"),
    }
}

fn a_cursor_never_skips_one_whatever_the_clock_does<S: StoreUnderTest>() {
    const SECOND: i64 = 1_000_000_000;
    let mut world = World::<S>::of(3);
    let mut all: Vec<Notification> = Vec::new();
    // While the clock is behind the newest notification, the time stays at the end of that notification's millisecond.
    const STANDING_STILL: i64 = 100 * SECOND + 999_999;
    let times = [
        (100 * SECOND, 100 * SECOND),
        (100 * SECOND, 100 * SECOND),
        (100 * SECOND + 1, 100 * SECOND + 1),
        (50 * SECOND, STANDING_STILL),
        (0, STANDING_STILL),
        (-1, STANDING_STILL),
        (100 * SECOND, 100 * SECOND),
        (200 * SECOND, 200 * SECOND),
    ];
    for (round, (time, expected)) in times.into_iter().enumerate() {
        let cursor = all.last().map(|newest| newest.id);
        let notification = given(world.write(knock(2, time)));
        assert_eq!(notification.create_time, Timestamp(expected));
        assert!(all.iter().all(|earlier| earlier.id < notification.id), "{round}");
        let behind = world.store().notifications(user(1), cursor, 9).unwrap();
        assert_eq!(behind, std::slice::from_ref(&notification), "what is new lies behind what was read");
        all.push(notification.clone());
        if round % 3 == 1 {
            // The newest is deleted, and its id is not used again.
            world.write(Write::DeleteNotifications { user: user(1), ids: vec![notification.id] });
            all.pop();
            assert!(given(world.write(knock(3, time))).id > notification.id);
            all = world.store().notifications(user(1), None, 99).unwrap();
        }
        world.tested.reopen();
    }
    assert_eq!(world.store().notifications(user(1), None, 99).unwrap(), all);
    assert_eq!(world.store().notifications(user(1), None, 2).unwrap(), all[..2]);
    assert_eq!(world.store().notifications(user(1), Some(all[1].id), 2).unwrap(), all[2..4]);
    for (id, expected) in [(Uuid::nil(), all.len()), (Uuid::max(), 0)] {
        assert_eq!(world.store().notifications(user(1), Some(NotificationId(id)), 99).unwrap().len(), expected);
    }
    assert_eq!(world.store().notifications(user(2), None, 9).unwrap(), []);
}

fn only_ones_own_are_deleted<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let first = given(world.write(knock(2, 1)));
    let second = given(world.write(knock(3, 2)));
    world.relate(FriendAct::Add, 1, &[2]);
    let others = world.store().notifications(user(2), None, 9).unwrap()[0].id;
    let delete = |one, ids: &[NotificationId]| Write::DeleteNotifications { user: user(one), ids: ids.into() };
    let unknown = NotificationId(Uuid::from_u128(77));
    for write in
        [delete(2, &[first.id, unknown]), delete(1, &[others, unknown]), delete(1, &[]), delete(99, &[first.id])]
    {
        assert_eq!(world.write(write), Written::Done);
        assert_eq!(world.store().notifications(user(1), None, 9).unwrap(), [first.clone(), second.clone()]);
        assert_eq!(world.notified(2), [-2]);
    }
    world.write(delete(1, &[first.id, first.id, others]));
    world.tested.reopen();
    assert_eq!(world.store().notifications(user(1), None, 9).unwrap(), [second]);
    assert_eq!(world.notified(2), [-2]);
}

fn the_oldest_makes_room<S: StoreUnderTest>() {
    let mut world = World::<S>::of(3);
    let most = NOTIFICATIONS_MAX as usize;
    let knocks: Vec<_> = (0..most).map(|time| knock(2, time as i64)).collect();
    let mut all: Vec<_> = commit(world.store(), &knocks).into_iter().map(given).collect();
    assert_eq!(world.store().notifications(user(1), None, usize::MAX).unwrap(), all);
    for round in 0..5 {
        all.push(given(world.write(knock(3, round * FULL_INTERVAL_NS))));
        all.remove(0);
        assert_eq!(world.store().notifications(user(1), None, 2).unwrap(), all[..2]);
        if round % 2 == 1 {
            world.tested.reopen();
        }
    }
    // Two are deleted, so two more remove none.
    let ids = vec![all.remove(4000).id, all.remove(0).id];
    world.write(Write::DeleteNotifications { user: user(1), ids });
    for time in [7, 8] {
        all.push(given(world.write(knock(2, time))));
    }
    assert_eq!(world.store().notifications(user(1), None, usize::MAX).unwrap(), all);
    all.push(given(world.write(knock(2, 9))));
    all.remove(0);
    assert_eq!(world.store().notifications(user(1), None, usize::MAX).unwrap(), all);
}

fn a_stranger_removes_one_of_a_full_inbox_a_day<S: StoreUnderTest>() {
    let mut world = World::<S>::of(5);
    world.relate(FriendAct::Add, 2, &[1]);
    world.relate(FriendAct::Add, 1, &[2]);
    let begin = world.now().0;
    let most = NOTIFICATIONS_MAX as usize;
    let knocks: Vec<_> = (1..most).map(|number| knock(2, begin + number as i64)).collect();
    commit(world.store(), &knocks);
    let kept = |world: &World<S>| world.store().notifications(user(1), None, usize::MAX).unwrap();
    let mut all = kept(&world);
    assert_eq!(all.len(), most);
    let mut try_often = |from: u32, day: i64, expected: usize| {
        for number in 0..100 {
            let time = begin + day * FULL_INTERVAL_NS + (number + 1) * 60_000_000_000;
            let written = world.write(knock(from, time));
            if number < expected as i64 {
                all.push(given(written));
                all.remove(0);
            } else {
                assert_eq!(written, Written::Receipt(StoreReceipt::Admitted(None)), "{from} {day} {number}");
            }
        }
        assert_eq!(kept(&world), all, "{from} {day}");
    };
    try_often(3, 0, 1);
    try_often(4, 0, 1);
    try_often(2, 0, 100);
    try_often(3, 2, 1);
    // Another kind of notification counts by itself.
    world.relate(FriendAct::Add, 3, &[1]);
    assert_eq!(kept(&world).last().map(|newest| newest.code as i32), Some(-2));
    // When there is room again, all are told.
    let ids = kept(&world)[..9].iter().map(|notification| notification.id).collect();
    world.write(Write::DeleteNotifications { user: user(1), ids });
    let time = begin + 2 * FULL_INTERVAL_NS + 7_000_000_000_000;
    for number in 0..9 {
        given(world.write(knock(3, time + number)));
    }
    assert_eq!(world.write(knock(3, time + 9)), Written::Receipt(StoreReceipt::Admitted(None)));
}
