//! Sessions that come and go all the time: what that costs the members who stay.

mod hall;

use std::time::Duration;

use engine::command::Command;
use engine::id::UserId;
use engine::limits::{CROWD_EVENT_INTERVAL, CROWD_LASTS_MIN, ENDS_TURN_MAX, Rules};
use engine::parcel::Broadcast;
use engine::shard::Input;
use hall::{Hall, NOW, connection, session_of};
use uuid::Uuid;

/// The bytes of a presence in an event, at most.
const PRESENCE_BYTES: usize = 200;

/// More than a room holds come, and leave again until so few are left that a crowd becomes a room: five times a second.
#[test]
fn sessions_around_the_border_of_a_crowd_cost_its_members_little() {
    const ROOM: usize = 100;
    const STAY: u32 = 85;
    const RESTLESS: u32 = 16;
    const SECONDS: usize = 40;
    let mut hall = Hall::with(Rules { room_members_max: ROOM, ..Rules::default() });
    for slot in 0..STAY + RESTLESS {
        hall.open(slot);
        hall.join(slot, "hall");
    }
    hall.turn(Duration::from_secs(1));
    let before = hall.heard(0).len();
    let restless = STAY..STAY + RESTLESS;
    for _ in 0..5 * SECONDS {
        restless.clone().for_each(|slot| hall.leave(slot, "hall"));
        hall.turn(Duration::from_millis(100));
        restless.clone().for_each(|slot| hall.join(slot, "hall"));
        hall.turn(Duration::from_millis(100));
    }
    let told = hall.heard(0).len() - before;
    // In each second the restless may come and go once for the others, and sometimes all members are told of all.
    let lists = SECONDS / CROWD_LASTS_MIN.as_secs() as usize + 1;
    let presences = lists * ROOM + SECONDS * 2 * RESTLESS as usize;
    assert!(told < presences * PRESENCE_BYTES, "{told} bytes were told, for {presences} presences");
}

/// A room in which many come and go, and the session that stays.
fn restless_room() -> Hall {
    let mut hall = Hall::with(Rules::default());
    for slot in 0..=COMER {
        hall.open(slot);
    }
    hall.join(0, "hall");
    hall.turn(Duration::from_secs(1));
    for _ in 0..2 {
        (1..COMER).for_each(|slot| hall.join(slot, "hall"));
        hall.turn(Duration::from_millis(1));
        (1..COMER).for_each(|slot| hall.leave(slot, "hall"));
        hall.turn(Duration::from_millis(1));
    }
    hall
}

/// A session that has not come to the restless room yet.
const COMER: u32 = 60;

/// The joins of a session that another has received.
fn joins_of(slot: u32, heard: &str) -> usize {
    let events = heard.split("{\"channel_presence_event\"").skip(1);
    let events = events.filter_map(|event| event.split("\"room_name\"").next());
    let joins = events.filter_map(|event| event.split("\"leaves\"").next());
    joins.map(|joins| joins.matches(&format!("\"session_id\":\"{}\"", session_of(slot))).count()).sum()
}

#[test]
fn a_joiner_among_many_who_come_and_go_is_told_of_its_own_join_at_once() {
    let mut hall = restless_room();
    for joins in 1..=3 {
        hall.join(COMER, "hall");
        hall.turn(Duration::from_millis(1));
        let heard = hall.text(COMER);
        assert_eq!(joins_of(COMER, &heard), joins, "{heard}");
        let (answer, event) = (heard.rfind("\"channel\":"), heard.rfind("channel_presence_event"));
        assert!(answer < event, "the answer comes first: {heard}");
        assert_eq!(joins_of(COMER, &hall.text(0)), 0, "the others are told later");
        if joins < 3 {
            hall.leave(COMER, "hall");
            hall.turn(Duration::from_millis(1));
        }
    }
    hall.turn(CROWD_EVENT_INTERVAL);
    hall.turn(CROWD_EVENT_INTERVAL);
    assert_eq!(joins_of(COMER, &hall.text(0)), 1, "the others are told once");
}

#[test]
fn a_session_that_returns_among_many_has_left_for_itself_alone() {
    let mut hall = restless_room();
    hall.leave(0, "hall");
    hall.turn(Duration::from_millis(1));
    let before = hall.text(0).len();
    hall.join(0, "hall");
    hall.turn(Duration::from_millis(1));
    let heard = &hall.text(0)[before..];
    assert_eq!(joins_of(0, heard), 1, "{heard}");
    let (answer, _) = heard.split_once("channel_presence_event").expect("an event");
    let own = format!("\"session_id\":\"{}\"", session_of(0));
    assert_eq!(answer.matches(&own).count(), 1, "the list leaves it out, and `self` names it: {answer}");
}

#[test]
fn a_sender_among_many_who_come_and_go_is_told_before_its_message() {
    let mut hall = restless_room();
    hall.join_as(COMER, "hall", false);
    hall.turn(Duration::from_millis(1));
    assert_eq!(joins_of(COMER, &hall.text(0)), 0, "the event waits");
    hall.ask(COMER, Command::Send { channel_id: "2...hall".into(), content: "{}".into() });
    hall.turn(Duration::from_millis(1));
    let heard = hall.text(0);
    let (before, _) = heard.split_once("{\"channel_message\"").expect("the message comes");
    assert_eq!(joins_of(COMER, before), 1, "{heard}");
}

/// A user whose account is gone had many sessions, each in many rooms.
#[test]
fn the_sessions_of_a_deleted_account_end_in_slices() {
    const SESSIONS: u32 = 60;
    const ROOMS: usize = 100;
    // One user joins thousands of times at once.
    let mut hall = Hall::with(Rules { work_per_session: None, work_per_user: None, ..Rules::default() });
    let gone = UserId(Uuid::from_u128(7_000));
    hall.open(SESSIONS);
    hall.join(SESSIONS, "room-0");
    (0..SESSIONS).for_each(|slot| hall.open_as(slot, gone));
    for room in 0..ROOMS {
        (0..SESSIONS).for_each(|slot| hall.join(slot, &format!("room-{room}")));
        hall.turn(Duration::from_millis(1));
    }
    assert_eq!(hall.shard.report().levels.members, u64::from(SESSIONS) * ROOMS as u64 + 1);
    hall.ended_most = 0;
    hall.shard.step(Input::Broadcast(Broadcast::Expelled(gone)), NOW);
    assert!(!hall.shard.accepts(connection(0)), "none of them is read any more");
    hall.turn(Duration::from_millis(1));
    assert_eq!(hall.closed.len(), SESSIONS as usize, "all are closed");
    assert_eq!(hall.shard.report().levels.members, 1, "and their channels' owners know it");
    let most = ENDS_TURN_MAX + ROOMS;
    assert!(hall.ended_most <= most as u64, "{} memberships ended in one turn, {most} may", hall.ended_most);
    assert_eq!(hall.text(0).matches("this account has been deleted").count(), 1);
}
