//! The fuzz targets without a fuzzer, for any compiler: each parser gets its seeds and many mutations of them, the same
//! ones in every run. This finds less than the fuzzer, but it always runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

#[path = "../fuzz/src/lib.rs"]
mod targets;

const MUTATIONS: u64 = 20_000;
/// Long enough for the longest message and the longest request head, and for inputs that exceed them.
const INPUT_BYTES_MAX: usize = 9_000;

#[test]
fn every_target_takes_every_mutation() {
    std::thread::scope(|scope| {
        for target in targets::TARGETS {
            scope.spawn(|| run(target));
        }
    });
}

fn run(target: &targets::Target) {
    let seeds = (target.seeds)();
    for seed in &seeds {
        check(target, seed);
    }
    for number in 0..MUTATIONS {
        check(target, &mutation(&seeds, number));
    }
}

fn check(target: &targets::Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        panic!("target {} fails with b\"{}\"", target.name, input.escape_ascii());
    }
}

/// A few changes to one of the seeds. `number` alone decides which.
fn mutation(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(number));
    let mut input = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        mutate(&mut input, &seeds[chance.below(seeds.len())], &mut chance);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn mutate(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    /// Bytes with a meaning in one of the formats, and bytes at the limits of ranges.
    const TELLING: &[u8] = b"\x00\x01\x08\x12\x7d\x7e\x7f\x80\x81\x88\x89\xfe\xff\"\\{}[],:.-0e \r\n?&=%";
    let (at, end) = (chance.below(input.len() + 1), chance.below(input.len() + 1));
    let range = at.min(end)..at.max(end);
    match chance.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(range)),
        2 => input.insert(at, TELLING[chance.below(TELLING.len())]),
        3 => input.extend_from_within(range),
        4 => drop(input.splice(range, other.iter().copied())),
        5 => drop(input.splice(at.., other[chance.below(other.len() + 1)..].iter().copied())),
        6 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = TELLING[chance.below(TELLING.len())];
            }
        }
    }
}

/// Repeatable random numbers.
struct Chance(ChaCha8Rng);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }
}
