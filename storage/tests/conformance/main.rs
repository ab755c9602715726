//! The laws of `Store`, tested on the stores of this crate; and a comparison of the stores with the model under random
//! use. A store in a crate of its own tests the same laws there, by including these files.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../common/mod.rs"]
mod common;

/// Makes each law a test of each store.
macro_rules! laws {
    ($($law:ident)*) => {
        mod memory {
            $(#[test] fn $law() { super::$law::<super::InMemory>() })*
        }
        mod embedded {
            $(#[test] fn $law() { super::$law::<super::OnDisk>() })*
        }
    };
}

mod accounts;
mod erasures;
mod friends;
mod groups;
mod notifications;
mod objects;
mod random;
mod random_people;
mod records;

use common::OnDisk;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_agrees_with_the_model(steps in prop::collection::vec(random::steps(), 1..40)) {
        random::agree_with_the_model::<OnDisk>(&steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("RANDOM_CASES").map_or(48, |cases| cases.parse().unwrap()), max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_agrees_with_the_model_about_people(steps in random_people::steps()) {
        random_people::agree_with_the_model::<OnDisk>(&steps);
    }
}
