//! What one request or one answer of the store may cause is carried out in slices: no turn writes to more connections, and
//! works off more waiting requests, than is bounded; and other users wait for a slice only.

mod hall;

use std::time::Duration;

use engine::command::Command;
use engine::id::{NotificationId, UserId};
use engine::limits::{NOTICE_TURN_PUSHES_MAX, Rules, STATUS_TURN_PUSHES_MAX};
use engine::parcel::Broadcast;
use engine::shard::Input;
use engine::social::notification::{Notice, Notification, NotificationCode};
use hall::{Hall, NOW};
use uuid::Uuid;

/// No budgets: the bounds must hold without them.
fn without_budgets() -> Rules {
    Rules { work_per_session: None, work_per_user: None, sessions_per_user_max: None, ..Rules::default() }
}

fn user(number: u32) -> UserId {
    UserId(Uuid::from_u128(u128::from(number) + 1))
}

fn show(hall: &mut Hall, slot: u32, status: &str) {
    hall.ask(slot, Command::StatusUpdate { status: Some(status.to_owned()) });
}

#[test]
fn a_status_with_many_followers_is_told_in_slices() {
    let followers = 3 * STATUS_TURN_PUSHES_MAX as u32 + 7;
    let mut hall = Hall::with(without_budgets());
    hall.open(0);
    for slot in 1..=followers {
        hall.open(slot);
        let user_ids = vec![user(0).to_string()];
        hall.ask(slot, Command::StatusFollow { user_ids, usernames: Vec::new() });
        hall.turn(Duration::ZERO);
    }
    hall.writes_most = 0;
    show(&mut hall, 0, "first");
    // What changes while the others are told becomes one event.
    hall.one_turn();
    show(&mut hall, 0, "unheard");
    show(&mut hall, 0, "last");
    hall.turn(Duration::ZERO);
    // The star itself is answered in the same turns.
    assert!(hall.writes_most <= STATUS_TURN_PUSHES_MAX + 1, "{} writes in a turn", hall.writes_most);
    for slot in 1..=followers {
        let heard = hall.text(slot);
        assert_eq!(heard.matches("status_presence_event").count(), 2, "{slot} heard {heard}");
        assert!(heard.contains("first") && heard.contains("last") && !heard.contains("unheard"), "{heard}");
    }
}

fn notice(to: UserId, number: u32) -> Notice {
    let notification = Notification {
        id: NotificationId(Uuid::from_u128(u128::from(number))),
        subject: format!("subject {number}").into(),
        content: "{}".into(),
        code: NotificationCode::DirectRequest,
        sender: user(9_000_000),
        create_time: NOW,
    };
    Notice { user: to, notification }
}

#[test]
fn notifications_for_a_crowd_of_sessions_delay_no_other_user() {
    const USERS: u32 = 12;
    const SESSIONS: u32 = 900;
    const NOTICES: u32 = 20;
    let mut hall = Hall::with(without_budgets());
    for slot in 0..USERS * SESSIONS {
        hall.open_as(slot, user(slot / SESSIONS));
    }
    let bystander = USERS * SESSIONS;
    hall.open_as(bystander, user(bystander));
    hall.turn(Duration::ZERO);
    hall.writes_most = 0;
    for number in 0..NOTICES {
        let notices = (0..USERS).map(|index| notice(user(index), number)).collect();
        hall.shard.step(Input::Broadcast(Broadcast::Notices(notices)), NOW);
    }
    hall.shard.step(Input::Broadcast(Broadcast::Notices(vec![notice(user(bystander), 77)])), NOW);
    let mut turns = 0;
    while !hall.text(bystander).contains("subject 77") {
        assert!(hall.one_turn(), "the notification is lost");
        turns += 1;
    }
    // One push for each of the other users comes first.
    let pushes = (USERS * SESSIONS) as usize;
    assert!(turns <= pushes.div_ceil(NOTICE_TURN_PUSHES_MAX) + 1, "{turns} turns");
    hall.turn(Duration::ZERO);
    assert!(hall.writes_most <= NOTICE_TURN_PUSHES_MAX + 1, "{} writes in a turn", hall.writes_most);
    for slot in [0, SESSIONS, USERS * SESSIONS - 1] {
        assert_eq!(hall.text(slot).matches("subject ").count(), NOTICES as usize, "all are told in the end");
    }
}

#[test]
fn joins_that_waited_for_one_commit_are_worked_off_in_several_turns() {
    const SESSIONS: u32 = 400;
    let mut hall = Hall::with(without_budgets());
    for slot in 0..SESSIONS {
        hall.open(slot);
        hall.join(slot, "big");
        hall.join(slot, &format!("own {slot}"));
        hall.turn(Duration::from_millis(20));
    }
    hall.turn(Duration::from_secs(2));
    // The message of each is with the store, and each join waits for its acknowledgement.
    let lists = |hall: &Hall| (0..SESSIONS).filter(|&slot| hall.text(slot).contains("\"cid\":\"again\"")).count();
    for slot in 0..SESSIONS {
        let channel_id = format!("2...own {slot}");
        hall.ask(slot, Command::Send { channel_id, content: "{}".into() });
        hall.ask_as(slot, "again", "big");
    }
    let (mut before, mut most, mut turns) = (0, 0, 0);
    while before < SESSIONS as usize {
        let goes_on = hall.one_turn();
        turns += 1;
        let now = lists(&hall);
        assert!(goes_on || now == SESSIONS as usize, "{now} of {SESSIONS} are answered");
        most = most.max(now - before);
        before = now;
    }
    assert!(most < SESSIONS as usize / 4, "{most} lists of {SESSIONS} presences in one of {turns} turns");
}
