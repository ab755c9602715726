//! Tests of whom a session may follow: at most so many users, where a user whom it follows already is not counted
//! twice; and no user who blocks it.

mod world;

use engine::command::Command;
use engine::id::{ChannelId, ConnectionId, SessionId, UserId};
use engine::limits::{FOLLOWS_MAX, FOLLOWS_PER_USER_MAX, Rules};
use engine::message::StatusPresence;
use engine::parcel::Broadcast;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::query::{Block, QueryAnswer};
use engine::session::home::Visibility;
use engine::shard::Input;
use uuid::Uuid;
use world::{MEMBER, NOW, World, only};

/// A session asks to follow these users. Returns the ticket of the question to the store, and the users.
fn ask_to_follow(world: &mut World, connection: ConnectionId, numbers: std::ops::Range<u128>) -> (Ticket, Vec<UserId>) {
    let users: Vec<UserId> = numbers.map(|number| UserId(Uuid::from_u128(1000 + number))).collect();
    let user_ids = users.iter().map(ToString::to_string).collect();
    let command = Command::StatusFollow { user_ids, usernames: Vec::new() };
    world.shard.step(Input::Request { connection, cid: "7".to_owned(), command }, NOW);
    let (ticket, request) = only(world.turn());
    assert!(matches!(request, StoreRequest::Question(StoreQuestion::Users { .. })), "{request:?}");
    (ticket, users)
}

/// Follows these users, who all exist. Returns what the session was told.
fn follow(world: &mut World, numbers: std::ops::Range<u128>) -> String {
    let (ticket, users) = ask_to_follow(world, MEMBER, numbers);
    world.heard.0.clear();
    world.answer(ticket, StoreReceipt::Users(users));
    world.heard.text()
}

#[test]
fn a_session_follows_only_so_many() {
    let most = FOLLOWS_MAX as u128;
    let mut world = World::new();
    assert!(follow(&mut world, 0..most).contains("\"status\":{"));
    assert!(follow(&mut world, most - 2..most + 1).contains("unfollow a user first"), "one more is too many");
    assert!(follow(&mut world, 0..most).contains("\"status\":{"), "the same ones take no further place");
    let user_ids = vec![UserId(Uuid::from_u128(1000)).to_string()];
    assert!(world.ask("8", Command::StatusUnfollow { user_ids }).is_empty());
    assert!(follow(&mut world, most..most + 1).contains("\"status\":{"), "there is room again");
    assert!(follow(&mut world, 0..1).contains("unfollow a user first"), "the one that was given up is new");
}

#[test]
fn the_sessions_of_a_user_follow_only_so_many_together() {
    let mut world = World::under(Rules { work_per_session: None, work_per_user: None, ..Rules::default() });
    for slot in 1..=(FOLLOWS_PER_USER_MAX / FOLLOWS_MAX) as u32 {
        let connection = ConnectionId { slot, generation: 1 };
        world.open_session(connection, 1, "ada", Visibility::Unseen);
        let (ticket, users) = ask_to_follow(&mut world, connection, 0..FOLLOWS_MAX as u128);
        world.answer(ticket, StoreReceipt::Users(users));
    }
    assert!(follow(&mut world, 0..1).contains("unfollow a user first"), "one more is too many");
    world.shard.step(Input::Closed { connection: ConnectionId { slot: 1, generation: 1 } }, NOW);
    world.turn();
    assert!(follow(&mut world, 0..1).contains("\"status\":{"), "a session that is closed follows no user");
}

#[test]
fn an_answer_to_a_follow_has_bounded_bytes() {
    let long = "x".repeat(2048);
    let mut world = World::new();
    for user in 0..200 {
        show(&mut world, user, &long);
    }
    let heard = follow(&mut world, 0..200);
    assert!(heard.contains("follow fewer users at once"), "{heard}");
    assert_eq!(follow(&mut world, 0..100).matches(&long).count(), 100);
    // Of one user with many sessions only the first are told of, so that the others can be followed.
    for session in 1000..1100 {
        show_session(&mut world, 7, session, &long);
    }
    assert_eq!(follow(&mut world, 0..90).matches(&long).count(), 89 + 8);
}

/// A user blocks the session's user.
fn block(world: &mut World, by: u128) {
    let (user, other) = (UserId(Uuid::from_u128(1000 + by)), UserId(Uuid::from_u128(1)));
    let query = Block { user, other }.into();
    world.shard.step(Input::ChannelQuery { number: 7, channel: ChannelId::direct(user, other), query }, NOW);
    let (head, _) = only(world.turn());
    let (decision, request) = only(world.answer(head, StoreReceipt::Head(None)));
    assert!(matches!(request, StoreRequest::Write(StoreWrite::Block { .. })), "{request:?}");
    assert!(world.answer(decision, StoreReceipt::Blocked).is_empty());
    assert_eq!(std::mem::take(&mut world.answers), [(7, QueryAnswer::Blocked(Ok(())))]);
}

/// A session of a user shows this status.
fn show(world: &mut World, number: u128, status: &str) {
    show_session(world, number, number, status);
}

fn show_session(world: &mut World, number: u128, session: u128, status: &str) {
    hear(world, number, session, status);
    world.heard.0.clear();
    world.turn();
}

/// The shard hears that a session shows this status, in a turn that goes on.
fn hear(world: &mut World, number: u128, session: u128, status: &str) {
    let after = StatusPresence {
        user: UserId(Uuid::from_u128(1000 + number)),
        session: SessionId(Uuid::from_u128(session)),
        username: "bob".into(),
        status: status.into(),
    };
    world.shard.step(Input::Broadcast(Broadcast::Status { before: None, after: Some(after) }), NOW);
}

#[test]
fn an_answer_to_a_follow_has_what_the_shard_heard_in_the_same_turn() {
    let mut world = World::new();
    show(&mut world, 0, "away");
    let (ticket, users) = ask_to_follow(&mut world, MEMBER, 0..1);
    world.heard.0.clear();
    hear(&mut world, 0, 0, "back");
    world.answer(ticket, StoreReceipt::Users(users));
    let heard = world.heard.text();
    assert!(heard.contains("back") && !heard.contains("away"), "{heard}");
}

#[test]
fn a_block_that_overtakes_the_answer_to_a_follower_is_known() {
    let mut world = World::new();
    for number in 0..2 {
        show(&mut world, number, "shown");
    }
    let users: Vec<UserId> = (0..2).map(|number| UserId(Uuid::from_u128(1000 + number))).collect();
    let user_ids = users.iter().map(ToString::to_string).collect();
    let (ticket, _) = only(world.ask("7", Command::StatusFollow { user_ids, usernames: Vec::new() }));
    block(&mut world, 0);
    world.heard.0.clear();
    // The store read the users before the block.
    world.answer(ticket, StoreReceipt::Users(users.clone()));
    let heard = world.heard.text();
    assert!(heard.contains(&users[1].to_string()) && !heard.contains(&users[0].to_string()), "{heard}");
    for (number, is_heard) in [(0, false), (1, true)] {
        show(&mut world, number, "shown later");
        assert_eq!(world.heard.text().contains("shown later"), is_heard);
    }
    block(&mut world, 1);
    show(&mut world, 1, "shown last");
    assert_eq!(world.heard.text(), "", "a block ends the following in silence");
}

#[test]
fn an_opening_session_is_told_first_and_only_once_what_it_shows() {
    let mut world = World::with(Visibility::Online);
    world.shard.step(Input::Tell { connection: MEMBER, frame: b"\x81\x04ping".to_vec() }, NOW);
    world.turn();
    world.turn();
    let heard = world.heard.text();
    let [event, ping] = ["status_presence_event", "ping"].map(|what| heard.find(what));
    assert!(event.is_some() && event < ping, "{heard}");
    assert_eq!(heard.matches("status_presence_event").count(), 1, "{heard}");
}

#[test]
fn a_session_that_opens_and_changes_at_once_is_told_of_both() {
    for status in [Some("away"), None] {
        let mut world = World::with(Visibility::Online);
        let update = Command::StatusUpdate { status: status.map(str::to_owned) };
        world.ask("5", update);
        let heard = world.heard.text();
        let first = heard.find("joins").expect("the opening is told");
        let second = heard[first..].find(r#""leaves":[{"user_id"#).expect("what it showed at its opening leaves");
        let answer = heard[first + second..].find(r#""cid":"5""#);
        assert!(answer.is_some(), "the answer comes behind the event: {heard}");
        assert_eq!(heard.contains("away"), status.is_some(), "{heard}");
        assert_eq!(heard.matches("status_presence_event").count(), 2, "{heard}");
    }
}
