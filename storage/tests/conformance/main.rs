//! The laws of `Store`, tested on every store; and a comparison of the stores with each other under random use.

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
        mod in_a_cluster {
            $(#[test] fn $law() { crate::common::cql::with_node(super::$law::<crate::common::cql::OnCql>) })*
        }
    };
}

mod accounts;
mod friends;
mod groups;
mod notifications;
mod random;
mod random_people;
mod records;
