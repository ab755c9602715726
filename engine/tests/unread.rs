//! Clients that read nothing of what they asked for: what that holds in memory.

mod hall;

use std::time::Duration;

use engine::command::Command;
use engine::id::UserId;
use engine::limits::Rules;
use hall::{Hall, connection};
use uuid::Uuid;

const MILLISECOND: Duration = Duration::from_millis(1);

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number << 64))
}

/// Rules without budgets, for tests in which one user asks for as much as many do.
fn rules() -> Rules {
    Rules { work_per_session: None, work_per_user: None, sessions_per_user_max: None, ..Rules::default() }
}

#[test]
fn members_that_leave_far_behind_share_what_they_are_owed() {
    const MEMBERS: u32 = 200;
    const MESSAGES: usize = 500;
    let mut hall = Hall::with(rules());
    hall.open(0);
    hall.join(0, "pit");
    for slot in 1..=MEMBERS {
        hall.open_as(slot, user(1));
        hall.join(slot, "pit");
    }
    hall.turn(MILLISECOND);
    hall.fill_up(1..=MEMBERS);
    for number in 0..MESSAGES {
        let content = format!(r#"{{"number":{number},"text":"{}"}}"#, "x".repeat(2000));
        hall.ask(0, Command::Send { channel_id: "2...pit".to_owned(), content });
        hall.turn(MILLISECOND);
    }
    let log = hall.shard.report().levels.log_bytes;
    assert!(log > 1_000_000, "the members are {log} bytes behind");
    // They leave in the same turn, and some more after one more message.
    (1..MEMBERS).for_each(|slot| hall.leave(slot, "pit"));
    hall.turn(MILLISECOND);
    hall.ask(0, Command::Send { channel_id: "2...pit".to_owned(), content: r#"{"number":500}"#.to_owned() });
    hall.turn(MILLISECOND);
    hall.leave(MEMBERS, "pit");
    hall.turn(MILLISECOND);
    let report = hall.shard.report();
    assert_eq!(report.levels.members, 1, "all but the sender have left");
    assert!(report.levels.log_bytes <= 2 * log, "{} bytes are held, of a log of {log}", report.levels.log_bytes);
    assert!(report.levels.log_bytes > log / 2, "what is held is counted");

    for slot in 1..=MEMBERS {
        hall.make_room(slot);
        hall.turn(MILLISECOND);
        let text = hall.text(slot);
        let mut from = 0;
        for number in 0..MESSAGES + usize::from(slot == MEMBERS) {
            let wanted = format!(r#"\"number\":{number}"#);
            let place = text[from..].find(&wanted);
            from += place.unwrap_or_else(|| panic!("{slot} has not read message {number} in its place"));
        }
        assert!(text[from..].contains(&format!(r#""cid":"{slot}""#)), "the answer to the leave comes last");
        assert_eq!(text.contains(r#"\"number\":500"#), slot == MEMBERS, "a member hears nothing after it has left");
    }
    assert!(hall.shard.report().levels.log_bytes < log / 10, "what was read is freed");
    assert!(hall.closed.is_empty() && hall.finished.is_empty());
}

#[test]
fn unread_answers_of_all_sockets_are_bounded_and_the_heaviest_user_gives_way() {
    const SESSIONS: u32 = 300;
    const ASKERS: u32 = 250;
    let rules = Rules { logs_bytes_max: 16 << 20, ..rules() };
    let mut hall = Hall::with(rules);
    for slot in 0..SESSIONS {
        hall.open_as(slot, if slot == 0 { user(1) } else { user(2) });
        hall.join(slot, "hall");
    }
    hall.turn(Duration::from_secs(2));
    let answer = {
        let before = hall.heard(1).len();
        hall.join(1, "hall");
        hall.turn(Duration::from_secs(2));
        (hall.heard(1).len() - before) as u64
    };
    let most = rules.outboxes_bytes_max();
    assert!(u64::from(ASKERS) * answer > most, "{ASKERS} answers of {answer} bytes are more than may wait");
    hall.fill_up(0..SESSIONS);
    (0..ASKERS).for_each(|slot| hall.join(slot, "hall"));
    hall.turn(Duration::from_secs(2));
    let cut = hall.finished.len() as u64;
    assert!((u64::from(ASKERS) - cut) * answer <= most, "{cut} were cut off");
    assert!((u64::from(ASKERS) - cut + 2) * answer + u64::from(ASKERS) * 1000 > most, "{cut} were cut off, too many");
    assert!(!hall.finished.contains(&connection(0)), "a user with one answer does not give way");
    assert_eq!(hall.shard.report().home.cut_off, cut);
    // The one whose user holds little gets its answer.
    let before = hall.heard(0).len();
    hall.make_room(0);
    hall.turn(Duration::from_secs(2));
    assert!((hall.heard(0).len() - before) as u64 >= answer);
    assert!(hall.text(0)[before..].contains(r#""cid":"0""#));
}
