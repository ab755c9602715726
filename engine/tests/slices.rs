//! What many requests, one request or one answer of the store may cause is carried out in slices: no turn writes to more
//! connections, and works off more waiting requests, than is bounded; and other users wait for a slice only.

mod hall;

use std::time::Duration;

use engine::budget::Work;
use engine::command::Command;
use engine::id::{NotificationId, UserId};
use engine::limits::{
    DEPARTURES_TURN_MAX, FLUSH_WRITES_MAX, NOTICE_TURN_PUSHES_MAX, REST_DURATION, RESTED_TURN_MAX, Rules,
    STATUS_TURN_PUSHES_MAX,
};
use engine::parcel::Broadcast;
use engine::session::shared_budgets::{Payer, Purse};
use engine::shard::Input;
use engine::social::notification::{Notice, Notification, NotificationCode};
use hall::{Hall, NOW, connection};
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

#[test]
fn answers_to_very_many_connections_are_written_in_several_turns() {
    let sessions = 2 * FLUSH_WRITES_MAX as u32 + 100;
    let mut hall = Hall::with(without_budgets());
    (0..sessions).for_each(|slot| hall.open(slot));
    hall.turn(Duration::ZERO);
    hall.writes_most = 0;
    (0..sessions).for_each(|slot| hall.ask(slot, Command::Ping));
    // The last one's answer comes in the third turn, although nothing is asked meanwhile.
    let answered = |hall: &Hall| (0..sessions).filter(|&slot| hall.text(slot).contains("pong")).count();
    for turn in 1..=2 {
        assert!(hall.one_turn(), "there is more to write after turn {turn}");
        assert_eq!(answered(&hall), turn * FLUSH_WRITES_MAX);
    }
    hall.turn(Duration::ZERO);
    assert_eq!(answered(&hall), sessions as usize);
    assert_eq!(hall.writes_most, FLUSH_WRITES_MAX);
}

#[test]
fn the_owners_of_channels_are_told_in_slices_of_members_who_hang_up() {
    const SESSIONS: u32 = 4;
    const ROOMS: usize = 600;
    let mut hall = Hall::with(without_budgets());
    for slot in 0..SESSIONS {
        hall.open(slot);
        for room in 0..ROOMS {
            hall.join(slot, &format!("room {room}"));
            hall.turn(Duration::from_millis(20));
        }
    }
    let members = |hall: &Hall| hall.shard.report().levels.members as usize;
    assert_eq!(members(&hall), SESSIONS as usize * ROOMS);
    hall.departed_most = 0;
    (0..SESSIONS).for_each(|slot| hall.shard.step(Input::Closed { connection: connection(slot) }, NOW));
    let turns = hall.turn(Duration::ZERO);
    assert_eq!((members(&hall), hall.shard.report().levels.channels), (0, 0), "all of them are told in the end");
    assert_eq!(hall.departed_most, DEPARTURES_TURN_MAX as u64);
    assert!(turns > SESSIONS as usize * ROOMS / DEPARTURES_TURN_MAX, "{turns} turns");
}

#[test]
fn connections_that_have_rested_together_are_read_again_in_several_turns() {
    let sessions = 3 * RESTED_TURN_MAX as u32 + 5;
    let mut hall = Hall::with(Rules::default());
    (0..sessions).for_each(|slot| hall.open(slot));
    hall.turn(Duration::ZERO);
    for slot in 0..sessions {
        let payer = Payer { user: Some(user(slot)), network: None };
        hall.shard.shared_budgets().charge(payer, Purse::Requests, Work::micros(1_000_000));
    }
    assert!((0..sessions).all(|slot| !hall.shard.accepts(connection(slot))), "all of them are far beyond the budget");
    assert_eq!(hall.shard.report().levels.resting, u64::from(sessions));
    hall.turn(REST_DURATION);
    // The next turn has begun, and the first are read in it.
    let mut turns = 1;
    while hall.one_turn() {
        turns += 1;
    }
    assert_eq!((hall.resumed_most, turns), (RESTED_TURN_MAX, 4));
    assert_eq!(hall.shard.report().levels.resting, 0);
}
