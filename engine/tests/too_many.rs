//! Bounds on what is held: joins beyond them are refused, and what is there goes on.

mod world;

use std::num::NonZeroU32;

use engine::command::{Command, Join};
use engine::limits::Rules;
use engine::persist::StoreReceipt;
use world::World;

/// How many channels a test lets in.
const MOST: u32 = 3;

fn join(world: &mut World, room: &str) {
    let join = Join { target: room.into(), kind: 1, persistence: true, hidden: false };
    for (head, _) in world.ask(room, Command::Join(join)) {
        world.answer(head, StoreReceipt::Head(None));
    }
}

fn leave(world: &mut World, room: &str) {
    world.ask("leave", Command::Leave { channel_id: format!("2...{room}") });
}

/// What the refusal says, or nothing if the session is in the room.
fn refusal(world: &mut World, room: &str) -> String {
    world.heard.0.clear();
    join(world, room);
    let heard = world.heard.text();
    if heard.contains(&format!("{{\"cid\":\"{room}\",\"channel\"")) {
        return String::new();
    }
    let (_, message) = heard.split_once("\"message\":\"").expect("an error");
    message.split_once('"').expect("the end of the text").0.to_owned()
}

const OF_USER: &str = "leave a channel first: the sessions of one user may not be in more";
const OF_SHARD: &str = "the server has as many channels as it can hold, try again later";

#[test]
fn the_sessions_of_one_user_are_in_so_many_channels_only() {
    let rules = Rules { memberships_per_user_max: NonZeroU32::new(MOST), ..Rules::default() };
    let mut world = World::under(rules);
    let rooms = ["one", "two", "three"];
    assert_eq!(rooms.map(|room| refusal(&mut world, room)), [""; MOST as usize]);
    assert_eq!(refusal(&mut world, "four"), OF_USER);
    leave(&mut world, "two");
    assert_eq!(refusal(&mut world, "four"), "", "one was left");
    assert_eq!(refusal(&mut world, "five"), OF_USER);
}

#[test]
fn a_shard_owns_so_many_channels_only() {
    let mut world = World::under(Rules { channels_max: MOST as usize, ..Rules::default() });
    let rooms = ["one", "two", "three"];
    assert_eq!(rooms.map(|room| refusal(&mut world, room)), [""; MOST as usize]);
    assert_eq!(refusal(&mut world, "four"), OF_SHARD);
    assert_eq!(world.shard.report().levels.channels, u64::from(MOST), "the refused room is not kept");
    assert_eq!(refusal(&mut world, "three"), "", "a channel that is there takes members");
    leave(&mut world, "one");
    assert_eq!(refusal(&mut world, "four"), "", "a channel is gone");
}
