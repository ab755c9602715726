//! Many shards, clients and failures in one thread under one seed, with a store that is slow, fails, and answers out of
//! order, and sockets that take what they like.
//!
//! Asserted at every receipt of a frame: nothing is shown before it is durable, one order for all, no gap while a member,
//! answers in the order of the questions, one's own message before its ack. Asserted once quiet: history is what was
//! shown, and everybody's idea of who is there is the truth. A failure names its seed: `SEED=n cargo test ...` repeats it.

mod client;
mod store;
mod world;

use world::{Plan, World};

fn run(seed: u64, plan: Plan) -> Vec<u8> {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, plan);
        for _ in 0..plan.turns {
            world.turn();
        }
        world.quieten();
        world.check_quiet();
        world.transcript()
    });
    outcome.unwrap_or_else(|panic| {
        eprintln!("simulation failed: SEED={seed} repeats it, with {plan:?}");
        std::panic::resume_unwind(panic)
    })
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
            run(seed, Plan { shards, clients: 12, rooms: 3, turns: 400, store_fails: false, room_members_max: 1000 });
        }
    }
}

#[test]
fn a_failing_store_refuses_and_hides_nothing() {
    for seed in seeds(60) {
        run(seed, Plan { shards: 2, clients: 10, rooms: 2, turns: 400, store_fails: true, room_members_max: 1000 });
    }
}

#[test]
fn a_crowd_is_counted_and_a_room_is_known_across_every_crossing() {
    for seed in seeds(60) {
        for room_members_max in [2, 4, 6] {
            run(seed, Plan { shards: 2, clients: 12, rooms: 2, turns: 400, store_fails: false, room_members_max });
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in seeds(5) {
        let plan = Plan { shards: 3, clients: 8, rooms: 2, turns: 200, store_fails: true, room_members_max: 1000 };
        let first = run(seed, plan);
        assert!(!first.is_empty());
        assert!(first == run(seed, plan), "seed {seed} gave two different runs");
    }
}
