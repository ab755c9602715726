//! The laws of `Store`, and its comparison with the model under random use, on this store. The laws are written once,
//! in the tests of `storage`. They need a node, as `common/cql.rs` says.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../common/mod.rs"]
mod common;

/// Makes each law a test of this store.
macro_rules! laws {
    ($($law:ident)*) => {
        mod in_a_cluster {
            $(#[test] fn $law() { crate::common::cql::with_node(super::$law::<crate::common::cql::OnCql>) })*
        }
    };
}

#[path = "../../../tests/conformance/accounts.rs"]
mod accounts;
#[path = "../../../tests/conformance/erasures.rs"]
mod erasures;
#[path = "../../../tests/conformance/friends.rs"]
mod friends;
#[path = "../../../tests/conformance/groups.rs"]
mod groups;
#[path = "../../../tests/conformance/notifications.rs"]
mod notifications;
#[path = "../../../tests/conformance/objects.rs"]
mod objects;
#[path = "../../../tests/conformance/random.rs"]
mod random;
#[path = "../../../tests/conformance/random_people.rs"]
mod random_people;
#[path = "../../../tests/conformance/records.rs"]
mod records;

use common::cql::{OnCql, with_node};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn this_store_agrees_with_the_model(steps in prop::collection::vec(random::steps(), 1..30)) {
        with_node(|| random::agree_with_the_model::<OnCql>(&steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 10, ..ProptestConfig::default() })]

    #[test]
    fn this_store_agrees_with_the_model_about_people(steps in random_people::steps()) {
        with_node(|| random_people::agree_with_the_model::<OnCql>(&steps));
    }
}
