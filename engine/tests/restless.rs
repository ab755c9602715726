//! Sessions that come and go all the time: what that costs the members who stay.

mod hall;

use std::time::Duration;

use engine::limits::{CROWD_LASTS_MIN, Rules};
use hall::Hall;

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
