//! The complete plan of a run, fixed in advance: its rooms, which publisher sends what and when, which members come and
//! go. Pure, but for the question how many ports this machine has.

pub mod actions;
pub mod draws;
pub mod lives;
pub mod run_plan;
pub mod schedule;
pub mod sources;
pub mod target;
pub mod timetable;

#[cfg(test)]
mod tests;
