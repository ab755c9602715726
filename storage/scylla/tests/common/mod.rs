//! Shared by the tests of this crate: the store under test, beside what the tests of `storage` share.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

pub mod cql;
pub mod gate;
#[path = "../../../tests/common/mod.rs"]
mod shared;

pub use shared::*;
