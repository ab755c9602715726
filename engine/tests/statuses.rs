//! Whom a session may follow: so many, and whom it follows already takes no further place.

mod world;

use engine::command::Command;
use engine::id::UserId;
use engine::limits::FOLLOWS_MAX;
use engine::persist::{StoreReceipt, StoreRequest};
use uuid::Uuid;
use world::{World, only};

/// Follows these users, all of whom there are; answers what the session was told.
fn follow(world: &mut World, numbers: std::ops::Range<u128>) -> String {
    let users: Vec<UserId> = numbers.map(|number| UserId(Uuid::from_u128(1000 + number))).collect();
    let user_ids = users.iter().map(ToString::to_string).collect();
    let (ticket, request) = only(world.ask("7", Command::StatusFollow { user_ids, usernames: Vec::new() }));
    assert!(matches!(request, StoreRequest::Users { .. }), "{request:?}");
    world.heard.0.clear();
    world.answer(ticket, StoreReceipt::Users(users));
    world.heard.text()
}

#[test]
fn a_session_follows_only_so_many() {
    let most = FOLLOWS_MAX as u128;
    let mut world = World::new();
    assert!(follow(&mut world, 0..most).contains("\"status\":{"));
    assert!(follow(&mut world, most - 2..most + 1).contains("unfollow somebody first"), "one more is too many");
    assert!(follow(&mut world, 0..most).contains("\"status\":{"), "the same ones take no further place");
    let user_ids = vec![UserId(Uuid::from_u128(1000)).to_string()];
    assert!(world.ask("8", Command::StatusUnfollow { user_ids }).is_empty());
    assert!(follow(&mut world, most..most + 1).contains("\"status\":{"), "there is room again");
    assert!(follow(&mut world, 0..1).contains("unfollow somebody first"), "the one that was given up is new");
}
