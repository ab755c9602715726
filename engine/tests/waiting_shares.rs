//! Tests that the sessions of one user cannot fill the line in which a channel's requests wait.

mod world;

use engine::command::{Command, Join};
use engine::id::ConnectionId;
use engine::limits::{CHANNEL_PENDING_MAX, REQUESTS_IN_FLIGHT_MAX, Rules};
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest};
use engine::session::home::Visibility;
use engine::shard::Input;
use world::{NOW, World};

fn join() -> Command {
    Command::Join(Join { target: "lobby".into(), kind: 1, persistence: true, hidden: false })
}

fn send() -> Command {
    Command::Send { channel_id: "2...lobby".into(), content: "{}".into() }
}

#[test]
fn a_user_with_many_sessions_leaves_room_in_the_line_for_others() {
    let rules = Rules { work_per_session: None, work_per_user: None, sessions_per_user_max: None, ..Rules::default() };
    let mut world = World::under(rules);
    let head = world.ask("join", join());
    // The store does not say where the history ends, so all messages wait.
    assert!(matches!(head[..], [(_, StoreRequest::Question(StoreQuestion::Head { .. }))]), "{head:?}");
    let sessions = CHANNEL_PENDING_MAX / REQUESTS_IN_FLIGHT_MAX + 1;
    for slot in 1..=sessions as u32 {
        let connection = ConnectionId { slot, generation: 1 };
        world.open_session(connection, 50, "flood", Visibility::Unseen);
        world.shard.step(Input::Request { connection, cid: "join".into(), command: join() }, NOW);
        world.turn();
        for number in 0..REQUESTS_IN_FLIGHT_MAX {
            world.shard.step(Input::Request { connection, cid: number.to_string(), command: send() }, NOW);
        }
    }
    world.turn();
    let waiting = |world: &World| world.shard.report().home.refused.iter().sum::<u64>();
    let refused = waiting(&world);
    assert!(refused as usize >= CHANNEL_PENDING_MAX / 2, "half of the line is the user's share: {refused} refused");
    assert!(world.ask("mine", send()).is_empty());
    assert_eq!(waiting(&world), refused, "{}", world.heard.text());
    let (ticket, _) = head[0];
    let asked = world.answer(ticket, StoreReceipt::Head(None));
    assert!(asked.len() > CHANNEL_PENDING_MAX / 4, "what waited is taken up: {}", asked.len());
}
