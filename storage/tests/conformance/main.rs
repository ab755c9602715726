//! The laws of `Store`, asked of every keeper; and the keepers compared with each other under random use.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../common/mod.rs"]
mod common;

/// Each law as a test of each keeper.
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
mod friends;
mod groups;
mod notifications;
mod random;
mod random_people;
mod records;
