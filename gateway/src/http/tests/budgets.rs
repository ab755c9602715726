//! A user who asks for too much is refused before the store is asked, for a moment. No other user is refused.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use engine::budget::Work;
use engine::id::{Monotonic, UserId};
use engine::limits::{BUDGET_DEBT_MAX, REST_DURATION, Rules};
use engine::session::shared_budgets::{Payer, Purse, SharedBudgets};
use glommio::LocalExecutor;
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;
use storage::memory::Memory;

use super::super::chunks::ChunkFraming;
use super::super::receiving::{Reading, receive};
use super::{As, Heard, Session, World, answer, request};
use crate::client_network::ClientNetwork;

/// Milliseconds of work a second. Two seconds of it pay for 133 requests that find nothing.
const RATE: NonZeroU32 = NonZeroU32::new(10).unwrap();

const PAGE: &str = "GET /v2/friend?limit=10";

fn world() -> (World, SharedBudgets) {
    world_under(&Rules { work_per_user: Some(RATE), ..Rules::default() })
}

fn world_under(rules: &Rules) -> (World, SharedBudgets) {
    let budgets = SharedBudgets::new(rules);
    (World::under(budgets.clone(), Arc::new(Memory::new())), budgets)
}

/// Asks until the first refusal. Returns it, and how many requests were answered before.
fn ask_until_refused(world: &World, target: &str, session: &Session) -> (usize, Heard) {
    for asked in 0..1000 {
        let heard = world.ask(target, As::User(&session.token), "");
        if heard.status != 200 {
            return (asked, heard);
        }
    }
    panic!("{target} is never refused");
}

#[test]
fn pages_beyond_the_budget_are_429_and_the_store_is_not_asked() {
    let (world, budgets) = world();
    let (ada, bob) = (world.sign_in("ada"), world.sign_in("bob"));
    let (answered, refusal) = ask_until_refused(&world, PAGE, &ada);
    assert!((120..=134).contains(&answered), "{answered} pages were answered");
    refusal.expect_refusal(429, 8, "a page too much");
    let wait: u64 = refusal.header("retry-after").parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait} s for a debt of less than a second");
    let reads = world.services.store_reads();
    for _ in 0..50 {
        world.ask(PAGE, As::User(&ada.token), "").expect_refusal(429, 8, "still too much");
    }
    assert_eq!(world.services.store_reads(), reads, "the store was not asked");
    let (answered, _) = ask_until_refused(&world, PAGE, &bob);
    assert!(answered >= 120, "another user has a budget of the user's own, and {answered} pages of it");
    budgets.begin_turn(Monotonic(0).plus(BUDGET_DEBT_MAX));
    assert_eq!(world.ask(PAGE, As::User(&ada.token), "").status, 200, "the debt is paid");
}

#[test]
fn values_that_are_written_and_long_queries_are_charged_by_their_length() {
    let (world, _) = world();
    let answered = |name: &str, target: &str, body: &str| {
        let session = world.sign_in(name);
        (0..1000).take_while(|_| world.ask(target, As::User(&session.token), body.to_owned()).status == 200).count()
    };
    let object = |bytes: usize| {
        let value = format!(r#"{{\"v\":\"{}\"}}"#, "x".repeat(bytes));
        format!(r#"{{"objects":[{{"collection":"c","key":"k","value":"{value}"}}]}}"#)
    };
    let [small, large] =
        [1, 60 << 10].map(|bytes| answered(&format!("ada-{bytes}"), "PUT /v2/storage", &object(bytes)));
    assert!((35..=40).contains(&small) && (10..=20).contains(&large), "{small} small values, {large} large ones");
    let long = format!("{PAGE}&x={}", "x".repeat(16 << 10));
    let [short, long] = [PAGE, &long].map(|target| answered(&format!("bob-{}", target.len()), target, ""));
    assert!(long < short - 5, "{short} short queries, {long} long ones");
}

#[test]
fn what_a_page_holds_is_charged_after_it() {
    let (world, budgets) = world();
    let ada = world.sign_in("ada");
    let others: Vec<String> =
        (0..100).map(|number| world.sign_in(&format!("user-{number}")).user.to_string()).collect();
    let target = format!("GET /v2/user?ids={}", others.join("&ids="));
    let (answered, _) = ask_until_refused(&world, &target, &ada);
    // Each costs 150 µs for the request, and 15 µs for each user: 1.7 ms of 20.
    assert!((10..=12).contains(&answered), "{answered} lists of a hundred users were answered");
    budgets.begin_turn(Monotonic(0).plus(Duration::from_secs(60)));
    let (answered, _) = ask_until_refused(&world, "GET /v2/user", &ada);
    assert!(answered > 100, "{answered} empty lists were answered");
}

#[test]
fn a_flood_of_lists_keeps_no_user_from_logging_out() {
    let (world, _) = world();
    let ada = world.sign_in("ada");
    ask_until_refused(&world, PAGE, &ada);
    let refresh = json!({ "token": ada.refresh_token }).to_string();
    assert_eq!(world.ask("POST /v2/account/session/refresh", As::Client, refresh).status, 200);
    assert_eq!(world.ask("POST /v2/session/logout", As::User(&ada.token), "{}").status, 200);
    world.ask(PAGE, As::User(&ada.token), "").expect_refusal(401, 16, "the token is logged out");
}

#[test]
fn renewing_tokens_has_a_budget_too() {
    let (world, _) = world();
    let (ada, bob) = (world.sign_in("ada"), world.sign_in("bob"));
    let refresh = |session: &Session| {
        let body = json!({ "token": session.refresh_token }).to_string();
        world.ask("POST /v2/account/session/refresh", As::Client, body)
    };
    let renewed = (0..1000).take_while(|_| refresh(&ada).status == 200).count();
    assert!((100..=101).contains(&renewed), "{renewed} refreshes, at 200 µs of 20 ms");
    refresh(&ada).expect_refusal(429, 8, "a refresh too much");
    assert_eq!(refresh(&bob).status, 200);
    assert_eq!(world.ask(PAGE, As::User(&ada.token), "").status, 200, "the other purse is full");
}

#[test]
fn a_client_without_a_good_token_is_refused_for_that() {
    let (world, budgets) = world();
    let ada = world.sign_in("ada");
    let payer = Payer { user: Some(ada.user), network: None };
    budgets.charge(payer, Purse::Requests, Work::micros(25_000));
    world.ask(PAGE, As::User("no token"), "").expect_refusal(401, 16, "no token");
    world.ask(PAGE, As::Nobody, "").expect_refusal(401, 16, "nobody");
    assert_eq!(world.ask("GET /healthcheck", As::User(&ada.token), "").status, 200, "it is never refused");
    // A body does not come before the budget.
    let heard = world.ask("PUT /v2/account", As::User(&ada.token), "{\"display_name\":");
    heard.expect_refusal(429, 8, "with a body that is no JSON");
}

#[test]
fn users_at_one_address_share_its_budget() {
    let rules = Rules { work_per_user: None, work_per_address: Some(RATE), ..Rules::default() };
    let (world, budgets) = world_under(&rules);
    let (ada, bob) = (world.sign_in("ada"), world.sign_in("bob"));
    let (answered, refusal) = ask_until_refused(&world, PAGE, &ada);
    // The two sign-ins were charged, too.
    assert!((110..=134).contains(&answered), "{answered} pages were answered");
    refusal.expect_refusal(429, 8, "a page too much");
    let reads = world.services.store_reads();
    world.ask(PAGE, As::User(&bob.token), "").expect_refusal(429, 8, "the other user has the same address");
    world.ask(PAGE, As::User("no token"), "").expect_refusal(429, 8, "the token is not looked at");
    let sign_in = json!({ "id": "carol-device-0000" }).to_string();
    world.ask("POST /v2/account/authenticate/device", As::Client, sign_in).expect_refusal(429, 8, "a sign-in");
    assert_eq!(world.services.store_reads(), reads, "the store was not asked");
    assert_eq!(world.ask("GET /healthcheck", As::Nobody, "").status, 200, "it is never refused");
    let refresh = json!({ "token": ada.refresh_token }).to_string();
    assert_eq!(world.ask("POST /v2/account/session/refresh", As::Client, refresh).status, 200, "the other purse");
    budgets.begin_turn(Monotonic(0).plus(BUDGET_DEBT_MAX));
    assert_eq!(world.ask(PAGE, As::User(&bob.token), "").status, 200, "the debt is paid");
}

/// Uses up a user's budget. Returns what asks for the time until the debt is paid.
fn in_debt(budgets: &SharedBudgets, user: UserId) -> impl Fn() -> Duration + '_ {
    let payer = Payer { user: Some(user), network: None };
    budgets.charge(payer, Purse::Requests, Work::micros(20_500));
    move || budgets.standings(payer, Purse::Requests)[0].1.debt()
}

#[test]
fn the_bytes_of_a_refused_body_are_charged() {
    let (world, budgets) = world();
    let ada = world.sign_in("ada");
    let debt = in_debt(&budgets, ada.user);
    let before = debt();
    let body = "x".repeat(100_000);
    world.ask("PUT /v2/account", As::User(&ada.token), body).expect_refusal(429, 8, "a body beyond the budget");
    // 50 µs for the refusal, and 100 µs for the bytes, at ten milliseconds a second.
    assert_eq!(debt() - before, Duration::from_millis(15));
}

#[test]
fn the_framing_of_a_body_is_charged() {
    let (world, budgets) = world();
    let ada = world.sign_in("ada");
    let debt = in_debt(&budgets, ada.user);
    let before = debt();
    let (head, _) = request("GET /v2/account", As::User(&ada.token)).body(()).unwrap().into_parts();
    let framing = || ChunkFraming { bytes: 5000, chunks: 1000 };
    let body = Full::new(Bytes::from_static(&[b'x'; 1000]));
    let mut received =
        pin!(receive(&world.services, ClientNetwork::UNKNOWN, &head, body, framing, Reading::AsResource));
    assert!(received.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    // 50 µs for the refusal, 6 µs for the bytes, and 1 µs for each chunk, at ten milliseconds a second.
    assert_eq!(debt() - before, Duration::from_micros(105_600));
}

#[test]
fn a_user_far_beyond_the_budget_is_refused_after_a_rest() {
    let (world, budgets) = world();
    let ada = world.sign_in("ada");
    budgets.charge(Payer { user: Some(ada.user), network: None }, Purse::Requests, Work::micros(1_000_000));
    LocalExecutor::default().run(async move {
        let begun = Instant::now();
        let refused = answer(&world.services, request(PAGE, As::User(&ada.token)).body(Bytes::new()).unwrap()).await;
        assert_eq!(refused.status(), 429);
        assert!(begun.elapsed() >= REST_DURATION, "the next request of the connection waits");
    });
}
