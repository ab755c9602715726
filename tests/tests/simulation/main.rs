//! Simulations of many shards, clients and failures in one thread, from one seed. The store is slow, fails, and answers
//! out of order; sockets take as much as they like. Some clients speak protobuf, the others JSON.
//!
//! Whenever a client receives a frame, it asserts: nothing is shown before it is durable; all members see one order,
//! without a gap while they are members; answers come in the order of requests; a sender gets its own message before
//! the acknowledgement; and gaps name exactly what was missed. Once the world is quiet, the simulation asserts that
//! history is what was shown, and that every client knows correctly which members are present. A failure prints its
//! seed: `SEED=n cargo test ...` repeats it.

use std::num::NonZeroU32;

use engine::limits::{PASS_VISITS_MAX, WORK_PER_SESSION_MAX, WORK_PER_USER_MAX, WRITE_BYTES_MAX};

mod client;
mod inbox;
mod member;
mod nodes;
mod people;
mod registry;
mod rings;
mod slowness;
mod store;
mod world;

use nodes::Moves;
use rings::Carriage;
use world::{Clocks, Pace, Plan, World};

/// Runs a simulation. Returns all bytes that the clients received.
fn run(seed: u64, plan: Plan) -> Vec<u8> {
    run_world(seed, plan).transcript()
}

fn run_world(seed: u64, plan: Plan) -> World {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, plan);
        for _ in 0..plan.turns {
            world.turn();
        }
        world.check_budget();
        world.quieten();
        world.check_quiet();
        world
    });
    outcome.unwrap_or_else(|panic| {
        eprintln!("simulation failed: SEED={seed} repeats it, with {plan:?}");
        std::panic::resume_unwind(panic)
    })
}

const PLAN: Plan = Plan {
    shards: 2,
    clients: 12,
    hostile: 0,
    rooms: 2,
    turns: 400,
    store_fails: false,
    room_members_max: 1000,
    pace: Pace::Even,
    sends_per_second: None,
    work_per_session: Some(WORK_PER_SESSION_MAX),
    work_per_user: Some(WORK_PER_USER_MAX),
    clocks: Clocks::Agree,
    haste: 1,
    carriage: Carriage::Reliable,
    moves: Moves::None,
    pass_visits_max: PASS_VISITS_MAX,
    write_bytes_max: WRITE_BYTES_MAX,
};

const PEOPLE: people::Plan = people::Plan {
    shards: 1,
    users: 5,
    sessions: 12,
    groups: 2,
    turns: 500,
    store_fails: false,
    carriage: Carriage::Reliable,
};

/// How often the clients received these bytes.
fn count(heard: &[u8], what: &[u8]) -> usize {
    heard.windows(what.len()).filter(|window| *window == what).count()
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

#[test]
fn one_order_for_all_and_nothing_shown_before_it_is_durable() {
    for seed in seeds(60) {
        for shards in [1, 3] {
            run(seed, Plan { shards, rooms: 3, turns: 400, ..PLAN });
        }
    }
}

#[test]
fn a_failing_store_refuses_and_hides_nothing() {
    for seed in seeds(60) {
        run(seed, Plan { clients: 10, store_fails: true, ..PLAN });
    }
}

#[test]
fn a_crowd_is_counted_and_a_room_is_known_across_every_crossing() {
    for seed in seeds(60) {
        for (room_members_max, haste) in [(2, 1), (4, 1), (2, 1000), (4, 1000), (6, 1000)] {
            // In haste, a crowd lasts for some turns only.
            run(seed, Plan { room_members_max, haste, ..PLAN });
        }
    }
}

#[test]
fn hostile_clients_cost_the_others_no_more_than_their_budget() {
    for seed in seeds(40) {
        for (shards, haste, room_members_max) in [(1, 1, 1000), (3, 1, 14), (1, 1000, 14), (3, 1000, 14)] {
            let store_fails = seed % 4 == 0;
            run(seed, Plan { shards, clients: 18, hostile: 6, haste, room_members_max, store_fails, ..PLAN });
        }
    }
}

#[test]
fn a_slow_client_is_told_exactly_what_it_missed_or_is_closed() {
    let (mut gaps, mut closed) = (0, 0);
    for seed in seeds(20) {
        for (shards, store_fails) in [(1, false), (3, true)] {
            let heard = run(seed, Plan { shards, store_fails, turns: 600, pace: Pace::Slow, ..PLAN });
            gaps += count(&heard, b"channel_gap");
            closed += count(&heard, b"too slow");
        }
    }
    assert!(gaps > 10 && closed > 10, "{gaps} gaps and {closed} closed are too few to prove anything");
}

#[test]
fn a_flood_is_refused_beyond_its_measure_and_harms_no_other_client() {
    for seed in seeds(10) {
        for pace in [Pace::Even, Pace::Slow] {
            let heard = run(seed, Plan { pace, sends_per_second: NonZeroU32::new(2), ..PLAN });
            assert!(count(&heard, b"too fast") > 10, "the limit was hardly met");
        }
    }
}

#[test]
fn requests_beyond_a_budget_are_refused_and_each_has_its_answer() {
    let least = NonZeroU32::new(1);
    for seed in seeds(20) {
        for (work_per_session, work_per_user, reason) in
            [(least, None, "work_per_session"), (None, least, "work_per_user"), (least, least, "work_per_")]
        {
            for pace in [Pace::Even, Pace::Slow] {
                let plan = Plan { clients: 6, turns: 1000, pace, work_per_session, work_per_user, ..PLAN };
                let heard = run(seed, plan);
                let refused = count(&heard, reason.as_bytes());
                assert!(refused > 50, "seed {seed}: the budget was hardly met, {refused} refusals with {plan:?}");
            }
        }
    }
}

#[test]
fn rotations_that_wait_for_their_time_keep_every_promise() {
    for seed in seeds(20) {
        for (shards, pace, pass_visits_max) in
            [(1, Pace::Even, 3), (1, Pace::Slow, 3), (2, Pace::Even, 2), (3, Pace::Slow, 2)]
        {
            let plan =
                Plan { shards, clients: 20, turns: 600, store_fails: shards == 3, pace, pass_visits_max, ..PLAN };
            let waits = run_world(seed, plan).waits;
            assert!(waits > 20, "seed {seed}: {waits} rotations that had to wait are too few, with {plan:?}");
        }
    }
}

#[test]
fn visits_that_write_little_keep_every_promise() {
    for seed in seeds(20) {
        for (shards, write_bytes_max) in [(1, 100), (2, 300), (3, 1000)] {
            run(seed, Plan { shards, clients: 20, write_bytes_max, ..PLAN });
        }
    }
}

#[test]
fn clocks_that_jump_by_two_hours_and_come_back_harm_no_client() {
    for seed in seeds(20) {
        for (shards, room_members_max) in [(1, 4), (3, 4), (3, 1000)] {
            let plan = Plan {
                shards,
                room_members_max,
                sends_per_second: NonZeroU32::new(50),
                clocks: Clocks::Jump,
                store_fails: shards == 1,
                ..PLAN
            };
            let (jumping, even) = (run(seed, plan), run(seed, Plan { clocks: Clocks::Agree, ..plan }));
            let [acks, usual] = [&jumping, &even].map(|heard| count(heard, b"channel_message_ack"));
            assert!(
                acks * 3 > usual * 2,
                "seed {seed}: {acks} acknowledgements, and {usual} without jumps, with {plan:?}"
            );
        }
    }
}

/// A seed in which the last member leaves and joins again, so that the owner makes the channel again, while a home has
/// missed the batch before.
const CHANNEL_MADE_AGAIN: u64 = 111;

/// A seed in which a channel is made again while the clock is not beyond its newest stored message. So stored messages get
/// smaller ids than a message that a member saw before and that was not stored.
const IDS_GIVEN_AGAIN: u64 = 1018;

#[test]
fn lost_doubled_and_late_batches_change_no_order_and_no_stored_message_is_missed() {
    let (mut faults, mut gaps, mut lost, mut unknown) = ([0; 3], 0, 0, 0);
    for seed in seeds(60).into_iter().chain([CHANNEL_MADE_AGAIN, IDS_GIVEN_AGAIN]) {
        for (shards, room_members_max, store_fails, pace) in [
            (2, 1000, false, Pace::Even),
            (3, 1000, true, Pace::Even),
            (3, 4, false, Pace::Even),
            (3, 1000, false, Pace::Slow),
        ] {
            let plan = Plan { shards, room_members_max, store_fails, pace, carriage: Carriage::Lossy, ..PLAN };
            let world = run_world(seed, plan);
            faults.iter_mut().zip(world.rings.faults).for_each(|(sum, count)| *sum += count);
            let missed = world.missed();
            (gaps, lost, unknown) = (gaps + missed.0, lost + missed.1, unknown + world.unknown());
        }
    }
    let seen = format!("{faults:?} faults, {gaps} gaps, {lost} lost, {unknown} unknown");
    if std::env::var_os("SEED").is_some() {
        return;
    }
    assert!(faults.iter().all(|&count| count > 1000), "{seen}");
    assert!(gaps > 1000 && lost > 100 && unknown > 100, "{seen}");
}

#[test]
#[ignore = "no server moves channels yet, and this does not hold yet when they move"]
fn channels_that_move_in_order_lose_nothing_and_no_client_notices() {
    let mut moved = 0;
    for seed in seeds(60) {
        // In more haste, homes have no time to enter before messages go on without them (`HOMES_PATIENCE`).
        for (shards, haste, room_members_max) in [(2, 1, 1000), (3, 1, 1000), (3, 10, 1000), (3, 10, 4)] {
            let plan = Plan { shards, haste, room_members_max, turns: 800, moves: Moves::Orderly, ..PLAN };
            moved += run_world(seed, plan).nodes.map_or(0, |nodes| nodes.counts[0]);
        }
    }
    assert!(moved > 10_000 || std::env::var_os("SEED").is_some(), "{moved} slots have changed hands");
}

#[test]
fn nodes_that_die_take_no_stored_message_with_them_and_leave_no_ghost() {
    let mut died = 0;
    for seed in seeds(60) {
        for (shards, haste, store_fails) in [(2, 1, false), (3, 1, false), (3, 1000, true), (4, 1000, false)] {
            let plan = Plan { shards, haste, store_fails, turns: 800, moves: Moves::Deaths, ..PLAN };
            died += run_world(seed, plan).nodes.map_or(0, |nodes| nodes.counts[1]);
        }
    }
    assert!(died > 500 || std::env::var_os("SEED").is_some(), "{died} nodes have died");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in seeds(5) {
        let plan = Plan { shards: 3, clients: 8, turns: 200, store_fails: true, pace: Pace::Slow, ..PLAN };
        let first = run(seed, plan);
        assert!(!first.is_empty());
        assert!(first == run(seed, plan), "seed {seed} gave two different runs");
    }
}

#[test]
fn users_who_are_thrown_out_or_blocked_see_nothing_that_they_may_not() {
    let mut outcome = people::Outcome::default();
    for seed in seeds(40) {
        for (shards, store_fails) in [(1, false), (3, false), (3, true)] {
            outcome.add(people::run(seed, people::Plan { shards, store_fails, ..PEOPLE }));
        }
    }
    assert!(outcome.changes.iter().all(|&count| count > 100), "too few changes: {outcome:?}");
}

#[test]
fn lost_batches_show_users_nothing_that_they_may_not_see_and_leave_no_ghost() {
    let mut outcome = people::Outcome::default();
    for seed in seeds(60) {
        for (shards, store_fails) in [(2, false), (3, true)] {
            let plan = people::Plan { shards, store_fails, carriage: Carriage::Lossy, ..PEOPLE };
            outcome.add(people::run(seed, plan));
        }
    }
    if std::env::var_os("SEED").is_some() {
        return;
    }
    assert!(outcome.changes.iter().all(|&count| count > 100), "too few changes: {outcome:?}");
    assert!(outcome.faults.iter().all(|&count| count > 500) && outcome.unknown > 100, "{outcome:?}");
}
