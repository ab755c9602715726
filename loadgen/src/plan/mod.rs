//! The complete plan of a run, fixed in advance: its rooms, which publisher sends what and when, which members come and
//! go. Pure.

pub mod actions;
pub mod content;
pub mod draws;
pub mod lives;
pub mod run_plan;
pub mod schedule;
