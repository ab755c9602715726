//! Budgets, as a session meets them: what is refused and what is not, how long a refused client waits, and when a socket
//! that is read later is read again.

mod world;

use std::num::NonZeroU32;
use std::time::Duration;

use engine::budget::Work;
use engine::command::{Command, Join, RateLimit};
use engine::id::UserId;
use engine::limits::{REST_DURATION, Rules};
use engine::persist::StoreReceipt;
use engine::process_rates::{ProcessRate, ProcessRates};
use engine::session::shared_budgets::{Payer, Purse};
use engine::shard::SocketEffect;
use uuid::Uuid;
use world::{MEMBER, World};

const USER: UserId = UserId(Uuid::from_u128(1));

/// The user alone, who has no network here.
const PAYER: Payer = Payer { user: Some(USER), network: None };

/// Joins of a room that one session may ask for at once: two seconds of its work, at 50 µs each, and one more.
const JOINS_AT_ONCE: usize = 2001;

fn join(world: &mut World, cid: &str) {
    let join = Join { target: "hall".into(), kind: 1, persistence: true, hidden: false };
    for (head, _) in world.ask(cid, Command::Join(join)) {
        world.answer(head, StoreReceipt::Head(None));
    }
}

/// How often the client was told this.
fn count(world: &World, what: &str) -> usize {
    world.heard.text().matches(what).count()
}

#[test]
fn pings_and_leaves_are_answered_while_joins_are_refused() {
    let mut world = World::new();
    for _ in 0..JOINS_AT_ONCE + 500 {
        join(&mut world, "join");
    }
    let refusal = "{\"cid\":\"join\",\"error\":{\"code\":3,";
    assert_eq!((count(&world, "\"cid\":\"join\",\"channel\""), count(&world, refusal)), (JOINS_AT_ONCE, 500));
    assert_eq!(count(&world, "\"context\":{\"reason\":\"work_per_session\",\"retry_after_ms\":\""), 500);
    world.heard.0.clear();
    let channel_id = "2...hall".to_owned();
    world.ask("ping", Command::Ping);
    world.ask("unfollow", Command::StatusUnfollow { user_ids: vec![USER.to_string()] });
    world.ask("leave", Command::Leave { channel_id: channel_id.clone() });
    world.ask("send", Command::Send { channel_id, content: "{}".into() });
    let heard = world.heard.text();
    for answer in ["{\"cid\":\"ping\",\"pong\":{}}", "{\"cid\":\"unfollow\"}", "{\"cid\":\"leave\"}"] {
        assert!(heard.contains(answer), "{answer} is not in {heard}");
    }
    let (_, refused) = heard.split_once("{\"cid\":\"send\",\"error\":").expect("a send may be refused");
    let (_, wait) = refused.split_once("retry_after_ms\":\"").expect("the client is told how long to wait");
    let wait = wait.split('"').next().and_then(|wait| wait.parse().ok()).expect("milliseconds");
    world.begin_turn(Duration::from_millis(wait));
    world.heard.0.clear();
    join(&mut world, "again");
    assert!(world.heard.text().contains("{\"cid\":\"again\",\"channel\""), "{}", world.heard.text());
}

#[test]
fn a_user_pays_for_the_requests_of_all_sessions() {
    let mut world = World::new();
    world.shard.shared_budgets().charge(PAYER, Purse::Requests, Work::micros(201_000));
    join(&mut world, "join");
    assert!(world.heard.text().contains("\"reason\":\"work_per_user\""), "{}", world.heard.text());
    assert_eq!(world.shard.report().home.too_fast, [0, 0, 1, 0, 0]);
    assert_eq!(world.sockets, [SocketEffect::TooFast(MEMBER, RateLimit::WorkPerUser)], "operators are told");
    // What is charged to the other purse hinders no request.
    let mut world = World::new();
    world.shard.shared_budgets().charge(PAYER, Purse::Tokens, Work::micros(1_000_000));
    join(&mut world, "join");
    assert!(world.heard.text().contains("\"cid\":\"join\",\"channel\""), "{}", world.heard.text());
}

#[test]
fn a_flood_of_pings_is_read_later_and_each_rest_lets_one_through() {
    let mut world = World::new();
    let mut pings = 0;
    while world.shard.accepts(MEMBER) {
        world.ask("ping", Command::Ping);
        pings += 1;
    }
    // Three seconds of the session's work at 10 µs each: two at once, and one of debt.
    assert_eq!((pings, count(&world, "\"pong\":{}")), (15_001, 15_001), "all that were read are answered");
    assert_eq!(world.shard.report().levels.resting, 1);
    // Whatever the budget says, the session goes on after the time of rest.
    world.shard.shared_budgets().charge(PAYER, Purse::Requests, Work::micros(10_000_000));
    for rest in 0..4 {
        assert!(!world.shard.accepts(MEMBER));
        world.begin_turn(REST_DURATION - Duration::from_millis(1));
        world.turn();
        assert_eq!((world.shard.accepts(MEMBER), world.sockets.len()), (false, 0), "rest {rest}");
        world.begin_turn(Duration::from_millis(1));
        world.turn();
        assert_eq!(std::mem::take(&mut world.sockets), [SocketEffect::Resume(MEMBER)], "rest {rest}");
        assert!(world.shard.accepts(MEMBER) && world.shard.accepts(MEMBER), "it waits for a whole frame");
        world.ask("after a rest", Command::Ping);
        assert_eq!(count(&world, "{\"cid\":\"after a rest\",\"pong\":{}}"), rest + 1);
    }
    world.begin_turn(Duration::from_secs(3));
    world.turn();
    assert!(world.shard.accepts(MEMBER), "the debt is paid");
    assert_eq!(world.shard.report().levels.resting, 0);
}

#[test]
fn an_answer_is_charged_by_its_length() {
    let mut world = World::new();
    world.fill("hall", 500);
    join(&mut world, "first");
    // A list of 500 presences with such names has more than 100 KB, and costs more than the join itself.
    let mut joins = 1;
    while !world.heard.text().contains("work_per_session") {
        world.heard.0.clear();
        join(&mut world, "again");
        joins += 1;
    }
    assert!((100..JOINS_AT_ONCE / 2).contains(&joins), "{joins} joins were let in");
}

fn join_room(world: &mut World, room: usize) {
    let join = Join { target: format!("room-{room}"), kind: 1, persistence: true, hidden: false };
    for (head, _) in world.ask("join", Command::Join(join)) {
        world.answer(head, StoreReceipt::Head(None));
    }
}

#[test]
fn joins_beyond_the_rate_of_the_process_are_told_when_to_come_back() {
    let process_rates = ProcessRates { joins: NonZeroU32::new(4), ..ProcessRates::default() };
    let mut world = World::under(Rules { process_rates, ..Rules::default() });
    (0..10).for_each(|room| join_room(&mut world, room));
    assert_eq!(count(&world, "\"cid\":\"join\",\"channel\""), 4);
    for wait in [250, 500, 750, 1000, 1250, 1500] {
        let told = format!("\"context\":{{\"reason\":\"joins_per_second\",\"retry_after_ms\":\"{wait}\"}}");
        assert_eq!(count(&world, &told), 1, "{told}");
    }
    (0..4).for_each(|room| join_room(&mut world, room));
    assert_eq!(count(&world, "\"cid\":\"join\",\"channel\""), 8, "a session that is in the channel joins nothing");
    world.begin_turn(Duration::from_millis(250));
    (4..10).for_each(|room| join_room(&mut world, room));
    assert_eq!(count(&world, "\"cid\":\"join\",\"channel\""), 9);
    let report = world.shard.report();
    assert_eq!(report.home.too_fast, [0, 0, 0, 0, 11]);
    assert_eq!(report.beyond_rates[ProcessRate::Joins as usize], 11);
}

#[test]
fn without_limits_nothing_is_refused() {
    let mut world = World::under(Rules { work_per_session: None, work_per_user: None, ..Rules::default() });
    for _ in 0..3 * JOINS_AT_ONCE {
        join(&mut world, "join");
    }
    assert_eq!(count(&world, "\"cid\":\"join\",\"channel\""), 3 * JOINS_AT_ONCE);
}
