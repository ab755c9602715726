//! Links under one seed: nodes that die, freeze and lag, and a bus that loses, repeats, delays, cuts and reorders. What
//! must hold is checked at every step (`world.rs`).

mod cases;
mod world;

use world::{Storm, World};

/// Steps of a storm, each followed by the same number of milliseconds of quiet.
const STEPS: usize = 3_000;

fn run(storm: Storm, seeds: std::ops::Range<u64>) {
    let mut seen = world::Seen::default();
    for seed in seeds {
        let mut world = World::new(storm, seed);
        world.storm(STEPS);
        world.quiet();
        // What has recovered can be shaken again.
        world.storm(STEPS / 3);
        world.quiet();
        seen.add(&world);
    }
    seen.assert_enough(storm);
}

#[test]
fn links_keep_their_promises_whatever_happens() {
    run(Storm::Everything, 0..60);
}

#[test]
fn nothing_is_lost_or_reset_while_the_store_has_room() {
    run(Storm::BusAlone, 100..130);
}

#[test]
fn the_same_seed_is_the_same_storm() {
    let trace = |seed| {
        let mut world = World::new(Storm::Everything, seed);
        world.storm(500);
        world.trace()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
