//! A drain closes the sessions of a shard evenly over its time, readers that are too slow last, and in slices.

mod hall;

use std::collections::BTreeSet;
use std::time::Duration;

use engine::command::Command;
use engine::limits::{ENDS_TURN_MAX, Rules};
use engine::shard::Input;
use hall::{Hall, NOW, connection};

const SECOND: Duration = Duration::from_secs(1);
const FRAME: &[u8] = b"the last frame";

fn rules() -> Rules {
    Rules { work_per_session: None, work_per_user: None, ..Rules::default() }
}

fn drain(hall: &mut Hall, time: Duration) {
    hall.shard.step(Input::Drain { time, frames: vec![FRAME.to_vec()] }, NOW);
}

fn hall_with(sessions: u32) -> Hall {
    let mut hall = Hall::with(rules());
    (0..sessions).for_each(|slot| hall.open(slot));
    hall.turn(SECOND);
    hall
}

#[test]
fn as_many_are_closed_as_the_time_says() {
    const SESSIONS: u32 = 100;
    let mut hall = hall_with(SESSIONS);
    drain(&mut hall, 10 * SECOND);
    for second in 0..=10 {
        hall.turn(SECOND);
        assert_eq!(hall.closed.len(), second * 10, "after {second} s");
        assert_eq!(hall.shard.report().home.drained, second as u64 * 10);
    }
    assert!((0..SESSIONS).all(|slot| hall.heard(slot) == FRAME), "each is told");
    assert!(!hall.shard.is_busy());
}

#[test]
fn clients_are_told_different_things_in_turn() {
    let mut hall = hall_with(9);
    let frames = ["soon", "later", "last"].map(|text| text.as_bytes().to_vec());
    hall.shard.step(Input::Drain { time: Duration::ZERO, frames: frames.to_vec() }, NOW);
    hall.turn(SECOND);
    for frame in &frames {
        assert_eq!((0..9).filter(|slot| hall.heard(*slot) == *frame).count(), 3, "{frame:?}");
    }
}

#[test]
fn sessions_that_end_by_themselves_count() {
    let mut hall = hall_with(100);
    drain(&mut hall, 10 * SECOND);
    // Fifty clients leave at once. That is as many as five seconds are to close.
    (50..100).for_each(|slot| hall.shard.step(Input::Closed { connection: connection(slot) }, NOW));
    for second in 0..=10_usize {
        hall.turn(SECOND);
        assert_eq!(hall.closed.len(), (second * 10).saturating_sub(50), "after {second} s");
    }
}

#[test]
fn readers_that_are_too_slow_come_last() {
    const SESSIONS: u32 = 100;
    let slow: BTreeSet<u32> = (0..SESSIONS).filter(|slot| slot % 5 == 1).collect();
    let mut hall = hall_with(SESSIONS);
    (0..SESSIONS).for_each(|slot| hall.join(slot, "pit"));
    hall.turn(SECOND);
    hall.fill_up(slow.iter().copied());
    hall.ask(0, Command::Send { channel_id: "2...pit".to_owned(), content: "{}".to_owned() });
    hall.turn(SECOND);
    drain(&mut hall, 10 * SECOND);
    for _ in 0..=8 {
        hall.turn(SECOND);
    }
    let closed = |hall: &Hall| -> BTreeSet<u32> { hall.closed.iter().map(|id| id.slot).collect() };
    assert_eq!(closed(&hall), (0..SESSIONS).filter(|slot| !slow.contains(slot)).collect());
    hall.turn(SECOND);
    assert_eq!(closed(&hall).len(), 90);
    hall.turn(SECOND);
    assert_eq!(closed(&hall).len(), 100);
    slow.iter().for_each(|&slot| hall.make_room(slot));
    hall.turn(SECOND);
    assert!(slow.iter().all(|&slot| hall.heard(slot).ends_with(FRAME)), "they read their last frame");
}

#[test]
fn sessions_that_are_open_go_on_and_are_answered_before_their_close() {
    let mut hall = hall_with(2);
    (0..2).for_each(|slot| hall.join(slot, "hall"));
    hall.turn(SECOND);
    drain(&mut hall, 2 * SECOND);
    hall.turn(SECOND);
    let say = |hall: &mut Hall, slot, word: &str| {
        let content = format!(r#"{{"word":"{word}"}}"#);
        hall.ask(slot, Command::Send { channel_id: "2...hall".to_owned(), content });
    };
    // Both are sent before the first session is closed in the same turn.
    say(&mut hall, 0, "one");
    say(&mut hall, 1, "two");
    hall.turn(SECOND);
    assert_eq!(hall.closed.iter().copied().collect::<Vec<_>>(), [connection(0)]);
    let [first, second] = [0, 1].map(|slot| hall.text(slot));
    assert!(first.contains("channel_message_ack") && first.ends_with("the last frame"), "{first}");
    assert!(second.contains("channel_message_ack") && second.contains("one") && second.contains("two"), "{second}");
    say(&mut hall, 1, "three");
    hall.turn(SECOND);
    let text = hall.text(1);
    assert_eq!(text.matches("channel_message_ack").count(), 2, "{text}");
    assert!(text.ends_with("the last frame"), "{text}");
}

#[test]
fn without_a_time_all_are_closed_in_slices() {
    let sessions = 3 * ENDS_TURN_MAX as u32;
    let mut hall = hall_with(sessions);
    (0..sessions).for_each(|slot| hall.join(slot, &format!("room-{slot}")));
    hall.turn(SECOND);
    hall.ended_most = 0;
    drain(&mut hall, Duration::ZERO);
    let turns = hall.turn(SECOND);
    assert_eq!(hall.closed.len(), sessions as usize);
    assert!(hall.ended_most <= ENDS_TURN_MAX as u64, "{} memberships ended in a turn", hall.ended_most);
    assert!(turns >= 3, "{turns} turns");
}

#[test]
fn a_shard_without_sessions_has_nothing_to_do() {
    let mut hall = hall_with(0);
    drain(&mut hall, SECOND);
    hall.turn(SECOND);
    hall.turn(SECOND);
    assert!(!hall.shard.is_busy());
}
